//! The sender's side of one link: what was pushed and is not yet known to be held by the receiver.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::ack::{Ack, LinkSequence};
use super::cells::DomainCells;
use super::counts::{Counts, References};
use super::pool::CountOverflow;
use super::rules::{Rules, Sound};
use super::state;
use super::sync::Ordering;
use crate::slot::{Incarnation, Member};

/// The messages in flight from this process to one receiver, oldest first. Each keeps a reason to hold its blocks
/// until the receiver has said that it holds them itself, or has died.
///
/// While anything is [outstanding](Self::outstanding), [reclaim](Self::reclaim) at every loop turn, before every
/// allocation and send, and on a timer of at most 10 ms (K6): until then this process pins the blocks.
#[derive(Debug)]
pub struct Flight<R: Rules = Sound> {
    me: Member,
    receiver: Member,
    last: u64,
    entries: VecDeque<Entry>,
    limit: usize,
    rules: PhantomData<fn() -> R>,
}

/// Why a message was not sent. Nothing changed; its sequence may be skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused<E> {
    /// The receiver is dead, or has been replaced and the link not been [bound](Flight::rebind) to its successor.
    #[error("{receiver} does not live: bind the link to its successor, if there is one")]
    ReceiverGone {
        /// To whom the link is bound.
        receiver: Member,
    },
    /// The receiver has not dealt with what was sent before.
    #[error("{limit} messages are in flight, as many as the link's credit allows")]
    FlightFull {
        /// The link's credit.
        limit: usize,
    },
    /// The link's sequence has come to its end.
    #[error("the link's sequence numbers are used up: this process must restart")]
    SequenceExhausted,
    /// A block's reasons cannot be counted.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
    /// The link refused the descriptor.
    #[error("the link did not take the descriptor")]
    Push(#[source] E),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: LinkSequence,
    receiver: Incarnation,
    references: References,
    sent: Instant,
}

// === impl Flight ===

impl Flight {
    /// The link from `me` to a receiver, with at most `limit` messages in flight.
    #[must_use]
    pub const fn new(me: Member, receiver: Member, limit: usize) -> Self {
        Self::under_rules(me, receiver, limit)
    }
}

impl<R: Rules> Flight<R> {
    /// As [`Flight::new`], under rules other than [`Sound`].
    #[must_use]
    pub const fn under_rules(me: Member, receiver: Member, limit: usize) -> Self {
        Self { me, receiver, last: 0, entries: VecDeque::new(), limit, rules: PhantomData }
    }

    /// To whom the link is bound.
    #[must_use]
    pub const fn receiver(&self) -> Member {
        self.receiver
    }

    /// Binds the link to the receiver's next life, which has an inbox of its own. The order goes on (K4): the
    /// predecessor's acknowledgements are still in the cell and must not cover what the successor gets.
    pub fn rebind(&mut self, successor: Incarnation) {
        self.receiver.incarnation = successor;
        if !R::SEQUENCE_SURVIVES_RECEIVER {
            self.last = 0;
        }
    }

    /// Sends a message. The caller holds its blocks and goes on to do so: passing a frame on is a send, then a release.
    ///
    /// A message without blocks occupies nothing and is always in order: it is a *fence*, whose acknowledgement covers
    /// all that was sent before it. Send one if [the oldest](Self::oldest_age) is about a second old and the receiver
    /// lives, for then a delivery was lost.
    ///
    /// # Errors
    /// The message was not sent and nothing changed.
    pub fn send<K: Counts, E>(
        &mut self,
        domain: &impl DomainCells,
        counts: &K,
        references: &References,
        now: Instant,
        push: impl FnOnce(LinkSequence) -> Result<(), E>,
    ) -> Result<LinkSequence, Refused<E>> {
        if !state::is_live(domain, self.receiver) {
            return Err(Refused::ReceiverGone { receiver: self.receiver });
        }
        let sequence = LinkSequence::new(self.last + 1).map_err(|_| Refused::SequenceExhausted)?;
        self.depart(counts, references, sequence, now)?;
        self.last = sequence.number();
        // Killed before the push: nothing was shared. After it: our bits are reaped, and the receiver takes the blocks
        // if anybody else still holds them. Should the push panic, the entry ends with the next acknowledgement.
        match push(sequence) {
            Ok(()) => Ok(sequence),
            Err(refusal) => {
                self.turn_back(counts, references);
                Err(Refused::Push(refusal))
            }
        }
    }

    /// Lets go of what the receiver has dealt with, or will never deal with because it is dead (K5). Says how many
    /// messages that were.
    pub fn reclaim<K: Counts>(&mut self, domain: &impl DomainCells, counts: &K) -> usize {
        let before = self.entries.len();
        if before == 0 {
            return 0;
        }
        let ack = Ack::from_bits(domain.ack(self.receiver.slot, self.me.slot).load(Ordering::Acquire));
        while let Some(entry) = self.entries.front().copied()
            && self.has_ended(&entry, ack, domain)
        {
            self.entries.pop_front();
            entry.references.release(counts);
        }
        before - self.entries.len()
    }

    /// How many messages are in flight.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.entries.len()
    }

    /// How long the oldest message in flight has been under way.
    #[must_use]
    pub fn oldest_age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.entries.front()?.sent))
    }

    fn depart<K: Counts, E>(
        &mut self,
        counts: &K,
        references: &References,
        sequence: LinkSequence,
        now: Instant,
    ) -> Result<(), Refused<E>> {
        if references.is_empty() {
            return Ok(());
        }
        if self.entries.len() >= self.limit {
            return Err(Refused::FlightFull { limit: self.limit });
        }
        references.retain(counts)?;
        let receiver = self.receiver.incarnation;
        self.entries.push_back(Entry { sequence, receiver, references: *references, sent: now });
        Ok(())
    }

    fn turn_back<K: Counts>(&mut self, counts: &K, references: &References) {
        if !references.is_empty() {
            self.entries.pop_back();
            references.release(counts);
        }
    }

    fn has_ended(&self, entry: &Entry, ack: Ack, domain: &impl DomainCells) -> bool {
        ack.covers::<R>(self.me.incarnation, entry.sequence)
            || !state::is_live(domain, Member { slot: self.receiver.slot, incarnation: entry.receiver })
    }
}
