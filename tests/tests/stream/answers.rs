//! What comes of chunks.

use std::time::Duration;

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{ErrorType, StreamInit};
use remotemedia_tests::client::context;
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{RESAMPLE, chain, text, words};
use remotemedia_tests::{Plant, Recipe, audio};
use tonic::Code;

use crate::{APART, PASS, numbered};

const SILENT: &str = "{ id: silent, node_type: Silent }";
const MULTI: &str = "{ id: multi, node_type: Multi, params: { outputs: 3 } }";

#[tokio::test]
async fn every_chunk_is_answered_in_order_and_the_close_behind_them_drains_them_all() {
    let plant = Plant::start().await;
    for manifest in [chain(&[PASS]), chain(&[PASS, APART])] {
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
    check(&[MULTI], 3, false).await;
    check(&[MULTI, APART], 3, false).await;
    check(&["{ id: many, node_type: Multi, params: { outputs: 50 } }", APART], 50, false).await;
    check(&[MULTI, "{ id: again, node_type: Multi, params: { outputs: 2 } }"], 6, false).await;
    check(&[SILENT], 1, true).await;
    check(&[MULTI, SILENT, APART], 1, true).await;
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
