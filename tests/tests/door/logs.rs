//! What the log says of a call, and how a client names it.

use std::time::Duration;

use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use remotemedia_protos::v1::{ExecuteRequest, VersionRequest};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::{Plant, Recipe};
use serde_json::Value;
use tonic::Request;

use crate::PASS;

#[tokio::test]
async fn every_line_about_a_call_names_the_call_and_its_session() {
    let arguments = vec!["--log=remotemedia_gateway=debug,info".to_owned()];
    let plant = Plant::of(Recipe { arguments, ..Recipe::default() }).await;
    let bad = chain(&[PASS, "{ id: bad, node_type: Fault, params: { how: fail, at: 0 } }"]);
    let inputs = [("pass".to_owned(), text("hello"))].into();
    let mut request = Request::new(ExecuteRequest {
        manifest: Some(bad.clone()),
        data_inputs: inputs,
        ..ExecuteRequest::default()
    });
    request.metadata_mut().insert("x-request-id", "order-66".parse().unwrap());
    let mut service = PipelineExecutionServiceClient::new(plant.client().channel());
    let answer = service.execute_pipeline(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "order-66");
    let line = ended(&plant, |span| span["request_id"] == "order-66").await;
    assert_eq!(line["fields"]["outcome"], "ERROR_TYPE_NODE_EXECUTION");
    assert_eq!(line["span"]["rpc"], "ExecutePipeline");
    assert_eq!(line["span"]["session_id"].as_str().map(str::is_empty), Some(false), "{line}");

    let (call, session) = plant.client().stream(&bad).await;
    assert!(call.run([text("hello")]).await.error.is_some());
    let line = ended(&plant, |span| span["session_id"] == session.as_str()).await;
    assert_eq!(line["span"]["rpc"], "StreamPipeline");
    let request_id = line["span"]["request_id"].clone();
    let of_session = |line: &Value| line["span"]["session_id"] == session.as_str();
    let about = lines(&plant).into_iter().filter(of_session).collect::<Vec<_>>();
    assert!(about.iter().all(|line| line["span"]["request_id"] == request_id), "{about:?}");

    // A call that has no name, or one that cannot stand in a log, gets one that no other has.
    let mut named = async |id: Option<&str>| {
        let mut request = Request::new(VersionRequest::default());
        if let Some(id) = id {
            request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        }
        let answer = service.get_version(request).await.unwrap();
        answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned()
    };
    let (first, second, third) =
        (named(None).await, named(None).await, named(Some("say \"hello\" to the log")).await);
    assert!(first != second && second != third && !third.contains("hello"), "{first} {second} {third}");
    plant.finish().await;
}

/// The line of the end of the call whose span looks so.
async fn ended(plant: &Plant, is_it: impl Fn(&Value) -> bool) -> Value {
    let find = || {
        let mut lines = lines(plant).into_iter();
        lines.find(|line| line["fields"]["message"] == "request_ended" && is_it(&line["span"]))
    };
    until(
        Duration::from_secs(5),
        async || if find().is_some() { Ok(()) } else { Err(plant.gateway().log()) },
    )
    .await;
    find().expect("it was there")
}

fn lines(plant: &Plant) -> Vec<Value> {
    let log = plant.gateway().log();
    log.iter().map(|line| serde_json::from_str(line).expect("a line of the log is JSON")).collect()
}
