//! `StreamPipeline`, as clients meet it.

use std::time::Duration;

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{DataBuffer, ErrorType, StreamInit, StreamRequest};
use remotemedia_tests::client::{chunk, context};
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::pipeline::{RESAMPLE, chain, of, text, words};
use remotemedia_tests::{Plant, Recipe, audio};
use tonic::Code;

const PASS: &str = "{ id: pass, node_type: PassThrough }";
const SILENT: &str = "{ id: silent, node_type: Silent }";
const MULTI: &str = "{ id: multi, node_type: Multi, params: { outputs: 3 } }";

/// What a session held is free this soon after its client has gone or cancelled; longer only on a machine that is
/// busy with other tests, where all processes wait for a processor.
const PROMPTLY: Duration = Duration::from_millis(100);
/// How much busier than idle the machine may be.
const BUSY: u32 = 10;

fn numbered(count: u64) -> impl Iterator<Item = DataBuffer> {
    (0..count).map(|number| text(number.to_string()))
}

#[tokio::test]
async fn every_chunk_is_answered_in_order_and_the_close_behind_them_drains_them_all() {
    let plant = Plant::start().await;
    let apart = "{ id: apart, node_type: PassThrough, own_process: true }";
    for manifest in [chain(&[PASS]), chain(&[PASS, apart])] {
        let sink = manifest.nodes.last().unwrap().id.clone();
        let (call, session) = plant.client().stream(&manifest).await;
        let answers = call.run(numbered(35)).await.closed();
        assert_eq!(answers.sequences(), (0..35).collect::<Vec<_>>());
        for result in &answers.results {
            assert_eq!(words(&result.data_outputs[&sink]), result.sequence.to_string());
        }
        // Every ten results, and once before the end.
        assert_eq!(answers.metrics_after, [10, 20, 30, 35]);
        let closed = answers.closed.unwrap();
        assert_eq!(closed.session_id, session);
        let metrics = closed.final_metrics.unwrap();
        assert_eq!(metrics.node_metrics["pass"].items_processed, 35);
        assert_eq!(metrics.data_type_breakdown["text"], 35);
    }
    plant.finish().await;
}

#[tokio::test]
async fn a_client_that_only_ends_its_half_gets_all_its_answers_too() {
    let plant = Plant::start().await;
    let (mut call, _session) = plant.client().stream(&chain(&[PASS])).await;
    for (sequence, buffer) in (0..).zip(numbered(5)) {
        call.send(sequence, buffer).await;
    }
    call.half_close();
    let answers = call.rest().await.closed();
    assert_eq!(answers.sequences(), [0, 1, 2, 3, 4]);
    assert!(answers.closed.unwrap().final_metrics.is_some());

    let (mut call, _session) = plant.client().stream(&chain(&[PASS])).await;
    call.half_close();
    assert_eq!(call.rest().await.closed().results, []);
    plant.finish().await;
}

#[tokio::test]
async fn a_node_may_give_several_outputs_for_a_chunk_or_none() {
    let plant = Plant::start().await;
    let check = async |nodes: &[&str], each: usize, empty: bool| {
        let (call, _session) = plant.client().stream(&chain(nodes)).await;
        let answers = call.run(numbered(20)).await.closed();
        let expected: Vec<u64> = (0..20).flat_map(|sequence| std::iter::repeat_n(sequence, each)).collect();
        assert_eq!(answers.sequences(), expected, "{nodes:?}");
        for result in &answers.results {
            assert_eq!(result.data_outputs.is_empty(), empty, "{nodes:?}: {result:?}");
            result.data_outputs.values().for_each(|output| {
                assert_eq!(words(output), result.sequence.to_string());
            });
        }
    };
    let apart = "{ id: apart, node_type: PassThrough, own_process: true }";
    check(&[MULTI], 3, false).await;
    check(&[MULTI, apart], 3, false).await;
    check(&["{ id: many, node_type: Multi, params: { outputs: 50 } }", apart], 50, false).await;
    check(&[MULTI, "{ id: again, node_type: Multi, params: { outputs: 2 } }"], 6, false).await;
    check(&[SILENT], 1, true).await;
    check(&[MULTI, SILENT, apart], 1, true).await;
    plant.finish().await;
}

