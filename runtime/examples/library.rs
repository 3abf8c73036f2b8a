//! The runtime as a library: a program with workers of its own, and no gateway, no network, no client.
//!
//! ```text
//! cargo build -p remotemedia-worker && cargo run -p remotemedia-runtime --example library
//! ```
#![expect(clippy::print_stdout, reason = "an example that shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remotemedia_core::data::{Audio, ChannelCount, SampleRate};
use remotemedia_core::frame::Frame;
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{
    Caller, ExecuteRequest, PipelineTransport as _, StreamRequest, StreamSession as _, TransportData,
};
use remotemedia_runtime::{Runtime, RuntimeConfig};
use tokio::process::{Child, Command};

/// `own_process` keeps the neighbours apart: what goes from one to the other goes through shared memory.
const PIPELINE: &str = "
version: v1
metadata: { name: speech }
nodes:
  - { id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }
  - { id: vad, node_type: VAD, own_process: true }
connections:
  - { from: resample, to: vad }
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A directory of this user alone, in memory: workers find the runtime by it.
    let private = Permissions::from_mode(0o700);
    let dir = tempfile::Builder::new().prefix("remotemedia-").permissions(private).tempdir_in("/dev/shm")?;
    let runtime = Runtime::start(RuntimeConfig::new(dir.path().to_owned()))?;

    // The runtime starts nobody: whoever owns a worker process also ends it.
    let mut workers = [start_worker(dir.path(), "one")?, start_worker(dir.path(), "two")?];
    tokio::time::timeout(Duration::from_secs(10), until_joined(&runtime, workers.len())).await?;

    let manifest = Arc::new(Manifest::from_yaml(PIPELINE)?);
    let limits = LimitRequest::default();
    let runner = runtime.runner();

    // All at once: one input for each entry of the pipeline, all that comes of it.
    let inputs = BTreeMap::from([("resample".to_owned(), Frame::new(0, second_of_tone()?))]);
    let done = runner
        .execute(ExecuteRequest {
            manifest: Arc::clone(&manifest),
            inputs,
            limits,
            caller: Caller::default(),
        })
        .await?;
    println!("execute: {} documents in {:.1?}", done.outputs["vad"].len(), done.metrics.wall);
    for (node, report) in &done.metrics.nodes {
        println!("  {node} ran in {} (pid {}), for {:.1?}", report.worker, report.pid, report.busy);
    }

    // As it comes: send and receive may be two tasks; here they take turns.
    let session =
        runner.stream(StreamRequest { manifest, limits, listener: None, caller: Caller::default() }).await?;
    for sequence in 0..3 {
        session.send(TransportData::new(sequence, second_of_tone()?)).await?;
    }
    session.close().await?;
    while let Some(chunk) = session.receive().await? {
        for (node, frame) in &chunk.outputs {
            let words = String::from_utf8_lossy(frame.data.payload());
            println!("stream: {} of {node}, after {:.1?}: {words}", chunk.sequence, chunk.latency);
        }
    }

    runtime.shutdown(Duration::from_secs(1)).await;
    for worker in &mut workers {
        // Without a runtime it would wait for the next one.
        worker.kill().await?;
    }
    Ok(())
}

fn start_worker(runtime_dir: &Path, name: &str) -> Result<Child, Box<dyn Error>> {
    // Examples are built into a directory beside the programs.
    let example: PathBuf = std::env::current_exe()?;
    let programs = example.ancestors().nth(2).ok_or("an example lies in a directory")?;
    let mut worker = Command::new(programs.join("remotemedia-worker"));
    worker.arg("--runtime-dir").arg(runtime_dir).args(["--name", name]).kill_on_drop(true);
    Ok(worker.spawn()?)
}

async fn until_joined(runtime: &Runtime, workers: usize) {
    while runtime.status().await.is_some_and(|status| status.workers.len() < workers) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn second_of_tone() -> Result<Audio, Box<dyn Error>> {
    let samples: Vec<f32> = (0..44_100_u16).map(|at| (f32::from(at) * 0.0627).sin() * 0.5).collect();
    Ok(Audio::from_f32(&samples, SampleRate::new(44_100)?, ChannelCount::new(1)?)?)
}
