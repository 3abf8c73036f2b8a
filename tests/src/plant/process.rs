//! One child process: started, watched, killed, reaped.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use tokio::sync::watch;

use super::journal::Journal;
use crate::deadline::{until, within};

/// A child process. It is reaped as soon as it dies, by a thread of its own; dropped, it is killed.
pub struct Process {
    name: String,
    pid: u32,
    /// None once it is reaped, and its number perhaps another's.
    child: Arc<Mutex<Option<Child>>>,
    ending: watch::Receiver<Option<Ending>>,
    reaper: Option<JoinHandle<()>>,
    stdout: Journal,
    stderr: Arc<Journal>,
}

/// How a process ended, and when it was reaped.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// How.
    pub status: ExitStatus,
    /// When.
    pub at: Instant,
}

// === impl Process ===

impl Process {
    /// Starts a program. Its logs and what it prints are kept.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(name: &str, program: &Path, arguments: &[&str]) -> Self {
        Self::start_with(name, program, arguments, &[])
    }

    /// The same with more in its environment.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start_with(
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Self {
        let command = command(program, arguments, environment);
        Self::spawn(name, program, command, |_pid| {}, |_pid, _status, _journal| {})
    }

    /// The same in a process group of its own, which is killed with it.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start_group(
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Self {
        Self::start_leading(name, program, arguments, environment, |_pid, _status, _journal| {})
    }

    /// The same, as a launcher does. `told` hears when it has
    /// died and what it wrote, from the thread that reaps.
    ///
    /// # Panics
    /// It cannot be started.
    pub(super) fn start_leading(
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
        told: impl FnOnce(u32, ExitStatus, &Journal) + Send + 'static,
    ) -> Self {
        let mut command = command(program, arguments, environment);
        command.process_group(0);
        // The group exists while its leader is not reaped.
        let kill_group = |pid| killpg(number(pid), Signal::SIGKILL).expect("the group of a zombie exists");
        Self::spawn(name, program, command, kill_group, told)
    }

    fn spawn(
        name: &str,
        program: &Path,
        mut command: Command,
        dead: impl FnOnce(u32) + Send + 'static,
        told: impl FnOnce(u32, ExitStatus, &Journal) + Send + 'static,
    ) -> Self {
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let stdout = Journal::of(child.stdout.take().expect("stdout is piped"));
        let stderr = Arc::new(Journal::of(child.stderr.take().expect("stderr is piped")));
        let (pid, child) = (child.id(), Arc::new(Mutex::new(Some(child))));
        let (ended, ending) = watch::channel(None);
        let (reaped, journal) = (Arc::clone(&child), Arc::clone(&stderr));
        let reaper = thread::spawn(move || {
            // Leaves it a zombie, so that its number is nobody else's until the lock is held.
            let waited = waitid(Id::Pid(number(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            waited.expect("a child can be waited for");
            dead(pid);
            let mut child = lock(&reaped);
            let status = child.take().map(|mut child| child.wait().expect("a dead child is reaped"));
            drop(child);
            let status = status.expect("only this thread reaps");
            ended.send_replace(Some(Ending { status, at: Instant::now() }));
            told(pid, status, &journal);
        });
        Self { name: name.to_owned(), pid, child, ending, reaper: Some(reaper), stdout, stderr }
    }

    /// What the test calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended; none while it lives.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        *self.ending.borrow()
    }

    /// Sends it a signal, if it still lives.
    ///
    /// # Panics
    /// The system does not let us.
    pub fn signal(&self, signal: Signal) {
        let child = lock(&self.child);
        if child.is_some() {
            kill(number(self.pid), signal).expect("a child can be signalled");
        }
    }

    /// Waits until it has ended, and all that it said has been read.
    ///
    /// # Panics
    /// It does not end in time, or a process that it left behind holds its outputs open.
    pub async fn ended(&self, limit: Duration) -> Ending {
        let mut ending = self.ending.clone();
        let what = format!("the end of {} (pid {})", self.name, self.pid);
        let ended = *within(limit, &what, ending.wait_for(Option::is_some)).await.expect("the reaper tells");
        until(limit, async || {
            let is_read = self.stdout.is_complete() && self.stderr.is_complete();
            if is_read { Ok(()) } else { Err("an heir of it holds its outputs open") }
        })
        .await;
        ended.expect("waited for")
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// It had died before, does not stop in time, or not with code 0.
    pub async fn stop(&self, limit: Duration) {
        assert!(self.ending().is_none(), "{self:?} died before it was asked to stop");
        self.signal(Signal::SIGTERM);
        let Ending { status, .. } = self.ended(limit).await;
        assert!(status.success(), "{} stopped with {status}: {:#?}", self.name, self.stderr.lines());
        assert!(!Path::new(&format!("/proc/{}", self.pid)).exists(), "{} is not reaped", self.name);
    }

    /// The signal that killed it.
    ///
    /// # Panics
    /// It lives, or ended otherwise.
    #[must_use]
    pub fn killed_by(&self) -> i32 {
        let ending = self.ending().expect("it has ended");
        ending.status.signal().expect("a signal killed it")
    }

    /// The first line that it prints.
    ///
    /// # Panics
    /// None comes in time, or it ends before.
    pub async fn first_line(&self, limit: Duration) -> String {
        until(limit, async || {
            assert!(self.ending().is_none(), "{} ended: {:#?}", self.name, self.stderr.lines());
            if self.stdout.lines().is_empty() { Err(self.stderr.lines()) } else { Ok(()) }
        })
        .await;
        self.stdout.lines().remove(0)
    }

    /// All that it has printed.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.stdout.lines()
    }

    /// All that it has logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.stderr.lines()
    }

    /// Open file descriptors.
    ///
    /// # Panics
    /// It is dead.
    #[must_use]
    pub fn fds(&self) -> usize {
        self.open_files().len()
    }

    /// What its file descriptors are open on.
    ///
    /// # Panics
    /// It is dead.
    #[must_use]
    pub fn open_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("it lives");
        // One that is closed in between is not open.
        entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
    }

    /// Bytes of memory that it has to itself: not the pools, which are shared.
    ///
    /// # Panics
    /// It is dead.
    #[must_use]
    pub fn private_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a process has it");
        let kilobytes = line.trim().strip_suffix("kB").expect("it is told in kB").trim();
        kilobytes.parse::<u64>().expect("it is a number") * 1_024
    }

    /// Processor time that all its threads have used, as far as the kernel counts in ticks.
    ///
    /// # Panics
    /// It is dead.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it lives");
        // Behind the name, which may hold anything, from the third field on: utime and stime are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>());
        let ticks: u64 = ticks.sum::<Result<u64, _>>().expect("ticks are numbers");
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("the kernel tells its ticks");
        let per_second = u64::try_from(per_second).expect("ticks are positive");
        Duration::from_millis(ticks * 1_000 / per_second)
    }

    /// The lines of its log that are worth a look: warnings, errors, and what is no log line.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.stderr.alarms().into_iter().map(|line| format!("[{}] {line}", self.name)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(reaper) = self.reaper.take() {
            let _panicked = reaper.join();
        }
        if thread::panicking() {
            let mut said = self.stderr.lines();
            said.dedup();
            let said = said.join("\n");
            let Self { name, pid, .. } = self;
            // Where standard error is closed nobody reads it.
            let _read = writeln!(std::io::stderr(), "--- {name} (pid {pid}) said:\n{said}");
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pid, .. } = self;
        write!(f, "{name} (pid {pid}, {:?})", self.ending())
    }
}

fn command(program: &Path, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Command {
    let mut command = Command::new(program);
    command.envs(environment.iter().copied());
    // What the developer has set for his own service is not meant for this one.
    command
        .args(arguments)
        .env_remove("REMOTEMEDIA_LOG")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("RUST_BACKTRACE");
    // A test that wants inputs kept says where.
    command.env("REMOTEMEDIA_CAPTURES", "off");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn number(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("process ids are positive 32-bit numbers"))
}

fn lock(child: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