#[tokio::test]
async fn resampling_in_chunks_gives_what_resampling_at_once_gives() {
    let plant = Plant::start().await;
    let samples = audio::tone(44_100, 44_100);
    let whole = [("resample", audio::mono(44_100, &samples))];
    let whole = plant.client().execute(&chain(&[RESAMPLE]), whole).await.unwrap();
    let whole = audio::samples(&whole.data_outputs["resample"]);
    for size in [441, 882, 4_096] {
        let (call, _session) = plant.client().stream(&chain(&[RESAMPLE])).await;
        let answers = call.run(samples.chunks(size).map(|piece| audio::mono(44_100, piece))).await.closed();
        let pieces: Vec<f32> = answers.of("resample").flat_map(audio::samples).collect();
        assert_eq!(pieces.len(), 16_000, "in chunks of {size}");
        let loudest = whole.iter().zip(&pieces).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(loudest < 1e-5, "in chunks of {size} the samples differ by {loudest}");
        let mut sequences = answers.sequences();
        sequences.dedup();
        let chunks = samples.len().div_ceil(size) as u64;
        assert_eq!(sequences, (0..chunks).collect::<Vec<_>>(), "in chunks of {size}");
    }
    plant.finish().await;
}

#[tokio::test]
async fn what_a_cancelled_or_vanished_client_held_is_free_promptly() {
    let plant = Plant::start().await;
    let slow = chain(&["{ id: slow, node_type: Slow, params: { ms: 20 } }", PASS]);
    let begin = async || {
        let (mut call, _session) = plant.client().stream(&slow).await;
        for (sequence, _) in (0..10).zip(0..) {
            call.send(sequence, audio::mono(48_000, &[0.5; 48_000])).await;
        }
        assert_eq!(call.result().await.sequence, 0);
        call
    };
    let cancelled = begin().await;
    cancelled.cancel().await;
    let took = plant.idle_within(PROMPTLY * BUSY).await;
    let answers = cancelled.rest().await.closed();
    assert!(answers.results.len() < 9, "{} results after the cancellation", answers.results.len());

    drop(begin().await);
    let took = (took, plant.idle_within(PROMPTLY * BUSY).await);

    let (mut stopped, reading) = (begin().await, begin().await);
    stopped.half_close();
    drop((stopped, reading));
    let took = (took, plant.idle_within(PROMPTLY * BUSY).await);
    println!("free after cancel, drop, and drop of a half-closed and an open call: {took:?}");
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

#[tokio::test]
async fn a_node_that_fails_or_panics_ends_its_stream_behind_the_results_before_and_no_other() {
    let plant = Plant::start().await;
    let (mut other, _session) = plant.client().stream(&chain(&[PASS])).await;
    for how in ["fail", "panic"] {
        let bad = format!("{{ id: bad, node_type: Fault, params: {{ how: {how}, at: 7 }} }}");
        let (call, _session) = plant.client().stream(&chain(&[PASS, &bad])).await;
        let answers = call.run(numbered(20)).await;
        assert_eq!(answers.sequences(), (0..7).collect::<Vec<_>>(), "{how}");
        let error = answers.error.unwrap();
        assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::NodeExecution, "bad"));
        assert_eq!(context(&error)["stream_error_type"], "STREAM_ERROR_EXECUTION");
        assert_eq!(context(&error)["failing_sequence"], 7);
        assert_eq!(error.stack_trace.is_empty(), how == "fail", "{}", error.stack_trace);
    }
    other.send(0, text("untouched")).await;
    assert_eq!(words(&other.result().await.data_outputs["pass"]), "untouched");
    other.half_close();
    let _answers = other.rest().await.closed();
    plant.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_stopped_by_flow_control_and_slows_nobody_else() {
    let plant = Plant::start().await;
    let apart = "{ id: apart, node_type: PassThrough, own_process: true }";
    let (mut deaf, _session) = plant.client().stream(&chain(&[PASS, apart])).await;
    let before = plant.gateway().private_bytes();
    // 256 KiB a chunk, and 256 MiB in all: far more than all windows and queues together.
    let piece = || audio::mono(48_000, &[0.25; 65_536]);
    let sender = deaf.sender();
    let mut sent = 0;
    let stopped = loop {
        let request = StreamRequest { request: Some(chunk(sent, piece())) };
        match tokio::time::timeout(Duration::from_millis(500), sender.send(request)).await {
            Ok(taken) => taken.unwrap(),
            Err(_elapsed) => break sent,
        }
        sent += 1;
        assert!(sent < 1_024, "nothing stops a client that does not read");
    };
    let held = plant.gateway().private_bytes().saturating_sub(before);
    println!("stopped after {stopped} chunks of 256 KiB, with {held} bytes more in the gateway");
    assert!(stopped < 200, "{stopped} chunks of 256 KiB wait somewhere");
    assert!(held < 64 << 20, "{held} bytes for one client that does not read");

    // Another connection: a client shares its own window among its streams.
    let client = remotemedia_tests::Client::connect(plant.address()).await;
    let (call, _session) = client.stream(&chain(&[PASS, apart])).await;
    let answers = within(Duration::from_secs(5), "the undisturbed session", call.run(numbered(200))).await;
    assert_eq!(answers.closed().results.len(), 200);

    // What was sent has waited, and nothing of it is lost.
    drop(sender);
    deaf.half_close();
    let answers = deaf.rest().await.closed();
    assert_eq!(answers.sequences(), (0..stopped).collect::<Vec<_>>());
    drop(client);
    plant.finish().await;
}

