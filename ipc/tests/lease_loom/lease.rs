//! The lease module file by file as production has it, on loom's atomics and lock.

#[path = "../../src/lease/ack.rs"]
pub mod ack;
#[path = "../../src/lease/cells.rs"]
pub mod cells;
#[path = "../../src/lease/counts.rs"]
pub mod counts;
#[path = "../../src/lease/flight.rs"]
pub mod flight;
#[path = "../../src/lease/pool.rs"]
pub mod pool;
#[path = "../../src/lease/reap.rs"]
pub mod reap;
#[path = "../../src/lease/rules.rs"]
pub mod rules;
#[path = "../../src/lease/state.rs"]
pub mod state;
#[path = "../../src/lease/word.rs"]
pub mod word;

#[path = "sync.rs"]
pub mod sync;
