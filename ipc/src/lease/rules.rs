//! The protocol's rules as switches.
//!
//! Production knows [`Sound`] and nothing else; the switches are constants, so they cost nothing. They exist because a
//! checker that was never seen to fail proves little: the tests break one rule at a time and demand to be told.

use super::sync::Ordering;

/// Which rules are kept. Every constant's default is the protocol; an implementor overrides one to show what it is for.
pub trait Rules: Send + Sync + 'static {
    /// W3: an accept compares the generation in the word.
    const ACCEPT_CHECKS_GENERATION: bool = true;
    /// W2: an accept refuses a block that nobody holds.
    const ACCEPT_REFUSES_FREE: bool = true;
    /// W3: an accept compares all 64 bits of the generation, since those in the word wrap.
    const ACCEPT_CHECKS_STAMP: bool = true;
    /// W4: the own bit and the private count change in one critical section.
    const COUNT_AND_BIT_TOGETHER: bool = true;
    /// W5: a slot is reused only after its bit is gone from every pool.
    const SLOT_WAITS_FOR_REAP: bool = true;
    /// K1: the receiver acknowledges after its own bit is set, or the message rejected.
    const BIT_BEFORE_ACK: bool = true;
    /// K2: the sender believes an acknowledgement only if it names the sender's own incarnation.
    const ACK_NAMES_INCARNATION: bool = true;
    /// K3: the receiver's cell only ever grows.
    const ACK_ONLY_RAISES: bool = true;
    /// K4: a link's sequence goes on when its receiver is replaced.
    const SEQUENCE_SURVIVES_RECEIVER: bool = true;

    /// Generation bits in use, at most [`super::word::GENERATION_BITS`]. Fewer let a test wrap them in two allocations.
    const GENERATION_BITS: u32 = super::word::GENERATION_BITS;

    /// Acquire: the reads of all former holders happen before the overwrite.
    const ALLOCATE_ORDER: Ordering = Ordering::AcqRel;
    /// Acquire: the stamp read next is not older than the word.
    const ACCEPT_ORDER: Ordering = Ordering::AcqRel;
    /// Release: the holder's reads happen before its bit is gone.
    const CLEAR_ORDER: Ordering = Ordering::Release;
}

/// The protocol, whole.
#[derive(Clone, Copy, Debug)]
pub struct Sound;

impl Rules for Sound {}
