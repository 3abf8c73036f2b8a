//! The hub thread: everything that concerns more than one session.

mod shown;
mod stages;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remotemedia_core::fault::{DeathCause, Fault, Unavailability, WorkerLost};
use remotemedia_core::frame::{SessionId, StageId};
use remotemedia_core::graph::Graph;
use remotemedia_core::launching::{LaunchOrder, LaunchRefusal, Rollout};
use remotemedia_core::limits::Limits;
use remotemedia_core::node::NodeInfo;
use remotemedia_core::starting::StartListener;
use remotemedia_ipc::calls::Call;
use remotemedia_ipc::control::messages::{Burial, News, StageReply};
use remotemedia_ipc::doorbell;
use remotemedia_ipc::guest::Waker;
use remotemedia_ipc::host::{Host, HostEvent, LauncherEvent};
use remotemedia_ipc::plane::{Arrival, EdgeOut, Plane};
use remotemedia_ipc::slot::Member;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::edges::Edges;
use crate::line::Line;
use crate::placement::Wanted;
use crate::registry::{Registry, Standing};
use crate::session::FromHub;
use crate::status::RuntimeStatus;
use crate::stragglers::{Due, Lateness, Stragglers};
use crate::survival::{Ending, Loss};
use crate::waiting::WaitingRoom;
use crate::wiring::{Remains, Wiring};

use stages::{Entry, Opening, Phase, starting};

/// The hub's thread, and its owner.
#[derive(Debug)]
pub(crate) struct Hub {
    handle: HubHandle,
    thread: Option<JoinHandle<()>>,
}

/// How others reach the hub. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HubHandle {
    /// Unbounded in type, bounded in fact: a session sends an `Open` for each attempt, of which replays are bounded, and
    /// one `Close`; and sessions are bounded.
    orders: Sender<Order>,
    shared: Arc<HubShared>,
    plane: Plane,
    waker: Waker,
}

/// What the hub and its users both see.
#[derive(Debug)]
struct HubShared {
    /// Orders sent and not taken: whether the hub may sleep.
    waiting_orders: AtomicUsize,
    next_id: AtomicU64,
    closing: AtomicBool,
    node_infos: RwLock<Vec<NodeInfo>>,
    starving: Mutex<Vec<Starving>>,
    /// Told at every turn of the hub: there may be free blocks.
    turned: Notify,
    /// Where inputs wait for those.
    line: Line,
    /// Times that work whose worker died was given to another, and that it was given up.
    replays: AtomicU64,
    poisons: AtomicU64,
}

/// A sender at the end of its credit.
#[derive(Debug)]
struct Starving {
    edge: Arc<EdgeOut>,
    fed: Arc<Notify>,
}

/// A session to be opened.
#[derive(Debug)]
pub(crate) struct OpenOrder {
    pub(crate) session: SessionId,
    /// Which attempt of the session it is.
    pub(crate) number: u32,
    /// What stays of the attempt before.
    pub(crate) remains: Option<Remains>,
    pub(crate) pipeline: String,
    pub(crate) graph: Arc<Graph>,
    pub(crate) memory_bytes: u64,
    /// When the session was opened.
    pub(crate) began: Instant,
    /// When this was ordered.
    pub(crate) since: Instant,
    /// How long it waits for workers that are still loading.
    pub(crate) until: Instant,
    pub(crate) listener: Option<StartListener>,
    pub(crate) events: mpsc::Sender<(StageId, FromHub)>,
    pub(crate) placed: oneshot::Sender<Result<Wiring, Fault>>,
}

enum Order {
    Open(Box<OpenOrder>),
    Close { session: SessionId, due: Due },
    Status(oneshot::Sender<RuntimeStatus>),
    Launcher { order: LaunchOrder, answer: oneshot::Sender<Result<(), LaunchRefusal>> },
    Shutdown { deadline: Instant },
}

