//! What can go wrong for a client, as types: "the node said no" and "the process is gone" are different.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::{DataError, Kind};
use crate::graph::GraphError;
use crate::joined::ports_in_words;
use crate::launching::Quarantine;
use crate::limits::LimitExceeded;
use crate::manifest::ParseError;
use crate::nearest::Meant;
use crate::node::{NodeInfo, ParamError};
use crate::starting::Starting;

/// Why a pipeline did not run, or stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum Fault {
    /// The text is no manifest.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The manifest is no pipeline.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A node cannot be had as the manifest asks.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// A node refused its parameters.
    #[error("node '{node}': {error}")]
    Params {
        /// The node.
        node: String,
        /// What it said.
        error: ParamError,
    },
    /// An input is not what it claims to be.
    #[error("input{}: {error}", for_node(node))]
    Input {
        /// The node that was to get it.
        node: String,
        /// What is wrong.
        error: DataError,
    },
    /// A node got a kind that it does not take.
    #[error("node '{node}' expects {expected}, got {received}")]
    TypeMismatch {
        /// The node.
        node: String,
        /// The kinds it takes.
        expected: String,
        /// What came.
        received: Kind,
    },
    /// Inputs and entries of the pipeline do not fit each other.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The node said no.
    #[error(transparent)]
    Node(#[from] NodeFault),
    /// The process is gone.
    #[error(transparent)]
    Worker(#[from] WorkerLost),
    /// The input kills whoever works on it.
    #[error(transparent)]
    Poison(#[from] Poison),
    /// A bound was hit.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// It took too long.
    #[error(
        "no result within {limit_ms} ms ({waiting_for}): ask for a longer max_timeout_ms, or send less at once"
    )]
    Deadline {
        /// The bound.
        limit_ms: u64,
        /// What had not come.
        waiting_for: String,
    },
    /// The stream's rules were broken.
    #[error(transparent)]
    Stream(#[from] StreamFault),
    /// The client speaks a version of the protocol that nobody here does.
    #[error(
        "client version '{client}' is not served: this service speaks {supported} (docs/compatibility.md)"
    )]
    Version {
        /// As the client says.
        client: String,
        /// What is served.
        supported: String,
    },
    /// The service cannot take this now.
    #[error("the service is {state}: try again in {retry_after_ms} ms")]
    Unavailable {
        /// What keeps it.
        state: Unavailability,
        /// When to come back.
        retry_after_ms: u64,
    },
    /// Who could run a node is still loading, and the client does not wait any longer.
    #[error(
        "{starting}; after {} ms this is given up: try again in {retry_after_ms} ms, or ask for a longer max_start_ms",
        starting.waited.as_millis()
    )]
    Starting {
        /// What was waited for.
        starting: Starting,
        /// When to come back.
        retry_after_ms: u64,
    },
    /// Who could run a node keeps dying, and is not started for a while.
    #[error("node '{node}' needs '{node_type}', which no other worker offers: {}", all(.quarantines))]
    Quarantined {
        /// The node.
        node: String,
        /// Its type, as written.
        node_type: String,
        /// Who offered it, and why they do not: at least one, and at most [`MAX_QUARANTINES`].
        quarantines: Vec<Quarantine>,
        /// When the first of them is tried again.
        retry_after_ms: u64,
    },
    /// A mistake of ours.
    #[error("internal error in {place}: {problem}")]
    Internal {
        /// The part of the system.
        place: String,
        /// What went wrong there.
        problem: String,
    },
}

/// The node returned an error, or panicked; its process lives on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("node '{node}' failed at sequence {sequence}: {message}")]
pub struct NodeFault {
    /// The node.
    pub node: String,
    /// Its registered type.
    pub node_type: String,
    /// The sequence of the input that it worked on.
    pub sequence: u64,
    /// What it said.
    pub message: String,
    /// Where it panicked; empty for a returned error.
    pub backtrace: String,
}

/// A worker process died while it ran nodes of the session.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("node '{node}' is gone: worker '{worker}' (pid {pid}) {cause}")]
pub struct WorkerLost {
    /// The node that it was in a call of; else the first node of the session that ran there.
    pub node: String,
    /// The worker's name.
    pub worker: String,
    /// Its process id.
    pub pid: i32,
    /// How it ended.
    pub cause: DeathCause,
    /// How often a worker of this name had died before.
    #[serde(default)]
    pub restarts: u32,
    /// What it wrote last to its standard error, oldest first; empty where nobody told.
    #[serde(default)]
    pub last_lines: Vec<String>,
    /// How often this work had been given to another worker before.
    #[serde(default)]
    pub replays: u32,
}

