//! One process that runs: started in a group of its own, buried with all that it started.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use remotemedia_core::fault::DeathCause;
use remotemedia_ipc::memory::MemoryGroup;
use tokio::net::unix::pipe;

use super::cell::Cell;
use super::confine::{Bound, confine};

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// What the kernel sends when the launcher is gone.
    pub(super) on_launcher_death: Signal,
}

/// A running process and its group. Dropping it kills both.
pub(super) struct Child {
    process: std::process::Child,
    pid: Pid,
    started: Instant,
    buried: bool,
    confinement: Option<Confinement>,
    cell: Option<Cell>,
}

/// What bounds the memory of a child.
#[derive(Debug)]
pub(super) enum Fence {
    /// Nothing.
    None,
    /// A cgroup of its own.
    Cell(Cell),
    /// Its own limit, in bytes.
    Data(u64),
}

/// The memory cgroup of a child, and how many it had killed when the child was seen in it.
struct Confinement {
    group: MemoryGroup,
    kills: u64,
}

/// The reading ends of what a child says.
pub(super) struct Output {
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

// === impl Child ===

impl Child {
    /// Starts the program. The calling thread must live as long as the child should: the kernel's death signal
    /// follows the thread and not the process. Must be called on a runtime.
    pub(super) fn spawn(program: &Program, fence: Fence) -> io::Result<(Self, Output)> {
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let bound = match &fence {
            Fence::None => Bound::None,
            Fence::Cell(cell) => Bound::Cgroup(cell.door()),
            Fence::Data(bytes) => Bound::Data(*bytes),
        };
        confine(&mut command, program.on_launcher_death, &bound)?;
        let mut process = command.spawn()?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("Linux process ids are below 2^22"));
        // From here an early return drops the child, which kills it.
        let cell = match fence {
            Fence::Cell(cell) => Some(cell),
            Fence::None | Fence::Data(_) => None,
        };
        let confinement = cell.as_ref().and_then(|cell| Confinement::of(cell.memory()?));
        let child = Self { process, pid, started: Instant::now(), buried: false, confinement, cell };
        let output = Output { stdout: receiver(stdout)?, stderr: receiver(stderr)? };
        Ok((child, output))
    }

    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    /// How long it has been running.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sends a signal to the child and to what it started.
    pub(super) fn signal(&self, signal: Signal) {
        // The group exists as long as the child is not buried, dead or alive; so there is nothing to report.
        let _sent = killpg(self.pid, signal);
    }

    /// If the child is dead, kills what is left of its group, buries it, and says how it died.
    pub(super) fn bury_if_dead(&mut self) -> io::Result<Option<DeathCause>> {
        // Looked at before it is reaped: as long as the dead child is not reaped, its group's number is taken, and
        // the kill cannot reach a stranger.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(None),
            Ok(_dead) => self.bury().map(Some),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks whether the child has a memory cgroup that is not ours. A dead child is in none any more, in the first
    /// version of cgroups; so it is looked for while it lives.
    pub(super) fn look_at_memory(&mut self, ours: Option<&MemoryGroup>) {
        if self.confinement.is_none()
            && let Some(group) = MemoryGroup::of(self.pid.as_raw())
            && Some(&group) != ours
        {
            self.confinement = Confinement::of(group);
        }
    }

    /// The cgroup that was made for it, once it is buried: to be cleared of what it has left.
    pub(super) fn take_cell(&mut self) -> Option<Cell> {
        self.cell.take()
    }

    pub(super) const fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// The memory cgroup that it was seen in.
    pub(super) fn memory_group(&self) -> Option<&MemoryGroup> {
        self.confinement.as_ref().map(|confinement| &confinement.group)
    }

    /// Whether the kernel has killed a process of its memory cgroup since it was seen there.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let is_over = |one: &Confinement| one.group.kills().is_some_and(|kills| kills > one.kills);
        self.confinement.as_ref().is_some_and(is_over)
    }

    /// Gives up on a child that the kernel does not let die; init buries it after us.
    pub(super) fn abandon(mut self) {
        self.buried = true;
    }

    fn bury(&mut self) -> io::Result<DeathCause> {
        self.signal(Signal::SIGKILL);
        let status = self.process.wait()?;
        self.buried = true;
        Ok(cause_of(status))
    }
}

