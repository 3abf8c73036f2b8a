//! A whole service, as its users start it: gateway and workers, from the binaries beside this program.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{BenchError, while_doing};
use crate::program::Program;

/// `remotemedia up` with a gateway and two workers in a private runtime directory.
pub(crate) struct Service {
    up: Child,
    endpoint: String,
}

/// Longest that it may take to be ready, or to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of the service, and of a library that is compared with it.
pub(crate) const WORKERS: usize = 2;

/// What `up` says when it serves.
#[derive(Deserialize)]
struct Ready {
    grpc: String,
}

// === impl Service ===

impl Service {
    /// `grpc` is where it is to serve.
    pub(crate) async fn start(grpc: &str) -> Result<Self, BenchError> {
        // What it starts itself.
        for program in ["remotemedia-gateway", "remotemedia-worker"] {
            Program::beside_this(program)?;
        }
        let mut up = Command::from(Program::beside_this("remotemedia")?.command())
            .args(["up", "--grpc", grpc, "--admin", "127.0.0.1:0", "--workers", &WORKERS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(while_doing("start the service"))?;
        let output = up.stdout.take().expect("its output was asked to be piped");
        let mut lines = BufReader::new(output).lines();
        let line = timeout(PATIENCE, lines.next_line())
            .await
            .map_err(|_elapsed| BenchError::Silent { waited: PATIENCE })?
            .map_err(while_doing("hear the service"))?
            .unwrap_or_default();
        match serde_json::from_str::<Ready>(&line) {
            Ok(ready) => Ok(Self { up, endpoint: ready.grpc }),
            Err(_) => Err(BenchError::NotReady { line }),
        }
    }

    /// Where it serves gRPC.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Ends it, and with it all its processes.
    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        if let Some(pid) = self.up.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It is gone already, or it is asked here.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let ended = timeout(PATIENCE, self.up.wait())
            .await
            .map_err(|_elapsed| BenchError::Silent { waited: PATIENCE })?
            .map_err(while_doing("reap the service"))?;
        if ended.success() { Ok(()) } else { Err(BenchError::EndedBadly { ended }) }
    }
}
