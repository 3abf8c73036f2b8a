//! What one process hands to another, and what is left when that other is killed.
//!
//! The worker of these tests is this very binary, run again with one test selected.
#![expect(unsafe_code, reason = "a frame is written and read through the pointers that the maps lend")]
#![expect(
    clippy::unwrap_used,
    reason = "the lint knows functions that are tests, and not a test's own helpers"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use remotemedia_ipc::control::{Channel, ChannelError, Listener, codec};
use remotemedia_ipc::death::{Exit, PidFd};
use remotemedia_ipc::doorbell::{self, Doorbell};
use remotemedia_ipc::memory::{
    Domain, Geometry, PoolFiles, ProducerMap, ReaderMap, SharedFileError, SizeClass,
};
use remotemedia_ipc::slot::{BlockIndex, PoolId, Slot};
use serde::{Deserialize, Serialize};

/// Tells the worker where to connect; without it the worker's test has nothing to do.
const SOCKET: &str = "REMOTEMEDIA_TEST_SOCKET";

const BLOCK: BlockIndex = BlockIndex(3);

const FRAME: &[u8] = b"frame";

const WORKER: Slot = match Slot::new(1) {
    Ok(slot) => slot,
    Err(_) => panic!("a domain has more than one slot"),
};

/// The gateway's state by which the worker of these tests knows that it is over.
const GO_HOME: u32 = 1;

/// What the gateway of these tests says first. With it come words, payload, domain and doorbell.
#[derive(Serialize, Deserialize)]
struct Welcome {
    geometry: Geometry,
}

/// What the worker saw.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Report {
    boot: u64,
    stamp: u64,
    first_bytes: Vec<u8>,
    may_map_to_write: bool,
}

/// The gateway's side: a pool whose payload is closed to writers, a domain, and a worker that holds both.
struct Plant {
    producer: ProducerMap,
    domain: Domain,
    bell: Doorbell,
    worker: Child,
    channel: Channel,
    death: PidFd,
    report: Report,
}

#[test]
fn a_worker_reads_the_gateways_block_in_place_and_cannot_write_it() {
    let plant = Plant::start();
    let expected = Report { boot: 77, stamp: 12, first_bytes: FRAME.to_vec(), may_map_to_write: false };
    assert_eq!(plant.report, expected);
    assert_eq!(plant.holders(), WORKER.bit());
}

#[test]
fn a_killed_workers_lease_is_left_for_the_reaper_and_its_death_has_a_cause() {
    let mut plant = Plant::start();
    assert_eq!(plant.death.is_dead(), Ok(false));
    plant.death.kill(Signal::SIGKILL).unwrap();
    assert_eq!(plant.death.wait(soon()), Ok(true));
    let end = plant.channel.recv_blocking(soon());
    assert!(matches!(end, Err(ChannelError::Closed)), "{end:?}");
    assert_eq!(plant.holders(), WORKER.bit());
    plant.worker.wait().unwrap();
    assert_eq!(plant.death.exit_info(), Some(Exit::Signal(9)));
}

#[test]
fn a_sleeping_worker_is_woken_through_shared_memory_and_a_passed_doorbell() {
    let mut plant = Plant::start();
    let (asleep, give_up) = (plant.domain.asleep(WORKER), soon());
    while asleep.load(Ordering::Acquire) == 0 {
        assert!(Instant::now() < give_up, "the worker never slept");
        std::thread::yield_now();
    }
    plant.domain.state(Slot::GATEWAY).store(GO_HOME, Ordering::Release);
    doorbell::ring_if_asleep(asleep, &plant.bell);
    assert_eq!(plant.death.wait(soon()), Ok(true));
    assert!(plant.worker.wait().unwrap().success());
    assert_eq!(plant.death.exit_info(), Some(Exit::Code(0)));
}

