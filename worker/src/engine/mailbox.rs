//! What node threads leave for the I/O thread.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use remotemedia_core::frame::StageId;
use remotemedia_ipc::control::messages::StageReply;
use remotemedia_ipc::guest::Waker;

/// What node threads leave for the I/O thread of one membership. A stage leaves at most one reply of each sort, one for
/// each time that it is rewired, and has at most one stall an input that is not answered: so much it can hold, and no more.
#[derive(Debug)]
pub(super) struct Mailbox {
    notes: Mutex<VecDeque<Note>>,
    waker: Waker,
}

/// One thing for the I/O thread to do. Names stages and does not hold them: an unread mailbox keeps nothing alive.
#[derive(Debug)]
pub(super) enum Note {
    /// To be told to the gateway.
    Reply(StageReply),
    /// A lane waits for credit: look for it.
    Stalled {
        /// The stage.
        stage: StageId,
        /// By place in the stage's lanes.
        lane: usize,
    },
}

// === impl Mailbox ===

impl Mailbox {
    pub(super) const fn new(waker: Waker) -> Self {
        Self { notes: Mutex::new(VecDeque::new()), waker }
    }

    /// Leaves a note, and wakes the I/O thread for it.
    pub(super) fn leave(&self, note: Note) {
        self.notes().push_back(note);
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<Note> {
        self.notes().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notes().is_empty()
    }

    fn notes(&self) -> MutexGuard<'_, VecDeque<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
