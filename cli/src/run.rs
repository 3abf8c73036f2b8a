//! `remotemedia run`: a pipeline on a file.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use remotemedia_core::fault::Fault;
use remotemedia_core::frame::Frame;
use remotemedia_core::limits::{LimitRequest, Limits};
use remotemedia_core::starting::StartListener;
use remotemedia_core::token::Token;
use remotemedia_core::transport::{
    ChunkOutput, ExecuteRequest, ExecutionMetrics, PipelineTransport, StreamRequest, StreamSession,
    TransportData,
};
use serde::Serialize;

use crate::args::RunArgs;
use crate::config::{Programs, private_plan};
use crate::error::CommandError;
use crate::find;
use crate::input::{Cut, Source};
use crate::launch::{Home, Logs, Purpose, Service};
use crate::output::Sink;
use crate::pipeline::Pipeline;
use crate::signals::Signals;
use crate::summary::{Latency, Mode, NodeLine, Sequences, Summary, in_ms};
use crate::transport::GrpcTransport;

/// How long a private service may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// What a message holds beside its payload: names, the manifest, metadata.
const ENVELOPE_BYTES: u64 = 64 * 1_024;

/// Runs the pipeline, and says how it went.
///
/// # Errors
/// The pipeline or a file is of no use, there is no service, or the pipeline ended with an error.
pub async fn run(
    args: RunArgs,
    token: Option<Token>,
    home: &Home,
    programs: &Programs,
) -> Result<(), CommandError> {
    // First of all: a signal that comes while a private service starts must not leave it behind.
    let mut signals = Signals::listen().map_err(|source| CommandError::Signals { source })?;
    let job = async { run_on_target(Job::new(&args)?, &args, token, home, programs).await };
    let done = tokio::select! {
        done = job => done,
        // Dropping the run ends the session, and kills the private service.
        signal = signals.next() => Err(CommandError::Interrupted { signal }),
    };
    match (&done, args.json) {
        (Ok(summary), true) => crate::print_json(summary)?,
        (Ok(summary), false) => crate::say(&summary.to_string()),
        (Err(error), true) => crate::print_json(&Failure::of(error))?,
        (Err(CommandError::Fault(Fault::Node(fault))), false) if !fault.backtrace.is_empty() => {
            crate::say(&fault.backtrace);
        }
        (Err(CommandError::Fault(Fault::Worker(lost))), false) if !lost.last_lines.is_empty() => {
            crate::say(&format!("the last lines of worker '{}' were:", lost.worker));
            lost.last_lines.iter().for_each(|line| crate::say(&format!("  {line}")));
        }
        // The caller says it.
        (Err(_), false) => {}
    }
    done.map(|_summary| ())
}

/// What `--json` prints instead of a summary.
#[derive(Serialize)]
struct Failure<'a> {
    /// For people.
    error: String,
    /// The node to blame, if one is.
    node: Option<&'a str>,
    /// For programs, if the pipeline ended with it.
    fault: Option<&'a Fault>,
}

/// What is to be run, before it is known where.
struct Job {
    pipeline: Pipeline,
    source: Source,
    cut: Cut,
    pace: Pace,
    sink: Sink,
    limits: LimitRequest,
}

/// When pieces of audio are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// As soon as the service takes them.
    Unbound,
    /// Each when its time has come.
    RealTime,
}

/// Where it is run.
struct Target {
    endpoint: String,
    gateway_pid: Option<u32>,
    /// Ours alone, with the time that it took to start.
    private: Option<(Service, Duration)>,
}

/// What has been sent and answered.
#[derive(Default)]
struct Traffic {
    sequences: Sequences,
    waiting: VecDeque<(u64, Instant)>,
    latencies: Vec<Duration>,
    output_counts: BTreeMap<String, u64>,
}

/// Why the sending half of a stream stopped early.
enum SendError {
    /// The input is broken: the session must be told.
    Input(CommandError),
    /// The session takes no more: its results say why.
    Session(Fault),
}

