//! One node without processes: what a node's author tests with.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use remotemedia_core::Frame;
use remotemedia_core::frame::Metadata;
use remotemedia_core::joined::Joined;
use remotemedia_core::limits::LimitExceeded;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Loan, LoanError, Node, NodeError, NodeInfo, Output, Outputs};
use remotemedia_worker::{Harness, Registry};

use crate::convert::{from_python, to_python};
use crate::kept::Kept;
use crate::node;

/// A node that is called by hand, over heap memory that is lent and bounded like a worker's.
#[pyclass(frozen, module = "remotemedia._native")]
pub(crate) struct Trial(Mutex<Box<dyn Node>>);

/// What came of a call: data, metadata, presentation time in microseconds.
type Given = Vec<(Py<PyAny>, Metadata, Option<u64>)>;

/// Data given by a test is no output: it may be as large as it likes, in memory of its own.
struct Heap(Harness);

#[pymethods]
impl Trial {
    /// A node of the type that `info` tells of, with parameters as in a manifest, both as JSON.
    #[new]
    fn new(py: Python<'_>, info: &str, factory: Py<PyAny>, params: &str) -> PyResult<Self> {
        let info: NodeInfo = serde_json::from_str(info).map_err(|error| invalid(&error))?;
        let params: Params = serde_json::from_str(params).map_err(|error| invalid(&error))?;
        let name = info.name.clone();
        let registry = Registry::new()
            .register_made(info, Box::new(move |params, place| node::make(&factory, params, place)))
            .map_err(|error| invalid(&error))?;
        let made = py.detach(|| registry.create(&name, &params)).map_err(|error| invalid(&error))?;
        Ok(Self(Mutex::new(made)))
    }

    /// Hands frames of one sequence to the node, by port; one without a name has the empty one.
    #[pyo3(signature = (inputs, sequence, timestamp_us, metadata))]
    fn process(
        &self,
        py: Python<'_>,
        inputs: Vec<(String, Bound<'_, PyAny>)>,
        sequence: u64,
        timestamp_us: Option<u64>,
        metadata: Metadata,
    ) -> PyResult<Given> {
        let mut frames = Vec::with_capacity(inputs.len());
        for (port, data) in inputs {
            let data = from_python(&data, &mut Heap(Harness::default()))?;
            frames.push((port, Frame { sequence, timestamp_us, metadata: metadata.clone(), data }));
        }
        self.call(py, |node, out| match frames.pop() {
            Some((port, frame)) if port.is_empty() && frames.is_empty() => node.process(frame, out),
            Some(last) => {
                frames.push(last);
                node.process_joined(Joined::new(sequence, frames), out)
            }
            None => Ok(()),
        })
    }

    /// Tells the node that its input has ended.
    fn flush(&self, py: Python<'_>) -> PyResult<Given> {
        self.call(py, |node, out| node.flush(out))
    }
}

impl Trial {
    fn call(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut dyn Node, &mut dyn Outputs) -> Result<(), NodeError> + Send,
    ) -> PyResult<Given> {
        let outputs = py
            .detach(|| {
                let mut node = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                Harness::default().call(node.as_mut(), work)
            })
            .map_err(|error| node_error(&error))?;
        outputs.iter().map(|output| told(py, output)).collect()
    }
}

fn told(py: Python<'_>, output: &Output) -> PyResult<(Py<PyAny>, Metadata, Option<u64>)> {
    Ok((
        to_python(py, &output.data, &Kept::up_to(u64::MAX))?.unbind(),
        output.metadata.clone(),
        output.timestamp_us,
    ))
}

fn invalid(error: &dyn std::error::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// In the words of a session's error, with the node's traceback.
fn node_error(error: &NodeError) -> PyErr {
    PyValueError::new_err(format!("{error}\n{}", error.traceback()))
}

impl Outputs for Heap {
    fn loan(&mut self, bytes: usize) -> Result<Loan, LoanError> {
        Ok(self.0.loan(bytes))
    }

    fn emit(&mut self, _output: Output) -> Result<(), LimitExceeded> {
        Ok(())
    }
}
