//! The lease word of a block: generation and holders, changed together by one atomic operation.

use std::fmt;

use super::rules::Rules;
use crate::slot::{Generation, SLOTS, Slot};

/// Bits of a word that name the generation; the others name the holders.
pub const GENERATION_BITS: u32 = 24;

/// Bits 63 to 40: the generation's low bits. Bits 39 to 0: the holders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(u64);

/// The part of a generation that fits in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GenerationTag(u64);

/// A set of slots: who holds a block.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct HolderMask(u64);

const MASK: u64 = (1 << SLOTS) - 1;

const _: () = assert!(SLOTS + GENERATION_BITS as usize == 64, "generation and holders fill the word exactly");

// === impl Word ===

impl Word {
    /// A word as it stands in shared memory. Every number is a word.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// A word of these parts.
    #[must_use]
    pub const fn new(generation: GenerationTag, holders: HolderMask) -> Self {
        Self(generation.0 << SLOTS | holders.0)
    }

    /// The word as it stands in shared memory.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Which content the block has, as far as the word can say.
    #[must_use]
    pub const fn generation(self) -> GenerationTag {
        GenerationTag(self.0 >> SLOTS)
    }

    /// Who holds the block.
    #[must_use]
    pub const fn holders(self) -> HolderMask {
        HolderMask(self.0 & MASK)
    }

    /// The same content with one holder more.
    #[must_use]
    pub const fn held_by(self, slot: Slot) -> Self {
        Self(self.0 | slot.bit())
    }
}

// === impl GenerationTag ===

impl GenerationTag {
    /// The generation's low bits, as many as the rules use.
    #[must_use]
    pub const fn of<R: Rules>(generation: Generation) -> Self {
        const { assert!(R::GENERATION_BITS <= GENERATION_BITS) };
        Self(generation.0 & ((1 << R::GENERATION_BITS) - 1))
    }
}

// === impl HolderMask ===

impl HolderMask {
    /// Nobody: the block is free.
    pub const NOBODY: Self = Self(0);

    /// One holder.
    #[must_use]
    pub const fn only(slot: Slot) -> Self {
        Self(slot.bit())
    }

    /// Whether the slot is among the holders.
    #[must_use]
    pub const fn contains(self, slot: Slot) -> bool {
        self.0 & slot.bit() != 0
    }

    /// Whether nobody holds the block.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many hold the block.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The holders in either mask.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The holders, in slot order.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        Slot::all().filter(move |&slot| self.contains(slot))
    }
}

impl fmt::Debug for HolderMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::rules::Sound;

    fn slots(numbers: &[u8]) -> HolderMask {
        let one = |&number: &u8| HolderMask::only(Slot::new(number).expect("a slot of this test"));
        numbers.iter().map(one).fold(HolderMask::NOBODY, HolderMask::union)
    }

    #[test]
    fn word_keeps_its_two_parts_apart() {
        #[rustfmt::skip]
        let rows: [(u64, &[u8], u64); 6] = [
            (0,           &[],      0),
            (1,           &[],      0x0000_0100_0000_0000),
            (1,           &[0],     0x0000_0100_0000_0001),
            (0,           &[39],    0x0000_0080_0000_0000),
            (0xff_ffff,   &[0, 39], 0xffff_ff80_0000_0001),
            (0x0100_0002, &[7],     0x0000_0200_0000_0080),
        ];
        for (generation, holders, bits) in rows {
            let tag = GenerationTag::of::<Sound>(Generation(generation));
            let word = Word::new(tag, slots(holders));
            assert_eq!(word.bits(), bits, "generation {generation:#x}, holders {holders:?}");
            assert_eq!((word.generation(), word.holders()), (tag, slots(holders)));
            assert_eq!(word.holders().iter().map(Slot::number).collect::<Vec<_>>(), holders);
        }
    }

    #[test]
    fn generations_one_lap_apart_have_the_same_tag() {
        let lap = 1 << GENERATION_BITS;
        for generation in [0, 1, 77, lap - 1] {
            let (old, new) = (Generation(generation), Generation(generation + lap));
            assert_eq!(GenerationTag::of::<Sound>(old), GenerationTag::of::<Sound>(new));
        }
    }
}
