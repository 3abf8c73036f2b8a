//! What probes and load balancers are told, and what tools without the contract find out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use remotemedia_cli::transport::Bearer;
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::plant::START;
use remotemedia_tests::{Plant, Recipe};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::v1alpha;

use crate::http::get;

type Connection = InterceptedService<Channel, Bearer>;

/// Within this much a death is told; longer only on a machine that is busy with other tests.
const TOLD: Duration = Duration::from_secs(1);
const BUSY: u32 = 5;
/// Deaths of which the middle one is told in time, however busy the machine is at one of them.
const DEATHS: usize = 5;

#[tokio::test]
async fn health_is_not_serving_with_the_reason_soon_after_the_pool_died_and_serving_when_it_is_back() {
    let mut plant = Plant::of(Recipe { workers: 1, ..Recipe::default() }).await;
    serves(&plant).await;
    let mut health = HealthClient::new(plant.client().channel());
    for service in ["", "remotemedia.v1.PipelineExecutionService", "remotemedia.v1.StreamingPipelineService"]
    {
        assert_eq!(check(&mut health, service).await.unwrap(), (ServingStatus::Serving, None), "{service:?}");
    }
    assert_eq!(check(&mut health, "not.Here").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(get(&plant, "/readyz").await, (200, "ready".to_owned()));
    assert_eq!(get(&plant, "/health").await, (200, r#"{"status":"SERVING"}"#.to_owned()));
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut next = async || {
        let message = within(TOLD * BUSY, "the next word on health", watched.message()).await;
        message.unwrap().expect("a watch goes on").status()
    };
    assert_eq!(next().await, ServingStatus::Serving);

    let killed = Instant::now();
    plant.workers()[0].signal(Signal::SIGKILL);
    assert_eq!(next().await, ServingStatus::NotServing);
    let mut took = vec![killed.elapsed()];
    let reason = "no worker is left: the last to go was 'rust-1', which was killed by SIGKILL";
    let told = check(&mut health, "").await.unwrap();
    assert_eq!(told, (ServingStatus::NotServing, Some(reason.to_owned())));
    assert_eq!(get(&plant, "/readyz").await, (503, reason.to_owned()));
    let (status, body) = get(&plant, "/health").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["status"], &body["reason"]), (503, &"NOT_SERVING".into(), &reason.into()));
    // The process is well, and starting it again would help nobody.
    assert_eq!(get(&plant, "/healthz").await, (200, "ok".to_owned()));

    plant.workers()[0].ended(START).await;
    plant.start_worker().await;
    assert_eq!(next().await, ServingStatus::Serving);
    until(TOLD * BUSY, async || match get(&plant, "/readyz").await {
        (200, _) => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(check(&mut health, "").await.unwrap(), (ServingStatus::Serving, None));

    for death in 1..DEATHS {
        let killed = Instant::now();
        plant.workers()[death].signal(Signal::SIGKILL);
        assert_eq!(next().await, ServingStatus::NotServing);
        took.push(killed.elapsed());
        plant.workers()[death].ended(START).await;
        plant.start_worker().await;
        assert_eq!(next().await, ServingStatus::Serving);
    }
    took.sort();
    println!("the pool's death is told after {took:?}");
    assert!(took[DEATHS / 2] < TOLD, "{took:?}");
    drop((watched, health));
    plant.expect("worker_died");
    plant.finish().await;
}

#[tokio::test]
async fn a_watch_of_health_does_not_hold_up_the_end() {
    let plant = Plant::start().await;
    serves(&plant).await;
    let mut health = HealthClient::new(plant.client().channel());
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    drop(health);
    let last_words = tokio::spawn(async move {
        let mut said = Vec::new();
        while let Ok(Some(message)) = watched.message().await {
            said.push(message.status());
        }
        said
    });
    let begin = Instant::now();
    plant.finish().await;
    assert!(begin.elapsed() < Duration::from_secs(10), "as long as calls may take: {:?}", begin.elapsed());
    assert_eq!(last_words.await.unwrap(), [ServingStatus::NotServing]);
}

#[tokio::test]
async fn reflection_tells_the_contract_in_both_its_versions() {
    let plant = Plant::start().await;
    let services = ask(&plant, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(list)) = services.message_response else { panic!() };
    let names: BTreeSet<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "remotemedia.v1.PipelineExecutionService",
        "remotemedia.v1.StreamingPipelineService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(name), "{names:?}");
    }
    let file = ask(&plant, MessageRequest::FileContainingSymbol("remotemedia.v1.DataBuffer".into())).await;
    let Some(MessageResponse::FileDescriptorResponse(files)) = file.message_response else { panic!() };
    let names = String::from_utf8_lossy(&files.file_descriptor_proto[0]);
    assert!(names.contains("remotemedia/v1/common.proto") && names.contains("DataBuffer"));

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(plant.client().channel());
    let mut answers = old.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().message_response.is_some());
    drop((answers, old));
    plant.finish().await;
}

/// The door looks at the pool a few times a second.
async fn serves(plant: &Plant) {
    let mut health = HealthClient::new(plant.client().channel());
    until(TOLD * BUSY, async || match check(&mut health, "").await.expect("health is told") {
        (ServingStatus::Serving, None) => Ok(()),
        other => Err(other),
    })
    .await;
}

async fn check(
    health: &mut HealthClient<Connection>,
    service: &str,
) -> Result<(ServingStatus, Option<String>), tonic::Status> {
    let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await?;
    let reason = answer
        .metadata()
        .get("x-health-reason")
        .map(|reason| reason.to_str().expect("a reason is text").to_owned());
    Ok((answer.get_ref().status(), reason))
}

async fn ask(plant: &Plant, message: MessageRequest) -> ServerReflectionResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let mut service = ServerReflectionClient::new(plant.client().channel());
    let answers = service.server_reflection_info(tokio_stream::once(request)).await;
    let mut answers = answers.expect("reflection is served").into_inner();
    let answer = within(START, "an answer", answers.message()).await;
    answer.expect("reflection answers").expect("with a message")
}
