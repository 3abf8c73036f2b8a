//! A session under way: core's state machine, driven by whoever sends and receives.
//!
//! It runs on an attempt: stages at workers, with the edges between them. When a worker dies the session may go on with
//! another attempt, as [`crate::survival`] says, and its user does not notice but by the time it takes.

mod intake;
mod surviving;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remotemedia_core::fault::{Fault, StreamFault, Unavailability};
use remotemedia_core::frame::{Frame, SessionId, StageId};
use remotemedia_core::graph::{Graph, NodeIndex};
use remotemedia_core::limits::{Granted, LimitExceeded, Limits};
use remotemedia_core::manifest::{Manifest, OnWorkerLoss};
use remotemedia_core::session::{Action, End, Event, Patience, Session, Shape};
use remotemedia_core::starting::StartListener;
use remotemedia_core::transport::{ChunkOutput, ExecutionMetrics, NodeReport, StreamSession, TransportData};
use remotemedia_ipc::plane::{Arrival, Content, EdgeIn, Header, Outstanding};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::sleep_until;

use crate::hub::{HubHandle, OpenOrder, unavailable};
use crate::measures::Measures;
use crate::poison::{self, Poisons};
use crate::quotas::Quota;
use crate::stragglers::Due;
use crate::survival::{Ending, Kept, Loss, Pieces};
use crate::wiring::Wiring;

/// A session under way. Dropped, it is cancelled.
#[derive(Debug)]
pub struct RunningSession {
    id: SessionId,
    began: Instant,
    hub: HubHandle,
    poisons: Arc<Poisons>,
    limits: Arc<Limits>,
    graph: Arc<Graph>,
    manifest: Arc<Manifest>,
    private: bool,
    quota: Option<Arc<Quota>>,
    sink_nodes: Vec<NodeIndex>,
    granted: Granted,
    calls: Calls,
    /// What a stream asks for when a worker dies under it that cannot be replaced unnoticed; none of a unary run.
    asked: Option<OnWorkerLoss>,
    /// What the hub is given to tell the session with.
    events: mpsc::Sender<(StageId, FromHub)>,
    state: Mutex<State>,
    inbound: AsyncMutex<Inbound>,
    /// Senders take turns.
    sending: AsyncMutex<()>,
    /// Told when an entry has credit again, the attempt is another, or the session is over.
    fed: Arc<Notify>,
    /// Told when an edge has credit again on which something is to go in again.
    refed: Arc<Notify>,
    /// Told when the state changed by other means than the hub's events.
    changed: Notify,
    over: AtomicBool,
    _room: Arc<OwnedSemaphorePermit>,
}

/// What a session is opened with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) graph: Arc<Graph>,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) granted: Granted,
    /// Its input is not kept.
    pub(crate) private: bool,
    /// What it shares with others of its connection.
    pub(crate) quota: Option<Arc<Quota>>,
    /// Who is told what it waits for.
    pub(crate) listener: Option<StartListener>,
    /// What a stream's manifest asks for when a worker dies; none for a unary run, which ends and may begin again.
    pub(crate) stream: Option<OnWorkerLoss>,
    pub(crate) room: Arc<OwnedSemaphorePermit>,
}

/// The stages that a session runs on.
#[derive(Debug)]
struct Attempt {
    /// Counted from 0.
    number: u32,
    wiring: Arc<Wiring>,
}

/// A frame, and the edge that it came on.
#[derive(Debug)]
struct Received {
    frame: Frame,
    edge: Arc<EdgeIn>,
}

/// A session that the hub was asked for. Dropped without an owner it is closed: the user may go between the hub's
/// answer and its reading, and then neither the hub nor anybody else would know.
struct Asked {
    hub: HubHandle,
    id: SessionId,
    calls: Calls,
    has_owner: bool,
}

/// How long a call of its nodes may take.
#[derive(Clone, Copy, Debug)]
struct Calls {
    /// As the client asked.
    asked: Duration,
    /// As the service allows where nothing is asked, if that is longer.
    allowed: Duration,
    /// As the service allows at most, of nodes that say that they are at work.
    longest: Duration,
}

/// What the hub tells a session of one of its stages.
#[derive(Debug)]
pub(crate) enum FromHub {
    /// It stands, or has its new feeders, in this attempt.
    StageReady { attempt: u32 },
    /// It cannot go on.
    Failed(Fault),
    /// Its worker is dead.
    Lost(Box<Loss>),
    /// It has flushed: its measurements, by node id.
    Reported(BTreeMap<String, NodeReport>),
    /// Something came of a sink that it runs.
    Arrival { sink: usize, arrival: Arrival },
}

