//! The frame pools that a process sees, and its leases on their blocks.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::descriptor::BlockRef;
use crate::lease::pool::{BitWithoutCount, CountOverflow};
use crate::lease::reap::Remains;
use crate::lease::{AcceptError, BlockCells, Counts, HolderMask, PoolLeases, Rejected};
use crate::memory::{OutOfBlock, PoolMap, ProducerMap, ReaderMap};
use crate::slot::{BlockIndex, Generation, Member, PoolId, Slot};

/// One frame pool as this process sees it.
pub struct Pool {
    id: PoolId,
    owner: Member,
    leases: PoolLeases<Mapped>,
}

/// How full a pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolUse {
    /// Blocks of all sizes.
    pub blocks: u32,
    /// Blocks that some process holds.
    pub blocks_in_use: u32,
    /// Bytes of memory reserved.
    pub bytes: u64,
    /// Bytes of the blocks in use.
    pub bytes_in_use: u64,
}

/// A block that a message names was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody has told us of such a pool.
    #[error("frame pool {} is not known", pool.0)]
    UnknownPool {
        /// The pool named.
        pool: PoolId,
    },
    /// The bytes are not in the block.
    #[error(transparent)]
    OutOfBlock(#[from] OutOfBlock),
    /// The lease words say no.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The lease words are damaged: this process must end.
    #[error(transparent)]
    Corrupt(#[from] BitWithoutCount),
}

/// All pools that a process sees: its books for [`crate::lease`].
pub(super) struct Pools {
    me: Slot,
    own: OnceLock<Arc<Pool>>,
    all: RwLock<BTreeMap<PoolId, Arc<Pool>>>,
}

/// A pool's memory, to write or to read.
pub(super) enum Mapped {
    Own(ProducerMap),
    Other(ReaderMap),
}

// === impl Pool ===

impl Pool {
    /// Which pool.
    #[must_use]
    pub const fn id(&self) -> PoolId {
        self.id
    }

    /// Who produces into it.
    #[must_use]
    pub const fn owner(&self) -> Member {
        self.owner
    }

    /// The pool's memory.
    #[must_use]
    pub fn map(&self) -> &PoolMap {
        self.leases.cells()
    }

    /// Whether nobody holds any block.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.leases.is_idle()
    }

    /// Clears a dead process's bit on every block. Says on how many it was set.
    pub(crate) fn reap(&self, remains: &mut Remains) -> u32 {
        remains.reap(self.id, self.leases.cells())
    }

    /// Blocks that this process holds.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.leases.held()
    }

    /// How full it is, counted block by block while others go on.
    #[must_use]
    pub fn usage(&self) -> PoolUse {
        let geometry = self.map().geometry();
        let mut usage = PoolUse {
            blocks: geometry.blocks(),
            blocks_in_use: 0,
            bytes: geometry.reserved_bytes(),
            bytes_in_use: 0,
        };
        for block in (0..geometry.blocks()).map(BlockIndex) {
            if !self.leases.holders(block).is_empty() {
                usage.blocks_in_use += 1;
                usage.bytes_in_use += geometry.block_bytes(block);
            }
        }
        usage
    }

    /// Who holds blocks in which `bytes` bytes would fit.
    pub(super) fn holders_of(&self, bytes: usize) -> HolderMask {
        let geometry = self.map().geometry();
        let candidates = geometry.candidates(bytes as u64).flatten();
        candidates.fold(HolderMask::NOBODY, |all, block| all.union(self.leases.holders(BlockIndex(block))))
    }

    /// Whether the content of a block that is meant is held by anybody still.
    pub(super) fn is_out(&self, reference: &BlockRef) -> bool {
        self.leases.is_held_as(BlockIndex(reference.block), Generation(reference.generation))
    }

    pub(super) const fn leases(&self) -> &PoolLeases<Mapped> {
        &self.leases
    }

    /// The writable memory of a block of our own pool.
    pub(super) fn writable(&self, block: BlockIndex) -> Option<(std::ptr::NonNull<u8>, usize)> {
        match self.leases.cells() {
            Mapped::Own(map) => Some(map.block(block)),
            Mapped::Other(_) => None,
        }
    }

    /// A reference to bytes of a block that this process holds, and that so has a stable generation.
    pub(super) fn reference(&self, bytes: &[u8]) -> Option<BlockRef> {
        let (block, offset) = self.map().locate(bytes.as_ptr(), bytes.len())?;
        let generation = self.map().stamp(block).load(Ordering::Relaxed);
        Some(BlockRef { generation, offset, len: bytes.len() as u64, pool: self.id.0, block: block.0 })
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame pool {} of {}", self.id.0, self.owner)
    }
}

