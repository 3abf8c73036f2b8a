//! `bench local`: what the gateway and gRPC add to pipelines that run in a library.
//!
//! The same pipelines on the same input, call after call, alternately by `PipelineRunner` in this process and by
//! `ExecutePipeline`, first over loopback TCP, then over a unix socket (`local_unix_…`), as neighbours do. Both have two workers of their own as processes: local is the runtime without the
//! gateway, and not a function call. Timed is from the request's being handed to the runner, or to the client, to the
//! result's being in this process; a call's answers are compared with each other outside of that.
//!
//! `p95_ratio` compares the time within which 95 % of the calls through the gateway are answered with that of the local
//! ones: a machine that is disturbed disturbs both. `share_within_2x` is the stricter share of the calls through the
//! gateway, in percent, that take at most twice as long as the median of the local calls. `socket_p50_us` is what remains of the median call when what the
//! gateway says of it (`gateway_p50_us`: decoded, run, and turned into an answer) is taken away: the client's encoding and
//! decoding, the gateway's encoding, and the bytes' way through the kernel in both directions. `bare_socket_p50_us` is
//! what the kernel alone takes to bring as many bytes there and back between two threads of this process, and
//! `grpc_p50_us` a call of `GetVersion`, which is answered without a worker: below that no call can be. Where the kernel
//! alone takes longer than is promised (`socket_alone_ratio` over 2), nothing is promised. To tell a machine that is busy
//! with something else, `local_share_within_2x` says of the local calls what `share_within_2x` says of the others.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remotemedia_cli::transport::GrpcTransport;
use remotemedia_core::data::{Audio, RuntimeData, Shape, Tensor, TensorDtype, Text};
use remotemedia_core::frame::Frame;
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{Caller, ExecuteRequest, Execution, PipelineTransport};
use remotemedia_runtime::PipelineRunner;

use crate::error::{BenchError, while_doing};
use crate::execute::sweep;
use crate::library::Library;
use crate::program::Program;
use crate::row::Row;
use crate::service::{Service, WORKERS};
use crate::times::{Times, microseconds, percent, ratio};

/// Calls that are not counted, of each of the two.
const WARM_UP: usize = 20;

/// How many times as long as local is promised at most.
const TIMES_LOCAL: u32 = 2;

const PASS: &str = r#"{"version":"v1","nodes":[{"id":"in","node_type":"PassThrough"}]}"#;
const RESAMPLE: &str = r#"{"version":"v1","nodes":[
    {"id":"in","node_type":"AudioResample","params":{"target_sample_rate":16000}}]}"#;
const SPEECH: &str = r#"{"version":"v1","nodes":[
    {"id":"in","node_type":"AudioResample","params":{"target_sample_rate":16000}},
    {"id":"vad","node_type":"VAD"}],"connections":[{"from":"in","to":"vad"}]}"#;

/// What is between the client and the gateway.
#[derive(Clone, Copy)]
enum Socket {
    /// Loopback, as from a client that could be elsewhere.
    Tcp,
    /// As between neighbours.
    Unix,
}

/// One pipeline with its input.
struct Job {
    name: &'static str,
    request: ExecuteRequest,
    bytes: usize,
    calls: usize,
}

/// Durations of one job's calls.
#[derive(Default)]
struct Taken {
    local: Vec<Duration>,
    remote: Vec<Duration>,
    in_gateway: Vec<Duration>,
    in_nodes: Vec<Duration>,
}

pub(crate) async fn run() -> Result<Vec<Row>, BenchError> {
    let library = Library::start(&vec![Program::stock_worker()?; WORKERS]).await?;
    let rows = beside(&library).await;
    let stopped = library.stop().await;
    let rows = rows?;
    stopped?;
    Ok(rows)
}

async fn beside(library: &Library) -> Result<Vec<Row>, BenchError> {
    let dir = tempfile::tempdir().map_err(while_doing("make a directory for a socket"))?;
    let unix = format!("unix:{}", dir.path().join("grpc").display());
    let mut rows = Vec::new();
    for (socket, address) in [(Socket::Tcp, "127.0.0.1:0"), (Socket::Unix, unix.as_str())] {
        let service = Service::start(address).await?;
        let measured = measure(library.runner(), service.endpoint(), socket).await;
        let stopped = service.stop().await;
        rows.extend(measured?);
        stopped?;
    }
    Ok(rows)
}

async fn measure(runner: PipelineRunner, endpoint: &str, socket: Socket) -> Result<Vec<Row>, BenchError> {
    let (client, _version) = GrpcTransport::connect(endpoint, None).await?;
    let mut rows = Vec::new();
    for job in jobs(socket)? {
        let taken = job.measure(&runner, &client).await?;
        let socket = bare_socket(socket, job.bytes, job.calls)?;
        let grpc = bare_grpc(&client, job.calls).await?;
        rows.push(job.row(taken, &socket).with("grpc_p50_us", microseconds(grpc.p50())));
    }
    Ok(rows)
}

fn jobs(socket: Socket) -> Result<Vec<Job>, BenchError> {
    let text = Text::new(vec![b'a'; 1_024].into(), "")?;
    let second = sweep()?;
    let ten =
        Audio::new(second.samples().repeat(10).into(), second.format(), second.rate(), second.channels())?;
    let tensor = Tensor::new(vec![7; 8 << 20].into(), TensorDtype::F32, Shape::new([2_048, 1_024])?, "")?;
    let [of_text, of_second, of_ten, of_tensor] = match socket {
        Socket::Tcp => ["local_text", "local_resample", "local_speech", "local_tensor"],
        Socket::Unix => ["local_unix_text", "local_unix_resample", "local_unix_speech", "local_unix_tensor"],
    };
    Ok(vec![
        Job::new(of_text, PASS, text, 1_000)?,
        Job::new(of_second, RESAMPLE, second, 500)?,
        Job::new(of_ten, SPEECH, ten, 100)?,
        Job::new(of_tensor, PASS, tensor, 200)?,
    ])
}

