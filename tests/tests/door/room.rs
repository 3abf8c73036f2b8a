//! How many may come at once.

use std::time::Duration;

use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{ErrorType, ExecuteRequest, ResourceLimits, StreamInit, VersionRequest};
use remotemedia_tests::client::error_in;
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::{Client, Plant, Recipe};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::PASS;

/// Two sessions, and so four connections.
const FEW: &str = "[limits]\nmax_sessions = 2";

#[tokio::test]
async fn a_session_beyond_the_room_is_unavailable_with_the_time_to_come_back() {
    let plant = Plant::of(Recipe { settings: FEW, ..Recipe::default() }).await;
    let (first, _session) = plant.client().stream(&chain(&[PASS])).await;
    let (second, _session) = plant.client().stream(&chain(&[PASS])).await;
    let client = Client::connect(plant.address()).await;
    let mut third = client.call().await;
    third.say(Request::Init(StreamInit { manifest: Some(chain(&[PASS])), ..StreamInit::default() })).await;
    is_told_to_come_back(&third.next().await.unwrap().unwrap_err());
    // A unary call waits as long as it may take.
    let request = ExecuteRequest {
        manifest: Some(chain(&[PASS])),
        data_inputs: [("pass".to_owned(), text("hello"))].into(),
        resource_limits: Some(ResourceLimits { max_timeout_ms: 200, ..ResourceLimits::default() }),
        ..ExecuteRequest::default()
    };
    is_told_to_come_back(&client.execute_request(request).await.unwrap_err());
    drop((first, second, third, client));
    plant.finish().await;
}

#[tokio::test]
async fn a_connection_beyond_the_room_is_answered_unavailable_and_a_later_one_is_served() {
    let plant = Plant::of(Recipe { settings: FEW, ..Recipe::default() }).await;
    let mut served = Vec::new();
    for _ in 0..3 {
        let client = Client::connect(plant.address()).await;
        assert!(client.version("v1").await.compatible);
        served.push(client);
    }
    for _ in 0..3 {
        let refused = Client::connect(plant.address()).await;
        let mut service = PipelineExecutionServiceClient::new(refused.channel());
        is_told_to_come_back(&service.get_version(VersionRequest::default()).await.unwrap_err());
    }
    assert!(served[0].version("v1").await.compatible, "those who are in stay in");
    drop(served.pop());
    until(Duration::from_secs(5), async || {
        let client = Client::connect(plant.address()).await;
        let mut service = PipelineExecutionServiceClient::new(client.channel());
        service.get_version(VersionRequest::default()).await.map(|_version| ())
    })
    .await;
    drop(served);
    plant.finish().await;
}

fn is_told_to_come_back(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let delay = delay.unwrap_or_else(|| panic!("no RetryInfo in {status:?}"));
    assert!(delay >= Duration::from_millis(50) && delay <= Duration::from_secs(5), "{delay:?}");
    let error = error_in(status);
    assert_eq!(error.error_type(), ErrorType::Internal);
    assert!(error.message.contains("full") && error.message.contains("try again"), "{}", error.message);
}
