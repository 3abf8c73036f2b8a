//! Runs an input that killed workers once more, in the foreground: the pipeline as far as the node that died, on a private
//! gateway and one worker that has this terminal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_core::fault::{DeathCause, Fault};
use remotemedia_core::frame::Frame;
use remotemedia_core::graph::Graph;
use remotemedia_core::limits::{LimitRequest, Limits};
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{Caller, ExecuteRequest, Execution, PipelineTransport as _};
use remotemedia_ipc::capture::{Capture, CaptureError};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::admin::{AdminDoor, Serving};
use crate::args::ReplayArgs;
use crate::config::Programs;
use crate::error::CommandError;
use crate::launch::{Home, Purpose, RuntimeDir};
use crate::transport::GrpcTransport;

/// No input was run once more.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file is of no use.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The node is not in the captured pipeline, which is a mistake of the service that wrote it.
    #[error("the capture blames node '{node}', which its pipeline does not have")]
    NoNode {
        /// As captured.
        node: String,
    },
    /// The node runs in a worker that only its author knows how to start.
    #[error(
        "node '{node}' ran in a {kind} worker: say how it is started, as in `remotemedia replay {path} -- python -m remotemedia.worker MODULE`"
    )]
    NoWorker {
        /// The node.
        node: String,
        /// The kind of its worker.
        kind: String,
        /// The capture.
        path: String,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The private gateway did not say that it serves.
    #[error("the private gateway does not serve: its standard error says why")]
    NoGateway,
    /// The worker ended before it ran anything.
    #[error("the worker ended before it was ready: it {how}")]
    NotReady {
        /// How it ended, in words.
        how: String,
    },
    /// It died again.
    #[error("node '{node}' has killed its worker once more: it {how}")]
    Died {
        /// The node.
        node: String,
        /// How it ended, in words.
        how: String,
    },
}

/// A gateway of our own, and where its files are.
struct PrivateGateway {
    serving: Serving,
    // Killed when dropped, and before the directory goes.
    process: Child,
    dir: RuntimeDir,
}

/// How long the gateway may take to serve, and the worker to end when its work is done.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);
/// How often it is asked whether the worker has joined.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Runs the captured input once more.
///
/// # Errors
/// It killed its worker again, or could not be run.
pub async fn replay(args: ReplayArgs, home: &Home, programs: &Programs) -> Result<(), CommandError> {
    let capture = Capture::read(&args.capture).map_err(ReplayError::from)?;
    tell(&capture);
    if args.show {
        return Ok(());
    }
    let command = worker_command(&args, &capture, programs)?;
    let manifest = pipeline_to(&capture)?;
    // Who debugs presses Ctrl-C, and means the worker.
    let _deaf = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    let gateway = PrivateGateway::start(home, programs, args.timeout_s).await?;
    let mut worker = start_worker(&command, &gateway)?;
    let outcome = watch(manifest, &capture, &gateway, &mut worker, args.timeout_s).await;
    stop(&mut worker).await;
    gateway.stop().await;
    let execution = outcome?;
    for (node, frames) in &execution.outputs {
        for Frame { data, .. } in frames {
            crate::say(&format!("node '{node}' gave {}, {} bytes", data.kind(), data.payload().len()));
        }
    }
    crate::say(&format!("node '{}' lives: this input does not kill it here", capture.head.poison.node));
    Ok(())
}

fn tell(capture: &Capture) {
    let poison = &capture.head.poison;
    crate::say(&format!(
        "node '{}' has killed {} workers with this input; the last, '{}', {}",
        poison.node, poison.deaths, poison.worker, poison.cause
    ));
    for input in &capture.inputs {
        let port = if input.port.is_empty() { String::new() } else { format!(".{}", input.port) };
        let data = &input.frame.data;
        let (entry, kind, bytes) = (&input.entry, data.kind(), data.payload().len());
        crate::say(&format!("  {entry}{port} gets {kind}, {bytes} bytes"));
    }
}

/// The program that is to run the node, with all its arguments but those that we add.
fn worker_command(
    args: &ReplayArgs,
    capture: &Capture,
    programs: &Programs,
) -> Result<Vec<OsString>, ReplayError> {
    let under = args.under.iter().flat_map(|words| words.split_whitespace()).map(OsString::from);
    let kind = &capture.head.worker_kind;
    if args.worker.is_empty() && kind != STOCK {
        let (node, kind) = (capture.head.poison.node.clone(), kind.clone());
        return Err(ReplayError::NoWorker { node, kind, path: args.capture.display().to_string() });
    }
    let worker = if args.worker.is_empty() {
        vec![programs.worker.clone().into_os_string(), "--threads".into(), "1".into()]
    } else {
        args.worker.clone()
    };
    Ok(under.chain(worker).collect())
}

/// The kind of workers that this program knows how to start.
const STOCK: &str = "rust";

/// The captured pipeline without what does not lead to the node.
fn pipeline_to(capture: &Capture) -> Result<Manifest, CommandError> {
    let manifest = &capture.head.manifest;
    let graph = Graph::check(manifest, &Limits::default()).map_err(Fault::from)?;
    let node = &capture.head.poison.node;
    let index = graph.indices().find(|index| graph.node(*index).id == *node);
    let index = index.ok_or_else(|| ReplayError::NoNode { node: node.clone() })?;
    let upstream: Vec<&str> =
        graph.upstream(index).into_iter().map(|index| graph.node(index).id.as_str()).collect();
    let is_kept = |id: &str| {
        upstream
            .iter()
            .any(|kept| id == *kept || id.strip_prefix(kept).is_some_and(|port| port.starts_with('.')))
    };
    let mut cut = manifest.clone();
    cut.nodes.retain(|node| upstream.contains(&node.id.as_str()));
    cut.connections.retain(|connection| is_kept(&connection.from) && is_kept(&connection.to));
    cut.nodes.iter_mut().for_each(|node| node.own_process = false);
    Ok(cut)
}

