//! One row, played: a client has work under way, the fault comes in its phase, and the client's end of it is told.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use remotemedia_cli::admin::WorkerStatus;
use remotemedia_core::Fault as ClientFault;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::{
    ChunkResult, DataBuffer, ExecuteRequest, PipelineManifest, ResourceLimits, StreamInit, StreamRequest,
};
use remotemedia_tests::client::{Call, chunk, error_in, fault};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::plant::Process;

use crate::ground::{Ground, SOON};
use crate::table::{Actor, FLOOD_IS_OVER, Fault, Outcome, Phase, Row};

/// What a client was told last.
#[derive(Debug)]
pub(crate) enum Ending {
    /// All was answered with results.
    Served,
    /// This came instead of what was left.
    Fault(ClientFault),
    /// The connection broke off.
    Broken,
}

/// A row under way.
pub(crate) struct Play<'a> {
    pub(crate) ground: &'a mut Ground,
    pub(crate) row: Row,
}

/// Inputs of a stream.
const INPUTS: u64 = 6;
/// At which of them it comes.
const AT: u64 = 3;
/// Larger than what is sent beside a frame, so that it lies in a block.
const INPUT_BYTES: usize = 100_000;
/// What the fault nodes put into an output that they make.
const MADE_BYTES: usize = 64 * 1_024;
const MADE_SAMPLES: usize = 16_384;
const MADE_TEXT: &str = "made up";

/// For one who is to be killed, and for others.
const SHORT: u64 = 300;
const LONG: u64 = 10_000;
/// What an answer may take beyond its deadline, on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(3);

// === impl Play ===

