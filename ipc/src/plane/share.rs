//! A fair part of a frame pool: the last blocks of a size are not for those who have many already.
//!
//! Of large blocks a pool has few, and whoever reads nothing, or waits for something, holds some. As long as there are
//! enough, anybody may take them. The last quarter is kept for those who have less than their share, so that one who
//! stands still does not keep others from going on.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Plane, Pool, Prepared};
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

/// How many blocks a client holds that are large enough for a frame, with that frame, and how many it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverPart {
    /// With the frame.
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

impl Part {
    /// Notes what a frame lies in, if that is of this process's own pool.
    pub fn note(&mut self, plane: &Plane, frame: &Prepared) {
        let block = frame.payload();
        let Some(own) = plane.0.pools.own().filter(|own| own.id() == block.pool()) else { return };
        if block.is_some() {
            self.blocks.push_back(block);
        }
        if self.blocks.len() > self.look_at {
            self.look(own);
        }
    }

    /// Whether a frame of so many bytes may follow, if of the blocks that are large enough so many percent may be held.
    /// One always may.
    ///
    /// # Errors
    /// It may not now.
    pub fn check(&mut self, plane: &Plane, bytes: usize, percent: u8) -> Result<(), OverPart> {
        let Some(own) = plane.0.pools.own() else { return Ok(()) };
        let geometry = own.map().geometry();
        let Some(first) = geometry.candidates(bytes as u64).next().map(|class| class.start) else {
            return Ok(());
        };
        let limit = (u64::from(geometry.blocks() - first) * u64::from(percent) / 100).max(1);
        // Where it has fewer, nothing has to be counted.
        if (self.blocks.len() as u64) < limit {
            return Ok(());
        }
        self.look(own);
        let blocks = self.blocks.iter().filter(|block| block.block >= first).count() as u64 + 1;
        if blocks > limit { Err(OverPart { blocks, limit }) } else { Ok(()) }
    }

    fn look(&mut self, own: &Pool) {
        self.blocks.retain(|block| own.is_out(block));
        // Each look at all of them is paid for by as many notes.
        self.look_at = self.blocks.len() * 2 + SCARCE as usize;
    }
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
        while part.check(&plane, 100, 50).is_ok() {
            held.push(frame(&plane));
            part.note(&plane, &held[held.len() - 1]);
        }
        assert_eq!(held.len(), 4, "half of eight");
        assert_eq!(part.check(&plane, 100, 50), Err(OverPart { blocks: 5, limit: 4 }));
        assert_eq!(Part::default().check(&plane, 100, 1), Ok(()), "one always may");
        held.pop();
        assert_eq!(part.check(&plane, 100, 50), Ok(()));
        for _ in 0..1_000 {
            part.note(&plane, &frame(&plane));
        }
        assert!(part.blocks.len() < 200, "those that are free are not kept in mind");
    }
}
