//! What is told of an execution, against what is seen of it from outside.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message as _;
use remotemedia_protos::v1::{ExecuteRequest, ExecutionStatus, NodeMetrics, NodeStatus, StreamMetrics};
use remotemedia_tests::client::chunk;
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{RESAMPLE, chain, json, text, unconnected};
use remotemedia_tests::plant::START;
use remotemedia_tests::{Plant, Recipe, audio};
use serde_json::{Value, json};

const PASS: &str = "{ id: pass, node_type: PassThrough }";
const SLOW: &str = "{ id: slow, node_type: Slow, params: { ms: 300 } }";
const BURN: &str = "{ id: burn, node_type: Burn, params: { cpu_ms: 300 } }";
const BURN_APART: &str = "{ id: burn, node_type: Burn, params: { cpu_ms: 300 }, own_process: true }";

/// What `SLOW` sleeps and `BURN` works over one input.
const TAKEN_MS: f64 = 300.0;
/// How much more the kernel may count than a node: what its process does beside, in ticks of a hundredth of a second.
const BESIDE_MS: f64 = 0.5 * TAKEN_MS;

#[tokio::test]
async fn the_parts_of_a_call_are_within_what_its_client_waits_and_most_of_it() {
    let plant = Plant::start().await;
    for burn in [BURN, BURN_APART] {
        let asked = Instant::now();
        let result = plant.client().execute(&chain(&[SLOW, burn]), [("slow", text("x"))]).await.unwrap();
        let waited = milliseconds(asked.elapsed());
        let metrics = result.metrics.unwrap();
        let of_door =
            [metrics.serialization_time_ms, metrics.proto_to_runtime_ms, metrics.runtime_to_proto_ms];
        let nodes: f64 = metrics.node_metrics.values().map(|node| node.execution_time_ms).sum();
        let (wall, parts) = (metrics.wall_time_ms, nodes + of_door.iter().sum::<f64>());
        assert!(waited >= wall && wall >= parts, "{waited} >= {wall} >= {parts}");
        assert!(nodes >= 2.0 * TAKEN_MS && wall >= 0.5 * waited, "{nodes} of {wall} of {waited}");
        assert!(of_door.iter().all(|part| *part > 0.0), "{of_door:?}");
    }
    plant.finish().await;
}

#[tokio::test]
async fn processor_time_is_what_the_kernel_counts_and_sleep_is_none() {
    let plant = Plant::of(Recipe { workers: 1, ..Recipe::default() }).await;
    let [worker] = plant.workers() else { panic!("one worker") };
    let before = worker.cpu_time();
    let result = plant.client().execute(&chain(&[SLOW, BURN]), [("slow", text("x"))]).await.unwrap();
    let counted = milliseconds(worker.cpu_time() - before);

    let metrics = result.metrics.unwrap();
    let [slow, burn] = ["slow", "burn"].map(|node| &metrics.node_metrics[node]);
    let cpu = |node| custom(node)["cpu_time_ms"].as_f64().unwrap();
    assert!(cpu(burn) >= TAKEN_MS && cpu(burn) <= counted + 20.0, "{} of {counted}", cpu(burn));
    assert!(counted <= metrics.cpu_time_ms + BESIDE_MS, "{counted}, told {}", metrics.cpu_time_ms);
    assert!(burn.execution_time_ms >= TAKEN_MS);
    assert!(slow.execution_time_ms >= TAKEN_MS && cpu(slow) < 0.1 * TAKEN_MS, "{}", cpu(slow));
    assert!((metrics.cpu_time_ms - cpu(slow) - cpu(burn)).abs() < 1e-3, "{}", metrics.cpu_time_ms);
    plant.finish().await;
}

