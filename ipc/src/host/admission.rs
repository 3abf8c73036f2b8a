//! Who has connected and is not a worker yet.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use remotemedia_core::node::NodeInfo;

use super::launchers::Launchers;
use super::pools::PoolBook;
use super::{HostError, say};
use crate::control::messages::{Hello, News, PROTOCOL, Report, ToGateway, ToWorker, Welcome};
use crate::control::{Channel, ChannelError, Incoming, Listener, codec};
use crate::death::{DeathError, PidFd};
use crate::doorbell::{Doorbell, DoorbellError};
use crate::guest::Waker;
use crate::link::TransportConfig;
use crate::memory::{BudgetError, Geometry, PoolFiles, SharedFileError, budget};
use crate::slot::{Member, PoolId, SLOTS};

/// Strangers, who have said nothing yet, and candidates, whose pool is being made.
#[derive(Debug)]
pub(super) struct Admission {
    strangers: BTreeMap<usize, Stranger>,
    next_place: usize,
    candidates: BTreeMap<PoolId, Candidate>,
    maker: Maker,
    /// Until when the door stays shut.
    shut_until: Option<Instant>,
}

/// A process that has introduced itself.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) channel: Channel,
    pub(super) process: PidFd,
    pub(super) pid: i32,
    pub(super) hello: Hello,
    pub(super) bell: Doorbell,
    pub(super) pool: PoolId,
}

