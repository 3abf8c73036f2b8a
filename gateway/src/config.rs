//! What the gateway is told at its start: command line, environment and file, read here and nowhere else.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use nix::unistd::geteuid;
use remotemedia_core::{Limits, runtime_dir};
use serde::Deserialize;

use crate::address::Address;
use crate::files::FileRoots;
use crate::inherited::Inherited;

/// The command line.
#[derive(Parser, Debug)]
#[command(
    name = "remotemedia-gateway",
    version,
    about = "Takes pipelines from gRPC clients and runs them on the workers that register with it",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP
)]
pub struct Arguments {
    /// Where clients connect: IP:PORT (port 0 picks a free one) or unix:PATH; beyond loopback with --token-file and
    /// --insecure-plaintext only [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<Address>,
    /// Where /health, /healthz, /readyz, /metrics, /status and /nodes are: IP:PORT on loopback or unix:PATH
    /// [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Address>,
    /// A TOML file with the settings below; what the command line says wins
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where workers find the gateway: a directory of this user alone, made if it is not there
    /// [default: $XDG_RUNTIME_DIR/remotemedia, or /run/remotemedia, or /dev/shm/remotemedia-UID]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Take calls only of clients with a token of this file; `remotemedia token new` makes it [default: take all]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Serve an address that other machines reach although tokens and data pass in plain text: there is no TLS here,
    /// so put a proxy that has it, or a private network, in between
    #[arg(long)]
    pub insecure_plaintext: bool,
    /// Where inputs are kept that killed too many workers, at most 16 and 256 MiB, for `remotemedia replay`; off: nowhere
    /// [default: captures in $STATE_DIRECTORY, or $XDG_STATE_HOME/remotemedia, or ~/.local/state/remotemedia]
    #[arg(long, value_name = "DIR|off", env = "REMOTEMEDIA_CAPTURES")]
    pub captures: Option<PathBuf>,
    /// Workers for whose frames there must be memory at the start [default: 1]
    #[arg(long, value_name = "N")]
    pub workers: Option<u16>,
    /// How log lines look, on standard error [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: a level, or target=level pairs
    #[arg(long, value_name = "FILTER", env = "REMOTEMEDIA_LOG", default_value = "info")]
    pub log: String,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// All settings, complete. Each part of the gateway gets its branch.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where clients connect.
    pub grpc: Address,
    /// Where the admin door is.
    pub admin: Address,
    /// Where workers find the gateway.
    pub runtime_dir: PathBuf,
    /// Whose calls are taken; all, if there is none.
    pub token_file: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How long what runs may go on after the order to stop.
    pub drain: Duration,
    /// What clients may ask.
    pub limits: Limits,
    /// Which files they may name.
    pub files: FileRoots,
    /// Memory for frames.
    pub pools: Pools,
    /// Workers for whose frames there must be memory at the start.
    pub workers: u16,
    /// Where inputs are kept that killed too many workers, if anywhere.
    pub captures: Option<PathBuf>,
}

/// Memory for frames; what is not set is for the runtime to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pools {
    /// Bytes of the gateway's own frame pool: what clients send is written there.
    pub gateway_bytes: Option<u64>,
    /// Bytes of all frame pools together: checked at the start, and a worker that would go beyond is refused.
    pub budget_bytes: Option<u64>,
    /// Bytes of each worker's frame pool: what its nodes compute is written there.
    pub worker_bytes: Option<u64>,
    /// Descriptors that a link between two processes holds.
    pub link_capacity: Option<usize>,
}

/// Settings that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file, or not for us.
    #[error("cannot read the settings in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("the settings in {path} are wrong: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// With line and column.
        source: toml::de::Error,
    },
    /// Anybody on the network could call.
    #[error(
        "{address} is refused: other machines reach it, and there is no --token-file to tell clients by; make one with `remotemedia token new`, or bind 127.0.0.1, ::1 or unix:PATH"
    )]
    NoTokens {
        /// As given.
        address: Address,
    },
    /// Anybody on the way could read the tokens.
    #[error(
        "{address} is refused: other machines reach it, and tokens and data would pass in plain text; bind 127.0.0.1, ::1 or unix:PATH behind a proxy with TLS, or accept it with --insecure-plaintext"
    )]
    Plaintext {
        /// As given.
        address: Address,
    },
    /// The admin door asks nobody who he is.
    #[error(
        "the admin address {address} is refused: other machines reach it, and the admin door has no authentication; bind 127.0.0.1, ::1 or unix:PATH"
    )]
    OpenAdmin {
        /// As given.
        address: Address,
    },
    /// Two say where a door is.
    #[error(
        "the settings say {door} = {said}, and systemd has bound {bound}: leave it out of the settings, and change ListenStream= of the socket's unit"
    )]
    Bound {
        /// Which.
        door: &'static str,
        /// As set.
        said: Address,
        /// As bound.
        bound: Address,
    },
    /// A limit that lets nothing through.
    #[error("limits: {what} is 0, which lets nothing through")]
    Zero {
        /// The limit.
        what: &'static str,
    },
    /// A limit that makes others impossible.
    #[error(
        "limits: {what} is {value}, over {bound}, which is {limit}: a client that asks for nothing would be refused"
    )]
    Default {
        /// The default.
        what: &'static str,
        /// As set.
        value: u64,
        /// The maximum.
        bound: &'static str,
        /// As set.
        limit: u64,
    },
}

