//! How two processes share a frame.
//!
//! The only crate that names iceoryx2 and bincode, and the only one whose unsafe code touches the data path.
//! A [`host`] (the gateway) admits processes into a domain; each admitted process is a [`guest`] with a slot.

pub mod calls;
pub mod capture;
pub mod cleaner;
pub mod control;
pub mod death;
pub mod descriptor;
pub mod doorbell;
mod ends;
pub mod fork;
pub mod guest;
pub mod host;
pub mod launcher;
pub mod lease;
pub mod link;
pub mod machine;
pub mod memory;
pub mod plane;
mod readiness;
pub mod slot;
