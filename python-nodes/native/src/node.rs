//! A node that is a Python object, as the engine sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator};
use pyo3::{PyTraverseError, intern};
use remotemedia_core::Frame;
use remotemedia_core::frame::Metadata;
use remotemedia_core::joined::Joined;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, Output, Outputs};
use remotemedia_worker::registry::{MakeError, Place};

use crate::block::Lent;
use crate::convert::{from_python, to_python};
use crate::kept::Kept;
use crate::lender::Lender;
use crate::raised::{loan_error, raised};

/// Makes nodes of one Python class: `factory(params, session, node_id, context)` gives the object with the methods
/// that are called here.
pub(crate) fn make(
    factory: &Py<PyAny>,
    params: &Params,
    place: &Place<'_>,
) -> Result<Box<dyn Node>, MakeError> {
    Python::attach(|py| {
        let made = || -> PyResult<PythonNode> {
            let text = serde_json::Value::Object(params.clone()).to_string();
            let params = py.import("json")?.call_method1("loads", (text,))?;
            let lender = Arc::new(Lender::default());
            let context = Bound::new(py, Context { lender: Arc::clone(&lender) })?;
            let object = factory.bind(py).call1((params, place.session.to_string(), place.node, &context))?;
            Ok(PythonNode {
                object: object.unbind(),
                lender,
                more: None,
                kept: Kept::up_to(place.memory_bytes),
            })
        };
        let node = made().map_err(|error| MakeError::Node(raised(py, &error)))?;
        Ok(Box::new(node) as Box<dyn Node>)
    })
}

struct PythonNode {
    /// What the factory made.
    object: Py<PyAny>,
    lender: Arc<Lender>,
    /// Outputs of the last call that have not been asked for.
    more: Option<More>,
    kept: Arc<Kept>,
}

/// An iterator of outputs, and what the call was given.
struct More {
    outputs: Py<PyIterator>,
    given: Vec<Given>,
}

/// An input of a call. What only passes through is told by identity.
struct Given {
    data: Py<PyAny>,
    frame: Frame,
}

/// What a node's object is given to ask for memory.
#[pyclass(frozen, module = "remotemedia._native")]
pub(crate) struct Context {
    lender: Arc<Lender>,
}

// === impl Context ===

#[pymethods]
impl Context {
    /// Memory of this many bytes, in the shared pool.
    fn loan(&self, py: Python<'_>, bytes: usize) -> PyResult<Lent> {
        // Waits until a block comes free: others may run meanwhile.
        match py.detach(|| self.lender.loan(bytes)) {
            Some(Ok(loan)) => Ok(Lent::new(loan)),
            Some(Err(error)) => Err(loan_error(py, &error)),
            None => Err(PyRuntimeError::new_err(
                "memory is lent while the node works on an input: call loan from process or flush",
            )),
        }
    }

    /// Says that the node is at work on its input.
    fn working(&self) -> PyResult<()> {
        if self.lender.working() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "there is no input that the node works on: call working from process or flush",
        ))
    }

    fn __traverse__(&self, _visit: pyo3::PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}

// === impl PythonNode ===

impl Node for PythonNode {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        self.work(vec![(String::new(), input)], out)
    }

    fn process_joined(&mut self, inputs: Joined, out: &mut dyn Outputs) -> Result<(), NodeError> {
        self.work(inputs.into_named().collect(), out)
    }

    fn has_more(&self) -> bool {
        self.more.is_some()
    }

    fn resume(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        Python::attach(|py| self.emit_next(py, out).map_err(|error| raised(py, &error)))
    }

    fn flush(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        Python::attach(|py| {
            let object = self.object.bind(py);
            let flushed = self.lender.during(out, || object.call_method0(intern!(py, "flush")));
            let emitted = flushed.and_then(|result| self.emit_first(&result, Vec::new(), out));
            emitted.map_err(|error| raised(py, &error))
        })
    }
}

