//! How many may come at once.

use std::path::Path;
use std::time::Duration;

use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{ErrorType, ExecuteRequest, ResourceLimits, StreamInit, VersionRequest};
use remotemedia_tests::client::{PATIENCE, error_in};
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::plant::Process;
use remotemedia_tests::{Client, Plant, Recipe};
use tokio::net::TcpStream;
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

#[tokio::test]
async fn without_file_descriptors_sessions_go_on_and_who_comes_waits_until_there_are_some() {
    let mut plant = Plant::start().await;
    plant.expect("accept_paused");
    let (mut call, _session) = plant.client().stream(&chain(&[PASS])).await;
    let mut ask = async |sequence| {
        call.send(sequence, text("hello")).await;
        assert_eq!(call.result().await.sequence, sequence);
    };
    ask(0).await;
    limit_files(&plant, plant.gateway().fds() + 4).await;
    // More than there is room for. What is not accepted waits in the kernel.
    let mut strangers = Vec::new();
    for _ in 0..8 {
        strangers.push(TcpStream::connect(plant.address()).await.expect("the kernel takes it"));
    }
    let pauses = || plant.gateway().log().into_iter().filter(|line| line.contains("accept_paused")).count();
    until(Duration::from_secs(5), async || if pauses() > 0 { Ok(()) } else { Err(plant.gateway().fds()) })
        .await;
    let late = tokio::spawn({
        let address = plant.address().to_owned();
        async move { Client::connect(&address).await.version("v1").await.compatible }
    });
    let before = pauses();
    // A second of work, as a microphone gives it.
    let mut clock = tokio::time::interval(Duration::from_millis(10));
    for sequence in 1..=100 {
        clock.tick().await;
        ask(sequence).await;
    }
    assert!(!late.is_finished(), "there was room");
    let tried = pauses() - before;
    assert!(tried < 100, "the gateway is busy with what it cannot do: {tried} attempts in a second");
    drop(strangers);
    assert!(within(PATIENCE, "the answer to who waited", late).await.unwrap());
    limit_files(&plant, 1_024).await;
    ask(101).await;
    drop(call);
    plant.finish().await;
}

/// From here on the gateway has at most so many.
async fn limit_files(plant: &Plant, most: usize) {
    let (pid, limit) = (plant.gateway().pid(), format!("--nofile={most}:"));
    let words = [&format!("--pid={pid}"), limit.as_str()];
    let set = Process::start("prlimit", Path::new("/usr/bin/prlimit"), &words).ended(PATIENCE).await;
    assert!(set.status.success(), "{:?}", set.status);
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
