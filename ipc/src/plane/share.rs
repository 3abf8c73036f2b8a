//! A fair part of a frame pool: the last blocks of a size are not for those who have many already.
//!
//! Of large blocks a pool has few, and whoever reads nothing, or waits for something, holds some. As long as there are
//! enough, anybody may take them. The last quarter is kept for those who have less than their share, so that one who
//! stands still does not keep others from going on.
//!
//! # Why frames that go in together do not wait for each other in a circle
//!
//! Frames that meet at a node hold their blocks until the last of them is there. If many clients had a first one in, and
//! together all the blocks, no second one would ever come in. So a frame leaves as many blocks free as have to follow it
//! ([`Together`]). Then the last block of a size is only ever in the hands of those whom nobody has to follow, and they
//! come to their end. The last but one is with them, or with somebody whose only follower may have the last; and so on:
//! whoever is in gets what is to follow.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::{Block, NoBlock, Plane, Pool, Prepared};
use crate::descriptor::BlockRef;
use crate::slot::BlockIndex;

/// Blocks of this process's own pool in which frames of one edge lie that are still held by somebody.
#[derive(Debug, Default)]
pub struct Outstanding(VecDeque<BlockRef>);

/// Blocks of this process's own pool in which frames of one client lie, in whichever of its sessions.
#[derive(Debug, Default)]
pub struct Part {
    /// Those included that have come free since they were last looked at.
    blocks: VecDeque<BlockRef>,
    /// So many may be noted before they are looked at again.
    look_at: usize,
}

/// Where a frame stands among those that go in together: none of their blocks come free before all are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Together {
    all: u64,
    to_follow: u64,
}

/// How many blocks a client holds that are large enough for a frame, with that frame, and how many it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverPart {
    /// With the frame, and those that have to follow it.
    pub blocks: u64,
    /// At most.
    pub limit: u64,
}

/// Where a size has more blocks than this, nobody has to be held back: credit and deadlines come first.
const SCARCE: u32 = 64;

impl Outstanding {
    /// Notes what a frame lies in, if that is of this process's own pool.
    pub fn note(&mut self, plane: &Plane, frame: &Prepared) {
        let block = frame.payload();
        if block.is_some() && plane.0.pools.own().is_some_and(|own| own.id() == block.pool()) {
            self.0.push_back(block);
        }
    }

    /// Whether a frame of so many bytes may follow them now.
    pub fn has_room(&mut self, plane: &Plane, bytes: usize) -> bool {
        let Some(own) = plane.0.pools.own() else { return true };
        let Some(class) = own.map().geometry().candidates(bytes as u64).next() else { return true };
        let blocks = class.end - class.start;
        if blocks > SCARCE {
            return true;
        }
        self.0.retain(|block| own.is_out(block));
        let mine = self.0.iter().filter(|block| class.contains(&block.block)).count();
        let (share, kept_back) = ((blocks / 8).max(1), (blocks / 4).max(1));
        mine < share as usize || free(own, class) > kept_back
    }
}

impl Together {
    /// A frame that waits for no other.
    pub const ALONE: Self = Self { all: 1, to_follow: 0 };

    /// One of so many, with so many to follow.
    #[must_use]
    pub const fn new(all: usize, to_follow: usize) -> Self {
        Self { all: all as u64, to_follow: to_follow as u64 }
    }

    /// Whether none of them is in.
    #[must_use]
    pub const fn begins(self) -> bool {
        self.to_follow + 1 >= self.all
    }

    /// Of so many blocks, how many it leaves. Where those are too few for all, the last that have no room do not count:
    /// they may be small.
    fn to_leave(self, blocks: u64) -> u64 {
        self.to_follow.saturating_sub(self.all.saturating_sub(blocks))
    }
}

