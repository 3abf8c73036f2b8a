//! Streams whose clients would rather lose chunks than wait: `max_buffered_chunks`.

use std::collections::BTreeMap;

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{DataBuffer, DataChunk, ErrorType, PipelineManifest, StreamInit, StreamRequest};
use remotemedia_tests::Plant;
use remotemedia_tests::client::{Call, PATIENCE, context};
use remotemedia_tests::deadline::within;
use remotemedia_tests::pipeline::{chain, connection, text, unconnected, words};

use crate::PASS;

const SLOW: &str = "{ id: slow, node_type: Slow, params: { ms: 30 } }";

async fn begin(plant: &Plant, manifest: PipelineManifest, max_buffered_chunks: u64) -> Call {
    let init = StreamInit { manifest: Some(manifest), max_buffered_chunks, ..StreamInit::default() };
    plant.client().stream_as(init).await.0
}

#[tokio::test]
async fn what_a_clients_own_limit_leaves_no_room_for_is_dropped_and_told_in_its_place() {
    let plant = Plant::start().await;
    // 16 KiB a chunk: were it slowed down, its windows would hold an eighth of them, and the rest take half a minute.
    const CHUNKS: u64 = 1_000;
    let long = |number: u64| text(format!("{number} {}", "x".repeat(16 << 10)));
    let call = begin(&plant, chain(&[SLOW, PASS]), 8).await;
    let answers = within(PATIENCE, "all answers", call.run((0..CHUNKS).map(long))).await.closed();

    // Every chunk is answered once, in order: by a result, or by its being dropped.
    assert_eq!(answers.answered, (0..CHUNKS).collect::<Vec<_>>());
    println!("{} of {CHUNKS} chunks were worked on", answers.results.len());
    for result in &answers.results {
        let number = words(&result.data_outputs["pass"]).split(' ').next();
        assert_eq!(number, Some(result.sequence.to_string().as_str()));
    }
    // The last ones had nobody to make way for.
    assert!(answers.sequences().ends_with(&(CHUNKS - 8..CHUNKS).collect::<Vec<_>>()));
    let sequences = answers.answered.iter().filter(|sequence| !answers.sequences().contains(sequence));
    for (error, sequence) in answers.missed.iter().zip(sequences) {
        let told = context(error);
        assert_eq!((error.error_type(), &*error.failing_node_id), (ErrorType::ResourceLimit, "slow"));
        assert_eq!(told["stream_error_type"], "STREAM_ERROR_BUFFER_OVERFLOW", "{}", error.message);
        assert_eq!(told["failing_sequence"], *sequence, "{}", error.message);
    }

    let (results, dropped) = (answers.results.len() as u64, answers.missed.len() as u64);
    let metrics = answers.metrics.last().unwrap();
    assert_eq!((metrics.chunks_processed, metrics.chunks_dropped), (results, dropped));
    assert_eq!((metrics.total_items, metrics.buffer_items), (results, 0));
    assert_eq!(metrics.data_type_breakdown["text"], results);
    let nodes = answers.closed.unwrap().final_metrics.unwrap().node_metrics;
    assert_eq!(nodes["slow"].items_processed, results);
    let _answers = begin(&plant, chain(&[PASS]), 0).await.run([text("next")]).await.closed();
    plant.finish().await;
}

#[tokio::test]
async fn what_is_dropped_before_branches_meet_does_not_keep_them_waiting() {
    let plant = Plant::start().await;
    let apart = "{ id: video, node_type: PassThrough, own_process: true }";
    let mut manifest = unconnected(&["{ id: audio, node_type: PassThrough }", apart, SLOW]);
    manifest.connections = vec![connection("audio", "slow"), connection("video", "slow")];
    let call = begin(&plant, manifest, 4).await;
    let sender = call.sender();
    let send = async {
        for sequence in 0..200 {
            for node in ["audio", "video"] {
                let buffer: Option<DataBuffer> = Some(text(node));
                let chunk = DataChunk { node_id: node.to_owned(), buffer, sequence, ..DataChunk::default() };
                sender.send(StreamRequest { request: Some(Request::DataChunk(chunk)) }).await.unwrap();
            }
        }
        call.close().await;
    };
    send.await;
    drop(sender);
    let answers = call.rest().await.closed();
    let mut answered: BTreeMap<u64, u32> = BTreeMap::new();
    for sequence in &answers.answered {
        *answered.entry(*sequence).or_default() += 1;
    }
    // One answer for each of the two entries, and those of a sequence together.
    assert_eq!(answered, (0..200).map(|sequence| (sequence, 2)).collect());
    assert!(answers.answered.is_sorted());
    assert!(answers.results.iter().all(|result| result.data_outputs.len() == 1));
    let metrics = answers.metrics.last().unwrap();
    assert_eq!(metrics.chunks_processed + metrics.chunks_dropped, 400);
    assert!(metrics.chunks_dropped > 300, "{} dropped", metrics.chunks_dropped);
    plant.finish().await;
}

#[tokio::test]
async fn a_gap_is_told_though_chunks_may_be_dropped_and_a_wish_beyond_the_limit_is_refused() {
    let plant = Plant::start().await;
    let call = begin(&plant, chain(&[SLOW]), 2).await;
    for sequence in (0..50).chain([60]) {
        call.send(sequence, text("piece")).await;
    }
    let error = call.rest().await.error.unwrap();
    let told = context(&error);
    assert_eq!((error.error_type(), &*error.failing_node_id), (ErrorType::Validation, "slow"));
    assert_eq!(told["stream_error_type"], "STREAM_ERROR_INVALID_SEQUENCE", "{}", error.message);
    assert_eq!(told["failing_sequence"], 60);
    assert_eq!(error.message, "node 'slow' got sequence 60 after 49: expected 50");

    let call = plant.client().call().await;
    let manifest = Some(chain(&[SLOW]));
    let init = StreamInit { manifest, max_buffered_chunks: 1_025, ..StreamInit::default() };
    call.say(Request::Init(init)).await;
    let error = call.rest().await.error.unwrap();
    assert_eq!(error.error_type(), ErrorType::ResourceLimit);
    let limit = &context(&error)["fault"]["Limit"];
    assert_eq!((&limit["value"], &limit["limit"]), (&1_025.into(), &1_024.into()), "{}", error.message);
    plant.finish().await;
}
