//! A worker whose nodes are Python classes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use remotemedia_core::node::NodeInfo;
use remotemedia_worker::{Around, Engine, Loader, Refused, Registry, Settings, Stop, Unit};

use crate::node;

create_exception!(
    remotemedia._native,
    VersionError,
    PyRuntimeError,
    "Gateway and worker are of versions that do not understand each other."
);

/// A worker: run, once, on a thread of its own, while another loads its nodes.
#[pyclass(frozen, module = "remotemedia._native")]
pub(crate) struct Worker {
    engine: Mutex<Option<Engine>>,
    loader: Mutex<Option<Loader>>,
    stop: Arc<Stop>,
}

#[pymethods]
impl Worker {
    /// `drain` is in seconds; `step` says what is loaded first.
    #[new]
    #[pyo3(signature = (*, runtime_dir, name, threads, drain, step))]
    fn new(
        py: Python<'_>,
        runtime_dir: PathBuf,
        name: String,
        threads: usize,
        drain: f64,
        step: &str,
    ) -> PyResult<Self> {
        let drain = Duration::try_from_secs_f64(drain)
            .map_err(|error| PyValueError::new_err(format!("drain: {error}")))?;
        let (kind, unit) = ("python".to_owned(), Unit::of_this_process());
        let settings = Settings { runtime_dir, name, kind, threads, drain, unit };
        let stop = Arc::new(Stop::default());
        let around: Arc<Around> = Arc::new(known_to_interpreter);
        // If the system has too few threads, those that were started end within it: they need the lock for that.
        let (engine, loader) = py
            .detach(|| Engine::loading(settings, step, &around, Arc::clone(&stop)))
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { engine: Mutex::new(Some(engine)), loader: Mutex::new(Some(loader)), stop })
    }

    /// Tells what is loaded now.
    fn step(&self, step: &str) {
        if let Some(loader) = lock(&self.loader).as_ref() {
            loader.step(step);
        }
    }

    /// Tells which types there will be: what there is to know of each, as JSON.
    fn offer(&self, infos: Vec<String>) -> PyResult<()> {
        let infos = infos.iter().map(|info| parse(info)).collect::<PyResult<_>>()?;
        if let Some(loader) = lock(&self.loader).as_ref() {
            loader.offer(infos);
        }
        Ok(())
    }

    /// All is loaded. `nodes` are pairs: what there is to know of a type, as JSON, and the factory of its nodes.
    fn ready(&self, nodes: Vec<(String, Py<PyAny>)>) -> PyResult<()> {
        let mut registry = Registry::new();
        for (info, factory) in nodes {
            registry = registry
                .register_made(
                    parse(&info)?,
                    Box::new(move |params, place| node::make(&factory, params, place)),
                )
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        let Some(loader) = lock(&self.loader).take() else {
            return Err(PyRuntimeError::new_err("a worker is ready once"));
        };
        loader.ready(registry);
        Ok(())
    }

    /// Serves one gateway after the other until [`Self::stop`].
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let engine = lock(&self.engine).take();
        let Some(engine) = engine else { return Err(PyRuntimeError::new_err("a worker runs once")) };
        // Its node threads end within it too.
        let ran = py.detach(move || engine.run());
        ran.map_err(|refused| {
            let said = refused.to_string();
            match refused {
                Refused::ByGateway { .. } => PyRuntimeError::new_err(said),
                Refused::OfVersion { .. } => VersionError::new_err(said),
                Refused::OfDescriptors { .. } => PyOSError::new_err(said),
            }
        })
    }

    /// Asks it to stop when its sessions are over; asked again, at once.
    fn stop(&self) {
        self.stop.ask();
    }

    /// Whether it was asked to stop.
    fn is_stopping(&self) -> bool {
        self.stop.is_asked()
    }
}

impl Drop for Worker {
    /// One that was never run has threads too.
    fn drop(&mut self) {
        let engine = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // At its exit the interpreter takes nobody in any more, and its threads end with the process.
        let _ended = Python::try_attach(|py| py.detach(move || drop(engine)));
    }
}

/// Keeps what the interpreter remembers of a thread as long as the thread works. It would be made anew for every call of
/// a node otherwise, with memory from the system, which costs more than all the rest of a short call.
fn known_to_interpreter(work: &mut (dyn FnMut() + Send)) {
    Python::attach(|py| py.detach(work));
}

fn parse(info: &str) -> PyResult<NodeInfo> {
    serde_json::from_str(info).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has this process end with `parent`, which has started it.
#[pyfunction]
pub(crate) fn end_with(parent: i32) -> PyResult<()> {
    remotemedia_worker::end_with(parent).map_err(|error| PyOSError::new_err(error.to_string()))
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
