//! How a frame pool is cut into blocks, and where each block lies in the pool's files.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::slot::BlockIndex;

/// Payloads begin on this boundary, in bytes: one cache line, and what SIMD code and numpy like best.
pub const ALIGNMENT: u64 = 64;

/// Most blocks in one frame pool: their lease words take 4 MiB, and a scan of them stays under a millisecond.
pub const MAX_BLOCKS: u32 = 65_536;

/// Most size classes in one frame pool.
pub const MAX_CLASSES: usize = 16;

/// Most bytes in one block, 1 GiB: sums over [`MAX_BLOCKS`] of them stay far from overflow.
pub const MAX_BLOCK_BYTES: u64 = 1 << 30;

/// Distance between two lease words, in bytes: processes that work on neighbouring blocks share no cache line.
pub(super) const WORD_STRIDE: u64 = 64;

/// Bytes of one generation stamp.
pub(super) const STAMP_BYTES: u64 = 8;

/// What "page aligned" means in the layout of the files, whatever the machine's own pages are.
const PAGE: u64 = 4096;

/// Sizes below the largest that [`Geometry::for_budget`] offers: a 20 ms audio frame, a second of speech, an image.
const SMALLER: [Share; 3] = [
    Share { block_bytes: 4 << 10, least: 4, most: 4096, part_of_spare: 16 },
    Share { block_bytes: 64 << 10, least: 4, most: 4096, part_of_spare: 8 },
    Share { block_bytes: 1 << 20, least: 2, most: 4096, part_of_spare: 4 },
];

/// A pool needs two of its largest blocks to fill one while the other is read.
const LEAST_LARGEST: u32 = 2;

/// Before smaller blocks get a share, there are this many of the largest: a pass-through hop pins one more.
const WANTED_LARGEST: u32 = 4;

/// A frame pool's size classes and all that follows from them. Both sides of a pool compute the same layout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<SizeClass>", into = "Vec<SizeClass>")]
pub struct Geometry {
    classes: Vec<SizeClass>,
    layout: Vec<ClassLayout>,
    blocks: u32,
    payload_file_bytes: u64,
}

/// Blocks of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SizeClass {
    /// Size of each block in bytes; a multiple of [`ALIGNMENT`].
    pub block_bytes: u64,
    /// How many there are.
    pub blocks: u32,
}