#[tokio::test]
async fn items_bytes_and_kinds_are_those_that_were_sent_and_received() {
    let plant = Plant::start().await;
    let sent = audio::mono(44_100, &audio::tone(44_100, 22_050));
    let manifest = unconnected(&[RESAMPLE, PASS]);
    let inputs = [("resample", sent.clone()), ("pass", text("words"))];
    let result = plant.client().execute(&manifest, inputs).await.unwrap();
    let metrics = result.metrics.as_ref().unwrap();
    assert_eq!(metrics.data_type_breakdown, counts([("audio", 1), ("text", 1)]));

    let received = audio::of(&result.data_outputs["resample"]).samples.len() as u64;
    let resample = &metrics.node_metrics["resample"];
    assert_eq!(resample.items_processed, 22_050);
    assert!(resample.memory_bytes >= received, "{} lent for {received}", resample.memory_bytes);
    let said = custom(resample);
    assert_eq!((&said["inputs"], &said["input_bytes"]), (&json!(1), &json!(22_050 * 4)));
    assert_eq!(said["output_bytes"], received);
    let pass = &metrics.node_metrics["pass"];
    assert_eq!((pass.items_processed, pass.memory_bytes, &custom(pass)["output_bytes"]), (1, 0, &json!(5)));

    let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
    let mixed = (0..20).map(|number| match number % 4 {
        0 => audio::mono(8_000, &[0.5; 100]),
        1 => json("{}"),
        _ => text("word"),
    });
    let closed = call.run(mixed).await.closed();
    let kinds = counts([("audio", 5), ("json", 5), ("text", 10)]);
    let last = closed.metrics.last().unwrap();
    assert_eq!((last.total_items, &last.data_type_breakdown), (5 * 100 + 15, &kinds));
    let metrics = closed.closed.unwrap().final_metrics.unwrap();
    assert_eq!(metrics.data_type_breakdown, kinds);
    let bytes = 5 * 400 + 5 * 2 + 10 * 4;
    let said = custom(&metrics.node_metrics["pass"]);
    assert_eq!((&said["input_bytes"], &said["output_bytes"]), (&json!(bytes), &json!(bytes)));
    let of_door = [metrics.serialization_time_ms, metrics.proto_to_runtime_ms, metrics.runtime_to_proto_ms];
    assert!(of_door.iter().all(|part| *part > 0.0), "{of_door:?}");
    plant.finish().await;
}

#[tokio::test]
async fn the_memory_that_is_told_lies_between_the_payload_and_what_its_pools_have_in_use() {
    const BYTES: u64 = 1 << 20;
    let plant = Plant::start().await;
    let (mut call, _session) = plant.client().stream(&chain(&[SLOW])).await;
    call.send(0, text("x".repeat(1 << 20))).await;
    let mut in_use = 0;
    until(START, async || {
        in_use = plant.status().await.frame_pools.iter().map(|pool| pool.bytes_in_use).sum();
        if in_use > 0 { Ok(()) } else { Err("nothing is held") }
    })
    .await;
    call.half_close();
    let told = call.rest().await.closed().metrics.pop().unwrap().peak_memory_bytes;
    assert!(told >= BYTES && told <= in_use, "{BYTES} <= {told} <= {in_use}");

    // What is forwarded by reference is held once; what is copied, twice; between two nodes, once more.
    let copy = "{ id: copy, node_type: CopyingPassThrough }";
    let again = "{ id: again, node_type: CopyingPassThrough }";
    let samples = audio::mono(48_000, &audio::tone(48_000, 50_000));
    for (nodes, times) in [(&[PASS] as &[&str], 1), (&[copy], 2), (&[copy, again], 3)] {
        let entry = if times == 1 { "pass" } else { "copy" };
        let result = plant.client().execute(&chain(nodes), [(entry, samples.clone())]).await.unwrap();
        assert_eq!(result.metrics.unwrap().memory_used_bytes, times * 200_000, "{nodes:?}");
    }
    plant.finish().await;
}

#[tokio::test]
async fn every_node_has_its_result_with_what_it_gave_and_one_that_nothing_reached_is_skipped() {
    let plant = Plant::start().await;
    let mut sent = text("hello");
    sent.metadata.insert("speaker".to_owned(), "ä".to_owned());
    let result = plant.client().execute(&chain(&[PASS]), [("pass", sent.clone())]).await.unwrap();
    let [pass] = result.node_results.as_slice() else { panic!("one node") };
    assert_eq!((result.status(), pass.status()), (ExecutionStatus::Success, NodeStatus::Success));
    let said: Value = serde_json::from_str(&pass.output_metadata).unwrap();
    let expected =
        json!({ "outputs": 1, "bytes": 5, "kinds": { "text": 1 }, "metadata": { "speaker": "ä" } });
    assert_eq!(said, expected);

    // More metadata than reports repeat is left out of them, and nowhere else.
    sent.metadata.insert("long".to_owned(), "x".repeat(5_000));
    let result = plant.client().execute(&chain(&[PASS]), [("pass", sent)]).await.unwrap();
    let said: Value = serde_json::from_str(&result.node_results[0].output_metadata).unwrap();
    assert_eq!(said["metadata"], json!({ "speaker": "ä" }));
    assert_eq!(result.data_outputs["pass"].metadata["long"].len(), 5_000);

    let silent = chain(&["{ id: silent, node_type: Silent }", PASS]);
    let result = plant.client().execute(&silent, [("silent", text("hello"))]).await.unwrap();
    assert_eq!(result.status(), ExecutionStatus::PartialSuccess);
    let each: Vec<_> =
        result.node_results.iter().map(|node| (node.node_id.as_str(), node.status())).collect();
    assert_eq!(each, [("silent", NodeStatus::Success), ("pass", NodeStatus::Skipped)]);
    assert!(result.node_results.iter().all(|node| node.output_metadata.is_empty() && node.error.is_none()));
    plant.finish().await;
}