/// What comes from the hub.
#[derive(Debug)]
struct Inbound {
    events: mpsc::Receiver<(StageId, FromHub)>,
    /// The wiring of an attempt that was asked for.
    placing: Option<Placing>,
    /// What was told meanwhile by stages that may be of that attempt.
    early: VecDeque<(StageId, FromHub)>,
}

/// An attempt that was asked for.
#[derive(Debug)]
struct Placing {
    answer: oneshot::Receiver<Result<Wiring, Fault>>,
    /// Why there is none, until it is known how the worker ended for which there is no other.
    refusal: Option<Fault>,
}

#[derive(Debug)]
struct State {
    machine: Session<Received>,
    ready: VecDeque<Ready>,
    end: Option<End>,
    measures: Measures,
    /// When `receive` last returned: the time until it is called again is the client's.
    left: Option<Instant>,
    attempt: Arc<Attempt>,
    /// The number of the attempt that the hub was asked for last.
    asked: u32,
    /// Stages that are part of the session: what others say is of no interest any more.
    current: BTreeSet<StageId>,
    /// Those of them that stand, and that have sent their measurements.
    standing: BTreeSet<StageId>,
    reported: BTreeSet<StageId>,
    /// Entries whose stages are new, and have not been given yet what is not answered.
    renewed: BTreeSet<usize>,
    /// Entries that have been flushed.
    flushed: BTreeSet<usize>,
    /// Whether the attempt takes input: else it is being set up, or gets again what is not answered.
    stands: bool,
    /// Whether any input has gone in.
    has_begun: bool,
    kept: Kept,
    /// By sequence: what other workers have died of lately, and this one may not.
    suspects: BTreeMap<u64, poison::Content>,
    /// All inputs of a run: together they are its content.
    run: Vec<Pieces>,
    /// Entries of which something is answered.
    answered: BTreeSet<usize>,
    /// Whether stages were replaced after input had gone in.
    has_replayed: bool,
    /// What is to go in again, by sequence and entry; sent while the stages that it goes to stand.
    resend: VecDeque<(u64, usize)>,
    is_resending: bool,
    /// The flush is to follow that.
    flush_behind: bool,
    /// Deaths at which no input was to blame.
    losses: u32,
    /// The latest death.
    loss: Option<Loss>,
    /// Deaths that somebody is to be told of, until it is known how those workers ended; and behind them others.
    mourning: VecDeque<Loss>,
    /// By entry: blocks of its inputs that somebody holds.
    outstanding: BTreeMap<usize, Outstanding>,
}

/// A result that nobody has taken yet.
#[derive(Debug)]
struct Ready {
    sequence: u64,
    outputs: Vec<(usize, Received)>,
    /// Why there are none and will be none.
    missed: Option<Fault>,
    latency: Duration,
    /// Inputs of which this is the last result.
    answers: u64,
}

// === impl RunningSession ===

impl RunningSession {
    /// Places the pipeline and waits until its nodes stand.
    pub(crate) async fn open(
        hub: HubHandle,
        poisons: Arc<Poisons>,
        limits: Arc<Limits>,
        opening: Opening,
    ) -> Result<Self, Fault> {
        let began = Instant::now();
        let Opening { graph, manifest, granted, private, quota, listener, stream, room } = opening;
        let id = hub.next_session();
        let (events, inbound) = mpsc::channel(most_events(&graph, &limits));
        let (placed, placing) = oneshot::channel();
        let order = OpenOrder {
            session: id,
            number: 0,
            remains: None,
            pipeline: manifest.metadata.name.clone(),
            graph: Arc::clone(&graph),
            memory_bytes: granted.memory_bytes,
            began,
            since: began,
            until: began + granted.start,
            listener,
            events: events.clone(),
            placed,
        };
        let gone = || unavailable(Unavailability::ShuttingDown);
        if !hub.open(order) {
            return Err(gone());
        }
        let calls = Calls {
            asked: granted.timeout,
            allowed: granted.timeout.max(Duration::from_millis(limits.default_timeout_ms)),
            longest: Duration::from_millis(limits.max_timeout_ms),
        };
        let mut asked = Asked { hub: hub.clone(), id, calls, has_owner: false };
        let wiring = placing.await.map_err(|_| gone())??;
        let patience = Patience {
            open: limits.open_timeout(),
            result: granted.timeout,
            longest: granted.longest,
            idle: limits.idle_timeout(),
        };
        let entries: Vec<NodeIndex> = wiring.entries.iter().map(|entry| entry.node).collect();
        let machine =
            Session::new(Shape::of(&graph, &entries), wiring.stages.len(), patience, Instant::now());
        let attempt = Attempt { number: 0, wiring: Arc::new(wiring) };
        asked.has_owner = true;
        let session = Self {
            id,
            began,
            hub,
            poisons,
            limits,
            manifest,
            private,
            quota,
            sink_nodes: graph.sinks().collect(),
            granted,
            calls,
            asked: stream,
            events,
            graph,
            state: Mutex::new(State::new(machine, Measures::new(began), attempt)),
            inbound: AsyncMutex::new(Inbound { events: inbound, placing: None, early: VecDeque::new() }),
            sending: AsyncMutex::new(()),
            fed: Arc::new(Notify::new()),
            refed: Arc::new(Notify::new()),
            changed: Notify::new(),
            over: AtomicBool::new(false),
            _room: room,
        };
        session.until_open().await?;
        Ok(session)
    }

