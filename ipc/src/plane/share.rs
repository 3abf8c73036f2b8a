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
}
