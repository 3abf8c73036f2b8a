//! The threads that run nodes, and the queue they take sessions from.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::Around;
use super::logbook;
use super::session::SessionCell;

/// The node threads. Dropping it joins them, after the calls of nodes that they are in.
#[derive(Debug)]
pub(super) struct Crew {
    roster: Arc<Roster>,
    threads: Vec<JoinHandle<()>>,
}

/// Sessions with something to do. A session is in it at most once, so its bound is the number of sessions.
#[derive(Debug, Default)]
pub(super) struct Roster {
    ready: Mutex<Ready>,
    signal: Condvar,
}

#[derive(Debug, Default)]
struct Ready {
    sessions: VecDeque<Arc<SessionCell>>,
    over: bool,
}

// === impl Crew ===

impl Crew {
    /// Starts the threads, each of which works within `around`.
    ///
    /// # Errors
    /// The system has none left.
    pub(super) fn start(threads: usize, around: &Arc<Around>) -> io::Result<Self> {
        let mut crew = Self { roster: Arc::default(), threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let (roster, around) = (Arc::clone(&crew.roster), Arc::clone(around));
            let thread = thread::Builder::new().name(format!("nodes-{number}"));
            crew.threads.push(thread.spawn(move || {
                let _fuse = Fuse;
                logbook::take_place(number);
                around(&mut || work(&roster));
            })?);
        }
        Ok(crew)
    }

    pub(super) const fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.roster.end();
        for thread in self.threads.drain(..) {
            // A thread that panicked has aborted the process.
            drop(thread.join());
        }
    }
}

// === impl Roster ===

impl Roster {
    /// Has a node thread run the session soon. For the session itself, which knows whether it is in the queue already.
    pub(super) fn schedule(&self, session: Arc<SessionCell>) {
        self.ready().sessions.push_back(session);
        self.signal.notify_one();
    }

    fn next(&self) -> Option<Arc<SessionCell>> {
        let mut ready = self.ready();
        loop {
            if ready.over {
                return None;
            }
            if let Some(session) = ready.sessions.pop_front() {
                return Some(session);
            }
            ready = self.signal.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self) {
        self.ready().over = true;
        self.signal.notify_all();
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(roster: &Roster) {
    while let Some(session) = roster.next() {
        session.run();
    }
}

/// Node code panics behind a wall. A panic that comes here is our own, and its session in a state that nobody knows:
/// the process ends, and the gateway tells all its sessions so.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
