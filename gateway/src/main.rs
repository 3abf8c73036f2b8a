//! The gateway as a process: settings, sockets, the runtime, the doors; and all of it put away again.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use clap::error::ErrorKind;
use nix::sys::stat::{Mode, umask};
use remotemedia_gateway::{
    Admin, Arguments, BindError, Config, ConfigError, Guard, Inherited, InheritedError, Life, Listener,
    LogFormat, Metrics, MetricsError, Phase, RuntimeDir, RuntimeDirError, Server, Serving, TokenFile,
    TokenFileError, Unit,
};
use remotemedia_runtime::{CaptureConfig, Runtime, RuntimeConfig, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let code = if asked { Exit::Done } else { Exit::Usage };
            // Where the answer cannot be written, there is nobody to tell.
            let _closed = error.print();
            return code.into();
        }
    };
    // Files and sockets of this process are for its user alone.
    umask(Mode::from_bits_truncate(0o077));
    match start(&arguments) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            let _closed = writeln!(std::io::stderr(), "remotemedia-gateway: {failure}");
            failure.exit().into()
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    // Before there is another thread.
    let inherited = Inherited::take()?;
    let config = Config::of(arguments, &inherited)?;
    log_to_stderr(config.log_format, &arguments.log)?;
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build();
    let executor = executor.map_err(Failure::Executor)?;
    let served = executor.block_on(serve(config, inherited));
    // What may still block a thread has had its deadlines.
    executor.shutdown_timeout(Life::LAST_WORDS);
    served
}

/// Half as many as there are processors: the nodes need the others. Each event that wakes one thread has it wake a second,
/// and where there are as many as processors, a wake-up costs what it displaces: on two processors, two threads served
/// a hundred clients a fifth to a third fewer calls than one.
fn threads() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

async fn serve(config: Config, inherited: Inherited) -> Result<(), Failure> {
    let began = Instant::now();
    // Before anything that an order to stop has to put away.
    let mut orders = Orders::listen().map_err(Failure::Signals)?;
    let tokens = config.token_file.as_deref().map(TokenFile::read).transpose()?;
    let dir = RuntimeDir::take(&config.runtime_dir)?;
    let keeps_clients = inherited.grpc().is_some();
    let [bound_grpc, bound_admin] = inherited.into_doors();
    let grpc = Listener::open(bound_grpc, &config.grpc).await?;
    let admin = Listener::open(bound_admin, &config.admin).await?;
    let runtime = Arc::new(Runtime::start(runtime_config(&config, &dir, keeps_clients))?);
    let (life, metrics) = (Life::new(), Metrics::new()?);
    let serving = Serving {
        event: "serving".to_owned(),
        grpc: grpc.address().to_string(),
        admin: admin.address().to_string(),
        pid: std::process::id(),
        drain_ms: u64::try_from(config.drain.as_millis()).unwrap_or(u64::MAX),
    };

    let mut admin_door = JoinSet::new();
    let teller = Admin {
        backend: Arc::clone(&runtime),
        metrics: metrics.clone(),
        guard: Guard::of(tokens.as_ref()),
        life: life.watch(),
        grpc: grpc.address().clone(),
        began,
    };
    admin_door.spawn(teller.serve(admin));
    let mut grpc_door = JoinSet::new();
    let server = Server {
        backend: Arc::clone(&runtime),
        limits: config.limits,
        files: config.files,
        metrics,
        life: life.watch(),
        tokens,
    };
    if !grpc.address().is_local() {
        warn!(address = %grpc.address(), "plaintext_on_the_network");
    }
    grpc_door.spawn(server.serve(grpc));

    announce(&dir, &serving)?;
    let unit = Unit::of_this_process();
    unit.ready(&format!("serves {}, admin at {}", serving.grpc, serving.admin));
    tokio::select! {
        () = unit.beat(&runtime) => {}
        signal = orders.next() => info!(signal, "stopping"),
        _ended = grpc_door.join_next() => return Err(Failure::Door("gRPC")),
        _ended = admin_door.join_next() => return Err(Failure::Door("admin")),
    }
    unit.stopping("finishes the calls that run");
    stop(&life, config.drain, &mut orders, &mut grpc_door, &mut admin_door).await;
    // A task of a connection that was cut may hold the runtime for a moment more, and then ends it.
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shutdown(Life::LAST_WORDS).await;
    }
    info!("stopped");
    Ok(())
}