/// The hub thread's own.
struct Loop {
    host: Host,
    began: Instant,
    limits: Arc<Limits>,
    orders: Receiver<Order>,
    shared: Arc<HubShared>,
    registry: Registry,
    edges: Edges,
    stages: BTreeMap<StageId, Entry>,
    /// By session, its stages.
    sessions: BTreeMap<SessionId, BTreeSet<StageId>>,
    openings: Vec<Opening>,
    waiting: WaitingRoom,
    stragglers: Stragglers,
    /// The dead of whom it is not known yet of what they died, and how that is told to those who have lost them.
    mourned: BTreeMap<Member, watch::Sender<Option<Ending>>>,
    /// Orders that a launcher has not answered, as many as it may owe an answer to.
    asked: BTreeMap<u64, oneshot::Sender<Result<(), LaunchRefusal>>>,
    rollout: Option<Rollout>,
    shutdown: Option<Instant>,
    /// Whether workers of a gateway that was here before may be on their way.
    gathering: bool,
}

/// How long the workers of a dead gateway may take to find its successor: they look for it every second.
const GATHERING: Duration = Duration::from_secs(3);

/// When a client may try again that came while there was no room: about as long as a unary run takes.
const RETRY_AFTER_MS: u64 = 100;

// === impl Hub ===

impl Hub {
    pub(crate) fn start(
        host: Host,
        limits: Arc<Limits>,
        link_capacity: usize,
        is_successor: bool,
    ) -> std::io::Result<Self> {
        // Looked up here, so that the first session does not wait for it.
        LazyLock::force(&remotemedia_ipc::machine::THIS);
        let (orders, ordered) = channel();
        let shared = Arc::new(HubShared {
            waiting_orders: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            closing: AtomicBool::new(false),
            node_infos: RwLock::default(),
            starving: Mutex::default(),
            turned: Notify::new(),
            line: Line::default(),
            replays: AtomicU64::new(0),
            poisons: AtomicU64::new(0),
        });
        let (plane, waker) = (host.plane().clone(), host.waker());
        let edges = Edges::new(link_capacity, limits.credit_window);
        let work = Loop {
            gathering: is_successor || host.is_successor(),
            host,
            began: Instant::now(),
            stragglers: Stragglers::new(
                limits.hang_grace(),
                Duration::from_millis(limits.default_timeout_ms),
            ),
            limits,
            orders: ordered,
            shared: Arc::clone(&shared),
            registry: Registry::default(),
            edges,
            stages: BTreeMap::new(),
            sessions: BTreeMap::new(),
            openings: Vec::new(),
            waiting: WaitingRoom::default(),
            mourned: BTreeMap::new(),
            asked: BTreeMap::new(),
            rollout: None,
            shutdown: None,
        };
        let thread = thread::Builder::new().name("hub".to_owned()).spawn(move || work.run())?;
        Ok(Self { handle: HubHandle { orders, shared, plane, waker }, thread: Some(thread) })
    }

    pub(crate) fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    pub(crate) async fn shutdown(mut self, grace: Duration) {
        self.handle.shared.closing.store(true, Ordering::Relaxed);
        self.handle.order(Order::Shutdown { deadline: Instant::now() + grace });
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            tracing::debug!(well = joined.is_ok_and(|outcome| outcome.is_ok()), "hub_ended");
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.order(Order::Shutdown { deadline: Instant::now() });
            // A panic there has been printed; there is nobody else to tell.
            thread.join().unwrap_or_default();
        }
    }
}

// === impl HubHandle ===

impl HubHandle {
    pub(crate) const fn plane(&self) -> &Plane {
        &self.plane
    }

