//! `ExecutePipeline` and `GetVersion`, as clients meet them.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::collections::BTreeSet;

use remotemedia_core::Fault;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::{
    ErrorResponse, ErrorType, ExecuteRequest, ExecutionResult, ExecutionStatus, JsonData, NodeMetrics,
    NodeStatus, PipelineManifest,
};
use remotemedia_tests::client::fault;
use remotemedia_tests::pipeline::{
    RESAMPLE, chain, connection, document, json, of, text, unconnected, words,
};
use remotemedia_tests::{Client, Plant, audio};
use tonic::Code;

const PASS: &str = "{ id: pass, node_type: PassThrough }";

#[tokio::test]
async fn a_second_of_44100_hz_becomes_exactly_16000_samples_keyed_by_the_sink() {
    let plant = Plant::start().await;
    let second = audio::mono(44_100, &audio::tone(44_100, 44_100));
    let result = plant.client().execute(&chain(&[RESAMPLE]), [("resample", second)]).await.unwrap();

    assert_eq!(result.status(), ExecutionStatus::Success);
    assert_eq!(result.data_outputs.keys().collect::<Vec<_>>(), ["resample"]);
    let output = audio::of(&result.data_outputs["resample"]);
    assert_eq!((output.num_samples, output.sample_rate, output.channels), (16_000, 16_000, 1));
    assert_eq!(audio::samples(&result.data_outputs["resample"]).len(), 16_000);
    let [node] = result.node_results.as_slice() else { panic!("one node ran") };
    assert_eq!((node.node_id.as_str(), node.status()), ("resample", NodeStatus::Success));
    plant.finish().await;
}

#[tokio::test]
async fn metrics_name_the_worker_of_each_node_and_count_what_went_through() {
    let plant = Plant::start().await;
    let second = audio::mono(44_100, &audio::tone(44_100, 44_100));
    let speech = chain(&[RESAMPLE, "{ id: vad, node_type: VAD }"]);
    let result = plant.client().execute(&speech, [("resample", second)]).await.unwrap();

    let order: Vec<&str> = result.node_results.iter().map(|node| node.node_id.as_str()).collect();
    assert_eq!(order, ["resample", "vad"]);
    // Several documents of one sink become an array: one for what came of the input, the last for what was kept back.
    let reports = document(&result.data_outputs["vad"]);
    let reports = reports.as_array().unwrap();
    for field in ["has_speech", "confidence", "segments"] {
        assert!(reports.iter().all(|report| report.get(field).is_some()), "no {field} in {reports:?}");
    }
    assert_eq!(reports.last().unwrap()["final"], true);

    let metrics = result.metrics.unwrap();
    assert!(metrics.wall_time_ms > 0.0 && metrics.wall_time_ms < 15_000.0, "{}", metrics.wall_time_ms);
    assert_eq!(metrics.node_metrics.keys().collect::<Vec<_>>(), ["resample", "vad"]);
    let resample = &metrics.node_metrics["resample"];
    assert_eq!(resample.items_processed, 44_100);
    assert!(resample.execution_time_ms > 0.0);
    let place = custom(resample);
    let worker = plant.worker(place["worker"].as_str().unwrap());
    assert_eq!(place["pid"], worker.pid());
    // Neighbours share a process where nothing speaks against it.
    assert_eq!(custom(&metrics.node_metrics["vad"])["pid"], worker.pid());
    plant.finish().await;
}

