//! What is measured of one session.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use remotemedia_core::RuntimeData;
use remotemedia_core::data::Kind;
use remotemedia_core::transport::{ExecutionMetrics, NodeReport};

/// What is measured of one session. Time is an argument.
#[derive(Debug)]
pub(crate) struct Measures {
    began: Instant,
    ended: Option<Instant>,
    nodes: BTreeMap<String, NodeReport>,
    /// The most bytes that outputs of an inner node held at once, of all that have been it.
    inner_peaks: BTreeMap<String, u64>,
    chunks: u64,
    dropped: u64,
    items: u64,
    buffered_items: u64,
    kinds: BTreeMap<Kind, u64>,
    answers: u32,
    latency: Duration,
    /// Inputs that are not answered.
    pending: VecDeque<Pending>,
    held: Held,
}

#[derive(Debug)]
struct Pending {
    sequence: u64,
    items: u64,
    payloads: Vec<Place>,
}

/// Payloads in pool memory that pass here: inputs that are not answered, and outputs that nobody has taken. What was
/// forwarded by reference is held once.
///
/// Leases are not held by this: a worker may let go of an input before it is answered, and its block may be filled anew.
#[derive(Debug, Default)]
struct Held {
    /// How often, and at most how many bytes, by address.
    places: BTreeMap<usize, (u32, u64)>,
    bytes: u64,
    peak: u64,
}

/// Where a payload lies in this process, and its bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: usize,
    bytes: u64,
}

// === impl Measures ===

impl Measures {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            ended: None,
            nodes: BTreeMap::new(),
            inner_peaks: BTreeMap::new(),
            chunks: 0,
            dropped: 0,
            items: 0,
            buffered_items: 0,
            kinds: BTreeMap::new(),
            answers: 0,
            latency: Duration::ZERO,
            pending: VecDeque::new(),
            held: Held::default(),
        }
    }

    /// An input enters: its pieces, and where they lie in pool memory.
    pub(crate) fn take_in<'a>(
        &mut self,
        sequence: u64,
        pieces: impl Iterator<Item = (&'a RuntimeData, &'a Bytes)>,
    ) {
        let mut pending = Pending { sequence, items: 0, payloads: Vec::new() };
        for (data, payload) in pieces {
            pending.items += data.items();
            *self.kinds.entry(data.kind()).or_default() += 1;
            self.held.add(Place::of(payload));
            pending.payloads.push(Place::of(payload));
        }
        self.items += pending.items;
        self.buffered_items += pending.items;
        self.pending.push_back(pending);
    }

    /// Inputs of a sequence, one of each of so many entries, are answered in full.
    pub(crate) fn answer(&mut self, sequence: u64, inputs: usize, latency: Duration) {
        self.answers = self.answers.saturating_add(1);
        self.latency += latency;
        (0..inputs).for_each(|_| self.give_up(sequence));
    }

    /// An input of a sequence is never answered.
    pub(crate) fn give_up(&mut self, sequence: u64) {
        let place = self.pending.iter().position(|pending| pending.sequence == sequence);
        if let Some(Pending { items, payloads, .. }) = place.and_then(|place| self.pending.remove(place)) {
            self.buffered_items -= items;
            payloads.into_iter().for_each(|place| self.held.remove(place));
        }
    }

    /// The last results of so many inputs were taken.
    pub(crate) const fn count_answered(&mut self, inputs: u64) {
        self.chunks += inputs;
    }

    /// The client was told that an input was dropped.
    pub(crate) const fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// An output waits to be taken.
    pub(crate) fn hold(&mut self, payload: &Bytes) {
        self.held.add(Place::of(payload));
    }

    /// An output was taken.
    pub(crate) fn release(&mut self, payload: &Bytes) {
        self.held.remove(Place::of(payload));
    }

    /// A worker's part has flushed. What the sinks were lent passes here and counts here.
    pub(crate) fn report(&mut self, nodes: BTreeMap<String, NodeReport>, sinks: &[&str]) {
        for (node, report) in nodes.iter().filter(|(node, _)| !sinks.contains(&node.as_str())) {
            let peak = self.inner_peaks.entry(node.clone()).or_default();
            *peak = report.peak_bytes.max(*peak);
        }
        self.nodes.extend(nodes);
    }

    /// Nothing more comes.
    pub(crate) const fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    pub(crate) fn so_far(&self) -> ExecutionMetrics {
        ExecutionMetrics {
            wall: self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.began),
            cpu: self.nodes.values().map(|node| node.cpu).sum(),
            peak_memory_bytes: self.held.peak + self.inner_peaks.values().sum::<u64>(),
            nodes: self.nodes.clone(),
            chunks: self.chunks,
            dropped: self.dropped,
            items: self.items,
            average_latency: self.latency.checked_div(self.answers).unwrap_or_default(),
            buffered_items: self.buffered_items,
            kinds: self.kinds.clone(),
        }
    }
}

