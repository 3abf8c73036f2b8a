//! What a run says of itself when it is over: for people, or as one JSON object.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use remotemedia_core::transport::{ExecutionMetrics, NodeReport};
use serde::Serialize;
use serde_json::Value;

/// One run of one pipeline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// What people call the pipeline, or its file.
    pub pipeline: String,
    /// How the input went.
    pub mode: Mode,
    /// The service that ran it.
    pub endpoint: String,
    /// The gateway's process id, as far as it could be found out.
    pub gateway_pid: Option<u32>,
    /// From the launch of the private service until it was ready; none if the service was there.
    pub startup_ms: Option<f64>,
    /// From the connection to the last result, with the reading of the input and the writing of the output.
    pub wall_ms: f64,
    /// The duration of the input, if it is audio.
    pub audio_seconds: Option<f64>,
    /// The nodes, in the pipeline's order.
    pub nodes: Vec<NodeLine>,
    /// What was sent and answered.
    pub sequences: Sequences,
    /// Of a stream in real time: chunks whose first result came after the next chunk's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<usize>,
    /// From sending a chunk, or in real time from its time, to its first result.
    pub latency_ms: Option<Latency>,
    /// How many outputs each sink gave.
    pub output_counts: BTreeMap<String, u64>,
    /// The outputs themselves, if they went nowhere else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Value>,
}

/// How the input went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In one call.
    Unary,
    /// In chunks.
    Stream,
}

/// One node of the pipeline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NodeLine {
    /// Its id.
    pub node: String,
    /// Its registered type.
    pub node_type: String,
    /// Time inside the node.
    pub busy_ms: f64,
    /// Processor time inside the node.
    pub cpu_ms: f64,
    /// Calls of the node.
    pub calls: u64,
    /// Items that it took: samples of all channels for audio, pieces otherwise.
    pub items: u64,
    /// Outputs that it gave.
    pub outputs: u64,
    /// Bytes copied because an output was not in pool memory.
    pub copied_bytes: u64,
    /// Frames that came to it from another process.
    pub hops: u64,
    /// What their ways took, added up.
    pub hop_ms: f64,
    /// The process that ran it.
    pub pid: u32,
    /// The name of that worker.
    pub worker: String,
}

/// What was sent and answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sequences {
    /// Inputs sent.
    pub sent: u64,
    /// Inputs of which results came.
    pub answered: u64,
    /// Results, of which an input may have several.
    pub results: u64,
    /// The last sequence answered.
    pub last: Option<u64>,
}

/// How long results took, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50: f64,
    /// 95 of 100 took no longer.
    pub p95: f64,
    /// None took longer.
    pub max: f64,
}

// === impl Summary ===

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline(f)?;
        let id_width = self.nodes.iter().map(|node| node.node.len()).max().unwrap_or(0);
        let type_width = self.nodes.iter().map(|node| node.node_type.len()).max().unwrap_or(0);
        for node in &self.nodes {
            let NodeLine { node, node_type, busy_ms, calls, pid, worker, copied_bytes, .. } = node;
            let copied = match copied_bytes {
                0 => String::new(),
                bytes => format!(", {bytes} bytes copied"),
            };
            writeln!(
                f,
                "  {node:id_width$}  {node_type:type_width$}  {:>10} in {calls} calls, in {worker} (pid {pid}){copied}",
                milliseconds(*busy_ms)
            )?;
        }
        let Sequences { sent, answered, results, last: _ } = self.sequences;
        write!(f, "  {sent} sent, {answered} answered with {results} results")?;
        if let Some(Latency { p50, p95, max }) = self.latency_ms {
            let [p50, p95, max] = [p50, p95, max].map(milliseconds);
            write!(f, "; latency p50 {p50}, p95 {p95}, max {max}")?;
        }
        if let Some(late) = self.late {
            write!(f, "; {late} late")?;
        }
        Ok(())
    }
}

impl Summary {
    fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.mode {
            Mode::Unary => "in one call",
            Mode::Stream => "as a stream",
        };
        write!(f, "{} ran {how} in {}", self.pipeline, milliseconds(self.wall_ms))?;
        if let Some(seconds) = self.audio_seconds {
            write!(f, " on {seconds:.2} s of audio")?;
        }
        write!(f, ", by {}", self.endpoint)?;
        if let Some(pid) = self.gateway_pid {
            write!(f, " (gateway pid {pid})")?;
        }
        if let Some(startup) = self.startup_ms {
            write!(f, ", started for it in {}", milliseconds(startup))?;
        }
        writeln!(f)
    }
}

