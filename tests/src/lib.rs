//! What the tests of the whole system share: a plant of real processes with a client to talk to it, a corpus of
//! frames, and a storm over the data plane alone.

#![forbid(unsafe_code)]

pub mod audio;
pub mod cage;
pub mod client;
pub mod deadline;
pub mod deaths;
pub mod declared;
pub mod golden;
pub mod http;
pub mod machine;
pub mod other_kernel;
pub mod page;
pub mod pipeline;
pub mod plant;
pub mod storm;
pub mod up;

pub use client::{Call, Client};
pub use machine::Machine;
pub use plant::{Plant, Recipe};
pub use up::Up;
