//! `grpc.health.v1`: the health of the whole, and of each service, which is the same.

use std::pin::Pin;

use remotemedia_protos::v1::pipeline_execution_service_server::SERVICE_NAME as EXECUTION;
use remotemedia_protos::v1::streaming_pipeline_service_server::SERVICE_NAME as STREAMING;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as HealthService;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::health::Health;
use crate::rescue;

/// Tells the health.
pub(super) struct HealthDoor(watch::Receiver<Health>);

/// Where a check's answer says why; the contract of `grpc.health.v1` has no field for it.
const REASON: &str = "x-health-reason";

// === impl HealthDoor ===

impl HealthDoor {
    pub(super) const fn new(health: watch::Receiver<Health>) -> Self {
        Self(health)
    }
}

#[tonic::async_trait]
impl HealthService for HealthDoor {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if !is_served(service) {
            return Err(rescue::of_unknown_service(service));
        }
        let health = self.0.borrow().clone();
        let mut answer = Response::new(response(&health));
        if let Some(reason) = health.reason()
            && let Ok(reason) = MetadataValue::try_from(reason)
        {
            answer.metadata_mut().insert(REASON, reason);
        }
        Ok(answer)
    }

    /// Of a service that is not known, the protocol wants no error but a word, since it may yet come.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !is_served(&request.get_ref().service) {
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            let for_ever = tokio_stream::once(Ok(unknown)).chain(tokio_stream::pending());
            return Ok(Response::new(Box::pin(for_ever)));
        }
        let health = WatchStream::new(self.0.clone());
        Ok(Response::new(Box::pin(health.map(|health| Ok(response(&health))))))
    }
}

fn is_served(service: &str) -> bool {
    ["", EXECUTION, STREAMING].contains(&service)
}

fn response(health: &Health) -> HealthCheckResponse {
    let status = match health {
        Health::Serving { .. } => ServingStatus::Serving,
        Health::NotServing { .. } => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}
