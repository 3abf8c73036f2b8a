//! A process that runs nodes and may die.

#![forbid(unsafe_code)]

pub mod harness;
pub mod nodes;
pub mod registry;

pub use harness::Harness;
pub use registry::Registry;
