//! Engines served by a real host, as threads of one process: what needs no death. A host kills the process of a worker
//! that leaves, which is this one here; so it is not turned any more when an engine stops.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remotemedia_core::fault::{Fault, NodeFault};
use remotemedia_core::frame::{Metadata, StageId};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, Writable as _,
    read_params,
};
use remotemedia_core::{Frame, Text};
use remotemedia_ipc::control::messages::{StageCommand, StageFeeder, StagePlan, StageReply};
use remotemedia_ipc::host::{Host, HostConfig, HostEvent, PoolBudget};
use remotemedia_ipc::memory::Geometry;
use remotemedia_ipc::plane::{Arrival, Content, EdgeIn, EdgeOut, EdgeRef, Header};
use remotemedia_ipc::slot::Member;
use serde::Deserialize;

use super::sketch::Sketch;
use super::{Engine, Settings, Stop};
use crate::Registry;
use crate::nodes::PassThrough;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_frame_passes_by_reference_and_the_stage_reports_closes_and_is_gone() {
    let mut plant = Plant::start(1);
    let mut session = plant.open(0, chain("ab"));
    let sent = plant.send(&mut session, "hello");
    let back = plant.receive(&mut session);
    assert_eq!((back.header.sequence, back.header.last), (0, true));
    let Content::Frame(data, metadata, time) = back.content else { panic!("{back:?}") };
    assert_eq!(data.payload().as_ptr(), sent.data.payload().as_ptr(), "the same block, and not a copy");
    assert_eq!((metadata, time), (sent.metadata, sent.timestamp_us));

    plant.flush(&session);
    let flushed = plant.receive(&mut session);
    assert!(matches!(flushed.content, Content::Flush), "{flushed:?}");
    let StageReply::Reported { nodes, .. } = plant.reply() else { panic!("another reply") };
    assert_eq!(nodes["a"].worker, "worker-0");
    assert_eq!((nodes["a"].hops, nodes["b"].hops), (1, 0), "the second node is fused");
    assert_eq!((nodes["a"].calls, nodes["b"].calls), (2, 2));
    assert_eq!((nodes["b"].outputs, nodes["b"].copied_bytes, nodes["b"].lent_bytes), (1, 0, 0));
    plant.close(0, session.id);
}

