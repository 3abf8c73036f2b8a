//! `bench execute`: one second of speech from 44.1 kHz to 16 kHz by `ExecutePipeline`, on a whole service.
//!
//! One client first, call after call, and before each call the same second through the same node in this process: the
//! difference is what gRPC, gateway, shared memory and worker cost. Then a hundred clients at once, each with a
//! connection of its own. Every answer is compared with what the node gives here, outside what is timed.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remotemedia_cli::transport::GrpcTransport;
use remotemedia_core::data::{Audio, ChannelCount, SampleRate};
use remotemedia_core::frame::Frame;
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::{Manifest, Params};
use remotemedia_core::transport::{Caller, ExecuteRequest, Execution, PipelineTransport as _};
use remotemedia_worker::Harness;
use remotemedia_worker::nodes::stock;
use tokio::task::JoinSet;

use crate::error::BenchError;
use crate::row::Row;
use crate::service::Service;
use crate::times::{Times, microseconds, ratio};

/// Calls that are not counted.
const WARM_UP: usize = 50;

/// Calls of the one client.
const CALLS: usize = 500;

/// Clients at once, and calls of each.
const CLIENTS: usize = 100;
const CALLS_OF_EACH: usize = 10;

/// Promised of one client.
const P50_AT_MOST: Duration = Duration::from_millis(5);
const P95_AT_MOST: Duration = Duration::from_millis(10);

const FROM_RATE: u32 = 44_100;
const TO_RATE: u32 = 16_000;

/// The only node.
const NODE: &str = "resample";

pub(crate) async fn run() -> Result<Vec<Row>, BenchError> {
    let service = Service::start("127.0.0.1:0").await?;
    let rows = measure(service.endpoint()).await;
    let stopped = service.stop().await;
    let rows = rows?;
    stopped?;
    Ok(rows)
}

async fn measure(endpoint: &str) -> Result<Vec<Row>, BenchError> {
    let job = Job::new()?;
    let alone = alone(endpoint, &job).await?;
    let crowd = crowd(endpoint, Arc::new(job)).await?;
    Ok(vec![alone, crowd])
}

/// What every call asks, and what it must be answered.
struct Job {
    params: Params,
    second: Audio,
    request: ExecuteRequest,
    expected: Bytes,
}

// === impl Job ===

impl Job {
    fn new() -> Result<Self, BenchError> {
        let params: Params = Params::from_iter([("target_sample_rate".to_owned(), TO_RATE.into())]);
        let second = sweep()?;
        let manifest = format!(
            r#"{{"version":"v1","nodes":[{{"id":"{NODE}","node_type":"AudioResample","params":{{"target_sample_rate":{TO_RATE}}}}}]}}"#
        );
        let request = ExecuteRequest {
            manifest: Arc::new(Manifest::from_json(&manifest)?),
            inputs: BTreeMap::from([(NODE.to_owned(), Frame::new(0, second.clone()))]),
            limits: LimitRequest::default(),
            caller: Caller::default(),
        };
        let mut job = Self { params, second, request, expected: Bytes::new() };
        job.expected = job.run_here()?;
        Ok(job)
    }

    /// As a worker does for a call: a new node, one frame, a flush.
    fn run_here(&self) -> Result<Bytes, BenchError> {
        let harness = Harness::default();
        let mut node = stock().create("AudioResample", &self.params)?;
        let mut outputs = harness.run(node.as_mut(), Frame::new(0, self.second.clone()))?;
        outputs.extend(harness.flush(node.as_mut())?);
        let pieces: Vec<&[u8]> = outputs.iter().map(|output| &output.data.payload()[..]).collect();
        Ok(pieces.concat().into())
    }

    async fn run_there(&self, client: &GrpcTransport) -> Result<Execution, BenchError> {
        Ok(client.execute(self.request.clone()).await?)
    }

    fn check(&self, execution: &Execution) -> Result<(), BenchError> {
        let frames = execution.outputs.get(NODE).map_or(&[][..], Vec::as_slice);
        let pieces: Vec<&[u8]> = frames.iter().map(|frame| &frame.data.payload()[..]).collect();
        if pieces.concat() == self.expected { Ok(()) } else { Err(BenchError::OtherAnswer) }
    }
}

