//! What is said on a stream, in which order, and how it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use remotemedia_core::fault::{Fault, NodeFault};
use remotemedia_gateway::Phase;
use remotemedia_gateway::rescue::error_in;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::streaming_pipeline_service_client::StreamingPipelineServiceClient;
use remotemedia_protos::v1::{DataChunk, ErrorType, StreamInit, StreamRequest, StreamResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::loopback::{Loopback, Manner};
use crate::plant::{DEADLINE, Plant, chunk, control, init, manifest, text};

const CLOSE: i32 = 1;
const CANCEL: i32 = 2;

#[tokio::test]
async fn a_stream_is_ready_then_answers_every_chunk_then_is_closed() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let chunks = (5..27).map(|sequence| chunk(sequence, 3));
    let requests = [init()].into_iter().chain(chunks).chain([control(CLOSE)]);
    let (said, end) = all(&plant, requests.collect()).await;
    assert!(end.is_ok(), "{end:?}");
    let words: Vec<String> = said.iter().map(word).collect();
    let results = |from: u64, to: u64| (from..to).map(|sequence| format!("result {sequence}"));
    let expect: Vec<String> = ["ready".to_owned()]
        .into_iter()
        .chain(results(5, 15))
        .chain(["metrics".to_owned()])
        .chain(results(15, 25))
        .chain(["metrics".to_owned()])
        .chain(results(25, 27))
        .chain(["metrics".to_owned(), "closed".to_owned()])
        .collect();
    assert_eq!(words, expect);
}

#[tokio::test]
async fn a_half_closed_stream_is_drained() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let (said, end) = all(&plant, vec![init(), chunk(0, 1)]).await;
    assert!(end.is_ok(), "{end:?}");
    let words: Vec<String> = said.iter().map(word).collect();
    assert_eq!(words, ["ready", "result 0", "metrics", "closed"]);
    assert_eq!(plant.backend.ends().borrow().cancelled, 0);
}

#[tokio::test]
async fn inputs_of_the_set_up_come_first_and_have_sequence_0() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let set_up = StreamInit {
        manifest: Some(manifest()),
        data_inputs: BTreeMap::from([("pass".to_owned(), text(9))]),
        ..StreamInit::default()
    };
    let requests = vec![StreamRequest { request: Some(Request::Init(set_up)) }, chunk(1, 1), control(CLOSE)];
    let (said, _) = all(&plant, requests).await;
    let words: Vec<String> = said.iter().map(word).collect();
    assert_eq!(words, ["ready", "result 0", "result 1", "metrics", "closed"]);
}

