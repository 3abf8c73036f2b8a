//! The stock nodes as manifests name and tell them, run in another process.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use remotemedia_core::Manifest;
use remotemedia_protos::convert;
use remotemedia_protos::v1::{ErrorType, NodeManifest, PipelineManifest};
use remotemedia_tests::pipeline::{chain, document, json, of, text};
use remotemedia_tests::{Plant, audio};
use serde_json::json as value;

#[tokio::test]
async fn names_of_existing_manifests_work_as_yaml_json_and_protobuf() {
    let plant = Plant::start().await;
    let resample = r#"{"source_rate": 44100, "target_rate": 16000, "quality": "Medium", "channels": 1}"#;
    let camel = r#"{"sourceRate": 44100, "targetRate": 16000, "quality": "high", "channels": 1}"#;
    let vad = r#"{"sample_rate": 16000, "frame_duration_ms": 30, "energy_threshold": 0.01}"#;
    let durations = r#"{"min_speech_duration_ms": 250, "min_silence_duration_ms": 100, "speech_pad_ms": 30}"#;
    for (node_type, params, hz) in [
        ("RustResampleNode", resample, 44_100),
        ("FastResampleNode", camel, 44_100),
        ("RustVADNode", vad, 16_000),
        ("RustVADNode", durations, 16_000),
    ] {
        for manifest in in_three_forms(node_type, params) {
            let second = audio::mono(hz, &audio::tone(hz, 16_000));
            let result = plant.client().execute(&manifest, [("node", second)]).await.unwrap();
            assert_eq!(result.data_outputs.keys().collect::<Vec<_>>(), ["node"], "{node_type}");
        }
    }
    for manifest in in_three_forms("CalculatorNode", r#"{"precision": 4}"#) {
        let request = json(r#"{"operation": "add", "operands": [10, 20]}"#);
        let result = plant.client().execute(&manifest, [("node", request)]).await.unwrap();
        let expect = value!({ "result": 30, "operation": "add", "operands": [10, 20] });
        assert_eq!(document(&result.data_outputs["node"]), expect);
    }
    plant.finish().await;
}

#[tokio::test]
async fn an_error_of_a_node_names_the_type_as_it_was_written() {
    let plant = Plant::start().await;
    let calculator = chain(&["{ id: sum, node_type: CalculatorNode }"]);
    let request = json(r#"{"operation": "divide", "operands": [1, 0]}"#);
    let error = plant.client().execute(&calculator, [("sum", request)]).await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::NodeExecution);
    assert!(error.message.contains("division by zero: operands[1] is 0"), "{}", error.message);
    assert!(error.context.contains("CalculatorNode"), "{}", error.context);
    let error = plant.client().execute(&calculator, [("sum", text("1 + 1"))]).await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::TypeValidation, "{}", error.message);
    plant.finish().await;
}

#[tokio::test]
async fn the_level_of_audio_comes_back_as_json() {
    let plant = Plant::start().await;
    let second = audio::mono(8_000, &audio::tone(8_000, 8_000));
    let level = chain(&["{ id: level, node_type: AudioLevel }"]);
    let result = plant.client().execute(&level, [("level", second)]).await.unwrap();
    let report = document(&result.data_outputs["level"]);
    assert_eq!((&report["frames"], &report["channels"][0]["rms"]), (&value!(8_000), &report["rms"]));
    assert!(report["peak_dbfs"].as_f64().unwrap() <= 0.0, "{report}");
    plant.finish().await;
}

#[tokio::test]
async fn a_parameter_that_is_not_allowed_is_named_with_its_value_and_what_is() {
    let plant = Plant::start().await;
    let check = async |params: &str, words: &[&str]| {
        let manifest = protobuf("AudioResample", params);
        let second = audio::mono(8_000, &audio::tone(8_000, 8_000));
        let error = plant.client().execute(&manifest, [("node", second)]).await.unwrap_err();
        let said = &error.message;
        assert_eq!(
            (error.error_type(), error.failing_node_id.as_str()),
            (ErrorType::Validation, "node"),
            "{said}"
        );
        words.iter().for_each(|word| assert!(said.contains(word), "{said:?} does not say {word:?}"));
    };
    check(r#"{"target_rate": 0}"#, &["'target_rate' is 0", "integer, 1 to 768000 (Hz)"]).await;
    check(r#"{"target_rate": "16000"}"#, &[r#"'target_rate' is "16000""#, "integer, 1 to 768000 (Hz)"]).await;
    check(r#"{"target_rate": 1, "quality": 3}"#, &["'quality' is 3", "low, medium, high"]).await;
    check(r#"{"target_sampel_rate": 1}"#, &["'target_sampel_rate'", "did you mean 'target_sample_rate'"])
        .await;
    check("{}", &["'target_sample_rate' is missing"]).await;
    check(r#"{"target_rate": 1, "targetRate": 1}"#, &["'target_rate' and 'targetRate' mean the same"]).await;
    check(r#"{"target_rate": NaN}"#, &["line 1, column 17"]).await;
    check(r#"{"target_rate": Infinity}"#, &["line 1, column 17"]).await;
    check(r#"{"target_rate": 1e999}"#, &["line 1, column", "out of range"]).await;
    plant.finish().await;
}

/// One node, as a client may write it.
fn in_three_forms(node_type: &str, params: &str) -> [PipelineManifest; 3] {
    // JSON in flow style is YAML too.
    let node = format!(r#"{{"id": "node", "node_type": "{node_type}", "params": {params}}}"#);
    let json = format!(r#"{{"version": "v1", "nodes": [{node}]}}"#);
    let json = convert::manifest::to_wire(Manifest::from_json(&json).unwrap());
    [of(&format!("version: v1\nnodes:\n  - {node}\n")), json, protobuf(node_type, params)]
}

fn protobuf(node_type: &str, params: &str) -> PipelineManifest {
    let node = NodeManifest {
        id: "node".to_owned(),
        node_type: node_type.to_owned(),
        params: params.to_owned(),
        ..NodeManifest::default()
    };
    PipelineManifest { version: "v1".to_owned(), nodes: vec![node], ..PipelineManifest::default() }
}
