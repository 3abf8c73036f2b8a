//! A node at its place: called, timed, and held to what its type declares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use remotemedia_core::Fault;
use remotemedia_core::Frame;
use remotemedia_core::data::Kind;
use remotemedia_core::fault::{NodeFault, in_words};
use remotemedia_core::frame::Metadata;
use remotemedia_core::joined::Joined;
use remotemedia_core::limits::LimitExceeded;
use remotemedia_core::node::{Loan, LoanError, Node, NodeError, NodeInfo, Output, Outputs};
use remotemedia_core::transport::{MAX_REPORTED_METADATA, NodeReport};

use super::contained::{Panic, contained};
use super::held::Held;
use super::joint::JointError;
use super::logbook::{self, Logbook};
use super::stage::breach;

/// Where nodes get memory for their outputs.
pub(super) type Lend<'a> = dyn FnMut(usize) -> Result<Loan, LoanError> + 'a;

/// A node at its place.
pub(super) struct Station {
    pub(super) id: String,
    node_type: String,
    /// What its type declares to take and to give.
    pub(super) declared: NodeInfo,
    node: Guarded,
    pub(super) latest: Moment,
    pub(super) flushed: bool,
    /// Whether the last call has more outputs than it gave.
    pub(super) has_more: bool,
    held: Arc<Held>,
    pub(super) report: NodeReport,
    /// Where its calls are entered, if anywhere.
    logbook: Option<Logbook>,
}

/// Which input a node's outputs belong to.
#[derive(Clone, Copy, Default)]
pub(super) struct Moment {
    pub(super) sequence: u64,
    timestamp_us: Option<u64>,
}

/// A node whose drop may panic.
struct Guarded(Option<Box<dyn Node>>);

/// What one call of a node gives.
struct Collected<'a, 'b> {
    lend: &'a mut Lend<'b>,
    held: &'a Arc<Held>,
    entry: Option<&'a logbook::Entry<'a>>,
    outputs: Vec<Output>,
    max_outputs: usize,
    lent_bytes: u64,
    copied_bytes: u64,
}

/// Wall time and processor time of one call.
struct Stopwatch {
    started: Instant,
    cpu: Duration,
}

// === impl Station ===

impl Station {
    /// Sets up a node with `make`, which may be slow and may panic. `report` says who runs it.
    ///
    /// # Errors
    /// It panicked, or whatever `make` says.
    pub(super) fn set_up(
        id: &str,
        node_type: &str,
        report: NodeReport,
        make: impl FnOnce() -> Result<Box<dyn Node>, Fault>,
    ) -> Result<Self, Fault> {
        let mut station = Self {
            id: id.to_owned(),
            node_type: node_type.to_owned(),
            declared: NodeInfo::default(),
            node: Guarded(None),
            latest: Moment::default(),
            flushed: false,
            has_more: false,
            held: Arc::default(),
            report,
            logbook: None,
        };
        let stopwatch = Stopwatch::start();
        match contained(make) {
            Ok(node) => station.node = Guarded(Some(node?)),
            Err(panic) => return Err(station.panicked(panic)),
        }
        (station.report.setup, station.report.cpu) = stopwatch.stop();
        Ok(station)
    }

    /// Holds its inputs and outputs to what its type declares.
    pub(super) fn held_to(mut self, declared: &NodeInfo) -> Self {
        self.declared = declared.clone();
        self
    }

    /// Has its calls entered.
    pub(super) fn logged_in(mut self, logbook: Logbook) -> Self {
        self.logbook = Some(logbook);
        self
    }

    pub(super) fn reported(&self) -> NodeReport {
        NodeReport { peak_bytes: self.held.peak(), ..self.report.clone() }
    }

    pub(super) fn process(
        &mut self,
        frame: Frame,
        max: usize,
        lend: &mut Lend<'_>,
    ) -> Result<Vec<Output>, Fault> {
        self.latest = Moment { sequence: frame.sequence, timestamp_us: frame.timestamp_us };
        self.takes("", frame.data.kind())?;
        self.count_input(frame.data.items(), frame.data.payload().len());
        self.call(max, lend, |node, out| node.process(frame, out))
    }

