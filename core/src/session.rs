//! A session's life as a state machine: what is answered, in which order, and when it is over. No I/O, no clock.
//!
//! Every accepted input sequence is answered by one or more deliveries, in the order of sequences; by one without
//! outputs if nothing came of it. What a flush yields carries the last sequence. Nothing follows the end.
//!
//! Entries whose data meets at a sink, directly or by way of others, are a group: their inputs of one sequence are
//! answered together, when all sinks behind any of them are through with it.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::fault::{Fault, StreamFault};
use crate::graph::{Graph, NodeIndex};

/// One client's run of one pipeline, seen from the gateway. `F` is whatever stands for a frame.
#[derive(Debug)]
pub struct Session<F> {
    phase: Phase,
    entries: Vec<Entry>,
    sinks: Vec<Sink>,
    /// By the numbers that entries and sinks have of them.
    groups: Vec<Group<F>>,
    stages: usize,
    clocks: Clocks,
    /// A node failed, and earlier inputs are not answered yet.
    failing: Option<Failing>,
}

/// Where data comes in and goes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The nodes that the client feeds, by id.
    entries: Vec<String>,
    /// The nodes whose output the client gets, and the entries from which that comes.
    sinks: Vec<(NodeIndex, BTreeSet<usize>)>,
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
    /// The client sent an input for an entry, which was dropped on its way: a mere mark goes into the pipeline.
    Dropped {
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
    },
    /// The client is told that its input was dropped.
    TellDropped {
        /// Place in [`Session::entries`].
        entry: usize,
        /// The input's sequence.
        sequence: u64,
        /// When it was to go into the pipeline.
        arrived: Instant,
    },
    /// These inputs are answered in full.
    Answered {
        /// Their sequence.
        sequence: u64,
        /// How many entries had one.
        inputs: usize,
        /// When the latest came.
        arrived: Instant,
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
struct Entry {
    id: String,
    group: usize,
    /// The sinks behind it.
    sinks: BTreeSet<usize>,
    previous: Option<u64>,
    last_arrival: Option<Instant>,
}

/// The inputs of some entries that are not answered in full, by sequence.
#[derive(Debug)]
struct Group<F>(VecDeque<Pending<F>>);

/// Inputs of one sequence.
#[derive(Debug)]
struct Pending<F> {
    sequence: u64,
    /// Without those that were dropped.
    inputs: usize,
    /// Entries whose input was dropped, which the client has not been told.
    dropped: Vec<usize>,
    /// The latest of them.
    arrived: Instant,
    /// The entry of the latest.
    entry: usize,
    /// Sinks that may still send something for it.
    waiting: BTreeSet<usize>,
    answered: bool,
    /// Frames that came while an earlier sequence was unanswered.
    early: Vec<(usize, F)>,
    /// The last frame of each sink, given to the client together.
    merged: Vec<(usize, F)>,
}

#[derive(Debug)]
struct Sink {
    node: NodeIndex,
    group: usize,
    /// The entries before it.
    entries: BTreeSet<usize>,
    drained: bool,
    finished: Option<u64>,
}

/// What the end will be, behind the answers to what came before it.
#[derive(Debug)]
struct Failing {
    fault: Fault,
    /// The input that the node failed on.
    sequence: u64,
    until: Instant,
}

#[derive(Debug)]
struct Clocks {
    patience: Patience,
    opened: Instant,
    last_input: Instant,
    draining_since: Instant,
}

/// How long the answers to earlier inputs may take when a node has failed. By then they have left that node, and only
/// have to be worked off behind it.
const SETTLING: Duration = Duration::from_secs(1);

// === impl Session ===

impl<F> Session<F> {
    /// A session of this shape over `stages` workers, at `now`.
    #[must_use]
    pub fn new(shape: Shape, stages: usize, patience: Patience, now: Instant) -> Self {
        let groups = shape.groups();
        let entries = shape.entries.iter().enumerate().map(|(place, id)| Entry {
            id: id.clone(),
            group: groups[place],
            sinks: shape.sinks_behind(place),
            previous: None,
            last_arrival: None,
        });
        let entries: Vec<Entry> = entries.collect();
        let sinks = shape.sinks.into_iter().map(|(node, entries)| {
            let group = entries.first().map_or(0, |entry| groups[*entry]);
            Sink { node, group, entries, drained: false, finished: None }
        });
        Self {
            phase: Phase::Opening { ready: 0 },
            sinks: sinks.collect(),
            groups: entries.iter().map(|_| Group(VecDeque::new())).collect(),
            entries,
            stages,
            clocks: Clocks { patience, opened: now, last_input: now, draining_since: now },
            failing: None,
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

    /// Sequences of which some input is not answered in full.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.groups.iter().flat_map(|group| &group.0).filter(|pending| pending.inputs > 0).count()
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
        if let Some(failing) = &mut self.failing {
            failing.until += waited;
        }
        for pending in self.groups.iter_mut().flat_map(|group| &mut group.0) {
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
            Event::Dropped { entry, sequence } => self.dropped(now, entry, sequence),
            Event::Output { sink, sequence, frame, last } => {
                self.output(sink, sequence, frame, last).map(|mut actions| {
                    actions.extend(self.settle());
                    actions
                })
            }
            Event::SinkDrained { sink } => self.sink_drained(sink),
            Event::StageReported => Ok(self.stage_reported()),
            Event::Close => Ok(self.close(now)),
            Event::Cancel => Ok(self.end(End::Cancelled)),
            Event::Failed(fault) => self.failed(now, fault),
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

    fn input(&mut self, now: Instant, place: usize, sequence: u64) -> Result<(), Fault> {
        self.count(now, place, sequence)?.inputs += 1;
        Ok(())
    }

    fn dropped(&mut self, now: Instant, place: usize, sequence: u64) -> Result<Vec<Action<F>>, Fault> {
        self.count(now, place, sequence)?.dropped.push(place);
        let group = self.entries[place].group;
        Ok(self.groups[group].deliver())
    }

    /// Takes the sequence of an input, dropped or not, which has to be the next one.
    fn count(&mut self, now: Instant, place: usize, sequence: u64) -> Result<&mut Pending<F>, Fault> {
        if matches!(self.phase, Phase::Draining { .. }) {
            return Err(StreamFault::Closed.into());
        }
        let count = self.entries.len();
        let Some(entry) = self.entries.get_mut(place) else {
            return Err(lie(format!("an input for entry {place} of {count}")));
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
        self.clocks.last_input = now;
        Ok(self.groups[entry.group].expect(sequence, place, &entry.sinks, now))
    }

    fn output(
        &mut self,
        place: usize,
        sequence: u64,
        frame: Option<F>,
        last: bool,
    ) -> Result<Vec<Action<F>>, Fault> {
        let Some(sink) = self.sinks.get_mut(place) else {
            return Err(lie(format!("an output of sink {place}, which does not exist")));
        };
        if sink.drained {
            return Err(lie(format!("an output of sink {place} after its flush")));
        }
        let repeated = sink.finished.is_some_and(|finished| sequence <= finished);
        if last {
            if repeated {
                return Err(lie(format!("sequence {sequence} finished twice at sink {place}")));
            }
            sink.finished = Some(sequence);
        }
        let before = || sink.entries.iter().map(|entry| &self.entries[*entry]);
        let final_sequence = before().filter_map(|entry| entry.previous).max();
        let draining = matches!(self.phase, Phase::Draining { .. });
        let of_flush = draining && !last && sequence == final_sequence.unwrap_or(0);
        if repeated && !of_flush {
            return Err(lie(format!("an output for sequence {sequence}, which sink {place} had finished")));
        }
        let group = &mut self.groups[sink.group];
        match group.0.iter().position(|pending| pending.sequence == sequence) {
            Some(pending) => {
                group.0[pending].take(place, frame, last);
                Ok(group.deliver())
            }
            None if of_flush => {
                let arrived = before().filter_map(|entry| entry.last_arrival).max();
                let arrived = arrived.unwrap_or(self.clocks.opened);
                let outputs: Vec<_> = frame.into_iter().map(|frame| (place, frame)).collect();
                Ok(vec![Action::Deliver { sequence, outputs, arrived }])
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
        let left: usize = self.groups.iter().map(|group| group.0.len()).sum();
        if sinks == self.sinks.len() && left > 0 {
            return Err(lie(format!("a flush that left {left} inputs unanswered")));
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

    /// A node's fault waits for the answers to earlier inputs, which may come by a longer way than it did.
    fn failed(&mut self, now: Instant, fault: Fault) -> Result<Vec<Action<F>>, Fault> {
        match (self.failing.take(), fault.sequence()) {
            (None, None) => return Err(fault),
            // The first is the cause.
            (Some(earlier), None) => return Err(earlier.fault),
            (Some(earlier), Some(sequence)) if earlier.sequence <= sequence => self.failing = Some(earlier),
            (_, Some(sequence)) => self.failing = Some(Failing { fault, sequence, until: now + SETTLING }),
        }
        Ok(self.settle())
    }

    /// Ends what has failed, once all that came before is answered.
    fn settle(&mut self) -> Vec<Action<F>> {
        let Some(Failing { fault, sequence, .. }) = &self.failing else { return Vec::new() };
        let earlier = |pending: &Pending<F>| pending.sequence < *sequence;
        if self.groups.iter().flat_map(|group| &group.0).any(earlier) {
            return Vec::new();
        }
        let fault = fault.clone();
        self.end(End::Failed(fault))
    }

    // any => Ended
    fn end(&mut self, end: End) -> Vec<Action<F>> {
        self.phase = Phase::Ended;
        self.groups.iter_mut().for_each(|group| group.0.clear());
        vec![Action::End(end)]
    }

    fn tick(&self, now: Instant) -> Result<Vec<Action<F>>, Fault> {
        match self.overdue() {
            Some((at, fault)) if at <= now => Err(fault),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// An entry whose input of this sequence is not there yet, and without which sinks cannot go on.
    fn missing(&self, pending: &Pending<F>) -> Option<&str> {
        let is_behind = |entry: &&Entry| {
            let waited_for = !entry.sinks.is_disjoint(&pending.waiting);
            waited_for && entry.previous.is_none_or(|previous| previous < pending.sequence)
        };
        let running = self.phase == Phase::Running;
        self.entries.iter().filter(|_| running).find(is_behind).map(|entry| entry.id.as_str())
    }

    /// The nearest deadline, and what it means to miss it.
    fn overdue(&self) -> Option<(Instant, Fault)> {
        if let Some(Failing { fault, until, .. }) = &self.failing {
            return Some((*until, fault.clone()));
        }
        let Patience { open, result, idle } = self.clocks.patience;
        let late =
            |limit: Duration, waiting_for: String| Fault::Deadline { limit_ms: ms(limit), waiting_for };
        let oldest = self.groups.iter().filter_map(|group| group.0.front());
        let oldest = oldest.min_by_key(|first| first.arrived);
        match (self.phase, oldest) {
            (Phase::Ended, _) => None,
            (Phase::Opening { ready }, _) => {
                let waiting_for =
                    format!("{} of {} workers to set up their nodes", self.stages - ready, self.stages);
                Some((self.clocks.opened + open, late(open, waiting_for)))
            }
            (Phase::Running | Phase::Draining { .. }, Some(first)) => {
                let (sequence, id) = (first.sequence, &self.entries[first.entry].id);
                if let Some(missing) = self.missing(first) {
                    let waiting_for = format!(
                        "sequence {sequence} of node '{missing}', which is joined with that of node '{id}'"
                    );
                    return Some((first.arrived + idle, late(idle, waiting_for)));
                }
                let waiting_for = format!("the results of sequence {sequence} of node '{id}'");
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

// === impl Shape ===

impl Shape {
    /// The shape of a graph of which the client feeds these nodes.
    #[must_use]
    pub fn of(graph: &Graph, entries: &[NodeIndex]) -> Self {
        let sinks = graph.sinks().map(|sink| {
            let upstream = graph.upstream(sink);
            let before = |place: &usize| upstream.contains(&entries[*place]);
            (sink, (0..entries.len()).filter(before).collect())
        });
        Self {
            entries: entries.iter().map(|entry| graph.node(*entry).id.clone()).collect(),
            sinks: sinks.collect(),
        }
    }

    fn sinks_behind(&self, entry: usize) -> BTreeSet<usize> {
        let behind = |(place, (_, entries)): (usize, &(NodeIndex, BTreeSet<usize>))| {
            entries.contains(&entry).then_some(place)
        };
        self.sinks.iter().enumerate().filter_map(behind).collect()
    }

    /// For each entry the first one of its group.
    fn groups(&self) -> Vec<usize> {
        let mut groups: Vec<usize> = (0..self.entries.len()).collect();
        for (_, entries) in &self.sinks {
            let met: BTreeSet<usize> = entries.iter().map(|entry| groups[*entry]).collect();
            let Some(first) = met.first() else { continue };
            for group in groups.iter_mut().filter(|group| met.contains(group)) {
                *group = *first;
            }
        }
        groups
    }
}

// === impl Group ===

impl<F> Group<F> {
    /// What is to be answered of a sequence, with one more entry that has had it.
    fn expect(
        &mut self,
        sequence: u64,
        entry: usize,
        sinks: &BTreeSet<usize>,
        now: Instant,
    ) -> &mut Pending<F> {
        let place = self.0.partition_point(|pending| pending.sequence < sequence);
        if self.0.get(place).is_none_or(|pending| pending.sequence != sequence) {
            self.0.insert(place, Pending::new(sequence, entry, now));
        }
        let pending = &mut self.0[place];
        pending.waiting.extend(sinks);
        (pending.entry, pending.arrived) = (entry, now);
        pending
    }

    /// Gives what can be given without overtaking an earlier sequence.
    fn deliver(&mut self) -> Vec<Action<F>> {
        let mut actions = Vec::new();
        while let Some(first) = self.0.front_mut() {
            actions.extend(first.tell_dropped());
            actions.extend(first.give_early());
            if !first.waiting.is_empty() {
                break;
            }
            actions.extend(first.give_merged());
            let Pending { sequence, inputs, arrived, .. } = *first;
            if inputs > 0 {
                actions.push(Action::Answered { sequence, inputs, arrived });
            }
            self.0.pop_front();
        }
        actions
    }
}

// === impl Pending ===

impl<F> Pending<F> {
    fn new(sequence: u64, entry: usize, arrived: Instant) -> Self {
        Self {
            sequence,
            inputs: 0,
            dropped: Vec::new(),
            arrived,
            entry,
            waiting: BTreeSet::new(),
            answered: false,
            early: Vec::new(),
            merged: Vec::new(),
        }
    }

    fn take(&mut self, sink: usize, frame: Option<F>, last: bool) {
        if last {
            self.waiting.remove(&sink);
            self.merged.extend(frame.map(|frame| (sink, frame)));
        } else {
            self.early.extend(frame.map(|frame| (sink, frame)));
        }
    }

    fn tell_dropped(&mut self) -> impl Iterator<Item = Action<F>> + use<'_, F> {
        let (sequence, arrived) = (self.sequence, self.arrived);
        self.dropped.drain(..).map(move |entry| Action::TellDropped { entry, sequence, arrived })
    }

    fn give_early(&mut self) -> impl Iterator<Item = Action<F>> + use<'_, F> {
        let (sequence, arrived) = (self.sequence, self.arrived);
        self.answered |= !self.early.is_empty();
        self.early.drain(..).map(move |output| Action::Deliver { sequence, outputs: vec![output], arrived })
    }

    fn give_merged(&mut self) -> Option<Action<F>> {
        if self.merged.is_empty() && (self.answered || self.inputs == 0) {
            return None;
        }
        let outputs = std::mem::take(&mut self.merged);
        Some(Action::Deliver { sequence: self.sequence, outputs, arrived: self.arrived })
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
    use crate::fault::{NodeFault, Unavailability};
    use crate::limits::Limits;
    use crate::manifest::{Connection, Manifest, NodeManifest, VERSION};

    const PATIENCE: Patience = Patience {
        open: Duration::from_secs(1),
        result: Duration::from_secs(5),
        idle: Duration::from_secs(60),
    };

    /// `in` feeds `x` and `y`: one entry, two sinks.
    fn fan_out() -> Graph {
        graph(&["in", "x", "y"], &[("in", "x"), ("in", "y")])
    }

    fn graph(ids: &[&str], connections: &[(&str, &str)]) -> Graph {
        let node = |id: &&str| NodeManifest {
            id: (*id).to_owned(),
            node_type: "PassThrough".to_owned(),
            ..NodeManifest::default()
        };
        let edge = |(from, to): &(&str, &str)| Connection { from: (*from).to_owned(), to: (*to).to_owned() };
        let manifest = Manifest {
            version: VERSION.to_owned(),
            nodes: ids.iter().map(node).collect(),
            connections: connections.iter().map(edge).collect(),
            ..Manifest::default()
        };
        Graph::check(&manifest, &Limits::default()).unwrap()
    }

    fn shape(graph: &Graph) -> Shape {
        Shape::of(graph, &graph.entries().collect::<Vec<_>>())
    }

    fn open(stages: usize) -> (Session<&'static str>, Instant) {
        let now = Instant::now();
        let mut session = Session::new(shape(&fan_out()), stages, PATIENCE, now);
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
            .filter_map(|action| match action {
                Action::Deliver { sequence, outputs, .. } => {
                    Some((sequence, outputs.into_iter().map(|(_, frame)| frame).collect()))
                }
                Action::Answered { .. } | Action::TellDropped { .. } => None,
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
    fn a_nodes_fault_waits_for_the_answers_to_earlier_inputs_and_no_longer_than_they_may_take() {
        let fault = |sequence| {
            let words = ["bad", "Bad", "no", ""].map(str::to_owned);
            let [node, node_type, message, backtrace] = words;
            Fault::Node(NodeFault { node, node_type, sequence, message, backtrace })
        };
        let over = |sequence| Action::End(End::Failed(fault(sequence)));
        let (mut session, now) = open(1);
        for sequence in 5..8 {
            session.on(now, input(sequence));
        }
        assert!(session.on(now, Event::Failed(fault(7))).is_empty(), "5 and 6 are on their way");
        assert!(session.on(now, Event::Failed(fault(6))).is_empty(), "another one failed before it");
        assert!(session.on(now, output(0, 5, Some("x5"), true)).is_empty());
        let mut actions = session.on(now, output(1, 5, None, true));
        assert_eq!(actions.pop(), Some(over(6)));
        assert_eq!(given(actions), [(5, vec!["x5"])]);

        let (mut session, now) = open(1);
        session.on(now, input(5));
        session.on(now, input(6));
        assert!(session.on(now, Event::Failed(fault(6))).is_empty());
        assert_eq!(session.deadline(), Some(now + SETTLING));
        assert_eq!(session.on(now + SETTLING, Event::Tick), [over(6)]);

        let (mut session, now) = open(1);
        session.on(now, input(5));
        session.on(now, input(6));
        assert!(session.on(now, Event::Failed(fault(6))).is_empty());
        let gone = Fault::Unavailable { state: Unavailability::ShuttingDown, retry_after_ms: 0 };
        assert_eq!(session.on(now, Event::Failed(gone)), [over(6)]);
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
    fn a_dropped_input_keeps_its_place_among_the_answers() {
        let (mut session, now) = open(1);
        session.on(now, input(0));
        assert!(session.on(now, Event::Dropped { entry: 0, sequence: 1 }).is_empty());
        session.on(now, input(2));
        assert_eq!(session.pending(), 2, "what was dropped is not answered");
        session.on(now, output(0, 0, Some("x0"), true));
        let actions = session.on(now, output(1, 0, None, true));
        let told = Action::TellDropped { entry: 0, sequence: 1, arrived: now };
        assert_eq!(actions.last(), Some(&told), "{actions:?}");
        assert_eq!(given(actions), [(0, vec!["x0"])]);
        session.on(now, output(0, 1, None, true));
        assert!(session.on(now, output(1, 1, None, true)).is_empty(), "it is told once");
        session.on(now, output(0, 2, None, true));
        assert_eq!(given(session.on(now, output(1, 2, Some("y2"), true))), [(2, vec!["y2"])]);
    }

    #[test]
    fn a_gap_before_or_behind_a_dropped_input_ends_the_session() {
        for dropped in [4, 5] {
            let (mut session, now) = open(1);
            session.on(now, input(3));
            session.on(now, Event::Dropped { entry: 0, sequence: dropped });
            let gap = session.is_over() || {
                session.on(now, input(6));
                session.is_over()
            };
            assert!(gap, "a dropped input {dropped}");
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
        let mut session: Session<()> = Session::new(shape(&fan_out()), 1, PATIENCE, now);
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
    /// `a` and `b` meet in `both`; `a` also feeds `own`; `c` has nothing to do with them.
    fn joined() -> (Session<&'static str>, Instant) {
        let now = Instant::now();
        let graph = graph(
            &["a", "b", "c", "both", "own", "other"],
            &[("a", "both"), ("b", "both"), ("a", "own"), ("c", "other")],
        );
        let mut session = Session::new(shape(&graph), 1, PATIENCE, now);
        session.on(now, Event::StageReady);
        (session, now)
    }

    #[test]
    fn inputs_of_one_sequence_that_meet_are_answered_together() {
        let (mut session, now) = joined();
        for entry in [0, 2, 1] {
            assert!(session.on(now, Event::Input { entry, sequence: 4 }).is_empty());
        }
        assert!(session.on(now, output(1, 4, Some("own"), true)).is_empty());
        assert_eq!(given(session.on(now, output(2, 4, Some("other"), true))), [(4, vec!["other"])]);
        let actions = session.on(now, output(0, 4, Some("both"), true));
        assert!(actions.contains(&Action::Answered { sequence: 4, inputs: 2, arrived: now }), "{actions:?}");
        assert_eq!(given(actions), [(4, vec!["own", "both"])]);
        assert_eq!(session.pending(), 0);
    }

    #[test]
    fn what_a_dropped_input_was_to_meet_is_answered_alone() {
        let (mut session, now) = joined();
        session.on(now, Event::Input { entry: 1, sequence: 4 });
        let told = session.on(now, Event::Dropped { entry: 0, sequence: 4 });
        assert_eq!(told, [Action::TellDropped { entry: 0, sequence: 4, arrived: now }]);
        session.on(now, output(1, 4, None, true));
        assert_eq!(given(session.on(now, output(0, 4, None, true))), [(4, vec![])]);
    }

    #[test]
    fn entries_that_meet_may_begin_at_different_sequences() {
        let (mut session, now) = joined();
        session.on(now, Event::Input { entry: 0, sequence: 3 });
        session.on(now, Event::Input { entry: 1, sequence: 2 });
        session.on(now, output(1, 3, None, true));
        assert_eq!(given(session.on(now, output(0, 2, Some("b alone"), true))), [(2, vec!["b alone"])]);
        assert!(session.on(now, Event::Close).contains(&Action::Flush));
        assert_eq!(given(session.on(now, output(0, 3, Some("a alone"), true))), [(3, vec!["a alone"])]);
        assert_eq!(given(session.on(now, output(0, 3, Some("tail"), false))), [(3, vec!["tail"])]);
    }

    #[test]
    fn an_input_that_waits_for_its_counterpart_says_so() {
        let (mut session, now) = joined();
        session.on(now, Event::Input { entry: 0, sequence: 0 });
        assert_eq!(session.deadline(), Some(now + PATIENCE.idle));
        let actions = session.on(now + PATIENCE.idle, Event::Tick);
        let Some(Action::End(End::Failed(fault))) = actions.first() else { panic!("{actions:?}") };
        assert!(
            fault.to_string().contains("sequence 0 of node 'b', which is joined with that of node 'a'"),
            "{fault}"
        );
    }
}