#[tokio::test]
async fn a_fan_out_returns_every_sink_with_the_same_bytes() {
    let plant = Plant::start().await;
    let manifest = of("
version: v1
nodes:
  - { id: in, node_type: PassThrough }
  - { id: left, node_type: PassThrough, own_process: true }
  - { id: right, node_type: PassThrough }
  - { id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }
connections:
  - { from: in, to: left }
  - { from: in, to: right }
  - { from: in, to: resample }
");
    let sent = audio::mono(48_000, &audio::tone(48_000, 4_800));
    let result = plant.client().execute(&manifest, [("in", sent.clone())]).await.unwrap();
    assert_eq!(result.data_outputs.keys().collect::<Vec<_>>(), ["left", "resample", "right"]);
    assert_eq!(result.data_outputs["left"], sent);
    assert_eq!(result.data_outputs["right"], sent);
    assert_eq!(audio::of(&result.data_outputs["resample"]).num_samples, 1_600);
    plant.finish().await;
}

#[tokio::test]
async fn json_and_text_and_their_metadata_pass_through_byte_for_byte() {
    let plant = Plant::start().await;
    let mut document = json(" {\"a\" : 1.50, \"b\":[ ]} ");
    document.metadata.insert("speaker".to_owned(), "ä".to_owned());
    if let Some(DataType::Json(JsonData { schema_type, .. })) = &mut document.data_type {
        "annotation".clone_into(schema_type);
    }
    let rows = [document, json("null"), text("Grüße\u{0}, 世界 🎧"), text(""), text("x".repeat(100_000))];
    for sent in rows {
        let result = plant.client().execute(&chain(&[PASS]), [("pass", sent.clone())]).await.unwrap();
        assert_eq!(result.data_outputs["pass"].metadata, sent.metadata);
        match (&result.data_outputs["pass"].data_type, &sent.data_type) {
            (Some(DataType::Json(came)), Some(DataType::Json(went))) => {
                assert_eq!((&came.json_payload, &came.schema_type), (&went.json_payload, &went.schema_type));
            }
            (Some(DataType::Text(came)), Some(DataType::Text(went))) => {
                assert_eq!((&came.text_data, &came.language), (&went.text_data, &went.language));
            }
            (came, went) => panic!("{went:?} came back as {came:?}"),
        }
    }
    plant.finish().await;
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_what_would_be_right() {
    let plant = Plant::start().await;
    let check =
        async |manifest: PipelineManifest, input: &str, kind: ErrorType, node: &str, words: &[&str]| {
            let error = plant.client().execute(&manifest, [(input, text("hello"))]).await.unwrap_err();
            let said = &error.message;
            assert_eq!((error.error_type(), error.failing_node_id.as_str()), (kind, node), "{said}");
            words.iter().for_each(|word| assert!(said.contains(word), "{said:?} does not say {word:?}"));
        };
    let unknown = chain(&["{ id: echo, node_type: Reverb }"]);
    check(unknown, "echo", ErrorType::Validation, "echo", &["Reverb", "AudioResample", "PassThrough", "VAD"])
        .await;
    let parameter = chain(&["{ id: r, node_type: AudioResample, params: { target_sample_rate: -1 } }"]);
    check(parameter, "r", ErrorType::Validation, "r", &["target_sample_rate"]).await;
    let excess = chain(&["{ id: p, node_type: PassThrough, params: { gain: 3 } }"]);
    check(excess, "p", ErrorType::Validation, "p", &["gain"]).await;
    check(chain(&[PASS]), "nobody", ErrorType::Validation, "nobody", &["nobody", "pass"]).await;
    let second = chain(&[PASS, "{ id: next, node_type: PassThrough }"]);
    check(second, "next", ErrorType::Validation, "next", &["entries", "pass"]).await;
    check(chain(&[RESAMPLE]), "resample", ErrorType::TypeValidation, "resample", &["audio", "text"]).await;
    check(of("{ version: v7, nodes: [] }"), "x", ErrorType::VersionMismatch, "", &["v7", "v1"]).await;
    let mut loose = chain(&[PASS]);
    loose.connections.push(connection("pass", "gone"));
    check(loose, "pass", ErrorType::Validation, "", &["gone"]).await;
    let crowded = "{ id: a, node_type: PassThrough, host: elsewhere }";
    check(chain(&[crowded]), "a", ErrorType::Validation, "a", &["elsewhere"]).await;

    let empty = plant.client().execute_request(ExecuteRequest::default()).await.unwrap().unwrap_err();
    assert_eq!(empty.error_type(), ErrorType::Validation, "{}", empty.message);
    plant.finish().await;
}

#[tokio::test]
async fn a_client_of_another_version_is_told_which_is_served() {
    let plant = Plant::start().await;
    let version = plant.client().version("v1").await;
    assert!(version.compatible, "{}", version.compatibility_message);
    let info = version.version_info.unwrap();
    assert_eq!((info.protocol_version.as_str(), info.supported_protocols), ("v1", vec!["v1".to_owned()]));
    let offered: Vec<&str> = info.supported_node_types.iter().map(String::as_str).collect();
    for name in ["AudioResample", "PassThrough", "VAD", "Fault", "Multi"] {
        assert!(offered.contains(&name), "{offered:?}");
    }
    assert!(info.build_timestamp.starts_with("20"), "{}", info.build_timestamp);

    let other = plant.client().version("v2").await;
    assert!(!other.compatible && other.compatibility_message.contains("v1"), "{other:?}");
    let request = ExecuteRequest {
        manifest: Some(chain(&[PASS])),
        client_version: "v2".to_owned(),
        ..ExecuteRequest::default()
    };
    let error = plant.client().execute_request(request).await.unwrap().unwrap_err();
    assert_eq!(error.error_type(), ErrorType::VersionMismatch);
    assert!(error.message.contains("v2") && error.message.contains("v1"), "{}", error.message);
    plant.finish().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_resource_exhausted_and_the_largest_is_served() {
    let plant = Plant::start().await;
    let pass = chain(&[PASS]);
    let execute = async |bytes: usize| {
        let inputs = [("pass".to_owned(), text("x".repeat(bytes)))].into();
        let manifest = Some(pass.clone());
        let request = ExecuteRequest { manifest, data_inputs: inputs, ..ExecuteRequest::default() };
        plant.client().execute_request(request).await
    };
    let status = execute(17 << 20).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("max_message_bytes"), "{status}");
    let largest = (16 << 20) - 65_536;
    let result = execute(largest).await.unwrap().unwrap();
    assert_eq!(words(&result.data_outputs["pass"]).len(), largest);
    plant.finish().await;
}

#[tokio::test]
async fn a_node_that_fails_or_panics_is_named_and_its_worker_lives_on() {
    let plant = Plant::start().await;
    let execute = async |how: &str| -> ErrorResponse {
        let node = format!("{{ id: bad, node_type: Fault, params: {{ how: {how}, at: 0 }} }}");
        let manifest = chain(&[PASS, &node]);
        plant.client().execute(&manifest, [("pass", text("hello"))]).await.unwrap_err()
    };
    let failed = execute("fail").await;
    assert_eq!((failed.error_type(), failed.failing_node_id.as_str()), (ErrorType::NodeExecution, "bad"));
    assert!(failed.message.contains("told to fail at 0"), "{}", failed.message);
    assert_eq!(failed.stack_trace, "");

    let panicked = execute("panic").await;
    assert_eq!((panicked.error_type(), panicked.failing_node_id.as_str()), (ErrorType::NodeExecution, "bad"));
    assert!(panicked.message.contains("told to panic at 0"), "{}", panicked.message);
    assert!(panicked.message.contains("fault.rs"), "{}", panicked.message);
    assert!(panicked.stack_trace.contains("Fault"), "{}", panicked.stack_trace);
    let Fault::Node(node) = fault(&panicked) else { panic!("{panicked:?}") };
    assert_eq!((node.node_type.as_str(), node.sequence), ("Fault", 0));
    // That the workers' pids are the same is what `finish` looks at.
    plant.client().execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn a_node_that_gives_another_kind_than_its_neighbour_takes_ends_the_run_and_not_the_worker() {
    let plant = Plant::start().await;
    let liar = "{ id: liar, node_type: Fault, params: { how: wrong_kind, at: 0 } }";
    for own_process in [false, true] {
        let victim = format!("{{ id: vad, node_type: VAD, own_process: {own_process} }}");
        let sent = audio::mono(16_000, &audio::tone(16_000, 1_600));
        let error = plant.client().execute(&chain(&[liar, &victim]), [("liar", sent)]).await.unwrap_err();
        assert_eq!(error.failing_node_id, "vad", "{}", error.message);
        assert!(error.message.contains("audio") && error.message.contains("text"), "{}", error.message);
    }
    plant.finish().await;
}

#[tokio::test]
async fn own_process_puts_neighbours_into_two_processes() {
    let plant = Plant::start().await;
    let apart = "{ id: apart, node_type: PassThrough, own_process: true }";
    let result = plant.client().execute(&chain(&[PASS, apart]), [("pass", text("hello"))]).await.unwrap();
    let metrics = result.metrics.unwrap().node_metrics;
    let pids: BTreeSet<u64> = metrics.values().map(|node| custom(node)["pid"].as_u64().unwrap()).collect();
    let workers = plant.workers().iter().map(|worker| u64::from(worker.pid())).collect();
    assert_eq!(pids, workers);

    let third = "{ id: third, node_type: VAD, own_process: true, capabilities: { gpu: { type: cuda, required: true } } }";
    let error = plant.client().execute(&chain(&[third]), [("third", text("hello"))]).await.unwrap_err();
    assert!(error.message.contains("gpu"), "{}", error.message);
    plant.finish().await;
}

#[tokio::test]
async fn a_run_beyond_its_time_is_a_deadline_and_frees_what_it_held() {
    let plant = Plant::start().await;
    let request = ExecuteRequest {
        manifest: Some(chain(&["{ id: slow, node_type: Slow, params: { ms: 400 } }"])),
        data_inputs: [("slow".to_owned(), text("hello"))].into(),
        resource_limits: Some(remotemedia_protos::v1::ResourceLimits {
            max_timeout_ms: 100,
            ..Default::default()
        }),
        ..ExecuteRequest::default()
    };
    let status = plant.client().execute_request(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    plant.finish().await;
}

#[tokio::test]
async fn a_hundred_clients_at_once_are_all_served() {
    let plant = Plant::start().await;
    let address = plant.address();
    let tasks: Vec<_> = (0..100_u16)
        .map(|number| {
            let address = address.to_owned();
            tokio::spawn(async move {
                let client = Client::connect(&address).await;
                let audio = audio::mono(44_100, &audio::tone(44_100, 4_410));
                let inputs = [("resample", audio), ("pass", text(number.to_string()))];
                let result: ExecutionResult =
                    client.execute(&unconnected(&[RESAMPLE, PASS]), inputs).await.unwrap();
                assert_eq!(audio::of(&result.data_outputs["resample"]).num_samples, 1_600);
                assert_eq!(words(&result.data_outputs["pass"]), number.to_string());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    plant.finish().await;
}

/// What the contract has no field for.
fn custom(node: &NodeMetrics) -> serde_json::Value {
    serde_json::from_str(&node.custom_metrics).unwrap()
}
