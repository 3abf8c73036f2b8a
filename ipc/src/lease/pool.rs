//! One process's leases on the blocks of one frame pool.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::PoisonError;

use super::cells::BlockCells;
use super::reap;
use super::rules::{Rules, Sound};
use super::sync::{Mutex, MutexGuard, Ordering};
use super::word::{GenerationTag, HolderMask, Word};
use crate::slot::{BlockIndex, Generation, Slot};

/// What one process holds of one frame pool: for each block, how many reasons it has to need it. The reasons are
/// counted here, in the process's own heap; others see one bit, which is set while there is any reason.
///
/// One per process and pool, used from any thread. Dropping it gives nothing back, as killing the process would not:
/// that is the reaper's work.
#[derive(Debug)]
pub struct PoolLeases<C: BlockCells, R: Rules = Sound> {
    me: Slot,
    cells: C,
    own: Mutex<Own>,
    rules: PhantomData<fn() -> R>,
}

/// A block taken for new content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocated {
    /// The block, held once.
    pub block: BlockIndex,
    /// Its new content's generation.
    pub generation: Generation,
}

/// Why a block was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AcceptError {
    /// The frame is lost.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Shared memory contradicts this process's own books.
    #[error(transparent)]
    Corrupt(#[from] BitWithoutCount),
}

/// A frame is lost: its sender is dead, or its descriptor malformed. Counted, and otherwise not an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejected {
    /// The pool has no such block.
    #[error("block {} does not exist: the pool has {blocks}", block.0)]
    NoSuchBlock {
        /// The block named.
        block: BlockIndex,
        /// Blocks in the pool.
        blocks: u32,
    },
    /// Nobody held the block any more.
    #[error("block {} is free: whoever sent it let go before it was accepted", block.0)]
    Free {
        /// The block named.
        block: BlockIndex,
    },
    /// The block has other content by now.
    #[error("block {} no longer has generation {}", block.0, generation.0)]
    OtherGeneration {
        /// The block named.
        block: BlockIndex,
        /// The content named.
        generation: Generation,
    },
    /// The block has other content by now, whose generation looks the same in the word.
    #[error("block {} has generation {} and not {}, a lap of the word's counter away", block.0, stamp.0, generation.0)]
    StaleStamp {
        /// The block named.
        block: BlockIndex,
        /// The content named.
        generation: Generation,
        /// The content found.
        stamp: Generation,
    },
    /// This process cannot count one more reason.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
}

/// A block has as many handles and messages in flight as can be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("block {} is held {} times, the most that can be counted", block.0, u32::MAX)]
pub struct CountOverflow {
    /// The block.
    pub block: BlockIndex,
}

/// Our bit was set on a block that we do not hold. Only a wild write, or another process in our slot, does that: end
/// this process, for none of its leases can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("block {} bears the bit of slot {slot}, which does not hold it: the lease words are damaged", block.0)]
pub struct BitWithoutCount {
    /// The block.
    pub block: BlockIndex,
    /// Our slot.
    pub slot: Slot,
}

/// The private side of a pool's leases.
#[derive(Debug)]
struct Own {
    blocks: Vec<Held>,
    /// For a range of candidates, by its first block: where the search for a free block goes on.
    resume: Vec<u32>,
    held: u32,
    stolen: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    count: u32,
    /// What `count` refers to; for a producer's block also, when `count` is 0, the last generation it gave out.
    generation: Generation,
}

// === impl PoolLeases ===

impl<C: BlockCells> PoolLeases<C> {
    /// The leases of the process in slot `me`, which holds nothing yet.
    pub fn new(me: Slot, cells: C) -> Self {
        Self::under_rules(me, cells)
    }
}

impl<C: BlockCells, R: Rules> PoolLeases<C, R> {
    /// As [`PoolLeases::new`], under rules other than [`Sound`].
    pub fn under_rules(me: Slot, cells: C) -> Self {
        let own = Mutex::new(Own::of(cells.blocks()));
        Self { me, cells, own, rules: PhantomData }
    }

    /// The pool's shared cells.
    pub fn cells(&self) -> &C {
        &self.cells
    }

