//! Workers that have not yet let go of a session that is over: a call of a node there has not come back.
//!
//! A worker answers the close of a session when its nodes are dropped, and so behind the call that one is in. That is
//! the only sign of a node that does not return, and it needs no clock in the worker: what holds the interpreter's lock
//! for ever cannot keep it from being seen. A session that merely waits for a thread is told apart by its worker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use remotemedia_core::frame::SessionId;
use remotemedia_ipc::slot::Member;

/// Who is to let go of which session by when.
#[derive(Debug)]
pub(crate) struct Stragglers {
    due: BTreeMap<(Member, SessionId), Due>,
    grace: Duration,
}

/// When a call that is under way has to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    /// As the client asked.
    pub(crate) asked: Instant,
    /// As the service allows where nothing is asked, if that is later: a client that asks for a moment must not have
    /// workers killed.
    pub(crate) allowed: Instant,
}

/// How late a worker is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Lateness {
    /// Its client waits no more.
    Late,
    /// It should have let go, and may yet.
    Stuck,
    /// Longer than it may.
    Hopeless,
}

/// What the way to a worker and back may take, on a machine that is busy: who needs no longer is not late.
const TOLERANCE: Duration = Duration::from_millis(100);

// === impl Stragglers ===

impl Stragglers {
    /// Nobody, who may be late by `grace`.
    pub(crate) const fn new(grace: Duration) -> Self {
        Self { due: BTreeMap::new(), grace }
    }

    /// A worker was told to let go of a session.
    pub(crate) fn expect(&mut self, member: Member, session: SessionId, due: Due) {
        self.due.insert((member, session), due);
    }

    /// No call of the session is under way there: what is left to do has begun at `now`, and may take `at_most`.
    pub(crate) fn excuse(&mut self, member: Member, session: SessionId, now: Instant, at_most: Duration) {
        if let Some(due) = self.due.get_mut(&(member, session)) {
            *due = Due { asked: now + at_most, allowed: now + at_most };
        }
    }

    /// It has let go, or is dead.
    pub(crate) fn forgive(&mut self, member: Member, session: SessionId) {
        self.due.remove(&(member, session));
    }

    /// The workers that are late.
    pub(crate) fn late(&self, now: Instant) -> BTreeMap<Member, Lateness> {
        let mut late = BTreeMap::new();
        for ((member, _), due) in &self.due {
            if let Some(lateness) = due.lateness(now, self.grace) {
                let worst = late.entry(*member).or_insert(lateness);
                *worst = lateness.max(*worst);
            }
        }
        late
    }
}

// === impl Due ===

impl Due {
    fn lateness(self, now: Instant, grace: Duration) -> Option<Lateness> {
        let is_past = |due: Instant, by: Duration| now >= due + by.max(TOLERANCE);
        if is_past(self.allowed, grace) {
            Some(Lateness::Hopeless)
        } else if is_past(self.allowed, TOLERANCE) {
            Some(Lateness::Stuck)
        } else {
            is_past(self.asked, TOLERANCE).then_some(Lateness::Late)
        }
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_ipc::slot::{Incarnation, Slot};

    use super::*;

    #[test]
    fn who_lets_go_in_time_is_not_late_and_who_does_not_is_hopeless_after_the_grace() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let member = Member { slot: Slot::GATEWAY, incarnation: Incarnation::FIRST };
        let (one, two) = (SessionId(1), SessionId(2));
        let mut stragglers = Stragglers::new(Duration::from_secs(2));
        stragglers.expect(member, one, Due { asked: now, allowed: after(1_000) });
        stragglers.expect(member, two, Due { asked: after(500), allowed: after(5_000) });
        let late = |stragglers: &Stragglers, ms| stragglers.late(after(ms)).get(&member).copied();
        assert_eq!(late(&stragglers, 99), None);
        assert_eq!(late(&stragglers, 100), Some(Lateness::Late));
        assert_eq!(late(&stragglers, 1_100), Some(Lateness::Stuck));
        assert_eq!(late(&stragglers, 2_999), Some(Lateness::Stuck));
        assert_eq!(late(&stragglers, 3_000), Some(Lateness::Hopeless));
        stragglers.forgive(member, one);
        assert_eq!(late(&stragglers, 3_000), Some(Lateness::Late));
        stragglers.excuse(member, two, after(3_000), Duration::from_secs(30));
        assert_eq!(late(&stragglers, 30_000), None);
        assert_eq!(late(&stragglers, 60_000), Some(Lateness::Hopeless));
        stragglers.forgive(member, two);
        assert_eq!(late(&stragglers, 60_000), None);
    }
}
