//! The receiver's side of one link: hold what arrives, then say so.

use std::marker::PhantomData;

use super::cells::DomainCells;
use super::counts::{Counts, References};
use super::rules::{Rules, Sound};
use super::sync::Ordering;
use crate::slot::{Incarnation, Member, Slot};

/// The receiving end of a link. One for each link, used by one thread: the cell it writes has one writer.
#[derive(Clone, Copy, Debug)]
pub struct Intake<R: Rules = Sound> {
    me: Slot,
    sender: Member,
    rules: PhantomData<fn() -> R>,
}

/// A message's place in its link's order: from 1, below 2^48.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkSequence(u64);

/// What a receiver has dealt with of one sender: the sender's life, and its last message; all earlier ones too. Higher
/// is newer, for the incarnation is in the high bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ack(u64);

/// A number that is no link sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("link sequence {0} does not exist: they count from 1 to {last}", last = LinkSequence::LAST.0)]
pub struct NoSuchSequence(pub u64);

// === impl Intake ===

impl Intake {
    /// The link from a sender, in this life of it, to the process in slot `me`.
    #[must_use]
    pub const fn new(me: Slot, sender: Member) -> Self {
        Self::under_rules(me, sender)
    }
}

impl<R: Rules> Intake<R> {
    /// As [`Intake::new`], under rules other than [`Sound`].
    #[must_use]
    pub const fn under_rules(me: Slot, sender: Member) -> Self {
        Self { me, sender, rules: PhantomData }
    }

    /// Holds the blocks of a message just popped, all or none, and then acknowledges it, held or refused (K1). Every
    /// popped message goes through here, or, if it cannot even be understood, to [`Self::acknowledge`].
    ///
    /// # Errors
    /// What the books said of the first block that they refused.
    pub fn receive<K: Counts>(
        &self,
        domain: &impl DomainCells,
        counts: &K,
        sequence: LinkSequence,
        references: &References,
    ) -> Result<(), K::Refusal> {
        if !R::BIT_BEFORE_ACK {
            self.acknowledge(domain, sequence);
        }
        let outcome = references.accept(counts);
        // Killed here, our bits are reaped, and the sender's entry ends because we are dead.
        if R::BIT_BEFORE_ACK {
            self.acknowledge(domain, sequence);
        }
        outcome
    }

    /// Says that this message and all before it have been dealt with.
    pub fn acknowledge(&self, domain: &impl DomainCells, sequence: LinkSequence) {
        let cell = domain.ack(self.me, self.sender.slot);
        let ack = Ack::new(self.sender.incarnation, sequence);
        // K3: compared with the cell and not with a memory of ours, for a predecessor in our slot may have written it.
        if !R::ACK_ONLY_RAISES || Ack::from_bits(cell.load(Ordering::Relaxed)) < ack {
            cell.store(ack.bits(), Ordering::Release);
        }
    }
}

// === impl LinkSequence ===

impl LinkSequence {
    /// The last of a link: after it the sender must restart. 8.9 years at a million messages a second.
    pub const LAST: Self = Self((1 << Ack::SEQUENCE_BITS) - 1);

    /// # Errors
    /// The number is 0 or over [`Self::LAST`].
    pub const fn new(number: u64) -> Result<Self, NoSuchSequence> {
        if number == 0 || number > Self::LAST.0 { Err(NoSuchSequence(number)) } else { Ok(Self(number)) }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

// === impl Ack ===

impl Ack {
    const SEQUENCE_BITS: u32 = 48;

    /// The acknowledgement of a message of a sender in this life.
    #[must_use]
    pub fn new(sender: Incarnation, sequence: LinkSequence) -> Self {
        Self(u64::from(sender.number()) << Self::SEQUENCE_BITS | sequence.0)
    }

    /// As it stands in shared memory. Every number is an acknowledgement; 0 is that of nothing.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As it stands in shared memory.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it covers a message of a sender in this life (K2): an acknowledgement of another life covers nothing.
    #[must_use]
    pub fn covers<R: Rules>(self, sender: Incarnation, sequence: LinkSequence) -> bool {
        let same_life = self.0 >> Self::SEQUENCE_BITS == u64::from(sender.number());
        (same_life || !R::ACK_NAMES_INCARNATION) && self.0 & LinkSequence::LAST.0 >= sequence.0
    }
}
