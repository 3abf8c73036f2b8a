//! A worker's side of the domain: it joins, keeps its place, and hears when the gateway is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::control::messages::{Hello, News, StageCommand, StageReply, Step, ToGateway, ToWorker, Welcome};
use crate::control::{Channel, ChannelError, Incoming, codec};
use crate::death::{DeathError, PidFd};
use crate::doorbell::{self, Doorbell, DoorbellError};
use crate::ends::{Ends, StepError};
use crate::link::{LinkError, Transport};
use crate::memory::{Domain, DomainError, ProducerMap, ReaderMap, SharedFileError};
use crate::plane::{Arrival, Plane};
use crate::slot::Member;

/// The control socket's name in the runtime directory.
pub const SOCKET: &str = "control.sock";

/// A process admitted to a domain. Owned by the worker's I/O thread.
#[derive(Debug)]
pub struct Guest {
    me: Member,
    plane: Plane,
    ends: Ends,
    channel: Channel,
    gateway: PidFd,
    bell: Arc<Doorbell>,
}

/// What happened.
#[derive(Debug)]
pub enum GuestEvent {
    /// A frame or a mark came over a link.
    Arrival(Arrival),
    /// The gateway wants something of a stage.
    Command(StageCommand),
    /// Another process is dead; what it had sent has been delivered before this.
    PeerDown(Member),
    /// The answer to [`News::Leaving`]: this process has no session, and gets none.
    Dismissed,
    /// This process has joined and loaded, and the next session may be given to it.
    InService,
}

/// Wakes a guest's or host's I/O thread from another thread.
#[derive(Clone, Debug)]
pub struct Waker {
    plane: Plane,
    bell: Arc<Doorbell>,
}

/// Not admitted, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The connection broke, or the gateway is not there.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The gateway does not want us.
    #[error("the gateway refused this worker: {reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// The gateway speaks another version of the control protocol.
    #[error("the gateway is of another version: {reason}")]
    Version {
        /// Which, and what to do.
        reason: String,
    },
    /// What the gateway sent cannot be read.
    #[error("the gateway sent what cannot be read: {problem}")]
    Misread {
        /// What is wrong with it.
        problem: String,
    },
    /// The gateway is dead.
    #[error("the gateway is gone")]
    GatewayGone,
    /// Shared memory is not as announced.
    #[error(transparent)]
    Memory(#[from] SharedFileError),
    /// The domain file is not as announced.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The transport refused.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No doorbell.
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    /// The gateway cannot be watched.
    #[error(transparent)]
    Death(#[from] DeathError),
    /// The system refused to wait.
    #[error("cannot wait for events: {0}")]
    Wait(Errno),
}

// === impl GuestError ===

impl GuestError {
    /// Whether this process could not even ask: no file descriptor is left for a connection.
    #[must_use]
    pub fn is_for_want_of_descriptors(&self) -> bool {
        let Self::Channel(ChannelError::Io { source, .. }) = self else { return false };
        let errno = source.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
    }
}

/// How long a whole joining may take where the gateway answers.
const JOIN_STEP: Duration = Duration::from_secs(10);

// === impl Guest ===

impl Guest {
    /// Joins the domain of the gateway in `runtime_dir`, waiting for its socket until the deadline.
    ///
    /// # Errors
    /// There is no gateway, or it refuses.
    pub fn join(runtime_dir: &Path, hello: Hello, deadline: Instant) -> Result<Self, GuestError> {
        let mut channel = Channel::connect(&runtime_dir.join(SOCKET), deadline)?;
        let gateway = PidFd::of_peer(&channel)?;
        let bell = Doorbell::new()?;
        let (name, ours) = (hello.name.clone(), hello.protocol);
        send(&mut channel, &ToGateway::Hello(hello), &[bell.as_fd()])?;
        let deadline = Instant::now() + JOIN_STEP;
        let (welcome, fds) = receive_welcome(&mut channel, ours, deadline)?;
        let [domain, words, payload] = fds;
        let plane = Plane::new(welcome.member, Domain::map(domain)?, welcome.transport.capacity);
        plane.add_own_pool(welcome.pool, ProducerMap::map(welcome.geometry, words, payload)?);
        let transport = Transport::open(&welcome.transport, &name)?;
        let ends = Ends::new(transport, plane.clone());
        let me = welcome.member;
        let mut guest = Self { me, plane, ends, channel, gateway, bell: Arc::new(bell) };
        guest.say(&ToGateway::Mapped)?;
        Ok(guest)
    }

    /// Who this process is.
    #[must_use]
    pub const fn me(&self) -> Member {
        self.me
    }

    /// This process's data plane.
    #[must_use]
    pub const fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Ends a wait of [`Self::turn`] from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { plane: self.plane.clone(), bell: Arc::clone(&self.bell) }
    }

    /// Answers about a stage.
    ///
    /// # Errors
    /// The gateway is gone, or does not read.
    pub fn reply(&mut self, reply: StageReply) -> Result<(), GuestError> {
        self.say(&ToGateway::Stage(reply))
    }

    /// Says something of this process.
    ///
    /// # Errors
    /// The gateway is gone, or does not read.
    pub fn announce(&mut self, news: News) -> Result<(), GuestError> {
        self.say(&ToGateway::News(news))
    }

    /// Waits for something to happen, but not longer than `at_most`, and hands it to `take`. `busy` is asked after
    /// the process has said that it goes to sleep: true if other threads have left work meanwhile.
    ///
    /// # Errors
    /// The gateway is gone, or says what nobody understands: this membership is over.
    pub fn turn(
        &mut self,
        at_most: Duration,
        busy: impl FnOnce() -> bool,
        take: &mut impl FnMut(GuestEvent),
    ) -> Result<(), GuestError> {
        let came = self.ends.poll(&mut |arrival| take(GuestEvent::Arrival(arrival)));
        let asleep = self.plane.domain().asleep(self.me.slot);
        doorbell::arm(asleep);
        let came = came || busy() || self.ends.poll(&mut |arrival| take(GuestEvent::Arrival(arrival)));
        let timeout = if came { Duration::ZERO } else { at_most.min(doorbell::TICK) };
        let [control, gateway] = self.wait(timeout)?;
        doorbell::disarm(self.plane.domain().asleep(self.me.slot));
        self.bell.drain();
        if control {
            self.hear(take)?;
        }
        self.channel.flush()?;
        self.plane.reclaim();
        if gateway { Err(GuestError::GatewayGone) } else { Ok(()) }
    }

    fn wait(&self, timeout: Duration) -> Result<[bool; 2], GuestError> {
        let writing = if self.channel.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut fds = [
            PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN | writing),
            PollFd::new(self.gateway.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(GuestError::Wait(errno)),
        }
        let readable = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok([readable(&fds[1]), readable(&fds[2])])
    }

    fn hear(&mut self, take: &mut impl FnMut(GuestEvent)) -> Result<(), GuestError> {
        while let Some(Incoming { bytes, fds }) = self.channel.try_recv()? {
            match decode(&bytes)? {
                ToWorker::PeerUp { member } => {
                    let [bell] = take_fds(fds)?;
                    self.ends.peer_up(member, Doorbell::from_fd(bell)?);
                }
                ToWorker::PeerDown { member } => {
                    drop(self.ends.peer_down(member, &mut |arrival| take(GuestEvent::Arrival(arrival))));
                    take(GuestEvent::PeerDown(member));
                }
                ToWorker::PoolUp { pool, owner, geometry } => {
                    let [words, payload] = take_fds(fds)?;
                    self.plane.add_pool(pool, owner, ReaderMap::map(geometry, words, payload)?);
                }
                ToWorker::PoolDown { pool } => self.plane.forget_pool(pool),
                ToWorker::Do(step) => self.take_step(step)?,
                ToWorker::Stage(command) => take(GuestEvent::Command(command)),
                ToWorker::Dismissed => take(GuestEvent::Dismissed),
                ToWorker::InService => take(GuestEvent::InService),
                ToWorker::Refused { protocol: _, reason } => return Err(GuestError::Refused { reason }),
                ToWorker::Welcome(_) => {
                    return Err(GuestError::Misread { problem: "a second welcome".to_owned() });
                }
            }
        }
        Ok(())
    }

    fn take_step(&mut self, step: Step) -> Result<(), GuestError> {
        let answer = match self.ends.take_step(step) {
            Ok(()) => ToGateway::Done(step),
            Err(
                error @ (StepError::Link(_) | StepError::UnknownPeer { .. } | StepError::NoReceiver { .. }),
            ) => ToGateway::Undone { step, problem: error.to_string() },
        };
        self.say(&answer)
    }

    fn say(&mut self, message: &ToGateway) -> Result<(), GuestError> {
        send(&mut self.channel, message, &[])
    }
}