    /// When one of its nodes last said that it is at work.
    pub(crate) fn last_work(&self) -> Option<Instant> {
        let attempt = self.attempt();
        let stages = attempt.wiring.stages.iter();
        let domain = self.hub.plane().domain();
        let ago = stages.filter_map(|(id, stage)| domain.last_work(stage.member.slot, *id)).min()?;
        Instant::now().checked_sub(ago)
    }

    /// Its time is over, as somebody else has seen.
    pub(crate) fn expire(&self, deadline: Fault) {
        self.on(Event::Failed(deadline));
    }

    /// What it may take.
    pub(crate) const fn granted(&self) -> &Granted {
        &self.granted
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Ids of the nodes that take input.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        let id = |node: NodeIndex| self.graph.node(node).id.clone();
        self.attempt().wiring.entries.iter().map(|entry| id(entry.node)).collect()
    }

    /// Ids of the nodes whose output comes back.
    pub fn sinks(&self) -> impl Iterator<Item = &str> {
        self.sink_nodes.iter().map(|index| self.graph.node(*index).id.as_str())
    }

    async fn until_open(&self) -> Result<(), Fault> {
        let mut inbound = self.inbound.lock().await;
        loop {
            self.next_event(&mut inbound).await;
            let state = self.lock();
            match &state.end {
                Some(End::Failed(fault)) => return Err(fault.clone()),
                Some(End::Cancelled | End::Drained) => return Err(unavailable(Unavailability::ShuttingDown)),
                None if state.machine.is_running() => return Ok(()),
                None => {}
            }
        }
    }

    /// Waits for one event of the hub, a change by others, or the machine's deadline, and acts on it. Dropping the
    /// future loses nothing.
    async fn next_event(&self, inbound: &mut Inbound) {
        let (deadline, mourned, lost) = {
            let state = self.lock();
            let deadline =
                state.machine.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            let ending = |loss: &Loss| loss.ending.clone();
            (deadline, state.mourning.front().map(ending), state.loss.as_ref().map(ending))
        };
        if inbound.placing.is_none()
            && let Some((stage, event)) = inbound.early.pop_front()
        {
            return self.on_told(stage, event, inbound);
        }
        tokio::select! {
            biased;
            placed = placed(&mut inbound.placing, lost) => self.on_placed(placed, inbound),
            () = told(mourned) => self.on_told_ending(inbound),
            event = inbound.events.recv() => match event {
                Some((stage, event)) => self.on_told(stage, event, inbound),
                None => self.on(Event::Failed(unavailable(Unavailability::ShuttingDown))),
            },
            () = self.resend_next() => {}
            () = self.changed.notified() => {}
            () = sleep_until(deadline.into()) => {
                self.last_work().into_iter().for_each(|at| self.on(Event::Working { at }));
                self.on(Event::Tick);
            }
        }
    }

