//! The burial of dead processes' transport: nodes, ports, and what they left half-made.
//!
//! iceoryx2 cleans up after dead nodes, with two gaps that tests with thousands of kills have shown. Its clean-up
//! waits without end for a connection that a process died making, before the file had a size; and what a process
//! leaves that died while its node was made is never removed. So a [`Cleaner`] works on a thread of its own, with a
//! second that removes such connections under it, and at last removes by name whatever the dead have left.
//!
//! A third gap is the file that describes a link, whose name is no id. Who lets go of the link last removes it, and where
//! that is decided while an end dies, it may be nobody. So some seconds after a burial, descriptions are removed of links
//! that are not there any more.
//!
//! Only the dead are touched that were given to [`Cleaner::bury`]: whether a file is theirs is told by the ids in its
//! name. Connections of which the other end lives are theirs too: the living end has mapped what it needs.
//!
//! When the gateway dies here, its successor has another prefix and calls [`remove_domain`] for this one.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use iceoryx2::config::Config;
use iceoryx2::node::NodeView;
use iceoryx2::prelude::{CallbackProgression, Node, NodeState, ipc_threadsafe};

use crate::link::{Burial, LinkError, Origin, Territory, TransportConfig, contained, remove};

/// Buries dead processes, one cleaner in a domain, the gateway's.
#[derive(Debug)]
pub struct Cleaner {
    graveyard: Arc<Graveyard>,
    threads: Vec<JoinHandle<()>>,
}

/// What the two threads share.
#[derive(Debug)]
struct Graveyard {
    settings: Config,
    files: Territory,
    dead: Mutex<Dead>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Dead {
    waiting: Vec<Burial>,
    under_way: Vec<Burial>,
    /// When it is to be looked for descriptions of links that are not there any more.
    descriptions_due: Option<Instant>,
    closed: bool,
    threads_ended: usize,
}

/// Most processes that wait to be buried. More than can die between two passes, as there are 40 slots; so many wait
/// only when the cleaner hangs. The oldest is then left to [`remove_domain`].
const MOST_WAITING: usize = 1024;

/// How long after the latest burial it is looked for what describes a link that is not there. A living process is not
/// given so long to make one.
const MOURNING: Duration = Duration::from_secs(5);

/// How often iceoryx2's clean-up is tried before its files are removed by name alone. It fails while half-made files
/// are in its way, and they are removed between the tries.
const TRIES: usize = 3;

/// How long a clean-up waits for its turn: iceoryx2 does one at a time in a process, whatever the domain.
const TURN: Duration = Duration::from_secs(1);

/// How long the watchdog lets a half-made connection hold up the cleaner.
const WATCH: Duration = Duration::from_millis(50);

/// How long a drop waits for the threads. A thread that hangs in iceoryx2 is left to the end of the process.
const FAREWELL: Duration = Duration::from_secs(2);

/// Every file and directory there is of a domain, those of living processes too.
///
/// # Errors
/// A directory could not be read.
pub fn residue(config: &TransportConfig) -> io::Result<Vec<PathBuf>> {
    Territory::of(config).files()
}

/// Removes every file of a domain in which no process lives any more: at a gateway's clean exit, and for a dead
/// predecessor's prefix. A process that does live keeps what it has mapped, and can make no new links.
///
/// # Errors
/// The configuration names no domain, or a file could not be removed.
pub fn remove_domain(config: &TransportConfig) -> Result<(), LinkError> {
    // An unusable prefix would mark files of others: "" marks every name that begins with an underscore.
    config.settings()?;
    Territory::of(config).remove().map_err(LinkError::Residue)
}

// === impl Cleaner ===

impl Cleaner {
    /// Starts the cleaner and its watchdog.
    ///
    /// # Errors
    /// The configuration cannot be used, or a thread did not start.
    pub fn new(config: &TransportConfig) -> Result<Self, LinkError> {
        let graveyard = Arc::new(Graveyard {
            settings: config.settings()?,
            files: Territory::of(config),
            dead: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut cleaner = Self { graveyard, threads: Vec::new() };
        cleaner.start("link-cleaner", Graveyard::clean)?;
        cleaner.start("link-watchdog", Graveyard::watch)?;
        Ok(cleaner)
    }

    /// Has the process's nodes, ports and files removed, soon. It must be dead for certain: reaped, or its pidfd
    /// fired; and what it sent must have been received as far as it shall be, by ends that had not settled yet.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub fn bury(&self, pid: u32) -> Result<(), LinkError> {
        let burial = Burial::now(pid).map_err(LinkError::Residue)?;
        let mut dead = self.graveyard.lock();
        if dead.waiting.len() == MOST_WAITING {
            let left = dead.waiting.remove(0);
            tracing::error!(pid = left.pid(), "cleaner_overrun");
        }
        dead.waiting.push(burial);
        dead.descriptions_due = Some(Instant::now() + MOURNING);
        self.graveyard.changed.notify_all();
        Ok(())
    }

    /// Waits until everybody given to [`Self::bury`] is buried; false if they are not by the deadline.
    #[must_use]
    pub fn idle(&self, deadline: Instant) -> bool {
        let buried = |dead: &Dead| dead.waiting.is_empty() && dead.under_way.is_empty();
        self.graveyard.wait_until(deadline, buried)
    }

    fn start(&mut self, name: &str, work: impl FnOnce(&Graveyard) + Send + 'static) -> Result<(), LinkError> {
        let graveyard = Arc::clone(&self.graveyard);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            work(&graveyard);
            graveyard.lock().threads_ended += 1;
            graveyard.changed.notify_all();
        });
        self.threads.push(thread.map_err(LinkError::Residue)?);
        Ok(())
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.graveyard.lock().closed = true;
        self.graveyard.changed.notify_all();
        let threads = self.threads.len();
        if self.graveyard.wait_until(Instant::now() + FAREWELL, |dead| dead.threads_ended == threads) {
            for thread in mem::take(&mut self.threads) {
                // Its panic, if any, was reported by the panic hook.
                let _panic = thread.join();
            }
        } else {
            tracing::error!("cleaner_hangs");
        }
    }
}