// === impl Waker ===

impl Waker {
    pub(crate) const fn new(plane: Plane, bell: Arc<Doorbell>) -> Self {
        Self { plane, bell }
    }

    /// Wakes the thread, if it sleeps.
    pub fn wake(&self) {
        doorbell::ring_if_asleep(self.plane.domain().asleep(self.plane.me().slot), &self.bell);
    }
}

fn receive_welcome(
    channel: &mut Channel,
    ours: u32,
    deadline: Instant,
) -> Result<(Welcome, [OwnedFd; 3]), GuestError> {
    let Incoming { bytes, fds } = channel.recv_blocking(deadline)?;
    match decode(&bytes)? {
        ToWorker::Welcome(welcome) => Ok((welcome, take_fds(fds)?)),
        ToWorker::Refused { protocol, reason } if protocol != ours => Err(GuestError::Version { reason }),
        ToWorker::Refused { protocol: _, reason } => Err(GuestError::Refused { reason }),
        ToWorker::PeerUp { .. }
        | ToWorker::PeerDown { .. }
        | ToWorker::PoolUp { .. }
        | ToWorker::PoolDown { .. }
        | ToWorker::Do(_)
        | ToWorker::Dismissed
        | ToWorker::InService
        | ToWorker::Stage(_) => {
            Err(GuestError::Misread { problem: "something else before the welcome".to_owned() })
        }
    }
}

fn send(channel: &mut Channel, message: &ToGateway, fds: &[BorrowedFd<'_>]) -> Result<(), GuestError> {
    let bytes = codec::encode(message).map_err(|error| GuestError::Misread { problem: error.to_string() })?;
    Ok(channel.send(&bytes, fds)?)
}

fn decode(bytes: &[u8]) -> Result<ToWorker, GuestError> {
    codec::decode(bytes).map_err(|error| GuestError::Misread { problem: error.to_string() })
}

fn take_fds<const N: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], GuestError> {
    let came = fds.len();
    fds.try_into().map_err(|_| GuestError::Misread {
        problem: format!("{came} file descriptors came where {N} belong"),
    })
}
