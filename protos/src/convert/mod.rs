//! The only conversion between the contract and the runtime's types.
//!
//! `from_wire` parses: what it gives is valid, and what it refuses is a typed error of the core. `to_wire` is its
//! inverse, for services that answer and clients that ask. Payloads are counted references on both sides and are not
//! copied, but for JSON on its way out, where the contract wants a string.

pub mod data;
pub mod fault;
mod json;
pub mod limits;
pub mod manifest;
pub mod metrics;
