//! The atomics and the lock on which leases stand, named in one place: `tests/lease_loom` compiles the other files of
//! this module against loom's in their stead.

pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub use std::sync::{Mutex, MutexGuard};