// === impl Job ===

impl Job {
    fn new(
        name: &'static str,
        manifest: &str,
        input: impl Into<RuntimeData>,
        calls: usize,
    ) -> Result<Self, BenchError> {
        let frame = Frame::new(0, input);
        let bytes = frame.data.payload().len();
        let request = ExecuteRequest {
            manifest: Arc::new(Manifest::from_json(manifest)?),
            inputs: BTreeMap::from([("in".to_owned(), frame)]),
            limits: LimitRequest::default(),
            caller: Caller::default(),
        };
        Ok(Self { name, request, bytes, calls })
    }

    async fn measure(&self, runner: &PipelineRunner, client: &GrpcTransport) -> Result<Taken, BenchError> {
        let mut taken = Taken::default();
        for call in 0..WARM_UP + self.calls {
            let (here, took_here) = self.call(runner).await?;
            let (there, took_there) = self.call(client).await?;
            if payload(&here) != payload(&there) {
                return Err(BenchError::OtherAnswer);
            }
            if call >= WARM_UP {
                taken.local.push(took_here);
                taken.remote.push(took_there);
                taken.in_gateway.push(there.metrics.wall);
                taken.in_nodes.push(there.metrics.nodes.values().map(|node| node.busy).sum());
            }
        }
        Ok(taken)
    }

    async fn call(&self, transport: &impl PipelineTransport) -> Result<(Execution, Duration), BenchError> {
        let request = self.request.clone();
        let begin = Instant::now();
        let execution = transport.execute(request).await?;
        Ok((execution, begin.elapsed()))
    }

    fn row(&self, taken: Taken, bare_socket: &Times) -> Row {
        let Taken { local, remote, in_gateway, in_nodes } = taken;
        let [local, remote, in_gateway, in_nodes] = [local, remote, in_gateway, in_nodes].map(Times::new);
        let twice_local = local.p50() * TIMES_LOCAL;
        let share = percent(remote.share_within(twice_local));
        let socket = remote.p50().saturating_sub(in_gateway.p50());
        let row = Row::new(self.name, "the same pipeline by PipelineRunner in this process", remote.len())
            .with("input_bytes", self.bytes)
            .with("local_p50_us", microseconds(local.p50()))
            .with("local_p95_us", microseconds(local.p95()))
            .with("p50_us", microseconds(remote.p50()))
            .with("p95_us", microseconds(remote.p95()))
            .with("local_ratio", ratio(remote.p50(), local.p50()))
            .with("node_p50_us", microseconds(in_nodes.p50()))
            .with("gateway_p50_us", microseconds(in_gateway.p50()))
            .with("socket_p50_us", microseconds(socket))
            .with("local_share_within_2x", percent(local.share_within(twice_local)))
            .with("share_within_2x", share)
            .with("bare_socket_p50_us", microseconds(bare_socket.p50()))
            .with("socket_alone_ratio", ratio(bare_socket.p50(), local.p50()))
            .with("p95_ratio", ratio(remote.p95(), local.p95()));
        if bare_socket.p50() > twice_local {
            return row;
        }
        row.with("p95_ratio_at_most", TIMES_LOCAL).promising(remote.p95() <= local.p95() * TIMES_LOCAL)
    }
}

/// All that came, end to end: what a unary answer has joined is the same as its pieces. Of documents it puts brackets
/// and commas around, which are left out.
fn payload(execution: &Execution) -> Vec<u8> {
    let frames = execution.outputs.values().flatten();
    let pieces: Vec<Bytes> = frames.map(|frame| frame.data.payload().clone()).collect();
    let is_json =
        execution.outputs.values().flatten().any(|frame| matches!(frame.data, RuntimeData::Json(_)));
    match (is_json, pieces.as_slice()) {
        (true, [only]) => {
            let array = only.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
            array.unwrap_or(only).to_vec()
        }
        (true, several) => several.join(&b','),
        (false, all) => all.concat(),
    }
}

impl Socket {
    fn pair(self) -> io::Result<(Box<dyn Stream>, Box<dyn Stream>)> {
        match self {
            Self::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let here = TcpStream::connect(listener.local_addr()?)?;
                let (there, _address) = listener.accept()?;
                here.set_nodelay(true)?;
                there.set_nodelay(true)?;
                Ok((Box::new(here), Box::new(there)))
            }
            Self::Unix => {
                let (here, there) = UnixStream::pair()?;
                Ok((Box::new(here), Box::new(there)))
            }
        }
    }
}

/// What both sockets are.
trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Calls of the service that ask nothing of its workers.
async fn bare_grpc(client: &GrpcTransport, calls: usize) -> Result<Times, BenchError> {
    let mut took = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begin = Instant::now();
        let _version = client.version().await?;
        took.push(begin.elapsed());
    }
    Ok(Times::new(took))
}

/// So many bytes to another thread, and as many back when all have come.
fn bare_socket(socket: Socket, bytes: usize, rounds: usize) -> Result<Times, BenchError> {
    let failed = while_doing("send bytes to myself");
    let echo = || {
        let (mut here, mut there) = socket.pair()?;
        let peer = thread::spawn(move || {
            let mut all = vec![0; bytes];
            (0..rounds).try_for_each(|_| there.read_exact(&mut all).and_then(|()| there.write_all(&all)))
        });
        let mut all = vec![0; bytes];
        let mut took = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let begin = Instant::now();
            here.write_all(&all)?;
            here.read_exact(&mut all)?;
            took.push(begin.elapsed());
        }
        peer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Times::new(took))
    };
    echo().map_err(failed)
}
