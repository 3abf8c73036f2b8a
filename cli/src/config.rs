//! The configuration file of `remotemedia up`, and the plan that it and the command line make together.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{fs, io};

use remotemedia_core::nearest::Meant;
use serde::Deserialize;

use crate::launch::{Command, GatewayPlan, Isolation, Plan, PoolPlan};

/// The longest configuration file: it lists programs, not data.
const MAX_CONFIG_BYTES: u64 = 1_024 * 1_024;
/// Where a service serves gRPC if nobody says otherwise.
pub const DEFAULT_GRPC: &str = "127.0.0.1:50051";
/// Where a service answers admin requests if nobody says otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9464";
/// Workers of a service if nobody says otherwise: one that works while the other starts again.
pub const DEFAULT_WORKERS: u16 = 2;
/// The kind of the stock worker.
const RUST: &str = "rust";

/// A configuration file: `[gateway]`, any number of `[[pool]]`, and `[quarantine]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The gateway.
    pub gateway: GatewayConfig,
    /// The pools of workers. None means one of stock workers.
    pub pool: Vec<PoolConfig>,
    /// When a worker that keeps dying is left alone.
    pub quarantine: QuarantineConfig,
}

/// `[gateway]`
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// `HOST:PORT`, port 0 for a free one.
    pub grpc: Option<String>,
    /// `HOST:PORT`, port 0 for a free one.
    pub admin: Option<String>,
    /// Where the service keeps its files.
    pub runtime_dir: Option<PathBuf>,
    /// The gateway's own configuration file.
    pub config: Option<PathBuf>,
    /// The program and its first arguments.
    pub command: Option<Vec<String>>,
}

/// `[[pool]]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// What the workers are called.
    pub kind: String,
    /// How many there are.
    pub workers: u16,
    /// The program and its first arguments; the stock worker for kind `rust`.
    pub command: Option<Vec<String>>,
    /// How much memory each may use.
    pub memory: Option<Memory>,
}

/// An amount of memory, written as `512MiB`, `2GiB` or so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Memory {
    bytes: u64,
}

/// A text that is no amount of memory for a worker.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MemoryError {
    /// No number, or an unknown unit.
    #[error("'{text}' is no amount of memory: write it as 512MiB, 2GiB, or in bytes")]
    Unreadable {
        /// As given.
        text: String,
    },
    /// No worker starts with so little.
    #[error("{bytes} bytes are too little for a worker: give it {LEAST_MEMORY} or more")]
    TooLittle {
        /// As given.
        bytes: u64,
    },
}

/// The stock worker needs some megabytes before it has a node.
const LEAST_MEMORY: u64 = 32 << 20;

/// `[quarantine]`: what is not said is [`Isolation::default`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineConfig {
    /// After so many deaths in a row.
    pub deaths: Option<NonZeroU32>,
    /// If they came in so many seconds.
    pub within_s: Option<u64>,
    /// For so many seconds; doubles each time that it does not help.
    pub pause_s: Option<u64>,
    /// The most seconds.
    pub longest_pause_s: Option<u64>,
}

/// What the command line says of a service. It wins over the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// `--grpc`
    pub grpc: Option<String>,
    /// `--admin`
    pub admin: Option<String>,
    /// `--workers`
    pub workers: Option<u16>,
    /// `--worker-memory`
    pub worker_memory: Option<Memory>,
}

/// The programs of this installation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    /// The gateway.
    pub gateway: PathBuf,
    /// The stock worker.
    pub worker: PathBuf,
    /// This one, which is its own warden.
    pub warden: Option<PathBuf>,
    /// Where programs are that are named without a directory, as in a shell.
    pub search: Vec<PathBuf>,
}

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error(
        "configuration {path} has {bytes} bytes, over the limit of {MAX_CONFIG_BYTES}: is it the right file?"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// As counted.
        bytes: u64,
    },
    /// The text is not a configuration. The problem shows line and column.
    #[error("configuration {path}: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A pool of a kind that nobody knows how to start.
    #[error("pool '{kind}' needs a command: only kind '{RUST}' has a stock worker")]
    NoCommand {
        /// The pool.
        kind: String,
    },
    /// A command without a program.
    #[error("the command of {owner} is empty: write command = [\"PROGRAM\", \"ARGUMENT\", …]")]
    EmptyCommand {
        /// The gateway or a pool.
        owner: String,
    },
    /// A number that could mean any of several pools.
    #[error("--workers cannot say which of {pools} pools it means: set 'workers' in the configuration file")]
    WhichPool {
        /// Pools in the file.
        pools: usize,
    },
}

