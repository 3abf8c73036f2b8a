//! One session in this process: what has come for it, and whose turn it is.
//!
//! The I/O thread posts letters; node threads run the session, one at a time, whenever it has something to do and no
//! credit is missing. Nothing here ever blocks the I/O thread: it takes the gate's lock, under which nobody works.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remotemedia_core::Fault;
use remotemedia_core::Frame;
use remotemedia_core::fault::{NodeFault, PlacementError};
use remotemedia_core::frame::{SessionId, StageId};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, ParamError};
use remotemedia_core::transport::NodeReport;
use remotemedia_ipc::control::messages::{StageFeeder, StageNode, StagePlan, StageReply};
use remotemedia_ipc::plane::{Arrival, Content, EdgeIn, Plane};
use remotemedia_ipc::slot::Member;

use super::course::Course;
use super::logbook::Logbook;
use super::mailbox::Note;
use super::membership::Membership;
use super::outlets::{Departing, OutletError, Outlets, Sent};
use super::routes::{PlanError, Routes};
use super::stage::{Advance, Item, Stage};
use super::station::Station;
use crate::registry::{CreateError, Place};

/// One session's stage in this process.
#[derive(Debug)]
pub(super) struct SessionCell {
    id: StageId,
    /// What people know it as.
    session: SessionId,
    membership: Arc<Membership>,
    window: u32,
    /// Letters on one input that its sender may have under way: the window, and the flush.
    most_letters: usize,
    outlets: Outlets,
    gate: Mutex<Gate>,
    /// Locked by the node thread whose turn it is, for all of it. The I/O thread looks whether it is, and never waits.
    play: Mutex<Option<Play>>,
}

/// What has come and what is to be done; changed by the I/O thread and node threads, in no time.
#[derive(Debug)]
struct Gate {
    phase: Phase,
    /// In the roster, or in the hands of a node thread.
    scheduled: bool,
    /// By place in the plan's inputs, as is everything called an input, and then by joint.
    lanes: Vec<Lane>,
    /// Edges that inputs had before they were given to others, with who sent there: the latest of them.
    former: VecDeque<(u32, Member)>,
    /// Which lane is looked at first.
    turn: usize,
}

#[derive(Debug)]
enum Phase {
    /// Its nodes are to be made. // => Standing | Condemned | Closing
    Fresh(Box<(StagePlan, Routes)>),
    /// Frames are worked off. // => Condemned | Failed | Closing
    Standing,
    /// A peer broke the rules: it is to fail. // => Failed | Closing
    Condemned(Box<Fault>),
    /// Failed, and said so. What comes is dropped. // => Closing
    Failed,
    /// Everything is to be dropped. // => Closed
    Closing,
    /// Everything is dropped.
    Closed,
}

/// One lane of the stage.
#[derive(Debug, Default)]
struct Lane {
    /// None of a joint.
    inlet: Option<Inlet>,
    letters: VecDeque<Letter>,
    flow: Flow,
}