    /// Of a stage that others have taken the place of, nothing is heard.
    fn on_told(&self, stage: StageId, event: FromHub, inbound: &mut Inbound) {
        let is_current = self.lock().current.contains(&stage);
        let is_early = inbound.placing.is_some();
        match event {
            event @ FromHub::StageReady { .. } if is_early => inbound.early.push_back((stage, event)),
            FromHub::Lost(loss) if is_current => self.on_loss(stage, *loss, inbound),
            event if is_current => self.on_hub(stage, event),
            event @ (FromHub::Lost(_) | FromHub::Failed(_)) if is_early => {
                inbound.early.push_back((stage, event));
            }
            FromHub::StageReady { .. }
            | FromHub::Lost(_)
            | FromHub::Failed(_)
            | FromHub::Reported(_)
            | FromHub::Arrival { .. } => {}
        }
    }

    fn on_hub(&self, stage: StageId, event: FromHub) {
        match event {
            FromHub::StageReady { attempt } => {
                let mut state = self.lock();
                state.standing.insert(stage);
                if attempt == state.asked {
                    self.act(&mut state, Event::StageReady);
                }
            }
            FromHub::Failed(fault) => self.on(Event::Failed(fault)),
            FromHub::Lost(loss) => self.on(Event::Failed(loss.lost.into())),
            FromHub::Reported(nodes) => {
                let sinks: Vec<&str> = self.sinks().collect();
                {
                    let mut state = self.lock();
                    state.measures.report(nodes, &sinks);
                    state.reported.insert(stage);
                }
                self.on(Event::StageReported);
            }
            FromHub::Arrival { sink, arrival } => self.on_arrival(sink, arrival),
        }
    }

    fn on_arrival(&self, sink: usize, Arrival { header, content, .. }: Arrival) {
        let Header { sequence, last, .. } = header;
        match content {
            Content::Frame(data, ..) if data.payload().len() as u64 > self.granted.memory_bytes => {
                let node = &self.graph.node(self.sink_nodes[sink]).id;
                let advice =
                    format!("ask for a higher max_memory_bytes, or have node '{node}' give less at once");
                let (bytes, limit) = (data.payload().len() as u64, self.granted.memory_bytes);
                let what = format!("an output of node '{node}'");
                self.on(Event::Failed(exceeded(&what, bytes, limit, "bytes", advice).into()));
            }
            Content::Frame(data, metadata, timestamp_us) => {
                let mut state = self.lock();
                state.measures.hold(data.payload());
                let edge = Arc::clone(&state.attempt.wiring.sinks[sink].edge);
                let frame = Frame { sequence, timestamp_us, metadata, data };
                let frame = Some(Received { frame, edge });
                self.act(&mut state, Event::Output { sink, sequence, frame, last });
            }
            Content::Mark => {
                self.attempt().wiring.sinks[sink].edge.give_back(self.hub.plane());
                self.on(Event::Output { sink, sequence, frame: None, last });
            }
            Content::Flush => self.on(Event::SinkDrained { sink }),
            Content::Lost => self.on(Event::Failed(Fault::Internal {
                place: "the data plane".to_owned(),
                problem: format!("a frame of sequence {sequence} was lost"),
            })),
        }
    }

    fn on(&self, event: Event<Received>) {
        self.act(&mut self.lock(), event);
    }

    fn act(&self, state: &mut State, event: Event<Received>) {
        let now = Instant::now();
        for action in state.machine.on(now, event) {
            match action {
                Action::Open => {
                    state.stands = true;
                    self.absolve_pipeline();
                }
                Action::Answered { sequence, entries, missed, arrived } => {
                    // A run's may still be wanted: its nodes may have a state that a flush tells of.
                    let forgotten = entries.iter().chain(&missed).filter(|_| self.asked.is_some());
                    forgotten.for_each(|entry| drop(state.kept.forget(sequence, *entry)));
                    self.absolve(state, sequence, missed.is_empty() && !entries.is_empty());
                    state.answered.extend(&entries);
                    if !entries.is_empty() {
                        state.answer(sequence, entries.len(), now.saturating_duration_since(arrived));
                    }
                }
                Action::Deliver { sequence, outputs, arrived } => {
                    state.put(sequence, outputs, None, now.saturating_duration_since(arrived));
                }
                Action::TellDropped { entry, sequence, arrived } => {
                    let fault = self.why_missed(state, sequence, entry);
                    state.put(sequence, Vec::new(), Some(fault), now.saturating_duration_since(arrived));
                }
                Action::Repeated { sink, frame } => {
                    state.measures.release(frame.frame.data.payload());
                    self.give_back(state, sink, &frame);
                }
                Action::Resend { flush } => self.begin_resending(state, flush),
                Action::Flush if state.stands => self.flush(state),
                Action::Flush => state.flush_behind = true,
                Action::End(end) => {
                    let due = self.calls.due(now, &end);
                    state.end = Some(self.cause_of(state, end));
                    state.measures.end(now);
                    self.finish(due);
                }
            }
        }
    }

