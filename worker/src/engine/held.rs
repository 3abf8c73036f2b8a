//! How much of the pool memory that was lent to a node is held in this process, and at most was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use remotemedia_core::node::{Loan, Writable};

/// What one node's outputs hold. Whoever holds one, on whatever thread, counts here until it lets go.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: AtomicU64,
    peak: AtomicU64,
}

/// A loan that counts until it, or what it became, is dropped.
struct Counted {
    memory: Loan,
    share: Share,
}

/// What one loan became, and its share.
struct Frozen {
    memory: Bytes,
    _share: Share,
}

/// Bytes that one loan adds.
struct Share {
    held: Arc<Held>,
    bytes: u64,
}

// === impl Held ===

impl Held {
    /// The same loan, counted.
    pub(super) fn count(held: &Arc<Self>, memory: Loan, bytes: usize) -> Loan {
        let bytes = bytes as u64;
        // Counts only: nothing is read by way of them.
        let now = held.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        held.peak.fetch_max(now, Ordering::Relaxed);
        Loan::new(Counted { memory, share: Share { held: Arc::clone(held), bytes } })
    }

    /// The most bytes that were held at once.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

// === impl Counted ===

impl Writable for Counted {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }

    fn freeze(self: Box<Self>) -> Bytes {
        let Self { memory, share } = *self;
        Bytes::from_owner(Frozen { memory: memory.freeze(), _share: share })
    }
}

// === impl Frozen ===

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

// === impl Share ===

impl Drop for Share {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Heap(Vec<u8>);

    impl Writable for Heap {
        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }

        fn freeze(self: Box<Self>) -> Bytes {
            self.0.into()
        }
    }

    #[test]
    fn what_is_held_counts_until_its_last_slice_is_dropped() {
        let held = Arc::default();
        let lend = |bytes| Held::count(&held, Loan::new(Heap(vec![7; bytes])), bytes);
        let mut first = lend(100);
        first.bytes_mut()[99] = 8;
        let slice = first.freeze().slice(98..);
        assert_eq!(slice, [7, 8].as_slice());
        drop(lend(50));
        drop(slice);
        drop(lend(120));
        assert_eq!((held.bytes.load(Ordering::Relaxed), held.peak()), (0, 150));
    }
}
