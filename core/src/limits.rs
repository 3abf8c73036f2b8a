//! Every bound of the system, with its reason, in one table.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one service allows. The defaults are the ones that documents state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Nodes of one pipeline: a graph that a person can still draw.
    pub max_nodes: usize,
    /// Connections of one pipeline: every node feeding four others.
    pub max_connections: usize,
    /// Bytes of a node id, type name or metadata key: they are labels, and travel with every error.
    pub max_name_bytes: usize,
    /// Bytes of one node's parameters as JSON: settings, not data.
    pub max_params_bytes: usize,
    /// Bytes of one gRPC message, and so of the largest frame that enters: a 1080p RGBA frame is 8.3 MB.
    pub max_message_bytes: usize,
    /// Bytes of messages that are not whole that one connection may have sent: eight of the largest.
    pub max_connection_incomplete_bytes: u64,
    /// The same of all connections together: a quarter of what a small machine has.
    pub max_incomplete_bytes: u64,
    /// How long a client may send nothing in the middle of a message: longer than networks take to recover.
    pub message_stall_ms: u64,
    /// How long a whole message may take: the largest at 2 Mbit/s.
    pub message_ms: u64,
    /// Pool memory of one execution where the client asks for nothing (contract: 100 MB).
    pub default_memory_bytes: u64,
    /// Pool memory that a client may ask for (contract: 1 GB).
    pub max_memory_bytes: u64,
    /// Deadline of one execution where the client asks for nothing (contract: 5 s).
    pub default_timeout_ms: u64,
    /// Deadline that a client may ask for (contract: 30 s).
    pub max_timeout_ms: u64,
    /// Samples of one piece of audio (contract: 10 million).
    pub max_audio_samples: u64,
    /// Sessions at once: each costs two edges of credit or more (see `max_edges`).
    pub max_sessions: usize,
    /// Of the gateway's frame pool, in percent: what the inputs of all sessions of one connection may hold.
    pub max_connection_pool_percent: u8,
    /// Frames in flight on one edge of a session: hides one wake-up at each end, and bounds what a slow node queues.
    pub credit_window: u32,
    /// Outputs of one call of a node: more belong into a stream of calls.
    pub max_outputs_per_call: usize,
    /// How long a session waits for workers that are still loading, where the client asks for nothing.
    pub default_start_ms: u64,
    /// How long a client may ask it to wait: large models load for minutes.
    pub max_start_ms: u64,
    /// How long the opening of a session may take: links are made, nodes constructed.
    pub open_timeout_ms: u64,
    /// How long a streaming session may see no input.
    pub idle_timeout_ms: u64,
    /// How long a node may wait for a free block of its worker's frame pool.
    pub loan_timeout_ms: u64,
    /// How long after its deadline a call of a node may go on before its worker is killed: a call that is merely slow
    /// comes back, and the worker keeps its models.
    pub hang_grace_ms: u64,
    /// How often work whose worker died is given to another, where the client asks for nothing, and at most: one death
    /// may be chance, three of the same work are not.
    pub max_replays: u32,
    /// How long content that has killed more workers than that is refused: long enough for a client that repeats it to
    /// be told why instead of taking the pool down, short enough for a mended node to be tried.
    pub poison_ms: u64,
}

/// What a client asks of one execution; nothing asked means the service's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LimitRequest {
    /// Bytes of pool memory held.
    pub memory_bytes: Option<u64>,
    /// Milliseconds.
    pub timeout_ms: Option<u64>,
    /// Samples of all channels in one piece of audio.
    pub audio_samples: Option<u64>,
    /// Milliseconds to wait for workers that are still loading; 0 means not at all.
    pub start_ms: Option<u64>,
    /// How often work whose worker died is given to another; 0 means never.
    pub replays: Option<u32>,
}

/// What one execution got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Granted {
    /// Bytes of pool memory that it may hold.
    pub memory_bytes: u64,
    /// How long it may take, or in a stream: how long one chunk may take.
    pub timeout: Duration,
    /// How long it may take if its nodes say that they are at work: as long, where the client has said how long.
    pub longest: Duration,
    /// Samples of all channels in one piece of audio.
    pub audio_samples: u64,
    /// How long it may wait for workers that are still loading. In a unary run that asks for none, this is part of its
    /// timeout.
    pub start: Duration,
    /// How often work whose worker died is given to another.
    pub replays: u32,
}

