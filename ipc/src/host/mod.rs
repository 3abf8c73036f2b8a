//! The gateway's side of the domain: it admits processes, connects them, and buries the dead.
//!
//! # A worker's way in
//!
//! ```text
//! connect, Hello + doorbell     Stranger => Candidate   its pool is made on another thread
//! Welcome + memory              Candidate => Worker     its slot is live; nobody else knows of it
//! Mapped                        its pool is sealed; peers, pools and bells are told both ways
//! links to and from us stand    Joined
//! ```
//!
//! # And out
//!
//! Death is its pidfd. In this order: the slot is marked dead, our inbox is drained of its last messages, and
//! [`HostEvent::Dead`] says so. A few milliseconds later, so that work goes to others first, its bits are cleared in every
//! pool, its own pool is retired, its links' residue is given to the cleaner, the others are told, and the slot is vacant
//! again. [`HostEvent::Died`] comes as soon as the kernel says of what, or its parent, where that is a launcher that is
//! connected, or systemd: they know more, such as want of memory. A peer that breaks the protocol
//! is only condemned: the process is killed, and its pidfd then does the rest. So is one whose connection ends, but not
//! at once: the connection of a process that is being killed ends a moment before its last thread does, and it is to be
//! known of what it died.

mod admission;
mod grave;
mod launchers;
mod links;
mod obituary;
mod pools;
mod reports;
mod way_in;
mod way_out;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use remotemedia_core::fault::DeathCause;
use remotemedia_core::launching::{LaunchOrder, LaunchRefusal, Quarantine, Rollout};

use crate::calls::Call;
use crate::cleaner::{self, Cleaner};
use crate::control::messages::{
    Burial, Hello, News, PROTOCOL, StageCommand, StageReply, Step, ToGateway, ToWorker,
};
use crate::control::{BindError, Channel, ChannelError, Incoming, Listener, codec};
use crate::death::PidFd;
use crate::doorbell::{self, Doorbell, DoorbellError};
use crate::ends::Ends;
use crate::guest::{SOCKET, Waker};
use crate::lease::reap::{self, Tenancy, Vacancy};
use crate::link::{LinkError, Transport, TransportConfig};
use crate::memory::{BudgetError, Domain, DomainError, Geometry, SharedFileError};
use crate::plane::{Arrival, Plane};
use crate::slot::{Member, PoolId, Slot};

use admission::Admission;
use grave::Grave;
use launchers::Launchers;
use links::Links;
use obituary::Obituary;
use pools::PoolBook;

/// The gateway's side of a domain. Owned by one thread.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    is_successor: bool,
    transport: TransportConfig,
    plane: Plane,
    ends: Ends,
    bell: Arc<Doorbell>,
    listener: Listener,
    cleaner: Cleaner,
    vacancies: VecDeque<Vacancy>,
    admission: Admission,
    workers: BTreeMap<Slot, Worker>,
    links: Links,
    pools: PoolBook,
    launchers: Launchers,
    obituaries: Vec<Obituary>,
    /// In the order of deaths.
    graves: VecDeque<Grave>,
    last_wait: Instant,
}

/// What a domain is made of.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// A directory of this user alone (0700), on tmpfs.
    pub runtime_dir: PathBuf,
    /// The gateway's own frame pool.
    pub gateway_pool: Geometry,
    /// Each worker's frame pool.
    pub worker_pool: Geometry,
    /// Memory of all frame pools together.
    pub budget: PoolBudget,
    /// Descriptors that a link holds.
    pub link_capacity: usize,
}

/// Memory of all frame pools together, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolBudget {
    /// What must be there at the start: for the gateway's own pool and those of the workers that are expected.
    pub at_start: u64,
    /// What they may take: a worker whose pool would go beyond is refused.
    pub at_most: u64,
}

