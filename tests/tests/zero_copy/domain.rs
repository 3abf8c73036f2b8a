//! A gateway and two workers: the programs that users run, each under the counting library.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_cli::admin::{AdminDoor, Serving};
use tempfile::TempDir;

use crate::maps::{self, PoolMapping};
use crate::preload::{self, Counts};
use crate::trail;

/// Both kinds of processes. Dropped, they end in the order in which they lean on each other.
pub(crate) struct Domain {
    /// Where clients connect.
    pub(crate) endpoint: String,
    gateway: Program,
    workers: [Program; 2],
    _dir: TempDir,
}

/// One process.
pub(crate) struct Program {
    /// What it is, in messages.
    pub(crate) name: &'static str,
    /// Its standard error.
    pub(crate) log: PathBuf,
    counts: PathBuf,
    child: Child,
}

/// Little memory, since tests run side by side: eight of the largest blocks for the gateway, three for a worker.
const SETTINGS: &str = "
[limits]
max_message_bytes = 8388608
[pools]
gateway_bytes = 67108864
worker_bytes = 33554432
";

/// For every wait here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

// === impl Domain ===

impl Domain {
    /// The worker that users run.
    pub(crate) fn stock_worker() -> PathBuf {
        program("remotemedia-worker")
    }

    /// Starts all three, and waits until the workers have joined.
    pub(crate) async fn start(worker: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("remotemedia-").tempdir_in("/dev/shm");
        let dir = dir.expect("a directory on tmpfs");
        let settings = dir.path().join("gateway.toml");
        fs::write(&settings, SETTINGS).expect("the settings are written");
        let mut gateway = Command::new(program("remotemedia-gateway"));
        gateway.args(["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]).arg(settings);
        let mut gateway = Program::start("gateway", gateway, dir.path());
        let mut line = String::new();
        let stdout = gateway.child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the gateway's first line");
        let serving: Serving = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("'{line}' is no line of a gateway that serves: {error}"));
        let workers = ["worker-a", "worker-b"].map(|name| {
            let mut command = Command::new(worker);
            command.args(["--threads", "1", "--name", name]);
            Program::start(name, command, dir.path())
        });
        let domain = Self { endpoint: format!("http://{}", serving.grpc), gateway, workers, _dir: dir };
        let admin = AdminDoor::at(&serving.admin);
        tokio::time::timeout(PATIENCE, domain.until_joined(&admin)).await.expect("the workers join");
        domain
    }

    /// The gateway, and the workers.
    pub(crate) fn programs(&self) -> [&Program; 3] {
        [&self.gateway, &self.workers[0], &self.workers[1]]
    }

    async fn until_joined(&self, gateway: &AdminDoor) {
        while gateway.status().await.expect("the gateway tells its status").workers.len() < self.workers.len()
        {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

// === impl Program ===

impl Program {
    fn start(name: &'static str, mut command: Command, dir: &Path) -> Self {
        let (log, counts) = (dir.join(format!("{name}.log")), dir.join(format!("{name}.counts")));
        let child = command
            .arg("--runtime-dir")
            .arg(dir.join("run"))
            .args(["--log-format", "json", "--log", trail::FILTER])
            .env("LD_PRELOAD", preload::library())
            .env(preload::FILE_VARIABLE, &counts)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log is made"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name, log, counts, child }
    }

    /// What it has copied until now. The library and the kernel must agree on where frame pools are.
    pub(crate) fn counts(&self) -> Counts {
        let (counts, mut counted) = Counts::read(&self.counts);
        let mut mapped: Vec<[u64; 2]> = self.pools().into_iter().map(|pool| pool.range).collect();
        counted.sort_unstable();
        mapped.sort_unstable();
        assert_eq!(counted, mapped, "{}: the library does not know all frame pools", self.name);
        counts
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it is a child, and not reaped");
    }

    /// The frame pools that it has mapped.
    pub(crate) fn pools(&self) -> Vec<PoolMapping> {
        maps::pools(self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let _dead_already = kill(pid, Signal::SIGTERM);
        let end = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _dead_already = self.child.kill();
            }
            thread::park_timeout(PAUSE);
        }
    }
}

/// Until something is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it is not so in time");
        tokio::time::sleep(PAUSE).await;
    }
}

/// A program of the workspace, beside the directory that this test lies in.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let path = test.ancestors().nth(2).expect("it lies in a directory of a directory").join(name);
    assert!(path.is_file(), "there is no {}: `cargo build --workspace --bins` makes it", path.display());
    path
}