    /// Behind the frames, to each entry once. A link that is gone is a worker that is dead, of which the hub will tell.
    fn flush(&self, state: &mut State) {
        let attempt = Arc::clone(&state.attempt);
        for (place, entry) in attempt.wiring.entries.iter().enumerate() {
            if !state.flushed.insert(place) {
                continue;
            }
            for (_, edge) in &entry.ports {
                let (session, edge_index) = (entry.stage.0, edge.edge().index);
                let header = Header { session, edge: edge_index, sequence: 0, last: false };
                if let Err(error) = self.hub.plane().send_flush(edge.to(), &header) {
                    tracing::debug!(session = %self.id, %error, "flush_not_sent");
                }
            }
        }
    }

    /// Gives a frame's credit back. Nobody has use for that of an edge which is not the session's any more, and the hub
    /// may have given the edge to another.
    fn give_back(&self, state: &State, sink: usize, received: &Received) {
        let wires = &state.attempt.wiring.sinks[sink];
        if Arc::ptr_eq(&wires.edge, &received.edge) && state.current.contains(&wires.stage) {
            wires.edge.give_back(self.hub.plane());
        }
    }

    fn finish(&self, due: Due) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.hub.close(self.id, due);
            self.wake_senders();
        }
    }

    fn wake_senders(&self) {
        self.fed.notify_waiters();
        self.fed.notify_one();
    }

    fn check_open(&self) -> Result<(), Fault> {
        self.lock().check_open()
    }

    fn attempt(&self) -> Arc<Attempt> {
        Arc::clone(&self.lock().attempt)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a result out: its credit goes back.
    fn take_ready(&self) -> Option<ChunkOutput> {
        let mut state = self.lock();
        let Ready { sequence, outputs, missed, latency, answers } = state.ready.pop_front()?;
        state.measures.count_answered(answers);
        if missed.is_some() {
            state.measures.count_dropped();
        }
        let mut by_node = BTreeMap::new();
        for (sink, received) in outputs {
            state.measures.release(received.frame.data.payload());
            self.give_back(&state, sink, &received);
            by_node.insert(self.graph.node(self.sink_nodes[sink]).id.clone(), received.frame);
        }
        Some(ChunkOutput { sequence, outputs: by_node, missed, latency })
    }

    fn returned<T>(&self, outcome: T) -> T {
        self.lock().left = Some(Instant::now());
        outcome
    }
}

impl StreamSession for RunningSession {
    fn id(&self) -> SessionId {
        self.id
    }

    async fn send(&self, input: TransportData) -> Result<(), Fault> {
        self.take_in(input, None).await
    }

    async fn receive(&self) -> Result<Option<ChunkOutput>, Fault> {
        let mut inbound = self.inbound.lock().await;
        {
            let mut state = self.lock();
            if let Some(left) = state.left.take() {
                state.machine.excuse(left.elapsed());
            }
        }
        loop {
            if let Some(chunk) = self.take_ready() {
                return self.returned(Ok(Some(chunk)));
            }
            match self.lock().end.clone() {
                Some(End::Drained | End::Cancelled) => return Ok(None),
                Some(End::Failed(fault)) => return Err(fault),
                None => {}
            }
            self.next_event(&mut inbound).await;
        }
    }

    async fn close(&self) -> Result<(), Fault> {
        let _turn = self.sending.lock().await;
        self.check_open()?;
        self.on(Event::Close);
        self.changed.notify_one();
        Ok(())
    }

    fn cancel(&self) {
        self.on(Event::Cancel);
        self.changed.notify_one();
    }

    fn metrics(&self) -> ExecutionMetrics {
        self.lock().measures.so_far()
    }
}

impl Drop for RunningSession {
    fn drop(&mut self) {
        self.finish(self.calls.due(Instant::now(), &End::Cancelled));
    }
}

// === impl State ===