impl Plane {
    /// Which blocks a payload of so many bytes is for: those who have the same wait for the same.
    #[must_use]
    pub fn size_class(&self, bytes: usize) -> u32 {
        let first = |own: &Arc<Pool>| own.map().geometry().candidates(bytes as u64).next();
        self.0.pools.own().and_then(first).map_or(u32::MAX, |class| class.start)
    }

    /// Lends a block, if one is free and enough are left for what has to follow.
    ///
    /// # Errors
    /// As for [`Self::loan`].
    pub fn loan_together(&self, bytes: usize, together: Together) -> Result<Block, NoBlock> {
        // Taken first, and then counted: of two who take at once neither can overlook the other.
        let block = self.loan(bytes)?;
        let Some(own) = self.0.pools.own() else { return Ok(block) };
        if leaves_enough(own, bytes, together) {
            return Ok(block);
        }
        self.reclaim();
        if leaves_enough(own, bytes, together) { Ok(block) } else { Err(self.all_held(own, bytes)) }
    }
}

impl Part {
    /// Notes a block of this process's own pool.
    pub fn note(&mut self, plane: &Plane, block: &Block) {
        let (Some(own), Some(block)) = (plane.0.pools.own(), block.reference()) else { return };
        self.blocks.push_back(block);
        if self.blocks.len() > self.look_at {
            self.look(own);
        }
    }

    /// Whether a frame of so many bytes may follow, if of the blocks that are large enough so many percent may be held.
    /// One always may, and those that go in together with it.
    ///
    /// # Errors
    /// It may not now.
    pub fn check(
        &mut self,
        plane: &Plane,
        bytes: usize,
        together: Together,
        percent: u8,
    ) -> Result<(), OverPart> {
        let Some(own) = plane.0.pools.own() else { return Ok(()) };
        let geometry = own.map().geometry();
        let Some(first) = geometry.candidates(bytes as u64).next().map(|class| class.start) else {
            return Ok(());
        };
        let large_enough = u64::from(geometry.blocks() - first);
        let limit = (large_enough * u64::from(percent) / 100).max(together.all.min(large_enough));
        let more = 1 + together.to_leave(limit);
        // Where it has so few, nothing has to be counted.
        if self.blocks.len() as u64 + more <= limit {
            return Ok(());
        }
        self.look(own);
        let blocks = self.blocks.iter().filter(|block| block.block >= first).count() as u64 + more;
        if blocks > limit { Err(OverPart { blocks, limit }) } else { Ok(()) }
    }

    fn look(&mut self, own: &Pool) {
        self.blocks.retain(|block| own.is_out(block));
        // Each look at all of them is paid for by as many notes.
        self.look_at = self.blocks.len() * 2 + SCARCE as usize;
    }
}

fn leaves_enough(pool: &Pool, bytes: usize, together: Together) -> bool {
    let candidates = || pool.map().geometry().candidates(bytes as u64).flatten();
    let to_leave = match together {
        Together { to_follow: 0, .. } => 0,
        together => together.to_leave(candidates().count() as u64),
    };
    let is_free = |block: &u32| pool.leases().holders(BlockIndex(*block)).is_empty();
    let free = (0..to_leave).zip(candidates().filter(is_free)).count() as u64;
    free == to_leave
}