    pub(crate) fn next_session(&self) -> SessionId {
        SessionId(self.shared.next_id())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed)
    }

    /// False if there is no hub any more.
    pub(crate) fn open(&self, order: OpenOrder) -> bool {
        self.order(Order::Open(Box::new(order)))
    }

    /// Has everybody drop what they have of a session.
    pub(crate) fn close(&self, session: SessionId, due: Due) {
        self.order(Order::Close { session, due });
    }

    pub(crate) fn node_infos(&self) -> Vec<NodeInfo> {
        self.shared.node_infos.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn status(&self) -> Option<RuntimeStatus> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Status(answer));
        answered.await.ok()
    }

    /// Has the launcher that an order concerns do it.
    pub(crate) async fn ask_launcher(&self, order: LaunchOrder) -> Result<(), LaunchRefusal> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Launcher { order, answer });
        answered.await.unwrap_or(Err(LaunchRefusal::Gone))
    }

    /// Has `fed` told when the edge has credit again.
    pub(crate) fn starve(&self, edge: &Arc<EdgeOut>, fed: &Arc<Notify>) {
        let starving = Starving { edge: Arc::clone(edge), fed: Arc::clone(fed) };
        self.shared.starving.lock().unwrap_or_else(PoisonError::into_inner).push(starving);
    }

    /// Work whose worker died is given to another.
    pub(crate) fn count_replay(&self) {
        self.shared.replays.fetch_add(1, Ordering::Relaxed);
    }

    /// Work is given up that has killed too many.
    pub(crate) fn count_poison(&self) {
        self.shared.poisons.fetch_add(1, Ordering::Relaxed);
    }

    /// The hub has gone round once more, at most a tick later; or somebody who waited for a block has one.
    pub(crate) fn turned(&self) -> Notified<'_> {
        self.shared.turned.notified()
    }

    /// Somebody who waited for a block has one: who is next may look.
    pub(crate) fn wake_waiting(&self) {
        self.shared.turned.notify_waiters();
    }

    /// Where inputs wait for free blocks.
    pub(crate) fn line(&self) -> &Line {
        &self.shared.line
    }

    fn order(&self, order: Order) -> bool {
        self.shared.waiting_orders.fetch_add(1, Ordering::SeqCst);
        let sent = self.orders.send(order).is_ok();
        self.waker.wake();
        sent
    }
}

// === impl HubShared ===

impl HubShared {
    /// For a session, or a stage: no two have the same.
    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

// === impl Loop ===

impl Loop {
    fn run(mut self) {
        let mut events = Vec::new();
        loop {
            let shared = Arc::clone(&self.shared);
            let busy = || shared.waiting_orders.load(Ordering::SeqCst) > 0;
            if let Err(error) = self.host.turn(doorbell::TICK, busy, &mut |event| events.push(event)) {
                tracing::error!(%error, "hub_failed");
                break;
            }
            events.drain(..).for_each(|event| self.on_event(event));
            while let Ok(order) = self.orders.try_recv() {
                self.shared.waiting_orders.fetch_sub(1, Ordering::SeqCst);
                self.on_order(order);
            }
            self.look_after_waiting();
            self.look_after_stragglers();
            self.feed();
            if self.shutdown.is_some_and(|deadline| self.sessions.is_empty() || Instant::now() >= deadline) {
                break;
            }
        }
        self.tell_of_the_end();
        if let Err(error) = self.host.close() {
            tracing::error!(%error, "domain_not_removed");
        }
    }

    fn on_event(&mut self, event: HostEvent) {
        match event {
            HostEvent::Arrival(arrival) => self.on_arrival(arrival),
            HostEvent::Reply { member, reply } => self.on_reply(member, reply),
            HostEvent::LinkUp { from, to } => self.on_link(from, to),
            HostEvent::Joined { member, pid, hello } => {
                self.registry.join(member, pid, hello);
                self.on_offer(member);
            }
            HostEvent::News { member, news } => self.on_news(member, news),
            HostEvent::Condemned { member } => {
                self.registry.condemn_unless_gone(member);
                self.on_workers();
            }
            HostEvent::Dead { member, calls } => {
                if self.registry.mourn(member) {
                    self.on_loss(member, &calls);
                }
            }
            HostEvent::Died { member, pid, name, cause, burial } => {
                if self.registry.get(member).is_some() {
                    self.on_death(member, pid, cause, burial);
                } else {
                    let last_lines = burial.map_or_else(Vec::new, |burial| burial.last_lines);
                    self.on_stillbirth(Burial { pid, name, cause, restarts: None, last_lines });
                }
            }
            HostEvent::Stillborn(burial) => self.on_stillbirth(burial),
            HostEvent::Launcher(event) => self.on_launcher(event),
        }
    }

