//! Pipelines as clients send them, and what goes into them.

use remotemedia_core::Manifest;
use remotemedia_protos::convert;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::{DataBuffer, JsonData, PipelineManifest, TextBuffer};

/// Resamples to 16 kHz.
pub const RESAMPLE: &str =
    "{ id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }";

/// The pipeline of these nodes, written as in a YAML manifest, each feeding the next.
///
/// # Panics
/// It is no manifest.
#[must_use]
pub fn chain(nodes: &[&str]) -> PipelineManifest {
    let mut manifest = unconnected(nodes);
    let ids: Vec<String> = manifest.nodes.iter().map(|node| node.id.clone()).collect();
    manifest.connections = ids.windows(2).map(|pair| connection(&pair[0], &pair[1])).collect();
    manifest
}

/// The pipeline of these nodes, each of them entry and sink.
///
/// # Panics
/// It is no manifest.
#[must_use]
pub fn unconnected(nodes: &[&str]) -> PipelineManifest {
    let listed: String = nodes.iter().map(|node| format!("  - {node}\n")).collect();
    of(&format!("version: v1\nmetadata: {{ name: test }}\nnodes:\n{listed}"))
}

/// The pipeline that a YAML manifest says.
///
/// # Panics
/// It is no manifest.
#[must_use]
pub fn of(yaml: &str) -> PipelineManifest {
    convert::manifest::to_wire(Manifest::from_yaml(yaml).expect("the test's manifest is one"))
}

/// `from` feeds `to`.
#[must_use]
pub fn connection(from: &str, to: &str) -> remotemedia_protos::v1::Connection {
    remotemedia_protos::v1::Connection { from: from.to_owned(), to: to.to_owned() }
}

/// A text as a buffer of the contract.
#[must_use]
pub fn text(words: impl Into<String>) -> DataBuffer {
    let text = TextBuffer { text_data: words.into().into_bytes().into(), ..TextBuffer::default() };
    DataBuffer { data_type: Some(DataType::Text(text)), ..DataBuffer::default() }
}

/// A JSON document as a buffer of the contract.
#[must_use]
pub fn json(document: impl Into<String>) -> DataBuffer {
    let json = JsonData { json_payload: document.into(), ..JsonData::default() };
    DataBuffer { data_type: Some(DataType::Json(json)), ..DataBuffer::default() }
}

/// The words of a text.
///
/// # Panics
/// The buffer holds something else.
#[must_use]
pub fn words(buffer: &DataBuffer) -> &str {
    match &buffer.data_type {
        Some(DataType::Text(text)) => std::str::from_utf8(&text.text_data).expect("text is UTF-8"),
        other => panic!("expected text, got {other:?}"),
    }
}

/// What a JSON document says.
///
/// # Panics
/// The buffer holds something else.
#[must_use]
pub fn document(buffer: &DataBuffer) -> serde_json::Value {
    match &buffer.data_type {
        Some(DataType::Json(json)) => serde_json::from_str(&json.json_payload).expect("JSON parses"),
        other => panic!("expected JSON, got {other:?}"),
    }
}
