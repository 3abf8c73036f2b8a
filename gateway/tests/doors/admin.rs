//! What operators and their tools see.

use http_body_util::{BodyExt as _, Full};
use hyper::Method;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use remotemedia_core::node::NodeInfo;
use remotemedia_gateway::{Address, Phase};
use remotemedia_protos::v1::VersionRequest;
use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::loopback::{Loopback, Manner};
use crate::plant::Plant;

#[tokio::test]
async fn a_gateway_is_ready_when_a_worker_has_registered_and_until_it_drains() {
    let empty = Plant::of(Loopback::without_workers()).await;
    assert_eq!(get(&empty, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(get(&empty, "/readyz").await.0, 503);

    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    assert_eq!(get(&plant, "/readyz").await.0, 200);
    plant.life.enter(Phase::Draining);
    assert_eq!(get(&plant, "/readyz").await, (503, "shutting down".to_owned()));
    assert_eq!(get(&plant, "/healthz").await.0, 200);
}

#[tokio::test]
async fn the_status_tells_of_the_gateway_and_of_what_it_runs_on() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let status: Value = serde_json::from_str(&get(&plant, "/status").await.1).unwrap();
    assert_eq!(status["gateway"]["pid"], std::process::id());
    assert!(status["gateway"]["uptime_s"].is_f64());
    assert!(status["gateway"]["grpc"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(status["workers"][0]["name"], "rust-1");
    assert_eq!(status["workers"][0]["state"], "ready");
    assert!(status["frame_pools"].is_array() && status["sessions"].is_array());
    let nodes: Vec<NodeInfo> = serde_json::from_str(&get(&plant, "/nodes").await.1).unwrap();
    assert_eq!(nodes[0].name, "PassThrough");
}

#[tokio::test]
async fn calls_are_counted_by_method_and_outcome() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let mut client = PipelineExecutionServiceClient::new(plant.grpc.clone());
    client.get_version(VersionRequest::default()).await.unwrap();
    client.execute_pipeline(remotemedia_protos::v1::ExecuteRequest::default()).await.unwrap();
    let metrics = get(&plant, "/metrics").await.1;
    for line in [
        "remotemedia_requests_total{outcome=\"OK\",rpc=\"GetVersion\"} 1",
        "remotemedia_requests_total{outcome=\"ERROR_TYPE_VALIDATION\",rpc=\"ExecutePipeline\"} 1",
        "remotemedia_request_duration_seconds_count{rpc=\"GetVersion\"} 1",
        "remotemedia_sessions 0",
        "remotemedia_workers{state=\"ready\"} 1",
        "remotemedia_errors_total{rpc=\"ExecutePipeline\",type=\"ERROR_TYPE_VALIDATION\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line:?} in\n{metrics}");
    }
}

#[tokio::test]
async fn nothing_else_is_answered() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    assert_eq!(get(&plant, "/").await.0, 404);
    assert_eq!(ask(&plant.admin, Method::POST, "/status", &[]).await.0, 405);
    let long = "a".repeat(20 * 1_024);
    assert_eq!(ask(&plant.admin, Method::GET, "/status", &[("x-long", &long)]).await.0, 431);
}

async fn get(plant: &Plant, path: &str) -> (u16, String) {
    ask(&plant.admin, Method::GET, path, &[]).await
}

async fn ask(address: &Address, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let Address::Tcp(address) = address else { panic!("not TCP: {address}") };
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let exchange = async {
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::select! {
        answer = exchange => answer,
        // The connection carries the exchange, and ends after it.
        never = async { connection.await.ok(); std::future::pending().await } => never,
    }
}
