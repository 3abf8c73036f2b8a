//! How much of its inputs a node still looks into.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remotemedia_core::limits::LimitExceeded;

/// The inputs of one node, as far as arrays or others look into them. Who keeps them keeps other sessions from their
/// memory, so there is a limit to it.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: AtomicU64,
    limit: u64,
}

/// What one view adds, until it is gone.
#[derive(Debug)]
pub(crate) struct Share {
    kept: Arc<Kept>,
    bytes: u64,
}

// === impl Kept ===

impl Kept {
    /// `limit` is in bytes.
    pub(crate) fn up_to(limit: u64) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), limit })
    }

    pub(crate) fn share(kept: &Arc<Self>, bytes: usize) -> Share {
        let bytes = bytes as u64;
        // Counts only: nothing is read by way of them.
        kept.bytes.fetch_add(bytes, Ordering::Relaxed);
        Share { kept: Arc::clone(kept), bytes }
    }

    /// Between two inputs: whatever is looked into then is kept.
    ///
    /// # Errors
    /// That is more than the limit.
    pub(crate) fn check(&self) -> Result<(), LimitExceeded> {
        let value = self.bytes.load(Ordering::Relaxed);
        if value <= self.limit {
            return Ok(());
        }
        Err(LimitExceeded {
            what: "what the node keeps of its earlier inputs".to_owned(),
            value,
            limit: self.limit,
            unit: "bytes".to_owned(),
            advice: "keep copies (array.copy()), or ask for a higher max_memory_bytes".to_owned(),
        })
    }
}

// === impl Share ===

impl Drop for Share {
    fn drop(&mut self) {
        self.kept.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
