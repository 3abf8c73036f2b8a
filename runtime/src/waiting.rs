//! Sessions that wait for workers that are still loading.

use std::time::{Duration, Instant};

use remotemedia_core::fault::Fault;
use remotemedia_core::frame::SessionId;
use remotemedia_core::starting::Starting;

use crate::hub::OpenOrder;

/// Sessions that wait for workers that are still loading. Bounded by the number of sessions there may be.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    order: Box<OpenOrder>,
    told: Starting,
    told_at: Instant,
}

/// How often who waits is told, though nothing has changed.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// When a client may try again that did not wait, or waited in vain.
const RETRY_AFTER_MS: u64 = 1_000;

// === impl WaitingRoom ===

impl WaitingRoom {
    /// Has the session wait, and tells its user of what; or answers it, if it waits no longer.
    pub(crate) fn admit(&mut self, order: Box<OpenOrder>, starting: Starting, now: Instant) {
        if now >= order.until {
            order.give_up(starting);
            return;
        }
        order.tell(&starting);
        self.waiting.push(Waiting { order, told: starting, told_at: now });
    }

    /// All of them, to be looked at anew: what there is of workers has changed.
    pub(crate) fn leave(&mut self) -> impl Iterator<Item = Box<OpenOrder>> + use<> {
        std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.order)
    }

    /// Whoever waits for this session waits no longer.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.waiting.retain(|waiting| waiting.order.session != session);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Answers those whose time is over, and tells the others how it goes. `look` says what a session waits for.
    pub(crate) fn look_after(&mut self, now: Instant, look: impl Fn(&OpenOrder, &Starting) -> Starting) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.order.placed.is_closed() {
                continue;
            }
            let starting = look(&waiting.order, &waiting.told);
            if now >= waiting.order.until {
                waiting.order.give_up(starting);
                continue;
            }
            if waiting.told_at + TELL_EVERY <= now || !is_same(&starting, &waiting.told) {
                waiting.order.tell(&starting);
                (waiting.told, waiting.told_at) = (starting, now);
            }
            self.waiting.push(waiting);
        }
    }
}

/// But for the times.
fn is_same(one: &Starting, other: &Starting) -> bool {
    one.workers.len() == other.workers.len()
        && one.workers.iter().zip(&other.workers).all(|(a, b)| (&a.name, &a.step) == (&b.name, &b.step))
}

// === impl OpenOrder ===

impl OpenOrder {
    fn tell(&self, starting: &Starting) {
        if let Some(listener) = &self.listener {
            listener.tell(starting.clone());
        }
    }

    fn give_up(self, starting: Starting) {
        let fault = Fault::Starting { starting, retry_after_ms: RETRY_AFTER_MS };
        // Its user has gone, or hears it.
        drop(self.placed.send(Err(fault)));
    }
}
