//! [`ExecutionMetrics`] ⇄ `ExecutionMetrics` and `StreamMetrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use remotemedia_core::data::Kind;
use remotemedia_core::frame::{Metadata, SessionId};
use remotemedia_core::transport::{ExecutionMetrics, NodeReport};
use serde::{Deserialize, Serialize};

use crate::v1;

/// What only the door can measure of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DoorTimes {
    /// Decoding and encoding of messages.
    pub serialization: Duration,
    /// From messages to the runtime's data.
    pub proto_to_runtime: Duration,
    /// From the runtime's data to messages.
    pub runtime_to_proto: Duration,
}

/// What an execution has used.
#[must_use]
pub fn to_wire(metrics: &ExecutionMetrics, door: DoorTimes) -> v1::ExecutionMetrics {
    v1::ExecutionMetrics {
        wall_time_ms: milliseconds(metrics.wall),
        cpu_time_ms: milliseconds(metrics.cpu),
        memory_used_bytes: metrics.peak_memory_bytes,
        node_metrics: metrics
            .nodes
            .iter()
            .map(|(node, report)| (node.clone(), node_to_wire(report)))
            .collect(),
        serialization_time_ms: milliseconds(door.serialization),
        proto_to_runtime_ms: milliseconds(door.proto_to_runtime),
        runtime_to_proto_ms: milliseconds(door.runtime_to_proto),
        data_type_breakdown: breakdown(&metrics.kinds),
    }
}

/// What a session has used so far. No node cache is kept, so its counts are 0.
#[must_use]
pub fn to_wire_on_stream(session: SessionId, metrics: &ExecutionMetrics) -> v1::StreamMetrics {
    v1::StreamMetrics {
        session_id: session.to_string(),
        chunks_processed: metrics.chunks,
        average_latency_ms: milliseconds(metrics.average_latency),
        total_items: metrics.items,
        buffer_items: metrics.buffered_items,
        chunks_dropped: metrics.dropped,
        peak_memory_bytes: metrics.peak_memory_bytes,
        data_type_breakdown: breakdown(&metrics.kinds),
        cache_hits: 0,
        cache_misses: 0,
        cached_nodes_count: 0,
        cache_hit_rate: 0.0,
    }
}

/// What a service says that an execution has used. Measures are for people: what cannot be read counts as 0.
#[must_use]
pub fn from_wire(metrics: v1::ExecutionMetrics) -> ExecutionMetrics {
    let nodes = metrics.node_metrics.into_iter().map(|(node, measures)| (node, node_from_wire(&measures)));
    ExecutionMetrics {
        wall: duration(metrics.wall_time_ms),
        cpu: duration(metrics.cpu_time_ms),
        peak_memory_bytes: metrics.memory_used_bytes,
        nodes: nodes.collect(),
        kinds: kinds(&metrics.data_type_breakdown),
        ..ExecutionMetrics::default()
    }
}

/// What a service says that a session has used so far.
#[must_use]
pub fn from_wire_on_stream(metrics: v1::StreamMetrics) -> ExecutionMetrics {
    ExecutionMetrics {
        peak_memory_bytes: metrics.peak_memory_bytes,
        chunks: metrics.chunks_processed,
        dropped: metrics.chunks_dropped,
        items: metrics.total_items,
        average_latency: duration(metrics.average_latency_ms),
        buffered_items: metrics.buffer_items,
        kinds: kinds(&metrics.data_type_breakdown),
        ..ExecutionMetrics::default()
    }
}

/// In milliseconds with fractions, as the contract counts time.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// `NodeResult.output_metadata`: what a node gave, and what it said about the last of it. Empty if it gave nothing.
#[must_use]
pub fn output_metadata(report: &NodeReport) -> String {
    if report.outputs == 0 {
        return String::new();
    }
    let said = OutputMetadata {
        outputs: report.outputs,
        bytes: report.output_bytes,
        kinds: breakdown(&report.output_kinds),
        metadata: &report.output_metadata,
    };
    // Numbers and strings always have a JSON form.
    serde_json::to_string(&said).unwrap_or_default()
}

#[derive(Serialize)]
struct OutputMetadata<'a> {
    outputs: u64,
    bytes: u64,
    kinds: BTreeMap<String, u64>,
    metadata: &'a Metadata,
}

/// The object in `NodeMetrics.custom_metrics`: what the contract has no field for.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Custom {
    setup_ms: f64,
    calls: u64,
    cpu_time_ms: f64,
    inputs: u64,
    input_bytes: u64,
    outputs: u64,
    output_bytes: u64,
    peak_bytes: u64,
    copied_bytes: u64,
    hops: u64,
    hop_ms: f64,
    worker: String,
    pid: u32,
}