async fn run_on_target(
    job: Job,
    args: &RunArgs,
    token: Option<Token>,
    home: &Home,
    programs: &Programs,
) -> Result<Summary, CommandError> {
    let target = Target::find(args, home, programs).await?;
    let done = run_on(job, &target, token).await;
    match (done, target.private) {
        (done, None) => done,
        (Ok(done), Some((service, _startup))) => {
            service.stop().await;
            Ok(done)
        }
        (Err(error), Some((service, _startup))) => {
            if matches!(&error, CommandError::Fault(fault) if is_of_the_service(fault)) {
                service.last_lines().iter().for_each(|line| crate::say(line));
            }
            service.stop().await;
            Err(error)
        }
    }
}

async fn run_on(mut job: Job, target: &Target, token: Option<Token>) -> Result<Summary, CommandError> {
    let (transport, _version) = GrpcTransport::connect(&target.endpoint, token).await?;
    let bar = progress_bar(job.source.progress().1);
    let begin = Instant::now();
    let (mode, done) = match job.cut {
        Cut::Whole => (Mode::Unary, job.execute(&transport, &bar).await),
        Cut::Pieces(_) => (Mode::Stream, job.stream(&transport, &bar).await),
    };
    let (traffic, metrics) = match done {
        Ok(done) => done,
        Err(error) => return Err(job.pipeline.blame(error)),
    };
    let wall = begin.elapsed();
    bar.finish_and_clear();
    let late = job.late(&traffic.latencies);
    let nodes = job.pipeline.manifest.nodes.iter();
    Ok(Summary {
        pipeline: job.pipeline.name,
        mode,
        endpoint: target.endpoint.clone(),
        gateway_pid: target.gateway_pid,
        startup_ms: target.private.as_ref().map(|(_service, startup)| in_ms(*startup)),
        wall_ms: in_ms(wall),
        audio_seconds: job.source.duration().map(|duration| duration.as_secs_f64()),
        nodes: nodes.map(|node| NodeLine::of(&node.id, &node.node_type, &metrics)).collect(),
        sequences: traffic.sequences,
        late,
        latency_ms: Latency::of(traffic.latencies),
        output_counts: traffic.output_counts,
        outputs: job.sink.finish()?,
    })
}

// === impl Failure ===

impl<'a> Failure<'a> {
    fn of(error: &'a CommandError) -> Self {
        let fault = match error {
            CommandError::Fault(fault) => Some(fault),
            CommandError::Refused { fault, .. } => Some(fault.as_ref()),
            CommandError::Config(_)
            | CommandError::Home(_)
            | CommandError::Launch(_)
            | CommandError::Find(_)
            | CommandError::Replay(_)
            | CommandError::Token(_)
            | CommandError::Admin(_)
            | CommandError::Connect(_)
            | CommandError::ReadPipeline { .. }
            | CommandError::Invalid { .. }
            | CommandError::NotValid { .. }
            | CommandError::Unwell { .. }
            | CommandError::Offer(_)
            | CommandError::Entries { .. }
            | CommandError::Input(_)
            | CommandError::Output(_)
            | CommandError::Interrupted { .. }
            | CommandError::Runtime { .. }
            | CommandError::Signals { .. }
            | CommandError::Restart { .. }
            | CommandError::Report { .. }
            | CommandError::NewNode(_) => None,
        };
        Self { error: error.to_string(), node: fault.and_then(Fault::node), fault }
    }
}

// === impl Job ===

impl Job {
    fn new(args: &RunArgs) -> Result<Self, CommandError> {
        let limits = LimitRequest {
            timeout_ms: args.timeout_ms,
            start_ms: Some(args.start_ms),
            ..LimitRequest::default()
        };
        let message = u64::try_from(Limits::default().max_message_bytes).unwrap_or(u64::MAX);
        let max_piece = message.saturating_sub(ENVELOPE_BYTES);
        let pipeline = Pipeline::read(&args.pipeline)?;
        let (source, cut) = Source::open(&args.input, args.input_kind, args.chunk(), max_piece)?;
        let sink = Sink::open(&args.output, args.json)?;
        let pace = if args.real_time { Pace::RealTime } else { Pace::Unbound };
        Ok(Self { pipeline, source, cut, pace, sink, limits })
    }

