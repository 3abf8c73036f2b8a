//! `bench python-hop`: what it costs to hand a frame to a Python node in another process and get it back.
//!
//! `python_hop` is from worker to worker, without gateway and without the client: a node of the first worker takes the
//! time, hands its block over, and another node of that worker takes the time when the block is back; between them stands
//! the pass-through node of another worker, in Python, or in Rust for comparison. That worker's pass-through is a node as
//! authors write it, run by `python -m remotemedia.worker`. Before each such round an empty text makes the same way, so that
//! every size starts with the same things in the processors' caches, though its pages have just been written; afterwards
//! the same block must have come back, with every page as it was. Sizes and ways take turns round by round, and every
//! few rounds an array of the larger size goes to another process and back by `multiprocessing.Queue`, as an object, and by
//! `multiprocessing.Pipe`, as bytes.
//!
//! `python_hop_cost` is what a message costs in processor time, of all threads of the worker's process: 20 ms of audio, as
//! many as the worker lets in, through the same node, and through a bare one (`bare.py`), an object that gives the native
//! module back what it received: the difference is what the SDK does in Python. `sdk_call_ratio` compares only the
//! calls of the nodes, with the making of their arguments and the taking of their outputs, and not what receives and sends.

use std::fs;
use std::time::Duration;

use remotemedia_core::data::{RuntimeData, Text};
use remotemedia_core::transport::{StreamSession as _, TransportData};
use remotemedia_runtime::RunningSession;
use serde_json::{Value, json};

use crate::baseline::Baseline;
use crate::ends::{SENDS, TAKES};
use crate::error::{BenchError, while_doing};
use crate::library::{Library, NODE, ended, single};
use crate::program::Program;
use crate::row::Row;
use crate::stream;
use crate::times::{Times, microseconds, ratio};

/// Payload sizes, in bytes: a little speech, and a picture of 1920 × 1080 in RGB.
const SIZES: [usize; 2] = [1 << 10, 6 << 20];

/// Turns of the baselines, and their rounds in one turn.
const TURNS: usize = 20;
const BASELINE_ROUNDS: usize = 5;

/// Rounds of each size and way in one turn.
const ROUNDS: usize = 25;

/// Rounds of each size and way that are not counted.
const WARM_UP: usize = 50;

/// Messages whose cost is measured together, and how often.
const MESSAGES: u64 = 250;
const BURSTS: usize = 60;

/// Promised: a round trip of the larger size takes at most this many times as long as one of the smaller.
const FLAT: f64 = 1.25;

/// Promised: a round trip takes at most this many times as long as one through a Rust node.
const OVER_RUST: f64 = 3.0;

/// Promised: a message costs at most this many times as much as through a bare loop.
const OVER_BARE: f64 = 2.0;

/// The pass-through nodes, each in a process of its own.
const IN_PYTHON: &str = "PyPass";
const IN_RUST: &str = "PassThrough";
const BARE: &str = "BarePass";

pub(crate) async fn run() -> Result<Vec<Row>, BenchError> {
    let [_, large] = SIZES;
    let baselines = [Baseline::python_queue(large)?, Baseline::python_pipe(large)?];
    let programs = [
        Program::part("hop-ends")?,
        Program::stock_worker()?,
        Program::python_worker("nodes:PyPass")?,
        Program::python(&["bare.py"])?,
    ];
    let library = Library::start(&programs).await?;
    let rows = Box::pin(measure(&library, baselines)).await;
    let stopped = library.stop().await;
    let rows = rows?;
    stopped?;
    Ok(rows)
}

async fn measure(library: &Library, baselines: [Baseline; 2]) -> Result<Vec<Row>, BenchError> {
    let hop = Hops::measure(library, baselines).await?.row();
    let [_ends, rust, python, bare] = library.pids()[..] else { return Err(BenchError::Unexpected) };
    let mut costs = [
        Cost::open(library, IN_PYTHON, python).await?,
        Cost::open(library, BARE, bare).await?,
        Cost::open(library, IN_RUST, rust).await?,
    ];
    for _ in 0..=BURSTS {
        for cost in &mut costs {
            cost.burst().await?;
        }
    }
    Ok(vec![hop, Box::pin(cost_row(costs)).await?])
}

