//! The promise to clients: the `remotemedia.v1` contract and the only conversion between it and the runtime's types.

pub mod convert;
pub mod details;
pub mod v1;

/// The contract as an encoded `google.protobuf.FileDescriptorSet`, without comments: for reflection, and for tests
/// that hold the contract to what was published.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/remotemedia.v1.binpb"));
