//! A session's life as a state machine: what is answered, in which order, and when it is over. No I/O, no clock.
//!
//! Every accepted input sequence is answered by one or more deliveries, in the order of sequences; by one without
//! outputs if nothing came of it. What a flush yields carries the last sequence. Nothing follows the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::fault::{Fault, StreamFault};
use crate::graph::{Graph, NodeIndex};

/// One client's run of one pipeline, seen from the gateway. `F` is whatever stands for a frame.
#[derive(Debug)]
pub struct Session<F> {
    phase: Phase,
    entries: Vec<Entry<F>>,
    sinks: Vec<Sink>,
    stages: usize,
    clocks: Clocks,
}

/// What happened.
#[derive(Debug)]
pub enum Event<F> {
    /// A stage's worker has set up its nodes.
    StageReady,
    /// The client sent an input for an entry.
    Input {
        /// Place in [`Session::entries`].
        entry: usize,
        /// The client's sequence number.
        sequence: u64,
    },
    /// A worker sent what came of an input.
    Output {
        /// Place in [`Session::sinks`].
        sink: usize,
        /// The sequence of the input.
        sequence: u64,
        /// The frame; none is a mere mark that nothing more comes.
        frame: Option<F>,
        /// Nothing more comes of this sequence at this sink.
        last: bool,
    },
    /// A sink has flushed: nothing more comes of it at all.
    SinkDrained {
        /// Place in [`Session::sinks`].
        sink: usize,
    },
    /// A stage has sent its measurements, which it does after its flush.
    StageReported,
    /// The client sends nothing more.
    Close,
    /// The client wants nothing more.
    Cancel,
    /// Something broke.
    Failed(Fault),
    /// Time has passed: see [`Session::deadline`].
    Tick,
}

/// What is to be done about it, in this order.
#[derive(Debug, PartialEq)]
pub enum Action<F> {
    /// The pipeline stands: input may be sent.
    Open,
    /// The client gets a result.
    Deliver {
        /// The input's sequence.
        sequence: u64,
        /// At most one frame a sink.
        outputs: Vec<(usize, F)>,
        /// When the input came.
        arrived: Instant,
        /// Whether this is the last for this sequence that is not of a flush.
        complete: bool,
    },
    /// The flush mark goes to every entry, behind the frames.
    Flush,
    /// It is over: the stages are told, everything is released. Nothing follows.
    End(End),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// All input was worked off.
    Drained,
    /// The client wanted no more.
    Cancelled,
    /// It broke.
    Failed(Fault),
}

/// How long a session may wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For its stages to stand.
    pub open: Duration,
    /// For the results of one input.
    pub result: Duration,
    /// For input from the client.
    pub idle: Duration,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Phase {
    /// Stages set up their nodes.
    Opening { ready: usize },
    /// Input comes.
    Running,
    /// Input has ended, results have not.
    Draining { sinks: usize, stages: usize },
    /// Over.
    Ended,
}

#[derive(Debug)]
struct Entry<F> {
    id: String,
    previous: Option<u64>,
    last_arrival: Option<Instant>,
    sinks: usize,
    pending: VecDeque<Pending<F>>,
}

/// An input that is not answered in full.
#[derive(Debug)]
struct Pending<F> {
    sequence: u64,
    arrived: Instant,
    /// Sinks that may still send something for it.
    waiting: usize,
    answered: bool,
    /// Frames that came while an earlier sequence was unanswered.
    early: Vec<(usize, F)>,
    /// The last frame of each sink, given to the client together.
    merged: Vec<(usize, F)>,
}

#[derive(Debug)]
struct Sink {
    node: NodeIndex,
    entry: usize,
    drained: bool,
    finished: Option<u64>,
}

#[derive(Debug)]
struct Clocks {
    patience: Patience,
    opened: Instant,
    last_input: Instant,
    draining_since: Instant,
}

// === impl Session ===

