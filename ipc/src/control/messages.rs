//! What gateway and workers say to each other on the control socket.
//!
//! Every value here has crossed, or will cross, a process border: it is data of a peer, and is checked before use.

use std::collections::BTreeMap;

use remotemedia_core::fault::{DeathCause, Fault};
use remotemedia_core::frame::{SessionId, StageId};
use remotemedia_core::graph::NodeIndex;
use remotemedia_core::launching::{Invocation, LaunchOrder, LaunchRefusal, Quarantine, Rollout};
use remotemedia_core::node::NodeInfo;
use remotemedia_core::transport::NodeReport;
use serde::{Deserialize, Serialize};

use crate::link::TransportConfig;
use crate::memory::Geometry;
use crate::plane::EdgeRef;
use crate::slot::{Member, PoolId};

/// The version of these messages. Gateway, workers and launchers of different versions refuse each other.
///
/// So that they can say so, what leads there is the same in all versions: the places of [`ToGateway::Hello`],
/// [`ToGateway::Launcher`] and [`ToGateway::Report`] among their messages, each with this number first, and [`ToWorker::Refused`] as a whole.
pub const PROTOCOL: u32 = 7;

/// Most lines of a [`Burial`]: a traceback with some frames.
pub const MAX_LAST_LINES: usize = 20;

/// Most bytes of them together: they travel with the error of every session that the dead had.
pub const MAX_LAST_BYTES: usize = 4 * 1024;

/// From a worker; a launcher too begins with one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ToGateway {
    /// First. Comes with the worker's doorbell.
    Hello(Hello),
    /// The welcome's memory is mapped: the pool may be sealed.
    Mapped,
    /// A step of a link's handshake is done.
    Done(Step),
    /// A step of a link's handshake cannot be done.
    Undone {
        /// The step.
        step: Step,
        /// Why.
        problem: String,
    },
    /// About itself.
    News(News),
    /// About a stage.
    Stage(StageReply),
    /// First, and the last of this type: here is no worker but who starts workers. [`FromLauncher`] follows.
    Launcher {
        /// [`PROTOCOL`].
        protocol: u32,
    },
    /// First and last: here is no worker but who tells how one ended that was a unit of systemd.
    Report {
        /// [`PROTOCOL`].
        protocol: u32,
        /// What it knows.
        report: Report,
    },
}

/// From a launcher: the processes that it is the parent of, and what became of what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromLauncher {
    /// It has started a process, and will tell how that ended.
    Started {
        /// The process.
        pid: i32,
    },
    /// A process that it has started is dead and reaped.
    Buried(Burial),
    /// A worker that has served will come, if it lives by itself, and else started again: told to a gateway that has not
    /// seen it.
    Awaited {
        /// Its name.
        worker: String,
    },
    /// A worker is not started for a while, because it keeps dying.
    Quarantined(Quarantine),
    /// A worker that was not started for a while is started.
    Released {
        /// Its name.
        worker: String,
    },
    /// How far it is in replacing workers.
    Restarting(Rollout),
    /// What became of an order.
    Answered {
        /// Which.
        request: u64,
        /// Done, or begun if it takes long; or why not.
        answer: Result<(), LaunchRefusal>,
    },
}

/// To a launcher.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToLauncher {
    /// A child of it is a worker that can be given work.
    Ready {
        /// The process.
        pid: i32,
    },
    /// Somebody asks for something. To be answered at once.
    Order {
        /// A number for the answer.
        request: u64,
        /// What.
        order: LaunchOrder,
    },
}

/// What a parent knows of its child's death.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Burial {
    /// The process.
    pub pid: i32,
    /// The name under which it was started.
    pub name: String,
    /// How it ended.
    pub cause: DeathCause,
    /// How often a process of this name had died before, if that is counted.
    pub restarts: Option<u32>,
    /// What it wrote last to its standard error, oldest first: at most [`MAX_LAST_LINES`] and [`MAX_LAST_BYTES`].
    pub last_lines: Vec<String>,
}