/// Where an input comes from, and how far it has come.
#[derive(Debug)]
struct Inlet {
    edge: EdgeIn,
    course: Course,
    /// How many it has had before this one.
    turn: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Flow {
    /// Its next letter may be taken.
    #[default]
    Clear, // => Stalled | HeldUp
    /// What came of its last letter waits for credit on an edge.
    Stalled { edge: usize }, // => Resumed
    /// There is credit again.
    Resumed, // => Clear | Stalled | HeldUp
    /// Its last letter waits at a joint for what other lanes bring, and goes on when they have.
    HeldUp, // => Clear | Stalled
}

#[derive(Debug)]
struct Letter {
    item: Item,
    /// The turn of the edge that it came on.
    turn: u32,
    /// From push to pop, for frames.
    hop: Option<Duration>,
}

/// What a node thread is to do next.
enum Errand {
    Open(Box<(StagePlan, Routes)>),
    Take { input: usize, letter: Letter },
    Resume { lane: usize },
    Fail(Box<Fault>),
    Close,
}

/// The nodes at work.
struct Play {
    stage: Stage,
    /// By lane.
    departing: Vec<Option<Departing>>,
    reported: bool,
}

/// Errands of one session before another has its turn.
const SLICE: usize = 8;

/// Former edges that are remembered. Frames of the others have arrived long since.
const FORMER: usize = 64;

// === impl SessionCell ===

impl SessionCell {
    /// A session whose nodes are yet to be made, by a node thread.
    pub(super) fn open(membership: &Arc<Membership>, plan: StagePlan) -> Result<Arc<Self>, PlanError> {
        let routes = Routes::of(&plan)?;
        let inlet = |input: &remotemedia_ipc::control::messages::StageInput| {
            let edge = EdgeIn::new(input.edge, input.from, plan.window);
            let inlet = Inlet { edge, course: Course::default(), turn: 0 };
            Lane { inlet: Some(inlet), ..Lane::default() }
        };
        let joints = (0..routes.joints()).map(|_| Lane::default());
        let lanes = plan.inputs.iter().map(inlet).chain(joints).collect();
        let cell = Arc::new(Self {
            id: plan.stage,
            session: plan.session,
            membership: Arc::clone(membership),
            window: plan.window,
            most_letters: usize::try_from(plan.window).unwrap_or(usize::MAX).saturating_add(1),
            outlets: Outlets::new(membership.plane().clone(), &plan),
            gate: Mutex::new(Gate {
                phase: Phase::Fresh(Box::new((plan, routes))),
                scheduled: false,
                lanes,
                former: VecDeque::new(),
                turn: 0,
            }),
            play: Mutex::new(None),
        });
        cell.schedule(&mut cell.gate());
        Ok(cell)
    }

    /// Takes what came over a link. What cannot be right condemns the session.
    pub(super) fn post(self: &Arc<Self>, arrival: Arrival) {
        let mut gate = self.gate();
        match gate.phase {
            Phase::Fresh(_) | Phase::Standing => {}
            Phase::Condemned(_) | Phase::Failed | Phase::Closing | Phase::Closed => return,
        }
        match self.sort(&mut gate, arrival) {
            Ok(Some((input, letter))) => gate.lanes[input].letters.push_back(letter),
            Ok(None) => return,
            Err(problem) => {
                let place = "the frames of a peer".to_owned();
                gate.phase = Phase::Condemned(Box::new(Fault::Internal { place, problem }));
            }
        }
        self.schedule(&mut gate);
    }

    /// Takes inputs from others from here on, who give again what had not been answered.
    pub(super) fn rewire(self: &Arc<Self>, turn: u32, feeders: &[StageFeeder]) {
        let mut gate = self.gate();
        match gate.phase {
            Phase::Fresh(_) | Phase::Standing => {}
            Phase::Condemned(_) | Phase::Failed | Phase::Closing | Phase::Closed => return,
        }
        for feeder in feeders {
            if !gate.rewire(feeder, self.window) {
                let (place, inputs) = ("the rewiring of a stage".to_owned(), gate.lanes.len());
                let problem = format!("input {} of {inputs} lanes is to be fed by another", feeder.input);
                gate.phase = Phase::Condemned(Box::new(Fault::Internal { place, problem }));
                return self.schedule(&mut gate);
            }
        }
        self.reply(StageReply::Rewired { stage: self.id, turn });
    }

    /// Has everything dropped, after the call that a node may be in, and then says so; at once it says if there is no
    /// such call, so that who waits for a thread is not taken for who does not return.
    pub(super) fn close(self: &Arc<Self>) {
        let mut gate = self.gate();
        match gate.phase {
            Phase::Fresh(_) | Phase::Standing | Phase::Condemned(_) | Phase::Failed => {}
            Phase::Closing | Phase::Closed => return,
        }
        gate.phase = Phase::Closing;
        gate.drain();
        if self.play.try_lock().is_ok() {
            self.reply(StageReply::Waits { stage: self.id });
        }
        self.schedule(&mut gate);
    }

    /// Whether a lane that had stalled can go on now. None if it does not wait any more.
    pub(super) fn may_resume(&self, lane: usize) -> Option<bool> {
        let gate = self.gate();
        match gate.lanes[lane].flow {
            Flow::Stalled { edge } => Some(self.outlets.has_credit(edge)),
            Flow::Clear | Flow::Resumed | Flow::HeldUp => None,
        }
    }

    /// Has a stalled lane go on.
    pub(super) fn resume(self: &Arc<Self>, lane: usize) {
        let mut gate = self.gate();
        match gate.lanes[lane].flow {
            Flow::Stalled { .. } => gate.lanes[lane].flow = Flow::Resumed,
            Flow::Clear | Flow::Resumed | Flow::HeldUp => return,
        }
        self.schedule(&mut gate);
    }