/// An input that has killed as many workers as one may.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error(
    "{} has killed {deaths} workers in node '{node}', the last '{worker}' (pid {pid}), which {cause}: it is given to no other for {} s{}",
    what_kills(*made, *sequence),
    refused_ms.div_ceil(1_000),
    kept(capture.as_deref())
)]
pub struct Poison {
    /// The node that was working on it.
    pub node: String,
    /// Its sequence, on a stream.
    pub sequence: Option<u64>,
    /// It was the making of the node, before any input.
    #[serde(default)]
    pub made: bool,
    /// How many died of it.
    pub deaths: u32,
    /// The last one's name.
    pub worker: String,
    /// Its process id.
    pub pid: i32,
    /// How it ended.
    pub cause: DeathCause,
    /// For how long an input with the same content is refused from now on.
    pub refused_ms: u32,
    /// The file that it is kept in, on the service's machine, for `remotemedia replay`.
    pub capture: Option<String>,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DeathCause {
    /// A signal.
    Signal(i32),
    /// It exited with a code.
    Exit(i32),
    /// The kernel killed it for want of memory, as the counter of its own cgroup says.
    OutOfMemory,
    /// A call of a node did not come back, long after its deadline, or it did not do what the gateway told it to, such as
    /// to map memory, for seconds: it was killed for that.
    Hang,
    /// It broke the control protocol, or left the connection, and was killed for that.
    Protocol,
    /// It is dead, and nobody could say how.
    Unknown,
}

/// Why a node cannot be had as the manifest asks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum PlacementError {
    /// No worker offers the type.
    #[error(
        "node '{node}' is of type '{node_type}', which no worker offers: there are {known}{}{}",
        Meant::among(node_type, known),
        also(failing)
    )]
    UnknownType {
        /// The node.
        node: String,
        /// As written.
        node_type: String,
        /// The types offered now.
        known: String,
        /// Which workers do not start, and why, in words; empty if all do.
        #[serde(default)]
        failing: String,
    },
    /// The manifest asks for what no worker has.
    #[error("node '{node}' asks for {what} = {value}: {have}")]
    Unsatisfied {
        /// The node.
        node: String,
        /// The manifest's field.
        what: String,
        /// As asked.
        value: String,
        /// What there is.
        have: String,
    },
    /// A node that must be alone finds no worker of its own.
    #[error(
        "node '{node}' asks for own_process, but only {workers} workers offer its type and all are taken by its neighbours: start more"
    )]
    NoOwnProcess {
        /// The node.
        node: String,
        /// Workers that offer its type.
        workers: usize,
    },
    /// A connection to a port that the node's type does not have, or to none where it has some.
    #[error("connection '{from}' -> '{to}': {ports}")]
    UnknownPort {
        /// The consumer.
        node: String,
        /// The producer.
        from: String,
        /// The consumer, with the port as written.
        to: String,
        /// What there is, in words.
        ports: String,
    },
    /// The producer declares kinds that the consumer does not take.
    #[error("connection '{from}' -> '{to}': '{from}' produces {produces}, '{to}' expects {expects}")]
    Incompatible {
        /// The consumer.
        node: String,
        /// The producer.
        from: String,
        /// The consumer, with the port as written.
        to: String,
        /// Kinds produced.
        produces: String,
        /// Kinds taken.
        expects: String,
    },
}

/// Inputs and entries of a pipeline do not fit each other.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum EntryError {
    /// An input for a node that is not there.
    #[error(
        "input names node '{node}', which the pipeline does not have: its entries are {entries}{}",
        Meant::among(node, entries)
    )]
    UnknownNode {
        /// As named.
        node: String,
        /// The nodes that take input.
        entries: String,
    },
    /// An input for a node, or a port, that another node feeds.
    #[error("input names '{node}', which another node feeds: the entries are {entries}")]
    NotAnEntry {
        /// As named.
        node: String,
        /// The nodes that take input.
        entries: String,
    },
    /// A port that the entry does not have, or none where it has some.
    #[error("input names port '{port}' of entry '{node}': {ports}")]
    UnknownPort {
        /// The entry.
        node: String,
        /// As named; empty if none was.
        port: String,
        /// What there is, in words.
        ports: String,
    },
    /// A chunk without any data.
    #[error("a chunk for entry '{node}' has no data: set buffer, or named_buffers for an entry with ports")]
    NoData {
        /// The entry.
        node: String,
    },
    /// Two inputs for one place.
    #[error("input for port '{port}' of entry '{node}' is given twice")]
    RepeatedPort {
        /// The entry.
        node: String,
        /// Its port.
        port: String,
    },
    /// An entry without input, in a unary call.
    #[error("no input for entry '{node}': a unary call needs one for each entry")]
    NoInput {
        /// The entry.
        node: String,
    },
}

