//! Credit: how many frames of a session may be under way on one edge.
//!
//! Each edge between two processes has a cell in the domain file that only its receiver writes: how many frames it
//! has taken off its queue. The sender compares that with what it has sent. An edge's index is used again by later
//! sessions, so the cell carries the session's epoch too, and says nothing to anybody of another epoch.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::Plane;
use crate::slot::Member;

/// One edge of one session: which cell, and in which epoch of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EdgeRef {
    /// The cell, and how frames are addressed.
    pub index: u32,
    /// Which use of the cell.
    pub epoch: u32,
}

/// The sending end of an edge.
#[derive(Debug)]
pub struct EdgeOut {
    edge: EdgeRef,
    to: Member,
    window: u32,
    sent: AtomicU32,
}

/// The receiving end of an edge. One thread at a time takes frames off it.
#[derive(Debug)]
pub struct EdgeIn {
    edge: EdgeRef,
    from: Member,
    window: u32,
    taken: AtomicU32,
}

// === impl EdgeOut ===

impl EdgeOut {
    /// An edge on which nothing has been sent.
    #[must_use]
    pub const fn new(edge: EdgeRef, to: Member, window: u32) -> Self {
        Self { edge, to, window, sent: AtomicU32::new(0) }
    }

    /// Which edge.
    #[must_use]
    pub const fn edge(&self) -> EdgeRef {
        self.edge
    }

    /// Who receives.
    #[must_use]
    pub const fn to(&self) -> Member {
        self.to
    }

    /// Whether a frame may be sent now.
    #[must_use]
    pub fn has_credit(&self, plane: &Plane) -> bool {
        self.under_way(plane) < self.window
    }

    /// Frames sent and not taken off yet.
    #[must_use]
    pub fn under_way(&self, plane: &Plane) -> u32 {
        let cell = plane.domain().credit(self.edge.index).map_or(0, |cell| cell.load(Ordering::Acquire));
        let [epoch, taken] = unpack(cell);
        let taken = if epoch == self.edge.epoch { taken } else { 0 };
        self.sent.load(Ordering::Relaxed).wrapping_sub(taken)
    }

    /// Counts a frame that was sent.
    pub fn spend(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl EdgeIn ===

impl EdgeIn {
    /// An edge from which nothing has been taken.
    #[must_use]
    pub const fn new(edge: EdgeRef, from: Member, window: u32) -> Self {
        Self { edge, from, window, taken: AtomicU32::new(0) }
    }

    /// Which edge.
    #[must_use]
    pub const fn edge(&self) -> EdgeRef {
        self.edge
    }

    /// Who sends.
    #[must_use]
    pub const fn from(&self) -> Member {
        self.from
    }

    /// Gives a frame's credit back: it is off the queue. Rings the sender each time half the window came free, so
    /// that a sender at the end of its credit always hears of it and others seldom do.
    pub fn give_back(&self, plane: &Plane) {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if let Some(cell) = plane.domain().credit(self.edge.index) {
            give(cell, self.edge.epoch, taken);
        }
        if taken.is_multiple_of((self.window / 2).max(1)) {
            plane.ring(self.from.slot);
        }
    }
}

/// Writes how many were taken, unless the cell is another session's already: who is late has nothing to give.
fn give(cell: &AtomicU64, epoch: u32, taken: u32) {
    let is_ours = |cell: u64| unpack(cell)[0].wrapping_sub(epoch).cast_signed() <= 0;
    let ours = |cell| is_ours(cell).then(|| pack(epoch, taken));
    // Refused where there is nothing to give.
    let _late = cell.fetch_update(Ordering::Release, Ordering::Relaxed, ours);
}

fn pack(epoch: u32, taken: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(taken)
}

fn unpack(cell: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = cell.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_epoch_and_count_apart() {
        for (epoch, taken) in [(0, 0), (1, u32::MAX), (u32::MAX, 1)] {
            assert_eq!(unpack(pack(epoch, taken)), [epoch, taken]);
        }
    }

    #[test]
    fn who_is_late_does_not_write_into_the_cell_of_another() {
        let cell = AtomicU64::new(pack(7, 3));
        let after = |epoch, taken| {
            give(&cell, epoch, taken);
            unpack(cell.load(Ordering::Relaxed))
        };
        assert_eq!(after(6, 9), [7, 3]);
        assert_eq!(after(7, 4), [7, 4]);
        assert_eq!(after(8, 1), [8, 1], "whose the cell is");
        cell.store(pack(u32::MAX, 5), Ordering::Relaxed);
        let after = |epoch, taken| {
            give(&cell, epoch, taken);
            unpack(cell.load(Ordering::Relaxed))
        };
        assert_eq!(after(0, 1), [0, 1], "epochs begin again");
        assert_eq!(after(u32::MAX, 6), [0, 1]);
    }
}