    /// Does some of what is to be done. For node threads.
    pub(super) fn run(self: Arc<Self>) {
        let mut play = self.play.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..SLICE {
            let Some(errand) = self.next_errand() else { return };
            if let Err(fault) = self.do_errand(&mut play, errand) {
                // What the nodes hold goes before anybody is told that they failed.
                *play = None;
                self.fail(fault);
            }
        }
        drop(play);
        let roster = Arc::clone(self.membership.roster());
        roster.schedule(self);
    }

    fn do_errand(&self, play: &mut Option<Play>, errand: Errand) -> Result<(), Fault> {
        match (errand, play) {
            (Errand::Open(plan), play) => {
                *play = Some(Play::set_up(*plan, &self.membership)?);
                self.reply(StageReply::Opened { stage: self.id });
                Ok(())
            }
            (Errand::Fail(fault), _) => Err(*fault),
            (Errand::Close, play) => {
                *play = None;
                self.reply(StageReply::Closed { stage: self.id });
                Ok(())
            }
            (Errand::Take { input, letter }, Some(play)) => {
                play.stage.enter(input, letter.item, letter.hop)?;
                self.go_on(play, input)
            }
            (Errand::Resume { lane }, Some(play)) => self.go_on(play, lane),
            (Errand::Take { .. } | Errand::Resume { .. }, None) => {
                debug_assert!(false, "a session without nodes has failed or is closed");
                Ok(())
            }
        }
    }

    /// Works on a lane, and on those that it brings something to, until nothing more can be done.
    fn go_on(&self, play: &mut Play, lane: usize) -> Result<(), Fault> {
        let mut next = Some(lane);
        while let Some(lane) = next {
            let flow = play.work(lane, &self.outlets)?;
            self.gate().lanes[lane].flow = flow;
            if let Flow::Stalled { .. } = flow {
                self.membership.mailbox().leave(Note::Stalled { stage: self.id, lane });
            }
            next = play.next_lane();
        }
        if play.is_done() {
            self.reply(StageReply::Reported { stage: self.id, nodes: play.stage.reports() });
        }
        Ok(())
    }

    /// Ends the session here, unless it is ending already.
    fn fail(&self, fault: Fault) {
        let mut gate = self.gate();
        match gate.phase {
            Phase::Closing | Phase::Closed => return,
            Phase::Fresh(_) | Phase::Standing | Phase::Condemned(_) | Phase::Failed => {}
        }
        gate.phase = Phase::Failed;
        gate.drain();
        drop(gate);
        tracing::info!(session = %self.session, %fault, "session_failed");
        self.reply(StageReply::Failed { stage: self.id, fault });
    }

    fn next_errand(&self) -> Option<Errand> {
        let mut gate = self.gate();
        let errand = gate.next_errand(self.membership.plane());
        gate.scheduled = errand.is_some();
        errand
    }

    /// Which input an arrival is for, and what it brings; nothing, if it says nothing new.
    fn sort(&self, gate: &mut Gate, arrival: Arrival) -> Result<Option<(usize, Letter)>, String> {
        let Arrival { from, header, hop, content } = arrival;
        let Some(input) = gate.input_of(header.edge, from) else {
            if gate.former.contains(&(header.edge, from)) {
                return Ok(None);
            }
            if gate.inlets().all(|inlet| inlet.edge.from() != from) {
                // The lie of a stranger is no fault of the session.
                tracing::warn!(%from, session = %self.session, "frame_of_stranger_dropped");
                return Ok(None);
            }
            return Err(format!(
                "{from} sent a frame on edge {}, which the session does not have",
                header.edge
            ));
        };
        let (sequence, last) = (header.sequence, header.last);
        let (item, hop) = match content {
            Content::Frame(data, metadata, timestamp_us) => {
                let frame = Frame { sequence, timestamp_us, metadata, data };
                (Item::Frame { frame, last }, Some(hop))
            }
            Content::Mark if last => (Item::Mark { sequence }, None),
            Content::Mark => return Ok(None),
            Content::Flush => (Item::Flush, None),
            Content::Lost => return Err(format!("frame {sequence} from {from} could not be had")),
        };
        match gate.lanes[input].letter(item, hop, self.most_letters, self.membership.plane()) {
            Some(letter) => Ok(letter.map(|letter| (input, letter))),
            None => Err(format!("{from} sent more on edge {} than its credit allows", header.edge)),
        }
    }