/// Durations of round trips: by way, in Python and in Rust, and by size.
struct Hops {
    python: [Vec<Duration>; 2],
    rust: [Vec<Duration>; 2],
    queue: Vec<Duration>,
    pipe: Vec<Duration>,
}

/// A session from the first worker through another and back.
struct Way {
    session: RunningSession,
    next: u64,
}

/// Processor time of a worker's process for messages through its node.
struct Cost {
    session: RunningSession,
    pid: u32,
    next: u64,
    /// For one message, of each burst but the first.
    cpu: Vec<Duration>,
}

// === impl Hops ===

impl Hops {
    async fn measure(library: &Library, baselines: [Baseline; 2]) -> Result<Self, BenchError> {
        let [mut queue, mut pipe] = baselines;
        let mut ways = [Way::open(library, IN_PYTHON).await?, Way::open(library, IN_RUST).await?];
        let mut hops = Self {
            python: Default::default(),
            rust: Default::default(),
            queue: Vec::new(),
            pipe: Vec::new(),
        };
        queue.rounds(BASELINE_ROUNDS)?;
        pipe.rounds(BASELINE_ROUNDS)?;
        for round in 0..WARM_UP + TURNS * ROUNDS {
            for (place, bytes) in SIZES.into_iter().enumerate() {
                let [python, rust] = &mut ways;
                let (in_python, in_rust) = (python.round(bytes).await?, rust.round(bytes).await?);
                if round >= WARM_UP {
                    hops.python[place].push(in_python);
                    hops.rust[place].push(in_rust);
                }
            }
            if round >= WARM_UP && round % ROUNDS == 0 {
                hops.queue.extend(queue.rounds(BASELINE_ROUNDS)?);
                hops.pipe.extend(pipe.rounds(BASELINE_ROUNDS)?);
            }
        }
        for way in ways {
            ended(&way.session).await?;
        }
        Ok(hops)
    }

    fn row(self) -> Row {
        let [python, rust] = [self.python, self.rust].map(|by_size| by_size.map(Times::new));
        let [queue, pipe] = [self.queue, self.pipe].map(Times::new);
        let flat = |times: &[Times; 2]| ratio(times[1].p50(), times[0].p50());
        let over_rust = [0, 1].map(|place| ratio(python[place].p50(), rust[place].p50()));
        let sizes: Vec<Value> = (0..SIZES.len())
            .map(|place| {
                json!({
                    "bytes": SIZES[place],
                    "p50_us": microseconds(python[place].p50()),
                    "p95_us": microseconds(python[place].p95()),
                    "rust_p50_us": microseconds(rust[place].p50()),
                    "rust_p95_us": microseconds(rust[place].p95()),
                    "rust_ratio": over_rust[place],
                })
            })
            .collect();
        Row::new(
            "python_hop",
            "the same way through a Rust node; Python's own queue and pipe",
            python[0].len(),
        )
        .with("flat_ratio", flat(&python))
        .with("flat_ratio_at_most", FLAT)
        .with("rust_flat_ratio", flat(&rust))
        .with("rust_ratio", over_rust[1])
        .with("rust_ratio_at_most", OVER_RUST)
        .with("queue_ratio", ratio(queue.p50(), python[1].p50()))
        .with("pipe_ratio", ratio(pipe.p50(), python[1].p50()))
        .with("queue_p50_us", microseconds(queue.p50()))
        .with("pipe_p50_us", microseconds(pipe.p50()))
        .with("sizes", sizes)
        .promising(flat(&python) <= FLAT)
        .promising(over_rust.iter().all(|over| *over <= OVER_RUST))
    }
}

// === impl Way ===