    fn on_launcher(&mut self, event: LauncherEvent) {
        match event {
            LauncherEvent::Quarantined(quarantine) => {
                tracing::warn!(worker = quarantine.worker, %quarantine, "worker_quarantined");
                self.registry.quarantines_mut().begin(quarantine);
                self.on_workers();
            }
            LauncherEvent::Released { worker } => {
                tracing::info!(worker, "worker_released");
                self.registry.quarantines_mut().end(&worker);
                self.on_workers();
            }
            LauncherEvent::Awaited { worker } => {
                tracing::info!(worker, "worker_awaited");
                self.registry.expect(worker);
            }
            LauncherEvent::Parted { awaited } => {
                self.registry.expect_no_longer(&awaited);
                self.on_workers();
            }
            LauncherEvent::Restarting(rollout) => {
                tracing::info!(done = ?rollout.done, left = ?rollout.left, problem = rollout.problem, "restarting");
                self.rollout = Some(rollout);
            }
            LauncherEvent::Answered { request, answer } => {
                // Who asked may not wait any longer.
                self.asked.remove(&request).into_iter().for_each(|asked| drop(asked.send(answer.clone())));
            }
        }
    }

    fn on_order(&mut self, order: Order) {
        match order {
            Order::Open(order) => {
                if let Some(remains) = &order.remains {
                    self.retire(order.session, &remains.stages, remains.due);
                }
                self.on_open(order);
            }
            Order::Close { session, due } => self.close_session(session, due),
            Order::Status(answer) => drop(answer.send(self.status())),
            Order::Launcher { order, answer } => self.ask_launcher(&order, answer),
            Order::Shutdown { deadline } => self.shutdown = Some(deadline),
        }
    }

    /// An arrival from a stage that is not there any more is dropped, and with it its leases.
    fn on_arrival(&mut self, arrival: Arrival) {
        let id = StageId(arrival.header.session);
        let Some(entry) = self.stages.get(&id) else { return };
        match entry.sinks.get(&arrival.header.edge) {
            Some(sink) if entry.member == arrival.from => {
                if entry.phase != Phase::Closing {
                    entry.tell(id, FromHub::Arrival { sink: *sink, arrival });
                }
            }
            Some(_) | None => self.on_intrusion(arrival.from, id),
        }
    }

    /// A worker speaks for a stage that is not its own: the session hears nothing of it.
    fn on_intrusion(&mut self, member: Member, stage: StageId) {
        let Some(worker) = self.registry.get(member) else { return };
        if worker.standing != Standing::Condemned {
            tracing::warn!(%member, worker = worker.hello.name, %stage, "worker_spoke_for_others");
            self.host.condemn(member, DeathCause::Protocol);
            self.registry.condemn(member);
            self.on_workers();
        }
    }

    fn on_reply(&mut self, member: Member, reply: StageReply) {
        let id = reply.stage();
        let Some(entry) = self.stages.get_mut(&id) else { return };
        if entry.member != member {
            return self.on_intrusion(member, id);
        }
        match reply {
            StageReply::Opened { .. } => entry.tell(id, FromHub::StageReady { attempt: entry.turn }),
            StageReply::Rewired { turn, .. } if turn == entry.turn => {
                entry.tell(id, FromHub::StageReady { attempt: turn });
                let former = std::mem::take(&mut entry.former);
                self.let_go(former);
            }
            // The answer to a later one is awaited.
            StageReply::Rewired { .. } => {}
            StageReply::Failed { fault, .. } => entry.tell(id, FromHub::Failed(fault)),
            StageReply::Reported { nodes, .. } => entry.tell(id, FromHub::Reported(nodes)),
            StageReply::Waits { .. } => {
                let at_most = Duration::from_millis(self.limits.max_timeout_ms);
                self.stragglers.excuse(member, id, Instant::now(), at_most);
            }
            StageReply::Closed { .. } => self.remove(id),
        }
    }

