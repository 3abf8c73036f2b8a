//! What a node thread is in the middle of, for those who have to know it when the process is dead.

use std::cell::Cell;

use remotemedia_core::frame::StageId;
use remotemedia_core::graph::NodeIndex;
use remotemedia_ipc::calls::Call;
use remotemedia_ipc::plane::Plane;

thread_local! {
    /// This thread's place in the domain's list of calls, if it runs nodes.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Where the calls of one node are entered.
#[derive(Clone, Debug)]
pub(super) struct Logbook {
    plane: Plane,
    stage: StageId,
    node: NodeIndex,
}

/// A call that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    plane: &'a Plane,
    stage: StageId,
    place: usize,
}

/// Gives the calling thread a place of its own. A thread beyond the last place is not known to be in a call.
pub(super) fn take_place(number: usize) {
    PLACE.set(Some(number));
}

// === impl Logbook ===

impl Logbook {
    pub(super) fn new(plane: &Plane, stage: StageId, node: NodeIndex) -> Self {
        Self { plane: plane.clone(), stage, node }
    }

    /// Enters a call of the node, which has been called `earlier` times before; without a sequence, that it is made.
    pub(super) fn enter(&self, sequence: Option<u64>, earlier: u64) -> Option<Entry<'_>> {
        let place = PLACE.get()?;
        let call = Call { stage: self.stage, node: self.node, sequence, earlier };
        self.plane.domain().begin_call(self.plane.me().slot, place, &call);
        Some(Entry { plane: &self.plane, stage: self.stage, place })
    }
}

// === impl Entry ===

impl Entry<'_> {
    /// Says that the node is at work.
    pub(super) fn work(&self) {
        self.plane.domain().note_work(self.plane.me().slot, self.place, self.stage);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.plane.domain().end_call(self.plane.me().slot, self.place);
    }
}