// === impl Config ===

impl Config {
    /// # Errors
    /// The file cannot be read, or is no configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let bytes = fs::metadata(path).map_err(failed)?.len();
        if bytes > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned(), bytes });
        }
        Self::parse(&fs::read_to_string(path).map_err(failed)?)
            .map_err(|problem| ConfigError::Parse { path: path.to_owned(), problem })
    }

    /// What to start.
    ///
    /// # Errors
    /// A pool without a program, or flags that could mean several things.
    pub fn plan(self, overrides: Overrides, programs: &Programs) -> Result<Plan, ConfigError> {
        let grpc = overrides.grpc.or(self.gateway.grpc).unwrap_or_else(|| DEFAULT_GRPC.to_owned());
        let admin = overrides.admin.or(self.gateway.admin).unwrap_or_else(|| DEFAULT_ADMIN.to_owned());
        let command = match self.gateway.command {
            Some(words) => command(words, "[gateway]", programs)?,
            None => Command::of(&programs.gateway),
        };
        let gateway = GatewayPlan { command, grpc, admin, config: self.gateway.config };
        let mut pools =
            self.pool.into_iter().map(|pool| pool.plan(programs)).collect::<Result<Vec<_>, _>>()?;
        if pools.is_empty() {
            pools.push(stock_pool(DEFAULT_WORKERS, programs));
        }
        match (overrides.workers, pools.as_mut_slice()) {
            (Some(workers), [pool]) => pool.workers = workers,
            (Some(_), pools) => return Err(ConfigError::WhichPool { pools: pools.len() }),
            (None, _) => {}
        }
        if let Some(memory) = overrides.worker_memory {
            pools.iter_mut().for_each(|pool| pool.memory_bytes = Some(memory.bytes));
        }
        let warden = programs.warden.clone();
        Ok(Plan { gateway, pools, isolation: self.quarantine.isolation(), warden })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            // The reader quotes what it found, and behind that what it knows.
            let mut quoted = error.message().split('`').skip(1).step_by(2);
            let meant = Meant::of(quoted.next().unwrap_or_default(), quoted);
            format!("{}{meant}", error.to_string().trim_end())
        })
    }
}

// === impl Programs ===

impl Programs {
    /// A program that is named without a directory, where it is first found; another, or one that is nowhere, as named.
    fn find(&self, program: PathBuf) -> PathBuf {
        let has_directory = program.parent().is_some_and(|parent| !parent.as_os_str().is_empty());
        let mut found = self.search.iter().map(|dir| dir.join(&program)).filter(|place| place.is_file());
        if has_directory { program } else { found.next().unwrap_or(program) }
    }
}

// === impl Memory ===

impl FromStr for Memory {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let unreadable = || MemoryError::Unreadable { text: text.to_owned() };
        let trimmed = text.trim();
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let unit = units.iter().find_map(|(unit, shift)| Some((trimmed.strip_suffix(unit)?, *shift)));
        let (number, shift) = unit.unwrap_or((trimmed, 0));
        let number: u64 = number.trim_end().parse().map_err(|_| unreadable())?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(unreadable)?;
        if bytes < LEAST_MEMORY { Err(MemoryError::TooLittle { bytes }) } else { Ok(Self { bytes }) }
    }
}

impl TryFrom<String> for Memory {
    type Error = MemoryError;

    fn try_from(text: String) -> Result<Self, MemoryError> {
        text.parse()
    }
}

// === impl QuarantineConfig ===

