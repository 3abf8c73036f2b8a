//! What production takes from std, on loom.
//!
//! loom 0.7.2 looks for another order of two accesses only if the later one conflicts with the *last* access of the
//! atomic. A thread that loads and then stores hides its store behind its own load, and what others loaded before is
//! never tried after it: an acknowledgement that comes too early went unseen. So every access here is led by a relaxed
//! read-modify-write of a companion, which orders nothing but conflicts with everything.

#![expect(missing_docs, reason = "each means what it means in std")]

use loom::sync::atomic;
pub use loom::sync::atomic::Ordering;
pub use loom::sync::{Mutex, MutexGuard};

#[derive(Debug, Default)]
pub struct AtomicU64 {
    value: atomic::AtomicU64,
    companion: atomic::AtomicU64,
}

#[derive(Debug, Default)]
pub struct AtomicU32 {
    value: atomic::AtomicU32,
    companion: atomic::AtomicU64,
}

impl AtomicU64 {
    pub fn new(value: u64) -> Self {
        Self { value: atomic::AtomicU64::new(value), companion: atomic::AtomicU64::new(0) }
    }

    pub fn load(&self, order: Ordering) -> u64 {
        self.conflicting().load(order)
    }

    pub fn store(&self, value: u64, order: Ordering) {
        self.conflicting().store(value, order);
    }

    pub fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.conflicting().fetch_and(value, order)
    }

    pub fn compare_exchange(&self, old: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        self.conflicting().compare_exchange(old, new, ok, err)
    }

    pub fn compare_exchange_weak(&self, old: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        self.conflicting().compare_exchange_weak(old, new, ok, err)
    }

    fn conflicting(&self) -> &atomic::AtomicU64 {
        self.companion.fetch_add(1, Ordering::Relaxed);
        &self.value
    }
}

impl AtomicU32 {
    pub fn new(value: u32) -> Self {
        Self { value: atomic::AtomicU32::new(value), companion: atomic::AtomicU64::new(0) }
    }

    pub fn load(&self, order: Ordering) -> u32 {
        self.conflicting().load(order)
    }

    pub fn store(&self, value: u32, order: Ordering) {
        self.conflicting().store(value, order);
    }

    fn conflicting(&self) -> &atomic::AtomicU32 {
        self.companion.fetch_add(1, Ordering::Relaxed);
        &self.value
    }
}
