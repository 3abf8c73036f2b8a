//! What is going on in a runtime, for people and their tools.

use remotemedia_core::launching::{Quarantine, Rollout};
use serde::Serialize;

use crate::registry::Loss;

/// A snapshot.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct RuntimeStatus {
    /// The workers, by slot.
    pub workers: Vec<WorkerStatus>,
    /// The frame pools, the gateway's own first.
    pub frame_pools: Vec<PoolStatus>,
    /// The sessions, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Workers that have died, by cause.
    pub deaths: Vec<DeathStatus>,
    /// Which worker died last and of what, in words.
    pub last_death: Option<String>,
    /// The latest death of each worker's name, in order of names.
    pub losses: Vec<LossStatus>,
    /// Times that work whose worker died was given to another.
    pub replays: u64,
    /// Times that work was given up because it had killed too many.
    pub poisons: u64,
    /// The workers that are not started for a while, in order of names.
    pub quarantines: Vec<QuarantineStatus>,
    /// How far the launcher is in replacing workers, or how far it came last; none if it never did.
    pub restart: Option<Rollout>,
    /// How many quarantines have begun.
    pub quarantines_begun: u64,
}

/// Workers that died of one cause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DeathStatus {
    /// A signal's name, `exit`, `oom`, `hang`, `protocol` or `unknown`.
    pub cause: &'static str,
    /// How many.
    pub count: u64,
}

/// The latest death of a worker of some name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LossStatus {
    /// The name.
    pub worker: String,
    /// Which process it was.
    pub pid: i32,
    /// How it ended, in words.
    pub cause: String,
    /// Whether it had loaded, or died before.
    pub ready: bool,
    /// How many of this name have died.
    pub deaths: u32,
    /// What it wrote last to its standard error; empty where no launcher told.
    pub last_lines: Vec<String>,
}

/// A worker that keeps dying, and is not started for a while.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct QuarantineStatus {
    /// Its name.
    pub worker: String,
    /// How often it has died in a row.
    pub deaths: u32,
    /// How it died last, in words.
    pub cause: String,
    /// What it wrote last to its standard error.
    pub last_line: String,
    /// How long it has not been started, in seconds.
    pub since_s: f64,
    /// How long until it is tried again, in seconds.
    pub left_s: f64,
    /// Why, in words that do not change as time passes.
    pub reason: String,
    /// The command that ends it.
    pub remedy: String,
}

/// One worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WorkerStatus {
    /// Its process id.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// `rust` or `python`.
    pub kind: String,
    /// Whether it is given work.
    pub state: WorkerState,
    /// What it does while it is loading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Sessions of which it runs nodes.
    pub sessions: usize,
    /// How often a worker of this name has died.
    pub restarts: u32,
    /// The node types that it offers.
    pub nodes: Vec<String>,
}

/// Whether a worker is given work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Not before it has loaded.
    Loading,
    /// It is.
    Ready,
    /// A call of one of its nodes has not come back by its client's deadline: it gets some where no other worker can.
    Late,
    /// Nor in the time that the service allows: it gets none until the call comes back.
    Stuck,
    /// It goes when its sessions are over.
    Leaving,
    /// It is refused, or being killed.
    Condemned,
}

/// One frame pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PoolStatus {
    /// Its number.
    pub id: u32,
    /// The worker that produces into it, `gateway`, or `dead`.
    pub owner: String,
    /// Memory reserved, in bytes.
    pub bytes: u64,
    /// Bytes of the blocks in use.
    pub bytes_in_use: u64,
    /// Blocks of all sizes.
    pub blocks: u32,
    /// Blocks that somebody holds.
    pub blocks_in_use: u32,
    /// `active`, or `retired`: its producer is dead and others still hold some of it.
    pub state: &'static str,
}

/// One session.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SessionStatus {
    /// Its name.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// How far it is.
    pub state: SessionState,
    /// Since when it is there, in seconds.
    pub age_s: f64,
    /// The workers that run its nodes.
    pub workers: Vec<String>,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Links are made, nodes set up.
    Opening,
    /// Its user may send.
    Open,
    /// It is over, and workers are dropping what they have of it.
    Closing,
}

// === impl WorkerState ===

impl WorkerState {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Loading, Self::Ready, Self::Late, Self::Stuck, Self::Leaving, Self::Condemned];
}

// === impl LossStatus ===

impl LossStatus {
    pub(crate) fn of(worker: &str, loss: &Loss) -> Self {
        Self {
            worker: worker.to_owned(),
            pid: loss.pid,
            cause: loss.cause.to_string(),
            ready: loss.ready,
            deaths: loss.deaths,
            last_lines: loss.last_lines.clone(),
        }
    }
}

// === impl QuarantineStatus ===

impl From<Quarantine> for QuarantineStatus {
    fn from(quarantine: Quarantine) -> Self {
        let (reason, remedy) = (quarantine.reason(), quarantine.remedy());
        let Quarantine { worker, deaths, cause, last_line, since, left } = quarantine;
        let (since_s, left_s) = (since.as_secs_f64(), left.as_secs_f64());
        Self { worker, deaths, cause: cause.to_string(), last_line, since_s, left_s, reason, remedy }
    }
}
