//! The runtime as a library: this process stands where the gateway would, with workers as its children.

use std::env;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_runtime::{PipelineRunner, Runtime, RuntimeConfig};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{BenchError, while_doing};
use crate::service::WORKERS;

/// A runtime in this process, and as many workers as a service has.
pub(crate) struct Library {
    runtime: Runtime,
    workers: Vec<Child>,
    // After the workers: it goes when nobody uses it any more.
    _dir: TempDir,
}

/// Longest that workers may take to join, or to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

// === impl Library ===

impl Library {
    pub(crate) async fn start() -> Result<Self, BenchError> {
        let own = env::current_exe().map_err(while_doing("find this program"))?;
        let worker = own.with_file_name("remotemedia-worker");
        if !worker.exists() {
            return Err(BenchError::NotBuilt { path: worker });
        }
        let dir = tempfile::Builder::new()
            .prefix("remotemedia-bench-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm")
            .map_err(while_doing("make a directory on tmpfs"))?;
        let runtime = Runtime::start(RuntimeConfig::new(dir.path().to_owned()))?;
        let mut workers = Vec::with_capacity(WORKERS);
        for number in 1..=WORKERS {
            let mut command = Command::new(&worker);
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

    async fn until_joined(&self) {
        while self.runtime.status().await.map_or(0, |status| status.workers.len()) < self.workers.len() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