/// What happened.
#[derive(Debug)]
pub enum HostEvent {
    /// A worker is connected both ways and can be given sessions.
    Joined {
        /// Which.
        member: Member,
        /// Its process id.
        pid: i32,
        /// What it says of itself.
        hello: Hello,
    },
    /// A worker that has joined says something of itself.
    News {
        /// Which.
        member: Member,
        /// What it says.
        news: News,
    },
    /// A worker closed its connection or broke the protocol: it is given no more work, and is being killed.
    Condemned {
        /// Which.
        member: Member,
    },
    /// A worker is dead. What it had sent has been delivered before this.
    Dead {
        /// Which.
        member: Member,
        /// The calls of nodes that it was in.
        calls: Vec<Call>,
    },
    /// What is known of the end of a worker that is [`Self::Dead`] is known now.
    Died {
        /// Which.
        member: Member,
        /// Its process id.
        pid: i32,
        /// Its name: it may have died before it was [`Self::Joined`].
        name: String,
        /// How it ended.
        cause: DeathCause,
        /// What its parent has told, if that is a launcher, or systemd.
        burial: Option<Burial>,
    },
    /// A launcher's child, or a unit of systemd, died before it was a worker.
    Stillborn(Burial),
    /// A launcher has something else to say.
    Launcher(LauncherEvent),
    /// A link stands: [`Host::connect`] is done.
    LinkUp {
        /// The sender.
        from: Member,
        /// The receiver.
        to: Member,
    },
    /// A frame or a mark came over a link.
    Arrival(Arrival),
    /// A worker answers about a stage.
    Reply {
        /// Which worker.
        member: Member,
        /// What it says.
        reply: StageReply,
    },
}

/// What a launcher says of workers that it does not start, and of what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LauncherEvent {
    /// A launcher does not start a worker for a while.
    Quarantined(Quarantine),
    /// A worker that was in quarantine is started, or its launcher is gone.
    Released {
        /// Its name.
        worker: String,
    },
    /// A worker of a launcher's has served a gateway before, and will come: by itself, or started again.
    Awaited {
        /// Its name.
        worker: String,
    },
    /// A launcher is gone.
    Parted {
        /// The names of those that it has told to come, some of which may be here.
        awaited: BTreeSet<String>,
    },
    /// How far a launcher is in replacing workers.
    Restarting(Rollout),
    /// What became of [`Host::order`].
    Answered {
        /// Which.
        request: u64,
        /// Done or begun; or why not.
        answer: Result<(), LaunchRefusal>,
    },
}

/// A domain cannot be set up, or has broken.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The control socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The memory that was configured is not there.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Shared memory.
    #[error(transparent)]
    Memory(#[from] SharedFileError),
    /// The domain file.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The transport.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No doorbell.
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    /// A thread did not start.
    #[error("cannot start the pool maker: {0}")]
    Thread(std::io::Error),
    /// The system refused to wait.
    #[error("cannot wait for events: {0}")]
    Wait(Errno),
}

/// A message was not sent to a worker.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// It is not there any more.
    #[error("{member} is not there any more")]
    Gone {
        /// Which.
        member: Member,
    },
    /// Its connection does not take it.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// It cannot be encoded.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

#[derive(Debug)]
struct Worker {
    tenancy: Tenancy,
    pool: PoolId,
    channel: Channel,
    process: PidFd,
    pid: i32,
    hello: Hello,
    bell: Doorbell,
    phase: Phase,
    standing: Standing,
    /// Whether it has said so.
    ready: bool,
    /// Whether it has been told that it may be given sessions.
    in_service: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It has its welcome, since then.
    Mapping(Instant),
    /// Its links to and from us are being made.
    Linking,
    /// It works.
    Up,
}

/// Whether a worker is listened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It is.
    Trusted,
    /// Its connection has ended, at this moment, or its end of a link is not there: it is dying, or is killed.
    Parted(Instant),
    /// It was killed, for this.
    Condemned(DeathCause),
}

/// How long a worker may take for a step that costs milliseconds: to map what it is told of, or an end of a link.
const STEP: Duration = Duration::from_secs(5);

/// How long a process may live on that has ended its connection. One that is being killed needs less than a
/// millisecond, and some hundreds where many threads want to run on each processor.
const PARTING: Duration = Duration::from_secs(1);

