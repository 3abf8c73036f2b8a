//! Inputs that are answered together, and what has come of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::Action;

/// The inputs of some entries that are not answered in full, by sequence.
#[derive(Debug)]
pub(super) struct Group<F>(pub(super) VecDeque<Pending<F>>);

/// Inputs of one sequence.
#[derive(Debug)]
pub(super) struct Pending<F> {
    pub(super) sequence: u64,
    /// The entries that had one, without those whose was dropped.
    pub(super) inputs: Vec<usize>,
    /// Entries whose input was dropped or given up, which the client has not been told.
    untold: Vec<usize>,
    /// All of those.
    missed: Vec<usize>,
    /// The latest of them.
    pub(super) arrived: Instant,
    /// When something last came of it.
    pub(super) heard: Option<Instant>,
    /// The entry of the latest.
    pub(super) entry: usize,
    /// Sinks that may still send something for it.
    pub(super) waiting: BTreeSet<usize>,
    pub(super) answered: bool,
    /// Frames that came while an earlier sequence was unanswered.
    pub(super) early: Vec<(usize, F)>,
    /// The last frame of each sink, given to the client together.
    pub(super) merged: Vec<(usize, F)>,
    /// By sink: the frames that came of it.
    pub(super) taken: BTreeMap<usize, usize>,
    /// By sink: how many of those are still to come again from new stages.
    pub(super) again: BTreeMap<usize, usize>,
}

// === impl Group ===

impl<F> Default for Group<F> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<F> Group<F> {
    /// What is to be answered of a sequence, with one more entry that has had it.
    pub(super) fn expect(
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
    pub(super) fn deliver(&mut self) -> Vec<Action<F>> {
        let mut actions = Vec::new();
        while let Some(first) = self.0.front_mut() {
            actions.extend(first.tell_dropped());
            actions.extend(first.give_early());
            if !first.waiting.is_empty() {
                break;
            }
            actions.extend(first.give_merged());
            let (sequence, arrived) = (first.sequence, first.arrived);
            let [entries, missed] = [&mut first.inputs, &mut first.missed].map(std::mem::take);
            actions.push(Action::Answered { sequence, entries, missed, arrived });
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
            inputs: Vec::new(),
            untold: Vec::new(),
            missed: Vec::new(),
            arrived,
            heard: None,
            entry,
            waiting: BTreeSet::new(),
            answered: false,
            early: Vec::new(),
            merged: Vec::new(),
            taken: BTreeMap::new(),
            again: BTreeMap::new(),
        }
    }

    /// The input of an entry gives nothing.
    pub(super) fn miss(&mut self, entry: usize) {
        self.untold.push(entry);
        self.missed.push(entry);
    }

    /// Takes what a sink gave; gives back a frame that had come before.
    pub(super) fn take(&mut self, sink: usize, frame: Option<F>, last: bool) -> Option<F> {
        let again = self.again.entry(sink).or_default();
        let (frame, repeated) = if *again > 0 { (None, frame) } else { (frame, None) };
        *again -= usize::from(repeated.is_some());
        *self.taken.entry(sink).or_default() += usize::from(frame.is_some());
        if last {
            self.waiting.remove(&sink);
            self.merged.extend(frame.map(|frame| (sink, frame)));
        } else {
            self.early.extend(frame.map(|frame| (sink, frame)));
        }
        repeated
    }

    fn tell_dropped(&mut self) -> impl Iterator<Item = Action<F>> + use<'_, F> {
        let (sequence, arrived) = (self.sequence, self.arrived);
        self.untold.drain(..).map(move |entry| Action::TellDropped { entry, sequence, arrived })
    }

    fn give_early(&mut self) -> impl Iterator<Item = Action<F>> + use<'_, F> {
        let (sequence, arrived) = (self.sequence, self.arrived);
        self.answered |= !self.early.is_empty();
        self.early.drain(..).map(move |output| Action::Deliver { sequence, outputs: vec![output], arrived })
    }

    fn give_merged(&mut self) -> Option<Action<F>> {
        if self.merged.is_empty() && (self.answered || self.inputs.is_empty()) {
            return None;
        }
        let outputs = std::mem::take(&mut self.merged);
        Some(Action::Deliver { sequence: self.sequence, outputs, arrived: self.arrived })
    }
}