// === impl Held ===

impl Held {
    fn add(&mut self, Place { address, bytes }: Place) {
        if bytes == 0 {
            return;
        }
        let (count, most) = self.places.entry(address).or_default();
        *count += 1;
        self.bytes += bytes.saturating_sub(*most);
        *most = bytes.max(*most);
        self.peak = self.peak.max(self.bytes);
    }

    fn remove(&mut self, Place { address, .. }: Place) {
        let Some((count, most)) = self.places.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            self.bytes -= *most;
            self.places.remove(&address);
        }
    }
}

// === impl Place ===

impl Place {
    fn of(payload: &Bytes) -> Self {
        Self { address: payload.as_ptr().addr(), bytes: payload.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::Text;

    use super::*;

    fn piece(bytes: usize) -> (RuntimeData, Bytes) {
        let text = RuntimeData::from(Text::new(vec![b'a'; bytes].into(), "").unwrap());
        let payload = text.payload().clone();
        (text, payload)
    }

    fn take_in(measures: &mut Measures, sequence: u64, (data, payload): &(RuntimeData, Bytes)) {
        measures.take_in(sequence, std::iter::once((data, payload)));
    }

    #[test]
    fn what_was_forwarded_by_reference_is_held_once() {
        let mut measures = Measures::new(Instant::now());
        let input = piece(100);
        take_in(&mut measures, 0, &input);
        measures.hold(&input.1);
        assert_eq!(measures.so_far().peak_memory_bytes, 100);
        measures.answer(0, 1, Duration::ZERO);
        measures.hold(&piece(60).1);
        assert_eq!(measures.so_far().peak_memory_bytes, 160, "the first is held as an output");
        measures.release(&input.1);
        take_in(&mut measures, 1, &piece(90));
        assert_eq!(measures.so_far().peak_memory_bytes, 160);
    }

    #[test]
    fn outputs_of_inner_nodes_are_held_beside_what_passes_here() {
        let mut measures = Measures::new(Instant::now());
        take_in(&mut measures, 0, &piece(10));
        let report = |peak_bytes| NodeReport { peak_bytes, ..NodeReport::default() };
        let nodes = [("inner", report(5)), ("sink", report(7))];
        let nodes = BTreeMap::from(nodes.map(|(node, report)| (node.to_owned(), report)));
        measures.report(nodes.clone(), &["sink"]);
        assert_eq!(measures.so_far().peak_memory_bytes, 15);
        measures.report(nodes, &["sink"]);
        assert_eq!(measures.so_far().peak_memory_bytes, 15, "another has taken its place");
    }

    #[test]
    fn items_are_buffered_until_their_input_is_answered_and_latency_is_its_mean() {
        let mut measures = Measures::new(Instant::now());
        (0..3).for_each(|sequence| take_in(&mut measures, sequence, &piece(1)));
        assert_eq!((measures.so_far().items, measures.so_far().buffered_items), (3, 3));
        measures.answer(0, 1, Duration::from_millis(10));
        measures.answer(1, 1, Duration::from_millis(20));
        let metrics = measures.so_far();
        assert_eq!((metrics.items, metrics.buffered_items, metrics.kinds[&Kind::Text]), (3, 1, 3));
        assert_eq!(metrics.average_latency, Duration::from_millis(15));
    }
}