impl Play<'_> {
    /// Gives the endings of all that was asked for.
    pub(crate) async fn run(&mut self) -> Vec<Ending> {
        match self.row.phase {
            Phase::Starting => vec![self.unary("made", 0).await],
            Phase::Idle => self.idle().await,
            Phase::HoldingALease => vec![self.stepwise("holding").await],
            Phase::MidUnary => vec![self.unary("input", 0).await],
            Phase::MidStream => vec![self.stream("input", AT).await],
            Phase::Producing => vec![self.stream("output", AT).await],
            Phase::Forwarding => vec![self.forwarding().await],
            Phase::Draining => vec![self.draining().await],
            Phase::GatewayRestarting => vec![self.without_gateway().await],
        }
    }

    /// The same node, doing nothing that it should not.
    pub(crate) async fn unharmed(&mut self) -> Ending {
        self.unary("never", 0).await
    }

    async fn unary(&mut self, when: &str, at: u64) -> Ending {
        let request = ExecuteRequest {
            manifest: Some(chain(&[&self.node(when, at, "")])),
            data_inputs: [("doom".to_owned(), input(0))].into(),
            resource_limits: Some(self.limits()),
            ..ExecuteRequest::default()
        };
        let begin = Instant::now();
        let ending = match self.ground.plant.client().execute_request(request).await {
            Ok(Ok(result)) => {
                let outputs: Vec<Vec<u8>> = result.data_outputs.values().map(payload).collect();
                assert!(outputs == [payload(&input(0))], "{:?}: the output is not what went in", self.row);
                Ending::Served
            }
            Ok(Err(error)) => Ending::Fault(fault(&error)),
            Err(status) => Ending::Fault(fault(&error_in(&status))),
        };
        assert!(begin.elapsed() < self.deadline(), "answered only after {:?}", begin.elapsed());
        ending
    }

    /// All inputs at once.
    async fn stream(&mut self, when: &str, at: u64) -> Ending {
        let call = self.open(&chain(&[&self.node(when, at, "")])).await;
        self.judged(call, 0).await
    }

    /// One input after the other, each when the one before is answered.
    async fn stepwise(&mut self, when: &str) -> Ending {
        let mut call = self.open(&chain(&[&self.node(when, AT, "")])).await;
        for sequence in 0..AT {
            self.step(&mut call, sequence).await;
        }
        self.judged(call, AT).await
    }

    /// One input, answered before the next.
    async fn step(&self, call: &mut Call, sequence: u64) {
        call.send(sequence, input(sequence)).await;
        self.assert_right(&[call.result().await], true);
    }

    async fn forwarding(&mut self) -> Ending {
        let doom = self.node("input", AT, ", own_process: true");
        let [before, after] = ["before", "after"]
            .map(|id| format!("{{ id: {id}, node_type: PassThrough, own_process: true }}"));
        let call = self.open(&chain(&[&before, &doom, &after])).await;
        self.judged(call, 0).await
    }

    async fn draining(&mut self) -> Ending {
        let mut call = self.open(&chain(&[&self.node("input", AT, "")])).await;
        for sequence in 0..AT {
            self.step(&mut call, sequence).await;
        }
        self.victim().signal(Signal::SIGTERM);
        self.until_victim(|worker| worker.state == "leaving").await;
        self.judged(call, AT).await
    }

    /// A thread that a session has left behind does it when no session is there any more.
    async fn idle(&mut self) -> Vec<Ending> {
        let (gate, mark) = (self.ground.note("gate"), self.ground.note("mark"));
        let doom = with(&self.node("left_behind", 0, ""), &format!("gate: '{gate}', once: '{mark}'"));
        let call = self.open(&chain(&[&doom])).await;
        let first = self.judged(call, 0).await;
        let floods = self.floods();
        self.until_victim(|worker| worker.sessions == 0).await;
        fs::write(&gate, "").expect("a note is written");
        until_happened(&mark).await;
        if self.row.fault == Fault::Flood {
            // The mark is made when it begins.
            until(SOON, async || if self.floods() > floods { Ok(()) } else { Err("it is not over") }).await;
        }
        match self.row.outcome() {
            Outcome::Hangs => vec![first, self.unharmed().await],
            Outcome::Lives | Outcome::Fails | Outcome::Disbelieved | Outcome::Unseen | Outcome::Dies(_) => {
                vec![first]
            }
        }
    }

    /// Without its gateway a worker drops its nodes, and this one does it then.
    async fn without_gateway(&mut self) -> Ending {
        let mark = self.ground.note("mark");
        let doom = with(&self.node("drop", 0, ""), &format!("once: '{mark}'"));
        let mut call = self.open(&chain(&[&doom])).await;
        self.step(&mut call, 0).await;
        self.ground.plant.kill_gateway().await;
        let ending = match call.next().await {
            Some(Err(_)) | None => Ending::Broken,
            Some(Ok(response)) => panic!("the dead said {response:?}"),
        };
        until_happened(&mark).await;
        ending
    }

    /// Sends what is left to send from a sequence on, and takes all answers: each sequence is answered once and in
    /// order, or not because of what the session ended with.
    async fn judged(&self, mut call: Call, from: u64) -> Ending {
        let begin = Instant::now();
        let sender = call.sender();
        call.half_close();
        let send = async move {
            for sequence in from..INPUTS {
                let request = StreamRequest { request: Some(chunk(sequence, input(sequence))) };
                // A session that has ended takes no more, and its answers tell why.
                if sender.send(request).await.is_err() {
                    break;
                }
            }
        };
        let ((), answers) = tokio::join!(send, call.rest());
        assert!(begin.elapsed() < self.deadline(), "answered only after {:?}", begin.elapsed());
        let mut answered = answers.sequences();
        answered.dedup();
        let expected: Vec<u64> = (from..INPUTS).take(answered.len()).collect();
        assert_eq!(answered, expected, "answered twice, or out of order, or not at all");
        self.assert_right(&answers.results, answers.error.is_none());
        match answers.error {
            Some(error) => Ending::Fault(fault(&error)),
            None => {
                assert_eq!(answered.last(), Some(&(INPUTS - 1)), "an input was accepted and not answered");
                assert!(answers.closed.is_some(), "the stream just stopped");
                Ending::Served
            }
        }
    }

    /// Results are what the sink gives for their sequences, all of it if they are whole, and else its beginning.
    fn assert_right(&self, results: &[ChunkResult], are_whole: bool) {
        let mut sequences: Vec<u64> = results.iter().map(|result| result.sequence).collect();
        sequences.dedup();
        let expected: Vec<(u64, Vec<u8>)> = sequences
            .into_iter()
            .flat_map(|sequence| self.expected(sequence).into_iter().map(move |bytes| (sequence, bytes)))
            .collect();
        let given = results
            .iter()
            .flat_map(|result| result.data_outputs.values().map(|buffer| (result.sequence, payload(buffer))));
        let given: Vec<(u64, Vec<u8>)> = given.collect();
        let is_right = if are_whole { given == expected } else { expected.starts_with(&given) };
        let show = |all: &[(u64, Vec<u8>)]| {
            all.iter()
                .map(|(sequence, bytes)| (*sequence, bytes.len(), bytes.first().copied()))
                .collect::<Vec<_>>()
        };
        assert!(
            is_right,
            "{:?}: expected by sequence, length and first byte {:?}, got {:?}",
            self.row,
            show(&expected),
            show(&given)
        );
    }

    /// What the sink gives for a sequence: what went in, but where outputs are made before.
    fn expected(&self, sequence: u64) -> Vec<Vec<u8>> {
        let input = payload(&input(sequence));
        if self.row.phase != Phase::Producing || sequence > 0 {
            return vec![input];
        }
        let all = usize::try_from(AT).expect("it is a small number");
        match self.row.actor {
            Actor::Rust => vec![vec![7; MADE_BYTES]; all],
            Actor::Python => {
                let made = 7_f32.to_le_bytes().repeat(MADE_SAMPLES);
                let mut outputs = vec![made; all - 1];
                outputs.push(input);
                outputs
            }
            Actor::Liar => {
                let mut outputs = vec![MADE_TEXT.as_bytes().to_vec(); all];
                outputs.push(input);
                outputs
            }
        }
    }

    async fn open(&self, manifest: &PipelineManifest) -> Call {
        let (manifest, resource_limits) = (Some(manifest.clone()), Some(self.limits()));
        let init = StreamInit { manifest, resource_limits, ..StreamInit::default() };
        self.ground.plant.client().stream_as(init).await.0
    }

    /// The node of the pipeline that goes wrong.
    fn node(&self, when: &str, at: u64, more: &str) -> String {
        let node_type = self.row.actor.node_type();
        let (fault, when) = match when {
            "never" => ("none", "input"),
            when => (self.row.fault.word(), when),
        };
        format!(
            "{{ id: doom, node_type: {node_type}{more}, params: {{ fault: {fault}, when: {when}, at: {at} }} }}"
        )
    }

    const fn limit_ms(&self) -> u64 {
        match self.row.outcome() {
            Outcome::Hangs => SHORT,
            Outcome::Lives | Outcome::Fails | Outcome::Dies(_) | Outcome::Disbelieved | Outcome::Unseen => {
                LONG
            }
        }
    }

    fn limits(&self) -> ResourceLimits {
        ResourceLimits { max_timeout_ms: self.limit_ms(), ..ResourceLimits::default() }
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(self.limit_ms()) + SLACK
    }

    async fn until_victim(&self, is_so: impl Fn(&WorkerStatus) -> bool) {
        let pid = self.victim().pid();
        until(SOON, async || {
            let workers = self.ground.plant.status().await.workers;
            let victim = workers.into_iter().find(|worker| worker.pid == pid);
            if victim.as_ref().is_some_and(&is_so) { Ok(()) } else { Err(victim) }
        })
        .await;
    }

    /// How many floods of the victim's are over.
    fn floods(&self) -> usize {
        self.victim().log().iter().filter(|line| *line == FLOOD_IS_OVER).count()
    }

    fn victim(&self) -> &Process {
        self.ground.plant.worker(self.ground.victim())
    }
}

/// Another for each sequence.
fn input(sequence: u64) -> DataBuffer {
    text(format!("{sequence:08}").repeat(INPUT_BYTES / 8))
}

/// The bytes of what fault nodes give.
fn payload(buffer: &DataBuffer) -> Vec<u8> {
    match &buffer.data_type {
        Some(DataType::Text(text)) => text.text_data.to_vec(),
        Some(DataType::Binary(binary)) => binary.data.to_vec(),
        Some(DataType::Audio(audio)) => audio.samples.to_vec(),
        other => panic!("no fault node gives {other:?}"),
    }
}

/// A node with more parameters.
fn with(node: &str, more: &str) -> String {
    node.replace(" } }", &format!(", {more} }} }}"))
}

/// A fault node makes a mark when it begins.
async fn until_happened(mark: &str) {
    until(SOON, async || if Path::new(mark).exists() { Ok(()) } else { Err("nothing happened") }).await;
}
