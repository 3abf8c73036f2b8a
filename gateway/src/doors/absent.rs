//! Services that the contract defines and this version does not serve: they say so, and why.

use remotemedia_protos::v1::pipeline_control_server::PipelineControl;
use remotemedia_protos::v1::webrtc::web_rtc_signaling_server::WebRtcSignaling;
use remotemedia_protos::v1::webrtc::{
    GetPeersRequest, GetPeersResponse, HealthCheckRequest, HealthCheckResponse, SignalingRequest,
    SignalingResponse,
};
use remotemedia_protos::v1::{ControlEvent, ControlFrame};
use tokio_stream::Empty;
use tonic::{Request, Response, Status, Streaming};

use crate::rescue::not_served;

pub(super) struct Absent;

const NO_TAPS: &str = "sessions cannot be attached to from outside in this version";
const NO_WEBRTC: &str = "there is no WebRTC transport in this version; use StreamPipeline";

#[tonic::async_trait]
impl PipelineControl for Absent {
    type AttachStream = Empty<Result<ControlEvent, Status>>;

    async fn attach(
        &self,
        _frames: Request<Streaming<ControlFrame>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Err(not_served("PipelineControl.Attach", NO_TAPS))
    }
}

#[tonic::async_trait]
impl WebRtcSignaling for Absent {
    type SignalStream = Empty<Result<SignalingResponse, Status>>;

    async fn signal(
        &self,
        _requests: Request<Streaming<SignalingRequest>>,
    ) -> Result<Response<Self::SignalStream>, Status> {
        Err(not_served("WebRtcSignaling.Signal", NO_WEBRTC))
    }

    async fn get_peers(
        &self,
        _request: Request<GetPeersRequest>,
    ) -> Result<Response<GetPeersResponse>, Status> {
        Err(not_served("WebRtcSignaling.GetPeers", NO_WEBRTC))
    }

    async fn health_check(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Err(not_served("WebRtcSignaling.HealthCheck", NO_WEBRTC))
    }
}
