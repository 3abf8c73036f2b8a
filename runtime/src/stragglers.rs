//! Workers that have not yet let go of a stage that is over: a call of a node there has not come back.
//!
//! A worker answers the close of a stage when its nodes are dropped, and so behind the call that one is in. That is
//! the only sign of a node that does not return, and it needs no clock in the worker: what holds the interpreter's lock
//! for ever cannot keep it from being seen. A stage that merely waits for a thread is told apart by its worker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use remotemedia_core::frame::StageId;
use remotemedia_ipc::slot::Member;

/// Who is to let go of which stage by when.
#[derive(Debug)]
pub(crate) struct Stragglers {
    due: BTreeMap<(Member, StageId), Due>,
    grace: Duration,
    /// By how much a node that says that it is at work puts it off.
    renewal: Duration,
}

/// When a call that is under way has to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    /// As the client asked.
    pub(crate) asked: Instant,
    /// As the service allows where nothing is asked, if that is later: a client that asks for a moment must not have
    /// workers killed.
    pub(crate) allowed: Instant,
    /// As the service allows at most, if the node says that it is at work.
    pub(crate) longest: Instant,
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
    /// Nobody, who may be late by `grace`, and has another `renewal` whenever it says that it is at work.
    pub(crate) const fn new(grace: Duration, renewal: Duration) -> Self {
        Self { due: BTreeMap::new(), grace, renewal }
    }

    /// A worker was told to let go of a stage.
    pub(crate) fn expect(&mut self, member: Member, stage: StageId, due: Due) {
        self.due.insert((member, stage), due);
    }

    /// No call of the stage is under way there: what is left to do has begun at `now`, and may take `at_most`.
    pub(crate) fn excuse(&mut self, member: Member, stage: StageId, now: Instant, at_most: Duration) {
        if let Some(due) = self.due.get_mut(&(member, stage)) {
            *due = Due { asked: now + at_most, allowed: now + at_most, longest: now + at_most };
        }
    }

    /// It has let go, or is dead.
    pub(crate) fn forgive(&mut self, member: Member, stage: StageId) {
        self.due.remove(&(member, stage));
    }

    /// The workers that are late. `last_work` says when one last said that it is at work on a stage.
    pub(crate) fn late(
        &self,
        now: Instant,
        last_work: impl Fn(Member, StageId) -> Option<Instant>,
    ) -> BTreeMap<Member, Lateness> {
        let mut late = BTreeMap::new();
        for ((member, stage), due) in &self.due {
            let renewed = || last_work(*member, *stage).map(|at| at + self.renewal);
            if let Some(lateness) = due.lateness(now, self.grace, renewed) {
                let worst = late.entry(*member).or_insert(lateness);
                *worst = lateness.max(*worst);
            }
        }
        late
    }
}

// === impl Due ===

impl Due {
    fn lateness(
        self,
        now: Instant,
        grace: Duration,
        renewed: impl FnOnce() -> Option<Instant>,
    ) -> Option<Lateness> {
        let is_past = |due: Instant, by: Duration| now >= due + by.max(TOLERANCE);
        if !is_past(self.asked, TOLERANCE) {
            return None;
        }
        let allowed = renewed().map_or(self.allowed, |at| self.allowed.max(at.min(self.longest)));
        if is_past(allowed, grace) {
            Some(Lateness::Hopeless)
        } else if is_past(allowed, TOLERANCE) {
            Some(Lateness::Stuck)
        } else {
            Some(Lateness::Late)
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
        let (one, two) = (StageId(1), StageId(2));
        let mut stragglers = Stragglers::new(Duration::from_secs(2), Duration::from_secs(5));
        let due = |asked, allowed| Due { asked, allowed, longest: after(30_000) };
        stragglers.expect(member, one, due(now, after(1_000)));
        stragglers.expect(member, two, due(after(500), after(5_000)));
        let late =
            |stragglers: &Stragglers, ms| stragglers.late(after(ms), |_, _| None).get(&member).copied();
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

    #[test]
    fn who_says_that_it_is_at_work_is_late_and_not_stuck_until_it_is_silent_or_has_had_the_longest_time() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let member = Member { slot: Slot::GATEWAY, incarnation: Incarnation::FIRST };
        let mut stragglers = Stragglers::new(Duration::from_secs(2), Duration::from_secs(5));
        let due = Due { asked: now, allowed: after(1_000), longest: after(20_000) };
        stragglers.expect(member, StageId(1), due);
        let late = |ms, worked| stragglers.late(after(ms), |_, _| Some(after(worked))).get(&member).copied();
        assert_eq!(late(1_100, 900), Some(Lateness::Late));
        assert_eq!(late(5_900, 900), Some(Lateness::Late));
        assert_eq!(late(6_000, 900), Some(Lateness::Stuck));
        assert_eq!(late(7_900, 900), Some(Lateness::Hopeless));
        assert_eq!(late(20_000, 19_900), Some(Lateness::Late));
        assert_eq!(late(20_100, 20_000), Some(Lateness::Stuck));
    }
}