impl Drop for PythonNode {
    fn drop(&mut self) {
        // At its exit the interpreter takes nobody in any more, and nothing is called.
        let _called = Python::try_attach(|py| {
            if let Err(error) = self.object.bind(py).call_method0(intern!(py, "close")) {
                // Nobody waits for an answer: as an exception in a finaliser, it is told on standard error.
                error.write_unraisable(py, Some(self.object.bind(py)));
            }
            // Here, for what is dropped elsewhere waits for the interpreter's next call, with all frames that it holds.
            self.more = None;
            self.object = py.None();
        });
    }
}

impl PythonNode {
    fn work(&mut self, inputs: Vec<(String, Frame)>, out: &mut dyn Outputs) -> Result<(), NodeError> {
        self.kept.check()?;
        Python::attach(|py| self.call(py, inputs, out).map_err(|error| raised(py, &error)))
    }

    fn call(&mut self, py: Python<'_>, inputs: Vec<(String, Frame)>, out: &mut dyn Outputs) -> PyResult<()> {
        let mut given = Vec::with_capacity(inputs.len());
        let arguments = PyDict::new(py);
        for (port, frame) in inputs {
            let data = to_python(py, &frame.data, &self.kept)?;
            arguments.set_item(&port, &data)?;
            given.push(Given { data: data.unbind(), frame });
        }
        let first = given.first().map(|given| &given.frame);
        let sequence = first.map_or(0, |frame| frame.sequence);
        let timestamp_us = first.and_then(|frame| frame.timestamp_us);
        let metadata = first.map(|frame| frame.metadata.clone()).unwrap_or_default();
        let object = self.object.bind(py);
        let result = self.lender.during(out, || {
            object.call_method1(intern!(py, "process"), (arguments, sequence, timestamp_us, metadata))
        })?;
        self.emit_first(&result, given, out)
    }

    /// Nothing, one output, or the first of an iterator of outputs: each is asked for when the one before has gone on.
    fn emit_first(
        &mut self,
        result: &Bound<'_, PyAny>,
        given: Vec<Given>,
        out: &mut dyn Outputs,
    ) -> PyResult<()> {
        if result.is_none() {
            return Ok(());
        }
        let Ok(outputs) = result.cast::<PyIterator>() else { return emit(result, &given, out) };
        self.more = Some(More { outputs: outputs.clone().unbind(), given });
        self.emit_next(result.py(), out)
    }

    fn emit_next(&mut self, py: Python<'_>, out: &mut dyn Outputs) -> PyResult<()> {
        // Taken: what raises has no more.
        let Some(More { outputs, given }) = self.more.take() else { return Ok(()) };
        let mut iterator = outputs.bind(py).clone();
        if let Some(output) = self.lender.during(out, || iterator.next()) {
            emit(&output?, &given, out)?;
            self.more = Some(More { outputs, given });
        }
        Ok(())
    }
}

/// Sends one output: data, or an `Output` of the SDK, which says more about it.
fn emit(value: &Bound<'_, PyAny>, given: &[Given], out: &mut dyn Outputs) -> PyResult<()> {
    let py = value.py();
    let inherited = || given.first().map(|given| given.frame.metadata.clone()).unwrap_or_default();
    let (value, metadata, timestamp_us): (Bound<'_, PyAny>, Metadata, Option<u64>) =
        match value.getattr_opt(intern!(py, "_is_output"))? {
            Some(_) => {
                let metadata: Option<BTreeMap<String, String>> =
                    value.getattr(intern!(py, "metadata"))?.extract()?;
                let timestamp_us = value.getattr(intern!(py, "timestamp_us"))?.extract()?;
                (value.getattr(intern!(py, "data"))?, metadata.unwrap_or_else(inherited), timestamp_us)
            }
            None => (value.clone(), inherited(), None),
        };
    let same = given.iter().find(|given| given.data.is(&value));
    let data = match same {
        Some(given) => given.frame.data.clone(),
        None => from_python(&value, out)?,
    };
    out.emit(Output { data, metadata, timestamp_us })
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