impl QuarantineConfig {
    fn isolation(self) -> Isolation {
        let default = Isolation::default();
        let seconds = |said: Option<u64>, default| said.map_or(default, Duration::from_secs);
        let pause = seconds(self.pause_s, default.pause);
        Isolation {
            deaths: self.deaths.map_or(default.deaths, NonZeroU32::get),
            within: seconds(self.within_s, default.within),
            pause,
            longest_pause: seconds(self.longest_pause_s, default.longest_pause).max(pause),
        }
    }
}

// === impl PoolConfig ===

impl PoolConfig {
    fn plan(self, programs: &Programs) -> Result<PoolPlan, ConfigError> {
        let command = match self.command {
            Some(words) => command(words, &format!("pool '{}'", self.kind), programs)?,
            None if self.kind == RUST => Command::of(&programs.worker),
            None => return Err(ConfigError::NoCommand { kind: self.kind }),
        };
        let memory_bytes = self.memory.map(|memory| memory.bytes);
        Ok(PoolPlan { kind: self.kind, workers: self.workers, command, memory_bytes })
    }
}

/// A service of this process alone, as `run` brings it up: stock programs, free ports.
#[must_use]
pub fn private_plan(programs: &Programs) -> Plan {
    let free = "127.0.0.1:0";
    Plan {
        gateway: GatewayPlan {
            command: Command::of(&programs.gateway),
            grpc: free.to_owned(),
            admin: free.to_owned(),
            config: None,
        },
        pools: vec![stock_pool(DEFAULT_WORKERS, programs)],
        isolation: Isolation::default(),
        warden: programs.warden.clone(),
    }
}

fn stock_pool(workers: u16, programs: &Programs) -> PoolPlan {
    PoolPlan { kind: RUST.to_owned(), workers, command: Command::of(&programs.worker), memory_bytes: None }
}