fn free(pool: &Pool, class: Range<u32>) -> u32 {
    let is_free = |block: &u32| pool.leases().holders(BlockIndex(*block)).is_empty();
    u32::try_from(class.filter(is_free).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use remotemedia_core::Text;
    use remotemedia_core::frame::Metadata;
    use remotemedia_core::node::Writable as _;

    use super::*;
    use crate::memory::{Domain, Geometry, PoolFiles, ProducerMap, SizeClass};
    use crate::slot::{Incarnation, Member, PoolId, Slot};

    /// A plane whose pool has eight blocks.
    fn plane() -> Plane {
        let me = Member { slot: Slot::new(1).unwrap(), incarnation: Incarnation::FIRST };
        let domain = Domain::create(1).unwrap();
        let plane = Plane::new(me, domain, 16);
        let geometry = Geometry::new(vec![SizeClass { block_bytes: 4096, blocks: 8 }]).unwrap();
        let files = PoolFiles::create(PoolId(1), &geometry).unwrap();
        let map = ProducerMap::map(geometry, &files.words, &files.payload).unwrap();
        plane.add_own_pool(PoolId(1), map);
        plane
    }

    fn frame(plane: &Plane) -> Prepared {
        let mut block = plane.loan(100).unwrap();
        block.bytes_mut().fill(b'x');
        let text = Text::new(Box::new(block).freeze(), "").unwrap().into();
        plane.prepare(&text, &Metadata::new(), None, |plane, bytes| plane.loan(bytes)).unwrap()
    }

    #[test]
    fn the_last_blocks_are_for_those_who_have_few() {
        let plane = plane();
        let (mut greedy, mut modest) = (Outstanding::default(), Outstanding::default());
        let mut held = Vec::new();
        while greedy.has_room(&plane, 100) {
            held.push(frame(&plane));
            greedy.note(&plane, &held[held.len() - 1]);
        }
        assert_eq!(held.len(), 6, "two of eight are kept back");
        assert!(modest.has_room(&plane, 100));
        held.push(frame(&plane));
        modest.note(&plane, &held[6]);
        assert!(!modest.has_room(&plane, 100), "it has its share");
        held.remove(6);
        assert!(modest.has_room(&plane, 100));
        held.truncate(5);
        assert!(greedy.has_room(&plane, 100), "there are enough again");
    }

    #[test]
    fn what_one_client_holds_is_bounded_and_free_again_with_its_blocks() {
        let plane = plane();
        let mut part = Part::default();
        let mut held = Vec::new();
        while part.check(&plane, 100, Together::ALONE, 50).is_ok() {
            held.push(plane.loan(100).unwrap());
            part.note(&plane, &held[held.len() - 1]);
        }
        assert_eq!(held.len(), 4, "half of eight");
        let over = part.check(&plane, 100, Together::ALONE, 50);
        assert_eq!(over, Err(OverPart { blocks: 5, limit: 4 }));
        assert_eq!(Part::default().check(&plane, 100, Together::ALONE, 1), Ok(()), "one always may");
        held.pop();
        assert_eq!(part.check(&plane, 100, Together::ALONE, 50), Ok(()));
        for _ in 0..1_000 {
            part.note(&plane, &plane.loan(100).unwrap());
        }
        assert!(part.blocks.len() < 200, "those that are free are not kept in mind");
    }

    #[test]
    fn what_begins_leaves_room_for_what_has_to_follow() {
        let plane = plane();
        let [first, second, third] = [2, 1, 0].map(|to_follow| Together::new(3, to_follow));
        let mut held = Vec::new();
        while let Ok(block) = plane.loan_together(100, first) {
            held.push(block);
        }
        assert_eq!(held.len(), 6, "two of eight are left for those who are in");
        held.push(plane.loan_together(100, second).unwrap());
        assert!(plane.loan_together(100, second).is_err(), "one has begun to end, and is waited for");
        held.push(plane.loan_together(100, third).unwrap());
        drop(held);
        assert!(plane.loan_together(100, Together::new(20, 19)).is_ok(), "more than there are blocks");

        let mut part = Part::default();
        let mut held = Vec::new();
        while part.check(&plane, 100, first, 50).is_ok() {
            held.push(plane.loan(100).unwrap());
            part.note(&plane, &held[held.len() - 1]);
        }
        assert_eq!(held.len(), 2, "two of its four are left");
        assert!(part.check(&plane, 100, third, 50).is_ok());
        assert!(part.check(&plane, 100, second, 1).is_err(), "who may hold little has one after the other");
        held.truncate(1);
        assert!(part.check(&plane, 100, second, 1).is_ok(), "and that whole");
    }
}