/// Size classes that cannot be a frame pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GeometryError {
    /// No class at all, or too many.
    #[error("{classes} size classes: a frame pool has 1 to {MAX_CLASSES}")]
    ClassCount {
        /// How many were given.
        classes: usize,
    },
    /// A block size that cannot be.
    #[error(
        "blocks of {block_bytes} bytes: a block's size is a multiple of {ALIGNMENT}, at most {MAX_BLOCK_BYTES}"
    )]
    BlockBytes {
        /// The size given.
        block_bytes: u64,
    },
    /// A class without blocks.
    #[error("no blocks of {block_bytes} bytes: leave the size class out, or give it a block")]
    EmptyClass {
        /// The class's size.
        block_bytes: u64,
    },
    /// Classes that do not ascend.
    #[error("blocks of {after} bytes listed after {before}: size classes ascend")]
    Order {
        /// The size that came first.
        before: u64,
        /// The size that followed and is not larger.
        after: u64,
    },
    /// More blocks than a pool can have.
    #[error("{blocks} blocks: a frame pool has at most {MAX_BLOCKS}")]
    BlockCount {
        /// How many were asked for.
        blocks: u64,
    },
    /// A budget in which the least useful pool has no room.
    #[error(
        "a budget of {budget_bytes} bytes has no room for blocks of {largest_block}: \
         the smallest that works is {smallest_budget} bytes"
    )]
    Budget {
        /// The budget given.
        budget_bytes: u64,
        /// The largest block asked for, in bytes.
        largest_block: u64,
        /// The smallest budget with which the same call succeeds.
        smallest_budget: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ClassLayout {
    first_block: u32,
    base: u64,
}

/// How a size takes part in a budget: at least, at most, and which part (one in so many) of what is to spare.
#[derive(Clone, Copy)]
struct Share {
    block_bytes: u64,
    least: u32,
    most: u32,
    part_of_spare: u64,
}

// === impl Geometry ===

impl Geometry {
    /// # Errors
    /// The classes do not ascend, are empty, misaligned, or more than a pool may have.
    pub fn new(classes: Vec<SizeClass>) -> Result<Self, GeometryError> {
        let blocks = check(&classes)?;
        let mut offset = page_up(u64::from(blocks) * STAMP_BYTES);
        let mut first_block = 0;
        let mut layout = Vec::with_capacity(classes.len());
        for class in &classes {
            layout.push(ClassLayout { first_block, base: offset });
            offset += page_up(class.bytes());
            first_block += class.blocks;
        }
        Ok(Self { classes, layout, blocks, payload_file_bytes: offset })
    }

    /// A split that suits frames of all sizes up to `largest_block`. Everything that is reserved for the pool
    /// ([`Self::reserved_bytes`]) stays within `budget_bytes`. A `largest_block` that is no multiple of
    /// [`ALIGNMENT`] is rounded up.
    ///
    /// # Errors
    /// The budget has no room for two of the largest and a few small blocks; the error names one that has.
    pub fn for_budget(budget_bytes: u64, largest_block: u64) -> Result<Self, GeometryError> {
        if largest_block == 0 || largest_block > MAX_BLOCK_BYTES {
            return Err(GeometryError::BlockBytes { block_bytes: largest_block });
        }
        let largest_bytes = largest_block.next_multiple_of(ALIGNMENT);
        let smaller = SMALLER.iter().filter(|share| share.block_bytes < largest_bytes);
        let mut classes: Vec<SizeClass> = smaller
            .clone()
            .map(|share| SizeClass { block_bytes: share.block_bytes, blocks: share.least })
            .chain([SizeClass { block_bytes: largest_bytes, blocks: LEAST_LARGEST }])
            .collect();
        let smallest_budget = padding(classes.len()) + classes.iter().map(SizeClass::cost).sum::<u64>();
        let Some(mut spare) = budget_bytes.checked_sub(smallest_budget) else {
            return Err(GeometryError::Budget { budget_bytes, largest_block, smallest_budget });
        };
        let largest = classes.len() - 1;
        spare -= classes[largest].grow(spare, WANTED_LARGEST);
        let to_share = spare;
        for (class, share) in classes.iter_mut().zip(smaller) {
            spare -= class.grow(to_share / share.part_of_spare, share.most);
        }
        let taken: u32 = classes[..largest].iter().map(|class| class.blocks).sum();
        classes[largest].grow(spare, MAX_BLOCKS - taken);
        Self::new(classes)
    }

    /// How many blocks there are, of all sizes.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The size classes, smallest first.
    #[must_use]
    pub fn classes(&self) -> &[SizeClass] {
        &self.classes
    }

    /// Size of the largest blocks, in bytes: no longer payload can be written.
    #[must_use]
    pub fn largest_block(&self) -> u64 {
        self.classes.last().map_or(0, |class| class.block_bytes)
    }

    /// Where to look for a block for `len` bytes: the blocks of the smallest size that fits, then those of the next
    /// larger one. No further, so that a burst of small frames cannot eat the few large blocks.
    pub fn candidates(&self, len: u64) -> impl Iterator<Item = Range<u32>> + '_ {
        let fitting =
            self.classes.iter().zip(&self.layout).filter(move |(class, _)| class.block_bytes >= len);
        fitting.take(2).map(|(class, layout)| layout.first_block..layout.first_block + class.blocks)
    }

    /// Whether the pool has this block. A peer's block number is asked about before it is used.
    #[must_use]
    pub const fn contains(&self, block: BlockIndex) -> bool {
        block.0 < self.blocks
    }

    /// Size of a block in bytes.
    ///
    /// # Panics
    /// There is no such block.
    #[must_use]
    pub fn block_bytes(&self, block: BlockIndex) -> u64 {
        self.class_of(block).0.block_bytes
    }

    /// Where a block begins in the payload file, in bytes.
    ///
    /// # Panics
    /// There is no such block.
    #[must_use]
    pub fn offset(&self, block: BlockIndex) -> u64 {
        let (class, layout) = self.class_of(block);
        layout.base + u64::from(block.0 - layout.first_block) * class.block_bytes
    }

    /// The block that the byte at `offset` of the payload file belongs to, and how far into it; none for the stamps
    /// and the padding between classes.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<(BlockIndex, u64)> {
        let number = self.layout.partition_point(|layout| layout.base <= offset).checked_sub(1)?;
        let (class, layout) = (self.classes[number], self.layout[number]);
        let within = offset - layout.base;
        let nth = u32::try_from(within / class.block_bytes).ok().filter(|nth| *nth < class.blocks)?;
        Some((BlockIndex(layout.first_block + nth), within % class.block_bytes))
    }

    /// Size of the payload file: stamps, then blocks.
    #[must_use]
    pub const fn payload_file_bytes(&self) -> u64 {
        self.payload_file_bytes
    }

    /// Size of the file of lease words: one cache line each.
    #[must_use]
    pub const fn words_file_bytes(&self) -> u64 {
        page_up(self.blocks as u64 * WORD_STRIDE)
    }

    /// What the pool costs in memory, in bytes: both files.
    #[must_use]
    pub const fn reserved_bytes(&self) -> u64 {
        self.payload_file_bytes + self.words_file_bytes()
    }

    fn class_of(&self, block: BlockIndex) -> (SizeClass, ClassLayout) {
        assert!(self.contains(block), "block {} of a frame pool that has {}", block.0, self.blocks);
        let number = self.layout.partition_point(|layout| layout.first_block <= block.0) - 1;
        (self.classes[number], self.layout[number])
    }
}