async fn alone(endpoint: &str, job: &Job) -> Result<Row, BenchError> {
    let (client, _version) = GrpcTransport::connect(endpoint, None).await?;
    let mut here = Vec::with_capacity(CALLS);
    let mut there = Vec::with_capacity(CALLS);
    let mut in_gateway = Vec::with_capacity(CALLS);
    let mut in_node = Vec::with_capacity(CALLS);
    for call in 0..WARM_UP + CALLS {
        let begin = Instant::now();
        let resampled = job.run_here()?;
        let took_here = begin.elapsed();
        drop(resampled);
        let begin = Instant::now();
        let execution = job.run_there(&client).await?;
        let took_there = begin.elapsed();
        job.check(&execution)?;
        if call >= WARM_UP {
            here.push(took_here);
            there.push(took_there);
            in_gateway.push(execution.metrics.wall);
            in_node.push(execution.metrics.nodes.get(NODE).map_or(Duration::ZERO, |report| report.busy));
        }
    }
    let [here, there, in_gateway, in_node] = [here, there, in_gateway, in_node].map(Times::new);
    let compared_to = "the same second through the same node in this process";
    Ok(Row::new("execute", compared_to, there.len())
        .with("p50_us", microseconds(there.p50()))
        .with("p95_us", microseconds(there.p95()))
        .with("p50_us_at_most", microseconds(P50_AT_MOST))
        .with("p95_us_at_most", microseconds(P95_AT_MOST))
        .with("local_p50_us", microseconds(here.p50()))
        .with("local_p95_us", microseconds(here.p95()))
        .with("local_ratio", ratio(there.p50(), here.p50()))
        .with("gateway_p50_us", microseconds(in_gateway.p50()))
        .with("node_p50_us", microseconds(in_node.p50()))
        .promising(there.p50() < P50_AT_MOST)
        .promising(there.p95() < P95_AT_MOST))
}

async fn crowd(endpoint: &str, job: Arc<Job>) -> Result<Row, BenchError> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(GrpcTransport::connect(endpoint, None).await?.0);
    }
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn(calls(client, Arc::clone(&job)));
    }
    let mut took = Vec::with_capacity(CLIENTS * CALLS_OF_EACH);
    let mut errors = Vec::new();
    for of_client in running.join_all().await {
        for call in of_client {
            match call {
                Ok(duration) => took.push(duration),
                Err(error) => errors.push(error.to_string()),
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    if took.is_empty() {
        return Err(BenchError::NothingAnswered { first: errors.into_iter().next().unwrap_or_default() });
    }
    let took = Times::new(took);
    let calls_per_second = (took.len() as f64 / seconds).round();
    Ok(Row::new("execute_crowd", "execute: the same by 100 clients at once", took.len())
        .with("clients", CLIENTS)
        .with("errors", errors.len())
        .with("first_error", errors.into_iter().next().unwrap_or_default())
        .with("calls_per_second", calls_per_second)
        .with("p50_us", microseconds(took.p50()))
        .with("p95_us", microseconds(took.p95()))
        .promising(took.len() == CLIENTS * CALLS_OF_EACH))
}

async fn calls(client: GrpcTransport, job: Arc<Job>) -> Vec<Result<Duration, BenchError>> {
    let mut calls = Vec::with_capacity(CALLS_OF_EACH);
    for _ in 0..CALLS_OF_EACH {
        let begin = Instant::now();
        let outcome = job.run_there(&client).await;
        let took = begin.elapsed();
        calls.push(outcome.and_then(|execution| job.check(&execution)).map(|()| took));
    }
    calls
}

/// A second of a tone that rises over the range of speech.
#[expect(clippy::cast_possible_truncation, reason = "a sample has the precision that f32 has")]
pub(crate) fn sweep() -> Result<Audio, BenchError> {
    let samples: Vec<f32> = (0..FROM_RATE)
        .map(|at| {
            let seconds = f64::from(at) / f64::from(FROM_RATE);
            (0.5 * (TAU * (200.0 + 1_500.0 * seconds) * seconds).sin()) as f32
        })
        .collect();
    Ok(Audio::from_f32(&samples, SampleRate::new(FROM_RATE)?, ChannelCount::MONO)?)
}
