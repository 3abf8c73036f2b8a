//! A process that runs nodes and may die.
//!
//! [`run`] is a whole worker process: the stock binary is that over [`nodes::stock`], and a worker with nodes of its
//! own is the same over its own [`Registry`]. A program that has a command line and signal handlers of its own starts an
//! [`Engine`].

#![forbid(unsafe_code)]

mod command_line;
mod engine;
pub mod harness;
pub mod nodes;
mod parent;
pub mod registry;
mod unit;

pub use engine::{Around, Engine, Loader, Refused, Settings, Stop};
pub use harness::Harness;
pub use parent::end_with;
pub use registry::Registry;
pub use unit::Unit;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

pub use command_line::default_runtime_dir;
use command_line::{CommandLine, LogFormat};

/// Exit code of a worker that the system did not let start, or not join.
pub const EXIT_SYSTEM: u8 = 1;
/// Exit code of a worker whose command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of a worker that the gateway refused.
pub const EXIT_REFUSED: u8 = 3;
/// Exit code of a worker that the gateway refused because one of the two is of another version.
pub const EXIT_VERSION: u8 = 5;

/// Runs a worker: reads the process's command line (`--help` tells), joins the gateway, and serves until SIGTERM or
/// SIGINT. The first thing to do in `main`: threads that are there already could be interrupted by those signals, and
/// would end the process with them.
///
/// Gives 0 when asked to stop, or one of the exit codes of this crate. Logs to stderr.
#[must_use]
pub fn run(registry: Registry) -> ExitCode {
    let line = CommandLine::parse_for(&registry);
    if line.nodes {
        return match print_nodes(&registry) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(EXIT_SYSTEM, &format!("cannot print the node types: {error}")),
        };
    }
    if let Err(error) = log_to_stderr(&line.log, line.log_format == LogFormat::Json) {
        return fail(EXIT_USAGE, &format!("--log: {error}"));
    }
    let started =
        Stop::on_signals(line.drain()).and_then(|stop| Engine::start(line.settings(), registry, stop));
    let engine = match started {
        Ok(engine) => engine,
        Err(error) => return fail(EXIT_SYSTEM, &format!("cannot start the worker's threads: {error}")),
    };
    match engine.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => {
            let code = match refused {
                Refused::ByGateway { .. } => EXIT_REFUSED,
                Refused::OfVersion { .. } => EXIT_VERSION,
                Refused::OfDescriptors { .. } => EXIT_SYSTEM,
            };
            fail(code, &refused.to_string())
        }
    }
}

fn print_nodes(registry: &Registry) -> io::Result<()> {
    let mut line = serde_json::to_string(&registry.infos())?;
    line.push('\n');
    io::stdout().write_all(line.as_bytes())
}

/// Logs to standard error from here on, as text or as JSON: `filter` is a level, or `target=level` directives joined by
/// commas. A program that has a subscriber of its own keeps it.
///
/// # Errors
/// The filter is none.
pub fn log_to_stderr(filter: &str, json: bool) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // What cannot be written would be complained of on standard error too, with a panic where that is closed.
        .log_internal_errors(false);
    drop(if json {
        lines.json().try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    });
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the last words of a program, whatever its log filter says")]
fn fail(code: u8, problem: &str) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::from(code)
}
