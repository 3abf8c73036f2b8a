//! What is told as a status, what inside the reply, and what either says.

use std::collections::BTreeMap;

use remotemedia_core::Limits;
use remotemedia_core::fault::{DeathCause, Fault, Unavailability, WorkerLost};
use remotemedia_gateway::rescue::error_in;
use remotemedia_protos::v1::execute_response::Outcome;
use remotemedia_protos::v1::pipeline_control_client::PipelineControlClient;
use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use remotemedia_protos::v1::streaming_pipeline_service_client::StreamingPipelineServiceClient;
use remotemedia_protos::v1::webrtc::HealthCheckRequest;
use remotemedia_protos::v1::webrtc::web_rtc_signaling_client::WebRtcSignalingClient;
use remotemedia_protos::v1::{
    ErrorResponse, ErrorType, ExecuteRequest, ExecuteResponse, ExecutionResult, StreamResponse,
    VersionRequest,
};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::loopback::{Loopback, Manner};
use crate::plant::{Plant, chunk, init, manifest, text};

#[tokio::test]
async fn an_oversize_request_is_resource_exhausted_and_the_limit_is_named() {
    let limits = Limits { max_message_bytes: 1_000, ..Limits::default() };
    let plant = Plant::with(Loopback::new(Manner::Echo), limits).await;
    let status = execute(&plant, request(2_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("over the limit of 1000 bytes"), "{}", status.message());
    let error = error_in(&status).unwrap();
    assert_eq!(error.error_type(), ErrorType::ResourceLimit);
    assert_eq!(error.message, status.message());
}

#[tokio::test]
async fn an_oversize_chunk_is_resource_exhausted_and_its_session_is_cancelled() {
    let limits = Limits { max_message_bytes: 1_000, ..Limits::default() };
    let plant = Plant::with(Loopback::new(Manner::Echo), limits).await;
    let requests = tokio_stream::iter([init(), chunk(0, 2_000)]);
    let mut client = StreamingPipelineServiceClient::new(plant.grpc.clone());
    let mut responses = client.stream_pipeline(requests).await.unwrap().into_inner();
    let status = loop {
        match responses.message().await {
            Ok(Some(StreamResponse { .. })) => {}
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(error_in(&status).unwrap().error_type(), ErrorType::ResourceLimit);
    plant.backend.ends().wait_for(|ends| ends.cancelled == 1).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_message_are_an_invalid_argument() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    // A version where a manifest is expected.
    let garbage = VersionRequest { client_version: "no manifest at all".to_owned() };
    let status = call::<_, ExecuteResponse>(
        &plant,
        "/remotemedia.v1.PipelineExecutionService/ExecutePipeline",
        garbage,
    )
    .await
    .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(error_in(&status).unwrap().error_type(), ErrorType::Validation);
}

#[tokio::test]
async fn what_is_not_served_says_so_and_why() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let check = |status: Status, expect: &str| {
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(expect), "{:?} does not say {expect:?}", status.message());
        assert!(error_in(&status).is_some());
    };
    let attach = PipelineControlClient::new(plant.grpc.clone()).attach(tokio_stream::empty()).await;
    check(attach.unwrap_err(), "PipelineControl.Attach is not served: sessions cannot be attached to");
    let health =
        WebRtcSignalingClient::new(plant.grpc.clone()).health_check(HealthCheckRequest::default()).await;
    check(health.unwrap_err(), "there is no WebRTC transport");
    let unknown =
        call::<_, ExecuteResponse>(&plant, "/remotemedia.v2.Service/Method", VersionRequest::default());
    check(unknown.await.unwrap_err(), "not in the contract");
}

#[tokio::test]
async fn a_fault_of_the_pipeline_is_told_inside_the_reply() {
    let lost = WorkerLost {
        node: "pass".to_owned(),
        worker: "rust-1".to_owned(),
        pid: 7,
        cause: DeathCause::Signal(9),
        restarts: 0,
        last_lines: Vec::new(),
        replays: 0,
    };
    let plant = Plant::of(Loopback::new(Manner::Refuse(lost.into()))).await;
    let error = error_of(execute(&plant, request(1)).await);
    assert_eq!(error.error_type(), ErrorType::NodeExecution);
    assert_eq!(error.failing_node_id, "pass");
    assert_eq!(error.message, "node 'pass' is gone: worker 'rust-1' (pid 7) was killed by SIGKILL");
}

#[tokio::test]
async fn a_service_that_cannot_take_work_is_unavailable_and_says_when_to_come_back() {
    for state in [Unavailability::Full, Unavailability::NoWorkers, Unavailability::ShuttingDown] {
        let fault = Fault::Unavailable { state, retry_after_ms: 250 };
        let plant = Plant::of(Loopback::new(Manner::Refuse(fault))).await;
        let status = execute(&plant, request(1)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "250");
        assert!(error_in(&status).unwrap().message.contains(&state.to_string()));
    }
}

#[tokio::test]
async fn an_execution_beyond_its_limit_of_time_is_a_deadline_exceeded() {
    let fault = Fault::Deadline { limit_ms: 5, waiting_for: "the results".to_owned() };
    let plant = Plant::of(Loopback::new(Manner::Refuse(fault))).await;
    let status = execute(&plant, request(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(error_in(&status).unwrap().error_type(), ErrorType::ResourceLimit);
}

#[tokio::test]
async fn another_version_of_the_protocol_is_a_mismatch() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let of_client = |version: &str| ExecuteRequest { client_version: version.to_owned(), ..request(1) };
    let error = error_of(execute(&plant, of_client("v2")).await);
    assert_eq!(error.error_type(), ErrorType::VersionMismatch);
    assert!(matches!(execute(&plant, of_client("v1.3")).await.unwrap(), Outcome::Result(_)));
}

#[tokio::test]
async fn the_version_tells_what_can_be_run() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let mut client = PipelineExecutionServiceClient::new(plant.grpc.clone());
    let answer =
        client.get_version(VersionRequest { client_version: "v3".to_owned() }).await.unwrap().into_inner();
    assert!(!answer.compatible);
    assert!(answer.compatibility_message.contains("v1"), "{}", answer.compatibility_message);
    let info = answer.version_info.unwrap();
    assert_eq!((info.protocol_version.as_str(), info.supported_protocols), ("v1", vec!["v1".to_owned()]));
    assert_eq!(info.supported_node_types, ["PassThrough"]);
    assert!(info.build_timestamp.ends_with('Z'), "{}", info.build_timestamp);
}

#[tokio::test]
async fn a_result_is_keyed_by_sink_and_measured() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let Outcome::Result(result) = execute(&plant, request(5)).await.unwrap() else { panic!("not a result") };
    let ExecutionResult { data_outputs, metrics, node_results, .. } = result;
    assert_eq!(data_outputs, BTreeMap::from([("pass".to_owned(), text(5))]));
    assert!(metrics.unwrap().wall_time_ms > 0.0);
    assert_eq!(node_results[0].node_id, "pass");
}

async fn execute(plant: &Plant, request: ExecuteRequest) -> Result<Outcome, Status> {
    let mut client = PipelineExecutionServiceClient::new(plant.grpc.clone());
    client.execute_pipeline(request).await.map(|answer| answer.into_inner().outcome.unwrap())
}

async fn call<Asked, Answered>(plant: &Plant, path: &'static str, asked: Asked) -> Result<Answered, Status>
where
    Asked: prost::Message + Send + Sync + 'static,
    Answered: prost::Message + Default + Send + Sync + 'static,
{
    let mut client = Grpc::new(plant.grpc.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<Asked, Answered>::default();
    let answer = client.unary(Request::new(asked), PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner())
}

fn request(bytes: usize) -> ExecuteRequest {
    ExecuteRequest {
        manifest: Some(manifest()),
        data_inputs: BTreeMap::from([("pass".to_owned(), text(bytes))]),
        ..ExecuteRequest::default()
    }
}

fn error_of(answer: Result<Outcome, Status>) -> ErrorResponse {
    match answer.unwrap() {
        Outcome::Error(error) => error,
        Outcome::Result(result) => panic!("not an error: {result:?}"),
    }
}