// === impl NodeLine ===

impl NodeLine {
    /// The node with what was measured of it, if anything was.
    #[must_use]
    pub fn of(id: &str, node_type: &str, metrics: &ExecutionMetrics) -> Self {
        let NodeReport {
            calls,
            busy,
            cpu,
            items,
            outputs,
            copied_bytes,
            hops,
            hop,
            pid,
            worker,
            setup: _,
            inputs: _,
            input_bytes: _,
            output_bytes: _,
            output_kinds: _,
            output_metadata: _,
            lent_bytes: _,
            peak_bytes: _,
        } = metrics.nodes.get(id).cloned().unwrap_or_default();
        Self {
            node: id.to_owned(),
            node_type: node_type.to_owned(),
            busy_ms: in_ms(busy),
            cpu_ms: in_ms(cpu),
            calls,
            items,
            outputs,
            copied_bytes,
            hops,
            hop_ms: in_ms(hop),
            pid,
            worker,
        }
    }
}

// === impl Latency ===

impl Latency {
    /// None of none.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        // The smallest time that so many of a hundred do not exceed.
        let rank = |percent: usize| (times.len() * percent).div_ceil(100).max(1) - 1;
        let at = |percent| times.get(rank(percent)).copied().map(in_ms);
        Some(Self { p50: at(50)?, p95: at(95)?, max: at(100)? })
    }
}

/// A duration in milliseconds with fractions.
#[must_use]
pub fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn milliseconds(ms: f64) -> String {
    if ms < 10_000.0 { format!("{ms:.2} ms") } else { format!("{:.2} s", ms / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let report = NodeReport {
            calls: 3,
            busy: Duration::from_micros(1_230),
            pid: 42,
            worker: "rust-1".to_owned(),
            ..NodeReport::default()
        };
        let metrics = ExecutionMetrics {
            nodes: BTreeMap::from([("vad".to_owned(), report)]),
            ..ExecutionMetrics::default()
        };
        Summary {
            pipeline: "speech".to_owned(),
            mode: Mode::Stream,
            endpoint: "127.0.0.1:5".to_owned(),
            gateway_pid: Some(41),
            startup_ms: None,
            wall_ms: 12.5,
            audio_seconds: Some(2.0),
            nodes: vec![NodeLine::of("vad", "VAD", &metrics)],
            sequences: Sequences { sent: 3, answered: 3, results: 4, last: Some(2) },
            late: Some(1),
            latency_ms: Latency::of(vec![Duration::from_millis(2)]),
            output_counts: BTreeMap::from([("vad".to_owned(), 3)]),
            outputs: Vec::new(),
        }
    }

    #[test]
    fn people_read_who_did_what_for_how_long() {
        assert_eq!(
            summary().to_string(),
            "speech ran as a stream in 12.50 ms on 2.00 s of audio, by 127.0.0.1:5 (gateway pid 41)\n  \
             vad  VAD     1.23 ms in 3 calls, in rust-1 (pid 42)\n  \
             3 sent, 3 answered with 4 results; latency p50 2.00 ms, p95 2.00 ms, max 2.00 ms; 1 late"
        );
    }

    #[test]
    fn programs_read_the_same_as_one_object() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!((&json["gateway_pid"], &json["mode"]), (&41.into(), &"stream".into()));
        assert_eq!((&json["nodes"][0]["pid"], &json["nodes"][0]["worker"]), (&42.into(), &"rust-1".into()));
        assert_eq!(json["sequences"]["answered"], 3);
        assert!(json.get("outputs").is_none());
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = |count| (1..=count).map(Duration::from_millis).collect();
        let check = |count, p50, p95, max| {
            assert_eq!(Latency::of(times(count)), Some(Latency { p50, p95, max }), "{count} times");
        };
        check(1, 1.0, 1.0, 1.0);
        check(4, 2.0, 4.0, 4.0);
        check(100, 50.0, 95.0, 100.0);
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