#[tokio::test]
async fn a_cancelled_stream_is_closed_at_once_though_the_pipeline_is_stuck() {
    let plant = Plant::of(Loopback::new(Manner::Stuck)).await;
    let chunks = (0..1_000).map(|sequence| chunk(sequence, 10));
    let requests = [init()].into_iter().chain(chunks).chain([control(CANCEL)]);
    let (said, end) = all(&plant, requests.collect()).await;
    assert!(end.is_ok(), "{end:?}");
    let words: Vec<String> = said.iter().map(word).collect();
    assert_eq!(words, ["ready", "metrics", "closed"]);
    plant.backend.ends().wait_for(|ends| ends.cancelled == 1).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_cancelled_while_it_waits_for_workers_is_closed_at_once() {
    let plant = Plant::of(Loopback::new(Manner::Loading)).await;
    let (said, end) = all(&plant, vec![init(), chunk(0, 1), chunk(1, 1), control(CANCEL)]).await;
    assert!(end.is_ok(), "{end:?}");
    let [Response::Closed(closed)] = &*said else { panic!("{said:?}") };
    assert_eq!(closed.session_id, "", "there was no session yet");
    assert_eq!(closed.reason, "the client cancelled the stream before it was ready");
    plant.backend.ends().wait_for(|ends| ends.given_up == 1).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_the_requests_is_told_behind_what_is_wrong_with_the_pipeline() {
    let refusal = Fault::Internal { place: "the pipeline".to_owned(), problem: "it cannot be".to_owned() };
    let plant = Plant::of(Loopback::new(Manner::Refuse(refusal))).await;
    let (said, _end) = all(&plant, vec![init(), chunk(0, 1), control(CLOSE), chunk(1, 1)]).await;
    let [Response::Error(error)] = &*said else { panic!("{said:?}") };
    assert!(error.message.contains("it cannot be"), "{error:?}");
}

#[tokio::test]
async fn a_client_that_gives_up_its_call_cancels_its_session() {
    let plant = Plant::of(Loopback::new(Manner::Stuck)).await;
    let (requests, mut responses) = open(&plant.grpc).await;
    hear_ready(&mut responses).await;
    // A client of HTTP/2 resets a stream when it has let go of both halves.
    drop((requests, responses));
    let mut ends = plant.backend.ends();
    timeout(DEADLINE, ends.wait_for(|ends| ends.cancelled == 1)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_vanishes_cancels_its_session() {
    let plant = Plant::of(Loopback::new(Manner::Stuck)).await;
    let endpoint = format!("http://{}", plant.grpc_address);
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (is_open, opened) = tokio::sync::oneshot::channel();
    client.spawn(async move {
        let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
        let (_requests, mut responses) = open(&channel).await;
        hear_ready(&mut responses).await;
        is_open.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    opened.await.unwrap();
    // All its tasks stop where they are, and the sockets close: as if its process had been killed.
    client.shutdown_background();
    let mut ends = plant.backend.ends();
    timeout(DEADLINE, ends.wait_for(|ends| ends.cancelled == 1)).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_deadline_of_a_call_ends_its_stream() {
    let plant = Plant::of(Loopback::new(Manner::Stuck)).await;
    let (_requests, queue) = asking().await;
    let mut request = tonic::Request::new(ReceiverStream::new(queue));
    request.set_timeout(Duration::from_millis(200));
    let mut client = StreamingPipelineServiceClient::new(plant.grpc.clone());
    let mut responses = client.stream_pipeline(request).await.unwrap().into_inner();
    hear_ready(&mut responses).await;
    let status = timeout(DEADLINE, responses.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(error_in(&status).unwrap().message.contains("no result within 200 ms"), "{status:?}");
}

#[tokio::test]
async fn a_stuck_pipeline_stops_its_client_within_the_windows() {
    let plant = Plant::of(Loopback::new(Manner::Stuck)).await;
    let (requests, _responses) = open(&plant.grpc).await;
    const CHUNK_BYTES: usize = 64 * 1_024;
    let mut sent = 0_usize;
    while timeout(Duration::from_millis(300), requests.send(chunk(sent as u64, CHUNK_BYTES))).await.is_ok() {
        sent += 1;
        assert!(sent < 1_000, "nothing stops the client");
    }
    // The session's, what waits ahead of it, the window of the stream, and buffers of the two ends.
    let bytes = (4 + 16) * CHUNK_BYTES + 2 * 1_024 * 1_024 + 1_024 * 1_024;
    assert!(sent * CHUNK_BYTES <= bytes, "{sent} chunks went out");
}

#[tokio::test]
async fn a_broken_pipeline_is_told_after_what_came_before_and_nothing_follows() {
    let fault: Fault = NodeFault {
        node: "pass".to_owned(),
        node_type: "PassThrough".to_owned(),
        sequence: 2,
        message: "no more".to_owned(),
        backtrace: String::new(),
    }
    .into();
    let plant = Plant::of(Loopback::new(Manner::BreakAt(2, fault))).await;
    let requests = [init()].into_iter().chain((0..4).map(|sequence| chunk(sequence, 1)));
    let (said, end) = all(&plant, requests.collect()).await;
    assert!(end.is_ok(), "{end:?}");
    let words: Vec<String> = said.iter().map(word).collect();
    assert_eq!(words, ["ready", "result 0", "result 1", "error ERROR_TYPE_NODE_EXECUTION"]);
    let Some(Response::Error(error)) = said.last() else { panic!("not an error") };
    assert!(error.context.contains("\"stream_error_type\":\"STREAM_ERROR_EXECUTION\""), "{}", error.context);
    assert!(error.context.contains("\"failing_sequence\":2"), "{}", error.context);
    plant.backend.ends().wait_for(|ends| ends.cancelled == 1).await.unwrap();
}

#[tokio::test]
async fn what_came_before_a_wrong_chunk_is_answered_before_it_is_told() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    let wrong = DataChunk { node_id: "pass".to_owned(), sequence: 2, ..DataChunk::default() };
    let wrong = StreamRequest { request: Some(Request::DataChunk(wrong)) };
    let (said, _) = all(&plant, vec![init(), chunk(0, 1), chunk(1, 1), wrong, chunk(3, 1)]).await;
    let words: Vec<String> = said.iter().map(word).collect();
    assert_eq!(words, ["ready", "result 0", "result 1", "error ERROR_TYPE_VALIDATION"]);
    let Some(Response::Error(error)) = said.last() else { panic!("not an error") };
    assert!(error.context.contains("\"failing_sequence\":2"), "{}", error.context);
}

#[tokio::test]
async fn a_stream_without_set_up_is_told_what_comes_first() {
    let plant = Plant::of(Loopback::new(Manner::Echo)).await;
    for requests in [vec![chunk(0, 1)], vec![control(CLOSE)], vec![]] {
        let (said, end) = all(&plant, requests).await;
        assert!(end.is_ok(), "{end:?}");
        let [Response::Error(error)] = said.as_slice() else { panic!("not one error: {said:?}") };
        assert_eq!(error.error_type(), ErrorType::Validation);
        assert!(error.context.contains("STREAM_ERROR_INIT_REQUIRED"), "{}", error.context);
    }
    assert_eq!(plant.backend.ends().borrow().opened, 0);
}

#[tokio::test]
async fn a_chunk_after_the_close_is_an_error_with_its_sequence() {
    let plant = Plant::of(Loopback::new(Manner::Stuck)).await;
    let (said, _) = all(&plant, vec![init(), chunk(0, 1), control(CLOSE), chunk(1, 1)]).await;
    let Some(Response::Error(error)) = said.last() else { panic!("not an error: {said:?}") };
    assert!(error.message.contains("after COMMAND_CLOSE"), "{}", error.message);
    assert!(error.context.contains("\"failing_sequence\":1"), "{}", error.context);
}

#[tokio::test]
async fn streams_are_told_of_the_end_and_the_doors_close() {
    let plant = Plant::of(Loopback::new(Manner::Stuck)).await;
    let (_requests, mut responses) = open(&plant.grpc).await;
    hear_ready(&mut responses).await;
    plant.life.enter(Phase::Draining);
    plant.life.enter(Phase::Ending);
    let status = responses.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(error_in(&status).is_some());
    plant.closed().await;
}

/// Everything that is said in answer to these requests, and how the call ended.
async fn all(plant: &Plant, requests: Vec<StreamRequest>) -> (Vec<Response>, Result<(), Status>) {
    let mut client = StreamingPipelineServiceClient::new(plant.grpc.clone());
    let mut responses = client.stream_pipeline(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut said = Vec::new();
    loop {
        match timeout(DEADLINE, responses.message()).await.expect("the stream goes on") {
            Ok(Some(message)) => said.push(message.response.unwrap()),
            Ok(None) => return (said, Ok(())),
            Err(status) => return (said, Err(status)),
        }
    }
}

async fn open(channel: &Channel) -> (mpsc::Sender<StreamRequest>, Streaming<StreamResponse>) {
    let (requests, queue) = asking().await;
    let mut client = StreamingPipelineServiceClient::new(channel.clone());
    let responses = client.stream_pipeline(ReceiverStream::new(queue)).await.unwrap();
    (requests, responses.into_inner())
}

/// Requests that begin with the set-up and go on as they are sent.
async fn asking() -> (mpsc::Sender<StreamRequest>, mpsc::Receiver<StreamRequest>) {
    let (requests, queue) = mpsc::channel(1);
    requests.send(init()).await.unwrap();
    (requests, queue)
}

async fn hear_ready(responses: &mut Streaming<StreamResponse>) {
    let first = responses.message().await.unwrap().and_then(|message| message.response);
    assert!(matches!(first, Some(Response::Ready(_))), "{first:?}");
}

fn word(response: &Response) -> String {
    match response {
        Response::Ready(_) => "ready".to_owned(),
        Response::Result(result) => format!("result {}", result.sequence),
        Response::Error(error) => format!("error {}", error.error_type().as_str_name()),
        Response::Metrics(_) => "metrics".to_owned(),
        Response::Closed(_) => "closed".to_owned(),
        Response::Status(_) => "status".to_owned(),
    }
}
