//! A worker whose nodes are Python classes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use remotemedia_core::node::NodeInfo;
use remotemedia_worker::{Engine, Registry, Settings, Stop};

use crate::node;

/// A worker: made of its node types, then run, once.
#[pyclass(frozen, module = "remotemedia._native")]
pub(crate) struct Worker {
    engine: Mutex<Option<Engine>>,
    stop: Arc<Stop>,
}

#[pymethods]
impl Worker {
    /// `nodes` are pairs: what there is to know of a type, as JSON, and the factory of its nodes.
    #[new]
    #[pyo3(signature = (*, runtime_dir, name, threads, nodes))]
    fn new(
        runtime_dir: PathBuf,
        name: String,
        threads: usize,
        nodes: Vec<(String, Py<PyAny>)>,
    ) -> PyResult<Self> {
        let mut registry = Registry::new();
        for (info, factory) in nodes {
            let info: NodeInfo =
                serde_json::from_str(&info).map_err(|error| PyValueError::new_err(error.to_string()))?;
            registry = registry
                .register_made(info, Box::new(move |params, place| node::make(&factory, params, place)))
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        let settings = Settings { runtime_dir, name, kind: "python".to_owned(), threads };
        let stop = Arc::new(Stop::default());
        let engine = Engine::start(settings, registry, Arc::clone(&stop))
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { engine: Mutex::new(Some(engine)), stop })
    }

    /// Serves one gateway after the other until [`Self::stop`].
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(engine) = engine else { return Err(PyRuntimeError::new_err("a worker runs once")) };
        py.detach(|| engine.run()).map_err(|refused| PyRuntimeError::new_err(refused.to_string()))
    }

    /// Asks it to stop.
    fn stop(&self) {
        self.stop.ask();
    }

    /// Whether it was asked to stop.
    fn is_stopping(&self) -> bool {
        self.stop.is_asked()
    }
}

/// Where the gateway is if nobody says; `of_user` is the user's directory for such things.
#[pyfunction]
pub(crate) fn default_runtime_dir(of_user: Option<PathBuf>) -> PathBuf {
    remotemedia_worker::default_runtime_dir(of_user.as_deref())
}

/// Logs to standard error from here on: `filter` is a level, or `target=level` directives.
#[pyfunction]
pub(crate) fn log_to_stderr(filter: &str, json: bool) -> PyResult<()> {
    remotemedia_worker::log_to_stderr(filter, json).map_err(|error| PyValueError::new_err(error.to_string()))
}
