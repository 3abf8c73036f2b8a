//! Where the shared words live: mapped memory in production, plain vectors in tests.

use std::sync::Arc;

use super::sync::{AtomicU32, AtomicU64};
use crate::slot::{BlockIndex, Slot};

/// The shared cells of one frame pool. A block outside `0..blocks()` is a bug of the caller: implementors panic.
pub trait BlockCells: Send + Sync {
    /// How many blocks the pool has.
    fn blocks(&self) -> u32;

    /// The block's [`super::word::Word`]. Changed by read-modify-write only.
    fn word(&self, block: BlockIndex) -> &AtomicU64;

    /// All 64 bits of the block's generation. Written by the producer; mapped read-only by everybody else.
    fn stamp(&self, block: BlockIndex) -> &AtomicU64;
}

/// The shared cells of a domain.
pub trait DomainCells: Send + Sync {
    /// The slot's [`super::state::SlotState`]. Written by the gateway.
    fn state(&self, slot: Slot) -> &AtomicU32;

    /// The last message of `sender` that `receiver` has dealt with, as an [`super::ack::Ack`]. Written by `receiver`.
    fn ack(&self, receiver: Slot, sender: Slot) -> &AtomicU64;
}

impl<C: BlockCells> BlockCells for Arc<C> {
    fn blocks(&self) -> u32 {
        C::blocks(self)
    }

    fn word(&self, block: BlockIndex) -> &AtomicU64 {
        C::word(self, block)
    }

    fn stamp(&self, block: BlockIndex) -> &AtomicU64 {
        C::stamp(self, block)
    }
}

impl<D: DomainCells> DomainCells for Arc<D> {
    fn state(&self, slot: Slot) -> &AtomicU32 {
        D::state(self, slot)
    }

    fn ack(&self, receiver: Slot, sender: Slot) -> &AtomicU64 {
        D::ack(self, receiver, sender)
    }
}
