//! The sending side: one place for each slot to which this process may send.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frames;
use super::pools::Pools;
use crate::descriptor::Descriptor;
use crate::doorbell::{Doorbell, ring_if_asleep};
use crate::lease::{Flight, References, Refused};
use crate::link::{LinkSender, PushRefused};
use crate::memory::Domain;
use crate::slot::{Incarnation, Member, Slot};

/// A frame was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No link leads there.
    #[error("no link leads to {to}")]
    NotConnected {
        /// The receiver.
        to: Member,
    },
    /// The receiver is dead, the link is full, or the link is broken. Full is a bug: credit keeps links from it.
    #[error("cannot send to {to}: {refused}")]
    Refused {
        /// The receiver.
        to: Member,
        /// Why.
        refused: Refused<PushRefused>,
    },
}

/// All slots to which this process may send.
pub(super) struct Peers {
    me: Member,
    places: Vec<Mutex<Place>>,
}

/// One slot. The flight outlives its receivers: a link's order goes on when the receiver is replaced (K4).
struct Place {
    flight: Flight,
    end: Option<End>,
    /// The bell of whoever lives there, linked or not: who gives credit back rings it without ever sending.
    bell: Option<(Member, Arc<Doorbell>)>,
    fenced: Option<Instant>,
}

/// The way to a process.
pub(crate) struct End {
    to: Member,
    sender: LinkSender,
    bell: Arc<Doorbell>,
}

// === impl SendError ===

impl SendError {
    /// Whether the receiver is dead, which is nobody's mistake.
    #[must_use]
    pub const fn is_death(&self) -> bool {
        match self {
            Self::NotConnected { .. } => true,
            Self::Refused { refused, .. } => {
                matches!(refused, Refused::ReceiverGone { .. } | Refused::Push(PushRefused::NoReceiver))
            }
        }
    }
}

// === impl Peers ===

impl Peers {
    pub(super) fn new(me: Member, link_capacity: usize) -> Self {
        let place = |slot| {
            let nobody = Member { slot, incarnation: Incarnation::new(0) };
            let flight = Flight::new(me, nobody, link_capacity);
            Mutex::new(Place { flight, end: None, bell: None, fenced: None })
        };
        Self { me, places: Slot::all().map(place).collect() }
    }

    pub(super) fn announce(&self, member: Member, bell: Arc<Doorbell>) {
        self.place(member.slot).bell = Some((member, bell));
    }

    pub(super) fn connect(&self, to: Member, sender: LinkSender, bell: Arc<Doorbell>) {
        let mut place = self.place(to.slot);
        place.flight.rebind(to.incarnation);
        place.end = Some(End { to, sender, bell });
    }

    /// Gives what is left of the way there: to drop it takes a while.
    pub(super) fn disconnect(&self, to: Member) -> Option<End> {
        let mut place = self.place(to.slot);
        if place.bell.as_ref().is_some_and(|(member, _)| *member == to) {
            place.bell = None;
        }
        place.end.take_if(|end| end.to == to)
    }

    pub(super) fn ring(&self, domain: &Domain, slot: Slot) {
        if let Some((_, bell)) = &self.place(slot).bell {
            ring_if_asleep(domain.asleep(slot), bell);
        }
    }

    pub(super) fn send(
        &self,
        domain: &Domain,
        pools: &Pools,
        to: Member,
        descriptor: &mut Descriptor,
        references: &References,
    ) -> Result<(), SendError> {
        let mut place = self.place(to.slot);
        let Place { flight, end, .. } = &mut *place;
        let Some(end) = end.as_ref().filter(|end| end.to == to) else {
            return Err(SendError::NotConnected { to });
        };
        // Credit comes back by the edge's cell, which may be faster than the I/O thread's next look at this one (K6).
        flight.reclaim(domain, pools);
        flight
            .send(domain, pools, references, Instant::now(), |sequence| {
                descriptor.link_sequence = sequence.number();
                descriptor.pushed_ns = frames::monotonic_ns();
                end.sender.push(descriptor)
            })
            .map_err(|refused| SendError::Refused { to, refused })?;
        ring_if_asleep(domain.asleep(to.slot), &end.bell);
        Ok(())
    }

    /// Says how many messages came out of flight.
    pub(super) fn reclaim(&self, domain: &Domain, pools: &Pools, fence_age: Duration) -> usize {
        let mut ended = 0;
        for place in &self.places {
            let mut place = lock(place);
            if place.flight.outstanding() == 0 {
                continue;
            }
            ended += place.flight.reclaim(domain, pools);
            place.fence(self.me, domain, pools, fence_age);
        }
        ended
    }

    pub(super) fn in_flight(&self) -> usize {
        self.places.iter().map(|place| lock(place).flight.outstanding()).sum()
    }

    fn place(&self, slot: Slot) -> MutexGuard<'_, Place> {
        lock(&self.places[slot.index()])
    }
}

// === impl Place ===

impl Place {
    /// The transport loses nothing between living processes; should it do so all the same, the acknowledgement of an
    /// empty message covers what was lost. At most one for each `fence_age`, and a refused one is tried again then.
    fn fence(&mut self, me: Member, domain: &Domain, pools: &Pools, fence_age: Duration) {
        let now = Instant::now();
        let overdue = self.flight.oldest_age(now).is_some_and(|age| age > fence_age);
        let recent = self.fenced.is_some_and(|at| now.saturating_duration_since(at) < fence_age);
        let Some(end) = self.end.as_ref().filter(|_| overdue && !recent) else { return };
        self.fenced = Some(now);
        let mut descriptor = frames::fence(me);
        let sent = self.flight.send(domain, pools, &References::NONE, now, |sequence| {
            descriptor.link_sequence = sequence.number();
            end.sender.push(&descriptor)
        });
        tracing::warn!(to = %end.to, sent = sent.is_ok(), "fence");
        ring_if_asleep(domain.asleep(end.to.slot), &end.bell);
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