/// How long descriptors may keep the host from looking at sockets and deaths.
const BUSY: Duration = Duration::from_millis(1);

// === impl HostConfig ===

impl HostConfig {
    /// Finds whatever a dead gateway left in the directory, and removes it. The control socket must be ours. Whether
    /// there was one.
    fn bury_predecessors(&self) -> Result<bool, LinkError> {
        let mut found = false;
        for prefix in domains_in(&self.runtime_dir) {
            tracing::info!(prefix, "dead_gateway_removed");
            cleaner::remove_domain(&self.transport(prefix))?;
            found = true;
        }
        Ok(found)
    }

    fn transport(&self, prefix: String) -> TransportConfig {
        TransportConfig { root: self.runtime_dir.clone(), prefix, capacity: self.link_capacity }
    }
}

/// How the prefixes of our domains begin.
const PREFIX: &str = "remotemedia";

// === impl PoolBudget ===

impl PoolBudget {
    /// Whatever the machine gives.
    pub const UNBOUNDED: Self = Self { at_start: 0, at_most: u64::MAX };
}

/// The prefixes of the domains that gateways have made in this runtime directory: at most one lives.
pub fn domains_in(runtime_dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = runtime_dir.read_dir().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_prefix(name))
}

/// Whether a gateway has named its domain so: what else lies in its directory is somebody else's.
fn is_prefix(name: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix(PREFIX).is_some_and(|boot| boot.len() == 16 && boot.bytes().all(is_hex))
}

// === impl Host ===

impl Host {
    /// Sets up a domain: reserves the gateway's pool and listens for workers.
    ///
    /// # Errors
    /// Another gateway serves in this directory, or there is no memory.
    pub fn start(config: HostConfig) -> Result<Self, HostError> {
        let listener = Listener::bind(&config.runtime_dir.join(SOCKET))?;
        let is_successor = config.bury_predecessors()?;
        let boot = RandomState::new().hash_one(std::process::id());
        let transport = config.transport(format!("{PREFIX}{boot:016x}"));
        let mut vacancies = VecDeque::from(reap::vacancies());
        let domain = Domain::create(boot)?;
        // The gateway lives as long as its domain: its tenancy never ends.
        let me = vacancies.pop_front().map(|first| first.admit(&domain).member());
        let me = me.expect("a domain has slots, and the first is the gateway's");
        let plane = Plane::new(me, domain, config.link_capacity);
        let pools = PoolBook::start(&plane, &config.gateway_pool, config.budget)?;
        let ends = Ends::new(Transport::open(&transport, "gateway")?, plane.clone());
        let bell = Arc::new(Doorbell::new()?);
        Ok(Self {
            cleaner: Cleaner::new(&transport)?,
            admission: Admission::start(Waker::new(plane.clone(), Arc::clone(&bell)))?,
            config,
            is_successor,
            transport,
            plane,
            ends,
            bell,
            listener,
            vacancies,
            workers: BTreeMap::new(),
            links: Links::default(),
            pools,
            launchers: Launchers::default(),
            obituaries: Vec::new(),
            graves: VecDeque::new(),
            last_wait: Instant::now(),
        })
    }

    /// The gateway's data plane.
    #[must_use]
    pub const fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Where the domain's links are; for tests that look for what is left of them.
    #[must_use]
    pub const fn transport(&self) -> &TransportConfig {
        &self.transport
    }

    /// Whether a gateway had died in this directory, whose workers may be looking for this one.
    #[must_use]
    pub const fn is_successor(&self) -> bool {
        self.is_successor
    }

