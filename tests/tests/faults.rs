//! What goes wrong in a node is an answer at once: it comes long before any deadline, names the node and what it did,
//! and the process that ran the node lives on.

use std::time::Duration;

use remotemedia_core::Fault;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{
    ErrorResponse, ErrorType, ExecuteRequest, PipelineManifest, ResourceLimits, StreamInit,
};
use remotemedia_tests::client::{context, error_in, fault};
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::{Plant, Recipe};

const PASS: &str = "{ id: pass, node_type: PassThrough }";
/// The limit of the calls here is thirty seconds: what comes this soon has not waited for it.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn every_fault_of_a_node_is_answered_at_once_by_both_calls_and_its_worker_lives_on() {
    let plant = Plant::start().await;
    let rows = [
        ("Fault, params: { how: fail, at: 0 }", "told to fail at 0", false),
        ("Fault, params: { how: panic, at: 0 }", "told to panic at 0", true),
        ("Fault, params: { how: panic_in_flush, at: 0 }", "told to panic in flush", true),
        ("Fault, params: { how: panic_in_new, at: 0 }", "told to panic when made", true),
        ("Liar", "gave text, but its type declares to produce audio", false),
        ("Multi, params: { outputs: 2000 }", "the number of outputs of one call", false),
    ];
    for (bad, message, has_stack) in rows {
        let alone = chain(&[&format!("{{ id: bad, node_type: {bad} }}")]);
        let apart = chain(&[PASS, &format!("{{ id: bad, node_type: {bad}, own_process: true }}")]);
        for manifest in [alone, apart] {
            let unary = within(AT_ONCE, bad, unary(&plant, &manifest)).await;
            let streamed = within(AT_ONCE, bad, streamed(&plant, &manifest)).await;
            for error in [unary, streamed] {
                let said = &error.message;
                assert_eq!(error.error_type(), ErrorType::NodeExecution, "{bad}: {said}");
                assert_eq!(error.failing_node_id, "bad", "{bad}: {said}");
                assert!(said.contains(message), "{bad}: {said}");
                assert_eq!(
                    error.stack_trace.contains("test_worker"),
                    has_stack,
                    "{bad}: {}",
                    error.stack_trace
                );
            }
        }
        let result = plant.client().execute(&chain(&[PASS]), [("pass", text("next"))]).await.unwrap();
        assert_eq!(words(&result.data_outputs["pass"]), "next");
    }
    // That the workers' pids are the same is what `finish` looks at.
    plant.finish().await;
}

#[tokio::test]
async fn a_fault_comes_behind_the_results_of_earlier_chunks_also_where_those_have_a_longer_way() {
    let plant = Plant::start().await;
    let bad = "{ id: bad, node_type: Fault, params: { how: fail, at: 7 }, own_process: true }";
    let slow = "{ id: slow, node_type: Slow, params: { ms: 20 }, own_process: true }";
    let (call, _session) = plant.client().stream(&chain(&[bad, slow])).await;
    let answers = call.run((0..20).map(|number| text(number.to_string()))).await;
    assert_eq!(answers.sequences(), [0, 1, 2, 3, 4, 5, 6]);
    let error = answers.error.unwrap();
    assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::NodeExecution, "bad"));
    assert_eq!(context(&error)["failing_sequence"], 7);
    plant.finish().await;
}

#[tokio::test]
async fn a_node_that_takes_too_long_is_a_deadline_that_says_for_what_it_waited() {
    let plant = Plant::start().await;
    let manifest = chain(&["{ id: slow, node_type: Slow, params: { ms: 1000 } }"]);
    let limits = Some(ResourceLimits { max_timeout_ms: 100, ..ResourceLimits::default() });
    let request = ExecuteRequest {
        manifest: Some(manifest.clone()),
        data_inputs: [("slow".to_owned(), text("hello"))].into(),
        resource_limits: limits,
        ..ExecuteRequest::default()
    };
    let call = plant.client().execute_request(request);
    let status = within(AT_ONCE, "the answer", call).await.unwrap_err();
    let error = error_in(&status);
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
    assert_eq!(error.error_type(), ErrorType::ResourceLimit, "{}", error.message);
    assert!(error.message.contains("within 100 ms"), "{}", error.message);
    assert!(error.message.contains("ask for a longer max_timeout_ms"), "{}", error.message);
    plant.finish().await;
}

