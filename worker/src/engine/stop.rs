//! How a worker is asked to stop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

/// Whether the worker has been asked to stop. Once asked, always asked; who asks again does not want it to finish what it
/// does.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    urged: AtomicBool,
    change: Mutex<()>,
    signal: Condvar,
}

/// How long the call that a node is in may keep the process. It cannot be interrupted, and its session is lost anyway.
const GRACE: Duration = Duration::from_secs(1);

/// Between two looks of one who waits for nothing else.
const FOREVER: Duration = Duration::from_secs(3_600);

// === impl Stop ===

impl Stop {
    /// SIGTERM and SIGINT ask from now on. Before any other thread starts, for threads inherit that they are not
    /// interrupted by them. The threads that listen live as long as the process, and end it if the rest of it has
    /// not ended within `drain` and [`GRACE`] of being asked, or within that of being asked again.
    ///
    /// # Errors
    /// The system has no thread left, or does not know these signals.
    pub(crate) fn on_signals(drain: Duration) -> io::Result<Arc<Self>> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block()?;
        let stop = Arc::new(Self::default());
        let [first, again] = [Arc::clone(&stop), Arc::clone(&stop)];
        thread::Builder::new().name("last-word".to_owned()).spawn(move || {
            while !first.wait(FOREVER) {}
            end_after(drain + GRACE);
        })?;
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in 0..2 {
                let signal = signals.wait();
                tracing::info!(?signal, "worker_stopping");
                again.ask();
            }
            end_after(GRACE);
        })?;
        Ok(stop)
    }

    /// Whether it was asked more than once.
    #[must_use]
    pub fn is_urged(&self) -> bool {
        self.urged.load(Ordering::Relaxed)
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits, but not longer than this and not once asked. Says whether it was asked.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.signal.wait_timeout_while(change, at_most, |()| !self.is_asked());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.is_asked()
    }

    /// Asks it to stop.
    pub fn ask(&self) {
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if self.asked.swap(true, Ordering::Relaxed) {
            self.urged.store(true, Ordering::Relaxed);
        }
        drop(change);
        self.signal.notify_all();
    }
}

/// Ends the process, unless it has ended by then.
fn end_after(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
    tracing::warn!(waited_ms = time.as_millis(), "worker_stopped_in_the_midst_of_a_call");
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_urges() {
        let stop = Stop::default();
        stop.ask();
        assert!(stop.is_asked() && !stop.is_urged());
        stop.ask();
        assert!(stop.is_urged());
    }

    #[test]
    fn who_waits_is_released_by_the_asking_and_nobody_waits_after_it() {
        let stop = Arc::new(Stop::default());
        assert!(!stop.wait(Duration::from_millis(1)));
        let asked = Arc::clone(&stop);
        let asking = thread::spawn(move || asked.ask());
        let began = Instant::now();
        assert!(stop.wait(Duration::from_secs(10)));
        assert!(stop.wait(Duration::from_secs(10)));
        assert!(began.elapsed() < Duration::from_secs(10));
        asking.join().unwrap();
    }
}
