//! Which calls of nodes a process is in, written where it outlives the process: so that after a death it is known which
//! node died, and on what.
//!
//! Each node thread has a place in the domain file. A call is written there before it begins and taken off when it
//! returns. The process may die at any of these writes: the stage is written last and taken off first, so what is
//! read of the dead is a whole call or none.
//!
//! In the same place a node says that it is at work, which no message could: whoever is in a call sends none. What it
//! has said stays there behind the call, until another says so in the same place.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use remotemedia_core::frame::StageId;
use remotemedia_core::graph::NodeIndex;

use crate::memory::Domain;
use crate::memory::domain::CALLS;
use crate::slot::Slot;

/// A call of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// The stage. Stages are counted from 1.
    pub stage: StageId,
    /// The node, by its place in the pipeline.
    pub node: NodeIndex,
    /// The input that it works on; of a flush, the last. None while the node is made.
    pub sequence: Option<u64>,
    /// Calls of this node in this stage before; none of them while it is made.
    pub earlier: u64,
}

/// Stands for no sequence. A client that counts so far has no next one.
const MAKING: u64 = u64::MAX;

impl Domain {
    /// Says that the process in `slot` begins a call in one of its places.
    pub fn begin_call(&self, slot: Slot, place: usize, call: &Call) {
        let Some([stage, node, sequence, earlier, ..]) = self.call(slot, place) else { return };
        node.store(u64::from(call.node.0), Ordering::Relaxed);
        sequence.store(call.sequence.unwrap_or(MAKING), Ordering::Relaxed);
        earlier.store(call.earlier, Ordering::Relaxed);
        stage.store(call.stage.0, Ordering::Release);
    }

    /// Says that the call in this place is over.
    pub fn end_call(&self, slot: Slot, place: usize) {
        if let Some([stage, ..]) = self.call(slot, place) {
            stage.store(0, Ordering::Release);
        }
    }

    /// Says that a node of this stage is at work in this place.
    pub fn note_work(&self, slot: Slot, place: usize, stage: StageId) {
        let Some([.., worked_for, worked_at]) = self.call(slot, place) else { return };
        worked_at.store(nanoseconds(), Ordering::Relaxed);
        worked_for.store(stage.0, Ordering::Release);
    }

    /// How long ago the process in `slot` last said that a node of this stage is at work; none if it never has, or
    /// others have said so in its places since.
    #[must_use]
    pub fn last_work(&self, slot: Slot, stage: StageId) -> Option<Duration> {
        let worked = |place| {
            let [.., worked_for, worked_at] = self.call(slot, place)?;
            let is_it = worked_for.load(Ordering::Acquire) == stage.0;
            is_it.then(|| worked_at.load(Ordering::Relaxed))
        };
        // It is a process's word: what it says of the future is taken for the present.
        let last = (0..CALLS).filter_map(worked).max()?;
        Some(Duration::from_nanos(nanoseconds().saturating_sub(last)))
    }

    /// The calls that the process in `slot` is in, or was when it died.
    #[must_use]
    pub fn calls(&self, slot: Slot) -> Vec<Call> {
        let read = |place| {
            let [stage, node, sequence, earlier, ..] = self.call(slot, place)?;
            let stage = stage.load(Ordering::Acquire);
            // It is a process's word about itself: a node that does not exist is looked for in vain.
            let node = NodeIndex(u16::try_from(node.load(Ordering::Relaxed)).ok()?);
            (stage != 0).then(|| Call {
                stage: StageId(stage),
                node,
                sequence: Some(sequence.load(Ordering::Relaxed)).filter(|sequence| *sequence != MAKING),
                earlier: earlier.load(Ordering::Relaxed),
            })
        };
        (0..CALLS).filter_map(read).collect()
    }

    /// Takes off what a dead process left, before its slot is used again.
    pub(crate) fn forget_calls(&self, slot: Slot) {
        for [stage, .., worked_for, _] in (0..CALLS).filter_map(|place| self.call(slot, place)) {
            stage.store(0, Ordering::Release);
            worked_for.store(0, Ordering::Release);
        }
    }
}

/// Of the clock that all processes of a machine have in common.
fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.ok().and_then(|now| u64::try_from(now.as_nanos()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_was_in_when_it_died_is_read_whole_until_its_slot_is_used_again() {
        let gateway = Domain::create(1).unwrap();
        let worker = Domain::map(gateway.fd().try_clone_to_owned().unwrap()).unwrap();
        let (slot, other) = (Slot::new(3).unwrap(), Slot::new(4).unwrap());
        let call = |stage, sequence| Call {
            stage: StageId(stage),
            node: NodeIndex(2),
            sequence: Some(sequence),
            earlier: 9,
        };
        worker.begin_call(slot, 0, &call(7, 40));
        worker.begin_call(slot, 5, &call(8, 41));
        let making = Call { sequence: None, earlier: 0, ..call(9, 0) };
        worker.begin_call(slot, 6, &making);
        worker.end_call(slot, 0);
        assert_eq!(gateway.calls(slot), [call(8, 41), making]);
        worker.end_call(slot, 6);
        assert_eq!(gateway.calls(other), []);
        worker.begin_call(slot, CALLS, &call(9, 42));
        assert_eq!(gateway.calls(slot), [call(8, 41)], "there is no such place");
        gateway.forget_calls(slot);
        assert_eq!(gateway.calls(slot), []);
    }

    #[test]
    fn what_a_node_says_of_its_work_is_read_beside_and_behind_its_call_and_not_by_other_sessions() {
        let gateway = Domain::create(1).unwrap();
        let worker = Domain::map(gateway.fd().try_clone_to_owned().unwrap()).unwrap();
        let slot = Slot::new(3).unwrap();
        let mine = StageId(7);
        let call = Call { stage: mine, node: NodeIndex(2), sequence: Some(1), earlier: 0 };
        worker.begin_call(slot, 0, &call);
        assert_eq!(gateway.last_work(slot, mine), None);
        worker.note_work(slot, 0, mine);
        worker.note_work(slot, 5, StageId(8));
        worker.end_call(slot, 0);
        assert!(gateway.last_work(slot, mine).unwrap() < Duration::from_secs(60));
        worker.note_work(slot, CALLS, StageId(9));
        assert_eq!(gateway.last_work(slot, StageId(9)), None, "there is no such place");
        let [.., worked_at] = worker.call(slot, 0).unwrap();
        worked_at.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(gateway.last_work(slot, mine), Some(Duration::ZERO), "it speaks of the future");
        gateway.forget_calls(slot);
        assert_eq!(gateway.last_work(slot, mine), None);
    }
}
