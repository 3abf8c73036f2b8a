//! Who is who in a domain: slots, incarnations, pools, blocks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Process slots in one domain. A lease word has one bit for each (see [`crate::lease`]).
pub const SLOTS: usize = 40;

/// One of the [`SLOTS`] places a process can take in a domain. Slot 0 is the gateway's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Slot(u8);

/// Which life of a slot: the first process in a slot has incarnation 1, its successor 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Incarnation(u16);

/// One process of a domain: a slot in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The place taken.
    pub slot: Slot,
    /// Which life of that place.
    pub incarnation: Incarnation,
}

/// A frame pool. Never used again within a boot of the gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PoolId(pub u32);

/// A block's number within its pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BlockIndex(pub u32);

/// Which content of a block: counts allocations over the block's life. The word keeps the low 24 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// A slot number outside `0..SLOTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("slot {0} does not exist: a domain has slots 0 to {last}", last = SLOTS - 1)]
pub struct NoSuchSlot(pub u8);

// === impl Slot ===

impl Slot {
    /// The gateway's slot.
    pub const GATEWAY: Self = Self(0);

    /// # Errors
    /// The number is not below [`SLOTS`].
    pub const fn new(number: u8) -> Result<Self, NoSuchSlot> {
        if (number as usize) < SLOTS { Ok(Self(number)) } else { Err(NoSuchSlot(number)) }
    }

    /// For use as an array index; below [`SLOTS`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The slot's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The slot's bit in a lease word's holder mask.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self.0
    }

    /// All slots, the gateway's first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).filter_map(|number| u8::try_from(number).ok().map(Self))
    }
}

impl TryFrom<u8> for Slot {
    type Error = NoSuchSlot;

    fn try_from(number: u8) -> Result<Self, NoSuchSlot> {
        Self::new(number)
    }
}

impl From<Slot> for u8 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Incarnation ===

impl Incarnation {
    /// The first life of a slot.
    pub const FIRST: Self = Self(1);

    /// The life with this number; 0 means nobody ever lived there.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The life after this one, or none: a slot is retired at the counter's end.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

// === impl Member ===

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot.0, self.incarnation.0)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {self}")
    }
}