fn command(words: Vec<String>, owner: &str, programs: &Programs) -> Result<Command, ConfigError> {
    let mut words = words.into_iter();
    match words.next().filter(|program| !program.is_empty()) {
        Some(program) => Ok(Command {
            program: programs.find(program.into()),
            arguments: words.map(OsString::from).collect(),
        }),
        None => Err(ConfigError::EmptyCommand { owner: owner.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> Programs {
        let (gateway, worker) = ("/bin/gateway".into(), "/bin/worker".into());
        Programs { gateway, worker, warden: None, search: Vec::new() }
    }

    fn plan(text: &str, overrides: Overrides) -> Result<Plan, ConfigError> {
        Config::parse(text).unwrap().plan(overrides, &programs())
    }

    #[test]
    fn nothing_said_is_two_stock_workers_on_the_usual_ports() {
        let plan = plan("", Overrides::default()).unwrap();
        assert_eq!((plan.gateway.grpc.as_str(), plan.gateway.admin.as_str()), (DEFAULT_GRPC, DEFAULT_ADMIN));
        assert_eq!(plan.pools, [stock_pool(2, &programs())]);
    }

    #[test]
    fn flags_win_over_the_file() {
        let text =
            "[gateway]\ngrpc = '127.0.0.1:1'\nadmin = '127.0.0.1:2'\n[[pool]]\nkind = 'rust'\nworkers = 3";
        let overrides = Overrides {
            grpc: Some("127.0.0.1:0".into()),
            admin: None,
            workers: Some(5),
            ..Overrides::default()
        };
        let plan = plan(text, overrides).unwrap();
        assert_eq!((plan.gateway.grpc.as_str(), plan.gateway.admin.as_str()), ("127.0.0.1:0", "127.0.0.1:2"));
        assert_eq!(plan.pools[0].workers, 5);
    }

    #[test]
    fn pools_name_their_programs() {
        let text = "[[pool]]\nkind = 'gpu'\nworkers = 1\ncommand = ['/bin/my-worker', '--device', '0']";
        let plan = plan(text, Overrides::default()).unwrap();
        assert_eq!(plan.pools[0].command.program, Path::new("/bin/my-worker"));
        assert_eq!(plan.pools[0].command.arguments, ["--device", "0"]);
    }

    #[test]
    fn memory_is_read_with_its_unit_and_the_command_line_wins() {
        let check = |text: &str, expect: Result<u64, &str>| match (text.parse::<Memory>(), expect) {
            (Ok(memory), Ok(bytes)) => assert_eq!(memory.bytes, bytes, "{text}"),
            (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{text}: {error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("512MiB", Ok(512 << 20));
        check(" 2 GiB ", Ok(2 << 30));
        check("67108864", Ok(64 << 20));
        check("1MiB", Err("too little for a worker"));
        check("2GB", Err("'2GB' is no amount of memory: write it as 512MiB"));
        check("-1", Err("no amount"));
        check("18446744073709551615TiB", Err("no amount"));
        let text = "[[pool]]\nkind = 'rust'\nworkers = 1\nmemory = '1GiB'";
        assert_eq!(plan(text, Overrides::default()).unwrap().pools[0].memory_bytes, Some(1 << 30));
        let overrides = Overrides { worker_memory: Some("2GiB".parse().unwrap()), ..Overrides::default() };
        assert_eq!(plan(text, overrides).unwrap().pools[0].memory_bytes, Some(2 << 30));
    }

    #[test]
    fn a_quarantine_is_as_long_as_is_said_and_never_ends_before_it_began() {
        let plan = plan("[quarantine]\ndeaths = 3\npause_s = 1000", Overrides::default()).unwrap();
        let pause = Duration::from_secs(1_000);
        assert_eq!(
            plan.isolation,
            Isolation { deaths: 3, pause, longest_pause: pause, ..Isolation::default() }
        );
    }

    #[test]
    fn a_program_without_a_directory_is_found_as_a_shell_finds_it() {
        let search = ["/nowhere", "/proc/self", "/proc/1"].map(PathBuf::from).into();
        let programs = Programs { search, ..programs() };
        let found = |name: &str| programs.find(name.into());
        assert_eq!(found("status"), Path::new("/proc/self/status"));
        assert_eq!(found("./status"), Path::new("./status"));
        assert_eq!(found("no-such-program"), Path::new("no-such-program"));
    }

    #[test]
    fn mistakes_are_answered_in_words() {
        let check = |text: &str, workers: Option<u16>, expect: &str| {
            let overrides = Overrides { workers, ..Overrides::default() };
            assert_eq!(plan(text, overrides).unwrap_err().to_string(), expect);
        };
        let two = "[[pool]]\nkind = 'rust'\nworkers = 1\n[[pool]]\nkind = 'b'\nworkers = 1\ncommand = ['/b']";
        check(
            two,
            Some(3),
            "--workers cannot say which of 2 pools it means: set 'workers' in the configuration file",
        );
        check(
            "[[pool]]\nkind = 'gpu'\nworkers = 1",
            None,
            "pool 'gpu' needs a command: only kind 'rust' has a stock worker",
        );
        check(
            "[gateway]\ncommand = []",
            None,
            "the command of [gateway] is empty: write command = [\"PROGRAM\", \"ARGUMENT\", …]",
        );
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_shown_with_their_place() {
        let problem = Config::parse("[[pool]]\nkind = 'rust'\nworker = 3").unwrap_err();
        assert!(problem.contains("line 3") && problem.ends_with("; did you mean 'workers'?"), "{problem}");
        let check = |text: &str, expected: [&str; 2]| {
            let error = Config::parse(text).unwrap_err();
            assert!(expected.iter().all(|expect| error.contains(expect)), "{error}");
        };
        check("[gateway]\ngprc = 'x'", ["line 2, column 1", "unknown field `gprc`, expected one of `grpc`"]);
        check("[[pool]]\nkind = 'rust'\nworkers = -1", ["line 3", "-1"]);
        check("[[pool]]\nworkers = 1", ["line 1", "missing field `kind`"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::read(Path::new("/nowhere/up.toml")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read configuration /nowhere/up.toml: No such file"), "{error}");
    }
}
