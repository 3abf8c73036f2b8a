//! The seam between pipelines and how clients reach them.
//!
//! `PipelineRunner` of the runtime crate runs pipelines on a pool of workers; the command line's gRPC client runs
//! them on a service elsewhere. Who uses a [`PipelineTransport`] cannot tell which.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::data::{Kind, RuntimeData};
use crate::fault::Fault;
use crate::frame::{Frame, Metadata, SessionId};
use crate::limits::LimitRequest;
use crate::manifest::Manifest;
use crate::starting::StartListener;

/// A way to run pipelines.
pub trait PipelineTransport: Send + Sync {
    /// The streaming session that this transport gives.
    type Session: StreamSession;

    /// Runs a pipeline once: one input for each entry, all outputs of all sinks.
    fn execute(&self, request: ExecuteRequest) -> impl Future<Output = Result<Execution, Fault>> + Send;

    /// Sets up a session that takes input as it comes.
    fn stream(&self, request: StreamRequest) -> impl Future<Output = Result<Self::Session, Fault>> + Send;
}

/// One client's run of one pipeline. Sending and receiving may be done by different tasks at once.
pub trait StreamSession: Send + Sync {
    /// The session's name.
    fn id(&self) -> SessionId;

    /// Sends one chunk; waits while the pipeline is full. Dropping the future sends nothing or all.
    fn send(&self, input: TransportData) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The next result, in the order of input sequences; none when the session has ended well. An error is the end.
    fn receive(&self) -> impl Future<Output = Result<Option<ChunkOutput>, Fault>> + Send;

    /// No more input comes: what is under way is finished, then `receive` ends.
    fn close(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Ends at once; results under way are dropped.
    fn cancel(&self);

    /// What has been measured so far.
    fn metrics(&self) -> ExecutionMetrics;
}

/// What is on its way into a session: one input of an entry.
#[derive(Clone, PartialEq, Debug)]
pub struct TransportData {
    /// The entry's id; empty means the only one. `node.port` names one of its ports.
    pub node: String,
    /// The input's place in the entry's order.
    pub sequence: u64,
    /// A frame each for any of the entry's ports, or one under the empty name for an entry without ports. What their
    /// sequences are does not matter: all have this input's. None at all says that the input was dropped on its way:
    /// its sequence counts, and the answer to it is [`ChunkOutput::missed`]; a way that cannot tell refuses it.
    pub frames: BTreeMap<String, Frame>,
}

/// A unary run.
#[derive(Clone, Debug)]
pub struct ExecuteRequest {
    /// The pipeline.
    pub manifest: Arc<Manifest>,
    /// One frame for each entry by node id, or for each of its ports by `node.port`.
    pub inputs: BTreeMap<String, Frame>,
    /// What the client asks.
    pub limits: LimitRequest,
    /// Who asks.
    pub caller: Caller,
}

/// The set-up of a stream.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// The pipeline.
    pub manifest: Arc<Manifest>,
    /// What the client asks.
    pub limits: LimitRequest,
    /// Who is to hear what the start waits for: at once, when it changes, and every 2 s.
    pub listener: Option<StartListener>,
    /// Who asks.
    pub caller: Caller,
}

/// Who asks, as far as it matters for how it is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// What it sends is kept nowhere, whatever becomes of it.
    pub private: bool,
    /// Its connection, all sessions of which share one part of the frame pool; none for one that has no bound but its
    /// sessions'.
    pub connection: Option<ConnectionId>,
}

/// A connection of a client, as its transport numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);

/// What one input sequence gave, or a part of it, or why it gives nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct ChunkOutput {
    /// The input's sequence.
    pub sequence: u64,
    /// At most one frame a sink, by node id; empty if nothing came of the input.
    pub outputs: BTreeMap<String, Frame>,
    /// Why there are no outputs and will be none, where the input was dropped, lost or given up. It does not end the
    /// session.
    pub missed: Option<Fault>,
    /// From the input's arrival to this result's being ready, whenever it is taken.
    pub latency: Duration,
}