/// What systemd knows of the end of a worker that was a unit of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Which life of the unit. The worker has said the same in its hello, if it came so far.
    pub invocation: Invocation,
    /// The name under which it was started.
    pub name: String,
    /// How it ended.
    pub cause: DeathCause,
    /// Whether systemd takes it for a failure: what was stopped has not failed.
    pub is_failure: bool,
}

/// What a worker says of itself after its hello.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum News {
    /// It is loading still, and this is what it does.
    Loading {
        /// In words, such as `setting up Whisper`.
        step: String,
    },
    /// It knows which node types it will run. They replace those of its hello.
    Offers {
        /// All of them.
        nodes: Vec<NodeInfo>,
    },
    /// It has loaded, and runs nodes.
    Ready,
    /// It wants to go: it is given no more sessions, and is dismissed when those that it has are over.
    Leaving,
}

/// To a worker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// The answer to a hello. Comes with the domain file, and the words and the payload of the worker's own pool.
    Welcome(Welcome),
    /// The other answer to a hello, or to what comes later: there is no place for this worker.
    Refused {
        /// [`PROTOCOL`] of the gateway.
        protocol: u32,
        /// Why, and what to do.
        reason: String,
    },
    /// Another process may be sent to. Comes with its doorbell.
    PeerUp {
        /// Which.
        member: Member,
    },
    /// Another process is dead.
    PeerDown {
        /// Which.
        member: Member,
    },
    /// A frame pool of another process. Comes with its words and its payload, the latter read-only.
    PoolUp {
        /// Which.
        pool: PoolId,
        /// Who produces into it.
        owner: Member,
        /// Its blocks.
        geometry: Geometry,
    },
    /// A frame pool is destroyed.
    PoolDown {
        /// Which.
        pool: PoolId,
    },
    /// A step of a link's handshake is to be done.
    Do(Step),
    /// The answer to [`News::Leaving`]: no session is left, and none will come.
    Dismissed,
    /// It has joined and loaded, and the next session may be given to it.
    InService,
    /// About a stage.
    Stage(StageCommand),
}

/// Who a worker is and what it can do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Its name, for people; a restarted worker has its predecessor's.
    pub name: String,
    /// What it is: `rust`, `python`.
    pub kind: String,
    /// The node types that it runs; none where it does not know them yet.
    pub nodes: Vec<NodeInfo>,
    /// What it does before it is ready; none if it is.
    pub loading: Option<String>,
    /// Which life of a unit of systemd it is, if it is one: it is started again, and its end is reported.
    pub invocation: Option<Invocation>,
}

/// What a worker is given.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Who the worker is in the domain.
    pub member: Member,
    /// Where the domain's links are.
    pub transport: TransportConfig,
    /// The worker's own pool.
    pub pool: PoolId,
    /// The blocks of that.
    pub geometry: Geometry,
}

/// A step of a link's handshake (see [`crate::link`]), for one end of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Step {
    /// The receiver creates its end.
    Subscribe {
        /// The sender.
        from: Member,
    },
    /// The sender creates its end and sees the receiver's.
    Publish {
        /// The receiver.
        to: Member,
    },
    /// The receiver sees the sender's end, and polls from now on.
    Settle {
        /// The sender.
        from: Member,
    },
}

/// What a worker is to do for a stage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum StageCommand {
    /// Set up nodes.
    Open(StagePlan),
    /// Take what comes on inputs from others, who begin anew: what had come before is not taken twice.
    Rewire {
        /// Which.
        stage: StageId,
        /// To be repeated in the answer.
        turn: u32,
        /// The inputs, each once.
        feeders: Vec<StageFeeder>,
    },
    /// Drop everything of the stage, at once.
    Close {
        /// Which.
        stage: StageId,
    },
}