    pub(super) fn process_joined(
        &mut self,
        joined: Joined,
        max: usize,
        lend: &mut Lend<'_>,
    ) -> Result<Vec<Output>, Fault> {
        self.latest = Moment { sequence: joined.sequence(), timestamp_us: joined.timestamp_us() };
        joined.kinds().try_for_each(|(port, kind)| self.takes(port, kind))?;
        self.count_input(joined.items(), joined.payload_bytes());
        self.call(max, lend, |node, out| node.process_joined(joined, out))
    }

    pub(super) fn flush(&mut self, max: usize, lend: &mut Lend<'_>) -> Result<Vec<Output>, Fault> {
        self.flushed = true;
        self.call(max, lend, |node, out| node.flush(out))
    }

    pub(super) fn resume(&mut self, max: usize, lend: &mut Lend<'_>) -> Result<Vec<Output>, Fault> {
        self.call(max, lend, |node, out| node.resume(out))
    }

    fn call(
        &mut self,
        max_outputs: usize,
        lend: &mut Lend<'_>,
        work: impl FnOnce(&mut dyn Node, &mut dyn Outputs) -> Result<(), NodeError>,
    ) -> Result<Vec<Output>, Fault> {
        let held = Arc::clone(&self.held);
        let Guarded(Some(node)) = &mut self.node else { return Ok(Vec::new()) };
        let logbook = self.logbook.as_ref();
        let entry = logbook.and_then(|book| book.enter(Some(self.latest.sequence), self.report.calls));
        let mut collected = Collected {
            lend,
            held: &held,
            entry: entry.as_ref(),
            outputs: Vec::new(),
            max_outputs,
            lent_bytes: 0,
            copied_bytes: 0,
        };
        let stopwatch = Stopwatch::start();
        let outcome = contained(|| work(node.as_mut(), &mut collected).map(|()| node.has_more()));
        let (busy, cpu) = stopwatch.stop();
        let Collected { outputs, lent_bytes, copied_bytes, .. } = collected;
        drop(entry);
        self.report.calls += 1;
        self.report.busy += busy;
        self.report.cpu += cpu;
        self.report.lent_bytes += lent_bytes;
        self.report.copied_bytes += copied_bytes;
        self.count_outputs(&outputs);
        match outcome {
            Ok(Ok(has_more)) => {
                self.has_more = has_more;
                self.as_declared(outputs)
            }
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(panic) => Err(self.panicked(panic)),
        }
    }

