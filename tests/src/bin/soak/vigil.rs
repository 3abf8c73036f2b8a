//! When processes died: the moment at which the kernel says so.

use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::AsFd as _;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use remotemedia_ipc::death::PidFd;

use crate::strike::now;

/// A thread of its own that looks at some processes until it is told that it is enough: on the runtime it would wait for
/// its turn behind clients.
#[derive(Debug)]
pub(crate) struct Vigil {
    /// Closed when it is enough.
    enough: PipeWriter,
    watcher: JoinHandle<BTreeMap<u32, Duration>>,
}

// === impl Vigil ===

impl Vigil {
    /// Of those that live now.
    ///
    /// # Panics
    /// The system has no thread or no file descriptor left.
    pub(crate) fn over(pids: impl IntoIterator<Item = u32>) -> Self {
        let (until, enough) = pipe().expect("there are file descriptors left");
        let processes = pids.into_iter().filter_map(|pid| Some((pid, PidFd::open(pid.cast_signed()).ok()?)));
        let processes: BTreeMap<u32, PidFd> = processes.collect();
        let watcher = thread::Builder::new().name("vigil".to_owned()).spawn(move || watch(processes, until));
        Self { enough, watcher: watcher.expect("there is room for a thread") }
    }

    /// When those who are dead now died, by the clock that all processes have.
    ///
    /// # Panics
    /// The watcher did.
    pub(crate) fn end(self) -> BTreeMap<u32, Duration> {
        drop(self.enough);
        self.watcher.join().expect("the watcher does not panic")
    }
}

fn watch(mut processes: BTreeMap<u32, PidFd>, until: PipeReader) -> BTreeMap<u32, Duration> {
    let mut deaths = BTreeMap::new();
    loop {
        let mut fds: Vec<PollFd<'_>> =
            processes.values().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)).collect();
        fds.push(PollFd::new(until.as_fd(), PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return deaths,
        }
        let at = now();
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let is_enough = fds.last().is_some_and(is_ready);
        let dead: Vec<u32> =
            processes.keys().zip(&fds).filter(|(_, fd)| is_ready(fd)).map(|(pid, _)| *pid).collect();
        for pid in dead {
            processes.remove(&pid);
            deaths.insert(pid, at);
        }
        if is_enough {
            return deaths;
        }
    }
}
