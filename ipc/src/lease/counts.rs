//! The blocks of one message, and the books in which a process counts them.

use super::pool::CountOverflow;
use crate::descriptor::{BlockRef, Descriptor};

/// A process's books over all frame pools that it has mapped: usually a [`super::pool::PoolLeases`] for each, found by
/// the reference's pool. A pool stays in the books while it has blocks held.
pub trait Counts {
    /// Why a reference was not accepted.
    type Refusal;

    /// Holds a block that a message names. A known pool that is not mapped yet is mapped first.
    ///
    /// # Errors
    /// The block is not held. Unknown pools, blocks and ranges are refusals, never panics: a peer wrote them.
    fn accept(&self, reference: &BlockRef) -> Result<(), Self::Refusal>;

    /// Counts one more reason to hold a block that is held.
    ///
    /// # Errors
    /// It cannot be counted.
    fn retain(&self, reference: &BlockRef) -> Result<(), CountOverflow>;

    /// Drops one reason to hold a block.
    fn release(&self, reference: &BlockRef);
}

/// The blocks that one message names: all of them are held, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct References {
    /// The payload.
    pub payload: BlockRef,
    /// Variable metadata.
    pub metadata: BlockRef,
}

// === impl References ===

impl References {
    /// No block: the message is a fence (see [`super::flight::Flight::send`]).
    pub const NONE: Self = Self { payload: BlockRef::NONE, metadata: BlockRef::NONE };

    /// Those of a descriptor.
    #[must_use]
    pub const fn of(descriptor: &Descriptor) -> Self {
        Self { payload: descriptor.payload, metadata: descriptor.metadata }
    }

    /// Whether no block is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.payload.is_some() && !self.metadata.is_some()
    }

    /// The blocks named; the same one twice if payload and metadata share it.
    pub fn iter(&self) -> impl Iterator<Item = &BlockRef> {
        [&self.payload, &self.metadata].into_iter().filter(|reference| reference.is_some())
    }

    /// Accepts every block, or none.
    pub(super) fn accept<K: Counts>(&self, counts: &K) -> Result<(), K::Refusal> {
        self.take(|reference| counts.accept(reference), counts)
    }

    /// Retains every block, or none.
    pub(super) fn retain<K: Counts>(&self, counts: &K) -> Result<(), CountOverflow> {
        self.take(|reference| counts.retain(reference), counts)
    }

    pub(super) fn release<K: Counts>(&self, counts: &K) {
        self.iter().for_each(|reference| counts.release(reference));
    }

    fn take<K: Counts, E>(&self, one: impl Fn(&BlockRef) -> Result<(), E>, counts: &K) -> Result<(), E> {
        for (taken, reference) in self.iter().enumerate() {
            if let Err(refusal) = one(reference) {
                self.iter().take(taken).for_each(|reference| counts.release(reference));
                return Err(refusal);
            }
        }
        Ok(())
    }
}