fn start_worker(command: &[OsString], gateway: &PrivateGateway) -> Result<Child, ReplayError> {
    let [program, arguments @ ..] = command else { return Err(ReplayError::NoGateway) };
    let mut worker = Command::new(program);
    worker.args(arguments).arg("--runtime-dir").arg(gateway.dir.path()).args(["--name", "replay"]);
    let started = worker.kill_on_drop(true).spawn();
    started.map_err(|source| ReplayError::Start { program: program.to_string_lossy().into_owned(), source })
}

/// Runs it, and waits for how the worker ends if it does not live through it.
async fn watch(
    manifest: Manifest,
    capture: &Capture,
    gateway: &PrivateGateway,
    worker: &mut Child,
    timeout_s: u32,
) -> Result<Execution, CommandError> {
    tokio::select! {
        joined = gateway.until_joined() => joined?,
        ended = worker.wait() => return Err(ReplayError::NotReady { how: in_words(ended) }.into()),
    }
    let outcome = tokio::select! {
        biased;
        outcome = run(manifest, capture, gateway, timeout_s) => outcome,
        // The gateway hears of it too, a little later, and in fewer words.
        ended = worker.wait() => return Err(died_of(capture, ended)),
    };
    match outcome {
        Err(CommandError::Fault(Fault::Worker(_))) => Err(died_of(capture, worker.wait().await)),
        outcome => outcome,
    }
}

async fn run(
    manifest: Manifest,
    capture: &Capture,
    gateway: &PrivateGateway,
    timeout_s: u32,
) -> Result<Execution, CommandError> {
    let inputs = capture.inputs.iter().map(|input| {
        let name = if input.port.is_empty() {
            input.entry.clone()
        } else {
            format!("{}.{}", input.entry, input.port)
        };
        (name, input.frame.clone())
    });
    let limits = LimitRequest {
        timeout_ms: Some(u64::from(timeout_s) * 1_000),
        memory_bytes: Some(Limits::default().max_memory_bytes),
        replays: Some(0),
        ..LimitRequest::default()
    };
    let request = ExecuteRequest {
        manifest: Arc::new(manifest),
        inputs: inputs.collect::<BTreeMap<_, _>>(),
        limits,
        caller: Caller { private: true, connection: None },
    };
    let (transport, _version) = GrpcTransport::connect(&gateway.serving.grpc, None).await?;
    Ok(transport.execute(request).await?)
}

fn died_of(capture: &Capture, ended: std::io::Result<ExitStatus>) -> CommandError {
    ReplayError::Died { node: capture.head.poison.node.clone(), how: in_words(ended) }.into()
}

fn in_words(ended: std::io::Result<ExitStatus>) -> String {
    let cause = match ended.map(|status| (status.signal(), status.code())) {
        Ok((Some(signal), _)) => DeathCause::Signal(signal),
        Ok((None, Some(code))) => DeathCause::Exit(code),
        Ok((None, None)) | Err(_) => DeathCause::Unknown,
    };
    cause.to_string()
}

/// Asks it to stop, and kills it if it does not.
async fn stop(process: &mut Child) {
    let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile: it is not reaped, so the number is still its own.
        kill(pid, Signal::SIGTERM).unwrap_or_default();
    }
    if timeout(STOP, process.wait()).await.is_err() {
        process.kill().await.unwrap_or_default();
    }
}

// === impl PrivateGateway ===

impl PrivateGateway {
    async fn start(home: &Home, programs: &Programs, timeout_s: u32) -> Result<Self, CommandError> {
        let dir = home.private_dir(Purpose::Run)?;
        let settings: PathBuf = dir.path().join("replay.toml");
        let ms = u64::from(timeout_s) * 1_000;
        let text = format!(
            "captures = 'off'\n[limits]\nmax_replays = 0\npoison_ms = 0\nmax_timeout_ms = {ms}\n\
             open_timeout_ms = {ms}\nhang_grace_ms = {ms}\n"
        );
        let program = programs.gateway.display().to_string();
        let failed = |source| ReplayError::Start { program: program.clone(), source };
        std::fs::write(&settings, text).map_err(failed)?;
        let mut command = Command::new(&programs.gateway);
        command.args(["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "error", "--config"]);
        command.arg(&settings).arg("--runtime-dir").arg(dir.path());
        // Apart from the terminal, whose Ctrl-C is for the worker.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().map_err(failed)?;
        let stdout = process.stdout.take().ok_or(ReplayError::NoGateway)?;
        let first = timeout(START, BufReader::new(stdout).lines().next_line()).await;
        let line = first.ok().and_then(Result::ok).flatten().ok_or(ReplayError::NoGateway)?;
        let serving = serde_json::from_str(&line).map_err(|_| ReplayError::NoGateway)?;
        Ok(Self { serving, process, dir })
    }

    async fn until_joined(&self) -> Result<(), CommandError> {
        let door = AdminDoor::at(&self.serving.admin);
        while !door.status().await?.workers.iter().any(|worker| worker.state == "ready") {
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    async fn stop(mut self) {
        stop(&mut self.process).await;
    }
}
