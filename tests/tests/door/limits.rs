//! How much one execution may take.

use std::time::{Duration, Instant};

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{
    DataBuffer, ErrorResponse, ErrorType, ExecuteRequest, PipelineManifest, ResourceLimits, StreamInit,
};
use remotemedia_tests::client::{chunk, context, error_in};
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::{Plant, audio};
use tonic::Code;

use crate::PASS;

/// Gives six times the samples that it takes.
const UP: &str = "{ id: up, node_type: AudioResample, params: { target_sample_rate: 48000 } }";
const DOWN: &str = "{ id: down, node_type: AudioResample, params: { target_sample_rate: 8000 } }";
const SLOW: &str = "{ id: slow, node_type: Slow, params: { ms: 600 } }";

/// Each limit this often, so that what one of them leaks becomes visible.
const ROUNDS: usize = 10;

/// What goes too far, the limits asked for, the pipeline with its entry and input, and the words of the answer.
type Row =
    (&'static str, ResourceLimits, (&'static [&'static str], &'static str, DataBuffer), [&'static str; 3]);

#[tokio::test]
async fn each_limit_is_met_by_name_with_its_value_and_the_remedy_in_one_call_and_on_a_stream() {
    let plant = Plant::start().await;
    // What is built once is built by the first.
    all_are_met(&plant).await;
    let before = plant.footprint().await;
    for _ in 0..ROUNDS {
        all_are_met(&plant).await;
    }
    plant.is_as_before(&before).await;
    plant.finish().await;
}

async fn all_are_met(plant: &Plant) {
    let none = ResourceLimits::default();
    let rows: [Row; 7] = [
        (
            "more memory than the service gives",
            ResourceLimits { max_memory_bytes: 1_000_000_001, ..none },
            (&[PASS], "pass", text("hello")),
            ["1000000001 bytes", "1000000000 bytes", "ask for less"],
        ),
        (
            "more time than the service gives",
            ResourceLimits { max_timeout_ms: 30_001, ..none },
            (&[PASS], "pass", text("hello")),
            ["30001 ms", "30000 ms", "ask for less"],
        ),
        (
            "more samples than the service takes",
            ResourceLimits { max_audio_samples: 10_000_001, ..none },
            (&[PASS], "pass", text("hello")),
            ["10000001 samples", "10000000 samples", "ask for less"],
        ),
        (
            "too many samples",
            ResourceLimits { max_audio_samples: 100, ..none },
            (&[PASS], "pass", audio::mono(16_000, &[0.5; 101])),
            ["101 samples", "100 samples", "smaller pieces"],
        ),
        (
            "too large an input",
            ResourceLimits { max_memory_bytes: 1_000, ..none },
            (&[PASS], "pass", text("x".repeat(1_001))),
            ["1001 bytes", "1000 bytes", "max_memory_bytes"],
        ),
        (
            "too large an output",
            ResourceLimits { max_memory_bytes: 100_000, ..none },
            (&[UP], "up", audio::mono(8_000, &[0.5; 8_000])),
            ["an output of node 'up'", "100000 bytes", "max_memory_bytes"],
        ),
        (
            "too large an output on the way, within a worker",
            ResourceLimits { max_memory_bytes: 100_000, ..none },
            (&[UP, DOWN], "up", audio::mono(8_000, &[0.5; 8_000])),
            ["an output of node 'up'", "100000 bytes", "max_memory_bytes"],
        ),
    ];
    for (what, limits, (nodes, entry, data), words) in rows {
        let manifest = chain(nodes);
        let error = plant.client().execute_request(request(&manifest, entry, &data, limits)).await;
        let error = error.expect("it is a reply").expect_err(what);
        assert_eq!(error.error_type(), ErrorType::ResourceLimit, "{what}: {}", error.message);
        words.iter().for_each(|word| assert!(error.message.contains(word), "{what}: {}", error.message));

        let error = on_stream(plant, &manifest, data, limits).await;
        assert_eq!(error.error_type(), ErrorType::ResourceLimit, "{what}: {}", error.message);
        words.iter().for_each(|word| assert!(error.message.contains(word), "{what}: {}", error.message));
        assert_eq!(context(&error)["stream_error_type"], "STREAM_ERROR_BUFFER_OVERFLOW", "{what}");
        plant.client().execute(&chain(&[PASS]), [("pass", text("next"))]).await.expect("the next call works");
    }
}

#[tokio::test]
async fn the_time_of_an_execution_and_of_a_chunk_is_limited_and_told_with_the_remedy() {
    let plant = Plant::start().await;
    let limits = ResourceLimits { max_timeout_ms: 100, ..ResourceLimits::default() };
    let manifest = chain(&[SLOW]);
    let status = plant.client().execute_request(request(&manifest, "slow", &text("a"), limits)).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let in_call = error_in(&status);
    let on_stream = on_stream(&plant, &manifest, text("a"), limits).await;
    assert_eq!(context(&on_stream)["stream_error_type"], "STREAM_ERROR_TIMEOUT");
    for error in [in_call, on_stream] {
        assert_eq!(error.error_type(), ErrorType::ResourceLimit, "{}", error.message);
        assert!(error.message.contains("100 ms") && error.message.contains("max_timeout_ms"), "{error:?}");
    }
    plant.client().execute(&chain(&[PASS]), [("pass", text("next"))]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn who_asks_for_no_time_gets_five_seconds() {
    let mut plant = Plant::start().await;
    plant.expect("worker_stuck");
    let manifest = chain(&["{ id: slow, node_type: Slow, params: { ms: 6000 } }"]);
    let begin = Instant::now();
    let asked = request(&manifest, "slow", &text("a"), ResourceLimits::default());
    let status = plant.client().execute_request(asked).await.unwrap_err();
    let took = begin.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("5000 ms"), "{status}");
    assert!((Duration::from_millis(4_900)..Duration::from_millis(5_900)).contains(&took), "{took:?}");
    plant.finish().await;
}

fn request(
    manifest: &PipelineManifest,
    entry: &str,
    data: &DataBuffer,
    limits: ResourceLimits,
) -> ExecuteRequest {
    ExecuteRequest {
        manifest: Some(manifest.clone()),
        data_inputs: [(entry.to_owned(), data.clone())].into(),
        resource_limits: Some(limits),
        ..ExecuteRequest::default()
    }
}

/// The error that ends a stream of one chunk.
async fn on_stream(
    plant: &Plant,
    manifest: &PipelineManifest,
    data: DataBuffer,
    limits: ResourceLimits,
) -> ErrorResponse {
    let mut call = plant.client().call().await;
    let init = StreamInit {
        manifest: Some(manifest.clone()),
        resource_limits: Some(limits),
        ..StreamInit::default()
    };
    call.say(Request::Init(init)).await;
    let mut sent = false;
    loop {
        match call.next().await.expect("an error comes before the end").expect("no status ends the stream") {
            Response::Ready(_) => {
                assert!(!sent);
                call.say(chunk(0, data.clone())).await;
                sent = true;
            }
            Response::Error(error) => return error,
            Response::Metrics(_) => {}
            other @ (Response::Result(_) | Response::Closed(_) | Response::Status(_)) => panic!("{other:?}"),
        }
    }
}