    fn schedule(self: &Arc<Self>, gate: &mut Gate) {
        if !std::mem::replace(&mut gate.scheduled, true) {
            self.membership.roster().schedule(Arc::clone(self));
        }
    }

    fn reply(&self, reply: StageReply) {
        self.membership.mailbox().leave(Note::Reply(reply));
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gate ===

impl Gate {
    fn next_errand(&mut self, plane: &Plane) -> Option<Errand> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Fresh(plan) => {
                self.phase = Phase::Standing;
                Some(Errand::Open(plan))
            }
            Phase::Standing => {
                self.phase = Phase::Standing;
                self.next_of_lanes(plane)
            }
            Phase::Condemned(fault) => {
                self.phase = Phase::Failed;
                Some(Errand::Fail(fault))
            }
            Phase::Failed => {
                self.phase = Phase::Failed;
                None
            }
            Phase::Closing => Some(Errand::Close),
            Phase::Closed => None,
        }
    }

    /// The lanes in turn, so that none waits for another.
    fn next_of_lanes(&mut self, plane: &Plane) -> Option<Errand> {
        let count = self.lanes.len();
        for place in (self.turn..count).chain(0..self.turn) {
            let lane = &mut self.lanes[place];
            match lane.flow {
                Flow::Stalled { .. } | Flow::HeldUp => {}
                Flow::Resumed => {
                    lane.flow = Flow::Clear;
                    return Some(Errand::Resume { lane: place });
                }
                Flow::Clear => {
                    if let Some(letter) = lane.next_letter(plane) {
                        self.turn = (place + 1) % count;
                        return Some(Errand::Take { input: place, letter });
                    }
                }
            }
        }
        None
    }

    fn drain(&mut self) {
        for lane in &mut self.lanes {
            lane.letters.clear();
            lane.flow = Flow::Clear;
        }
    }

    fn inlets(&self) -> impl Iterator<Item = &Inlet> {
        self.lanes.iter().filter_map(|lane| lane.inlet.as_ref())
    }

    /// The input that an edge feeds.
    fn input_of(&self, edge: u32, from: Member) -> Option<usize> {
        self.inlets().position(|inlet| inlet.edge.edge().index == edge && inlet.edge.from() == from)
    }

    /// False if there is no such input.
    fn rewire(&mut self, feeder: &StageFeeder, window: u32) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(feeder.input)) else { return false };
        let Some(inlet) = &mut lane.inlet else { return false };
        let edge = std::mem::replace(&mut inlet.edge, EdgeIn::new(feeder.edge, feeder.from, window));
        inlet.course.begin_again();
        inlet.turn = inlet.turn.wrapping_add(1);
        self.former.push_back((edge.edge().index, edge.from()));
        if self.former.len() > FORMER {
            self.former.pop_front();
        }
        true
    }
}

// === impl Lane ===

impl Lane {
    /// A letter of what is new in an item, if anything is: what is not gives its credit back at once, though the lane may
    /// be held up. None if the edge has as much under way as it may.
    fn letter(
        &mut self,
        item: Item,
        hop: Option<Duration>,
        most: usize,
        plane: &Plane,
    ) -> Option<Option<Letter>> {
        let inlet = self.inlet.as_mut()?;
        if self.letters.iter().filter(|letter| letter.turn == inlet.turn).count() >= most {
            return None;
        }
        let has_credit = item != Item::Flush;
        let new = inlet.course.pass(item);
        if new.is_none() && has_credit {
            inlet.edge.give_back(plane);
        }
        Some(new.map(|item| Letter { item, turn: inlet.turn, hop }))
    }

    /// The next, whose credit goes back where its edge is still in use.
    fn next_letter(&mut self, plane: &Plane) -> Option<Letter> {
        let letter = self.letters.pop_front()?;
        let inlet = self.inlet.as_ref().filter(|inlet| inlet.turn == letter.turn);
        if let (Some(inlet), Item::Frame { .. } | Item::Mark { .. }) = (inlet, &letter.item) {
            inlet.edge.give_back(plane);
        }
        Some(letter)
    }
}