    /// How many answers came when the piece behind theirs was due already, where pieces are due.
    fn late(&self, latencies: &[Duration]) -> Option<usize> {
        match (self.pace, self.cut) {
            (Pace::RealTime, Cut::Pieces(each)) => {
                Some(latencies.iter().filter(|latency| **latency > each).count())
            }
            (Pace::RealTime | Pace::Unbound, Cut::Whole) | (Pace::Unbound, Cut::Pieces(_)) => None,
        }
    }

    async fn execute<T: PipelineTransport>(
        &mut self,
        transport: &T,
        bar: &ProgressBar,
    ) -> Result<(Traffic, ExecutionMetrics), CommandError> {
        let mut traffic = Traffic::default();
        let data = self.source.next(self.cut)?;
        let inputs = data.map(|data| (self.pipeline.entry.clone(), Frame::new(0, data)));
        let request = ExecuteRequest {
            manifest: self.pipeline.manifest.clone(),
            inputs: inputs.into_iter().collect(),
            limits: self.limits,
            private: false,
        };
        traffic.sent(0, Instant::now());
        let done = transport.execute(request).await?;
        bar.set_position(self.source.progress().0);
        traffic.answered(0);
        for (node, frames) in &done.outputs {
            for frame in frames {
                self.sink.take(node, frame)?;
                traffic.output(node);
            }
        }
        Ok((traffic, done.metrics))
    }

    async fn stream<T: PipelineTransport>(
        &mut self,
        transport: &T,
        bar: &ProgressBar,
    ) -> Result<(Traffic, ExecutionMetrics), CommandError> {
        let listener = Some(StartListener::new(|starting| crate::say(&starting.to_string())));
        let request = StreamRequest {
            manifest: self.pipeline.manifest.clone(),
            limits: self.limits,
            listener,
            private: false,
        };
        let session = transport.stream(request).await?;
        let traffic = RefCell::new(Traffic::default());
        let sending =
            send_all(&session, &self.pipeline.entry, (&mut self.source, self.cut, self.pace), &traffic, bar);
        let receiving = receive_all(&session, &mut self.sink, &traffic);
        tokio::pin!(sending, receiving);
        tokio::select! {
            biased;
            // Results that end first end it all: with an error, or because the service closed by itself.
            received = &mut receiving => received?,
            sent = &mut sending => match sent {
                Ok(()) => receiving.await?,
                Err(SendError::Session(fault)) => {
                    receiving.await?;
                    return Err(fault.into());
                }
                Err(SendError::Input(error)) => {
                    session.cancel();
                    return Err(error);
                }
            },
        }
        let metrics = session.metrics();
        Ok((traffic.take(), metrics))
    }
}

async fn send_all<S: StreamSession>(
    session: &S,
    entry: &str,
    (source, cut, pace): (&mut Source, Cut, Pace),
    traffic: &RefCell<Traffic>,
    bar: &ProgressBar,
) -> Result<(), SendError> {
    let begin = Instant::now();
    for sequence in 0.. {
        let time = source.time();
        let Some(data) = source.next(cut).map_err(|error| SendError::Input(error.into()))? else {
            break;
        };
        let timestamp_us = time.and_then(|time| u64::try_from(time.as_micros()).ok());
        let frame = Frame { timestamp_us, ..Frame::new(sequence, data) };
        let due = match (pace, time) {
            (Pace::RealTime, Some(time)) => {
                tokio::time::sleep_until((begin + time).into()).await;
                begin + time
            }
            (Pace::RealTime, None) | (Pace::Unbound, _) => Instant::now(),
        };
        traffic.borrow_mut().sent(sequence, due);
        session.send(TransportData::of_frame(entry, frame)).await.map_err(SendError::Session)?;
        bar.set_position(source.progress().0);
    }
    session.close().await.map_err(SendError::Session)
}