#[tokio::test]
async fn fifty_sessions_of_two_hundred_chunks_complete_without_pauses() {
    let plant = Plant::start().await;
    let manifest = of("
version: v1
nodes:
  - { id: pass, node_type: PassThrough }
  - { id: left, node_type: PassThrough, own_process: true }
  - { id: right, node_type: PassThrough }
connections:
  - { from: pass, to: left }
  - { from: pass, to: right }
");
    let sessions: Vec<_> = (0..50)
        .map(|_| {
            let (client, manifest) = (plant.client().clone(), manifest.clone());
            tokio::spawn(async move {
                let (call, _session) = client.stream(&manifest).await;
                let answers = call.run((0..200).map(|_| audio::mono(16_000, &[0.1; 320]))).await.closed();
                assert_eq!(answers.sequences(), (0..200).collect::<Vec<_>>());
                assert!(answers.results.iter().all(|result| result.data_outputs.len() == 2));
            })
        })
        .collect();
    for session in sessions {
        session.await.unwrap();
    }
    plant.finish().await;
}

#[tokio::test]
async fn a_stream_beyond_the_room_is_refused_at_once_and_taken_when_there_is_room() {
    let settings = "[limits]\nmax_sessions = 2";
    let plant = Plant::of(Recipe { settings, ..Recipe::default() }).await;
    let (first, _session) = plant.client().stream(&chain(&[PASS])).await;
    let (second, _session) = plant.client().stream(&chain(&[PASS])).await;
    // The limit of streams in one connection is the same: another connection meets the gateway's own.
    let client = remotemedia_tests::Client::connect(plant.address()).await;
    let mut third = client.call().await;
    let init = StreamInit { manifest: Some(chain(&[PASS])), ..StreamInit::default() };
    third.say(Request::Init(init)).await;
    let status = third.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    drop(first);
    until(Duration::from_secs(5), async || {
        let sessions = plant.status().await.sessions;
        if sessions.len() == 1 { Ok(()) } else { Err(sessions) }
    })
    .await;
    let (call, _session) = client.stream(&chain(&[PASS])).await;
    assert_eq!(call.run(numbered(3)).await.closed().results.len(), 3);
    drop((second, third, client));
    plant.finish().await;
}
