//! How streams end that are not closed.

use std::time::{Duration, Instant};

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{DataBuffer, ErrorResponse, ErrorType, StreamInit, StreamRequest};
use remotemedia_tests::client::{Answers, chunk, context};
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::plant::RELEASE;
use remotemedia_tests::{Plant, Recipe, audio};

use crate::{PASS, numbered};

/// A time after which nothing said or read is too long, so short that tests can wait for it.
const IDLE: Duration = Duration::from_millis(500);
const HASTY: &str = "[limits]\nidle_timeout_ms = 500";

async fn hasty() -> Plant {
    Plant::of(Recipe { settings: HASTY, ..Recipe::default() }).await
}

/// The only thing that came is that the time was over, and no chunk is to blame.
fn timed_out(answers: Answers) -> ErrorResponse {
    assert_eq!(answers.results, []);
    let error = answers.error.expect("the end is an error");
    let told = context(&error);
    assert_eq!(error.error_type(), ErrorType::ResourceLimit, "{}", error.message);
    assert_eq!(told["stream_error_type"], "STREAM_ERROR_TIMEOUT", "{}", error.message);
    assert_eq!(told.get("failing_sequence"), None, "{}", error.message);
    error
}

#[tokio::test]
async fn a_session_that_is_idle_beyond_its_time_ends_with_a_timeout_wherever_it_is() {
    let plant = hasty().await;
    let silent = plant.client().call().await;
    let (ready, _session) = plant.client().stream(&chain(&[PASS])).await;
    let (mut paused, _session) = plant.client().stream(&chain(&[PASS])).await;
    for (sequence, buffer) in (0..).zip(numbered(3)) {
        paused.send(sequence, buffer).await;
        assert_eq!(paused.result().await.sequence, sequence);
    }
    let begin = Instant::now();
    for call in [silent, ready, paused] {
        let error = timed_out(call.rest().await);
        assert_eq!(error.message, "no input for 500 ms: send chunks or COMMAND_CLOSE");
    }
    let took = begin.elapsed();
    assert!(took < 4 * IDLE, "all were idle from the beginning, and the last was told after {took:?}");
    plant.idle_within(RELEASE).await;
    plant.finish().await;
}

#[tokio::test]
async fn a_session_that_is_busy_or_fed_outlasts_the_time_for_which_it_may_be_idle() {
    let plant = hasty().await;
    let slow = "{ id: slow, node_type: Slow, params: { ms: 300 } }";
    let (call, _session) = plant.client().stream(&chain(&[slow])).await;
    let begin = Instant::now();
    let answers = call.run(numbered(4)).await.closed();
    assert_eq!(answers.sequences(), [0, 1, 2, 3]);
    assert!(begin.elapsed() > 2 * IDLE, "busy for {:?} only", begin.elapsed());

    let (mut call, _session) = plant.client().stream(&chain(&[slow])).await;
    for (sequence, buffer) in (0..).zip(numbered(4)) {
        call.send(sequence, buffer).await;
        assert_eq!(call.result().await.sequence, sequence);
    }
    call.close().await;
    let _answers = call.rest().await.closed();
    plant.finish().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_too_long_is_let_go_and_told_when_it_reads_again() {
    let plant = hasty().await;
    let (deaf, _session) = plant.client().stream(&chain(&[PASS])).await;
    let sender = deaf.sender();
    // Far more than all windows and queues together.
    for sequence in 0..1_024 {
        let piece = audio::mono(48_000, &[0.25; 65_536]);
        let request = StreamRequest { request: Some(chunk(sequence, piece)) };
        if tokio::time::timeout(IDLE, sender.send(request)).await.is_err() {
            break;
        }
    }
    // It still holds its call, and nothing else is held for it.
    plant.idle_within(RELEASE).await;
    drop(sender);
    let answers = deaf.rest().await;
    assert_eq!(answers.sequences(), (0..answers.results.len() as u64).collect::<Vec<_>>());
    let error = timed_out(Answers { results: Vec::new(), ..answers });
    assert_eq!(
        error.message,
        "no result was read for 500 ms: read them as they come, or send COMMAND_CANCEL"
    );
    plant.finish().await;
}

#[tokio::test]
async fn what_breaks_the_rules_of_a_stream_is_answered_by_name_and_ends_it() {
    let plant = Plant::start().await;
    let check = async |requests: Vec<Request>, answered: usize, kind: &str, sequence: Option<u64>| {
        let call = plant.client().call().await;
        for request in requests {
            call.say(request).await;
        }
        let mut call = call;
        let mut results = 0;
        let error = loop {
            match call.next().await.unwrap().unwrap() {
                Response::Ready(_) | Response::Metrics(_) => {}
                Response::Result(_) => results += 1,
                Response::Error(error) => break error,
                Response::Closed(closed) => panic!("{kind}: {closed:?}"),
                Response::Status(status) => panic!("{kind}: {status:?}"),
            }
        };
        assert!(call.next().await.is_none(), "{kind}: something followed the error");
        let told = context(&error);
        assert_eq!(error.error_type(), ErrorType::Validation, "{}", error.message);
        assert_eq!(told["stream_error_type"], kind, "{}", error.message);
        assert_eq!(told.get("failing_sequence").and_then(serde_json::Value::as_u64), sequence, "{kind}");
        assert_eq!(results, answered, "{}", error.message);
    };
    let init = || Request::Init(StreamInit { manifest: Some(chain(&[PASS])), ..StreamInit::default() });
    let piece = |sequence| chunk(sequence, text("piece"));
    const SEQUENCE: &str = "STREAM_ERROR_INVALID_SEQUENCE";
    const INIT: &str = "STREAM_ERROR_INIT_REQUIRED";
    const OTHER: &str = "STREAM_ERROR_UNSPECIFIED";
    check(vec![piece(0)], 0, INIT, None).await;
    check(vec![init(), init()], 0, OTHER, None).await;
    // Whether what came before the break is answered depends on who is faster: nothing was sent here.
    check(vec![init(), chunk(3, DataBuffer::default())], 0, OTHER, Some(3)).await;

    for (sequences, failing) in [([0, 1, 3], 3), ([7, 8, 8], 8), ([1, 2, 0], 0)] {
        let (mut call, _session) = plant.client().stream(&chain(&[PASS])).await;
        for sequence in &sequences[..2] {
            call.send(*sequence, text("piece")).await;
            assert_eq!(call.result().await.sequence, *sequence);
        }
        call.send(sequences[2], text("piece")).await;
        let answers = call.rest().await;
        let error = answers.error.unwrap();
        assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::Validation, "pass"));
        assert_eq!(context(&error)["stream_error_type"], SEQUENCE);
        assert_eq!(context(&error)["failing_sequence"], failing, "{}", error.message);
        assert_eq!(answers.results, []);
    }
    plant.finish().await;
}
