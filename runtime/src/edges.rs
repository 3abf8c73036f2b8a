//! Which edges between processes are in use, and in which epoch of each.

use std::collections::BTreeMap;

use remotemedia_ipc::memory::domain::EDGES;
use remotemedia_ipc::plane::EdgeRef;
use remotemedia_ipc::slot::Member;

/// The domain's credit cells, given out to sessions.
#[derive(Debug)]
pub(crate) struct Edges {
    free: Vec<EdgeRef>,
    /// Edges in use from one process to another.
    in_use: BTreeMap<(Member, Member), usize>,
    /// So many that all their credits fit into one link.
    per_link: usize,
}

/// An edge between two processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lane {
    pub(crate) edge: EdgeRef,
    pub(crate) from: Member,
    pub(crate) to: Member,
}

impl Edges {
    /// Every edge has a window of frames and one flush under way at most.
    pub(crate) fn new(link_capacity: usize, window: u32) -> Self {
        let cost = usize::try_from(window).unwrap_or(usize::MAX).saturating_add(1);
        Self {
            free: (0..EDGES).rev().map(|index| EdgeRef { index, epoch: 1 }).collect(),
            in_use: BTreeMap::new(),
            per_link: link_capacity / cost,
        }
    }

    /// An edge, or none if the link could not carry its credit, or all cells are in use.
    pub(crate) fn take(&mut self, from: Member, to: Member) -> Option<Lane> {
        let used = self.in_use.entry((from, to)).or_default();
        if *used >= self.per_link {
            return None;
        }
        let edge = self.free.pop()?;
        *used += 1;
        Some(Lane { edge, from, to })
    }

    /// Gives an edge back: both its ends have let go of it, or are dead.
    pub(crate) fn give_back(&mut self, lane: Lane) {
        if let Some(used) = self.in_use.get_mut(&(lane.from, lane.to)) {
            *used -= 1;
            if *used == 0 {
                self.in_use.remove(&(lane.from, lane.to));
            }
        }
        let EdgeRef { index, epoch } = lane.edge;
        self.free.push(EdgeRef { index, epoch: epoch.wrapping_add(1) });
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_ipc::slot::{Incarnation, Slot};

    use super::*;

    fn member(slot: u8) -> Member {
        Member { slot: Slot::new(slot).unwrap(), incarnation: Incarnation::FIRST }
    }

    #[test]
    fn a_link_never_carries_more_credit_than_it_holds() {
        let mut edges = Edges::new(12, 3);
        let lanes: Vec<Lane> = (0..3).map(|_| edges.take(member(0), member(1)).unwrap()).collect();
        assert_eq!(edges.take(member(0), member(1)), None, "a fourth would be 16 descriptors of 12");
        assert!(edges.take(member(1), member(0)).is_some(), "the other way is another link");
        edges.give_back(lanes[0]);
        assert!(edges.take(member(0), member(1)).is_some());
    }

    #[test]
    fn an_edge_used_again_is_in_another_epoch() {
        let mut edges = Edges::new(100, 3);
        let first = edges.take(member(0), member(1)).unwrap();
        edges.give_back(first);
        let again = edges.take(member(0), member(1)).unwrap();
        assert_eq!(again.edge.index, first.edge.index);
        assert_ne!(again.edge.epoch, first.edge.epoch);
    }
}
