//! Nothing is copied between processes: a frame goes gateway → worker A → worker B → gateway and stays where it is.
//!
//! Four witnesses, none of which is a counter of ours, watch the same run of the programs that users run:
//! - the processes' trace: all of them name the same memfd inode, block and generation for a frame;
//! - `/proc/PID/maps`: that memfd is mapped in all of them;
//! - a library before the C library's: the bytes that each process has copied into and out of frame pools;
//! - `/proc/PID/smaps`: the kernel never had to show a worker one page of the payload, whatever the instruction
//!   that could have asked for it.
//!
//! What a worker does that copies on purpose must be seen by each of them, or they are blind.

mod domain;
mod maps;
mod preload;
mod trail;

use std::sync::Arc;

use bytes::Bytes;
use remotemedia_cli::transport::GrpcTransport;
use remotemedia_core::data::{Audio, ChannelCount, RuntimeData, SampleFormat, SampleRate};
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::{Connection, Manifest, NodeManifest, VERSION};
use remotemedia_core::transport::{
    Caller, PipelineTransport as _, StreamRequest, StreamSession, TransportData,
};

use domain::{Domain, Program, until};
use maps::PoolMapping;
use nix::sys::signal::Signal;
use preload::Counts;
use trail::Sighting;

const LARGE: usize = 6 << 20;
const SMALL: usize = 1 << 10;

