//! A host and a guest in one process: joining, and frames both ways. What needs deaths is tested with processes.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a scene that cannot be set is a test that fails, and so is any event that does not belong"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remotemedia_core::data::{Audio, ChannelCount, RuntimeData, SampleRate};
use remotemedia_core::frame::Metadata;
use remotemedia_core::node::Writable as _;
use remotemedia_ipc::control::messages::{Hello, PROTOCOL};
use remotemedia_ipc::guest::{Guest, GuestEvent};
use remotemedia_ipc::host::{Host, HostConfig, HostEvent, PoolBudget};
use remotemedia_ipc::memory::Geometry;
use remotemedia_ipc::plane::{Content, Header};
use remotemedia_ipc::slot::Member;

const DEADLINE: Duration = Duration::from_secs(10);

fn hello(name: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        name: name.to_owned(),
        kind: "test".to_owned(),
        nodes: Vec::new(),
        loading: None,
        invocation: None,
    }
}

/// On tmpfs, and of this user alone.
fn runtime_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("rm").tempdir_in("/dev/shm").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn host(dir: &tempfile::TempDir) -> Host {
    let pool = Geometry::for_budget(8 << 20, 1 << 20).unwrap();
    let config = HostConfig {
        budget: PoolBudget::UNBOUNDED,
        runtime_dir: dir.path().to_owned(),
        gateway_pool: pool.clone(),
        worker_pool: pool,
        link_capacity: 256,
    };
    Host::start(config).unwrap()
}

/// Turns the host until `found` says that an event is the one.
fn until<T>(host: &mut Host, mut found: impl FnMut(HostEvent) -> Option<T>) -> T {
    let give_up = Instant::now() + DEADLINE;
    let mut result = None;
    while result.is_none() {
        assert!(Instant::now() < give_up, "nothing came in {DEADLINE:?}");
        host.turn(Duration::from_millis(10), || false, &mut |event| {
            if let Some(value) = found(event) {
                result = Some(value);
            }
        })
        .unwrap();
    }
    result.unwrap()
}

/// A guest that sends back what it gets, the very same bytes, until told to stop.
fn echo(dir: std::path::PathBuf, stop: Receiver<()>, joined: Sender<Member>) {
    let mut guest = Guest::join(&dir, hello("echo"), Instant::now() + DEADLINE).unwrap();
    joined.send(guest.me()).unwrap();
    let plane = guest.plane().clone();
    let mut arrivals = Vec::new();
    while stop.try_recv().is_err() {
        let turned = guest.turn(Duration::from_millis(10), || false, &mut |event| match event {
            GuestEvent::Arrival(arrival) => arrivals.push(arrival),
            GuestEvent::Command(_)
            | GuestEvent::PeerDown(_)
            | GuestEvent::Dismissed
            | GuestEvent::InService => {}
        });
        turned.unwrap();
        for arrival in arrivals.drain(..) {
            let Content::Frame(data, metadata, time) = arrival.content else { continue };
            let deadline = Instant::now() + DEADLINE;
            let prepared = plane.prepare_until(&data, &metadata, time, deadline).unwrap();
            assert_eq!(prepared.copied_bytes(), 0, "pool memory is recognised");
            plane.send(arrival.from, &arrival.header, &prepared).unwrap();
        }
    }
}

#[test]
fn a_frame_goes_to_a_guest_and_comes_back_in_the_same_block() {
    let dir = runtime_dir();
    let mut host = host(&dir);
    let (stop, stopped) = channel();
    let (joined, joining) = channel();
    let path = dir.path().to_owned();
    let guest = thread::spawn(move || echo(path, stopped, joined));
    let member = until(&mut host, |event| match event {
        HostEvent::Joined { member, hello, .. } => {
            assert_eq!(hello.name, "echo");
            Some(member)
        }
        HostEvent::LinkUp { .. } => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(joining.recv_timeout(DEADLINE).unwrap(), member);

    let plane = host.plane().clone();
    for round in 0..1_000_u64 {
        let mut block = plane.loan_until(40_000, Instant::now() + DEADLINE).unwrap();
        block.bytes_mut().fill(u8::try_from(round % 251).unwrap());
        let samples: Bytes = Box::new(block).freeze();
        let audio = Audio::new(
            samples,
            remotemedia_core::data::SampleFormat::F32,
            SampleRate::new(48_000).unwrap(),
            ChannelCount::MONO,
        )
        .unwrap();
        let data = RuntimeData::from(audio);
        let metadata = Metadata::from([("round".to_owned(), round.to_string())]);
        let sent = plane.prepare_until(&data, &metadata, Some(round), Instant::now() + DEADLINE).unwrap();
        let header = Header { session: 7, edge: 3, sequence: round, last: true };
        plane.send(member, &header, &sent).unwrap();
        let (back, its_metadata, time) = until(&mut host, |event| match event {
            HostEvent::Arrival(arrival) => {
                assert_eq!(arrival.header, header);
                match arrival.content {
                    Content::Frame(data, metadata, time) => Some((data, metadata, time)),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(back, data);
        assert_eq!(back.payload().as_ptr(), data.payload().as_ptr(), "the same block, and not a copy");
        assert_eq!((its_metadata, time), (metadata, Some(round)));
    }
    stop.send(()).unwrap();
    guest.join().unwrap();
    assert_eq!(plane.lost_of_living(), 0);
    host.close().unwrap();
}
