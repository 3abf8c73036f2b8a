//! Frames as descriptors, and descriptors as frames. What they say of each kind of data is [`Description`]'s.

use std::hash::{Hash as _, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use remotemedia_core::data::{DataError, Kind, RuntimeData};
use remotemedia_core::frame::{Frame, Metadata};
use remotemedia_core::node::Writable;

use super::block::Lease;
use super::description::{Description, Extra};
use super::pools::Pools;
use super::{Block, Header, NoBlock, Plane, Pool};
use crate::control::codec;
use crate::descriptor::{BlockRef, Descriptor, flag};
use crate::lease::References;
use crate::slot::Member;

/// A frame whose bytes all lie in shared memory, ready to be sent to any number of receivers. Holds its blocks.
#[derive(Clone, Debug)]
pub struct Prepared {
    descriptor: Descriptor,
    /// What keeps the blocks held until the frame is sent: the payload's and the metadata's handles.
    holds: [Bytes; 2],
    payload_bytes: usize,
    copied_bytes: usize,
}

/// Why a descriptor is no frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// A kind that this layout does not define.
    #[error("descriptor kind {kind} is not defined")]
    UnknownKind {
        /// As received.
        kind: u16,
    },
    /// A number that stands for nothing.
    #[error("{what} {value} is not defined")]
    Undefined {
        /// The field.
        what: &'static str,
        /// As received.
        value: u64,
    },
    /// Fewer numbers than the kind needs, or than they themselves say.
    #[error("the descriptor has fewer numbers than it says")]
    Short,
    /// A number that is too large for what it is.
    #[error("{what} is {value}")]
    Range {
        /// The field.
        what: &'static str,
        /// As received.
        value: u64,
    },
    /// The payload is not data of the kind.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The metadata block does not decode.
    #[error("metadata: {problem}")]
    Metadata {
        /// What the codec said.
        problem: String,
    },
}

/// What a descriptor can say.
pub(super) enum Decoded {
    Frame(RuntimeData, Metadata),
    Mark,
    Flush,
    Fence,
}

/// Messages without data.
mod bare {
    pub(super) const FENCE: u16 = 0;
    pub(super) const MARK: u16 = 256;
    pub(super) const FLUSH: u16 = 257;
}

/// How a descriptor names a kind of data.
const fn number_of(kind: Kind) -> u16 {
    match kind {
        Kind::Audio => 1,
        Kind::Video => 2,
        Kind::Tensor => 3,
        Kind::Json => 4,
        Kind::Text => 5,
        Kind::Binary => 6,
        Kind::Control => 7,
        Kind::Numpy => 8,
        Kind::File => 9,
    }
}

// === impl Plane ===

impl Plane {
    /// Puts a frame's bytes where others can read them: pool memory is recognised by its address and stays where it
    /// is; other memory is copied into blocks that `loan` lends.
    ///
    /// # Errors
    /// Whatever `loan` says.
    pub fn prepare<E>(
        &self,
        data: &RuntimeData,
        metadata: &Metadata,
        timestamp_us: Option<u64>,
        mut loan: impl FnMut(&Self, usize) -> Result<Block, E>,
    ) -> Result<Prepared, E> {
        let said = Description::of(data, metadata);
        let mut descriptor = Descriptor::blank();
        descriptor.kind = number_of(said.kind());
        descriptor.fixed = said.fixed();
        descriptor.timestamp_us = timestamp_us.unwrap_or(u64::MAX);
        let mut copied_bytes = 0;
        let (payload, reference) = match self.0.pools.recognise(data.payload()) {
            Some((_, reference)) => (data.payload().clone(), reference),
            None => {
                copied_bytes = data.payload().len();
                self.store(data.payload(), &mut loan)?
            }
        };
        descriptor.payload = reference;
        let mut metadata = Bytes::new();
        // Strings and numbers always encode.
        if let Some(extra) = said.extra()
            && let Ok(encoded) = codec::encode_for_block(extra)
        {
            (metadata, descriptor.metadata) = self.store(&encoded, &mut loan)?;
        }
        self.0.counters.copied_bytes.fetch_add(copied_bytes as u64, Ordering::Relaxed);
        Ok(Prepared {
            descriptor,
            payload_bytes: data.payload().len(),
            holds: [payload, metadata],
            copied_bytes,
        })
    }

    fn store<E>(
        &self,
        bytes: &[u8],
        loan: &mut impl FnMut(&Self, usize) -> Result<Block, E>,
    ) -> Result<(Bytes, BlockRef), E> {
        if bytes.is_empty() {
            return Ok((Bytes::new(), BlockRef::NONE));
        }
        let mut block = loan(self, bytes.len())?;
        block.bytes_mut().copy_from_slice(bytes);
        let stored = Box::new(block).freeze();
        let reference = self.0.pools.recognise(&stored).map_or(BlockRef::NONE, |(_, reference)| reference);
        Ok((stored, reference))
    }

    /// Waits for blocks until the deadline: for threads that may.
    ///
    /// # Errors
    /// No block came free.
    pub fn prepare_until(
        &self,
        data: &RuntimeData,
        metadata: &Metadata,
        timestamp_us: Option<u64>,
        deadline: std::time::Instant,
    ) -> Result<Prepared, NoBlock> {
        self.prepare(data, metadata, timestamp_us, |plane, bytes| plane.loan_until(bytes, deadline))
    }
}

