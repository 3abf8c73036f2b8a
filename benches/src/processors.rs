//! On which processors the two processes of a hop run.
//!
//! Left to itself the kernel puts some pairs on one processor and some on two, and a wake-up costs several times as
//! much across processors as on one: what is compared must be put alike.

use std::io;
use std::process::Child;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::{BenchError, while_doing};

/// How two processes are put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placement {
    /// Each has a processor of its own: they could run at the same time.
    Apart,
    /// Both share one: a wake-up is a switch.
    Together,
}

/// The two processors that are used, which are one where this process may use no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Processors {
    allowed: CpuSet,
    first: usize,
    second: usize,
}

// === impl Processors ===

impl Processors {
    /// Of those that this process may use, the first two.
    pub(crate) fn find() -> Result<Self, BenchError> {
        let allowed = sched_getaffinity(Pid::this()).map_err(while_placing)?;
        let mut usable = (0..CpuSet::count()).filter(|processor| allowed.is_set(*processor).unwrap_or(false));
        let first = usable.next().ok_or(Errno::EINVAL).map_err(while_placing)?;
        Ok(Self { allowed, first, second: usable.next().unwrap_or(first) })
    }

    /// How two processes can be put on these.
    pub(crate) const fn placements(self) -> &'static [Placement] {
        if self.first == self.second {
            &[Placement::Together]
        } else {
            &[Placement::Apart, Placement::Together]
        }
    }

    /// Lets the main thread of this process run wherever it might before, and what it starts from here on with it.
    pub(crate) fn release(self) -> Result<(), BenchError> {
        sched_setaffinity(Pid::this(), &self.allowed).map_err(while_placing)
    }

    /// Puts the main threads of two processes.
    pub(crate) fn put(self, [one, other]: [Pid; 2], placement: Placement) -> Result<(), BenchError> {
        let others = match placement {
            Placement::Apart => self.second,
            Placement::Together => self.first,
        };
        pin(one, self.first).and_then(|()| pin(other, others)).map_err(while_placing)
    }
}

/// A child's.
pub(crate) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("the kernel's process numbers are below 2^22"))
}

fn pin(process: Pid, processor: usize) -> Result<(), Errno> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(process, &only)
}

fn while_placing(errno: Errno) -> BenchError {
    while_doing("put a process on a processor")(io::Error::from(errno))
}