/// The file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    grpc: Option<Address>,
    admin: Option<Address>,
    runtime_dir: Option<PathBuf>,
    token_file: Option<PathBuf>,
    insecure_plaintext: bool,
    log_format: Option<LogFormat>,
    drain_ms: Option<u64>,
    file_roots: FileRoots,
    limits: Limits,
    pools: Pools,
    workers: Option<u16>,
    captures: Option<PathBuf>,
}

const LONG_ABOUT: &str = "\
Takes pipelines from gRPC clients and runs them on the workers that register with it.

The gateway starts no workers: `remotemedia up` starts both, or systemd does. Without --token-file it listens at \
loopback addresses and unix sockets only, since it cannot tell who its clients are. When it serves, it prints one line of JSON on standard \
output and writes the same to gateway.json in the runtime directory:

  {\"event\":\"serving\",\"grpc\":\"127.0.0.1:50051\",\"admin\":\"127.0.0.1:9464\",\"pid\":4711,\"drain_ms\":10000}

Sockets that systemd passes, named 'grpc' and 'admin', are served where they are bound, and stay when the gateway \
goes. It tells systemd when it serves, that it stops, and feeds its watchdog.

SIGTERM or SIGINT: no new calls, those that run have drain_ms to finish, then they are answered UNAVAILABLE. A second \
signal cuts that short.";

const AFTER_HELP: &str = "\
Examples:
  remotemedia-gateway                                  at 127.0.0.1:50051, admin at 127.0.0.1:9464
  remotemedia-gateway --grpc 127.0.0.1:0 --admin 127.0.0.1:0 --runtime-dir /dev/shm/try
  remotemedia-gateway --grpc unix:/run/remotemedia/grpc.sock --config /etc/remotemedia/gateway.toml
  remotemedia token new --name me --file tokens && remotemedia-gateway --token-file tokens
  curl -s http://127.0.0.1:9464/status

Settings file, with the defaults:
  grpc = \"127.0.0.1:50051\"
  admin = \"127.0.0.1:9464\"
  runtime_dir = \"...\"
  token_file = \"...\"            # read again when it changes
  insecure_plaintext = false     # true: serve other machines without TLS
  log_format = \"text\"            # or json
  workers = 1                    # for whose frames there must be memory at the start
  drain_ms = 10000               # for calls to finish after SIGTERM
  captures = \"...\"              # where inputs are kept that killed too many workers; or \"off\"
  file_roots = []                # directories whose files clients may hand to nodes, such as [\"/srv/media\"]
  [limits]
  max_message_bytes = 16777216   # of one gRPC message
  max_sessions = 1024
  default_timeout_ms = 5000      # of one execution, or one chunk
  max_timeout_ms = 30000
  default_memory_bytes = 100000000
  max_memory_bytes = 1000000000
  max_audio_samples = 10000000   # of one piece of audio
  max_incomplete_bytes = 536870912             # of messages that are not whole
  max_connection_incomplete_bytes = 134217728  # of those of one connection
  message_stall_ms = 10000       # without a byte, in the middle of a message
  message_ms = 60000             # of a whole message
  max_replays = 2                # of work whose worker died
  poison_ms = 60000              # for which an input that killed more often is refused
  max_nodes = 64
  idle_timeout_ms = 60000        # of a stream without input
  [pools]                        # reserved at start
  gateway_bytes = ...
  worker_bytes = ...             # for each worker
  budget_bytes = ...             # of all together: a worker that would go beyond is refused
  link_capacity = ...

Exit codes:
   0  stopped by a signal, and all is put away
  64  the command line is wrong
  69  an address or the runtime directory is in use
  70  a mistake of the gateway itself
  71  the system refused something that is needed: memory, sockets
  73  the runtime directory cannot be made, or is not private
  78  the settings are wrong";

/// For calls to finish after the order to stop: longer than the default deadline of an execution.
const DRAIN: Duration = Duration::from_secs(10);

// === impl Config ===

impl Config {
    /// Puts the command line over the file over the defaults. What is bound already is where it is.
    ///
    /// # Errors
    /// The file cannot be read, or settings are wrong.
    pub fn of(arguments: &Arguments, inherited: &Inherited) -> Result<Self, ConfigError> {
        let file = arguments.config.as_deref().map_or_else(|| Ok(File::default()), File::read)?;
        let config = Self {
            grpc: address("grpc", arguments.grpc.clone().or(file.grpc), inherited.grpc(), 50_051)?,
            admin: address("admin", arguments.admin.clone().or(file.admin), inherited.admin(), 9_464)?,
            runtime_dir: arguments.runtime_dir.clone().or(file.runtime_dir).unwrap_or_else(|| {
                default_runtime_dir(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))
            }),
            token_file: arguments.token_file.clone().or(file.token_file),
            log_format: arguments.log_format.or(file.log_format).unwrap_or_default(),
            drain: file.drain_ms.map_or(DRAIN, Duration::from_millis),
            limits: file.limits,
            files: file.file_roots,
            pools: file.pools,
            workers: arguments.workers.or(file.workers).unwrap_or(1),
            captures: match arguments.captures.clone().or(file.captures) {
                Some(off) if off.as_os_str() == "off" => None,
                Some(dir) => Some(dir),
                None => default_captures(|name| std::env::var_os(name).map(PathBuf::from)),
            },
        };
        config.check_addresses(arguments.insecure_plaintext || file.insecure_plaintext)?;
        check_limits(&config.limits)?;
        Ok(config)
    }

    fn check_addresses(&self, is_plaintext_accepted: bool) -> Result<(), ConfigError> {
        let address = || self.grpc.clone();
        if !self.admin.is_local() {
            return Err(ConfigError::OpenAdmin { address: self.admin.clone() });
        }
        if self.grpc.is_local() {
            return Ok(());
        }
        if self.token_file.is_none() {
            return Err(ConfigError::NoTokens { address: address() });
        }
        if is_plaintext_accepted { Ok(()) } else { Err(ConfigError::Plaintext { address: address() }) }
    }
}