/// The result of a unary run.
#[derive(Clone, PartialEq, Debug)]
pub struct Execution {
    /// What each sink gave, by node id, in order. Sinks that gave nothing have an empty list.
    pub outputs: BTreeMap<String, Vec<Frame>>,
    /// What was measured.
    pub metrics: ExecutionMetrics,
}

/// What was measured of one session.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ExecutionMetrics {
    /// From the request to the result.
    pub wall: Duration,
    /// Processor time that nodes used: known once they have flushed.
    pub cpu: Duration,
    /// The most bytes of pool memory that the session held at once: of inputs until they are answered, of outputs
    /// until they are handed out, and, once nodes have flushed, at most so much among them.
    pub peak_memory_bytes: u64,
    /// By node id, once they have flushed.
    pub nodes: BTreeMap<String, NodeReport>,
    /// Inputs answered in full, the last of their results handed out.
    pub chunks: u64,
    /// Inputs dropped, lost or given up.
    pub dropped: u64,
    /// Items that entered (samples for audio, pieces otherwise).
    pub items: u64,
    /// Mean time from an input's arrival to its last result.
    pub average_latency: Duration,
    /// Items that entered and whose input is not answered in full.
    pub buffered_items: u64,
    /// Pieces that entered, by kind.
    pub kinds: BTreeMap<Kind, u64>,
}

/// What was measured of one node in one session.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeReport {
    /// Time that it took to make the node.
    pub setup: Duration,
    /// Calls of `process` and `flush`.
    pub calls: u64,
    /// Time in them.
    pub busy: Duration,
    /// Processor time of the thread in them, and while the node was made.
    pub cpu: Duration,
    /// Calls of `process`: inputs that reached the node.
    pub inputs: u64,
    /// Bytes of their payloads.
    pub input_bytes: u64,
    /// Items taken.
    pub items: u64,
    /// Outputs given.
    pub outputs: u64,
    /// Bytes of their payloads.
    pub output_bytes: u64,
    /// Outputs given, by kind.
    pub output_kinds: BTreeMap<Kind, u64>,
    /// The metadata of the last output, as far as it is no longer than [`MAX_REPORTED_METADATA`].
    pub output_metadata: Metadata,
    /// Bytes of pool memory lent for outputs.
    pub lent_bytes: u64,
    /// The most of them that were held at once in the process.
    pub peak_bytes: u64,
    /// Bytes copied because an output was not in pool memory.
    pub copied_bytes: u64,
    /// Frames that came from another process.
    pub hops: u64,
    /// What their ways took, from the other process's push to the pop here, added up.
    pub hop: Duration,
    /// The process that ran it.
    pub pid: u32,
    /// The name of that worker.
    pub worker: String,
}

/// Bytes of metadata that a [`NodeReport`] repeats at most, keys and values: reports of all nodes of a pipeline fit one
/// control message many times over.
pub const MAX_REPORTED_METADATA: usize = 4_096;

impl TransportData {
    /// A frame for the pipeline's only entry.
    #[must_use]
    pub fn new(sequence: u64, data: impl Into<RuntimeData>) -> Self {
        Self::of_frame(String::new(), Frame::new(sequence, data))
    }

    /// A frame for an entry, or for one of its ports.
    #[must_use]
    pub fn of_frame(node: impl Into<String>, frame: Frame) -> Self {
        Self { node: node.into(), sequence: frame.sequence, frames: BTreeMap::from([(String::new(), frame)]) }
    }

    /// With metadata on all its frames.
    #[must_use]
    pub fn with_metadata(mut self, metadata: &Metadata) -> Self {
        self.frames.values_mut().for_each(|frame| frame.metadata.clone_from(metadata));
        self
    }

    /// Bytes of all payloads.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.frames.values().map(|frame| frame.data.payload().len()).sum()
    }
}