    /// Takes a free block among the candidates for new content, and holds it once. None if all are in use:
    /// [`Self::holders`] names who might let one go.
    ///
    /// Only the pool's producer may call this (W1), and only for new pools, whose cells are zero: it counts
    /// generations from 0.
    ///
    /// # Panics
    /// A candidate is outside the pool.
    pub fn allocate(&self, candidates: Range<u32>) -> Option<Allocated> {
        assert!(candidates.end <= self.cells.blocks(), "candidates {candidates:?} are blocks of the pool");
        if candidates.is_empty() {
            return None;
        }
        let mut own = self.lock();
        let search = BlockIndex(candidates.start);
        let from = own.resume[index(search)].clamp(candidates.start, candidates.end);
        for block in (from..candidates.end).chain(candidates.start..from).map(BlockIndex) {
            if let Some(generation) = self.take_if_free(&mut own, block) {
                own.resume[index(search)] = block.0 + 1;
                return Some(Allocated { block, generation });
            }
        }
        None
    }

    /// Holds a block that a message names: sets the own bit, or, if this process holds the block already, counts one
    /// more reason. Nothing changes when it fails.
    ///
    /// # Errors
    /// The block's content is not, or no longer, the one that is meant; or the lease words are damaged.
    pub fn accept(&self, block: BlockIndex, generation: Generation) -> Result<(), AcceptError> {
        let blocks = self.cells.blocks();
        if block.0 >= blocks {
            return Err(Rejected::NoSuchBlock { block, blocks }.into());
        }
        let mut own = self.lock();
        let held = own.blocks[index(block)];
        if held.count == 0 {
            self.set_own_bit(block, generation)?;
            self.check_stamp(&mut own, block, generation)?;
            own.begin(block, generation);
            return Ok(());
        }
        if held.generation != generation {
            return Err(Rejected::OtherGeneration { block, generation }.into());
        }
        Ok(own.add(block).map_err(Rejected::from)?)
    }

    /// Counts one more reason to hold a block: another handle, or a message in flight.
    ///
    /// # Errors
    /// It cannot be counted.
    ///
    /// # Panics
    /// This process does not hold the block.
    pub fn retain(&self, block: BlockIndex) -> Result<(), CountOverflow> {
        self.lock().add(block)
    }

    /// Drops one reason to hold a block, and with the last one the own bit. All reads of the block come before it.
    ///
    /// # Panics
    /// This process does not hold the block.
    pub fn release(&self, block: BlockIndex) {
        let mut own = self.lock();
        if !own.drop_one(block) {
            return;
        }
        if R::COUNT_AND_BIT_TOGETHER {
            self.clear_own_bit(&mut own, block);
        } else {
            drop(own);
            let mut own = self.lock();
            self.clear_own_bit(&mut own, block);
        }
    }

    /// Who holds a block: for a producer without a free block, whom to ask. A hint, old when it is read.
    pub fn holders(&self, block: BlockIndex) -> HolderMask {
        Word::from_bits(self.cells.word(block).load(Ordering::Relaxed)).holders()
    }

    /// Whether anybody holds a block with this content: as old as [`Self::holders`] when it is read. A generation that has
    /// wrapped round is taken for the one that is meant.
    pub fn is_held_as(&self, block: BlockIndex, generation: Generation) -> bool {
        let word = Word::from_bits(self.cells.word(block).load(Ordering::Relaxed));
        word.generation() == GenerationTag::of::<R>(generation) && !word.holders().is_empty()
    }

    /// How many blocks this process holds. While it is not 0 the pool must stay mapped.
    pub fn held(&self) -> u32 {
        self.lock().held
    }

    /// Whether nobody holds any block. It stays so if the producer is dead (W2), and then the pool may be destroyed.
    pub fn is_idle(&self) -> bool {
        reap::is_idle(&self.cells)
    }

    /// How often our bit was found cleared by somebody else while we held a block: 0, unless shared memory was damaged
    /// or this process was reaped alive. Such a block's content may have changed under its readers.
    pub fn stolen_bits(&self) -> u64 {
        self.lock().stolen
    }

