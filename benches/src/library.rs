//! The runtime as a library: this process stands where the gateway would, with workers as its children.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{
    Caller, ExecutionMetrics, PipelineTransport as _, StreamRequest, StreamSession as _,
};
use remotemedia_runtime::{
    PipelineRunner, RunningSession, Runtime, RuntimeConfig, RuntimeStatus, WorkerState,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{BenchError, while_doing};
use crate::program::Program;

/// A runtime in this process, and workers.
pub(crate) struct Library {
    runtime: Runtime,
    workers: Vec<Child>,
    // After the workers: it goes when nobody uses it any more.
    _dir: TempDir,
}

/// The id of the node of [`single`].
pub(crate) const NODE: &str = "node";

/// Longest that workers may take to join, or to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

// === impl Library ===

impl Library {
    /// With a worker of each of these programs, which take `--runtime-dir` and `--name`.
    pub(crate) async fn start(programs: &[Program]) -> Result<Self, BenchError> {
        let dir = tempfile::Builder::new()
            .prefix("remotemedia-bench-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm")
            .map_err(while_doing("make a directory on tmpfs"))?;
        let runtime = Runtime::start(RuntimeConfig::new(dir.path().to_owned()))?;
        let mut workers = Vec::with_capacity(programs.len());
        for (program, number) in programs.iter().zip(1_u32..) {
            let mut command = Command::from(program.command());
            command.arg("--runtime-dir").arg(dir.path()).args(["--name", &format!("library-{number}")]);
            let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn();
            workers.push(child.map_err(while_doing("start a worker"))?);
        }
        let library = Self { runtime, workers, _dir: dir };
        let joined = timeout(PATIENCE, library.until_joined()).await;
        joined.map_err(|_elapsed| BenchError::Silent { waited: PATIENCE })?;
        Ok(library)
    }

    pub(crate) fn runner(&self) -> PipelineRunner {
        self.runtime.runner()
    }

    /// A session of this pipeline.
    pub(crate) async fn open(&self, manifest: &Value) -> Result<RunningSession, BenchError> {
        let manifest = Arc::new(Manifest::from_json(&manifest.to_string())?);
        Ok(self
            .runner()
            .stream(StreamRequest {
                manifest,
                limits: LimitRequest::default(),
                listener: None,
                caller: Caller::default(),
            })
            .await?)
    }

    /// The process ids of the workers, in the order of their programs; none of those that were reaped.
    pub(crate) fn pids(&self) -> Vec<Option<u32>> {
        self.workers.iter().map(Child::id).collect()
    }

    /// What is going on.
    pub(crate) async fn status(&self) -> RuntimeStatus {
        self.runtime.status().await.unwrap_or_default()
    }

    /// Ends the runtime, and then the workers, which would wait for the next one.
    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        let Self { runtime, workers, _dir } = self;
        runtime.shutdown(PATIENCE).await;
        for mut worker in workers {
            if let Some(pid) = worker.id().and_then(|pid| i32::try_from(pid).ok()) {
                // It is gone already, or it is asked here.
                let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let ended = timeout(PATIENCE, worker.wait()).await;
            let ended = ended.map_err(|_elapsed| BenchError::Silent { waited: PATIENCE })?;
            ended.map_err(while_doing("reap a worker"))?;
        }
        Ok(())
    }

    async fn loaded(&self) -> usize {
        let workers = self.status().await.workers;
        workers.iter().filter(|worker| worker.state == WorkerState::Ready).count()
    }

    async fn until_joined(&self) {
        while self.loaded().await < self.workers.len() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A pipeline of one node.
pub(crate) fn single(node_type: &str) -> Value {
    json!({ "version": "v1", "nodes": [{ "id": NODE, "node_type": node_type }] })
}

/// Ends a session, and says what was measured in it.
pub(crate) async fn ended(session: &RunningSession) -> Result<ExecutionMetrics, BenchError> {
    session.close().await?;
    while session.receive().await?.is_some() {}
    Ok(session.metrics())
}