impl<F> Session<F> {
    /// A session of `graph` over `stages` workers, at `now`.
    #[must_use]
    pub fn new(graph: &Graph, stages: usize, patience: Patience, now: Instant) -> Self {
        let entry_nodes: Vec<NodeIndex> = graph.entries().collect();
        let sinks: Vec<Sink> = graph
            .sinks()
            .map(|node| {
                let from = graph.entry_of(node);
                let entry = entry_nodes.iter().position(|entry| *entry == from).unwrap_or_default();
                Sink { node, entry, drained: false, finished: None }
            })
            .collect();
        let entries = entry_nodes.iter().enumerate().map(|(place, node)| Entry {
            id: graph.node(*node).id.clone(),
            previous: None,
            last_arrival: None,
            sinks: sinks.iter().filter(|sink| sink.entry == place).count(),
            pending: VecDeque::new(),
        });
        Self {
            phase: Phase::Opening { ready: 0 },
            entries: entries.collect(),
            sinks,
            stages,
            clocks: Clocks { patience, opened: now, last_input: now, draining_since: now },
        }
    }

    /// Ids of the nodes that take input.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.id.as_str())
    }

    /// The nodes whose output the client gets.
    pub fn sinks(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.sinks.iter().map(|sink| sink.node)
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether input is taken.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Inputs that are not answered in full.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.entries.iter().map(|entry| entry.pending.len()).sum()
    }

    /// When to send [`Event::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.overdue().map(|(at, _)| at)
    }

    /// Moves all deadlines by the time that the client, not the pipeline, kept the session waiting.
    pub fn excuse(&mut self, waited: Duration) {
        self.clocks.last_input += waited;
        self.clocks.draining_since += waited;
        for pending in self.entries.iter_mut().flat_map(|entry| &mut entry.pending) {
            pending.arrived += waited;
        }
    }

    /// What an event leads to. After the end: nothing.
    pub fn on(&mut self, now: Instant, event: Event<F>) -> Vec<Action<F>> {
        if self.is_over() {
            return Vec::new();
        }
        let outcome = match event {
            Event::StageReady => Ok(self.stage_ready(now)),
            Event::Input { entry, sequence } => self.input(now, entry, sequence).map(|()| Vec::new()),
            Event::Output { sink, sequence, frame, last } => self.output(sink, sequence, frame, last),
            Event::SinkDrained { sink } => self.sink_drained(sink),
            Event::StageReported => Ok(self.stage_reported()),
            Event::Close => Ok(self.close(now)),
            Event::Cancel => Ok(self.end(End::Cancelled)),
            Event::Failed(fault) => Err(fault),
            Event::Tick => self.tick(now),
        };
        outcome.unwrap_or_else(|fault| self.end(End::Failed(fault)))
    }

    // Opening => (Opening | Running)
    fn stage_ready(&mut self, now: Instant) -> Vec<Action<F>> {
        let Phase::Opening { ready } = self.phase else { return Vec::new() };
        if ready + 1 < self.stages {
            self.phase = Phase::Opening { ready: ready + 1 };
            return Vec::new();
        }
        self.phase = Phase::Running;
        self.clocks.last_input = now;
        vec![Action::Open]
    }

    fn input(&mut self, now: Instant, entry: usize, sequence: u64) -> Result<(), Fault> {
        if matches!(self.phase, Phase::Draining { .. }) {
            return Err(StreamFault::Closed.into());
        }
        let Some(entry) = self.entries.get_mut(entry) else {
            return Err(lie(format!("an input for entry {entry} of {}", self.entries.len())));
        };
        if let Some(previous) = entry.previous
            && previous.checked_add(1) != Some(sequence)
        {
            return Err(StreamFault::InvalidSequence {
                node: entry.id.clone(),
                received: sequence,
                previous,
                expected: previous.saturating_add(1),
            }
            .into());
        }
        entry.previous = Some(sequence);
        entry.last_arrival = Some(now);
        entry.pending.push_back(Pending {
            sequence,
            arrived: now,
            waiting: entry.sinks,
            answered: false,
            early: Vec::new(),
            merged: Vec::new(),
        });
        self.clocks.last_input = now;
        Ok(())
    }

    fn output(
        &mut self,
        sink_place: usize,
        sequence: u64,
        frame: Option<F>,
        last: bool,
    ) -> Result<Vec<Action<F>>, Fault> {
        let Some(sink) = self.sinks.get_mut(sink_place) else {
            return Err(lie(format!("an output of sink {sink_place}, which does not exist")));
        };
        if sink.drained {
            return Err(lie(format!("an output of sink {sink_place} after its flush")));
        }
        let entry = &mut self.entries[sink.entry];
        let repeated = sink.finished.is_some_and(|finished| sequence <= finished);
        if last {
            if repeated {
                return Err(lie(format!("sequence {sequence} finished twice at sink {sink_place}")));
            }
            sink.finished = Some(sequence);
        }
        let draining = matches!(self.phase, Phase::Draining { .. });
        let of_flush = draining && !last && sequence == entry.previous.unwrap_or(0);
        if repeated && !of_flush {
            return Err(lie(format!(
                "an output for sequence {sequence}, which sink {sink_place} had finished"
            )));
        }
        match entry.pending.iter().position(|pending| pending.sequence == sequence) {
            Some(place) => {
                entry.pending[place].take(sink_place, frame, last);
                Ok(entry.deliver())
            }
            None if of_flush => {
                let arrived = entry.last_arrival.unwrap_or(self.clocks.opened);
                let outputs: Vec<_> = frame.into_iter().map(|frame| (sink_place, frame)).collect();
                Ok(vec![Action::Deliver { sequence, outputs, arrived, complete: false }])
            }
            None => Err(lie(format!("an output for sequence {sequence}, which nobody sent"))),
        }
    }

    // Draining => (Draining | Ended)
    fn sink_drained(&mut self, place: usize) -> Result<Vec<Action<F>>, Fault> {
        let Phase::Draining { sinks, stages } = self.phase else {
            return Err(lie("a flush that nobody asked for".to_owned()));
        };
        match self.sinks.get_mut(place) {
            Some(sink) if !sink.drained => sink.drained = true,
            Some(_) | None => return Err(lie(format!("a second flush of sink {place}"))),
        }
        let sinks = sinks + 1;
        if sinks == self.sinks.len() && self.pending() > 0 {
            return Err(lie(format!("a flush that left {} inputs unanswered", self.pending())));
        }
        self.phase = Phase::Draining { sinks, stages };
        Ok(self.drained())
    }

    // (Running | Draining) => (Draining | Ended)
    fn stage_reported(&mut self) -> Vec<Action<F>> {
        let Phase::Draining { sinks, stages } = self.phase else { return Vec::new() };
        self.phase = Phase::Draining { sinks, stages: stages + 1 };
        self.drained()
    }

    fn drained(&mut self) -> Vec<Action<F>> {
        let over = Phase::Draining { sinks: self.sinks.len(), stages: self.stages };
        if self.phase == over { self.end(End::Drained) } else { Vec::new() }
    }

    // Opening => Ended, Running => Draining
    fn close(&mut self, now: Instant) -> Vec<Action<F>> {
        match self.phase {
            Phase::Opening { .. } => self.end(End::Cancelled),
            Phase::Running => {
                self.phase = Phase::Draining { sinks: 0, stages: 0 };
                self.clocks.draining_since = now;
                vec![Action::Flush]
            }
            Phase::Draining { .. } | Phase::Ended => Vec::new(),
        }
    }

    // any => Ended
    fn end(&mut self, end: End) -> Vec<Action<F>> {
        self.phase = Phase::Ended;
        self.entries.iter_mut().for_each(|entry| entry.pending.clear());
        vec![Action::End(end)]
    }

    fn tick(&self, now: Instant) -> Result<Vec<Action<F>>, Fault> {
        match self.overdue() {
            Some((at, fault)) if at <= now => Err(fault),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// The nearest deadline, and what it means to miss it.
    fn overdue(&self) -> Option<(Instant, Fault)> {
        let Patience { open, result, idle } = self.clocks.patience;
        let late =
            |limit: Duration, waiting_for: String| Fault::Deadline { limit_ms: ms(limit), waiting_for };
        let oldest =
            self.entries.iter().filter_map(|entry| entry.pending.front().map(|first| (entry, first)));
        let oldest = oldest.min_by_key(|(_, first)| first.arrived);
        match (self.phase, oldest) {
            (Phase::Ended, _) => None,
            (Phase::Opening { ready }, _) => {
                let waiting_for =
                    format!("{} of {} workers to set up their nodes", self.stages - ready, self.stages);
                Some((self.clocks.opened + open, late(open, waiting_for)))
            }
            (Phase::Running | Phase::Draining { .. }, Some((entry, first))) => {
                let waiting_for =
                    format!("the results of sequence {} of node '{}'", first.sequence, entry.id);
                Some((first.arrived + result, late(result, waiting_for)))
            }
            (Phase::Running, None) => {
                Some((self.clocks.last_input + idle, StreamFault::Idle { idle_ms: ms(idle) }.into()))
            }
            (Phase::Draining { .. }, None) => {
                Some((self.clocks.draining_since + result, late(result, "the flush".to_owned())))
            }
        }
    }
}

// === impl Entry ===

impl<F> Entry<F> {
    /// Gives what can be given without overtaking an earlier sequence.
    fn deliver(&mut self) -> Vec<Action<F>> {
        let mut actions = Vec::new();
        while let Some(first) = self.pending.front_mut() {
            actions.extend(first.give_early());
            if first.waiting > 0 {
                break;
            }
            actions.extend(first.give_merged());
            self.pending.pop_front();
        }
        actions
    }
}

// === impl Pending ===

impl<F> Pending<F> {
    fn take(&mut self, sink: usize, frame: Option<F>, last: bool) {
        if last {
            self.waiting = self.waiting.saturating_sub(1);
            self.merged.extend(frame.map(|frame| (sink, frame)));
        } else {
            self.early.extend(frame.map(|frame| (sink, frame)));
        }
    }

    fn give_early(&mut self) -> impl Iterator<Item = Action<F>> + use<'_, F> {
        let (sequence, arrived) = (self.sequence, self.arrived);
        self.answered |= !self.early.is_empty();
        self.early.drain(..).map(move |output| Action::Deliver {
            sequence,
            outputs: vec![output],
            arrived,
            complete: false,
        })
    }

    fn give_merged(&mut self) -> Option<Action<F>> {
        if self.merged.is_empty() && self.answered {
            return None;
        }
        let outputs = std::mem::take(&mut self.merged);
        Some(Action::Deliver { sequence: self.sequence, outputs, arrived: self.arrived, complete: true })
    }
}