    /// A panic under this lock is one of our own assertions, all of which come before the first change: what a
    /// poisoned lock guards is whole.
    fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_if_free(&self, own: &mut Own, block: BlockIndex) -> Option<Generation> {
        let held = own.blocks[index(block)];
        if held.count > 0 {
            return None;
        }
        let word = self.cells.word(block);
        let seen = word.load(Ordering::Relaxed);
        if !Word::from_bits(seen).holders().is_empty() {
            return None;
        }
        let generation = Generation(held.generation.0 + 1);
        let taken = Word::new(GenerationTag::of::<R>(generation), HolderMask::only(self.me));
        word.compare_exchange(seen, taken.bits(), R::ALLOCATE_ORDER, Ordering::Relaxed).ok()?;
        // Killed here, the own bit is reaped, and nobody has heard of this generation.
        self.cells.stamp(block).store(generation.0, Ordering::Relaxed);
        own.begin(block, generation);
        Some(generation)
    }

    /// W2 and W3: check and set are one operation, else the block could change hands between them.
    fn set_own_bit(&self, block: BlockIndex, generation: Generation) -> Result<(), AcceptError> {
        let word = self.cells.word(block);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let next = self.with_own_bit(Word::from_bits(seen), block, generation)?;
            match word.compare_exchange_weak(seen, next.bits(), R::ACCEPT_ORDER, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(found) => seen = found,
            }
        }
    }

    fn with_own_bit(
        &self,
        seen: Word,
        block: BlockIndex,
        generation: Generation,
    ) -> Result<Word, AcceptError> {
        if R::ACCEPT_CHECKS_GENERATION && seen.generation() != GenerationTag::of::<R>(generation) {
            return Err(Rejected::OtherGeneration { block, generation }.into());
        }
        if R::ACCEPT_REFUSES_FREE && seen.holders().is_empty() {
            return Err(Rejected::Free { block }.into());
        }
        if seen.holders().contains(self.me) {
            return Err(BitWithoutCount { block, slot: self.me }.into());
        }
        Ok(seen.held_by(self.me))
    }

    /// Comes after the own bit is set: from then on the stamp stands still.
    fn check_stamp(&self, own: &mut Own, block: BlockIndex, generation: Generation) -> Result<(), Rejected> {
        let stamp = Generation(self.cells.stamp(block).load(Ordering::Relaxed));
        if R::ACCEPT_CHECKS_STAMP && stamp != generation {
            self.clear_own_bit(own, block);
            return Err(Rejected::StaleStamp { block, generation, stamp });
        }
        Ok(())
    }

    fn clear_own_bit(&self, own: &mut Own, block: BlockIndex) {
        let seen = self.cells.word(block).fetch_and(!self.me.bit(), R::CLEAR_ORDER);
        if !Word::from_bits(seen).holders().contains(self.me) {
            own.stolen += 1;
        }
    }
}

// === impl Own ===

impl Own {
    fn of(blocks: u32) -> Self {
        let free = Held { count: 0, generation: Generation(0) };
        let resume = (0..blocks).collect();
        Self { blocks: vec![free; index(BlockIndex(blocks))], resume, held: 0, stolen: 0 }
    }

    fn begin(&mut self, block: BlockIndex, generation: Generation) {
        self.blocks[index(block)] = Held { count: 1, generation };
        self.held += 1;
    }

    fn add(&mut self, block: BlockIndex) -> Result<(), CountOverflow> {
        let count = &mut self.blocks[index(block)].count;
        assert!(*count > 0, "block {} is held when one more reason is counted", block.0);
        *count = count.checked_add(1).ok_or(CountOverflow { block })?;
        Ok(())
    }

    /// Whether it was the last reason.
    fn drop_one(&mut self, block: BlockIndex) -> bool {
        let count = &mut self.blocks[index(block)].count;
        assert!(*count > 0, "block {} is held when it is released", block.0);
        *count -= 1;
        let last = *count == 0;
        self.held -= u32::from(last);
        last
    }
}

const fn index(block: BlockIndex) -> usize {
    const { assert!(usize::BITS >= u32::BITS) };
    block.0 as usize
}