// === impl Prepared ===

impl Prepared {
    pub(super) const fn descriptor(&self) -> Descriptor {
        self.descriptor
    }

    pub(super) const fn references(&self) -> References {
        References::of(&self.descriptor)
    }

    /// Bytes that had to be copied into a block.
    #[must_use]
    pub const fn copied_bytes(&self) -> usize {
        self.copied_bytes
    }

    /// What receivers get of it: the number of its kind, the numbers of that, its time, payload and metadata.
    pub(crate) fn parts(&self) -> (u16, [u64; 16], Option<u64>, [&Bytes; 2]) {
        let Descriptor { kind, fixed, timestamp_us, .. } = self.descriptor;
        let timestamp_us = Some(timestamp_us).filter(|time| *time != u64::MAX);
        (kind, fixed, timestamp_us, self.holds.each_ref())
    }

    /// The frame of such parts, wherever they were kept. Its sequence is 0.
    pub(crate) fn frame_of(
        kind: u16,
        fixed: [u64; 16],
        timestamp_us: Option<u64>,
        [payload, metadata]: [Bytes; 2],
    ) -> Result<Frame, FrameError> {
        let (data, metadata) = read_parts(kind, fixed, payload, &metadata)?;
        Ok(Frame { sequence: 0, timestamp_us, metadata, data })
    }

    /// Feeds all that receivers get of it, but for its time, to a hash: equal data, wherever its blocks are, feeds the
    /// same.
    pub fn hash_content(&self, hasher: &mut impl Hasher) {
        (self.descriptor.kind, self.descriptor.fixed).hash(hasher);
        self.holds.iter().for_each(|held| held.hash(hasher));
    }

    /// Bytes of the payload.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Where the payload lies.
    #[must_use]
    pub const fn payload(&self) -> BlockRef {
        self.descriptor.payload
    }

    /// The payload in pool memory. Whatever comes back of it by reference has the same address in this process.
    #[must_use]
    pub const fn payload_in_pool(&self) -> &Bytes {
        &self.holds[0]
    }
}

/// The sender and the destination of a descriptor.
pub(super) fn address(descriptor: &mut Descriptor, header: &Header, sender: Member) {
    descriptor.session = header.session;
    descriptor.edge = header.edge;
    descriptor.sequence = header.sequence;
    descriptor.flags = if header.last { flag::LAST } else { 0 };
    descriptor.sender_slot = sender.slot.number();
    descriptor.sender_incarnation = sender.incarnation.number();
}

pub(super) const fn mark() -> Descriptor {
    Descriptor { kind: bare::MARK, ..Descriptor::blank() }
}

pub(super) const fn flush() -> Descriptor {
    Descriptor { kind: bare::FLUSH, ..Descriptor::blank() }
}

pub(super) const fn fence(sender: Member) -> Descriptor {
    Descriptor {
        kind: bare::FENCE,
        sender_slot: sender.slot.number(),
        sender_incarnation: sender.incarnation.number(),
        ..Descriptor::blank()
    }
}

/// Reads an accepted descriptor. Takes over its counts, whatever the outcome.
pub(super) fn read(pools: &Pools, descriptor: &Descriptor) -> Result<Decoded, FrameError> {
    let payload = adopt(pools, &descriptor.payload);
    let extra = adopt(pools, &descriptor.metadata);
    let kind = match descriptor.kind {
        bare::FENCE => return Ok(Decoded::Fence),
        bare::MARK => return Ok(Decoded::Mark),
        bare::FLUSH => return Ok(Decoded::Flush),
        number => number,
    };
    let (data, metadata) = read_parts(kind, descriptor.fixed, payload, &extra)?;
    Ok(Decoded::Frame(data, metadata))
}

fn read_parts(
    kind: u16,
    fixed: [u64; 16],
    payload: Bytes,
    extra: &[u8],
) -> Result<(RuntimeData, Metadata), FrameError> {
    let named = Kind::ALL.into_iter().find(|named| number_of(*named) == kind);
    let named = named.ok_or(FrameError::UnknownKind { kind })?;
    let extra: Extra = if extra.is_empty() {
        Extra::default()
    } else {
        codec::decode_from_block(extra)
            .map_err(|error| FrameError::Metadata { problem: error.to_string() })?
    };
    Description::read(named, fixed, extra).into_data(payload)
}

/// Now, in nanoseconds of the clock that all processes of a host share.
pub(super) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec()).unwrap_or_default();
        seconds * 1_000_000_000 + nanoseconds
    })
}

/// The bytes of an accepted reference, as a handle that owns its count.
fn adopt(pools: &Pools, reference: &BlockRef) -> Bytes {
    let pool: Option<Arc<Pool>> = reference.is_some().then(|| pools.find(reference.pool())).flatten();
    let Some(pool) = pool else { return Bytes::new() };
    let start = pool.map().bytes_at(reference.block(), reference.offset, reference.len);
    match (start, usize::try_from(reference.len)) {
        (Ok(start), Ok(len)) => Bytes::from_owner(Lease::adopt(pool, reference.block(), start, len)),
        // The accept has checked the same range of the same map.
        (Err(_), _) | (_, Err(_)) => Bytes::new(),
    }
}
