//! A block lent for writing, and the lease that it becomes.
#![expect(unsafe_code, reason = "the only place where block memory is seen as slices")]

use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use remotemedia_core::node::Writable;

use super::pools::Pool;
use crate::descriptor::BlockRef;
use crate::slot::BlockIndex;

/// A block of this process's own pool, writable by whoever has this and by nobody else. Dropped unfrozen, it is free.
#[derive(Debug)]
pub struct Block {
    lease: Lease,
    start: NonNull<u8>,
}

/// One counted reason to hold a block; the owner behind every [`Bytes`] over shared memory.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Pool>,
    block: BlockIndex,
    start: *const u8,
    len: usize,
}

// SAFETY: the pointer is into a shared mapping that the `Arc<Pool>` keeps, valid in every thread, and a `Block` is the
// only way to write there, by `&mut`.
unsafe impl Send for Block {}

// SAFETY: the pointer is into a shared mapping that the `Arc<Pool>` keeps, valid in every thread; it is only read.
unsafe impl Send for Lease {}

// SAFETY: as for `Send`: shared access only reads.
unsafe impl Sync for Lease {}

// === impl Block ===

impl Block {
    pub(super) fn allocate(own: &Arc<Pool>, bytes: usize) -> Option<Self> {
        let mut candidates = own.map().geometry().candidates(bytes as u64);
        let allocated = candidates.find_map(|range| own.leases().allocate(range))?;
        let (start, size) = own.writable(allocated.block)?;
        debug_assert!(bytes <= size, "a candidate fits");
        let lease =
            Lease { pool: Arc::clone(own), block: allocated.block, start: start.as_ptr(), len: bytes };
        Some(Self { lease, start })
    }

    /// What stands for it.
    pub(super) fn reference(&self) -> Option<BlockRef> {
        self.lease.pool.reference(self.lease.as_ref())
    }

    /// The same block, but only its first bytes are sent. More than there are changes nothing.
    #[must_use]
    pub fn shortened(mut self, bytes: usize) -> Self {
        self.lease.len = self.lease.len.min(bytes);
        self
    }
}

impl Writable for Block {
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block has at least `len` bytes, mapped writable for as long as the lease's pool; it was allocated
        // to us alone and never sent (sending takes the frozen form), so by the lease protocol no process reads or
        // writes it until this `&mut` is gone; memory of a memfd is always initialised.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.lease.len) }
    }

    fn freeze(self: Box<Self>) -> Bytes {
        if self.lease.len == 0 { Bytes::new() } else { Bytes::from_owner(self.lease) }
    }
}

// === impl Lease ===

impl Lease {
    /// Takes over one count of a block that [`crate::lease`] has just accepted. The caller has checked the range.
    pub(super) const fn adopt(pool: Arc<Pool>, block: BlockIndex, start: *const u8, len: usize) -> Self {
        Self { pool, block, start, len }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `len` were checked to lie within the block, which is mapped for as long as `pool`; while
        // this process holds the block its producer does not write it (W2, W6). A producer that does so all the same
        // is broken; the threat model covers crashes, and a torn payload is then all that comes of it.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        if !crate::fork::is_child() {
            self.pool.leases().release(self.block);
        }
    }
}
