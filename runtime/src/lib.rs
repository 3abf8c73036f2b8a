//! A pool of workers as one thing to run pipelines on.
//!
//! ```text
//! PipelineRunner ──Open, Close──▶ hub thread ──control──▶ workers
//!      │                             │  ▲
//!      │ frames, straight into       │  └── arrivals, answers, deaths
//!      │ the links: no hop           ▼
//!      └──────────────────────▶ RunningSession: one state machine, driven by whoever sends and receives
//! ```
//!
//! The hub thread owns the [`remotemedia_ipc::host::Host`] and everything that concerns more than one session: which
//! workers there are, where nodes are placed, which edges are in use, who is told of a death. A session belongs to its
//! user: nothing happens in it that its user's `send` and `receive` do not do, so a user who does not receive stops
//! nobody but itself.
//!
//! There is no transport here: the gateway stands on this, and so may any program.

#![forbid(unsafe_code)]

mod captures;
mod edges;
mod hub;
mod line;
mod measures;
mod placement;
mod poison;
mod quarantines;
mod quotas;
mod registry;
mod runner;
mod session;
mod status;
mod stragglers;
mod survival;
mod waiting;
mod wiring;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remotemedia_core::launching::{LaunchOrder, LaunchRefusal};
use remotemedia_core::limits::Limits;
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::host::{Host, HostConfig, HostError, PoolBudget};
use remotemedia_ipc::memory::{Geometry, GeometryError, budget};
use tokio::sync::Semaphore;

pub use captures::CaptureConfig;
pub use runner::PipelineRunner;
pub use session::RunningSession;
pub use status::{
    DeathStatus, LossStatus, PoolStatus, QuarantineStatus, RuntimeStatus, SessionState, SessionStatus,
    WorkerState, WorkerStatus,
};

use captures::Captures;
use hub::Hub;
use poison::Poisons;
use quotas::Quotas;

/// A domain with its workers. Dropping it ends the domain; [`Self::shutdown`] lets sessions finish first.
#[derive(Debug)]
pub struct Runtime {
    hub: Hub,
    limits: Arc<Limits>,
    /// Room for sessions, shared by all runners.
    room: Arc<Semaphore>,
    /// Content that kills workers, likewise.
    poisons: Arc<Poisons>,
    /// What connections hold, likewise.
    quotas: Arc<Quotas>,
}

/// What a runtime is made of.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// A directory of this user alone (0700), on tmpfs: the control socket and the links' files.
    pub runtime_dir: PathBuf,
    /// What is allowed.
    pub limits: Limits,
    /// Memory for frames that enter, reserved at the start.
    pub gateway_pool_bytes: u64,
    /// Memory for the frames of each worker, reserved when it joins.
    pub worker_pool_bytes: u64,
    /// Workers for whose frames there must be memory at the start.
    pub expected_workers: u16,
    /// Memory for all frames together; beyond it no worker joins. None: no bound but the machine's.
    pub budget_bytes: Option<u64>,
    /// Descriptors that a link holds: with the credit window, this bounds the sessions between two processes.
    pub link_capacity: usize,
    /// Where inputs are kept that killed too many workers; none are, if there is no place.
    pub captures: Option<CaptureConfig>,
    /// Whether clients could reach a gateway here before: who comes in its first seconds waits for workers that are on their
    /// way. It is known by itself where the gateway before was killed.
    pub is_successor: bool,
}

/// A runtime cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configured memory is too little for the configured limits.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The budget is less than its parts.
    #[error(
        "the frame pools' budget of {budget} bytes is less than the {needed} that the gateway and {workers} workers take: raise budget_bytes, or lower gateway_bytes, worker_bytes or the number of workers"
    )]
    Budget {
        /// As configured, in bytes.
        budget: u64,
        /// What the parts add up to, in bytes.
        needed: u64,
        /// Workers that are expected.
        workers: u16,
    },
    /// The domain cannot be set up.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The hub's thread did not start.
    #[error("cannot start the hub's thread: {0}")]
    Thread(std::io::Error),
}

