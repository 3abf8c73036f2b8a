//! The phases of the process's life, told to everything that has to end in order.

use std::time::Duration;

use tokio::sync::watch;

/// How far the process is in its life. Phases are only ever left forwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Calls are taken.
    Serving,
    /// No new calls; what runs may finish.
    Draining,
    /// What still runs is told that the service goes away.
    Ending,
    /// Connections are cut.
    Over,
}

/// Moves the process through its phases.
#[derive(Debug)]
pub struct Life(watch::Sender<Phase>);

/// Sees the phases.
#[derive(Clone, Debug)]
pub struct LifeWatch(watch::Receiver<Phase>);

// === impl Life ===

impl Life {
    /// Between being told of the end and being cut off: enough for a status to reach a client that reads.
    pub const LAST_WORDS: Duration = Duration::from_secs(1);

    /// A process that serves.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    /// For those who have to know.
    #[must_use]
    pub fn watch(&self) -> LifeWatch {
        LifeWatch(self.0.subscribe())
    }

    /// Goes on to `phase`, unless life is further already.
    pub fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forwards = *now < phase;
            *now = phase.max(*now);
            forwards
        });
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

// === impl LifeWatch ===

impl LifeWatch {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits for `phase` or a later one. Without anybody left to move it, life is over.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.0.clone();
        let _gone = phases.wait_for(|now| *now >= phase).await;
    }
}
