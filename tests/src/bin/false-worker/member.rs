//! A place in a domain, held by hand: what [`remotemedia_ipc::guest::Guest`] keeps a worker from doing can be done here.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use remotemedia_ipc::control::codec::{self, CodecError};
use remotemedia_ipc::control::messages::{Hello, StageCommand, Step, ToGateway, ToWorker};
use remotemedia_ipc::control::{Channel, ChannelError, Incoming};
use remotemedia_ipc::descriptor::Descriptor;
use remotemedia_ipc::doorbell::{Doorbell, DoorbellError, ring_if_asleep};
use remotemedia_ipc::guest::SOCKET;
use remotemedia_ipc::link::{LinkError, LinkReceiver, LinkSender, PushRefused, Transport};
use remotemedia_ipc::memory::{Domain, DomainError, ProducerMap, ReaderMap, SharedFileError};
use remotemedia_ipc::plane::{Arrival, Inbox, NoBlock, Plane};
use remotemedia_ipc::slot::Member as Id;

/// Admitted, and bound by nothing but the messages.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) plane: Plane,
    channel: Channel,
    transport: Transport,
    inbox: Inbox,
    bell: Doorbell,
    bells: BTreeMap<Id, Doorbell>,
    /// Ends whose other end has not come up.
    awaiting: BTreeMap<Id, LinkReceiver>,
    senders: BTreeMap<Id, Outward>,
    /// Links that lead here.
    settled: usize,
}

/// What the gateway or a peer wants.
#[derive(Debug)]
pub(crate) enum Event {
    Arrival(Arrival),
    Command(StageCommand),
    /// It may go.
    Dismissed,
}