fn node_to_wire(report: &NodeReport) -> v1::NodeMetrics {
    let custom = Custom {
        setup_ms: milliseconds(report.setup),
        calls: report.calls,
        cpu_time_ms: milliseconds(report.cpu),
        inputs: report.inputs,
        input_bytes: report.input_bytes,
        outputs: report.outputs,
        output_bytes: report.output_bytes,
        peak_bytes: report.peak_bytes,
        copied_bytes: report.copied_bytes,
        hops: report.hops,
        hop_ms: milliseconds(report.hop),
        worker: report.worker.clone(),
        pid: report.pid,
    };
    v1::NodeMetrics {
        execution_time_ms: milliseconds(report.busy),
        memory_bytes: report.lent_bytes,
        items_processed: report.items,
        // Numbers and a string always have a JSON form.
        custom_metrics: serde_json::to_string(&custom).unwrap_or_default(),
    }
}

fn node_from_wire(measures: &v1::NodeMetrics) -> NodeReport {
    let custom: Custom = serde_json::from_str(&measures.custom_metrics).unwrap_or_default();
    NodeReport {
        setup: duration(custom.setup_ms),
        calls: custom.calls,
        busy: duration(measures.execution_time_ms),
        cpu: duration(custom.cpu_time_ms),
        inputs: custom.inputs,
        input_bytes: custom.input_bytes,
        items: measures.items_processed,
        outputs: custom.outputs,
        output_bytes: custom.output_bytes,
        // What a node gave travels beside its measures.
        output_kinds: BTreeMap::new(),
        output_metadata: Metadata::new(),
        lent_bytes: measures.memory_bytes,
        peak_bytes: custom.peak_bytes,
        copied_bytes: custom.copied_bytes,
        hops: custom.hops,
        hop: duration(custom.hop_ms),
        pid: custom.pid,
        worker: custom.worker,
    }
}

/// Rounded to nanoseconds: what a service measured survives the wire.
fn duration(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default()
}

fn kinds(breakdown: &BTreeMap<String, u64>) -> BTreeMap<Kind, u64> {
    let known = Kind::ALL.into_iter();
    known.filter_map(|kind| Some((kind, *breakdown.get(kind.name())?))).collect()
}

fn breakdown(kinds: &BTreeMap<Kind, u64>) -> BTreeMap<String, u64> {
    kinds.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn measures_keep_their_units() {
        let report = NodeReport {
            calls: 3,
            busy: Duration::from_micros(1_500),
            items: 960,
            lent_bytes: 64,
            output_bytes: 60,
            hops: 3,
            hop: Duration::from_micros(45),
            worker: "rust-1".to_owned(),
            ..NodeReport::default()
        };
        let metrics = ExecutionMetrics {
            wall: Duration::from_micros(2_250),
            nodes: BTreeMap::from([("vad".to_owned(), report)]),
            kinds: BTreeMap::from([(Kind::Audio, 3)]),
            average_latency: Duration::from_millis(7),
            ..ExecutionMetrics::default()
        };
        let door = DoorTimes { serialization: Duration::from_micros(500), ..DoorTimes::default() };
        let unary = to_wire(&metrics, door);
        assert_eq!((unary.serialization_time_ms, unary.proto_to_runtime_ms), (0.5, 0.0));
        assert_eq!(unary.wall_time_ms, 2.25);
        assert_eq!(unary.data_type_breakdown["audio"], 3);
        let node = &unary.node_metrics["vad"];
        assert_eq!((node.execution_time_ms, node.memory_bytes, node.items_processed), (1.5, 64, 960));
        let custom: serde_json::Value = serde_json::from_str(&node.custom_metrics).unwrap();
        assert_eq!(
            from_wire(unary.clone()),
            ExecutionMetrics { average_latency: Duration::ZERO, ..metrics.clone() }
        );
        assert_eq!((&custom["calls"], &custom["worker"]), (&json!(3), &json!("rust-1")));

        let stream = to_wire_on_stream(SessionId(0xab), &metrics);
        assert_eq!((stream.session_id.as_str(), stream.average_latency_ms), ("00000000000000ab", 7.0));
    }

    #[test]
    fn what_a_node_gave_is_one_object_and_nothing_is_none() {
        let report = NodeReport {
            outputs: 2,
            output_bytes: 10,
            output_kinds: BTreeMap::from([(Kind::Text, 2)]),
            output_metadata: Metadata::from([("speaker".to_owned(), "a".to_owned())]),
            ..NodeReport::default()
        };
        let said: serde_json::Value = serde_json::from_str(&output_metadata(&report)).unwrap();
        let expected =
            json!({ "outputs": 2, "bytes": 10, "kinds": { "text": 2 }, "metadata": { "speaker": "a" } });
        assert_eq!(said, expected);
        assert_eq!(output_metadata(&NodeReport::default()), "");
    }

    #[test]
    fn measures_of_a_service_that_says_less_are_zero_and_no_error() {
        let measures =
            v1::NodeMetrics { execution_time_ms: -1.0, custom_metrics: "{".into(), ..Default::default() };
        assert_eq!(node_from_wire(&measures), NodeReport::default());
    }
}
