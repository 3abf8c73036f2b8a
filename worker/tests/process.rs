//! The stock worker as a process: how it comes, waits and goes.
#![expect(
    clippy::unwrap_used,
    reason = "the lint knows functions that are tests, and not a test's own helpers"
)]

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_core::fault::DeathCause;
use remotemedia_ipc::control::messages::{PROTOCOL, ToGateway, ToWorker};
use remotemedia_ipc::control::{Listener, codec};
use remotemedia_ipc::guest::SOCKET;
use remotemedia_ipc::host::{Host, HostConfig, HostEvent, PoolBudget};
use remotemedia_ipc::memory::Geometry;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn without_a_gateway_it_waits_and_goes_when_told() {
    let dir = runtime_dir();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut worker = Worker::start(dir.path());
        worker.read_until("gateway_awaited");
        worker.signal(signal);
        assert_eq!(worker.exit().code(), Some(0));
    }
}

#[test]
fn one_that_is_refused_says_why_and_does_not_come_again() {
    let dir = runtime_dir();
    let listener = Listener::bind(&dir.path().join(SOCKET)).unwrap();
    let mut worker = Worker::start(dir.path());
    let mut coming = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut coming, PollTimeout::from(20_000_u16)), Ok(1), "the worker connects");
    let mut channel = listener.accept().unwrap().unwrap();
    let deadline = Instant::now() + DEADLINE;
    let ToGateway::Hello(hello) = codec::decode(&channel.recv_blocking(deadline).unwrap().bytes).unwrap()
    else {
        panic!("a hello comes first")
    };
    let types: Vec<&str> = hello.nodes.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(types, ["AudioLevel", "AudioResample", "Calculator", "PassThrough", "VAD"]);
    assert_eq!((hello.protocol, hello.name.as_str(), hello.kind.as_str()), (PROTOCOL, "tested", "rust"));
    let refused = ToWorker::Refused { protocol: PROTOCOL, reason: "all 39 slots are taken".to_owned() };
    channel.send_blocking(&codec::encode(&refused).unwrap(), &[], deadline).unwrap();
    worker.read_until("the gateway refused this worker: all 39 slots are taken");
    assert_eq!(worker.exit().code(), Some(i32::from(remotemedia_worker::EXIT_REFUSED)));
}

#[test]
fn one_that_serves_goes_cleanly_when_told_and_its_gateway_knows_how() {
    let dir = runtime_dir();
    let pool = Geometry::for_budget(8 << 20, 1 << 20).unwrap();
    let config = HostConfig {
        budget: PoolBudget::UNBOUNDED,
        runtime_dir: dir.path().to_owned(),
        gateway_pool: pool.clone(),
        worker_pool: pool,
        link_capacity: 64,
    };
    let mut host = Host::start(config).unwrap();
    let mut worker = Worker::start(dir.path());
    let pid = i32::try_from(worker.0.id()).unwrap();
    let joined = until(&mut host, |event| {
        if let HostEvent::Joined { member, pid, .. } = event { Some((member, pid)) } else { None }
    });
    assert_eq!(joined.1, pid);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.exit().code(), Some(0));
    let died = until(&mut host, |event| {
        if let HostEvent::Died { member, cause, .. } = event { Some((member, cause)) } else { None }
    });
    assert_eq!(died, (joined.0, DeathCause::Exit(0)));
    host.close().unwrap();
}

#[test]
fn its_help_teaches() {
    let help = Command::new(env!("CARGO_BIN_EXE_remotemedia-worker")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["--runtime-dir", "--name", "--threads", "PassThrough", "Examples:", "Exit codes:"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

/// A worker process, killed at the latest when this is dropped.
struct Worker(Child);

// === impl Worker ===

impl Worker {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remotemedia-worker"));
        // The hosts of these tests dismiss nobody.
        command.args(["--name", "tested", "--threads", "2", "--drain-s", "0", "--log", "info"]);
        command.arg("--runtime-dir").arg(dir);
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    /// Reads its stderr until the words come.
    fn read_until(&mut self, words: &str) {
        let stderr = self.0.stderr.as_mut().unwrap();
        let (give_up, mut read, mut buffer) = (Instant::now() + DEADLINE, Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&read).contains(words) {
            let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, PollTimeout::from(1_000_u16)).unwrap();
            assert!(Instant::now() < give_up, "{words:?} did not come: {}", String::from_utf8_lossy(&read));
            if ready[0].any().unwrap() {
                let count = stderr.read(&mut buffer).unwrap();
                assert!(count > 0, "{words:?} did not come: {}", String::from_utf8_lossy(&read));
                read.extend_from_slice(&buffer[..count]);
            }
        }
    }

    fn exit(&mut self) -> ExitStatus {
        let give_up = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "the worker does not end");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn until<T>(host: &mut Host, found: impl Fn(HostEvent) -> Option<T>) -> T {
    let give_up = Instant::now() + DEADLINE;
    let mut result = None;
    while result.is_none() {
        assert!(Instant::now() < give_up, "nothing came in {DEADLINE:?}");
        host.turn(Duration::from_millis(10), || false, &mut |event| {
            if let Some(value) = found(event) {
                result = Some(value);
            }
        })
        .unwrap();
    }
    result.unwrap()
}

/// On tmpfs, and of this user alone.
fn runtime_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("rm").tempdir_in("/dev/shm").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    dir
}