/// Why it is no member any more, or never was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Gone {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Push(#[from] PushRefused),
    #[error(transparent)]
    Memory(#[from] SharedFileError),
    #[error(transparent)]
    Domain(#[from] DomainError),
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    #[error(transparent)]
    NoBlock(#[from] NoBlock),
    #[error("expected {what}")]
    Expected { what: &'static str },
}

/// The sending end of a link, and the number of the last message on it.
#[derive(Debug)]
struct Outward {
    sender: LinkSender,
    sent: u64,
}

/// For what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

// === impl Member ===

impl Member {
    /// Says hello to the gateway in a directory, and maps what it is given.
    pub(crate) fn join(dir: &Path, hello: &Hello) -> Result<Self, Gone> {
        let mut channel = Channel::connect(&dir.join(SOCKET), Instant::now() + PATIENCE)?;
        let bell = Doorbell::new()?;
        channel.send(&codec::encode(&ToGateway::Hello(hello.clone()))?, &[bell.as_fd()])?;
        let Incoming { bytes, fds } = channel.recv_blocking(Instant::now() + PATIENCE)?;
        let ToWorker::Welcome(welcome) = codec::decode(&bytes)? else {
            return Err(Gone::Expected { what: "a welcome" });
        };
        let [domain, words, payload] = exactly(fds)?;
        let plane = Plane::new(welcome.member, Domain::map(domain)?, welcome.transport.capacity);
        plane.add_own_pool(welcome.pool, ProducerMap::map(welcome.geometry, words, payload)?);
        let transport = Transport::open(&welcome.transport, &hello.name)?;
        let mut member = Self {
            inbox: Inbox::new(plane.clone()),
            plane,
            channel,
            transport,
            bell,
            bells: BTreeMap::new(),
            awaiting: BTreeMap::new(),
            senders: BTreeMap::new(),
            settled: 0,
        };
        member.say(&ToGateway::Mapped)?;
        Ok(member)
    }

    /// Takes what has come.
    pub(crate) fn turn(&mut self, take: &mut impl FnMut(Event)) -> Result<(), Gone> {
        if !self.inbox.poll(&mut |arrival| take(Event::Arrival(arrival))) {
            self.bell.wait(Instant::now() + LOOK_EVERY)?;
        }
        self.bell.drain();
        while let Some(Incoming { bytes, fds }) = self.channel.try_recv()? {
            self.hear(codec::decode(&bytes)?, fds, take)?;
        }
        self.channel.flush()?;
        self.plane.reclaim();
        Ok(())
    }

    /// Whether links stand to and from somebody, of whom the gateway is the first: it has joined.
    pub(crate) fn is_linked(&self) -> bool {
        !self.senders.is_empty() && self.settled > 0
    }

    /// Says something.
    pub(crate) fn say(&mut self, message: &ToGateway) -> Result<(), Gone> {
        Ok(self.channel.send(&codec::encode(message)?, &[])?)
    }

    /// Pushes a descriptor as it is, but for its number, which follows the last.
    pub(crate) fn push(&mut self, to: Id, descriptor: Descriptor) -> Result<(), Gone> {
        let outward = self.senders.get_mut(&to).ok_or(Gone::Expected { what: "a link to the receiver" })?;
        outward.sent += 1;
        let link_sequence = outward.sent;
        self.push_as_it_is(to, &Descriptor { link_sequence, ..descriptor })
    }

    /// Pushes the last number again.
    pub(crate) fn push_again(&mut self, to: Id, descriptor: Descriptor) -> Result<(), Gone> {
        let link_sequence = self.senders.get(&to).map_or(0, |outward| outward.sent);
        self.push_as_it_is(to, &Descriptor { link_sequence, ..descriptor })
    }

    fn push_as_it_is(&self, to: Id, descriptor: &Descriptor) -> Result<(), Gone> {
        let outward = self.senders.get(&to).ok_or(Gone::Expected { what: "a link to the receiver" })?;
        outward.sender.push(descriptor)?;
        if let Some(bell) = self.bells.get(&to) {
            ring_if_asleep(self.plane.domain().asleep(to.slot), bell);
        }
        Ok(())
    }

    fn hear(
        &mut self,
        message: ToWorker,
        fds: Vec<OwnedFd>,
        take: &mut impl FnMut(Event),
    ) -> Result<(), Gone> {
        match message {
            ToWorker::PeerUp { member } => {
                let [bell] = exactly(fds)?;
                self.bells.insert(member, Doorbell::from_fd(bell)?);
            }
            ToWorker::PeerDown { member } => {
                self.inbox.drain(member, &mut |arrival| take(Event::Arrival(arrival)));
                self.awaiting.remove(&member);
                self.senders.remove(&member);
                self.bells.remove(&member);
            }
            ToWorker::PoolUp { pool, owner, geometry } => {
                let [words, payload] = exactly(fds)?;
                self.plane.add_pool(pool, owner, ReaderMap::map(geometry, words, payload)?);
            }
            ToWorker::PoolDown { pool } => self.plane.forget_pool(pool),
            ToWorker::Do(step) => {
                self.take_step(step)?;
                self.say(&ToGateway::Done(step))?;
            }
            ToWorker::Stage(command) => take(Event::Command(command)),
            ToWorker::Dismissed => take(Event::Dismissed),
            ToWorker::InService => {}
            ToWorker::Welcome(_) | ToWorker::Refused { .. } => {
                return Err(Gone::Expected { what: "no second answer to the hello" });
            }
        }
        Ok(())
    }

    fn take_step(&mut self, step: Step) -> Result<(), Gone> {
        let me = self.plane.me();
        match step {
            Step::Subscribe { from } => {
                self.awaiting.insert(from, self.transport.subscribe(from, me)?);
            }
            Step::Publish { to } => {
                let sender = self.transport.publish(me, to)?;
                self.senders.insert(to, Outward { sender, sent: 0 });
            }
            Step::Settle { from } => {
                let receiver =
                    self.awaiting.remove(&from).ok_or(Gone::Expected { what: "a subscription" })?;
                receiver.settle()?;
                self.inbox.add(from, receiver);
                self.settled += 1;
            }
        }
        Ok(())
    }
}

fn exactly<const N: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], Gone> {
    fds.try_into().map_err(|_| Gone::Expected { what: "as many file descriptors as the message has" })
}
