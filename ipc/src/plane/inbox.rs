//! The receiving side: all links into this process, polled in turn by its I/O thread.

use std::sync::atomic::Ordering;
use std::time::Duration;

use remotemedia_core::data::RuntimeData;
use remotemedia_core::frame::Metadata;

use super::frames::{self, Decoded};
use super::pools::Refusal;
use super::trace::{self, Step};
use super::{Header, Plane};
use crate::descriptor::{Descriptor, flag};
use crate::lease::{Intake, LinkSequence, References, state};
use crate::link::LinkReceiver;
use crate::slot::Member;

/// All links into this process.
pub struct Inbox {
    plane: Plane,
    links: Vec<Incoming>,
    /// Whose turn is first: nobody is always first.
    turn: usize,
}

/// What came.
#[derive(Debug)]
pub struct Arrival {
    /// Who sent it.
    pub from: Member,
    /// Session, edge, sequence.
    pub header: Header,
    /// From push to pop.
    pub hop: Duration,
    /// The rest.
    pub content: Content,
}

/// What an arrival brings.
#[derive(Debug)]
pub enum Content {
    /// A frame: its data over the sender's block, its metadata, its time in microseconds.
    Frame(RuntimeData, Metadata, Option<u64>),
    /// Nothing (more) came of this sequence.
    Mark,
    /// Nothing more comes on this edge.
    Flush,
    /// The frame cannot be had: its session must end.
    Lost,
}

/// A link into this process.
pub(crate) struct Incoming {
    from: Member,
    receiver: LinkReceiver,
    intake: Intake,
}

/// Messages taken from one link before the next one has its turn.
const BATCH: usize = 64;

// === impl Inbox ===

impl Inbox {
    /// Without links.
    #[must_use]
    pub const fn new(plane: Plane) -> Self {
        Self { plane, links: Vec::new(), turn: 0 }
    }

    /// Adds the receiving end of a link whose handshake is complete.
    pub fn add(&mut self, from: Member, receiver: LinkReceiver) {
        let intake = Intake::new(self.plane.me().slot, from);
        self.links.push(Incoming { from, receiver, intake });
    }

    /// Takes what a dead process had sent, all of it, and removes its link.
    pub fn drain(&mut self, from: Member, take: &mut impl FnMut(Arrival)) {
        drop(self.sever(from, take));
    }

    /// The same, of a link that is dropped later.
    pub(crate) fn sever(&mut self, from: Member, take: &mut impl FnMut(Arrival)) -> Option<Incoming> {
        let place = self.links.iter().position(|link| link.from == from)?;
        let mut link = self.links.swap_remove(place);
        while link.poll(&self.plane, take) {}
        Some(link)
    }

    /// Takes all that a process had sent before now. That is no more than it had credit for, which it gets back for
    /// what is worked off later.
    pub fn catch_up(&mut self, from: Member, take: &mut impl FnMut(Arrival)) {
        if let Some(link) = self.links.iter_mut().find(|link| link.from == from) {
            while link.poll(&self.plane, take) {}
        }
    }

    /// Takes what has come, at most a batch a link. Says whether anything had.
    pub fn poll(&mut self, take: &mut impl FnMut(Arrival)) -> bool {
        let count = self.links.len();
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        let (second, first) = self.links.split_at_mut(self.turn);
        let mut came = false;
        for link in first.iter_mut().chain(second) {
            for _ in 0..BATCH {
                if !link.poll(&self.plane, take) {
                    break;
                }
                came = true;
            }
        }
        came
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inbox of {} with {} links", self.plane.me(), self.links.len())
    }
}

// === impl Incoming ===

impl Incoming {
    /// Takes one message. False if there was none.
    fn poll(&mut self, plane: &Plane, take: &mut impl FnMut(Arrival)) -> bool {
        let descriptor = match self.receiver.pop() {
            Ok(Some(descriptor)) => descriptor,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(from = %self.from, %error, "link_pop_failed");
                return false;
            }
        };
        if let Some(content) = self.content(plane, &descriptor) {
            let hop = frames::monotonic_ns().saturating_sub(descriptor.pushed_ns);
            take(Arrival {
                from: self.from,
                header: Header {
                    session: descriptor.session,
                    edge: descriptor.edge,
                    sequence: descriptor.sequence,
                    last: descriptor.flags & flag::LAST != 0,
                },
                hop: Duration::from_nanos(hop),
                content,
            });
        }
        true
    }

    /// Accepts and acknowledges. None for a message that is only about the link.
    fn content(&self, plane: &Plane, descriptor: &Descriptor) -> Option<Content> {
        let (pools, domain) = (&plane.0.pools, plane.domain());
        // A number that cannot be acknowledged is a sender's lie; its own bit then stays until it dies.
        let sequence = LinkSequence::new(descriptor.link_sequence).ok()?;
        let outcome = self.intake.receive(domain, pools, sequence, &References::of(descriptor));
        if let Err(refusal) = outcome {
            // Of the death of its sender the session hears in another way.
            return self.is_loss(plane, descriptor, &refusal).then_some(Content::Lost);
        }
        trace::payload(pools, Step::Arrived, self.from, descriptor);
        match frames::read(pools, descriptor) {
            Ok(Decoded::Frame(data, metadata)) => {
                let time = Some(descriptor.timestamp_us).filter(|time| *time != u64::MAX);
                Some(Content::Frame(data, metadata, time))
            }
            Ok(Decoded::Mark) => Some(Content::Mark),
            Ok(Decoded::Flush) => Some(Content::Flush),
            Ok(Decoded::Fence) => None,
            Err(error) => {
                tracing::warn!(from = %self.from, %error, "descriptor_misread");
                Some(Content::Lost)
            }
        }
    }

    /// Whether a frame that cannot be accepted is lost by a sender that lives.
    fn is_loss(&self, plane: &Plane, descriptor: &Descriptor, refusal: &Refusal) -> bool {
        if let Refusal::Corrupt(damage) = refusal {
            // Nothing that this process holds can be trusted any more. Its death is contained, its life would not be.
            tracing::error!(from = %self.from, %damage, "lease_words_damaged");
            std::process::abort();
        }
        let counters = &plane.0.counters;
        let lives = state::is_live(plane.domain(), self.from);
        if lives {
            counters.lost_of_living.fetch_add(1, Ordering::Relaxed);
            tracing::error!(from = %self.from, session = descriptor.session, %refusal, "frame_of_living_sender_lost");
        } else {
            counters.lost_of_dead.fetch_add(1, Ordering::Relaxed);
            tracing::info!(from = %self.from, session = descriptor.session, %refusal, "frame_of_dead_sender_lost");
        }
        lives
    }
}