impl Way {
    async fn open(library: &Library, node_type: &str) -> Result<Self, BenchError> {
        let manifest = json!({
            "version": "v1",
            "nodes": [
                { "id": "sends", "node_type": SENDS },
                { "id": "pass", "node_type": node_type },
                { "id": "takes", "node_type": TAKES },
            ],
            "connections": [{ "from": "sends", "to": "pass" }, { "from": "pass", "to": "takes" }],
        });
        Ok(Self { session: library.open(&manifest).await?, next: 0 })
    }

    /// Has a new frame of so many bytes handed over and back; says how long that took.
    async fn round(&mut self, bytes: usize) -> Result<Duration, BenchError> {
        self.ask(&bytes.to_string()).await?;
        let nanos = self.ask("go").await?;
        nanos.parse().map(Duration::from_nanos).map_err(|_| BenchError::OtherAnswer)
    }

    async fn ask(&mut self, words: &str) -> Result<String, BenchError> {
        self.session.send(TransportData::new(self.next, Text::from(words))).await?;
        self.next += 1;
        let mut answer = self.session.receive().await?.ok_or(BenchError::OtherAnswer)?;
        match answer.outputs.remove("takes").map(|frame| frame.data) {
            Some(RuntimeData::Text(text)) => Ok(text.as_str().to_owned()),
            Some(_) | None => Err(BenchError::OtherAnswer),
        }
    }
}

// === impl Cost ===

impl Cost {
    async fn open(library: &Library, node_type: &str, pid: Option<u32>) -> Result<Self, BenchError> {
        let pid = pid.ok_or(BenchError::Unexpected)?;
        Ok(Self { session: library.open(&single(node_type)).await?, pid, next: 0, cpu: Vec::new() })
    }

    /// Of the first one nothing is kept: it is slower.
    async fn burst(&mut self) -> Result<(), BenchError> {
        let before = cpu_of(self.pid)?;
        let end = self.next + MESSAGES;
        stream::at_once(&self.session, &stream::chunk()?, self.next..end).await?;
        let each = (cpu_of(self.pid)?.saturating_sub(before)).as_secs_f64() / MESSAGES as f64;
        if self.next > 0 {
            self.cpu.push(Duration::from_secs_f64(each));
        }
        self.next = end;
        Ok(())
    }
}

async fn cost_row(costs: [Cost; 3]) -> Result<Row, BenchError> {
    let mut cpu = Vec::new();
    let mut calls = Vec::new();
    for cost in costs {
        let report = ended(&cost.session).await?.nodes.remove(NODE).ok_or(BenchError::Unexpected)?;
        calls.push(report.cpu.as_secs_f64() / report.calls.max(1) as f64);
        cpu.push(Times::new(cost.cpu).p50());
    }
    let (Ok([python, bare, rust]), Ok([python_call, bare_call, rust_call])) =
        (<[Duration; 3]>::try_from(cpu), <[f64; 3]>::try_from(calls))
    else {
        return Err(BenchError::Unexpected);
    };
    let [python_call, bare_call, rust_call] =
        [python_call, bare_call, rust_call].map(Duration::from_secs_f64);
    let messages = usize::try_from(MESSAGES).unwrap_or(usize::MAX);
    Ok(Row::new("python_hop_cost", "a node without the SDK, and one in Rust", messages * BURSTS)
        .with("sdk_ratio", ratio(python, bare))
        .with("sdk_ratio_at_most", OVER_BARE)
        .with("sdk_call_ratio", ratio(python_call, bare_call))
        .with("cpu_us", microseconds(python))
        .with("bare_cpu_us", microseconds(bare))
        .with("rust_cpu_us", microseconds(rust))
        .with("call_us", microseconds(python_call))
        .with("bare_call_us", microseconds(bare_call))
        .with("rust_call_us", microseconds(rust_call))
        .promising(ratio(python, bare) <= OVER_BARE))
}

/// Processor time that the threads of a process have used.
fn cpu_of(pid: u32) -> Result<Duration, BenchError> {
    let failed = || while_doing("read a process's time");
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed())? {
        let path = thread.map_err(failed())?.path().join("schedstat");
        let text = fs::read_to_string(path).map_err(failed())?;
        // Running, waiting, how often.
        nanos += text.split(' ').next().and_then(|running| running.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}
