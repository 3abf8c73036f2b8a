//! A session under way: core's state machine, driven by whoever sends and receives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remotemedia_core::RuntimeData;
use remotemedia_core::fault::{EntryError, Fault, StreamFault, Unavailability};
use remotemedia_core::frame::{Frame, SessionId};
use remotemedia_core::graph::{Graph, NodeIndex};
use remotemedia_core::joined::ports_in_words;
use remotemedia_core::limits::{Granted, LimitExceeded, Limits};
use remotemedia_core::session::{Action, End, Event, Patience, Session, Shape};
use remotemedia_core::starting::StartListener;
use remotemedia_core::transport::{ChunkOutput, ExecutionMetrics, NodeReport, StreamSession, TransportData};
use remotemedia_ipc::plane::{Arrival, Content, EdgeOut, Header, NoBlock, Prepared};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout_at;

use crate::hub::{HubHandle, OpenOrder, unavailable};
use crate::measures::Measures;
use crate::placement;
use crate::stragglers::Due;
use crate::wiring::{EntryWires, Wiring};

/// A session under way. Dropped, it is cancelled.
#[derive(Debug)]
pub struct RunningSession {
    id: SessionId,
    hub: HubHandle,
    graph: Arc<Graph>,
    wiring: Wiring,
    sink_nodes: Vec<NodeIndex>,
    granted: Granted,
    calls: Calls,
    state: Mutex<State>,
    inbound: AsyncMutex<mpsc::Receiver<FromHub>>,
    /// Senders take turns.
    sending: AsyncMutex<()>,
    /// Told when an entry has credit again, or the session is over.
    fed: Arc<Notify>,
    /// Told when the state changed by other means than the hub's events.
    changed: Notify,
    over: AtomicBool,
    _room: OwnedSemaphorePermit,
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
}

/// What the hub tells a session.
#[derive(Debug)]
pub(crate) enum FromHub {
    /// A worker's part stands.
    StageReady,
    /// It cannot go on.
    Failed(Fault),
    /// A worker's part has flushed: its measurements, by node id.
    Reported(BTreeMap<String, NodeReport>),
    /// Something came of a sink.
    Arrival { sink: usize, arrival: Arrival },
}

#[derive(Debug)]
struct State {
    machine: Session<Frame>,
    ready: VecDeque<Ready>,
    end: Option<End>,
    measures: Measures,
    /// When `receive` last returned: the time until it is called again is the client's.
    left: Option<Instant>,
}

/// A result that nobody has taken yet.
#[derive(Debug)]
struct Ready {
    sequence: u64,
    outputs: Vec<(usize, Frame)>,
    /// The entry whose input was dropped.
    dropped: Option<usize>,
    latency: Duration,
    /// Inputs of which this is the last result.
    answers: u64,
}

// === impl RunningSession ===

impl RunningSession {
    /// Places the pipeline and waits until its nodes stand.
    pub(crate) async fn open(
        hub: HubHandle,
        limits: &Limits,
        graph: Arc<Graph>,
        pipeline: String,
        granted: Granted,
        listener: Option<StartListener>,
        room: OwnedSemaphorePermit,
    ) -> Result<Self, Fault> {
        let began = Instant::now();
        let id = hub.next_session();
        let (events, inbound) = mpsc::channel(most_events(&graph, limits));
        let (placed, placing) = oneshot::channel();
        let memory_bytes = granted.memory_bytes;
        let order = OpenOrder {
            id,
            pipeline,
            graph: Arc::clone(&graph),
            memory_bytes,
            since: began,
            until: began + granted.start,
            listener,
            events,
            placed,
        };
        let gone = || unavailable(Unavailability::ShuttingDown);
        if !hub.open(order) {
            return Err(gone());
        }
        let calls = Calls {
            asked: granted.timeout,
            allowed: granted.timeout.max(Duration::from_millis(limits.default_timeout_ms)),
        };
        let mut asked = Asked { hub: hub.clone(), id, calls, has_owner: false };
        let wiring = placing.await.map_err(|_| gone())??;
        let patience =
            Patience { open: limits.open_timeout(), result: granted.timeout, idle: limits.idle_timeout() };
        let now = Instant::now();
        let entries: Vec<NodeIndex> = wiring.entries.iter().map(|entry| entry.node).collect();
        let machine = Session::new(Shape::of(&graph, &entries), wiring.stages, patience, now);
        asked.has_owner = true;
        let session = Self {
            id,
            hub,
            sink_nodes: graph.sinks().collect(),
            graph,
            wiring,
            granted,
            calls,
            state: Mutex::new(State {
                machine,
                ready: VecDeque::new(),
                end: None,
                measures: Measures::new(began),
                left: None,
            }),
            inbound: AsyncMutex::new(inbound),
            sending: AsyncMutex::new(()),
            fed: Arc::new(Notify::new()),
            changed: Notify::new(),
            over: AtomicBool::new(false),
            _room: room,
        };
        session.until_open().await?;
        Ok(session)
    }

