//! Workers that a gateway has left behind: each is to join the next one, and who does not is not waited for.
//!
//! A gateway kills a worker that does not come back from a call. One that has never joined it, it does not know. Only
//! the launcher knows that there is one more: it has served the gateway before, and lives.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use remotemedia_core::fault::DeathCause;

use super::{GATEWAY, SELF, Supervised, Supervisor};

/// How long a worker that was ready may take to be ready for the next gateway, from the moment that it serves. One that
/// can joins within a second, whatever calls its nodes are in: who needs ten is stopped, or holds what all its threads
/// need. A gateway that had seen it would not wait longer: a call has 5 s by default, and a grace of 2 s.
const REJOINING: Duration = Duration::from_secs(10);

// === impl Supervisor ===

impl Supervisor {
    /// There is another gateway, which has heard whose parent we are: it tells who is ready.
    pub(super) fn expect_all_again(&mut self) {
        let by = Instant::now() + REJOINING;
        for child in self.children.iter_mut().skip(GATEWAY + 1) {
            child.rejoins_by = child.has_been_ready().then_some(by);
        }
    }

    /// Nobody is expected anywhere: there is no gateway, or none that would tell.
    pub(super) fn expect_nobody(&mut self) {
        self.children.iter_mut().for_each(|child| child.rejoins_by = None);
    }

    /// Kills who has not come in time. It is buried and started again as any that has died.
    pub(super) fn end_the_lost(&mut self) {
        if !self.herald.is_heard() {
            return self.expect_nobody();
        }
        let now = Instant::now();
        for child in &mut self.children {
            let is_late = child.rejoins_by.take_if(|by| *by <= now).is_some() && child.has_been_ready();
            let Some(process) = child.process.as_ref().filter(|_| is_late) else { continue };
            let (name, pid) = (&child.name, process.pid());
            let line = format!(
                "{name} (pid {pid}) has not joined the gateway in {} s, as it had the one before: killed",
                REJOINING.as_secs()
            );
            self.journal.line(SELF, &line);
            child.condemned = Some(DeathCause::Hang);
            process.signal(Signal::SIGKILL);
        }
    }
}

// === impl Supervised ===

impl Supervised {
    /// Whether the process that runs has served a gateway, and is not asked to go.
    pub(super) fn has_been_ready(&self) -> bool {
        self.life.running() == Some(true)
    }
}