/// What a worker says of a stage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum StageReply {
    /// The nodes stand.
    Opened {
        /// Which.
        stage: StageId,
    },
    /// What comes from the new feeders is taken, and nothing from those before.
    Rewired {
        /// Which.
        stage: StageId,
        /// As it was asked.
        turn: u32,
    },
    /// The stage cannot go on: a node could not be made, failed or panicked.
    Failed {
        /// Which.
        stage: StageId,
        /// Why.
        fault: Fault,
    },
    /// The stage has flushed: what was measured, by node id.
    Reported {
        /// Which.
        stage: StageId,
        /// By node id.
        nodes: BTreeMap<String, NodeReport>,
    },
    /// The stage is to be closed, and no call of its nodes is under way: it waits for a thread that drops them.
    Waits {
        /// Which.
        stage: StageId,
    },
    /// Everything of the stage is dropped: its edges may be used again.
    Closed {
        /// Which.
        stage: StageId,
    },
}

/// One worker's share of a session: some of the pipeline's nodes, and the edges that lead in, through and out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StagePlan {
    /// What commands, and frames for this stage, call it: every stage of a session has another id.
    pub stage: StageId,
    /// The session that it is a part of, as its client knows it.
    pub session: SessionId,
    /// The nodes to run.
    pub nodes: Vec<StageNode>,
    /// Edges from other processes.
    pub inputs: Vec<StageInput>,
    /// Edges between nodes of this stage.
    pub inner: Vec<(NodeIndex, StageFeed)>,
    /// Edges to other processes, the gateway included.
    pub outputs: Vec<StageOutput>,
    /// Frames under way on one edge.
    pub window: u32,
    /// Outputs of one call of a node.
    pub max_outputs_per_call: u32,
    /// How long a node may wait for a free block, in milliseconds.
    pub loan_timeout_ms: u64,
    /// Bytes of pool memory that one output may take.
    pub memory_bytes: u64,
}

/// One node to run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageNode {
    /// Its place in the pipeline.
    pub index: NodeIndex,
    /// Its id in the manifest.
    pub id: String,
    /// Its registered type.
    pub node_type: String,
    /// Its parameters: a JSON object.
    pub params: String,
    /// The names of its type's ports.
    pub ports: Vec<String>,
}

/// One of the feeds of a node of the stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageFeed {
    /// The node.
    pub to: NodeIndex,
    /// Which of its feeds, counted from 0: the order in which a node that has no ports gets what comes on several.
    pub number: u16,
    /// The port, by its place in [`StageNode::ports`]; none where there are none.
    pub port: Option<u16>,
}

/// An edge into a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageInput {
    /// Which edge.
    pub edge: EdgeRef,
    /// Who sends.
    pub from: Member,
    /// What it feeds.
    pub feed: StageFeed,
}

/// An edge out of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageOutput {
    /// Which edge.
    pub edge: EdgeRef,
    /// Which node feeds it.
    pub from: NodeIndex,
    /// Who receives.
    pub to: Member,
    /// The receiving stage; this one where the gateway receives.
    pub stage: StageId,
}

/// Who feeds an input of a stage from here on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageFeeder {
    /// The input, by its place in the plan.
    pub input: u16,
    /// Which edge.
    pub edge: EdgeRef,
    /// Who sends.
    pub from: Member,
}

// === impl Burial ===

impl Burial {
    /// Whether it keeps to the bounds of its lines.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let bytes: usize = self.last_lines.iter().map(String::len).sum();
        self.last_lines.len() <= MAX_LAST_LINES && bytes <= MAX_LAST_BYTES
    }
}

// === impl StageReply ===

impl StageReply {
    /// The stage that it is about.
    #[must_use]
    pub const fn stage(&self) -> StageId {
        match self {
            Self::Opened { stage }
            | Self::Rewired { stage, .. }
            | Self::Failed { stage, .. }
            | Self::Reported { stage, .. }
            | Self::Waits { stage }
            | Self::Closed { stage } => *stage,
        }
    }
}