// === impl Graveyard ===

impl Graveyard {
    /// The cleaner's thread.
    fn clean(&self) {
        while let Some(dead) = self.next() {
            if !dead.is_empty() {
                self.bury(&dead);
                self.lock().under_way.clear();
                self.changed.notify_all();
            }
            // Each time, for where processes keep dying there is no later.
            self.lock().descriptions_due.take_if(|due| *due <= Instant::now());
            self.remove_all(self.files.descriptions_without_links(MOURNING));
        }
    }

    /// The watchdog's thread: frees the cleaner when it waits for what nobody will finish.
    fn watch(&self) {
        loop {
            let dead = self.lock();
            let dead = self.changed.wait_while(dead, |dead| !dead.closed && dead.under_way.is_empty());
            let dead = dead.unwrap_or_else(PoisonError::into_inner);
            if dead.under_way.is_empty() {
                return;
            }
            let under_way = dead.under_way.clone();
            drop(dead);
            self.remove_all(self.files.connections_of_dead(&under_way));
            self.wait_until(Instant::now() + WATCH, |dead| dead.under_way != under_way);
        }
    }

    /// Those to be buried now, nobody if it is only time to look after those who were; none when the cleaner is dropped.
    fn next(&self) -> Option<Vec<Burial>> {
        let dead = self.lock();
        let is_idle = |dead: &mut Dead| !dead.closed && dead.waiting.is_empty();
        let mut dead = match dead.descriptions_due {
            Some(due) => {
                let left = due.saturating_duration_since(Instant::now());
                let waited = self.changed.wait_timeout_while(dead, left, is_idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait_while(dead, is_idle).unwrap_or_else(PoisonError::into_inner),
        };
        if dead.closed {
            return None;
        }
        if dead.waiting.is_empty() {
            return Some(Vec::new());
        }
        dead.under_way = mem::take(&mut dead.waiting);
        self.changed.notify_all();
        Some(dead.under_way.clone())
    }

    /// What the dead shared goes first: no living process needs the file of what it has mapped, and without them there
    /// is nothing half-made to wait for and little to search, for iceoryx2 lists all of `/dev/shm` for every port.
    fn bury(&self, dead: &[Burial]) {
        self.remove_all(self.files.shared_files_of_dead(dead));
        for _try in 0..TRIES {
            match contained("cleaning up", || self.clean_nodes_of(dead)) {
                Ok(true) => break,
                Ok(false) => self.remove_all(self.files.connections_of_dead(dead)),
                Err(error) => tracing::warn!(%error, "cleaner_panicked"),
            }
        }
        self.remove_all(self.files.files_of_dead(dead));
        let pids: Vec<u32> = dead.iter().map(Burial::pid).collect();
        tracing::debug!(?pids, "buried");
    }

    /// Has iceoryx2 clean up the dead nodes of dead processes; false if it could not do so for all. A node without
    /// readable details is left alone: iceoryx2 would look for its traces in its default domain.
    fn clean_nodes_of(&self, dead: &[Burial]) -> bool {
        let mut clean = true;
        let listed = Node::<ipc_threadsafe::Service>::list(&self.settings, |state| {
            if let NodeState::Dead(node) = state {
                let origin = Origin::of_id(node.id().value());
                if node.details().is_some() && dead.iter().any(|burial| burial.covers(origin)) {
                    clean &= node.blocking_remove_stale_resources(TURN).is_ok();
                }
            }
            CallbackProgression::Continue
        });
        clean && listed.is_ok()
    }

    fn remove_all(&self, files: io::Result<Vec<PathBuf>>) {
        match files {
            Ok(files) => {
                for path in files {
                    if let Err(error) = remove(&path) {
                        tracing::warn!(?path, %error, "residue_not_removed");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "residue_not_listed"),
        }
    }

    fn wait_until(&self, deadline: Instant, done: impl Fn(&Dead) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), left, |dead| !done(dead));
        let (_dead, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Dead> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