impl State {
    fn new(machine: Session<Received>, measures: Measures, attempt: Attempt) -> Self {
        Self {
            machine,
            ready: VecDeque::new(),
            end: None,
            measures,
            left: None,
            asked: 0,
            current: attempt.wiring.stages.keys().copied().collect(),
            attempt: Arc::new(attempt),
            standing: BTreeSet::new(),
            reported: BTreeSet::new(),
            renewed: BTreeSet::new(),
            flushed: BTreeSet::new(),
            stands: false,
            has_begun: false,
            kept: Kept::default(),
            suspects: BTreeMap::new(),
            run: Vec::new(),
            answered: BTreeSet::new(),
            resend: VecDeque::new(),
            is_resending: false,
            has_replayed: false,
            flush_behind: false,
            losses: 0,
            loss: None,
            mourning: VecDeque::new(),
            outstanding: BTreeMap::new(),
        }
    }

    fn check_open(&self) -> Result<(), Fault> {
        match &self.end {
            Some(End::Failed(fault)) => Err(fault.clone()),
            Some(End::Drained | End::Cancelled) => Err(StreamFault::Closed.into()),
            None => Ok(()),
        }
    }

    fn outstanding_of(&mut self, entry: usize) -> &mut Outstanding {
        self.outstanding.entry(entry).or_default()
    }

    fn put(
        &mut self,
        sequence: u64,
        outputs: Vec<(usize, Received)>,
        missed: Option<Fault>,
        latency: Duration,
    ) {
        self.ready.push_back(Ready { sequence, outputs, missed, latency, answers: 0 });
    }

    /// An input that is answered in full counts when the last of its results is taken, or now if all are.
    fn answer(&mut self, sequence: u64, inputs: usize, latency: Duration) {
        self.measures.answer(sequence, inputs, latency);
        match self.ready.back_mut() {
            Some(last) if last.sequence == sequence => last.answers += inputs as u64,
            Some(_) | None => self.measures.count_answered(inputs as u64),
        }
    }
}

// === impl Calls ===

impl Calls {
    /// When the calls that nodes are in at the end of a session have to end: none has more time than one that would have
    /// been answered, and behind a deadline the client's is over.
    fn due(self, now: Instant, end: &End) -> Due {
        match end {
            End::Failed(Fault::Deadline { limit_ms, .. }) => {
                let spent = Duration::from_millis(*limit_ms);
                let [allowed, longest] =
                    [self.allowed, self.longest].map(|time| now + time.saturating_sub(spent));
                Due { asked: now, allowed, longest }
            }
            End::Failed(_) | End::Drained | End::Cancelled => {
                let [asked, allowed, longest] =
                    [self.asked, self.allowed, self.longest].map(|time| now + time);
                Due { asked, allowed, longest }
            }
        }
    }
}

// === impl Asked ===

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.has_owner {
            self.hub.close(self.id, self.calls.due(Instant::now(), &End::Cancelled));
        }
    }
}

/// Dropping the future loses nothing.
async fn placed(
    placing: &mut Option<Placing>,
    lost: Option<watch::Receiver<Option<Ending>>>,
) -> Result<Wiring, Fault> {
    let Some(Placing { answer, refusal }) = placing else { return std::future::pending().await };
    if refusal.is_none() {
        match answer.await.unwrap_or_else(|_closed| Err(unavailable(Unavailability::ShuttingDown))) {
            Ok(wiring) => {
                *placing = None;
                return Ok(wiring);
            }
            Err(fault) => *refusal = Some(fault),
        }
    }
    if lost.is_some() {
        told(lost).await;
    }
    let refusal = placing.take().and_then(|placing| placing.refusal);
    Err(refusal.unwrap_or_else(|| unavailable(Unavailability::ShuttingDown)))
}

/// When it is known how a worker ended, or nobody is there who would tell.
async fn told(ending: Option<watch::Receiver<Option<Ending>>>) {
    let Some(mut ending) = ending else { return std::future::pending().await };
    drop(ending.wait_for(Option::is_some).await);
}

/// As many as credit lets be under way, and what workers say apart from that: ready, report, and a fault each. Twice, for
/// what is left of stages that others take the place of.
fn most_events(graph: &Graph, limits: &Limits) -> usize {
    let window = usize::try_from(limits.credit_window).unwrap_or(usize::MAX);
    2 * (graph.sinks().count() * (window + 1) + graph.nodes().len() * 3 + 1)
}

fn exceeded(what: &str, value: u64, limit: u64, unit: &str, advice: String) -> LimitExceeded {
    LimitExceeded { what: what.to_owned(), value, limit, unit: unit.to_owned(), advice }
}