impl TryFrom<Vec<SizeClass>> for Geometry {
    type Error = GeometryError;

    fn try_from(classes: Vec<SizeClass>) -> Result<Self, GeometryError> {
        Self::new(classes)
    }
}

impl From<Geometry> for Vec<SizeClass> {
    fn from(geometry: Geometry) -> Self {
        geometry.classes
    }
}

// === impl SizeClass ===

impl SizeClass {
    const fn bytes(&self) -> u64 {
        self.block_bytes * self.blocks as u64
    }

    const fn cost_of_one(&self) -> u64 {
        self.block_bytes + WORD_STRIDE + STAMP_BYTES
    }

    const fn cost(&self) -> u64 {
        self.cost_of_one() * self.blocks as u64
    }

    /// Adds blocks for at most `bytes`, up to `most` blocks in all; says what they cost.
    fn grow(&mut self, bytes: u64, most: u32) -> u64 {
        let affordable = bytes / self.cost_of_one();
        let wanted = most.saturating_sub(self.blocks);
        let more = u32::try_from(affordable).map_or(wanted, |affordable| affordable.min(wanted));
        self.blocks += more;
        u64::from(more) * self.cost_of_one()
    }
}

fn check(classes: &[SizeClass]) -> Result<u32, GeometryError> {
    if classes.is_empty() || classes.len() > MAX_CLASSES {
        return Err(GeometryError::ClassCount { classes: classes.len() });
    }
    for &SizeClass { block_bytes, blocks } in classes {
        if block_bytes == 0 || block_bytes % ALIGNMENT != 0 || block_bytes > MAX_BLOCK_BYTES {
            return Err(GeometryError::BlockBytes { block_bytes });
        }
        if blocks == 0 {
            return Err(GeometryError::EmptyClass { block_bytes });
        }
    }
    if let Some(pair) = classes.windows(2).find(|pair| pair[0].block_bytes >= pair[1].block_bytes) {
        return Err(GeometryError::Order { before: pair[0].block_bytes, after: pair[1].block_bytes });
    }
    let blocks = classes.iter().map(|class| u64::from(class.blocks)).sum();
    u32::try_from(blocks)
        .ok()
        .filter(|blocks| *blocks <= MAX_BLOCKS)
        .ok_or(GeometryError::BlockCount { blocks })
}

/// What page alignment can cost at most: once for each class, for the stamps and for the words.
const fn padding(classes: usize) -> u64 {
    (classes as u64 + 2) * PAGE
}