/// A bound was hit: which, by what, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{what} is {value} {unit}, over the limit of {limit} {unit}: {advice}")]
pub struct LimitExceeded {
    /// What was measured.
    pub what: String,
    /// As measured or asked.
    pub value: u64,
    /// The bound.
    pub limit: u64,
    /// Of both numbers.
    pub unit: String,
    /// The way out.
    pub advice: String,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_nodes: 64,
            max_connections: 256,
            max_name_bytes: 128,
            max_params_bytes: 256 * 1024,
            max_message_bytes: 16 * 1024 * 1024,
            max_connection_incomplete_bytes: 128 * 1024 * 1024,
            max_incomplete_bytes: 512 * 1024 * 1024,
            message_stall_ms: 10_000,
            message_ms: 60_000,
            default_memory_bytes: 100_000_000,
            max_memory_bytes: 1_000_000_000,
            default_timeout_ms: 5_000,
            max_timeout_ms: 30_000,
            max_audio_samples: 10_000_000,
            max_sessions: 1_024,
            max_connection_pool_percent: 50,
            credit_window: 4,
            max_outputs_per_call: 1_024,
            default_start_ms: 10_000,
            max_start_ms: 300_000,
            open_timeout_ms: 5_000,
            idle_timeout_ms: 60_000,
            loan_timeout_ms: 2_000,
            hang_grace_ms: 2_000,
            max_replays: 2,
            poison_ms: 60_000,
        }
    }
}

impl Limits {
    /// Gives what was asked, or the default; never more than the service's maximum.
    ///
    /// # Errors
    /// More than the maximum was asked.
    pub fn grant(&self, request: &LimitRequest) -> Result<Granted, LimitExceeded> {
        let memory = request.memory_bytes.unwrap_or(self.default_memory_bytes);
        let timeout = request.timeout_ms.unwrap_or(self.default_timeout_ms);
        let samples = request.audio_samples.unwrap_or(self.max_audio_samples);
        let start = request.start_ms.unwrap_or(self.default_start_ms);
        within("max_memory_bytes", memory, self.max_memory_bytes, "bytes")?;
        within("max_timeout_ms", timeout, self.max_timeout_ms, "ms")?;
        within("max_audio_samples", samples, self.max_audio_samples, "samples")?;
        within("max_start_ms", start, self.max_start_ms, "ms")?;
        let replays = request.replays.unwrap_or(self.max_replays);
        within("max_replays", replays.into(), self.max_replays.into(), "replays")?;
        let longest = request.timeout_ms.unwrap_or(self.max_timeout_ms);
        let [timeout, longest, start] = [timeout, longest, start].map(Duration::from_millis);
        Ok(Granted { memory_bytes: memory, timeout, longest, audio_samples: samples, start, replays })
    }

    /// How long the opening of a session may take.
    #[must_use]
    pub const fn open_timeout(&self) -> Duration {
        Duration::from_millis(self.open_timeout_ms)
    }

    /// How long a streaming session may see no input.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// How long a node may wait for a free block.
    #[must_use]
    pub const fn loan_timeout(&self) -> Duration {
        Duration::from_millis(self.loan_timeout_ms)
    }

    /// How long content that has killed workers is refused.
    #[must_use]
    pub const fn poison(&self) -> Duration {
        Duration::from_millis(self.poison_ms)
    }

    /// How long after its deadline a call of a node may go on.
    #[must_use]
    pub const fn hang_grace(&self) -> Duration {
        Duration::from_millis(self.hang_grace_ms)
    }
}

fn within(what: &str, value: u64, limit: u64, unit: &str) -> Result<(), LimitExceeded> {
    if value <= limit {
        return Ok(());
    }
    Err(LimitExceeded {
        what: format!("the requested {what}"),
        value,
        limit,
        unit: unit.to_owned(),
        advice: "ask for less, or have the operator raise the service's limit".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_beyond_the_cap_names_the_cap() {
        let request = LimitRequest { timeout_ms: Some(30_001), ..LimitRequest::default() };
        let error = Limits::default().grant(&request).unwrap_err();
        assert_eq!((error.value, error.limit), (30_001, 30_000));
    }

    #[test]
    fn nothing_asked_gives_the_defaults() {
        let granted = Limits::default().grant(&LimitRequest::default()).unwrap();
        assert_eq!(granted.timeout, Duration::from_secs(5));
        assert_eq!(granted.memory_bytes, 100_000_000);
    }
}