impl Confinement {
    fn of(group: MemoryGroup) -> Option<Self> {
        group.kills().map(|kills| Self { group, kills })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.buried {
            // What cannot be reaped even by init is the kernel's; nobody is left to be told.
            let _buried = self.bury();
        }
    }
}

fn receiver(pipe: Option<impl Into<OwnedFd>>) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(pipe.expect("both outputs are piped").into())
}

fn cause_of(status: ExitStatus) -> DeathCause {
    match (status.signal(), status.code()) {
        (Some(signal), _) => DeathCause::Signal(signal),
        (None, Some(code)) => DeathCause::Exit(code),
        (None, None) => DeathCause::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sys::signal::kill;
    use tokio::sync::Notify;

    use super::super::journal::for_each_line;
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn shell(script: &str, on_launcher_death: Signal) -> Program {
        let arguments = ["-c", script].map(OsString::from).to_vec();
        Program { path: "/bin/sh".into(), arguments, on_launcher_death }
    }

    async fn until(mut condition: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < DEADLINE, "the condition did not come true in {DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn first_pid(stdout: pipe::Receiver) -> Pid {
        let mut lines = Vec::new();
        for_each_line(stdout, &Notify::new(), |line| lines.push(line.to_owned())).await;
        Pid::from_raw(lines[0].parse().unwrap())
    }

    async fn buried(child: &mut Child) -> DeathCause {
        let mut cause = None;
        until(|| {
            cause = child.bury_if_dead().unwrap();
            cause.is_some()
        })
        .await;
        cause.unwrap()
    }

    /// Gone, or a zombie that init has not looked at yet.
    fn is_dead(pid: Pid) -> bool {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
            Err(_) => true,
        }
    }

    #[tokio::test]
    async fn a_child_that_exits_takes_what_it_started_with_it() {
        let script = "sleep 1000 >/dev/null 2>&1 & echo $!; exit 3";
        let (mut child, output) = Child::spawn(&shell(script, Signal::SIGKILL), Fence::None).unwrap();
        let grandchild = first_pid(output.stdout).await;
        assert!(!is_dead(grandchild));
        assert_eq!(buried(&mut child).await, DeathCause::Exit(3));
        until(|| is_dead(grandchild)).await;
    }

    #[tokio::test]
    async fn the_cause_of_a_death_is_told() {
        let (mut child, _output) =
            Child::spawn(&shell("exec sleep 1000", Signal::SIGKILL), Fence::None).unwrap();
        assert_eq!(child.bury_if_dead().unwrap(), None);
        kill(child.pid(), Signal::SIGSEGV).unwrap();
        assert_eq!(buried(&mut child).await, DeathCause::Signal(11));
    }

    #[tokio::test]
    async fn a_child_dies_with_the_thread_that_started_it() {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let runtime = tokio::runtime::Handle::current();
            let launcher = thread::spawn(move || {
                let _entered = runtime.enter();
                Child::spawn(&shell("exec sleep 1000", signal), Fence::None).unwrap()
            });
            let (mut child, _output) = launcher.join().unwrap();
            assert_eq!(buried(&mut child).await, DeathCause::Signal(signal as i32));
        }
    }

    #[tokio::test]
    async fn a_child_that_is_dropped_is_gone() {
        let (child, _output) = Child::spawn(&shell("exec sleep 1000", Signal::SIGKILL), Fence::None).unwrap();
        let pid = child.pid();
        drop(child);
        assert!(is_dead(pid));
    }

    #[tokio::test]
    async fn a_child_without_a_cgroup_is_bounded_in_memory_of_its_own() {
        let limit = 64 << 20;
        let (mut child, output) =
            Child::spawn(&shell("ulimit -d", Signal::SIGKILL), Fence::Data(limit)).unwrap();
        let kilobytes = first_pid(output.stdout).await.as_raw();
        assert_eq!(u64::try_from(kilobytes).unwrap() * 1_024, limit);
        assert_eq!(buried(&mut child).await, DeathCause::Exit(0));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_and_no_child() {
        let nowhere = Program { path: "/nowhere".into(), ..shell("", Signal::SIGKILL) };
        assert_eq!(Child::spawn(&nowhere, Fence::None).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
