//! [`ExecutionMetrics`] → `ExecutionMetrics` and `StreamMetrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use remotemedia_core::data::Kind;
use remotemedia_core::frame::SessionId;
use remotemedia_core::transport::{ExecutionMetrics, NodeReport};
use serde_json::json;

use crate::v1;

/// What an execution has used. What only the door can measure (the times spent on encoding and conversion) is 0, and
/// its to fill in.
#[must_use]
pub fn to_wire(metrics: &ExecutionMetrics) -> v1::ExecutionMetrics {
    v1::ExecutionMetrics {
        wall_time_ms: milliseconds(metrics.wall),
        cpu_time_ms: milliseconds(metrics.cpu),
        memory_used_bytes: metrics.peak_memory_bytes,
        node_metrics: metrics
            .nodes
            .iter()
            .map(|(node, report)| (node.clone(), node_to_wire(report)))
            .collect(),
        serialization_time_ms: 0.0,
        proto_to_runtime_ms: 0.0,
        runtime_to_proto_ms: 0.0,
        data_type_breakdown: breakdown(&metrics.kinds),
    }
}

/// What a session has used so far. Nothing is dropped and no node cache is kept, so those counts are 0.
#[must_use]
pub fn to_wire_on_stream(session: SessionId, metrics: &ExecutionMetrics) -> v1::StreamMetrics {
    v1::StreamMetrics {
        session_id: session.to_string(),
        chunks_processed: metrics.chunks,
        average_latency_ms: milliseconds(metrics.average_latency),
        total_items: metrics.items,
        buffer_items: metrics.buffered_items,
        chunks_dropped: 0,
        peak_memory_bytes: metrics.peak_memory_bytes,
        data_type_breakdown: breakdown(&metrics.kinds),
        cache_hits: 0,
        cache_misses: 0,
        cached_nodes_count: 0,
        cache_hit_rate: 0.0,
    }
}

/// In milliseconds with fractions, as the contract counts time.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn node_to_wire(report: &NodeReport) -> v1::NodeMetrics {
    let NodeReport { calls, busy, cpu, items, outputs, output_bytes, copied_bytes, pid, worker } = report;
    let custom = json!({
        "calls": calls,
        "cpu_time_ms": milliseconds(*cpu),
        "outputs": outputs,
        "copied_bytes": copied_bytes,
        "worker": worker,
        "pid": pid,
    });
    v1::NodeMetrics {
        execution_time_ms: milliseconds(*busy),
        memory_bytes: *output_bytes,
        items_processed: *items,
        custom_metrics: custom.to_string(),
    }
}

fn breakdown(kinds: &BTreeMap<Kind, u64>) -> BTreeMap<String, u64> {
    kinds.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_keep_their_units() {
        let report = NodeReport {
            calls: 3,
            busy: Duration::from_micros(1_500),
            items: 960,
            output_bytes: 64,
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
        let unary = to_wire(&metrics);
        assert_eq!(unary.wall_time_ms, 2.25);
        assert_eq!(unary.data_type_breakdown["audio"], 3);
        let node = &unary.node_metrics["vad"];
        assert_eq!((node.execution_time_ms, node.memory_bytes, node.items_processed), (1.5, 64, 960));
        let custom: serde_json::Value = serde_json::from_str(&node.custom_metrics).unwrap();
        assert_eq!((&custom["calls"], &custom["worker"]), (&json!(3), &json!("rust-1")));

        let stream = to_wire_on_stream(SessionId(0xab), &metrics);
        assert_eq!((stream.session_id.as_str(), stream.average_latency_ms), ("00000000000000ab", 7.0));
    }
}