// === impl Play ===

impl Play {
    fn set_up((plan, routes): (StagePlan, Routes), membership: &Membership) -> Result<Self, Fault> {
        let mut stations = Vec::with_capacity(plan.nodes.len());
        for node in &plan.nodes {
            let report = NodeReport {
                pid: std::process::id(),
                worker: membership.worker_name().to_owned(),
                ..NodeReport::default()
            };
            let place = Place { session: plan.session, node: &node.id, memory_bytes: plan.memory_bytes };
            let logbook = Logbook::new(membership.plane(), plan.stage, node.index);
            let entry = logbook.enter(None, 0);
            let made = Station::set_up(&node.id, &node.node_type, report, || make(node, &place, membership))?;
            drop(entry);
            let made = made.logged_in(logbook);
            stations.push(match membership.registry().info(&node.node_type) {
                Some(info) => made.held_to(info),
                None => made,
            });
        }
        let departing = (0..routes.inputs() + routes.joints()).map(|_| None).collect();
        let max_outputs = usize::try_from(plan.max_outputs_per_call).unwrap_or(usize::MAX);
        let stage = Stage::new(routes, stations, max_outputs, |node| plan.nodes[node].ports.clone());
        Ok(Self { stage, departing, reported: false })
    }

    /// Works on a lane until all is done, an edge has no credit, or a joint does not admit what comes.
    fn work(&mut self, lane: usize, outlets: &Outlets) -> Result<Flow, Fault> {
        loop {
            if let Sent::Stalled { edge } = self.send(outlets, lane)? {
                return Ok(Flow::Stalled { edge });
            }
            match self.stage.advance(lane, &mut |bytes| outlets.lend(bytes))? {
                Advance::Departure(departure) => self.departing[lane] = Some(Departing::new(departure)),
                Advance::HeldUp => return Ok(Flow::HeldUp),
                Advance::Done => return Ok(Flow::Clear),
            }
        }
    }

    /// A lane that has not stalled and on which something can be done.
    fn next_lane(&self) -> Option<usize> {
        self.stage.next_lane(|lane| self.departing[lane].is_some())
    }

    /// Sends what waits to leave on a lane.
    fn send(&mut self, outlets: &Outlets, lane: usize) -> Result<Sent, Fault> {
        let Some(departing) = &mut self.departing[lane] else { return Ok(Sent::Whole) };
        let node = departing.departure().node;
        match outlets.send(departing, self.stage.edges_from(node)) {
            Ok(Sent::Whole) => {
                let copied = departing.copied_bytes();
                self.stage.count_copied(node, copied);
                self.departing[lane] = None;
                Ok(Sent::Whole)
            }
            Ok(stalled @ Sent::Stalled { .. }) => Ok(stalled),
            Err(OutletError::Loan(error)) => {
                Err(self.stage.output_fault(node, departing.departure().sequence, &error))
            }
            Err(error @ OutletError::Send(_)) => {
                let place = "the edges out of a worker".to_owned();
                Err(Fault::Internal { place, problem: error.to_string() })
            }
        }
    }

    /// Whether all nodes have flushed and all is sent. Once.
    fn is_done(&mut self) -> bool {
        let done = self.stage.is_flushed() && self.departing.iter().all(Option::is_none);
        done && !std::mem::replace(&mut self.reported, true)
    }
}

impl std::fmt::Debug for Play {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Play")
    }
}

fn make(node: &StageNode, place: &Place<'_>, membership: &Membership) -> Result<Box<dyn Node>, Fault> {
    let params_fault = |error| Fault::Params { node: node.id.clone(), error };
    let params: Params = serde_json::from_str(&node.params)
        .map_err(|error| params_fault(ParamError::Shape { problem: error.to_string() }))?;
    membership.registry().create_at(&node.node_type, &params, place).map_err(|error| match error {
        CreateError::UnknownType { node_type, known } => {
            let (node, failing) = (node.id.clone(), String::new());
            PlacementError::UnknownType { node, node_type, known, failing }.into()
        }
        CreateError::Params(error) => params_fault(error),
        CreateError::Node(error) => Fault::Node(NodeFault {
            node: node.id.clone(),
            node_type: node.node_type.clone(),
            sequence: 0,
            message: error.to_string(),
            backtrace: error.traceback().to_owned(),
        }),
    })
}