/// Not a test of its own: the worker that the tests above start.
#[test]
fn worker() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let mut channel = Channel::connect(Path::new(&socket), soon()).unwrap();
    let welcome = channel.recv_blocking(soon()).unwrap();
    let [words, payload, domain, bell] = welcome.fds.try_into().unwrap();
    let Welcome { geometry } = codec::decode(&welcome.bytes).unwrap();
    let reader = ReaderMap::map(geometry.clone(), &words, &payload).unwrap();
    let domain = Domain::map(domain).unwrap();
    let bell = Doorbell::from_fd(bell).unwrap();

    reader.word(BLOCK).fetch_or(WORKER.bit(), Ordering::AcqRel);
    let report = Report {
        boot: domain.boot(),
        stamp: reader.stamp(BLOCK).load(Ordering::Relaxed),
        first_bytes: leased_bytes(&reader, FRAME.len()),
        may_map_to_write: may_map_to_write(geometry, &words, &payload),
    };
    channel.send_blocking(&codec::encode(&report).unwrap(), &[], soon()).unwrap();

    // Without the tick: what is slept through here would be slept through for good.
    let is_over = || domain.state(Slot::GATEWAY).load(Ordering::Acquire) == GO_HOME;
    while !is_over() {
        doorbell::arm(domain.asleep(WORKER));
        if !is_over() {
            assert_eq!(bell.wait(soon()), Ok(true), "slept through the end");
        }
        doorbell::disarm(domain.asleep(WORKER));
        bell.drain();
    }
}

// === impl Plant ===

impl Plant {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let socket = directory.path().join("control");
        let listener = Listener::bind(&socket).unwrap();
        let worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker"])
            .env(SOCKET, &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut listening = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut listening, PollTimeout::from(2000_u16)), Ok(1), "the worker connects");
        let mut channel = listener.accept().unwrap().unwrap();
        assert_eq!(u32::try_from(channel.peer_credentials().unwrap().pid), Ok(worker.id()));
        let death = PidFd::of_peer(&channel).unwrap();

        let (producer, files) = produced_frame();
        let (domain, bell) = (Domain::create(77).unwrap(), Doorbell::new().unwrap());
        let welcome = Welcome { geometry: producer.geometry().clone() };
        let fds = [files.words.as_fd(), files.payload.as_fd(), domain.fd(), bell.as_fd()];
        channel.send_blocking(&codec::encode(&welcome).unwrap(), &fds, soon()).unwrap();
        let report = codec::decode(&channel.recv_blocking(soon()).unwrap().bytes).unwrap();
        Self { producer, domain, bell, worker, channel, death, report }
    }

    fn holders(&self) -> u64 {
        self.producer.word(BLOCK).load(Ordering::Acquire)
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        // A test that failed, or is done, leaves no process behind.
        drop(self.worker.kill());
        drop(self.worker.wait());
    }
}

/// A pool with one frame in it. Only the producer's map can write it from here on, although the descriptor of the payload
/// that the worker gets is open for writing.
fn produced_frame() -> (ProducerMap, PoolFiles) {
    let geometry = Geometry::new(vec![SizeClass { block_bytes: 4096, blocks: 8 }]).unwrap();
    let files = PoolFiles::create(PoolId(1), &geometry).unwrap();
    let producer = ProducerMap::map(geometry, &files.words, &files.payload).unwrap();
    files.seal_against_writers().unwrap();
    let (bytes, len) = producer.block(BLOCK);
    assert!(FRAME.len() <= len);
    // SAFETY: the block has that many bytes, belongs to this process alone, and nobody has been told of it yet.
    unsafe { bytes.as_ptr().copy_from_nonoverlapping(FRAME.as_ptr(), FRAME.len()) };
    producer.stamp(BLOCK).store(12, Ordering::Relaxed);
    (producer, files)
}

fn leased_bytes(reader: &ReaderMap, len: usize) -> Vec<u8> {
    let bytes = reader.bytes_at(BLOCK, 0, len as u64).unwrap();
    // SAFETY: the range was checked, the map outlives the slice, and the producer of these tests writes no more.
    unsafe { std::slice::from_raw_parts(bytes, len) }.to_vec()
}

fn may_map_to_write(geometry: Geometry, words: &OwnedFd, payload: &OwnedFd) -> bool {
    match ProducerMap::map(geometry, words, payload) {
        Ok(_) => true,
        Err(SharedFileError::System { source: Errno::EPERM, .. }) => false,
        Err(unexpected) => panic!("{unexpected}"),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}
