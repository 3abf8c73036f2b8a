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

mod edges;
mod hub;
mod machine;
mod measures;
mod placement;
mod quarantines;
mod registry;
mod runner;
mod session;
mod status;
mod stragglers;
mod waiting;
mod wiring;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remotemedia_core::launching::{LaunchOrder, LaunchRefusal};
use remotemedia_core::limits::Limits;
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::host::{Host, HostConfig, HostError};
use remotemedia_ipc::memory::{Geometry, GeometryError};
use tokio::sync::Semaphore;

pub use runner::PipelineRunner;
pub use session::RunningSession;
pub use status::{
    DeathStatus, LossStatus, PoolStatus, QuarantineStatus, RuntimeStatus, SessionState, SessionStatus,
    WorkerState, WorkerStatus,
};

use hub::Hub;

/// A domain with its workers. Dropping it ends the domain; [`Self::shutdown`] lets sessions finish first.
#[derive(Debug)]
pub struct Runtime {
    hub: Hub,
    limits: Arc<Limits>,
    /// Room for sessions, shared by all runners.
    room: Arc<Semaphore>,
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
    /// Descriptors that a link holds: with the credit window, this bounds the sessions between two processes.
    pub link_capacity: usize,
}

/// A runtime cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configured memory is too little for the configured limits.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
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
            gateway_pool_bytes: 192 << 20,
            worker_pool_bytes: 96 << 20,
            link_capacity: 4096,
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
        let host = Host::start(HostConfig {
            runtime_dir: config.runtime_dir,
            gateway_pool: Geometry::for_budget(config.gateway_pool_bytes, largest)?,
            worker_pool: Geometry::for_budget(config.worker_pool_bytes, largest)?,
            link_capacity: config.link_capacity,
        })?;
        let limits = Arc::new(config.limits);
        let hub = Hub::start(host, Arc::clone(&limits), config.link_capacity).map_err(StartError::Thread)?;
        let room = Arc::new(Semaphore::new(limits.max_sessions));
        Ok(Self { hub, limits, room })
    }

    /// What runs pipelines here. Cheap to clone.
    #[must_use]
    pub fn runner(&self) -> PipelineRunner {
        PipelineRunner::new(self.hub.handle(), Arc::clone(&self.limits), Arc::clone(&self.room))
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