    /// What its neighbours give is not always known when they are chosen.
    fn takes(&self, port: &str, received: Kind) -> Result<(), Fault> {
        // A node without ports that is fed by several connections has them for names.
        let port = if self.declared.ports.is_empty() { "" } else { port };
        match self.declared.accepted(port) {
            Some(kinds) if !kinds.is_empty() && !kinds.contains(&received) => {
                Err(Fault::TypeMismatch { node: self.id.clone(), expected: in_words(kinds), received })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A neighbour was chosen by what the type declares: another kind is this node's mistake, not the neighbour's.
    fn as_declared(&self, outputs: Vec<Output>) -> Result<Vec<Output>, Fault> {
        let gives = &self.declared.produces;
        let stray = |output: &&Output| !gives.is_empty() && !gives.contains(&output.data.kind());
        match outputs.iter().find(stray) {
            Some(output) => {
                let (gave, declared) = (output.data.kind(), in_words(gives));
                let message = format!("gave {gave}, but its type declares to produce {declared}");
                Err(self.fault(self.latest.sequence, message, String::new()))
            }
            None => Ok(outputs),
        }
    }

    fn count_input(&mut self, items: u64, payload_bytes: usize) {
        self.report.inputs += 1;
        self.report.items += items;
        self.report.input_bytes += payload_bytes as u64;
    }

    fn count_outputs(&mut self, outputs: &[Output]) {
        for output in outputs {
            self.report.outputs += 1;
            self.report.output_bytes += output.data.payload().len() as u64;
            *self.report.output_kinds.entry(output.data.kind()).or_default() += 1;
        }
        if let Some(last) = outputs.last() {
            self.report.output_metadata = repeatable(&last.metadata);
        }
    }

    fn refused(&self, error: &NodeError) -> Fault {
        match error {
            NodeError::WrongKind { expected, received } => Fault::TypeMismatch {
                node: self.id.clone(),
                expected: expected.to_string(),
                received: *received,
            },
            NodeError::Loan(error) => self.not_lent(self.latest.sequence, error),
            NodeError::Raised { .. }
            | NodeError::MissingInput { .. }
            | NodeError::Failed { .. }
            | NodeError::Limit(_)
            | NodeError::Output(_) => {
                self.fault(self.latest.sequence, error.to_string(), error.traceback().to_owned())
            }
        }
    }

    pub(super) fn not_joined(&self, error: &JointError) -> Fault {
        match error {
            JointError::Order { .. } => breach(format!("node '{}': {error}", self.id)),
            JointError::Limit(_) => self.fault(self.latest.sequence, error.to_string(), String::new()),
        }
    }

    /// Over the execution's own limit, the client can do something; over the pool's, the node or the operator.
    pub(super) fn not_lent(&self, sequence: u64, error: &LoanError) -> Fault {
        match error {
            LoanError::Limit(limit) => Fault::Limit(LimitExceeded {
                what: format!("an output of node '{}'", self.id),
                ..limit.clone()
            }),
            LoanError::TooLarge { .. } | LoanError::Exhausted { .. } => {
                self.fault(sequence, error.to_string(), String::new())
            }
        }
    }

    fn panicked(&self, panic: Panic) -> Fault {
        self.fault(self.latest.sequence, panic.message, panic.backtrace)
    }

    fn fault(&self, sequence: u64, message: String, backtrace: String) -> Fault {
        let (node, node_type) = (self.id.clone(), self.node_type.clone());
        Fault::Node(NodeFault { node, node_type, sequence, message, backtrace })
    }
}

// === impl Moment ===

impl Moment {
    /// An output as a frame: sequence and time are the input's, metadata is what the node gave and nothing more.
    pub(super) fn frame(self, output: Output) -> Frame {
        let Output { data, metadata, timestamp_us } = output;
        Frame { sequence: self.sequence, timestamp_us: timestamp_us.or(self.timestamp_us), metadata, data }
    }
}

// === impl Guarded ===

impl Drop for Guarded {
    fn drop(&mut self) {
        let node = self.0.take();
        if let Err(panic) = contained(|| drop(node)) {
            tracing::warn!(message = panic.message, "node_panicked_when_dropped");
        }
    }
}

// === impl Collected ===

impl Outputs for Collected<'_, '_> {
    fn loan(&mut self, bytes: usize) -> Result<Loan, LoanError> {
        let loan = (self.lend)(bytes)?;
        self.lent_bytes += bytes as u64;
        Ok(Held::count(self.held, loan, bytes))
    }

    fn emit(&mut self, output: Output) -> Result<(), LimitExceeded> {
        if self.outputs.len() >= self.max_outputs {
            return Err(LimitExceeded {
                what: "the number of outputs of one call".to_owned(),
                value: self.outputs.len() as u64 + 1,
                limit: self.max_outputs as u64,
                unit: "outputs".to_owned(),
                advice: "emit fewer and larger pieces".to_owned(),
            });
        }
        self.outputs.push(output);
        Ok(())
    }

    fn working(&mut self) {
        self.entry.into_iter().for_each(logbook::Entry::work);
    }

    fn note_copied(&mut self, bytes: usize) {
        self.copied_bytes += bytes as u64;
    }
}

// === impl Stopwatch ===

impl Stopwatch {
    fn start() -> Self {
        Self { started: Instant::now(), cpu: thread_cpu() }
    }

    fn stop(self) -> (Duration, Duration) {
        (self.started.elapsed(), thread_cpu().saturating_sub(self.cpu))
    }
}

/// As much of an output's metadata as reports repeat.
fn repeatable(metadata: &Metadata) -> Metadata {
    let mut room = MAX_REPORTED_METADATA;
    let fits = |(key, value): &(&String, &String)| {
        let left = room.checked_sub(key.len() + value.len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    metadata.iter().filter(fits).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