/// A worker said what cannot be.
fn lie(problem: String) -> Fault {
    Fault::Internal { place: "a worker's answers".to_owned(), problem }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::manifest::{Connection, Manifest, NodeManifest, VERSION};

    const PATIENCE: Patience = Patience {
        open: Duration::from_secs(1),
        result: Duration::from_secs(5),
        idle: Duration::from_secs(60),
    };

    /// `in` feeds `x` and `y`: one entry, two sinks.
    fn fan_out() -> Graph {
        let node = |id: &str| NodeManifest {
            id: id.to_owned(),
            node_type: "PassThrough".to_owned(),
            ..NodeManifest::default()
        };
        let edge = |to: &str| Connection { from: "in".to_owned(), to: to.to_owned() };
        let manifest = Manifest {
            version: VERSION.to_owned(),
            nodes: ["in", "x", "y"].map(node).to_vec(),
            connections: ["x", "y"].map(edge).to_vec(),
            ..Manifest::default()
        };
        Graph::check(&manifest, &Limits::default()).unwrap()
    }

    fn open(stages: usize) -> (Session<&'static str>, Instant) {
        let now = Instant::now();
        let mut session = Session::new(&fan_out(), stages, PATIENCE, now);
        let actions: Vec<_> = (0..stages).flat_map(|_| session.on(now, Event::StageReady)).collect();
        assert_eq!(actions, [Action::Open]);
        (session, now)
    }

    fn input(sequence: u64) -> Event<&'static str> {
        Event::Input { entry: 0, sequence }
    }

    fn output(sink: usize, sequence: u64, frame: Option<&'static str>, last: bool) -> Event<&'static str> {
        Event::Output { sink, sequence, frame, last }
    }

    fn given(actions: Vec<Action<&'static str>>) -> Vec<(u64, Vec<&'static str>)> {
        actions
            .into_iter()
            .map(|action| match action {
                Action::Deliver { sequence, outputs, .. } => {
                    (sequence, outputs.into_iter().map(|(_, frame)| frame).collect())
                }
                other @ (Action::Open | Action::Flush | Action::End(_)) => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn last_outputs_of_all_sinks_come_together_and_in_order() {
        let (mut session, now) = open(2);
        assert!(session.on(now, input(7)).is_empty());
        assert!(session.on(now, input(8)).is_empty());
        assert!(session.on(now, output(0, 7, Some("x7"), true)).is_empty());
        assert!(session.on(now, output(0, 8, Some("x8 early"), false)).is_empty());
        assert!(session.on(now, output(0, 8, None, true)).is_empty());
        assert_eq!(
            given(session.on(now, output(1, 7, Some("y7"), true))),
            [(7, vec!["x7", "y7"]), (8, vec!["x8 early"])]
        );
        assert!(given(session.on(now, output(1, 8, None, true))).is_empty());
        assert_eq!(session.pending(), 0);
    }

    #[test]
    fn an_input_of_which_nothing_came_is_answered_empty() {
        let (mut session, now) = open(1);
        session.on(now, input(0));
        session.on(now, output(0, 0, None, true));
        assert_eq!(given(session.on(now, output(1, 0, None, true))), [(0, vec![])]);
    }

    #[test]
    fn a_gap_or_repeat_ends_the_session() {
        for wrong in [3, 5, 0] {
            let (mut session, now) = open(1);
            session.on(now, input(3));
            let actions = session.on(now, input(wrong));
            let expected = StreamFault::InvalidSequence {
                node: "in".to_owned(),
                received: wrong,
                previous: 3,
                expected: 4,
            };
            assert_eq!(actions, [Action::End(End::Failed(expected.into()))]);
            assert!(session.on(now, input(4)).is_empty(), "nothing follows the end");
        }
    }

    #[test]
    fn a_close_drains_and_a_flush_carries_the_last_sequence() {
        let (mut session, now) = open(1);
        session.on(now, input(1));
        assert_eq!(session.on(now, Event::Close), [Action::Flush]);
        session.on(now, output(0, 1, Some("x"), true));
        assert_eq!(given(session.on(now, output(1, 1, Some("y"), true))), [(1, vec!["x", "y"])]);
        assert_eq!(given(session.on(now, output(0, 1, Some("tail"), false))), [(1, vec!["tail"])]);
        assert!(session.on(now, Event::SinkDrained { sink: 0 }).is_empty());
        assert!(session.on(now, Event::SinkDrained { sink: 1 }).is_empty());
        assert_eq!(session.on(now, Event::StageReported), [Action::End(End::Drained)]);
    }

    #[test]
    fn a_worker_that_lies_ends_its_session_and_nothing_else() {
        let lies = [
            output(5, 1, None, true),
            output(0, 2, Some("never sent"), true),
            Event::SinkDrained { sink: 0 },
        ];
        for lie in lies {
            let (mut session, now) = open(1);
            session.on(now, input(1));
            let actions = session.on(now, lie);
            assert!(
                matches!(&actions[..], [Action::End(End::Failed(Fault::Internal { .. }))]),
                "{actions:?}"
            );
        }
    }

    #[test]
    fn every_wait_has_a_deadline_that_says_for_what() {
        let now = Instant::now();
        let mut session: Session<()> = Session::new(&fan_out(), 1, PATIENCE, now);
        assert_eq!(session.deadline(), Some(now + PATIENCE.open));
        session.on(now, Event::StageReady);
        assert_eq!(session.deadline(), Some(now + PATIENCE.idle));
        session.on(now, Event::Input { entry: 0, sequence: 0 });
        assert_eq!(session.deadline(), Some(now + PATIENCE.result));
        session.excuse(Duration::from_secs(1));
        assert!(session.on(now + PATIENCE.result, Event::Tick).is_empty(), "the client was slow, not we");
        let actions = session.on(now + PATIENCE.result + Duration::from_secs(1), Event::Tick);
        let Some(Action::End(End::Failed(fault))) = actions.first() else { panic!("{actions:?}") };
        assert!(fault.to_string().contains("the results of sequence 0 of node 'in'"), "{fault}");
    }
}
