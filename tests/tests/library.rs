//! The runtime as a library: this process stands where the gateway would, with stock workers as its children.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_core::data::{Audio, ChannelCount, RuntimeData, SampleFormat, SampleRate};
use remotemedia_core::fault::{Fault, StreamFault};
use remotemedia_core::frame::Frame;
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{
    Caller, ExecuteRequest, Execution, PipelineTransport as _, StreamRequest, StreamSession as _,
    TransportData,
};
use remotemedia_runtime::{Runtime, RuntimeConfig};
use tempfile::TempDir;

const PIPELINE: &str = "
version: v1
nodes:
  - { id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }
  - { id: pass, node_type: PassThrough, own_process: true }
connections:
  - { from: resample, to: pass }
";

/// For every wait here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_executed_without_a_gateway() {
    let service = Service::start().await;
    let runner = service.runtime.runner();
    let Execution { outputs, metrics } =
        runner.execute(request(PIPELINE, 44_100)).await.unwrap_or_else(|fault| panic!("{fault}"));
    let frames: u64 = outputs["pass"].iter().map(|frame| frames_at_16_khz(&frame.data)).sum();
    assert_eq!(frames, 16_000);
    // Results lie in the pools for as long as somebody has them.
    drop(outputs);
    let pids: Vec<u32> = metrics.nodes.values().map(|node| node.pid).collect();
    assert!(pids.iter().all(|pid| service.workers.iter().any(|worker| worker.0.id() == *pid)), "{pids:?}");
    assert_ne!(pids[0], pids[1], "own_process");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_streamed_without_a_gateway() {
    const CHUNKS: u64 = 5;
    let service = Service::start().await;
    let request = StreamRequest {
        manifest: manifest(PIPELINE),
        limits: LimitRequest::default(),
        listener: None,
        caller: Caller::default(),
    };
    let session = service.runtime.runner().stream(request).await.unwrap();
    let send = async {
        for sequence in 0..CHUNKS {
            session.send(TransportData::new(sequence, silence(44_100))).await.unwrap();
        }
        session.close().await.unwrap();
    };
    let receive = async {
        let (mut sequences, mut frames) = (Vec::new(), 0);
        while let Some(chunk) = session.receive().await.unwrap() {
            frames += chunk.outputs.values().map(|frame| frames_at_16_khz(&frame.data)).sum::<u64>();
            sequences.push(chunk.sequence);
        }
        (sequences, frames)
    };
    let ((), (mut sequences, frames)) = tokio::join!(send, receive);
    assert!(sequences.is_sorted(), "{sequences:?}");
    sequences.dedup();
    assert_eq!(sequences, Vec::from_iter(0..CHUNKS));
    assert_eq!(frames, CHUNKS * 16_000);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_its_sender_dropped_is_answered_in_its_place() {
    let service = Service::start().await;
    let request = StreamRequest {
        manifest: manifest(PIPELINE),
        limits: LimitRequest::default(),
        listener: None,
        caller: Caller::default(),
    };
    let session = service.runtime.runner().stream(request).await.unwrap();
    for sequence in 0..3 {
        let input = TransportData::new(sequence, silence(441));
        let frames = if sequence == 1 { BTreeMap::new() } else { input.frames };
        session.send(TransportData { frames, ..input }).await.unwrap();
    }
    session.close().await.unwrap();
    let mut answers = Vec::new();
    while let Some(chunk) = session.receive().await.unwrap() {
        assert!(chunk.missed.is_none() || chunk.outputs.is_empty(), "{chunk:?}");
        answers.push((chunk.sequence, chunk.missed));
    }
    // What the flush yields has the last sequence too.
    answers.dedup();
    assert_eq!(
        answers,
        [
            (0, None),
            (1, Some(StreamFault::Dropped { node: "resample".to_owned(), sequence: 1 }.into())),
            (2, None)
        ]
    );
    assert_eq!(session.metrics().dropped, 1);
    drop(session);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_a_typed_fault_without_a_gateway_too() {
    let service = Service::start().await;
    let unknown = PIPELINE.replace("PassThrough", "Dance");
    let fault = service.runtime.runner().execute(request(&unknown, 44_100)).await.unwrap_err();
    assert!(matches!(fault, Fault::Placement(_)), "{fault:?}");
    assert_eq!(
        fault.to_string(),
        "node 'pass' is of type 'Dance', which no worker offers: there are AudioLevel, AudioResample, Calculator, CalculatorNode, FastResampleNode, PassThrough, RustResampleNode, RustVADNode, VAD"
    );
    service.stop().await;
}

/// A runtime in this process, and two workers that have joined it.
struct Service {
    runtime: Runtime,
    workers: [Worker; 2],
    dir: TempDir,
}

struct Worker(Child);

// === impl Service ===

impl Service {
    async fn start() -> Self {
        let private = Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm");
        let dir = dir.expect("a directory on tmpfs");
        let mut config = RuntimeConfig::new(dir.path().to_owned());
        // Little memory, since tests run side by side.
        config.limits.max_message_bytes = 1 << 20;
        (config.gateway_pool_bytes, config.worker_pool_bytes) = (16 << 20, 16 << 20);
        let runtime = Runtime::start(config).expect("nobody else serves there");
        let workers = ["one", "two"].map(|name| Worker::start(dir.path(), name));
        let service = Self { runtime, workers, dir };
        tokio::time::timeout(PATIENCE, service.until_joined()).await.expect("the workers join");
        service
    }

    async fn until_joined(&self) {
        while self.runtime.status().await.expect("the hub lives").workers.len() < self.workers.len() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Nothing is held any more, and nothing is left.
    async fn stop(self) {
        let Self { runtime, workers, dir } = self;
        let idle = async {
            loop {
                let status = runtime.status().await.expect("the hub lives");
                let held: u32 = status.frame_pools.iter().map(|pool| pool.blocks_in_use).sum();
                if status.sessions.is_empty() && held == 0 {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.expect("all blocks come free");
        runtime.shutdown(PATIENCE).await;
        drop(workers);
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the directory is there").collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

// === impl Worker ===

impl Worker {
    fn start(runtime_dir: &Path, name: &str) -> Self {
        let mut command = Command::new(stock_worker());
        command.arg("--runtime-dir").arg(runtime_dir).args(["--threads", "1", "--name", name]);
        Self(command.spawn().expect("the worker starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _dead_already = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        // It gives the call that a node is in one second, and then ends.
        let _reaped_already = self.0.wait();
    }
}

/// Beside the directory that this test lies in.
fn stock_worker() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let path =
        test.ancestors().nth(2).expect("it lies in a directory of a directory").join("remotemedia-worker");
    assert!(path.is_file(), "there is no {}: `cargo build --workspace --bins` makes it", path.display());
    path
}

fn request(pipeline: &str, frames: usize) -> ExecuteRequest {
    let inputs = BTreeMap::from([("resample".to_owned(), Frame::new(0, silence(frames)))]);
    ExecuteRequest {
        manifest: manifest(pipeline),
        inputs,
        limits: LimitRequest::default(),
        caller: Caller::default(),
    }
}

fn manifest(pipeline: &str) -> Arc<Manifest> {
    Arc::new(Manifest::from_yaml(pipeline).expect("the pipeline parses"))
}

/// So many sample frames at 44.1 kHz.
fn silence(frames: usize) -> Audio {
    let rate = SampleRate::new(44_100).expect("44.1 kHz");
    let mono = ChannelCount::new(1).expect("one channel");
    Audio::new(Bytes::from(vec![0; frames * 4]), SampleFormat::F32, rate, mono).expect("whole frames")
}

fn frames_at_16_khz(data: &RuntimeData) -> u64 {
    let RuntimeData::Audio(audio) = data else { panic!("not audio: {:?}", data.kind()) };
    assert_eq!(audio.rate().get(), 16_000);
    audio.frame_count()
}