    /// Ends a wait of [`Self::turn`] from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::new(self.plane.clone(), Arc::clone(&self.bell))
    }

    /// Whether all dead processes are buried, and their residue is gone by the deadline.
    #[must_use]
    pub fn is_clean(&self, deadline: Instant) -> bool {
        self.graves.is_empty() && self.cleaner.idle(deadline)
    }

    /// Tells a worker something about a stage.
    ///
    /// # Errors
    /// It is gone or going, or its connection is full, for which it is condemned.
    pub fn tell(&mut self, member: Member, command: StageCommand) -> Result<(), TellError> {
        self.say(member, &ToWorker::Stage(command), &[])
    }

    /// Lets a worker go that has asked for it. Its end follows as [`HostEvent::Died`].
    ///
    /// # Errors
    /// It is gone already, or its connection is full, for which it is condemned.
    pub fn dismiss(&mut self, member: Member) -> Result<(), TellError> {
        self.say(member, &ToWorker::Dismissed, &[])
    }

    /// Tells a worker that there is no place for it, upon which it ends; one that does not is killed.
    ///
    /// # Errors
    /// It is gone already, or its connection is full, for which it is condemned.
    pub fn refuse(&mut self, member: Member, reason: &str) -> Result<(), TellError> {
        tracing::warn!(%member, reason, "worker_refused");
        let refusal = ToWorker::Refused { protocol: PROTOCOL, reason: reason.to_owned() };
        self.say(member, &refusal, &[])?;
        self.worker_mut(member).into_iter().for_each(Worker::part);
        Ok(())
    }

    /// Whether somebody starts it again if it dies: a launcher is connected that has said that the worker is its child, or
    /// it is a unit of systemd.
    #[must_use]
    pub fn has_launcher(&self, member: Member) -> bool {
        let worker = self.workers.get(&member.slot).filter(|worker| worker.member() == member);
        worker.is_some_and(|worker| worker.hello.invocation.is_some() || self.launchers.know(worker.pid))
    }

    /// Asks the launcher that it concerns. Unless it is refused at once, [`LauncherEvent::Answered`] follows with the number
    /// that is given.
    ///
    /// # Errors
    /// There is nobody to ask, or nothing to be done.
    pub fn order(
        &mut self,
        order: &LaunchOrder,
        take: &mut impl FnMut(HostEvent),
    ) -> Result<u64, LaunchRefusal> {
        self.launchers.order(order, take)
    }

    /// Ends a worker that cannot be trusted any more. Its death follows as [`HostEvent::Died`].
    pub fn condemn(&mut self, member: Member, cause: DeathCause) {
        if let Some(worker) = self.worker_mut(member) {
            worker.condemn(cause);
        }
    }

    /// Makes a link between two processes, unless it is there. True if it stands now; else [`HostEvent::LinkUp`]
    /// follows, or the death of one of the two, if that was not long ago.
    pub fn connect(&mut self, from: Member, to: Member, take: &mut impl FnMut(HostEvent)) -> bool {
        if !self.links.has(from, to) && self.can_link(from) && self.can_link(to) {
            match self.ends.transport().create_link(from, to) {
                Ok(service) => {
                    let next = self.links.begin(from, to, service);
                    self.step(next, take);
                }
                Err(error) => {
                    tracing::error!(%from, %to, %error, "link_not_created");
                    self.condemn(if from == self.plane.me() { to } else { from }, DeathCause::Protocol);
                }
            }
        }
        self.links.is_up(from, to)
    }

    /// Waits for something to happen, but not longer than `at_most`, and hands it to `take`. `busy` is asked after
    /// this process has said that it goes to sleep: true if other threads have left work meanwhile.
    ///
    /// # Errors
    /// The system refused to wait.
    pub fn turn(
        &mut self,
        at_most: Duration,
        busy: impl FnOnce() -> bool,
        take: &mut impl FnMut(HostEvent),
    ) -> Result<(), HostError> {
        let came = self.ends.poll(&mut |arrival| take(HostEvent::Arrival(arrival)));
        if came && self.last_wait.elapsed() < BUSY {
            self.plane.reclaim();
            return Ok(());
        }
        doorbell::arm(self.plane.domain().asleep(Slot::GATEWAY));
        let came = came || busy() || self.ends.poll(&mut |arrival| take(HostEvent::Arrival(arrival)));
        let urgent = !self.obituaries.is_empty();
        let longest = if urgent { Duration::from_millis(1) } else { at_most.min(doorbell::TICK) };
        let longest =
            self.graves.front().map_or(longest, |grave| longest.min(grave.left() + Duration::from_millis(1)));
        let ready = self.wait(if came { Duration::ZERO } else { longest })?;
        doorbell::disarm(self.plane.domain().asleep(Slot::GATEWAY));
        self.bell.drain();
        self.last_wait = Instant::now();
        self.attend(&ready, take);
        self.plane.reclaim();
        Ok(())
    }

    /// Ends the domain: nothing of it is left but what living workers have mapped.
    ///
    /// # Errors
    /// A file could not be removed.
    pub fn close(self) -> Result<(), LinkError> {
        let Self { transport, ends, links, cleaner, listener, workers, graves, .. } = self;
        drop((listener, workers, graves, links, ends, cleaner));
        cleaner::remove_domain(&transport)
    }

    fn wait(&self, timeout: Duration) -> Result<Vec<Ready>, HostError> {
        let mut sources = vec![(Ready::Bell, self.bell.as_fd(), false)];
        if self.admission.is_open() {
            sources.push((Ready::Listener, self.listener.as_fd(), false));
        }
        sources.extend(
            self.admission
                .strangers()
                .map(|(place, channel)| (Ready::Stranger(place), channel.as_fd(), false)),
        );
        let launchers = self.launchers.channels();
        sources.extend(launchers.map(|(place, channel)| (Ready::Launcher(place), channel.as_fd(), false)));
        for (slot, worker) in &self.workers {
            sources.push((Ready::Death(*slot), worker.process.as_fd(), false));
            if worker.is_trusted() {
                sources.push((Ready::Worker(*slot), worker.channel.as_fd(), worker.channel.wants_write()));
            }
        }
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .map(|(_, fd, writing)| {
                let writing = if *writing { PollFlags::POLLOUT } else { PollFlags::empty() };
                PollFd::new(*fd, PollFlags::POLLIN | writing)
            })
            .collect();
        match poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(HostError::Wait(errno)),
        }
        let ready = sources.iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(true));
        Ok(ready.map(|((source, ..), _)| *source).collect())
    }

    fn attend(&mut self, ready: &[Ready], take: &mut impl FnMut(HostEvent)) {
        // What a worker said last is heard before its death is acted on.
        for source in ready {
            match *source {
                Ready::Bell | Ready::Death(_) => {}
                Ready::Listener => self.admission.welcome_strangers(&self.listener),
                Ready::Stranger(place) => {
                    let geometry = &self.config.worker_pool;
                    self.admission.listen(place, geometry, &mut self.pools, &mut self.launchers);
                }
                Ready::Launcher(place) => self.launchers.hear(place, take),
                Ready::Worker(slot) => self.hear(slot, take),
            }
        }
        for source in ready {
            if let Ready::Death(slot) = *source {
                self.lay_out(slot, take);
            }
        }
        if ready.iter().any(Ready::is_of_control) {
            let able = self.workers.values().filter(|worker| worker.ready && worker.phase == Phase::Up);
            let able: Vec<i32> = able.map(|worker| worker.pid).collect();
            self.launchers.tell_ready(&able, take);
            self.tell_in_service();
        }
        self.admit_candidates();
        self.admission.forget_the_silent(STEP);
        self.condemn_the_slow(take);
        self.publish_obituaries(take);
        while let Some(grave) = self.graves.pop_front_if(|grave| grave.left().is_zero()) {
            self.bury(grave);
        }
        self.destroy_retired_pools();
    }

    fn hear(&mut self, slot: Slot, take: &mut impl FnMut(HostEvent)) {
        loop {
            let Some(worker) = self.workers.get_mut(&slot).filter(|worker| worker.is_trusted()) else {
                return;
            };
            let member = worker.member();
            let message = match worker.channel.flush().and_then(|_| worker.channel.try_recv()) {
                Ok(Some(Incoming { bytes, fds: _ })) => {
                    codec::decode(&bytes).map_err(|error| error.to_string())
                }
                Ok(None) => return,
                Err(ChannelError::Closed) => {
                    tracing::info!(%member, "worker_parted");
                    worker.part();
                    return take(HostEvent::Condemned { member });
                }
                Err(error) => Err(error.to_string()),
            };
            let outcome = message.and_then(|message| self.obey(member, message, take));
            if let Err(problem) = outcome {
                // Unless the problem is that it does not hear the answer: then it has parted.
                if self.worker_mut(member).is_some_and(|worker| worker.is_trusted()) {
                    tracing::warn!(%member, problem, "worker_condemned");
                    self.condemn(member, DeathCause::Protocol);
                }
                take(HostEvent::Condemned { member });
            }
        }
    }

    fn obey(
        &mut self,
        member: Member,
        message: ToGateway,
        take: &mut impl FnMut(HostEvent),
    ) -> Result<(), String> {
        match message {
            ToGateway::Hello(_) | ToGateway::Launcher { .. } | ToGateway::Report { .. } => {
                Err("a second hello".to_owned())
            }
            ToGateway::Mapped => self.introduce(member, take),
            ToGateway::Done(step) => match self.links.done(member, step) {
                Some(next) => {
                    self.step(next, take);
                    Ok(())
                }
                None => self.unless_in_vain(step, format!("{step:?}, which nobody asked for")),
            },
            ToGateway::Undone { step, problem } => {
                self.unless_in_vain(step, format!("{step:?} failed: {problem}"))
            }
            ToGateway::News(news) => self.note(member, news, take),
            ToGateway::Stage(reply) => {
                // What it says of a session it says of the frames too that it sent before, by a way that is no slower:
                // results from before a node's failure are heard before the failure.
                self.ends.catch_up(member, &mut |arrival| take(HostEvent::Arrival(arrival)));
                take(HostEvent::Reply { member, reply });
                Ok(())
            }
        }
    }

    /// What a worker says before it has joined is told as its hello.
    fn note(&mut self, member: Member, news: News, take: &mut impl FnMut(HostEvent)) -> Result<(), String> {
        admission::check_news(&news).map_err(|problem| problem.to_string())?;
        let worker = self.workers.get_mut(&member.slot).ok_or("a worker that is gone")?;
        worker.ready |= news == News::Ready;
        if worker.phase == Phase::Up {
            take(HostEvent::News { member, news });
            return Ok(());
        }
        match news {
            News::Loading { step } => worker.hello.loading = Some(step),
            News::Offers { nodes } => worker.hello.nodes = nodes,
            News::Ready => worker.hello.loading = None,
            // Nobody knows of it: it may go.
            News::Leaving => self.dismiss(member).map_err(|error| error.to_string())?,
        }
        Ok(())
    }

    /// Whoever took a step towards a process that has died meanwhile is not to blame for what came of it.
    fn unless_in_vain(&self, step: Step, problem: String) -> Result<(), String> {
        if self.can_link(links::other_end(step)) { Err(problem) } else { Ok(()) }
    }

    /// Takes one step of a link's handshake, and those that follow from it here.
    fn step(&mut self, next: links::Next, take: &mut impl FnMut(HostEvent)) {
        let mut next = Some(next);
        while let Some(doing) = next.take() {
            match doing {
                links::Next::Do { at, step } if at == self.plane.me() => match self.ends.take_step(step) {
                    Ok(()) => next = self.links.done(at, step),
                    Err(error) => {
                        let other = links::other_end(step);
                        tracing::warn!(%other, %error, "link_step_failed");
                        if let Some(worker) = self.worker_mut(other) {
                            worker.part();
                        }
                        take(HostEvent::Condemned { member: other });
                    }
                },
                links::Next::Do { at, step } => {
                    // Not said: the other end is dead or condemned, and the link goes with it.
                    self.say(at, &ToWorker::Do(step), &[]).unwrap_or_default();
                }
                links::Next::Up { from, to } => {
                    take(HostEvent::LinkUp { from, to });
                    self.join_if_linked(if from == self.plane.me() { to } else { from }, take);
                }
            }
        }
    }

    /// Workers that know of each other.
    fn introduced(&self) -> impl Iterator<Item = Member> {
        let introduced = |worker: &&Worker| !matches!(worker.phase, Phase::Mapping(_));
        self.workers.values().filter(introduced).map(Worker::member)
    }

    /// A slot's worker, if it is still that one.
    fn worker_mut(&mut self, member: Member) -> Option<&mut Worker> {
        self.workers.get_mut(&member.slot).filter(|worker| worker.member() == member)
    }

    /// Whether a link to or from it can be made: it is this process, or a worker that lives and knows of the others.
    fn can_link(&self, member: Member) -> bool {
        member == self.plane.me() || {
            let worker = self.workers.get(&member.slot).filter(|worker| worker.member() == member);
            worker.is_some_and(|worker| worker.is_trusted() && !matches!(worker.phase, Phase::Mapping(_)))
        }
    }

    fn bell_of(&self, member: Member) -> Option<std::os::fd::OwnedFd> {
        self.workers.get(&member.slot)?.bell.as_fd().try_clone_to_owned().ok()
    }

    fn say(
        &mut self,
        member: Member,
        message: &ToWorker,
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), TellError> {
        let worker = self.worker_mut(member).ok_or(TellError::Gone { member })?;
        let said = say(&mut worker.channel, message, fds);
        match &said {
            Ok(()) => {}
            Err(TellError::Channel(ChannelError::Closed)) => worker.part(),
            Err(TellError::Channel(_) | TellError::Codec(_) | TellError::Gone { .. }) => {
                worker.condemn(DeathCause::Protocol);
            }
        }
        said
    }
}