/// The rules of a stream were broken, or it ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum StreamFault {
    /// The first message must set up the session.
    #[error("the first message of a stream is 'init', got '{received}'")]
    InitRequired {
        /// What came.
        received: String,
    },
    /// A second set-up.
    #[error("'init' came twice: a stream runs one session")]
    InitRepeated,
    /// A message without content.
    #[error("a stream message has no request: set one of init, data_chunk, audio_chunk, control")]
    EmptyMessage,
    /// A sequence number that is not the last plus one.
    #[error("node '{node}' got sequence {received} after {previous}: expected {expected}")]
    InvalidSequence {
        /// The node.
        node: String,
        /// As sent.
        received: u64,
        /// The one before.
        previous: u64,
        /// What would be right.
        expected: u64,
    },
    /// More came than the client lets wait, and one input made way for a later one. It does not end the stream.
    #[error(
        "chunk {sequence} for node '{node}' was dropped: more came than max_buffered_chunks lets wait; send slower, or let more wait"
    )]
    Dropped {
        /// The node.
        node: String,
        /// Of what was dropped.
        sequence: u64,
    },
    /// A worker died, and its nodes began anew without what they knew. It does not end the stream.
    #[error("{}node '{}' began anew: worker '{}' (pid {}) {}", lost_chunk(*sequence), lost.node, lost.worker, lost.pid, lost.cause)]
    Gap {
        /// Of an input that was under way and is lost; none if none was.
        sequence: Option<u64>,
        /// Who died.
        lost: Box<WorkerLost>,
    },
    /// Nothing came for too long.
    #[error("no input for {idle_ms} ms: send chunks or COMMAND_CLOSE")]
    Idle {
        /// The bound.
        idle_ms: u64,
    },
    /// Nothing was read for too long.
    #[error("no result was read for {idle_ms} ms: read them as they come, or send COMMAND_CANCEL")]
    Unread {
        /// The bound.
        idle_ms: u64,
    },
    /// Input after the end.
    #[error("a chunk came after COMMAND_CLOSE: nothing more is taken")]
    Closed,
    /// A command that does not exist.
    #[error("control command {number} is not defined: 1 is COMMAND_CLOSE, 2 is COMMAND_CANCEL")]
    UnknownCommand {
        /// As sent.
        number: i32,
    },
}

/// Why the service cannot take work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unavailability {
    /// As many sessions as there may be.
    Full,
    /// No worker has registered.
    NoWorkers,
    /// It is going away.
    ShuttingDown,
    /// Its connection broke: it was killed, perhaps, and said nothing. Only clients see that.
    Gone,
}

/// Workers that one [`Fault::Quarantined`] tells of: it travels in the headers of answers.
pub const MAX_QUARANTINES: usize = 3;

// === impl Fault ===

impl Fault {
    /// The node at fault, where one is.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Params { node, .. } | Self::Input { node, .. } | Self::TypeMismatch { node, .. } => {
                Some(node)
            }
            Self::Node(fault) => Some(&fault.node),
            Self::Worker(lost) => Some(&lost.node),
            Self::Poison(poison) => Some(&poison.node),
            Self::Stream(StreamFault::Gap { lost, .. }) => Some(&lost.node),
            Self::Starting { starting, .. } => Some(&starting.node),
            Self::Quarantined { node, .. } => Some(node),
            Self::Placement(
                PlacementError::UnknownType { node, .. }
                | PlacementError::Unsatisfied { node, .. }
                | PlacementError::NoOwnProcess { node, .. }
                | PlacementError::UnknownPort { node, .. }
                | PlacementError::Incompatible { node, .. },
            ) => Some(node),
            Self::Stream(StreamFault::InvalidSequence { node, .. } | StreamFault::Dropped { node, .. }) => {
                Some(node)
            }
            Self::Graph(
                GraphError::Params { node, .. }
                | GraphError::DuplicateId { id: node }
                | GraphError::OutputPort { from: node, .. },
            ) => Some(node),
            Self::Entry(
                EntryError::UnknownNode { node, .. }
                | EntryError::NotAnEntry { node, .. }
                | EntryError::UnknownPort { node, .. }
                | EntryError::NoData { node }
                | EntryError::RepeatedPort { node, .. }
                | EntryError::NoInput { node },
            ) => Some(node),
            Self::Parse(_)
            | Self::Graph(_)
            | Self::Limit(_)
            | Self::Deadline { .. }
            | Self::Stream(_)
            | Self::Version { .. }
            | Self::Unavailable { .. }
            | Self::Internal { .. } => None,
        }
    }

    /// The input at which a node failed.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Self::Node(fault) => Some(fault.sequence),
            Self::Parse(_)
            | Self::Graph(_)
            | Self::Placement(_)
            | Self::Params { .. }
            | Self::Input { .. }
            | Self::TypeMismatch { .. }
            | Self::Entry(_)
            | Self::Worker(_)
            | Self::Poison(_)
            | Self::Limit(_)
            | Self::Deadline { .. }
            | Self::Stream(_)
            | Self::Version { .. }
            | Self::Unavailable { .. }
            | Self::Starting { .. }
            | Self::Quarantined { .. }
            | Self::Internal { .. } => None,
        }
    }
}

