//! A session's life as a state machine: what is answered, in which order, and when it is over. No I/O, no clock.
//!
//! Every accepted input sequence is answered by one or more deliveries, in the order of sequences; by one without
//! outputs if nothing came of it. What a flush yields carries the last sequence. Nothing follows the end.
//!
//! Workers may die under it and be replaced: then what is not answered goes through the new ones again, and what of it had
//! been given already is not given twice, which is right where nodes give the same again. Stages that do not depend on the
//! dead may stay as they are, and their sinks go on where they were.
//!
//! Entries whose data meets at a sink, directly or by way of others, are a group: their inputs of one sequence are
//! answered together, when all sinks behind any of them are through with it.

mod group;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::fault::{Fault, StreamFault};
use crate::graph::NodeIndex;

use self::group::{Group, Pending};
pub use shape::Shape;

/// One client's run of one pipeline, seen from the gateway. `F` is whatever stands for a frame.
#[derive(Debug)]
pub struct Session<F> {
    phase: Phase,
    entries: Vec<Entry>,
    sinks: Vec<Sink>,
    /// By the numbers that entries and sinks have of them.
    groups: Vec<Group<F>>,
    stages: usize,
    /// Stages that are to stand before input goes in, and those of them that do, while not all do.
    awaited: usize,
    resuming: Option<usize>,
    clocks: Clocks,
    /// A node failed, and earlier inputs are not answered yet.
    failing: Option<Failing>,
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
    /// A node has said that it is at work.
    Working {
        /// When.
        at: Instant,
    },
    /// A stage has sent its measurements, which it does after its flush.
    StageReported,
    /// Stages are gone, and others are to take their place: none of the old ones says anything more.
    Resuming {
        /// The sinks of stages that stay, as places in [`Session::sinks`].
        kept: BTreeSet<usize>,
        /// How many of the stages that stay have sent their measurements.
        reported: usize,
    },
    /// The new stages are known, and are setting up their nodes.
    Placed {
        /// How many there are, with those that stayed.
        stages: usize,
        /// Of how many of them [`Event::StageReady`] is to come.
        awaited: usize,
    },
    /// An input is given up: a mere mark goes into the pipeline in its place.
    GivenUp {
        /// Place in [`Session::entries`].
        entry: usize,
        /// The client's sequence number.
        sequence: u64,
    },
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
    /// What a new stage gave was given before: its credit goes back.
    Repeated {
        /// Place in [`Session::sinks`].
        sink: usize,
        /// What it gave.
        frame: F,
    },
    /// The new stages stand: all input that is not answered goes to them, and then the flush mark if that is wanted.
    Resend {
        /// Whether it is.
        flush: bool,
    },
    /// The client is told that its input was dropped, or given up.
    TellDropped {
        /// Place in [`Session::entries`].
        entry: usize,
        /// The input's sequence.
        sequence: u64,
        /// When it was to go into the pipeline.
        arrived: Instant,
    },
    /// The inputs of a sequence are answered in full.
    Answered {
        /// Their sequence.
        sequence: u64,
        /// The entries that had one, as places in [`Session::entries`].
        entries: Vec<usize>,
        /// The entries whose input was dropped or given up.
        missed: Vec<usize>,
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
    /// For the results of one input, or for the next sign that it is worked on.
    pub result: Duration,
    /// For the results of one input, whatever signs there are.
    pub longest: Duration,
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

#[derive(Debug)]
struct Sink {
    node: NodeIndex,
    group: usize,
    /// The entries before it.
    entries: BTreeSet<usize>,
    drained: bool,
    /// The last sequence that it is through with.
    finished: Option<u64>,
    /// The same of all sets of stages together: what comes of it once more is known.
    known: Option<u64>,
    /// Frames that came of the flush, and how many of them are still to come again.
    flushed: usize,
    flushed_again: usize,
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
    /// When a node last said that it is at work.
    worked: Option<Instant>,
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
            Sink {
                node,
                group,
                entries,
                drained: false,
                finished: None,
                known: None,
                flushed: 0,
                flushed_again: 0,
            }
        });
        Self {
            phase: Phase::Opening { ready: 0 },
            sinks: sinks.collect(),
            groups: entries.iter().map(|_| Group::default()).collect(),
            entries,
            stages,
            awaited: stages,
            resuming: None,
            clocks: Clocks { patience, opened: now, last_input: now, draining_since: now, worked: None },
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
        self.groups.iter().flat_map(|group| &group.0).filter(|pending| !pending.inputs.is_empty()).count()
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

    /// Its client has said something that waits to be taken: as long as it waits, the client is not idle.
    pub fn hears(&mut self, now: Instant) {
        self.clocks.last_input = self.clocks.last_input.max(now);
    }

    /// The other entries whose inputs may meet those of this one.
    pub fn meeting(&self, entry: usize) -> impl Iterator<Item = usize> {
        let group = self.entries.get(entry).map(|entry| entry.group);
        let is_other = move |(place, other): &(usize, &Entry)| *place != entry && Some(other.group) == group;
        self.entries.iter().enumerate().filter(is_other).map(|(place, _)| place)
    }

    /// Those of them that have not had an input of a sequence.
    pub fn awaited_with(&self, entry: usize, sequence: u64) -> impl Iterator<Item = usize> {
        let is_awaited = move |previous: Option<u64>| previous.is_none_or(|previous| previous < sequence);
        self.meeting(entry).filter(move |place| is_awaited(self.entries[*place].previous))
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
                self.output(now, sink, sequence, frame, last).map(|mut actions| {
                    actions.extend(self.settle());
                    actions
                })
            }
            Event::SinkDrained { sink } => self.sink_drained(sink),
            Event::Working { at } => {
                self.clocks.worked = self.clocks.worked.max(Some(at));
                Ok(Vec::new())
            }
            Event::StageReported => Ok(self.stage_reported()),
            Event::Resuming { kept, reported } => self.resume(&kept, reported).map(|()| Vec::new()),
            Event::Placed { stages, awaited } => {
                (self.stages, self.awaited) = (stages, awaited);
                Ok(Vec::new())
            }
            Event::GivenUp { entry, sequence } => Ok(self.give_up(entry, sequence)),
            Event::Close => Ok(self.close(now)),
            Event::Cancel => Ok(self.end(End::Cancelled)),
            Event::Failed(fault) => self.failed(now, fault),
            Event::Tick => self.tick(now),
        };
        outcome.unwrap_or_else(|fault| self.end(End::Failed(fault)))
    }

    // Opening => (Opening | Running)
    fn stage_ready(&mut self, now: Instant) -> Vec<Action<F>> {
        if let Some(ready) = self.resuming {
            self.resuming = Some(ready + 1).filter(|ready| *ready < self.awaited);
            let flush = matches!(self.phase, Phase::Draining { .. });
            return if self.resuming.is_none() { vec![Action::Resend { flush }] } else { Vec::new() };
        }
        let Phase::Opening { ready } = self.phase else { return Vec::new() };
        if ready + 1 < self.awaited {
            self.phase = Phase::Opening { ready: ready + 1 };
            return Vec::new();
        }
        self.phase = Phase::Running;
        self.clocks.last_input = now;
        vec![Action::Open]
    }

    fn input(&mut self, now: Instant, place: usize, sequence: u64) -> Result<(), Fault> {
        self.count(now, place, sequence)?.inputs.push(place);
        Ok(())
    }

    fn dropped(&mut self, now: Instant, place: usize, sequence: u64) -> Result<Vec<Action<F>>, Fault> {
        self.count(now, place, sequence)?.miss(place);
        let group = self.entries[place].group;
        Ok(self.groups[group].deliver())
    }

    // (Opening | Running | Draining) => the same, from its beginning but for what is kept
    fn resume(&mut self, kept: &BTreeSet<usize>, reported: usize) -> Result<(), Fault> {
        if let Some(failing) = self.failing.take() {
            return Err(failing.fault);
        }
        match &mut self.phase {
            Phase::Opening { ready } => *ready = 0,
            Phase::Draining { sinks, stages } => {
                *sinks = kept.iter().filter(|sink| self.sinks[**sink].drained).count();
                *stages = reported;
                self.resuming = Some(0);
            }
            Phase::Running | Phase::Ended => self.resuming = Some(0),
        }
        let gone = |sink: &usize| !kept.contains(sink);
        for (_, sink) in self.sinks.iter_mut().enumerate().filter(|(place, _)| gone(place)) {
            sink.drained = false;
            sink.flushed_again = sink.flushed;
            if let Some(first) = self.groups[sink.group].0.front() {
                sink.finished = first.sequence.checked_sub(1);
            }
        }
        for pending in self.groups.iter_mut().flat_map(|group| &mut group.0) {
            let taken = pending.taken.iter().filter(|(sink, _)| gone(sink));
            pending.again.extend(taken.map(|(sink, frames)| (*sink, *frames)));
        }
        Ok(())
    }

    fn give_up(&mut self, entry: usize, sequence: u64) -> Vec<Action<F>> {
        let Some(group) = self.entries.get(entry).map(|entry| entry.group) else { return Vec::new() };
        let group = &mut self.groups[group];
        if let Some(pending) = group.0.iter_mut().find(|pending| pending.sequence == sequence) {
            pending.inputs.retain(|other| *other != entry);
            pending.miss(entry);
        }
        group.deliver()
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
        now: Instant,
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
        let known = !repeated && sink.known.is_some_and(|known| sequence <= known);
        sink.known = sink.known.max(sink.finished);
        let before = || sink.entries.iter().map(|entry| &self.entries[*entry]);
        let final_sequence = before().filter_map(|entry| entry.previous).max();
        let draining = matches!(self.phase, Phase::Draining { .. });
        let of_flush = draining && !last && sequence == final_sequence.unwrap_or(0);
        if repeated && !of_flush {
            return Err(lie(format!("an output for sequence {sequence}, which sink {place} had finished")));
        }
        if known {
            return Ok(frame.map(|frame| Action::Repeated { sink: place, frame }).into_iter().collect());
        }
        let group = &mut self.groups[sink.group];
        match group.0.iter().position(|pending| pending.sequence == sequence) {
            Some(pending) => {
                group.0[pending].heard = Some(now);
                let repeated = group.0[pending].take(place, frame, last);
                let mut actions = group.deliver();
                actions.extend(repeated.map(|frame| Action::Repeated { sink: place, frame }));
                Ok(actions)
            }
            None if of_flush && sink.flushed_again > 0 => {
                sink.flushed_again -= 1;
                Ok(frame.map(|frame| Action::Repeated { sink: place, frame }).into_iter().collect())
            }
            None if of_flush => {
                sink.flushed += 1;
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
        let Patience { open, idle, .. } = self.clocks.patience;
        let late =
            |limit: Duration, waiting_for: String| Fault::Deadline { limit_ms: ms(limit), waiting_for };
        let oldest = self.groups.iter().filter_map(|group| group.0.front());
        let oldest = oldest.min_by_key(|first| first.arrived);
        match (self.phase, oldest) {
            (Phase::Ended, _) => None,
            (Phase::Opening { ready }, _) => {
                let waiting_for =
                    format!("{} of {} workers to set up their nodes", self.awaited - ready, self.awaited);
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
                let (at, limit) = self.clocks.due(first.arrived, first.heard);
                Some((at, late(limit, waiting_for)))
            }
            (Phase::Running, None) => {
                Some((self.clocks.last_input + idle, StreamFault::Idle { idle_ms: ms(idle) }.into()))
            }
            (Phase::Draining { .. }, None) => {
                let (at, limit) = self.clocks.due(self.clocks.draining_since, None);
                Some((at, late(limit, "the flush".to_owned())))
            }
        }
    }
}

// === impl Clocks ===

impl Clocks {
    /// When what began then has to be done, and how long that is after the last sign of work, or after it began.
    fn due(&self, began: Instant, heard: Option<Instant>) -> (Instant, Duration) {
        let Patience { result, longest, .. } = self.patience;
        let since = [heard, self.worked].into_iter().flatten().fold(began, Instant::max);
        if since + result < began + longest { (since + result, result) } else { (began + longest, longest) }
    }
}

/// A worker said what cannot be.
fn lie(problem: String) -> Fault {
    Fault::Internal { place: "a worker's answers".to_owned(), problem }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