// === impl Pools ===

impl Pools {
    pub(super) const fn new(me: Slot) -> Self {
        Self { me, own: OnceLock::new(), all: RwLock::new(BTreeMap::new()) }
    }

    pub(super) fn add_own(&self, id: PoolId, owner: Member, map: ProducerMap) {
        let pool = Arc::new(Pool { id, owner, leases: PoolLeases::new(self.me, Mapped::Own(map)) });
        if self.own.set(Arc::clone(&pool)).is_ok() {
            self.write().insert(id, pool);
        }
    }

    pub(super) fn add(&self, id: PoolId, owner: Member, map: ReaderMap) {
        let leases = PoolLeases::new(self.me, Mapped::Other(map));
        self.write().insert(id, Arc::new(Pool { id, owner, leases }));
    }

    /// Handles on its blocks, of which there should be none, keep the memory.
    pub(super) fn forget(&self, id: PoolId) {
        self.write().remove(&id);
    }

    pub(super) fn own(&self) -> Option<&Arc<Pool>> {
        self.own.get()
    }

    pub(super) fn find(&self, id: PoolId) -> Option<Arc<Pool>> {
        if let Some(own) = self.own().filter(|own| own.id == id) {
            return Some(Arc::clone(own));
        }
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Pool>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Recognises pool memory by its address.
    pub(super) fn recognise(&self, bytes: &[u8]) -> Option<(Arc<Pool>, BlockRef)> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().find_map(|pool| Some((Arc::clone(pool), pool.reference(bytes)?)))
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<PoolId, Arc<Pool>>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts for Pools {
    type Refusal = Refusal;

    fn accept(&self, reference: &BlockRef) -> Result<(), Refusal> {
        let pool = self.find(reference.pool()).ok_or(Refusal::UnknownPool { pool: reference.pool() })?;
        pool.map().bytes_at(reference.block(), reference.offset, reference.len)?;
        match pool.leases.accept(reference.block(), reference.generation()) {
            Ok(()) => Ok(()),
            Err(AcceptError::Rejected(rejected)) => Err(rejected.into()),
            Err(AcceptError::Corrupt(corrupt)) => Err(corrupt.into()),
        }
    }

    fn retain(&self, reference: &BlockRef) -> Result<(), CountOverflow> {
        match self.find(reference.pool()) {
            Some(pool) => pool.leases.retain(reference.block()),
            None => Err(CountOverflow { block: reference.block() }),
        }
    }

    fn release(&self, reference: &BlockRef) {
        // A pool that is not there any more had no block held, so there was nothing of ours to release.
        if let Some(pool) = self.find(reference.pool()) {
            pool.leases.release(reference.block());
        }
    }
}

// === impl Mapped ===

impl Deref for Mapped {
    type Target = PoolMap;

    fn deref(&self) -> &PoolMap {
        match self {
            Self::Own(map) => map,
            Self::Other(map) => map,
        }
    }
}

impl BlockCells for Mapped {
    fn blocks(&self) -> u32 {
        self.geometry().blocks()
    }

    fn word(&self, block: BlockIndex) -> &AtomicU64 {
        PoolMap::word(self, block)
    }

    fn stamp(&self, block: BlockIndex) -> &AtomicU64 {
        PoolMap::stamp(self, block)
    }
}