    fn on_news(&mut self, member: Member, news: News) {
        let offers = matches!(news, News::Offers { .. });
        self.registry.note(member, news, self.host.has_launcher(member));
        if offers {
            self.on_offer(member)
        } else {
            self.on_workers()
        }
        self.dismiss_if_idle(member);
    }

    /// A worker says what it offers: nothing that others mean differently.
    fn on_offer(&mut self, member: Member) {
        if let Some(conflict) = self.registry.conflict(member) {
            self.registry.condemn(member);
            if let Err(error) = self.host.refuse(member, &conflict.to_string()) {
                tracing::warn!(%member, %error, "refusal_not_heard");
            }
        }
        self.on_workers();
    }

    /// There are other workers, or others that are ready.
    fn on_workers(&mut self) {
        self.publish_node_infos();
        self.waiting.leave().for_each(|order| self.on_open(order));
    }

    fn dismiss_if_idle(&mut self, member: Member) {
        if self.registry.may_go(member)
            && let Err(error) = self.host.dismiss(member)
        {
            tracing::info!(%member, %error, "dismissal_not_heard");
        }
    }

    fn look_after_waiting(&mut self) {
        if self.gathering && self.began.elapsed() >= GATHERING {
            self.gathering = false;
            self.waiting.leave().for_each(|order| self.on_open(order));
        }
        if self.registry.give_up_late(Instant::now()) {
            self.waiting.leave().for_each(|order| self.on_open(order));
        }
        if self.waiting.is_empty() {
            return;
        }
        if self.shutdown.is_some() {
            self.waiting.leave().for_each(|order| self.on_open(order));
        }
        let (registry, gathering) = (&self.registry, self.gathering());
        self.waiting.look_after(Instant::now(), |order, told| {
            let wanted = Wanted { node: told.node.clone(), node_type: told.node_type.clone() };
            starting(registry, gathering.clone(), order, wanted)
        });
    }

    /// A worker is dead. Its sessions hear of it before it is known of what it died: that may take seconds, and who goes
    /// on elsewhere needs not know.
    fn on_loss(&mut self, member: Member, calls: &[Call]) {
        let Some(worker) = self.registry.get(member) else { return };
        let (name, kind) = (worker.hello.name.clone(), worker.hello.kind.clone());
        let lost = WorkerLost {
            node: String::new(),
            worker: name,
            pid: worker.pid,
            cause: DeathCause::Unknown,
            restarts: 0,
            last_lines: Vec::new(),
            replays: 0,
        };
        let (ending, told) = watch::channel(None);
        self.mourned.insert(member, ending);
        let touched = self.stages.iter().filter(|(_, entry)| entry.member == member);
        let mut touched: Vec<StageId> = touched.map(|(id, _)| *id).collect();
        // A session that has several stages there hears first of the one that it died of.
        touched.sort_by_key(|id| calls.iter().all(|call| call.stage != *id));
        for id in &touched {
            let Some(entry) = self.stages.get(id) else { continue };
            let call = calls.iter().find(|call| call.stage == *id).copied();
            let called = call.and_then(|call| entry.session.graph.nodes().get(call.node.index()));
            let node = called.map_or(&entry.node, |node| &node.id).clone();
            let (lost, kind, ending) = (WorkerLost { node, ..lost.clone() }, kind.clone(), told.clone());
            let loss = Loss { lost, kind, call, is_counted: false, ending };
            entry.tell(*id, FromHub::Lost(Box::new(loss)));
        }
        touched.into_iter().for_each(|id| self.remove(id));
    }

    /// It is known of what a worker died.
    fn on_death(&mut self, member: Member, pid: i32, cause: DeathCause, burial: Option<Burial>) {
        let mourned = self.mourned.remove(&member);
        let Some(worker) = self.registry.bury(member, cause, burial.as_ref()) else { return };
        if worker.has_left() {
            tracing::info!(%member, pid, "worker_left");
            return self.on_workers();
        }
        let name = worker.hello.name;
        let counted = self.registry.deaths(&name).saturating_sub(1);
        let (restarts, last_lines) = burial
            .map_or((counted, Vec::new()), |burial| (burial.restarts.unwrap_or(counted), burial.last_lines));
        tracing::warn!(worker = name, pid, %cause, "worker_died");
        let ending = Ending { cause, restarts, last_lines };
        mourned.into_iter().for_each(|mourned| drop(mourned.send_replace(Some(ending.clone()))));
        // Last: whom it touches waits for nobody else, and who hears that there is no other worker knows why.
        self.on_workers();
    }

