//! What the doors stand on.

use std::future::Future;

use remotemedia_core::launching::{LaunchOrder, LaunchRefusal};
use remotemedia_core::node::NodeInfo;
use remotemedia_core::transport::PipelineTransport;
use remotemedia_runtime::{PipelineRunner, Runtime, RuntimeStatus};

/// Whatever runs pipelines, and what it can tell of itself.
pub trait Backend: Send + Sync + 'static {
    /// Runs the pipelines.
    type Transport: PipelineTransport<Session: 'static> + 'static;

    /// The way to run pipelines.
    fn runner(&self) -> Self::Transport;

    /// The node types that can be run now, by name.
    fn node_infos(&self) -> Vec<NodeInfo>;

    /// What is going on; none if it is going away.
    fn status(&self) -> impl Future<Output = Option<RuntimeStatus>> + Send;

    /// Passes an order on to the launcher that it concerns.
    fn order(&self, order: LaunchOrder) -> impl Future<Output = Result<(), LaunchRefusal>> + Send;
}

impl Backend for Runtime {
    type Transport = PipelineRunner;

    fn runner(&self) -> PipelineRunner {
        Self::runner(self)
    }

    fn node_infos(&self) -> Vec<NodeInfo> {
        Self::node_infos(self)
    }

    async fn status(&self) -> Option<RuntimeStatus> {
        Self::status(self).await
    }

    async fn order(&self, order: LaunchOrder) -> Result<(), LaunchRefusal> {
        Self::order(self, order).await
    }
}