/// A source of events that has one.
#[derive(Clone, Copy, Debug)]
enum Ready {
    Bell,
    Listener,
    Stranger(usize),
    Launcher(usize),
    Worker(Slot),
    Death(Slot),
}

// === impl Ready ===

impl Ready {
    /// Whether somebody may have said something.
    const fn is_of_control(&self) -> bool {
        match self {
            Self::Launcher(_) | Self::Worker(_) => true,
            Self::Bell | Self::Listener | Self::Stranger(_) | Self::Death(_) => false,
        }
    }
}

// === impl Worker ===

impl Worker {
    const fn member(&self) -> Member {
        self.tenancy.member()
    }

    fn is_trusted(&self) -> bool {
        self.standing == Standing::Trusted
    }

    const fn condemned(&self) -> Option<DeathCause> {
        match self.standing {
            Standing::Condemned(cause) => Some(cause),
            Standing::Trusted | Standing::Parted(_) => None,
        }
    }

    /// Trusted => Parted
    fn part(&mut self) {
        if self.is_trusted() {
            self.standing = Standing::Parted(Instant::now());
        }
    }

    /// (Trusted | Parted) => Condemned. One who is dead by now has died of something else.
    fn condemn(&mut self, cause: DeathCause) {
        if self.condemned().is_none() && !self.process.is_dead().unwrap_or(false) {
            self.standing = Standing::Condemned(cause);
            if let Err(error) = self.process.kill(Signal::SIGKILL) {
                tracing::error!(pid = self.pid, %error, "worker_not_killed");
            }
        }
    }
}

fn say(
    channel: &mut Channel,
    message: &ToWorker,
    fds: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), TellError> {
    let bytes = codec::encode(message)?;
    channel.send(&bytes, fds)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_gateway_would_name_so_is_taken_for_a_dead_ones() {
        for (name, is_ours) in [
            ("remotemedia0123456789abcdef", true),
            ("remotemedia0123456789abcdeF", false),
            ("remotemedia0123456789abcde", false),
            ("remotemedia0123456789abcdef0", false),
            ("remotemedia-notes", false),
            ("remotemedia", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(is_prefix(name), is_ours, "{name}");
        }
    }
}