#[test]
fn a_panic_ends_its_session_with_its_stack_and_the_worker_serves_on() {
    let mut plant = Plant::start(1);
    let mut healthy = plant.open(0, chain("a"));
    let mut broken = plant.open(0, with_type(chain("a"), "Temper", r#"{"panic_at": 1}"#));
    for _ in 0..2 {
        plant.send(&mut broken, "x");
    }
    plant.receive(&mut broken);
    let StageReply::Failed { stage, fault: Fault::Node(fault) } = plant.reply() else {
        panic!("another reply")
    };
    let NodeFault { node, node_type, sequence, message, backtrace } = fault;
    assert_eq!((stage, node.as_str(), node_type.as_str(), sequence), (broken.id, "a", "Temper", 1));
    assert!(message.ends_with("as I was told"), "{message}");
    assert!(backtrace.contains("served.rs"), "{backtrace}");
    plant.close(0, broken.id);
    plant.send(&mut healthy, "still here");
    plant.receive(&mut healthy);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let mut plant = Plant::start(1);
    let mut two_feeds = chain("ab");
    two_feeds.inner.push(two_feeds.inner[0]);
    let rows = [
        (
            with_type(chain("a"), "Reverb", "{}"),
            "node 'a' is of type 'Reverb', which no worker offers: there are",
        ),
        (
            with_type(chain("a"), "Temper", r#"{"mood": 1}"#),
            "node 'a': unknown parameter 'mood' = 1: there are times, panic_at, hold, hold_too",
        ),
        (with_type(chain("a"), "Temper", "[]"), "node 'a': params: invalid type: sequence"),
        (two_feeds, "numbers the feeds of node 'b' [0, 0]"),
    ];
    for (plan, expected) in rows {
        let session = plant.tell_to_open(0, plan).id;
        let StageReply::Failed { fault, .. } = plant.reply() else { panic!("another reply") };
        assert!(fault.to_string().contains(expected), "{fault}");
        plant.close(0, session);
    }
}

#[test]
fn without_credit_a_session_holds_still_and_loses_nothing() {
    let mut plant = Plant::start(1);
    // Three outputs of each input, over a window of 2.
    let mut session = plant.open(0, with_type(chain("a"), "Temper", r#"{"times": 3}"#));
    plant.send(&mut session, "x");
    plant.send(&mut session, "y");
    plant.arrivals_without_credit(2);
    let mut got = Vec::new();
    while got.len() < 6 {
        let Arrival { header, .. } = plant.receive(&mut session);
        got.push((header.sequence, header.last));
    }
    assert_eq!(got, [(0, false), (0, false), (0, true), (1, false), (1, false), (1, true)]);
}

#[test]
fn a_pipeline_that_leaves_a_worker_and_comes_back_never_waits_for_itself() {
    let mut plant = Plant::start(2);
    let mut out_and_back = Sketch::of("ac").input("a").output("a").input("c").output("c").plan();
    let mut between = Sketch::of("b").input("b").output("b").plan();
    let [first, second] = [plant.members[0], plant.members[1]];
    plant.connect(first, second);
    plant.connect(second, first);
    let edge = |index| EdgeRef { index, epoch: 1 };
    (out_and_back.outputs[0].edge, out_and_back.outputs[0].to) = (edge(10), second);
    (between.inputs[0].edge, between.inputs[0].from) = (edge(10), first);
    (between.outputs[0].edge, between.outputs[0].to) = (edge(11), first);
    (out_and_back.inputs[1].edge, out_and_back.inputs[1].from) = (edge(11), second);
    (out_and_back.window, between.window) = (1, 1);
    plant.open_stage(1, &between);
    let mut session = plant.open(0, out_and_back);
    session.sent_with_window(1);

    // More than all windows on the way hold together.
    let mut received = 0;
    for sequence in 0..20 {
        plant.until_credit(&session);
        plant.send(&mut session, "around");
        if sequence >= 4 {
            assert_eq!(plant.receive(&mut session).header.sequence, received);
            received += 1;
        }
    }
    for sequence in received..20 {
        assert_eq!(plant.receive(&mut session).header.sequence, sequence);
    }
    plant.flush(&session);
    let reports = [plant.reply(), plant.reply()];
    assert!(reports.iter().all(|reply| matches!(reply, StageReply::Reported { .. })), "{reports:?}");
}

#[test]
fn an_input_that_is_fed_by_another_takes_what_is_new_and_nothing_from_before() {
    let mut plant = Plant::start(1);
    let mut session = plant.open(0, chain("a"));
    plant.send(&mut session, "zero");
    assert_eq!(plant.receive(&mut session).header.sequence, 0);
    let former = std::mem::replace(
        &mut session.entry,
        EdgeOut::new(EdgeRef { index: 300, epoch: 1 }, plant.members[0], 2),
    );
    let feeders = vec![StageFeeder { input: 0, edge: session.entry.edge(), from: plant.host().plane().me() }];
    plant.tell(0, StageCommand::Rewire { stage: session.id, turn: 7, feeders });
    assert_eq!(plant.reply(), StageReply::Rewired { stage: session.id, turn: 7 });
    let new = std::mem::replace(&mut session.entry, former);
    plant.send(&mut session, "late");
    session.entry = new;
    session.next = 0;
    for words in ["zero", "one", "two", "three"] {
        plant.until_credit(&session);
        plant.send(&mut session, words);
    }
    for words in ["one", "two", "three"] {
        let Content::Frame(data, ..) = plant.receive(&mut session).content else { panic!("no frame") };
        assert_eq!(data.payload(), words.as_bytes());
    }
    plant.close(0, session.id);
}

#[test]
fn a_call_that_lasts_keeps_neither_other_sessions_nor_the_closing_of_its_own_from_being_heard() {
    let mut plant = Plant::start(1);
    let (release, held) = sync_channel::<()>(1);
    *HELD.lock().unwrap() = Some(held);
    let mut slow = plant.open(0, with_type(chain("a"), "Temper", r#"{"hold": true}"#));
    let mut other = plant.open(0, chain("a"));
    plant.send(&mut slow, "x");
    plant.until(|_| HELD.lock().unwrap().is_none());
    plant.tell(0, StageCommand::Close { stage: slow.id });
    plant.send(&mut other, "y");
    plant.receive(&mut other);
    assert!(plant.replies.is_empty(), "a node cannot be interrupted");
    let_go(release);
    assert_eq!(plant.reply(), StageReply::Closed { stage: slow.id });
}

#[test]
fn more_than_its_credit_is_a_senders_lie() {
    let mut plant = Plant::start(1);
    let (release, held) = sync_channel::<()>(1);
    *HELD_TOO.lock().unwrap() = Some(held);
    let mut session = plant.open(0, with_type(chain("a"), "Temper", r#"{"hold_too": true}"#));
    plant.send(&mut session, "in the node's hands");
    plant.until(|_| HELD_TOO.lock().unwrap().is_none());
    // A window of 2, the place for the flush, and one more.
    for _ in 0..4 {
        plant.send(&mut session, "x");
    }
    plant.drain_sent();
    let_go(release);
    let StageReply::Failed { fault, .. } = plant.reply() else { panic!("another reply") };
    assert!(fault.to_string().contains("more on edge 102 than its credit allows"), "{fault}");
}

#[test]
fn a_worker_joins_the_next_gateway_when_one_is_gone() {
    let mut plant = Plant::start(1);
    let mut session = plant.open(0, chain("a"));
    plant.send(&mut session, "x");
    plant.receive(&mut session);
    plant.restart_host();
    let mut session = plant.open(0, chain("a"));
    plant.send(&mut session, "y");
    plant.receive(&mut session);
}

/// Engines and their host.
struct Plant {
    host: Option<Host>,
    members: Vec<Member>,
    replies: VecDeque<StageReply>,
    arrivals: VecDeque<Arrival>,
    engines: Vec<(Arc<Stop>, JoinHandle<()>)>,
    sessions: u64,
    dir: tempfile::TempDir,
}

/// The gateway's ends of a session.
struct Client {
    id: StageId,
    entry: EdgeOut,
    sink: EdgeIn,
    next: u64,
}

// === impl Plant ===

impl Plant {
    fn start(workers: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("rm").tempdir_in("/dev/shm").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut plant = Self {
            host: Some(host(dir.path())),
            members: Vec::new(),
            replies: VecDeque::new(),
            arrivals: VecDeque::new(),
            engines: Vec::new(),
            sessions: 0,
            dir,
        };
        for number in 0..workers {
            plant.start_engine(number);
            plant.until(|plant| plant.members.len() > number);
        }
        plant
    }

    fn start_engine(&mut self, number: usize) {
        let settings = Settings {
            runtime_dir: self.dir.path().to_owned(),
            kind: "rust".to_owned(),
            name: format!("worker-{number}"),
            threads: 2,
            drain: Duration::ZERO,
            unit: None,
        };
        let stop = Arc::new(Stop::default());
        let asked = Arc::clone(&stop);
        let registry =
            Registry::new().register::<PassThrough>().and_then(Registry::register::<Temper>).unwrap();
        let engine = thread::spawn(move || {
            Engine::start(settings, registry, asked).unwrap().run().unwrap();
        });
        self.engines.push((stop, engine));
    }

    fn restart_host(&mut self) {
        self.host.take().unwrap().close().unwrap();
        self.members.clear();
        self.host = Some(host(self.dir.path()));
        self.until(|plant| plant.members.len() == 1);
    }

    /// Opens a stage whose first input and last output are the gateway's.
    fn open(&mut self, worker: usize, plan: StagePlan) -> Client {
        let session = self.tell_to_open(worker, plan);
        assert_eq!(self.reply(), StageReply::Opened { stage: session.id });
        session
    }

    fn tell_to_open(&mut self, worker: usize, mut plan: StagePlan) -> Client {
        self.sessions += 1;
        plan.stage = StageId(self.sessions);
        plan.outputs.iter_mut().for_each(|output| output.stage = plan.stage);
        let gateway = self.host().plane().me();
        let first_edge = 100 + 2 * u32::try_from(self.sessions).unwrap();
        plan.inputs[0].from = gateway;
        plan.inputs[0].edge.index = first_edge;
        let last = plan.outputs.last_mut().unwrap();
        last.to = gateway;
        last.edge.index = first_edge + 1;
        let worker_member = self.members[worker];
        let client = Client {
            id: plan.stage,
            entry: EdgeOut::new(plan.inputs[0].edge, worker_member, plan.window),
            sink: EdgeIn::new(last.edge, worker_member, plan.window),
            next: 0,
        };
        self.tell(worker, StageCommand::Open(plan));
        client
    }

    /// Opens a stage without edges of the gateway, of the session that is opened next.
    fn open_stage(&mut self, worker: usize, plan: &StagePlan) {
        let mut plan = StagePlan { stage: StageId(self.sessions + 1), ..plan.clone() };
        plan.outputs.iter_mut().for_each(|output| output.stage = plan.stage);
        self.tell(worker, StageCommand::Open(plan));
        assert!(matches!(self.reply(), StageReply::Opened { .. }));
    }

    fn close(&mut self, worker: usize, stage: StageId) {
        self.tell(worker, StageCommand::Close { stage });
        assert_eq!(self.reply(), StageReply::Closed { stage });
    }

    fn tell(&mut self, worker: usize, command: StageCommand) {
        let member = self.members[worker];
        self.host().tell(member, command).unwrap();
    }

    fn connect(&mut self, from: Member, to: Member) {
        let up = self.host().connect(from, to, &mut |_| {});
        let mut up = up;
        self.turn_until(|event, _| {
            up |= matches!(event, Some(HostEvent::LinkUp { from: a, to: b }) if (*a, *b) == (from, to));
            up
        });
    }

    /// Sends a frame over a block of the gateway's pool. Says what was sent.
    fn send(&mut self, session: &mut Client, words: &str) -> Frame {
        let plane = self.host().plane().clone();
        let mut block = plane.loan_until(words.len(), Instant::now() + DEADLINE).unwrap();
        block.bytes_mut().copy_from_slice(words.as_bytes());
        let text = Text::new(Box::new(block).freeze(), "").unwrap();
        let metadata = Metadata::from([("key".to_owned(), words.to_owned())]);
        let frame = Frame {
            sequence: session.next,
            timestamp_us: Some(session.next * 100),
            metadata,
            data: text.into(),
        };
        let deadline = Instant::now() + DEADLINE;
        let sent = plane.prepare_until(&frame.data, &frame.metadata, frame.timestamp_us, deadline).unwrap();
        let edge = session.entry.edge().index;
        let header = Header { session: session.id.0, edge, sequence: session.next, last: true };
        plane.send(session.entry.to(), &header, &sent).unwrap();
        session.entry.spend();
        session.next += 1;
        frame
    }

    fn flush(&mut self, session: &Client) {
        let header =
            Header { session: session.id.0, edge: session.entry.edge().index, sequence: 0, last: false };
        self.host().plane().send_flush(session.entry.to(), &header).unwrap();
    }

    /// The next arrival of the session, whose credit goes back.
    fn receive(&mut self, session: &mut Client) -> Arrival {
        self.until(|plant| !plant.arrivals.is_empty());
        let arrival = self.arrivals.pop_front().unwrap();
        assert_eq!(StageId(arrival.header.session), session.id);
        session.sink.give_back(&self.host().plane().clone());
        arrival
    }

    /// Waits for so many, and then as long again as a worker sleeps at most, for more that must not come.
    fn arrivals_without_credit(&mut self, count: usize) {
        self.until(|plant| plant.arrivals.len() >= count);
        let end = Instant::now() + Duration::from_millis(50);
        self.until(|_| Instant::now() > end);
        assert_eq!(self.arrivals.len(), count);
    }

    fn until_credit(&mut self, session: &Client) {
        let plane = self.host().plane().clone();
        self.until(|_| session.entry.has_credit(&plane));
    }

    /// Until the worker's I/O thread has taken all that was sent.
    fn drain_sent(&mut self) {
        let plane = self.host().plane().clone();
        self.until(|_| plane.in_flight() == 0);
    }

    /// The next that is not about waiting for a thread, of which there may be none or enough.
    fn reply(&mut self) -> StageReply {
        loop {
            self.until(|plant| !plant.replies.is_empty());
            let reply = self.replies.pop_front().unwrap();
            if !matches!(reply, StageReply::Waits { .. }) {
                return reply;
            }
        }
    }

    fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        self.turn_until(|_, plant| done(plant));
    }

    fn turn_until(&mut self, mut done: impl FnMut(Option<&HostEvent>, &Self) -> bool) {
        let give_up = Instant::now() + DEADLINE;
        while !done(None, self) {
            assert!(Instant::now() < give_up, "nothing came in {DEADLINE:?}");
            let mut events = Vec::new();
            self.host().turn(Duration::from_millis(10), || false, &mut |event| events.push(event)).unwrap();
            for event in events {
                done(Some(&event), self);
                match event {
                    HostEvent::Joined { member, .. } => self.members.push(member),
                    HostEvent::Arrival(arrival) => self.arrivals.push_back(arrival),
                    HostEvent::Reply { reply, .. } => self.replies.push_back(reply),
                    HostEvent::LinkUp { .. } | HostEvent::News { .. } => {}
                    HostEvent::Condemned { .. }
                    | HostEvent::Stillborn(_)
                    | HostEvent::Launcher(_)
                    | HostEvent::Dead { .. }
                    | HostEvent::Died { .. } => {
                        panic!("{event:?}")
                    }
                }
            }
        }
    }

    fn host(&mut self) -> &mut Host {
        self.host.as_mut().unwrap()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        for (stop, engine) in self.engines.drain(..) {
            stop.ask();
            if !thread::panicking() {
                engine.join().unwrap();
            }
        }
        if let Some(host) = self.host.take() {
            drop(host.close());
        }
    }
}

// === impl Client ===

impl Client {
    fn sent_with_window(&mut self, window: u32) {
        self.entry = EdgeOut::new(self.entry.edge(), self.entry.to(), window);
    }
}

fn host(dir: &std::path::Path) -> Host {
    let pool = Geometry::for_budget(8 << 20, 1 << 20).unwrap();
    let config = HostConfig {
        runtime_dir: dir.to_owned(),
        budget: PoolBudget::UNBOUNDED,
        gateway_pool: pool.clone(),
        worker_pool: pool,
        link_capacity: 256,
    };
    Host::start(config).unwrap()
}

/// Pass-through nodes in a row.
fn chain(ids: &str) -> StagePlan {
    let [first, last] = [&ids[..1], &ids[ids.len() - 1..]];
    let pairs = ids.as_bytes().windows(2).map(|pair| str::from_utf8(pair).unwrap());
    let chain = pairs.fold(Sketch::of(ids).input(first), |sketch, pair| sketch.inner(&pair[..1], &pair[1..]));
    chain.output(last).plan()
}

fn with_type(mut plan: StagePlan, node_type: &str, params: &str) -> StagePlan {
    node_type.clone_into(&mut plan.nodes[0].node_type);
    params.clone_into(&mut plan.nodes[0].params);
    plan
}

/// Hands the node that is held its release.
fn let_go(release: SyncSender<()>) {
    release.send(()).unwrap();
}

static HELD: Mutex<Option<std::sync::mpsc::Receiver<()>>> = Mutex::new(None);
static HELD_TOO: Mutex<Option<std::sync::mpsc::Receiver<()>>> = Mutex::new(None);

/// Passes on what comes, unless its parameters say otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Temper {
    times: usize,
    panic_at: Option<u64>,
    hold: bool,
    hold_too: bool,
}

impl Default for Temper {
    fn default() -> Self {
        Self { times: 1, panic_at: None, hold: false, hold_too: false }
    }
}

impl NodeType for Temper {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Temper".to_owned(),
            aliases: Vec::new(),
            summary: "Misbehaves as it is told.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: vec![
                Parameter::optional("times", Values::integer(0..=u32::MAX, ""), "How often it passes on."),
                Parameter::optional(
                    "panic_at",
                    Values::integer(0..=u32::MAX, ""),
                    "At which sequence it panics.",
                ),
                Parameter::optional("hold", Values::Boolean, "Whether it waits to be let go."),
                Parameter::optional("hold_too", Values::Boolean, "Whether it waits for the other too."),
            ],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        read_params(params)
    }
}

impl Node for Temper {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        assert!(self.panic_at != Some(input.sequence), "as I was told");
        for (holds, held) in [(self.hold, &HELD), (self.hold_too, &HELD_TOO)] {
            // The first call takes what it waits for, the next ones find it gone. Not under the lock: tests look there.
            let held = if holds { held.lock().unwrap().take() } else { None };
            if let Some(held) = held {
                held.recv_timeout(DEADLINE).map_err(NodeError::failed)?;
            }
        }
        for _ in 0..self.times {
            out.emit(Output::from(input.data.clone()))?;
        }
        Ok(())
    }
}