#[tokio::test]
async fn a_node_that_says_that_it_is_at_work_has_more_time_up_to_the_longest_and_none_where_its_client_said_how_long()
 {
    let settings = "[limits]\ndefault_timeout_ms = 300\nmax_timeout_ms = 1200\n";
    let recipe = Recipe { workers: 1, python: &["doomed"], settings, ..Recipe::default() };
    let mut plant = Plant::of(recipe).await;
    // What the nodes are at has no time left.
    plant.expect("worker_stuck");
    let slow = |params: &str| format!("{{ id: node, node_type: Slow, params: {{ {params} }} }}");
    let doomed = "{ id: node, node_type: Doomed }".to_owned();
    for (node, said) in [(slow("ms: 700, tells_every_ms: 20"), "hello"), (doomed, "work 0.7")] {
        assert_eq!(both(&plant, &node, said, None).await, [Ok(said.to_owned()), Ok(said.to_owned())]);
    }
    let late = |limit_ms| [Err(limit_ms), Err(limit_ms)];
    assert_eq!(both(&plant, &slow("ms: 700"), "hello", None).await, late(300));
    assert_eq!(both(&plant, &slow("ms: 700, tells_every_ms: 20"), "hello", Some(400)).await, late(400));
    assert_eq!(both(&plant, &slow("ms: 1500, tells_every_ms: 20"), "hello", None).await, late(1_200));
    plant.finish().await;
}

/// What a node made of a text by either call, or the time that it was over. Each has its worker to itself.
async fn both(plant: &Plant, node: &str, said: &str, timeout_ms: Option<u64>) -> [Result<String, u64>; 2] {
    let manifest = Some(chain(&[node]));
    let limit = |max_timeout_ms| ResourceLimits { max_timeout_ms, ..ResourceLimits::default() };
    let resource_limits = timeout_ms.map(limit);
    let request = ExecuteRequest {
        manifest: manifest.clone(),
        data_inputs: [("node".to_owned(), text(said))].into(),
        resource_limits,
        ..ExecuteRequest::default()
    };
    let late = |error: &ErrorResponse| {
        let Fault::Deadline { limit_ms, .. } = fault(error) else { panic!("{error:?}") };
        limit_ms
    };
    all_ready(plant).await;
    let unary = match plant.client().execute_request(request).await {
        Ok(outcome) => Ok(words(&outcome.expect("a result").data_outputs["node"]).to_owned()),
        Err(status) => Err(late(&error_in(&status))),
    };
    all_ready(plant).await;
    let init = StreamInit { manifest, resource_limits, ..StreamInit::default() };
    let (call, _session) = plant.client().stream_as(init).await;
    let answers = call.run([text(said)]).await;
    let streamed = match &answers.error {
        Some(error) => Err(late(error)),
        None => Ok(answers.of("node").map(words).collect::<Vec<_>>().join(" ")),
    };
    [unary, streamed]
}

/// Nobody is at what a client has given up.
async fn all_ready(plant: &Plant) {
    until(AT_ONCE, async || {
        let workers = plant.status().await.workers;
        if workers.iter().all(|worker| worker.state == "ready") { Ok(()) } else { Err(workers) }
    })
    .await;
}

async fn unary(plant: &Plant, manifest: &PipelineManifest) -> ErrorResponse {
    let request = ExecuteRequest {
        manifest: Some(manifest.clone()),
        data_inputs: [(String::new(), text("hello"))].into(),
        resource_limits: Some(ResourceLimits { max_timeout_ms: 30_000, ..ResourceLimits::default() }),
        ..ExecuteRequest::default()
    };
    plant.client().execute_request(request).await.expect("a reply").expect_err("an error")
}

async fn streamed(plant: &Plant, manifest: &PipelineManifest) -> ErrorResponse {
    let mut call = plant.client().call().await;
    let limits = Some(ResourceLimits { max_timeout_ms: 30_000, ..ResourceLimits::default() });
    let manifest = Some(manifest.clone());
    call.say(Request::Init(StreamInit { manifest, resource_limits: limits, ..StreamInit::default() })).await;
    match call.next().await {
        Some(Ok(Response::Ready(_))) => call.run([text("hello")]).await.error.expect("an error"),
        Some(Ok(Response::Error(error))) => error,
        other => panic!("neither ready nor an error: {other:?}"),
    }
}