    /// No session had heard of it.
    fn on_stillbirth(&mut self, burial: Burial) {
        let Burial { pid, ref name, cause, .. } = burial;
        tracing::warn!(worker = name, pid, %cause, "worker_died_before_it_joined");
        self.registry.bury_stillborn(burial);
        self.on_workers();
    }

    fn ask_launcher(&mut self, order: &LaunchOrder, answer: oneshot::Sender<Result<(), LaunchRefusal>>) {
        let mut events = Vec::new();
        match self.host.order(order, &mut |event| events.push(event)) {
            Ok(request) => drop(self.asked.insert(request, answer)),
            // Who asked may not wait any longer.
            Err(refusal) => drop(answer.send(Err(refusal))),
        }
        events.into_iter().for_each(|event| self.on_event(event));
    }

    /// Nobody hears anything more.
    fn tell_of_the_end(&mut self) {
        self.openings.clear();
        self.sessions.clear();
        for (id, entry) in std::mem::take(&mut self.stages) {
            entry.tell(id, FromHub::Failed(unavailable(Unavailability::ShuttingDown)));
        }
    }

    /// Spares workers that are late, gives none to those that are stuck, and has those killed that are beyond hope, if
    /// somebody is there who starts them again: else one that comes back late is better than none.
    fn look_after_stragglers(&mut self) {
        let (now, domain) = (Instant::now(), self.host.plane().domain());
        let last_work = |member: Member, session| now.checked_sub(domain.last_work(member.slot, session)?);
        let late = self.stragglers.late(now, last_work);
        if late.is_empty() && self.registry.iter().all(|(_, worker)| worker.lateness.is_none()) {
            return;
        }
        // The dead do not come back by having no sessions any more.
        let living = self.registry.iter().map(|(member, _)| member);
        let members: Vec<Member> = living.filter(|member| !self.mourned.contains_key(member)).collect();
        let mut changed = false;
        for member in members {
            let lateness = late.get(&member).copied();
            if self.registry.judge(member, lateness) {
                changed = true;
                self.tell_of_lateness(member, lateness);
            }
            if lateness == Some(Lateness::Hopeless) && self.host.has_launcher(member) {
                self.host.condemn(member, DeathCause::Hang);
                self.registry.condemn(member);
            }
        }
        if changed {
            self.on_workers();
        }
    }

    fn tell_of_lateness(&self, member: Member, lateness: Option<Lateness>) {
        let worker = self.registry.name(member).unwrap_or_default();
        match lateness {
            None => tracing::info!(worker, "worker_came_back"),
            Some(Lateness::Late) => tracing::info!(worker, "worker_late"),
            Some(Lateness::Stuck) => tracing::warn!(worker, "worker_stuck"),
            Some(Lateness::Hopeless) => tracing::info!(worker, "worker_beyond_hope"),
        }
    }

    /// Tells those whose edge has credit again, and all who wait for a block.
    fn feed(&self) {
        let plane = self.host.plane();
        let mut starving = self.shared.starving.lock().unwrap_or_else(PoisonError::into_inner);
        starving.retain(|starving| {
            let fed = starving.edge.has_credit(plane);
            if fed {
                starving.fed.notify_one();
            }
            // One that nobody waits for any more is dropped with its session.
            !fed && Arc::strong_count(&starving.fed) > 1
        });
        self.shared.turned.notify_waiters();
    }
}

pub(crate) const fn unavailable(state: Unavailability) -> Fault {
    Fault::Unavailable { state, retry_after_ms: RETRY_AFTER_MS }
}
