//! What a worker is told on its command line.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use nix::unistd::geteuid;
use remotemedia_core::runtime_dir;

use crate::engine::Settings;
use crate::registry::Registry;
use crate::unit::Unit;

/// Runs nodes for a RemoteMedia gateway, in a process of their own.
///
/// A worker joins the gateway that serves in the runtime directory, says which node types it has, and runs nodes of
/// many sessions at once. Without a gateway it waits for one, and when the gateway restarts it joins the new one.
/// A panic in a node ends that session; a crash ends this process, which `remotemedia up` or systemd then starts again.
#[derive(Parser, PartialEq, Eq, Debug)]
#[command(version, arg_required_else_help = false)]
pub(crate) struct CommandLine {
    /// The gateway's runtime directory. [default: $XDG_RUNTIME_DIR/remotemedia, else /run/remotemedia if it is there,
    /// else /dev/shm/remotemedia-UID]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,

    /// The worker's name in logs, errors and `remotemedia status`. A worker started again keeps its name.
    /// [default: rust-PID]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,

    /// Threads that run nodes. A session is run by one thread at a time. [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    threads: Option<u16>,

    /// Seconds that sessions may go on after SIGTERM or SIGINT; it gets no new ones then. A second signal ends it at once.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=3600))]
    drain_s: u16,

    /// Print the node types of this worker as JSON, and end.
    #[arg(long)]
    pub(crate) nodes: bool,

    /// How log lines on stderr look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Which log lines: a level, or `target=level` directives joined by commas.
    #[arg(long, value_name = "FILTER", env = "REMOTEMEDIA_LOG", default_value = "info", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) log: String,

    #[arg(long, hide = true, env = "XDG_RUNTIME_DIR")]
    user_runtime_dir: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// More threads than the largest machines have processors.
const MAX_THREADS: i64 = 1024;

/// A name is part of messages and of file names of the transport.
const MAX_NAME_BYTES: usize = 64;

const EXIT_CODES: &str = "\
Examples:
  remotemedia up                                             starts a gateway and stock workers
  remotemedia-worker --runtime-dir /run/remotemedia          joins a gateway that systemd started
  remotemedia-worker --name models-1 --threads 2             a worker that others can tell from the rest

Exit codes:
  0  asked to stop by SIGTERM or SIGINT: it gets no more sessions, and has ended those that it had
  1  the system did not let it start: stderr says why
  2  the command line is wrong
  3  the gateway refused this worker: stderr says why
  5  the gateway is of another version: install the same on both sides";

// === impl CommandLine ===

impl CommandLine {
    /// Reads the process's arguments. Ends the process for `--help`, `--version`, and what is wrong.
    pub(crate) fn parse_for(registry: &Registry) -> Self {
        let infos = registry.infos();
        let width = infos.iter().map(|info| info.name.len()).max().unwrap_or(0);
        let types = infos.iter().map(|info| format!("  {:width$}  {}\n", info.name, info.summary));
        let after = format!("Node types of this worker:\n{}\n{EXIT_CODES}", types.collect::<String>());
        let matches = Self::command().after_help(after).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// How long sessions may go on after it was asked to stop.
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s.into())
    }

    /// What the engine is told.
    pub(crate) fn settings(&self) -> Settings {
        let processors = || thread::available_parallelism().map_or(1, NonZero::get);
        Settings {
            runtime_dir: match &self.runtime_dir {
                Some(told) => told.clone(),
                None => default_runtime_dir(self.user_runtime_dir.as_deref()),
            },
            kind: "rust".to_owned(),
            name: self.name.clone().unwrap_or_else(|| format!("rust-{}", std::process::id())),
            threads: self.threads.map_or_else(processors, usize::from),
            drain: self.drain(),
            unit: Unit::of_this_process(),
        }
    }
}

/// Where a worker that nobody tells looks for its gateway: the same choice as the gateway's, so that both meet.
/// `of_user` is the user's directory for such things, `$XDG_RUNTIME_DIR`.
#[must_use]
pub fn default_runtime_dir(of_user: Option<&Path>) -> PathBuf {
    let is_system_wide = Path::new(runtime_dir::SYSTEM_WIDE).is_dir();
    runtime_dir::default_path(of_user, is_system_wide, geteuid().as_raw())
}

fn parse_name(name: &str) -> Result<String, String> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
    if fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        Ok(name.to_owned())
    } else {
        Err(format!("a name is 1 to {MAX_NAME_BYTES} letters, digits, '-', '_' or '.'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from([&["worker"], words].concat())
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn who_is_told_where_the_gateway_is_goes_there() {
        let told = parse(&["--runtime-dir", "/a"]).unwrap().settings();
        assert_eq!(told.runtime_dir, Path::new("/a"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for words in [["--threads", "0"], ["--threads", "1025"], ["--name", ""], ["--name", "a/b"]] {
            parse(&words).unwrap_err();
        }
        assert_eq!(parse(&["--name", "rust-1", "--threads", "3"]).unwrap().settings().threads, 3);
    }
}