/// Why a process is not admitted.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAdmitted {
    #[error("the domain is full: it has room for {} workers", SLOTS - 1)]
    Full,
    #[error(
        "it speaks control protocol {theirs}, this gateway {PROTOCOL}: install the same version on both sides"
    )]
    Protocol { theirs: u32 },
    #[error("it runs as user {theirs}, this gateway as user {ours}: run both as one user")]
    User { theirs: u32, ours: u32 },
    #[error("{what} has {bytes} bytes: 1 to {NAME_BYTES} are allowed")]
    Name { what: &'static str, bytes: usize },
    #[error("it offers {count} node types: {NODE_TYPES} are allowed")]
    NodeTypes { count: usize },
    #[error("as many workers as may join at once are joining: try again")]
    Busy,
    #[error("it said something else before its hello")]
    NoHello,
    #[error("as many launchers as may be connected are connected: stop one that is not needed")]
    Launchers,
    #[error("its hello came with {count} file descriptors, and not with its doorbell alone")]
    Doorbell { count: usize },
    #[error(transparent)]
    Bell(#[from] DoorbellError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    #[error(transparent)]
    Death(#[from] DeathError),
    #[error(
        "the frame pools have {reserved} of the {budget} bytes of their budget, and its own takes {needed}: raise budget_bytes, lower worker_bytes, or stop a worker"
    )]
    OverBudget { reserved: u64, budget: u64, needed: u64 },
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Memory(#[from] SharedFileError),
}

/// Who a stranger is.
enum Examined {
    Worker { process: PidFd, pid: i32, hello: Hello, bell: Doorbell },
    Launcher,
    Reporter(Report),
}

#[derive(Debug)]
struct Stranger {
    channel: Channel,
    since: Instant,
}

/// Makes pools on a thread of its own: reserving memory takes tens of milliseconds, in which frames would wait.
#[derive(Debug)]
struct Maker {
    orders: Option<SyncSender<(PoolId, Geometry)>>,
    made: Receiver<(PoolId, Result<PoolFiles, NotAdmitted>)>,
    thread: Option<JoinHandle<()>>,
}

/// A name is a label, and travels with every error.
pub(super) const NAME_BYTES: usize = 128;

/// Node types of one worker.
const NODE_TYPES: usize = 256;

/// Connections that have said nothing: more than there are slots, so that a full domain still says so.
const STRANGERS: usize = SLOTS * 2;

/// The places of [`ToGateway::Hello`], [`ToGateway::Launcher`] and [`ToGateway::Report`], the same in all versions.
const HELLO: u32 = 0;
const LAUNCHER: u32 = 6;
const REPORT: u32 = 7;

/// How long the door stays shut when the system refuses to accept.
const PAUSE: Duration = Duration::from_millis(100);

// === impl Admission ===

impl Admission {
    pub(super) fn start(waker: Waker) -> Result<Self, HostError> {
        let maker = Maker::start(waker).map_err(HostError::Thread)?;
        Ok(Self {
            strangers: BTreeMap::new(),
            next_place: 0,
            candidates: BTreeMap::new(),
            maker,
            shut_until: None,
        })
    }

    pub(super) fn strangers(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.strangers.iter().map(|(place, stranger)| (*place, &stranger.channel))
    }

    /// Whether the door is to be watched. A connection that the system refused, such as for want of file descriptors,
    /// still waits there, and would keep us from ever waiting for anything else.
    pub(super) fn is_open(&self) -> bool {
        self.shut_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Takes what waits at the door. What does not fit is closed, which its peer sees at once.
    pub(super) fn welcome_strangers(&mut self, listener: &Listener) {
        for _ in 0..STRANGERS {
            match listener.accept() {
                Ok(Some(channel)) if self.strangers.len() < STRANGERS => {
                    let stranger = Stranger { channel, since: Instant::now() };
                    self.strangers.insert(self.next_place, stranger);
                    self.next_place += 1;
                }
                Ok(Some(_refused)) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "accept_failed");
                    self.shut_until = Some(Instant::now() + PAUSE);
                    return;
                }
            }
        }
    }

    /// Stranger => (Candidate | launcher | nobody, who has said all)
    pub(super) fn listen(
        &mut self,
        place: usize,
        geometry: &Geometry,
        pools: &mut PoolBook,
        launchers: &mut Launchers,
    ) {
        let Some(stranger) = self.strangers.get_mut(&place) else { return };
        let incoming = match stranger.channel.try_recv() {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return,
            Err(error) => {
                tracing::info!(%error, "stranger_left");
                self.strangers.remove(&place);
                return;
            }
        };
        let Some(Stranger { mut channel, .. }) = self.strangers.remove(&place) else { return };
        match self.examine(&channel, incoming) {
            Ok(Examined::Launcher) => {
                if !launchers.admit(channel) {
                    tracing::warn!(refusal = %NotAdmitted::Launchers, "launcher_refused");
                }
            }
            Ok(Examined::Reporter(report)) => launchers.reports.hear(report),
            Ok(Examined::Worker { process, pid, hello, bell }) => {
                let pool = pools.next_id();
                let candidate = Candidate { channel, process, pid, hello, bell, pool };
                let ordered =
                    self.within_budget(geometry, pools).and_then(|()| self.maker.order(pool, geometry));
                match ordered {
                    Ok(()) => drop(self.candidates.insert(pool, candidate)),
                    Err(refusal) => candidate.refuse(&refusal),
                }
            }
            Err(refusal) => refuse(&mut channel, &refusal),
        }
    }

    /// Pools of the dead count as long as somebody holds frames of them.
    fn within_budget(&self, geometry: &Geometry, pools: &PoolBook) -> Result<(), NotAdmitted> {
        let needed = geometry.reserved_bytes();
        let being_made = needed.saturating_mul(self.candidates.len() as u64);
        let (reserved, budget) = (pools.reserved_bytes().saturating_add(being_made), pools.budget_bytes());
        if reserved.saturating_add(needed) > budget {
            return Err(NotAdmitted::OverBudget { reserved, budget, needed });
        }
        Ok(())
    }

    /// The next candidate whose pool is made, or could not be.
    pub(super) fn next_candidate(&mut self) -> Option<(Candidate, Result<PoolFiles, NotAdmitted>)> {
        while let Ok((pool, made)) = self.maker.made.try_recv() {
            if let Some(candidate) = self.candidates.remove(&pool) {
                return Some((candidate, made));
            }
        }
        None
    }

    pub(super) fn forget_the_silent(&mut self, limit: Duration) {
        self.strangers.retain(|_, stranger| stranger.since.elapsed() < limit);
    }

    fn examine(&self, channel: &Channel, Incoming { bytes, fds }: Incoming) -> Result<Examined, NotAdmitted> {
        let peer = channel.peer_credentials()?;
        let ours = geteuid().as_raw();
        if peer.uid != ours {
            return Err(NotAdmitted::User { theirs: peer.uid, ours });
        }
        let hello = match decode_first(&bytes)? {
            ToGateway::Hello(hello) => hello,
            ToGateway::Launcher { protocol } => return check_protocol(protocol).map(|()| Examined::Launcher),
            ToGateway::Report { protocol, report } => {
                check_protocol(protocol)?;
                check_name("the name in its report", &report.name)?;
                return Ok(Examined::Reporter(report));
            }
            ToGateway::Mapped
            | ToGateway::Done(_)
            | ToGateway::Undone { .. }
            | ToGateway::News(_)
            | ToGateway::Stage(_) => return Err(NotAdmitted::NoHello),
        };
        check_hello(&hello)?;
        if self.candidates.len() >= SLOTS {
            return Err(NotAdmitted::Busy);
        }
        let [bell] =
            <[OwnedFd; 1]>::try_from(fds).map_err(|fds| NotAdmitted::Doorbell { count: fds.len() })?;
        let (process, bell) = (PidFd::of_peer(channel)?, Doorbell::from_fd(bell)?);
        Ok(Examined::Worker { process, pid: peer.pid, hello, bell })
    }
}

/// Of another version only its number can be read.
fn decode_first(bytes: &[u8]) -> Result<ToGateway, NotAdmitted> {
    codec::decode(bytes).map_err(|error| match codec::decode_start::<(u32, u32)>(bytes) {
        Ok((HELLO | LAUNCHER | REPORT, theirs)) if theirs != PROTOCOL => NotAdmitted::Protocol { theirs },
        Ok(_) | Err(_) => error.into(),
    })
}

fn check_protocol(theirs: u32) -> Result<(), NotAdmitted> {
    if theirs == PROTOCOL { Ok(()) } else { Err(NotAdmitted::Protocol { theirs }) }
}