#[tokio::test]
async fn reports_on_a_stream_count_chunks_whose_results_were_all_given() {
    let plant = Plant::start().await;
    let (call, session) =
        plant.client().stream(&chain(&["{ id: multi, node_type: Multi, params: { outputs: 3 } }"])).await;
    let answers = call.run((0..25).map(|number| text(number.to_string()))).await.closed();
    assert_eq!(answers.metrics_after, [30, 60, 75]);
    let told = |metrics: &StreamMetrics| (metrics.chunks_processed, metrics.chunks_dropped);
    assert_eq!(answers.metrics.iter().map(told).collect::<Vec<_>>(), [(10, 0), (20, 0), (25, 0)]);
    assert!(answers.metrics.iter().all(|metrics| metrics.session_id == session));

    // A chunk has taken as long as the last of its results.
    let took: BTreeMap<u64, f64> =
        answers.results.iter().map(|result| (result.sequence, result.processing_time_ms)).collect();
    let mean = took.values().sum::<f64>() / 25.0;
    let last = answers.metrics.last().unwrap();
    assert!((last.average_latency_ms - mean).abs() < 1e-3, "{} is not {mean}", last.average_latency_ms);
    assert_eq!((last.total_items, last.buffer_items), (25, 0));
    plant.finish().await;
}

#[tokio::test]
async fn what_waits_is_told_in_items_and_its_wait_is_part_of_its_time() {
    let plant = Plant::start().await;
    let (mut call, _session) = plant.client().stream(&chain(&[PASS, SLOW])).await;
    let tone = audio::mono(16_000, &audio::tone(16_000, 160));
    for sequence in 0..12 {
        call.say(chunk(sequence, if sequence < 10 { text("x") } else { tone.clone() })).await;
    }
    call.half_close();
    let answers = call.rest().await.closed();
    // With the tenth result, the two behind it wait or are under way.
    let tenth = &answers.metrics[0];
    assert_eq!((tenth.chunks_processed, tenth.total_items, tenth.buffer_items), (10, 330, 320));
    let first = answers.results[0].processing_time_ms;
    let last = answers.results[11].processing_time_ms;
    assert!(first >= TAKEN_MS && last >= 2.0 * TAKEN_MS, "{first}, {last}");
    plant.finish().await;
}

#[tokio::test]
async fn the_time_of_decoding_grows_with_the_message() {
    let plant = Plant::start().await;
    let mut decoding = Vec::new();
    for bytes in [1, 8 << 20] {
        let request = ExecuteRequest {
            manifest: Some(chain(&[PASS])),
            data_inputs: BTreeMap::from([("pass".to_owned(), text("x".repeat(bytes)))]),
            ..ExecuteRequest::default()
        };
        let begin = Instant::now();
        let copy = ExecuteRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        let here = milliseconds(begin.elapsed());
        let asked = Instant::now();
        let result = plant.client().execute_request(copy).await.unwrap().unwrap();
        let waited = milliseconds(asked.elapsed());
        let told = result.metrics.unwrap().serialization_time_ms;
        assert!(told > 0.0 && told < waited, "{told} of {waited}, {here} in this process");
        decoding.push(told);
    }
    assert!(decoding[1] > decoding[0], "{decoding:?}");
    plant.finish().await;
}

fn custom(node: &NodeMetrics) -> Value {
    serde_json::from_str(&node.custom_metrics).unwrap()
}

fn counts<const N: usize>(kinds: [(&str, u64); N]) -> BTreeMap<String, u64> {
    kinds.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