fn announce(dir: &RuntimeDir, serving: &Serving) -> Result<(), Failure> {
    dir.announce(serving)?;
    let Serving { grpc, admin, .. } = serving;
    info!(grpc, admin, runtime_dir = %dir.path().display(), "serving");
    let line = serde_json::to_string(serving).map_err(Failure::Line)?;
    // Nobody has to listen: gateway.json says the same.
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        warn!(%error, "stdout_closed");
    }
    Ok(())
}

/// Lets calls finish, then tells those that do not, then cuts them.
async fn stop(
    life: &Life,
    drain: Duration,
    orders: &mut Orders,
    grpc_door: &mut JoinSet<()>,
    admin_door: &mut JoinSet<()>,
) {
    life.enter(Phase::Draining);
    tokio::select! {
        _ended = grpc_door.join_next() => {}
        () = tokio::time::sleep(drain) => warn!(drain_ms = drain.as_millis(), "calls_did_not_finish"),
        signal = orders.next() => warn!(signal, "drain_cut_short"),
    }
    life.enter(Phase::Ending);
    let ended = async {
        while grpc_door.join_next().await.is_some() {}
        while admin_door.join_next().await.is_some() {}
    };
    if tokio::time::timeout(Life::LAST_WORDS, ended).await.is_err() {
        life.enter(Phase::Over);
        grpc_door.shutdown().await;
        admin_door.shutdown().await;
    }
}

fn runtime_config(config: &Config, dir: &RuntimeDir, is_successor: bool) -> RuntimeConfig {
    let default = RuntimeConfig::new(dir.path().to_owned());
    RuntimeConfig {
        limits: config.limits.clone(),
        gateway_pool_bytes: config.pools.gateway_bytes.unwrap_or(default.gateway_pool_bytes),
        worker_pool_bytes: config.pools.worker_bytes.unwrap_or(default.worker_pool_bytes),
        expected_workers: config.workers,
        budget_bytes: config.pools.budget_bytes,
        link_capacity: config.pools.link_capacity.unwrap_or(default.link_capacity),
        captures: config.captures.clone().map(CaptureConfig::new),
        is_successor,
        ..default
    }
}

fn log_to_stderr(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::Log { filter: filter.to_owned(), problem: error.to_string() })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // What cannot be written would be complained of on standard error too, with a panic where that is closed.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Orders to stop.
struct Orders {
    terminate: Signal,
    interrupt: Signal,
}

/// How the process ends. The numbers are those of sysexits.h.
#[derive(Clone, Copy, Debug)]
enum Exit {
    Done = 0,
    Usage = 64,
    InUse = 69,
    Mistake = 70,
    System = 71,
    RuntimeDir = 73,
    Settings = 78,
}

/// Why the gateway does not serve.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    #[error("--log '{filter}' is no filter: {problem}")]
    Log { filter: String, problem: String },
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start the threads that serve: {0}")]
    Executor(std::io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("cannot say where the gateway serves: {0}")]
    Line(serde_json::Error),
    #[error("the {0} door has closed by itself")]
    Door(&'static str),
}

// === impl Orders ===

impl Orders {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

// === impl Exit ===

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

// === impl Failure ===

impl Failure {
    const fn exit(&self) -> Exit {
        match self {
            Self::Log { .. } => Exit::Usage,
            Self::Config(_)
            | Self::Inherited(_)
            | Self::Tokens(_)
            | Self::Start(StartError::Geometry(_) | StartError::Budget { .. }) => Exit::Settings,
            Self::Bind(BindError::InUse { .. }) | Self::RuntimeDir(RuntimeDirError::Taken { .. }) => {
                Exit::InUse
            }
            Self::RuntimeDir(RuntimeDirError::Io { .. } | RuntimeDirError::Unfit(_)) => Exit::RuntimeDir,
            Self::Bind(BindError::Io { .. })
            | Self::Start(StartError::Host(_) | StartError::Thread(_))
            | Self::Executor(_)
            | Self::Signals(_) => Exit::System,
            Self::Metrics(_) | Self::Line(_) | Self::Door(_) => Exit::Mistake,
        }
    }
}