fn check_hello(hello: &Hello) -> Result<(), NotAdmitted> {
    let Hello { protocol, name, kind, nodes, loading, invocation: _ } = hello;
    check_protocol(*protocol)?;
    check_name("its name", name)?;
    check_name("its kind", kind)?;
    loading.iter().try_for_each(|step| check_name("what it does", step))?;
    check_offer(nodes)
}

/// Looks at what a worker says of itself after its hello.
pub(super) fn check_news(news: &News) -> Result<(), NotAdmitted> {
    match news {
        News::Loading { step } => check_name("what it does", step),
        News::Offers { nodes } => check_offer(nodes),
        News::Ready | News::Leaving => Ok(()),
    }
}

fn check_offer(nodes: &[NodeInfo]) -> Result<(), NotAdmitted> {
    if nodes.len() > NODE_TYPES {
        return Err(NotAdmitted::NodeTypes { count: nodes.len() });
    }
    nodes.iter().try_for_each(|node| check_name("a node type's name", &node.name))
}

fn check_name(what: &'static str, name: &str) -> Result<(), NotAdmitted> {
    if name.is_empty() || name.len() > NAME_BYTES {
        return Err(NotAdmitted::Name { what, bytes: name.len() });
    }
    Ok(())
}

// === impl Candidate ===

impl Candidate {
    pub(super) fn welcome(
        &self,
        member: Member,
        transport: &TransportConfig,
        geometry: &Geometry,
    ) -> Welcome {
        Welcome { member, transport: transport.clone(), pool: self.pool, geometry: geometry.clone() }
    }

    pub(super) fn refuse(mut self, refusal: &NotAdmitted) {
        refuse(&mut self.channel, refusal);
    }
}

/// Says why, as far as the peer listens.
fn refuse(channel: &mut Channel, refusal: &NotAdmitted) {
    tracing::warn!(%refusal, "worker_refused");
    let told = ToWorker::Refused { protocol: PROTOCOL, reason: refusal.to_string() };
    if let Err(error) = say(channel, &told, &[]) {
        tracing::info!(%error, "refusal_not_heard");
    }
}

// === impl Maker ===

impl Maker {
    fn start(waker: Waker) -> std::io::Result<Self> {
        let (orders, ordered) = sync_channel::<(PoolId, Geometry)>(SLOTS);
        let (done, made) = sync_channel(SLOTS);
        let thread = thread::Builder::new().name("pool-maker".to_owned()).spawn(move || {
            while let Ok((pool, geometry)) = ordered.recv() {
                if done.send((pool, make(pool, &geometry))).is_err() {
                    return;
                }
                waker.wake();
            }
        })?;
        Ok(Self { orders: Some(orders), made, thread: Some(thread) })
    }

    fn order(&self, pool: PoolId, geometry: &Geometry) -> Result<(), NotAdmitted> {
        match self.orders.as_ref().map(|orders| orders.try_send((pool, geometry.clone()))) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => Err(NotAdmitted::Busy),
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It makes at most what was ordered, each in tens of milliseconds; the channel of what is made holds all.
            thread.join().unwrap_or_default();
        }
    }
}

fn make(pool: PoolId, geometry: &Geometry) -> Result<PoolFiles, NotAdmitted> {
    budget::check(geometry.reserved_bytes())?;
    Ok(PoolFiles::create(pool, geometry)?)
}

#[cfg(test)]
mod tests {
    use remotemedia_core::fault::DeathCause;
    use remotemedia_core::launching::Invocation;

    use super::*;

    fn report() -> Report {
        let (invocation, name) = (Invocation(1), "rust-1".to_owned());
        Report { invocation, name, cause: DeathCause::Unknown, is_failure: true }
    }

    #[test]
    fn the_version_of_a_stranger_is_read_though_the_rest_cannot_be() {
        for (place, message) in [
            (
                HELLO,
                ToGateway::Hello(Hello {
                    protocol: PROTOCOL,
                    name: "a".to_owned(),
                    kind: "b".to_owned(),
                    nodes: Vec::new(),
                    loading: None,
                    invocation: None,
                }),
            ),
            (LAUNCHER, ToGateway::Launcher { protocol: PROTOCOL }),
            (REPORT, ToGateway::Report { protocol: PROTOCOL, report: report() }),
        ] {
            let bytes = codec::encode(&message).unwrap();
            assert_eq!(decode_first(&bytes).unwrap(), message);
            assert_eq!(codec::decode_start::<(u32, u32)>(&bytes).unwrap(), (place, PROTOCOL));
            let strange = codec::encode(&(place, 99_u32, "what nobody here understands")).unwrap();
            assert!(
                matches!(decode_first(&strange), Err(NotAdmitted::Protocol { theirs: 99 })),
                "{message:?}"
            );
        }
        assert!(matches!(decode_first(&[0]), Err(NotAdmitted::Codec(_))));
        // Ours, and damaged.
        let damaged = codec::encode(&(HELLO, PROTOCOL, u64::MAX)).unwrap();
        assert!(matches!(decode_first(&damaged), Err(NotAdmitted::Codec(_))));
    }
}
