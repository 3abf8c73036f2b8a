//! A frame with a checksum and a route.

use std::time::Instant;

use bytes::Bytes;
use remotemedia_core::data::{Audio, ChannelCount, DataError, RuntimeData, SampleFormat, SampleRate};
use remotemedia_core::frame::Metadata;
use remotemedia_core::node::Writable as _;
use remotemedia_ipc::lease::state;
use remotemedia_ipc::plane::{Arrival, Content, Header, NoBlock, Plane, Prepared, SendError};
use remotemedia_ipc::slot::{Incarnation, Member, Slot};

use super::Dice;
use super::route::{BadRoute, Route};

/// Something that travels.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Tells parcels apart; copies have one number.
    pub number: u64,
    /// The bytes, in pool memory.
    pub payload: Bytes,
    /// Where it goes from here.
    pub route: Route,
    checksum: u64,
}

/// A parcel that is damaged, or cannot be sent on.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// The payload is not what was sent.
    #[error("parcel {number} has checksum {is:016x}, expected {expected:016x}")]
    Checksum {
        /// Which parcel.
        number: u64,
        /// As computed.
        is: u64,
        /// As sent.
        expected: u64,
    },
    /// The metadata is not what any sender writes.
    #[error("parcel {number} has metadata {metadata:?}, expected a checksum and a route")]
    Metadata {
        /// Which parcel.
        number: u64,
        /// As received.
        metadata: Metadata,
    },
    /// The route cannot be read.
    #[error(transparent)]
    Route(#[from] BadRoute),
    /// The payload is not audio.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The pool has no block.
    #[error(transparent)]
    NoBlock(#[from] NoBlock),
    /// Pool memory was not recognised.
    #[error("parcel {number} was copied, {bytes} bytes of it, and not passed on by reference")]
    Copied {
        /// Which parcel.
        number: u64,
        /// How many bytes.
        bytes: usize,
    },
    /// The link did not take it.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl ParcelError {
    /// Whether it was only that the receiver has died. The living take everything, and all else is a fault.
    #[must_use]
    pub fn is_of_dead(&self, plane: &Plane) -> bool {
        match self {
            Self::Send(SendError::NotConnected { to } | SendError::Refused { to, .. }) => {
                !state::is_live(plane.domain(), *to)
            }
            Self::Checksum { .. }
            | Self::Metadata { .. }
            | Self::Route(_)
            | Self::Data(_)
            | Self::NoBlock(_)
            | Self::Copied { .. } => false,
        }
    }
}

const CHECKSUM: &str = "checksum";
const ROUTE: &str = "route";

/// The gateway, which lives as long as its domain.
const HOME: Member = Member { slot: Slot::GATEWAY, incarnation: Incarnation::FIRST };

// === impl Parcel ===

impl Parcel {
    /// Writes a payload of as many bytes into a block of this process's own pool.
    ///
    /// # Errors
    /// No block came free by the deadline.
    pub fn produce(
        plane: &Plane,
        dice: &mut Dice,
        number: u64,
        bytes: usize,
        route: Route,
        deadline: Instant,
    ) -> Result<Self, ParcelError> {
        let mut block = plane.loan_until(bytes.next_multiple_of(8), deadline)?;
        for word in block.bytes_mut().chunks_mut(8) {
            word.copy_from_slice(&dice.roll().to_le_bytes()[..word.len()]);
        }
        let payload = Box::new(block).freeze();
        Ok(Self { number, checksum: checksum(&payload), payload, route })
    }

    /// Reads and checks what arrived; none if that brings no frame.
    ///
    /// # Errors
    /// It is damaged.
    pub fn open(arrival: Arrival) -> Result<Option<Self>, ParcelError> {
        let number = arrival.header.sequence;
        let (data, metadata) = match arrival.content {
            Content::Frame(data, metadata, _) => (data, metadata),
            Content::Mark | Content::Flush | Content::Lost => return Ok(None),
        };
        let parts = || Some((u64::from_str_radix(metadata.get(CHECKSUM)?, 16).ok()?, metadata.get(ROUTE)?));
        let Some((checksum, route)) = parts() else { return Err(ParcelError::Metadata { number, metadata }) };
        let parcel = Self { number, payload: data.payload().clone(), route: route.parse()?, checksum };
        parcel.check()?;
        Ok(Some(parcel))
    }

    /// Whether the payload is still what was sent.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<(), ParcelError> {
        let (number, expected) = (self.number, self.checksum);
        let is = checksum(&self.payload);
        if is == expected { Ok(()) } else { Err(ParcelError::Checksum { number, is, expected }) }
    }

    /// The same payload by another route, under another number.
    #[must_use]
    pub fn anew(&self, number: u64, route: Route) -> Self {
        Self { number, route, payload: self.payload.clone(), checksum: self.checksum }
    }

    /// The same parcel with another route.
    #[must_use]
    pub fn onward(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// With the first half of the payload.
    #[must_use]
    pub fn halved(self) -> Self {
        let half = (self.payload.len() / 2).next_multiple_of(8).min(self.payload.len());
        let payload = self.payload.slice(..half);
        Self { checksum: checksum(&payload), payload, ..self }
    }

    /// Sends it to the first stop of its route, or home if there is none, by reference.
    ///
    /// # Errors
    /// It was not sent.
    pub fn send(&self, plane: &Plane, deadline: Instant) -> Result<(), ParcelError> {
        let prepared = self.prepare(plane, deadline)?;
        let header = Header { session: 1, edge: 0, sequence: self.number, last: true };
        Ok(plane.send(self.route.next().unwrap_or(HOME), &header, &prepared)?)
    }

    fn prepare(&self, plane: &Plane, deadline: Instant) -> Result<Prepared, ParcelError> {
        let audio = Audio::new(
            self.payload.clone(),
            SampleFormat::I16,
            SampleRate::new(16_000)?,
            ChannelCount::MONO,
        )?;
        // Whose turn it is reads the route from its own stop on.
        let metadata = Metadata::from([
            (CHECKSUM.to_owned(), format!("{:016x}", self.checksum)),
            (ROUTE.to_owned(), self.route.to_string()),
        ]);
        let prepared = plane.prepare_until(&RuntimeData::from(audio), &metadata, None, deadline)?;
        match prepared.copied_bytes() {
            0 => Ok(prepared),
            bytes => Err(ParcelError::Copied { number: self.number, bytes }),
        }
    }
}

/// Every byte and its place count. Word by word, for the tests run unoptimised.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let whole = words.iter().fold(bytes.len() as u64, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(whole, |sum, byte| mix(sum, u64::from(*byte)))
}

const fn mix(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