fn what_kills(made: bool, sequence: Option<u64>) -> String {
    match (made, sequence) {
        (true, _) => "making the pipeline's nodes".to_owned(),
        (false, Some(sequence)) => format!("the input of sequence {sequence}"),
        (false, None) => "the input".to_owned(),
    }
}

fn lost_chunk(sequence: Option<u64>) -> String {
    sequence.map_or_else(String::new, |sequence| format!("chunk {sequence} is lost: "))
}

fn kept(capture: Option<&str>) -> String {
    capture.map_or_else(String::new, |path| {
        format!("; it is kept on the service's machine: `remotemedia replay {path}`")
    })
}

/// What is said behind a message, if anything is.
fn also(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; {said}") }
}

fn all(quarantines: &[Quarantine]) -> String {
    quarantines.iter().map(Quarantine::to_string).collect::<Vec<_>>().join("; ")
}

/// Nothing where the client named none, which means the only entry.
fn for_node(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!(" for node '{node}'") }
}

// === impl PlacementError ===

impl PlacementError {
    /// Looks at a connection to a port, or to none, given the ids and the types of its ends.
    ///
    /// # Errors
    /// There is no such port, or what the producer declares to give is nothing that it declares to take.
    pub fn check_edge(from: (&str, &NodeInfo), to: (&str, &NodeInfo), port: &str) -> Result<(), Self> {
        let ((from, producer), (node, consumer)) = (from, to);
        let to = if port.is_empty() { node.to_owned() } else { format!("{node}.{port}") };
        let Some(accepts) = consumer.accepted(port) else {
            let (node, from) = (node.to_owned(), from.to_owned());
            return Err(Self::UnknownPort { node, from, to, ports: ports_in_words(&consumer.ports) });
        };
        let any = producer.produces.is_empty() || accepts.is_empty();
        if any || producer.produces.iter().any(|kind| accepts.contains(kind)) {
            return Ok(());
        }
        Err(Self::Incompatible {
            node: node.to_owned(),
            from: from.to_owned(),
            to,
            produces: in_words(&producer.produces),
            expects: in_words(accepts),
        })
    }
}

/// Kinds as messages list them: `audio or text`.
#[must_use]
pub fn in_words(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or ")
}

// === impl DeathCause ===

impl DeathCause {
    /// One word for a label: a signal's name, `signal` for one without, `exit`, `oom`, `hang`, `protocol` or `unknown`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Signal(number) => signal_name(*number).unwrap_or("signal"),
            Self::Exit(_) => "exit",
            Self::OutOfMemory => "oom",
            Self::Hang => "hang",
            Self::Protocol => "protocol",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for DeathCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {number}"),
            },
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::OutOfMemory => f.write_str("was killed by the kernel for want of memory"),
            Self::Hang => f.write_str("hung, and was killed"),
            Self::Protocol => f.write_str("broke the control protocol and was killed"),
            Self::Unknown => f.write_str("died of a cause that could not be read"),
        }
    }
}

/// The signals that end processes, by their numbers on Linux.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return None,
    })
}

// === impl Unavailability ===

impl fmt::Display for Unavailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::NoWorkers => "without workers",
            Self::ShuttingDown => "shutting down",
            Self::Gone => "gone, and with it what ran there",
        })
    }
}
