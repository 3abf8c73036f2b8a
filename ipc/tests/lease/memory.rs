//! Plain memory in the place of mapped memory, and a process's view of it that ends with the process.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use remotemedia_ipc::lease::word::Word;
use remotemedia_ipc::lease::{BlockCells, DomainCells, HolderMask};
use remotemedia_ipc::slot::{BlockIndex, SLOTS, Slot};

/// A pool of blocks whose payload is one number.
pub(crate) struct Blocks(Vec<Block>);

#[derive(Default)]
struct Block {
    word: AtomicU64,
    stamp: AtomicU64,
    payload: AtomicU64,
}

/// A domain of full size.
pub(crate) struct Domain {
    states: Vec<AtomicU32>,
    acks: Vec<AtomicU64>,
}

/// Shared memory as one process sees it, which may be killed at any access.
pub(crate) struct Mortal<C> {
    pub(crate) cells: Arc<C>,
    pub(crate) life: Arc<Life>,
}

/// How many accesses to shared memory a process has yet to make before it is killed.
pub(crate) struct Life(AtomicU32);

/// What unwinds out of a process that is killed. Its private state must then be dropped, unseen.
pub(crate) struct Killed;

// === impl Blocks ===

impl Blocks {
    pub(crate) fn new(blocks: usize) -> Arc<Self> {
        Arc::new(Self((0..blocks).map(|_| Block::default()).collect()))
    }

    pub(crate) fn write(&self, block: BlockIndex, payload: u64) {
        self.of(block).payload.store(payload, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, block: BlockIndex) -> u64 {
        self.of(block).payload.load(Ordering::Relaxed)
    }

    pub(crate) fn holders(&self) -> Vec<HolderMask> {
        self.0.iter().map(|block| Word::from_bits(block.word.load(Ordering::Relaxed)).holders()).collect()
    }

    fn of(&self, block: BlockIndex) -> &Block {
        &self.0[usize::try_from(block.0).expect("a small number")]
    }
}

impl BlockCells for Blocks {
    fn blocks(&self) -> u32 {
        u32::try_from(self.0.len()).expect("a small number")
    }

    fn word(&self, block: BlockIndex) -> &AtomicU64 {
        &self.of(block).word
    }

    fn stamp(&self, block: BlockIndex) -> &AtomicU64 {
        &self.of(block).stamp
    }
}

// === impl Domain ===

impl Domain {
    pub(crate) fn new() -> Arc<Self> {
        let states = (0..SLOTS).map(|_| AtomicU32::new(0)).collect();
        let acks = (0..SLOTS * SLOTS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { states, acks })
    }
}

impl DomainCells for Domain {
    fn state(&self, slot: Slot) -> &AtomicU32 {
        &self.states[slot.index()]
    }

    fn ack(&self, receiver: Slot, sender: Slot) -> &AtomicU64 {
        &self.acks[receiver.index() * SLOTS + sender.index()]
    }
}

// === impl Mortal ===

impl BlockCells for Mortal<Blocks> {
    fn blocks(&self) -> u32 {
        self.cells.blocks()
    }

    fn word(&self, block: BlockIndex) -> &AtomicU64 {
        self.life.spend();
        self.cells.word(block)
    }

    fn stamp(&self, block: BlockIndex) -> &AtomicU64 {
        self.life.spend();
        self.cells.stamp(block)
    }
}

impl DomainCells for Mortal<Domain> {
    fn state(&self, slot: Slot) -> &AtomicU32 {
        self.life.spend();
        self.cells.state(slot)
    }

    fn ack(&self, receiver: Slot, sender: Slot) -> &AtomicU64 {
        self.life.spend();
        self.cells.ack(receiver, sender)
    }
}

// === impl Life ===

impl Life {
    const ENDLESS: u32 = u32::MAX;

    pub(crate) fn endless() -> Arc<Self> {
        Arc::new(Self(AtomicU32::new(Self::ENDLESS)))
    }

    /// The process is killed instead of its next access but `accesses`.
    pub(crate) fn end_after(&self, accesses: u32) {
        self.0.store(accesses, Ordering::Relaxed);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::ENDLESS
    }

    pub(crate) fn spend(&self) {
        match self.0.load(Ordering::Relaxed) {
            Self::ENDLESS => {}
            0 => resume_unwind(Box::new(Killed)),
            left => self.0.store(left - 1, Ordering::Relaxed),
        }
    }
}