const fn page_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(block_bytes: u64, blocks: u32) -> SizeClass {
        SizeClass { block_bytes, blocks }
    }

    #[test]
    fn blocks_lie_behind_the_stamps_each_class_on_its_own_page() {
        let geometry = Geometry::new(vec![class(64, 3), class(8192, 2)]).unwrap();
        let offsets: Vec<u64> = (0..5).map(|block| geometry.offset(BlockIndex(block))).collect();
        assert_eq!(offsets, [4096, 4160, 4224, 8192, 16384]);
        assert_eq!(geometry.payload_file_bytes(), 24576);
        assert_eq!(geometry.words_file_bytes(), 4096);
        assert_eq!(geometry.block_bytes(BlockIndex(2)), 64);
        assert_eq!(geometry.block_bytes(BlockIndex(3)), 8192);
    }

    #[test]
    fn a_byte_is_traced_back_to_its_block() {
        let geometry = Geometry::new(vec![class(64, 3), class(8192, 2)]).unwrap();
        let rows = [
            (0, None),
            (4095, None),
            (4096, Some((0, 0))),
            (4287, Some((2, 63))),
            (4288, None),
            (8191, None),
            (8192, Some((3, 0))),
            (24575, Some((4, 8191))),
            (24576, None),
            (u64::MAX, None),
        ];
        for (offset, expected) in rows {
            let expected = expected.map(|(block, within)| (BlockIndex(block), within));
            assert_eq!(geometry.at(offset), expected, "byte {offset}");
        }
    }

    #[test]
    fn classes_that_cannot_be_a_pool_are_refused() {
        let rows = [
            (vec![], GeometryError::ClassCount { classes: 0 }),
            (vec![class(64, 1); 17], GeometryError::ClassCount { classes: 17 }),
            (vec![class(0, 1)], GeometryError::BlockBytes { block_bytes: 0 }),
            (vec![class(100, 1)], GeometryError::BlockBytes { block_bytes: 100 }),
            (vec![class(1 << 62, 4)], GeometryError::BlockBytes { block_bytes: 1 << 62 }),
            (vec![class(64, 0)], GeometryError::EmptyClass { block_bytes: 64 }),
            (vec![class(128, 1), class(64, 1)], GeometryError::Order { before: 128, after: 64 }),
            (vec![class(64, 1), class(64, 1)], GeometryError::Order { before: 64, after: 64 }),
            (vec![class(64, MAX_BLOCKS + 1)], GeometryError::BlockCount { blocks: 65_537 }),
            (
                vec![class(64, u32::MAX), class(128, u32::MAX)],
                GeometryError::BlockCount { blocks: 8_589_934_590 },
            ),
        ];
        for (classes, expected) in rows {
            assert_eq!(Geometry::new(classes), Err(expected));
        }
    }

    #[test]
    fn a_frame_may_take_the_next_larger_block_but_no_larger_one() {
        let geometry = Geometry::new(vec![class(64, 2), class(128, 3), class(256, 4)]).unwrap();
        let ranges = |len| geometry.candidates(len).collect::<Vec<_>>();
        assert_eq!(ranges(0), [0..2, 2..5]);
        assert_eq!(ranges(64), [0..2, 2..5]);
        assert_eq!(ranges(65), [2..5, 5..9]);
        assert_eq!(ranges(256), vec![5..9]);
        assert_eq!(ranges(257), Vec::<Range<u32>>::new());
    }

    #[test]
    fn a_budget_is_used_but_never_exceeded() {
        for largest in [1, 4096, 100_000, 6 << 20, 16 << 20] {
            for budget in [64 << 20, 256 << 20, (1 << 30) + 12_345, 4 << 30] {
                let geometry = Geometry::for_budget(budget, largest).unwrap();
                assert!(geometry.reserved_bytes() <= budget, "{budget} for {largest}: {geometry:?}");
                assert!(geometry.largest_block() >= largest);
                let full = geometry.blocks() == MAX_BLOCKS;
                let unused = budget - geometry.reserved_bytes();
                assert!(full || unused <= largest + 64 + 100_000, "{budget} for {largest}: {unused} unused");
            }
        }
    }

    #[test]
    fn the_smallest_budget_named_is_one_that_works() {
        for largest in [64, 4097, 1 << 20, 16 << 20] {
            let Err(GeometryError::Budget { smallest_budget, .. }) = Geometry::for_budget(0, largest) else {
                panic!("a budget of nothing was enough");
            };
            assert!(Geometry::for_budget(smallest_budget, largest).is_ok());
            assert!(Geometry::for_budget(smallest_budget - 1, largest).is_err());
        }
    }

    #[test]
    fn a_peers_impossible_geometry_does_not_decode() {
        let honest = Geometry::new(vec![class(64, 3), class(8192, 2)]).unwrap();
        let bytes = crate::control::codec::encode(&honest).unwrap();
        assert_eq!(crate::control::codec::decode::<Geometry>(&bytes).unwrap(), honest);

        let lie = crate::control::codec::encode(&vec![class(1 << 50, u32::MAX)]).unwrap();
        assert!(crate::control::codec::decode::<Geometry>(&lie).is_err());
    }
}
