//! A small process that outlives the launcher, to kill what the launcher's death does not.
//!
//! The kernel kills the launcher's workers with it, and not what these have started; the gateway it asks to stop. The warden
//! holds the reading end of a pipe on which it hears of every process group and cgroup. When the pipe ends and some are
//! left, the launcher was killed, and they are too: the gateway when it has had the time to do as it was asked.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use remotemedia_ipc::death::PidFd;

use super::cell;

/// The command of this program that makes a warden of it.
pub const COMMAND: &str = "warden";

/// The launcher's end. Dropped, it lets the warden go.
#[derive(Debug)]
pub(super) struct Warden {
    program: PathBuf,
    process: Option<Child>,
    /// How long each may live on.
    wards: BTreeMap<Ward, Duration>,
}

/// What is to be killed when the launcher is dead.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ward {
    /// A process group.
    Group(i32),
    /// A cgroup.
    Cell(PathBuf),
}

/// How long a warden may take to end that has nothing left to do.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long the dead may take to leave a cgroup.
const BURIAL: Duration = Duration::from_secs(5);

/// Between two looks at who is dead.
const LOOK_EVERY: Duration = Duration::from_millis(5);

// === impl Warden ===

impl Warden {
    pub(super) const fn new(program: PathBuf) -> Self {
        Self { program, process: None, wards: BTreeMap::new() }
    }

    /// Has it watch over one more, or over the same with another grace. A process group may live on for that long when the
    /// launcher is dead, if its leader does.
    pub(super) fn guard(&mut self, ward: Ward, grace: Duration) {
        let line = order(&ward, grace);
        self.wards.insert(ward, grace);
        self.tell(&line);
    }

    /// This one needs it no more.
    pub(super) fn dismiss(&mut self, ward: &Ward) {
        if self.wards.remove(ward).is_some() {
            self.tell(&format!("-{ward}\n"));
        }
    }

    /// Starts one, if there is none that lives. Without one, all goes on, but for what the launcher's death leaves.
    fn tell(&mut self, line: &str) {
        let heard = self.process.as_mut().is_some_and(|process| write(process, line).is_ok());
        if !heard {
            self.bury();
            self.process = start(&self.program).ok();
            let all: String = self.wards.iter().map(|(ward, grace)| order(ward, *grace)).collect();
            if let Some(process) = &mut self.process {
                // It has died at once: the next word finds out.
                write(process, &all).unwrap_or_default();
            }
        }
    }

    fn bury(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        drop(process.stdin.take());
        let begin = Instant::now();
        while matches!(process.try_wait(), Ok(None)) {
            if begin.elapsed() > FAREWELL {
                // It is ours, and not reaped: the number is still its own.
                process.kill().unwrap_or_default();
            }
            thread::park_timeout(LOOK_EVERY);
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        self.bury();
    }
}

/// In a process group of its own, so that what a terminal sends to the launcher's does not end it.
fn start(program: &Path) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn()
}

fn order(ward: &Ward, grace: Duration) -> String {
    format!("+{} {ward}\n", grace.as_millis())
}

fn write(process: &mut Child, text: &str) -> io::Result<()> {
    process.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(text.as_bytes())
}

/// What the warden does: hears of wards on standard input to its end, and kills those that are left.
pub fn watch() {
    let mut wards = BTreeMap::new();
    for line in io::stdin().lines().map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", order)) => wards.extend(Guarded::read(order)),
            Some(("-", ward)) => drop(wards.remove(&Ward::read(ward))),
            // Nobody says such a thing.
            Some(_) | None => {}
        }
    }
    let begin = Instant::now();
    let (asked, killed): (Vec<_>, Vec<_>) = wards.into_iter().partition(|(_, guarded)| guarded.has_grace());
    killed.iter().for_each(|(ward, _)| ward.kill());
    while !killed.iter().all(|(ward, _)| ward.is_clear()) && begin.elapsed() < BURIAL {
        thread::park_timeout(LOOK_EVERY);
    }
    for (ward, Guarded { grace, leader }) in asked {
        let is_gone = leader.is_none_or(|leader| leader.wait(begin + grace).unwrap_or(true));
        if !is_gone {
            ward.kill();
        }
    }
}

/// What the warden knows of a ward.
struct Guarded {
    grace: Duration,
    /// Of a process group that has a grace: while this one is not dead, the group's number is its own.
    leader: Option<PidFd>,
}

// === impl Guarded ===

impl Guarded {
    fn read(text: &str) -> Option<(Ward, Self)> {
        let (grace, ward) = text.split_once(' ')?;
        let (grace, ward) = (Duration::from_millis(grace.parse().ok()?), Ward::read(ward));
        let leader = match &ward {
            // One that is dead by now needs no guard.
            Ward::Group(group) if !grace.is_zero() => Some(PidFd::open(*group).ok()?),
            Ward::Group(_) | Ward::Cell(_) => None,
        };
        Some((ward, Self { grace, leader }))
    }

    const fn has_grace(&self) -> bool {
        self.leader.is_some()
    }
}

// === impl Ward ===

impl Ward {
    fn read(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Cell(text.into()), Self::Group)
    }

    fn kill(&self) {
        match self {
            // All of it may be dead already.
            Self::Group(group) => killpg(Pid::from_raw(*group), Signal::SIGKILL).unwrap_or_default(),
            // To kill what is in it is to clear it.
            Self::Cell(_) => {}
        }
    }

    fn is_clear(&self) -> bool {
        match self {
            Self::Group(_) => true,
            Self::Cell(dir) => cell::clear(dir),
        }
    }
}

impl std::fmt::Display for Ward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(group) => write!(f, "{group}"),
            Self::Cell(dir) => write!(f, "{}", dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ward_is_read_as_it_is_written() {
        for ward in [Ward::Group(4_711), Ward::Cell("/sys/fs/cgroup/memory/remotemedia-7-rust-1".into())] {
            assert_eq!(Ward::read(&ward.to_string()), ward);
            let order = order(&ward, Duration::ZERO);
            let (read, guarded) = Guarded::read(order.trim_end().strip_prefix('+').unwrap()).unwrap();
            assert_eq!((read, guarded.has_grace()), (ward, false));
        }
        let ours = Ward::Group(std::process::id().cast_signed());
        let order = order(&ours, Duration::from_millis(1_500));
        let (read, guarded) = Guarded::read(order.trim_end().strip_prefix('+').unwrap()).unwrap();
        assert_eq!((read, guarded.has_grace(), guarded.grace.as_millis()), (ours, true, 1_500));
    }
}
