//! The words of RemoteMedia and the rules between them.
//!
//! Nothing here does I/O, reads a clock, spawns, or knows how a frame travels: a core that cannot fail for outside
//! reasons. Payloads are [`bytes::Bytes`], so shared memory and heap memory look alike from here.

#![forbid(unsafe_code)]

pub mod compatibility;
pub mod data;
pub mod fault;
pub mod frame;
pub mod graph;
pub mod joined;
pub mod launching;
pub mod limits;
pub mod machine;
pub mod manifest;
pub mod nearest;
pub mod node;
pub mod runtime_dir;
pub mod session;
pub mod starting;
pub mod token;
pub mod transport;

pub use data::{Audio, Json, Kind, RuntimeData, Text};
pub use fault::Fault;
pub use frame::Frame;
pub use graph::Graph;
pub use limits::Limits;
pub use manifest::Manifest;
