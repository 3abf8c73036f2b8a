//! The methods of the contract.

mod absent;
mod execute;
mod health;
mod outputs;
mod reflection;
mod stream;
mod version;

use std::sync::Arc;

use remotemedia_core::Limits;
use remotemedia_protos::v1::pipeline_control_server::PipelineControlServer;
use remotemedia_protos::v1::pipeline_execution_service_server::PipelineExecutionServiceServer;
use remotemedia_protos::v1::streaming_pipeline_service_server::StreamingPipelineServiceServer;
use remotemedia_protos::v1::webrtc::web_rtc_signaling_server::WebRtcSignalingServer;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::backend::Backend;
use crate::files::FileRoots;
use crate::health::Health;
use crate::life::LifeWatch;
use crate::measure::Metrics;
use crate::rescue::Rescue;

/// What every door leans on.
pub(crate) struct Doors<B> {
    /// Runs the pipelines.
    pub(crate) backend: Arc<B>,
    /// What may be asked.
    pub(crate) limits: Limits,
    /// Which files may be named.
    pub(crate) files: FileRoots,
    /// When to stop.
    pub(crate) life: LifeWatch,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// What probes are told.
    pub(crate) health: watch::Receiver<Health>,
}

/// Of a question to health or reflection, which holds a name.
const MAX_QUESTION_BYTES: usize = 16 * 1_024;

// === impl Doors ===

// By hand, since the derived one would ask for `B: Clone`.
impl<B> Clone for Doors<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            limits: self.limits.clone(),
            files: self.files.clone(),
            life: self.life.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
        }
    }
}

impl<B: Backend> Doors<B> {
    /// All services of the contract, those too that only say that they are not served; health and reflection.
    pub(crate) fn routes(self) -> Routes {
        let bytes = self.limits.max_message_bytes;
        let health = HealthServer::new(health::HealthDoor::new(self.health.clone()));
        let routes =
            Routes::new(PipelineExecutionServiceServer::new(self.clone()).max_decoding_message_size(bytes))
                .add_service(StreamingPipelineServiceServer::new(self).max_decoding_message_size(bytes))
                .add_service(PipelineControlServer::new(absent::Absent))
                .add_service(WebRtcSignalingServer::new(absent::Absent))
                .add_service(health.max_decoding_message_size(MAX_QUESTION_BYTES));
        reflection::add_to(routes).prepare()
    }

    /// The most bytes of an answer: a full message that a pipeline widened fourfold, as 8-bit audio becomes float.
    const fn max_answer_bytes(&self) -> usize {
        self.limits.max_message_bytes.saturating_mul(4)
    }

    const fn rescue(&self) -> Rescue {
        Rescue::new(self.limits.max_message_bytes)
    }
}