// === impl RuntimeConfig ===

impl RuntimeConfig {
    /// The defaults, in this directory.
    #[must_use]
    pub fn new(runtime_dir: PathBuf) -> Self {
        Self {
            runtime_dir,
            limits: Limits::default(),
            gateway_pool_bytes: budget::GATEWAY_POOL_BYTES,
            worker_pool_bytes: budget::WORKER_POOL_BYTES,
            expected_workers: 1,
            budget_bytes: None,
            link_capacity: 4096,
            captures: None,
            is_successor: false,
        }
    }
}

// === impl Runtime ===

impl Runtime {
    /// Sets up the domain and waits for workers to join.
    ///
    /// # Errors
    /// Another gateway serves in this directory, or there is no memory.
    pub fn start(config: RuntimeConfig) -> Result<Self, StartError> {
        let largest = u64::try_from(config.limits.max_message_bytes).unwrap_or(u64::MAX);
        let gateway_pool = Geometry::for_budget(config.gateway_pool_bytes, largest)?;
        let worker_pool = Geometry::for_budget(config.worker_pool_bytes, largest)?;
        let for_workers = worker_pool.reserved_bytes().saturating_mul(config.expected_workers.into());
        let needed = gateway_pool.reserved_bytes().saturating_add(for_workers);
        if let Some(budget) = config.budget_bytes.filter(|budget| *budget < needed) {
            return Err(StartError::Budget { budget, needed, workers: config.expected_workers });
        }
        let host = Host::start(HostConfig {
            runtime_dir: config.runtime_dir,
            budget: PoolBudget {
                at_start: config.budget_bytes.unwrap_or(needed),
                at_most: config.budget_bytes.unwrap_or(u64::MAX),
            },
            gateway_pool,
            worker_pool,
            link_capacity: config.link_capacity,
        })?;
        let limits = Arc::new(config.limits);
        let hub = Hub::start(host, Arc::clone(&limits), config.link_capacity, config.is_successor)
            .map_err(StartError::Thread)?;
        let room = Arc::new(Semaphore::new(limits.max_sessions));
        let poisons =
            Arc::new(Poisons::new(limits.max_replays, limits.poison(), config.captures.map(Captures::new)));
        let quotas = Arc::new(Quotas::new(limits.max_connection_pool_percent));
        Ok(Self { hub, limits, room, poisons, quotas })
    }

    /// What runs pipelines here. Cheap to clone.
    #[must_use]
    pub fn runner(&self) -> PipelineRunner {
        PipelineRunner::new(
            self.hub.handle(),
            Arc::clone(&self.limits),
            Arc::clone(&self.room),
            Arc::clone(&self.poisons),
            Arc::clone(&self.quotas),
        )
    }

    /// The node types that workers offer now, in order of names.
    #[must_use]
    pub fn node_infos(&self) -> Vec<NodeInfo> {
        self.hub.handle().node_infos()
    }

    /// What is going on; none if the runtime is shutting down.
    pub async fn status(&self) -> Option<RuntimeStatus> {
        self.hub.handle().status().await
    }

    /// When the hub has gone round once more, a tick later at most: it hears workers and gives orders out.
    pub fn turned(&self) -> impl Future<Output = ()> + Send + use<> {
        let hub = self.hub.handle();
        async move { hub.turned().await }
    }

    /// Asks the launcher of the workers for something. It answers at once.
    ///
    /// # Errors
    /// It refuses, or there is none.
    pub async fn order(&self, order: LaunchOrder) -> Result<(), LaunchRefusal> {
        self.hub.handle().ask_launcher(order).await
    }

    /// Takes no new sessions, lets those that run finish until the deadline, and ends the domain.
    pub async fn shutdown(self, deadline: Duration) {
        self.hub.shutdown(deadline).await;
    }
}