// === impl File ===

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::File { path: path.to_owned(), source })
    }
}

fn address(
    door: &'static str,
    said: Option<Address>,
    bound: Option<&Address>,
    port: u16,
) -> Result<Address, ConfigError> {
    match (said, bound) {
        (Some(said), Some(bound)) if said != *bound => {
            Err(ConfigError::Bound { door, said, bound: bound.clone() })
        }
        (_, Some(bound)) => Ok(bound.clone()),
        (Some(said), None) => Ok(said),
        (None, None) => Ok(Address::Tcp(([127, 0, 0, 1], port).into())),
    }
}

/// On memory rather than disk: the login's own directory, the system's, or one in shared memory.
fn default_runtime_dir(of_login: Option<PathBuf>) -> PathBuf {
    // Root makes the system's own where it is not there.
    let is_system_wide = geteuid().is_root() || Path::new(runtime_dir::SYSTEM_WIDE).is_dir();
    runtime_dir::default_path(of_login.as_deref(), is_system_wide, geteuid().as_raw())
}

/// On disk, for they are to be looked at later: where systemd says, or where the user keeps such things.
fn default_captures(environment: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| environment(name).filter(|dir| dir.is_absolute());
    let of_user = || {
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
        Some(state.join("remotemedia"))
    };
    Some(absolute("STATE_DIRECTORY").or_else(of_user)?.join("captures"))
}

fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let counts = [
        ("max_message_bytes", limits.max_message_bytes),
        ("max_sessions", limits.max_sessions),
        ("max_nodes", limits.max_nodes),
    ];
    if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
        return Err(ConfigError::Zero { what });
    }
    let pairs = [
        ("default_timeout_ms", limits.default_timeout_ms, "max_timeout_ms", limits.max_timeout_ms),
        ("default_memory_bytes", limits.default_memory_bytes, "max_memory_bytes", limits.max_memory_bytes),
    ];
    for (what, value, bound, limit) in pairs {
        if value > limit {
            return Err(ConfigError::Default { what, value, bound, limit });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = "
            grpc = '127.0.0.1:1'
            admin = 'unix:/run/admin.sock'
            drain_ms = 5
            token_file = '/etc/tokens'
            [limits]
            max_sessions = 3
            [pools]
            gateway_bytes = 1024
        ";
        let config = of(file, &["--grpc", "[::1]:2"]).unwrap();
        assert_eq!(config.grpc.to_string(), "[::1]:2");
        assert_eq!(config.admin.to_string(), "unix:/run/admin.sock");
        assert_eq!(config.drain, Duration::from_millis(5));
        assert_eq!(config.token_file, Some("/etc/tokens".into()));
        assert_eq!(config.limits, Limits { max_sessions: 3, ..Limits::default() });
        assert_eq!(config.pools.gateway_bytes, Some(1_024));

        let config = of("", &[]).unwrap();
        assert_eq!(
            (config.grpc.to_string(), config.admin.to_string()),
            ("127.0.0.1:50051".into(), "127.0.0.1:9464".into())
        );
    }

    #[test]
    fn wrong_settings_are_named() {
        let check = |file: &str, expect: &str| {
            let error = of(file, &[]).unwrap_err().to_string();
            assert!(error.contains(expect), "{error:?} does not say {expect:?}");
        };
        check("grcp = '127.0.0.1:1'", "unknown field `grcp`");
        check("[limits]\nmax_sesions = 1", "unknown field `max_sesions`");
        check("[limits]\nmax_sessions = 0", "max_sessions is 0");
        check("file_roots = ['media']", "the file root \"media\" is not absolute");
        check("grpc = '0.0.0.0:50051'", "0.0.0.0:50051 is refused");
        check(
            "[limits]\ndefault_timeout_ms = 40000",
            "default_timeout_ms is 40000, over max_timeout_ms, which is 30000",
        );
    }

    #[test]
    fn the_network_is_served_only_with_tokens_and_with_open_eyes() {
        let check = |flags: &[&str], expect: &str| {
            let error = of("", flags).unwrap_err().to_string();
            assert!(error.contains(expect), "{flags:?}: {error}");
        };
        check(&["--admin", "10.0.0.1:9464"], "the admin door has no authentication");
        check(&["--grpc", "0.0.0.0:1"], "there is no --token-file");
        check(&["--grpc", "0.0.0.0:1", "--insecure-plaintext"], "there is no --token-file");
        check(&["--grpc", "0.0.0.0:1", "--token-file", "t"], "accept it with --insecure-plaintext");
        let all = ["--grpc", "0.0.0.0:1", "--token-file", "t", "--insecure-plaintext"];
        assert_eq!(of("", &all).unwrap().token_file, Some("t".into()));
    }

    #[test]
    fn what_is_bound_is_where_it_is_and_who_says_otherwise_hears_of_it() {
        let at = |text: &str| text.parse::<Address>().unwrap();
        let of = |said: Option<&str>, bound: Option<&str>| {
            address("grpc", said.map(at), bound.map(at).as_ref(), 7).map(|address| address.to_string())
        };
        assert_eq!(of(None, None).unwrap(), "127.0.0.1:7");
        assert_eq!(of(Some("[::1]:1"), None).unwrap(), "[::1]:1");
        assert_eq!(of(None, Some("unix:/run/grpc.sock")).unwrap(), "unix:/run/grpc.sock");
        assert_eq!(of(Some("[::1]:1"), Some("[::1]:1")).unwrap(), "[::1]:1");
        let error = of(Some("[::1]:1"), Some("[::1]:2")).unwrap_err().to_string();
        assert!(error.contains("say grpc = [::1]:1, and systemd has bound [::1]:2"), "{error}");
    }

    #[test]
    fn captures_are_kept_where_state_is_unless_told_otherwise() {
        let among = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> =
                set.iter().map(|(name, dir)| ((*name).to_owned(), (*dir).to_owned())).collect();
            default_captures(|name| set.iter().find(|(other, _)| other == name).map(|(_, dir)| dir.into()))
        };
        assert_eq!(among(&[]), None);
        let home = ("HOME", "/u/a");
        assert_eq!(among(&[home]), Some("/u/a/.local/state/remotemedia/captures".into()));
        assert_eq!(among(&[home, ("XDG_STATE_HOME", "/s")]), Some("/s/remotemedia/captures".into()));
        assert_eq!(among(&[home, ("STATE_DIRECTORY", "/var/lib/r")]), Some("/var/lib/r/captures".into()));
        assert_eq!(of("captures = '/kept'", &[]).unwrap().captures, Some("/kept".into()));
        assert_eq!(of("captures = '/kept'", &["--captures", "off"]).unwrap().captures, None);
    }

    fn of(file: &str, flags: &[&str]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, file).unwrap();
        let words = ["remotemedia-gateway", "--config", path.to_str().unwrap()].into_iter();
        let arguments = Arguments::try_parse_from(words.chain(flags.iter().copied())).unwrap();
        Config::of(&arguments, &Inherited::default())
    }
}