/// Frames whose copies are counted, after one that brings everything into being.
const FRAMES: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_6_mib_pass_two_workers_without_a_copy() {
    let run = Run::of(Domain::stock_worker(), "PassThrough", LARGE).await;
    run.assert_one_block_seen_by_all();
    for worker in &run.workers {
        worker.assert_copied_nothing();
        worker.assert_never_looked();
    }
    run.assert_gateway_copied_in_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_1_kib_pass_two_workers_without_a_copy() {
    let run = Run::of(Domain::stock_worker(), "PassThrough", SMALL).await;
    run.assert_one_block_seen_by_all();
    run.workers.iter().for_each(Evidence::assert_copied_nothing);
    run.assert_gateway_copied_in_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_planted_on_purpose_is_seen_by_every_witness() {
    for frame_bytes in [LARGE, SMALL] {
        let copying = env!("CARGO_BIN_EXE_test-worker").into();
        let run = Run::of(copying, "CopyingPassThrough", frame_bytes).await;
        for worker in &run.workers {
            let Counts { read_bytes, written_bytes, large_bytes, .. } = worker.copied;
            assert!(read_bytes >= run.payload_bytes(), "{read_bytes} bytes read out of pools: {worker:?}");
            assert!(written_bytes >= run.payload_bytes(), "{written_bytes} bytes written: {worker:?}");
            assert!(frame_bytes == SMALL || large_bytes >= run.payload_bytes(), "{worker:?}");
            assert!(frame_bytes == SMALL || worker.resident_bytes() >= LARGE as u64, "{worker:?}");
        }
        let places = run.places_of(FRAMES);
        assert_eq!(places.len(), 3, "the gateway's block, A's copy, B's copy: {places:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_to_another_worker_after_a_death_is_sent_again_and_not_copied() {
    let domain = Domain::start(&Domain::stock_worker()).await;
    let (client, _version) =
        GrpcTransport::connect(&domain.endpoint, None).await.expect("the gateway serves");
    let request = StreamRequest {
        manifest: Arc::new(manifest_of(vec![node("b", "PassThrough")], Vec::new())),
        limits: LimitRequest::default(),
        listener: None,
        caller: Caller::default(),
    };
    let session = client.stream(request).await.expect("the pipeline stands");
    pass(&session, 0, LARGE).await;
    let [gateway, workers @ ..] = domain.programs();
    let sees_all = |worker: &&&Program| !trail::read(worker).is_empty();
    let worker = workers.iter().find(sees_all).expect("one of them had the frame");
    worker.signal(Signal::SIGSTOP);
    let before = gateway.counts();
    let sent = audio(1, LARGE);
    session.send(TransportData::new(1, sent.clone())).await.expect("the frame is taken");
    let sent_to = |count: usize| {
        let told = trail::read(gateway).into_iter();
        let to: Vec<Sighting> =
            told.filter(|seen| (seen.step.as_str(), seen.sequence) == ("sent", 1)).collect();
        (to.len() == count).then_some(to)
    };
    until(|| sent_to(1).is_some()).await;
    worker.signal(Signal::SIGKILL);
    let chunk = session.receive().await.expect("the session lives").expect("a result");
    assert!(chunk.outputs["b"].data == sent, "it is not what was sent");
    assert_eq!((gateway.counts() - before).written_bytes, LARGE as u64, "once, when it came");
    let [first, second] = &sent_to(2).expect("it was sent twice")[..] else { unreachable!() };
    assert_ne!(first.peer, second.peer);
    assert_eq!(first.place, second.place, "the same block");
}

/// What one run left behind.
#[derive(Debug)]
struct Run {
    frame_bytes: usize,
    gateway: Evidence,
    workers: [Evidence; 2],
}

/// What the witnesses say of one process.
#[derive(Debug)]
struct Evidence {
    name: &'static str,
    /// While the [`FRAMES`] passed.
    copied: Counts,
    pools: Vec<PoolMapping>,
    trail: Vec<Sighting>,
}

// === impl Run ===

impl Run {
    async fn of(worker: std::path::PathBuf, node_type: &str, frame_bytes: usize) -> Self {
        let domain = Domain::start(&worker).await;
        let (client, _version) =
            GrpcTransport::connect(&domain.endpoint, None).await.expect("the gateway serves");
        let request = StreamRequest {
            manifest: Arc::new(two_processes(node_type)),
            limits: LimitRequest::default(),
            listener: None,
            caller: Caller::default(),
        };
        let session = client.stream(request).await.expect("the pipeline stands");
        pass(&session, 0, frame_bytes).await;
        let before = domain.programs().map(Program::counts);
        for sequence in 1..=FRAMES {
            pass(&session, sequence, frame_bytes).await;
        }
        let evidence = domain.programs().into_iter().zip(before).map(|(program, before)| Evidence {
            name: program.name,
            copied: program.counts() - before,
            pools: program.pools(),
            trail: trail::of(program, FRAMES),
        });
        let evidence: [Evidence; 3] = evidence.collect::<Vec<_>>().try_into().expect("three processes");
        session.close().await.expect("the session is open");
        assert_eq!(session.receive().await, Ok(None));
        let [gateway, a, b] = evidence;
        let run = Self { frame_bytes, gateway, workers: [a, b] };
        run.tell();
        run
    }

    fn payload_bytes(&self) -> u64 {
        FRAMES * self.frame_bytes as u64
    }

    fn all(&self) -> [&Evidence; 3] {
        [&self.gateway, &self.workers[0], &self.workers[1]]
    }

    /// The distinct places in memory where any process saw this frame.
    fn places_of(&self, sequence: u64) -> Vec<trail::Place> {
        let seen = self.all().into_iter().flat_map(|process| &process.trail);
        let mut places: Vec<_> =
            seen.filter(|seen| seen.sequence == sequence).map(|seen| seen.place).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    fn assert_one_block_seen_by_all(&self) {
        for sequence in 0..=FRAMES {
            let places = self.places_of(sequence);
            let [place] = places[..] else { panic!("frame {sequence} lay in {places:?}") };
            assert_eq!(place.len, self.frame_bytes as u64);
            for process in self.all() {
                // On two different links, since nobody is sent back what he sent.
                let peers = process.trail.iter().filter(|seen| seen.sequence == sequence);
                let [first, second] = peers.map(|seen| &seen.peer).collect::<Vec<_>>()[..] else {
                    panic!("{} saw frame {sequence} not come once and go once: {process:?}", process.name);
                };
                assert_ne!(first, second, "{process:?}");
                let mapped = process.pools.iter().any(|pool| pool.inode == place.inode && pool.id == 0);
                assert!(mapped, "{} has not mapped the gateway's pool {place:?}: {process:?}", process.name);
            }
        }
    }

    /// Written once, when it enters the host.
    fn assert_gateway_copied_in_once(&self) {
        assert_eq!(self.gateway.copied.written_bytes, self.payload_bytes(), "{:?}", self.gateway.copied);
    }

    /// For people: the gateway's other copies are those of gRPC.
    #[expect(clippy::print_stdout, reason = "shown with --nocapture, and when a test fails")]
    fn tell(&self) {
        println!("{FRAMES} frames of {} bytes", self.frame_bytes);
        for process in self.all() {
            println!("  {}: {:?}, {} resident", process.name, process.copied, process.resident_bytes());
        }
    }
}

// === impl Evidence ===

impl Evidence {
    fn assert_copied_nothing(&self) {
        let Counts { calls, read_bytes, written_bytes, large_bytes, .. } = self.copied;
        assert!(calls > 0, "{}: the counting library was not there", self.name);
        assert_eq!([read_bytes, written_bytes], [0, 0], "{} copied payload", self.name);
        assert_eq!(large_bytes, 0, "{} copied something large, be it payload or not", self.name);
    }

    /// Stamps lie in the first pages of a pool, and the kernel shows pages around those that are asked for; a frame
    /// of [`LARGE`] that was looked at would be more.
    fn assert_never_looked(&self) {
        let resident = self.resident_bytes();
        assert!(
            resident < LARGE as u64 / 8,
            "{} has looked at {resident} bytes: {:?}",
            self.name,
            self.pools
        );
    }

    fn resident_bytes(&self) -> u64 {
        self.pools.iter().map(|pool| pool.resident_bytes).sum()
    }
}

/// Sends one frame, and waits until it is back.
async fn pass(session: &impl StreamSession, sequence: u64, bytes: usize) {
    let [first, ..] = sequence.to_le_bytes();
    let sent = audio(first, bytes);
    session.send(TransportData::new(sequence, sent.clone())).await.expect("the frame is taken");
    let chunk = session.receive().await.expect("the session lives").expect("a result");
    assert_eq!((chunk.sequence, chunk.outputs.len()), (sequence, 1));
    assert!(chunk.outputs["b"].data == sent, "frame {sequence} is not what was sent");
}

/// Samples that begin with this byte.
fn audio(first: u8, bytes: usize) -> RuntimeData {
    let period: Vec<u8> = (0..=u8::MAX).map(|at| at.wrapping_add(first)).collect();
    let samples = Bytes::from(period.repeat(bytes / period.len()));
    let rate = SampleRate::new(48_000).expect("48 kHz");
    let stereo = ChannelCount::new(2).expect("two channels");
    RuntimeData::from(Audio::new(samples, SampleFormat::I16, rate, stereo).expect("whole frames"))
}

/// `a → b`, each in a process of its own.
fn two_processes(node_type: &str) -> Manifest {
    let connection = Connection { from: "a".to_owned(), to: "b".to_owned() };
    manifest_of(vec![node("a", node_type), node("b", node_type)], vec![connection])
}

fn manifest_of(nodes: Vec<NodeManifest>, connections: Vec<Connection>) -> Manifest {
    Manifest { version: VERSION.to_owned(), nodes, connections, ..Manifest::default() }
}

fn node(id: &str, node_type: &str) -> NodeManifest {
    NodeManifest {
        id: id.to_owned(),
        node_type: node_type.to_owned(),
        own_process: true,
        ..NodeManifest::default()
    }
}
