//! This process's ends of its links: does the steps of their handshakes, for a guest and for the host alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::control::messages::Step;
use crate::doorbell::Doorbell;
use crate::link::{LinkError, LinkReceiver, Transport};
use crate::plane::{Arrival, End, Inbox, Incoming, Plane};
use crate::slot::Member;

/// A process's links, and the doorbells of those to whom it may send.
#[derive(Debug)]
pub(crate) struct Ends {
    transport: Transport,
    plane: Plane,
    inbox: Inbox,
    bells: BTreeMap<Member, Arc<Doorbell>>,
    /// Receivers whose sender has not come up: not polled, for a sender that dies half-way leaves a connection on
    /// which opening hangs.
    awaiting: BTreeMap<Member, LinkReceiver>,
}

/// This process's ends of links with a dead process, of no use any more. To drop them means to remove files, which is no
/// matter of moments.
pub(crate) struct Severed {
    _awaiting: Option<LinkReceiver>,
    _incoming: Option<Incoming>,
    _outgoing: Option<End>,
}

/// A step cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The transport refused.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peer was not announced, or is gone.
    #[error("{peer} is not known here")]
    UnknownPeer {
        /// The other end.
        peer: Member,
    },
    /// The other end is not there, although it has reported so.
    #[error("the receiving end at {peer} cannot be seen")]
    NoReceiver {
        /// The other end.
        peer: Member,
    },
}

impl Ends {
    pub(crate) fn new(transport: Transport, plane: Plane) -> Self {
        let inbox = Inbox::new(plane.clone());
        Self { transport, plane, inbox, bells: BTreeMap::new(), awaiting: BTreeMap::new() }
    }

    pub(crate) const fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn peer_up(&mut self, member: Member, bell: Doorbell) {
        let bell = Arc::new(bell);
        self.plane.announce(member, Arc::clone(&bell));
        self.bells.insert(member, bell);
    }

    /// Takes what the dead process had sent, and severs all links with it.
    pub(crate) fn peer_down(&mut self, member: Member, take: &mut impl FnMut(Arrival)) -> Severed {
        let awaiting = self.awaiting.remove(&member);
        let incoming = self.inbox.sever(member, take);
        let outgoing = self.plane.disconnect(member);
        self.bells.remove(&member);
        Severed { _awaiting: awaiting, _incoming: incoming, _outgoing: outgoing }
    }

    /// Takes what the process had sent before now.
    pub(crate) fn catch_up(&mut self, member: Member, take: &mut impl FnMut(Arrival)) {
        self.inbox.catch_up(member, take);
    }

    pub(crate) fn poll(&mut self, take: &mut impl FnMut(Arrival)) -> bool {
        self.inbox.poll(take)
    }

    pub(crate) fn take_step(&mut self, step: Step) -> Result<(), StepError> {
        let me = self.plane.me();
        match step {
            Step::Subscribe { from } => {
                self.awaiting.insert(from, self.transport.subscribe(from, me)?);
            }
            Step::Publish { to } => {
                let bell = self.bells.get(&to).ok_or(StepError::UnknownPeer { peer: to })?;
                let sender = self.transport.publish(me, to)?;
                if sender.receivers() != 1 {
                    return Err(StepError::NoReceiver { peer: to });
                }
                self.plane.connect(to, sender, Arc::clone(bell));
            }
            Step::Settle { from } => {
                let receiver = self.awaiting.remove(&from).ok_or(StepError::UnknownPeer { peer: from })?;
                receiver.settle()?;
                self.inbox.add(from, receiver);
            }
        }
        Ok(())
    }
}