    /// What it may take.
    pub(crate) const fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Ids of the nodes that take input.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.wiring.entries.iter().map(|entry| self.graph.node(entry.node).id.as_str())
    }

    /// Ids of the nodes whose output comes back.
    pub fn sinks(&self) -> impl Iterator<Item = &str> {
        self.sink_nodes.iter().map(|index| self.graph.node(*index).id.as_str())
    }

    /// Which entry a name means, and which port of it, empty where none is named. An empty name means the only entry.
    pub(crate) fn entry<'a>(&self, name: &'a str) -> Result<(usize, &'a str), Fault> {
        if name.is_empty() && self.wiring.entries.len() == 1 {
            return Ok((0, ""));
        }
        let entries = || self.entries().collect::<Vec<_>>().join(", ");
        let Some((node, port)) = self.graph.find_input(name) else {
            return Err(EntryError::UnknownNode { node: name.to_owned(), entries: entries() }.into());
        };
        match self.wiring.entries.iter().position(|entry| entry.node == node) {
            Some(place) => Ok((place, port)),
            None => Err(EntryError::NotAnEntry { node: name.to_owned(), entries: entries() }.into()),
        }
    }

    /// What goes on each edge of an entry: the frame for its port, or none if it has no part in this input, as none
    /// has in one that was dropped.
    fn sort_by_port(
        &self,
        entry: &EntryWires,
        input: TransportData,
        port: &str,
    ) -> Result<Vec<Option<Frame>>, Fault> {
        let node = || self.graph.node(entry.node).id.clone();
        let mut frames: Vec<Option<Frame>> = entry.ports.iter().map(|_| None).collect();
        for (name, frame) in input.frames {
            let name = if name.is_empty() { port } else { name.as_str() };
            let Some(place) = entry.ports.iter().position(|(other, _)| other == name) else {
                let fed = self.graph.edges_to(entry.node).any(|edge| edge.port == name);
                let known = || ports_in_words(&self.wiring.infos[entry.node.index()].ports);
                let ports = if fed { "another node feeds it".to_owned() } else { known() };
                return Err(EntryError::UnknownPort { node: node(), port: name.to_owned(), ports }.into());
            };
            self.check_input(entry.node, name, &frame.data)?;
            let frame = Frame { sequence: input.sequence, ..frame };
            if frames[place].replace(frame).is_some() {
                return Err(EntryError::RepeatedPort { node: node(), port: name.to_owned() }.into());
            }
        }
        Ok(frames)
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

    /// Waits for one event of the hub, a change by others, or the machine's deadline, and acts on it.
    async fn next_event(&self, inbound: &mut mpsc::Receiver<FromHub>) {
        let deadline =
            self.lock().machine.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        let event = tokio::select! {
            biased;
            event = timeout_at(deadline.into(), inbound.recv()) => event,
            () = self.changed.notified() => return,
        };
        match event {
            Ok(Some(event)) => self.on_hub(event),
            Ok(None) => self.on(Event::Failed(unavailable(Unavailability::ShuttingDown))),
            Err(_elapsed) => self.on(Event::Tick),
        }
    }

    fn on_hub(&self, event: FromHub) {
        match event {
            FromHub::StageReady => self.on(Event::StageReady),
            FromHub::Failed(fault) => self.on(Event::Failed(fault)),
            FromHub::Reported(nodes) => {
                let sinks: Vec<&str> = self.sinks().collect();
                self.lock().measures.report(nodes, &sinks);
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
                self.lock().measures.hold(data.payload());
                let frame = Some(Frame { sequence, timestamp_us, metadata, data });
                self.on(Event::Output { sink, sequence, frame, last });
            }
            Content::Mark => {
                self.wiring.sinks[sink].give_back(self.hub.plane());
                self.on(Event::Output { sink, sequence, frame: None, last });
            }
            Content::Flush => self.on(Event::SinkDrained { sink }),
            Content::Lost => self.on(Event::Failed(Fault::Internal {
                place: "the data plane".to_owned(),
                problem: format!("a frame of sequence {sequence} was lost"),
            })),
        }
    }

    fn on(&self, event: Event<Frame>) {
        let mut state = self.lock();
        let now = Instant::now();
        let actions = state.machine.on(now, event);
        for action in actions {
            match action {
                Action::Open => {}
                Action::Answered { sequence, inputs, arrived } => {
                    state.answer(sequence, inputs, now.saturating_duration_since(arrived));
                }
                Action::Deliver { sequence, outputs, arrived } => {
                    let latency = now.saturating_duration_since(arrived);
                    state.ready.push_back(Ready { sequence, outputs, dropped: None, latency, answers: 0 });
                }
                Action::TellDropped { entry, sequence, arrived } => {
                    let (outputs, dropped) = (Vec::new(), Some(entry));
                    let latency = now.saturating_duration_since(arrived);
                    state.ready.push_back(Ready { sequence, outputs, dropped, latency, answers: 0 });
                }
                Action::Flush => self.flush(),
                Action::End(end) => {
                    let due = self.calls.due(now, &end);
                    state.end = Some(end);
                    state.measures.end(now);
                    self.finish(due);
                }
            }
        }
    }

    /// Behind the frames. A link that is gone is a worker that is dead, of which the hub will tell.
    fn flush(&self) {
        for (_, edge) in self.wiring.entries.iter().flat_map(|entry| &entry.ports) {
            let header = Header { session: self.id.0, edge: edge.edge().index, sequence: 0, last: false };
            if let Err(error) = self.hub.plane().send_flush(edge.to(), &header) {
                tracing::debug!(session = %self.id, %error, "flush_not_sent");
            }
        }
    }

    fn finish(&self, due: Due) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.hub.close(self.id, due);
            self.fed.notify_waiters();
            self.fed.notify_one();
        }
    }

    fn check_input(&self, node: NodeIndex, port: &str, data: &RuntimeData) -> Result<(), Fault> {
        let id = &self.graph.node(node).id;
        let accepts = self.wiring.infos[node.index()].accepted(port).unwrap_or_default();
        if !accepts.is_empty() && !accepts.contains(&data.kind()) {
            return Err(Fault::TypeMismatch {
                node: id.clone(),
                expected: placement::names(accepts),
                received: data.kind(),
            });
        }
        if let RuntimeData::Audio(audio) = data
            && audio.sample_count() > self.granted.audio_samples
        {
            let advice = format!("send the audio for node '{id}' in smaller pieces");
            return Err(exceeded(
                "audio",
                audio.sample_count(),
                self.granted.audio_samples,
                "samples",
                advice,
            )
            .into());
        }
        let bytes = data.payload().len() as u64;
        if bytes > self.granted.memory_bytes {
            let advice = "ask for a higher max_memory_bytes, or send smaller pieces".to_owned();
            return Err(exceeded("the input", bytes, self.granted.memory_bytes, "bytes", advice).into());
        }
        Ok(())
    }

    async fn credit(&self, edge: &Arc<EdgeOut>) -> Result<(), Fault> {
        while !edge.has_credit(self.hub.plane()) {
            self.check_open()?;
            let fed = self.fed.notified();
            self.hub.starve(edge, &self.fed);
            fed.await;
        }
        self.check_open()
    }

    fn check_open(&self) -> Result<(), Fault> {
        match &self.lock().end {
            Some(End::Failed(fault)) => Err(fault.clone()),
            Some(End::Drained | End::Cancelled) => Err(StreamFault::Closed.into()),
            None => Ok(()),
        }
    }

    /// Waits for free blocks as long as a result may take.
    async fn prepare(&self, frame: &Frame) -> Result<Prepared, Fault> {
        let deadline = Instant::now() + self.granted.timeout;
        loop {
            let plane = self.hub.plane();
            match plane
                .prepare(&frame.data, &frame.metadata, frame.timestamp_us, |plane, bytes| plane.loan(bytes))
            {
                Ok(prepared) => return Ok(prepared),
                Err(NoBlock::TooLarge { bytes, largest }) => {
                    let advice = "send smaller pieces, or have the gateway's frame pool enlarged".to_owned();
                    return Err(exceeded("the input", bytes as u64, largest, "bytes", advice).into());
                }
                Err(NoBlock::AllHeld { .. }) => {
                    self.check_open()?;
                    if timeout_at(deadline.into(), self.hub.turned()).await.is_err() {
                        return Err(Fault::Deadline {
                            limit_ms: u64::try_from(self.granted.timeout.as_millis()).unwrap_or(u64::MAX),
                            waiting_for: "a free block of the gateway's frame pool".to_owned(),
                        });
                    }
                }
            }
        }
    }

    /// Sends what an input has for an edge that has credit, or a mark if that is nothing.
    fn push(&self, edge: &EdgeOut, sequence: u64, prepared: Option<&Prepared>) -> Result<(), Fault> {
        let header = Header { session: self.id.0, edge: edge.edge().index, sequence, last: true };
        edge.spend();
        let plane = self.hub.plane();
        let sent = match prepared {
            Some(prepared) => plane.send(edge.to(), &header, prepared),
            None => plane.send_mark(edge.to(), &header),
        };
        match sent {
            Ok(()) => Ok(()),
            // The worker is dead: the hub is about to say of what.
            Err(error) if error.is_death() => {
                tracing::debug!(session = %self.id, %error, "input_not_sent");
                Ok(())
            }
            Err(error) => {
                self.on(Event::Failed(Fault::Internal {
                    place: "the data plane".to_owned(),
                    problem: error.to_string(),
                }));
                self.changed.notify_one();
                self.check_open()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a result out: its credit goes back.
    fn take_ready(&self) -> Option<ChunkOutput> {
        let mut state = self.lock();
        let Ready { sequence, outputs, dropped, latency, answers } = state.ready.pop_front()?;
        state.measures.count_answered(answers);
        if dropped.is_some() {
            state.measures.count_dropped();
        }
        let mut by_node = BTreeMap::new();
        for (sink, frame) in outputs {
            state.measures.release(frame.data.payload());
            self.wiring.sinks[sink].give_back(self.hub.plane());
            by_node.insert(self.graph.node(self.sink_nodes[sink]).id.clone(), frame);
        }
        let dropped = dropped.map(|place| self.graph.node(self.wiring.entries[place].node).id.clone());
        Some(ChunkOutput { sequence, outputs: by_node, dropped, latency })
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
        let (place, port) = self.entry(&input.node)?;
        let (entry, port, sequence) = (&self.wiring.entries[place], port.to_owned(), input.sequence);
        let frames = self.sort_by_port(entry, input, &port)?;
        let _turn = self.sending.lock().await;
        self.check_open()?;
        for (_, edge) in &entry.ports {
            self.credit(edge).await?;
        }
        let mut prepared = Vec::with_capacity(frames.len());
        for frame in &frames {
            prepared.push(match frame {
                Some(frame) => Some(self.prepare(frame).await?),
                None => None,
            });
        }
        // From here nothing waits: the input is sent whole, or the future was dropped before.
        if frames.iter().all(Option::is_none) {
            self.on(Event::Dropped { entry: place, sequence });
        } else {
            let pieces = frames.iter().zip(&prepared).filter_map(|(frame, prepared)| {
                Some((&frame.as_ref()?.data, prepared.as_ref()?.payload_in_pool()))
            });
            self.lock().measures.take_in(sequence, pieces);
            self.on(Event::Input { entry: place, sequence });
        }
        self.changed.notify_one();
        self.check_open()?;
        for ((_, edge), prepared) in entry.ports.iter().zip(prepared) {
            self.push(edge, sequence, prepared.as_ref())?;
        }
        Ok(())
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
            End::Failed(Fault::Deadline { .. }) => {
                Due { asked: now, allowed: now + self.allowed.saturating_sub(self.asked) }
            }
            End::Failed(_) | End::Drained | End::Cancelled => {
                Due { asked: now + self.asked, allowed: now + self.allowed }
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

/// As many as credit lets be under way, and what workers say apart from that: ready, report, and a fault each.
fn most_events(graph: &Graph, limits: &Limits) -> usize {
    let window = usize::try_from(limits.credit_window).unwrap_or(usize::MAX);
    graph.sinks().count() * (window + 1) + graph.nodes().len() * 3 + 1
}

fn exceeded(what: &str, value: u64, limit: u64, unit: &str, advice: String) -> LimitExceeded {
    LimitExceeded { what: what.to_owned(), value, limit, unit: unit.to_owned(), advice }
}