async fn receive_all<S: StreamSession>(
    session: &S,
    sink: &mut Sink,
    traffic: &RefCell<Traffic>,
) -> Result<(), CommandError> {
    while let Some(ChunkOutput { sequence, outputs, missed, latency: _ }) = session.receive().await? {
        if let Some(fault) = missed {
            crate::say(&fault.to_string());
        }
        let mut traffic = traffic.borrow_mut();
        traffic.answered(sequence);
        for (node, frame) in &outputs {
            sink.take(node, frame)?;
            traffic.output(node);
        }
    }
    Ok(())
}

// === impl Target ===

impl Target {
    async fn find(args: &RunArgs, home: &Home, programs: &Programs) -> Result<Self, CommandError> {
        if let Some(endpoint) = &args.endpoint {
            let gateway_pid = find::gateway_at(home, endpoint).map(|serving| serving.pid);
            return Ok(Self { endpoint: endpoint.clone(), gateway_pid, private: None });
        }
        if let Some(dir) = &args.runtime_dir {
            let serving = find::gateway(home, Some(dir))?;
            return Ok(Self { endpoint: serving.grpc, gateway_pid: Some(serving.pid), private: None });
        }
        let begin = Instant::now();
        let dir = home.private_dir(Purpose::Run)?;
        let mut service = Service::start(private_plan(programs), dir, Logs::Kept)?;
        let serving = service.ready(READY).await?;
        let private = Some((service, begin.elapsed()));
        Ok(Self { endpoint: serving.grpc, gateway_pid: Some(serving.pid), private })
    }
}

// === impl Traffic ===

impl Traffic {
    /// It was due then: if the service took it later, it is the service's delay.
    fn sent(&mut self, sequence: u64, due: Instant) {
        self.sequences.sent += 1;
        self.waiting.push_back((sequence, due));
    }

    /// The first result of a sequence ends its waiting; further ones are only counted.
    fn answered(&mut self, sequence: u64) {
        self.sequences.results += 1;
        self.sequences.last = Some(sequence);
        while let Some((waiting, since)) = self.waiting.front().copied()
            && waiting <= sequence
        {
            self.waiting.pop_front();
            if waiting == sequence {
                self.sequences.answered += 1;
                self.latencies.push(since.elapsed());
            }
        }
    }

    fn output(&mut self, node: &str) {
        *self.output_counts.entry(node.to_owned()).or_default() += 1;
    }
}

/// Whether the logs of a private service say more than the fault does.
const fn is_of_the_service(fault: &Fault) -> bool {
    match fault {
        Fault::Worker(lost) => lost.last_lines.is_empty(),
        Fault::Deadline { .. }
        | Fault::Unavailable { .. }
        | Fault::Starting { .. }
        | Fault::Quarantined { .. }
        | Fault::Internal { .. } => true,
        Fault::Parse(_)
        | Fault::Graph(_)
        | Fault::Version { .. }
        | Fault::Placement(_)
        | Fault::Params { .. }
        | Fault::Input { .. }
        | Fault::TypeMismatch { .. }
        | Fault::Entry(_)
        | Fault::Node(_)
        | Fault::Poison(_)
        | Fault::Limit(_)
        | Fault::Stream(_) => false,
    }
}

/// On standard error, and hidden where that is no terminal.
fn progress_bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent}% {elapsed}");
    ProgressBar::new(length).with_style(style.expect("a constant template is valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_result_of_a_sequence_is_its_latency_and_the_rest_are_counted() {
        let mut traffic = Traffic::default();
        (0..4).for_each(|sequence| traffic.sent(sequence, Instant::now()));
        for sequence in [0, 1, 1, 3] {
            traffic.answered(sequence);
        }
        assert_eq!(traffic.sequences, Sequences { sent: 4, answered: 3, results: 4, last: Some(3) });
        assert_eq!(traffic.latencies.len(), 3);
        assert!(traffic.waiting.is_empty());
    }
}
