//! Links between the ends of one process. The tests with processes that die are the cleaner's.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process, thread};

use tempfile::TempDir;

use super::*;
use crate::cleaner::{remove_domain, residue};
use crate::slot::{Incarnation, Slot};

/// A domain of its own for one test; nothing of it is left when it is dropped.
pub(crate) struct Domain {
    pub(crate) config: TransportConfig,
    _root: TempDir,
}

/// A link with both ends in this process, held by two transports.
struct Pair {
    sender: LinkSender,
    receiver: LinkReceiver,
    _service: LinkService,
}

impl Domain {
    pub(crate) fn new(capacity: usize) -> Self {
        static DOMAINS: AtomicU32 = AtomicU32::new(0);
        let root = tempfile::tempdir_in(residue::SHARED_MEMORY).unwrap();
        let prefix = format!("t{}n{}", process::id(), DOMAINS.fetch_add(1, Ordering::Relaxed));
        Self { config: TransportConfig { root: root.path().into(), prefix, capacity }, _root: root }
    }

    pub(crate) fn open(&self, name: &str) -> Transport {
        Transport::open(&self.config, name).unwrap()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        remove_domain(&self.config).unwrap();
        assert_eq!(residue(&self.config).unwrap(), Vec::<PathBuf>::new());
    }
}

impl Pair {
    fn connect(gateway: &Transport, worker: &Transport) -> Self {
        let (from, to) = (member(0, 1), member(1, 1));
        let service = gateway.create_link(from, to).unwrap();
        let receiver = worker.subscribe(from, to).unwrap();
        let sender = gateway.publish(from, to).unwrap();
        assert_eq!(sender.receivers(), 1);
        receiver.settle().unwrap();
        Self { sender, receiver, _service: service }
    }
}

pub(crate) fn member(slot: u8, incarnation: u16) -> Member {
    Member { slot: Slot::new(slot).unwrap(), incarnation: Incarnation::new(incarnation) }
}

/// A descriptor in which every field that is checked follows from its sequence.
pub(crate) fn numbered(sequence: u64) -> Descriptor {
    Descriptor {
        link_sequence: sequence,
        fixed: [sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15); 16],
        ..Descriptor::blank()
    }
}

#[test]
fn descriptors_arrive_whole_and_in_order() {
    let domain = Domain::new(16);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let mut pair = Pair::connect(&gateway, &worker);
    for batch in 0..100 {
        for sequence in batch * 10..batch * 10 + 10 {
            pair.sender.push(&numbered(sequence)).unwrap();
        }
        for sequence in batch * 10..batch * 10 + 10 {
            assert_eq!(pair.receiver.pop().unwrap(), Some(numbered(sequence)));
        }
        assert_eq!(pair.receiver.pop().unwrap(), None);
    }
}

#[test]
fn full_link_refuses_and_takes_again_after_a_pop() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let mut pair = Pair::connect(&gateway, &worker);
    for sequence in 0..8 {
        pair.sender.push(&numbered(sequence)).unwrap();
    }
    for _again in 0..20 {
        assert!(matches!(pair.sender.push(&numbered(8)), Err(PushRefused::Full)));
    }
    assert_eq!(pair.receiver.pop().unwrap(), Some(numbered(0)));
    pair.sender.push(&numbered(8)).unwrap();
    for sequence in 1..9 {
        assert_eq!(pair.receiver.pop().unwrap(), Some(numbered(sequence)));
    }
    assert_eq!(pair.receiver.pop().unwrap(), None);
}

#[test]
fn late_receiver_gets_what_is_pushed_after_it_came_and_nothing_older() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let (from, to) = (member(0, 1), member(1, 1));
    let _service = gateway.create_link(from, to).unwrap();
    let sender = gateway.publish(from, to).unwrap();
    assert_eq!(sender.receivers(), 0);
    assert!(matches!(sender.push(&numbered(0)), Err(PushRefused::NoReceiver)));
    let mut receiver = worker.subscribe(from, to).unwrap();
    assert_eq!(sender.receivers(), 1);
    sender.push(&numbered(1)).unwrap();
    assert_eq!(receiver.pop().unwrap(), Some(numbered(1)));
    assert_eq!(receiver.pop().unwrap(), None);
}

#[test]
fn closed_receiver_is_no_receiver() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let Pair { sender, receiver, _service } = Pair::connect(&gateway, &worker);
    drop(receiver);
    assert!(matches!(sender.push(&numbered(0)), Err(PushRefused::NoReceiver)));
    assert_eq!(sender.receivers(), 0);
}

#[test]
fn what_a_closed_sender_pushed_is_still_received() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let Pair { sender, mut receiver, _service } = Pair::connect(&gateway, &worker);
    sender.push(&numbered(0)).unwrap();
    sender.push(&numbered(1)).unwrap();
    drop(sender);
    assert_eq!(receiver.pop().unwrap(), Some(numbered(0)));
    assert_eq!(receiver.pop().unwrap(), Some(numbered(1)));
    assert_eq!(receiver.pop().unwrap(), None);
}

#[test]
fn link_has_one_sender_and_one_receiver() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let (from, to) = (member(0, 1), member(1, 1));
    let _pair = Pair::connect(&gateway, &worker);
    assert!(matches!(worker.subscribe(from, to), Err(LinkError::Subscribe { .. })));
    assert!(matches!(worker.publish(from, to), Err(LinkError::Publish { .. })));
    assert!(matches!(gateway.create_link(from, to), Err(LinkError::Create { .. })));
}

#[test]
fn link_exists_only_while_somebody_holds_it() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let (from, to) = (member(0, 1), member(1, 1));
    assert!(matches!(worker.subscribe(from, to), Err(LinkError::Open { .. })));
    drop(Pair::connect(&gateway, &worker));
    assert!(matches!(worker.publish(from, to), Err(LinkError::Open { .. })));
}

#[test]
fn successor_in_a_slot_receives_nothing_that_was_meant_for_its_predecessor() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let pair = Pair::connect(&gateway, &worker);
    pair.sender.push(&numbered(0)).unwrap();
    let (from, successor) = (member(0, 1), member(1, 2));
    let _service = gateway.create_link(from, successor).unwrap();
    let mut receiver = worker.subscribe(from, successor).unwrap();
    let sender = gateway.publish(from, successor).unwrap();
    receiver.settle().unwrap();
    assert_eq!(receiver.pop().unwrap(), None);
    sender.push(&numbered(1)).unwrap();
    assert_eq!(receiver.pop().unwrap(), Some(numbered(1)));
}

#[test]
fn threads_that_share_a_sender_lose_nothing() {
    let domain = Domain::new(64);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let mut pair = Pair::connect(&gateway, &worker);
    let mut received = Vec::new();
    thread::scope(|scope| {
        for first in [0, 1] {
            let sender = &pair.sender;
            scope.spawn(move || {
                for sequence in (first..500).step_by(2) {
                    while sender.push(&numbered(sequence)).is_err() {
                        thread::yield_now();
                    }
                }
            });
        }
        while received.len() < 500 {
            received.extend(pair.receiver.pop().unwrap());
        }
    });
    for first in [0, 1] {
        let of_thread = received.iter().filter(|descriptor| descriptor.link_sequence % 2 == first);
        assert!(of_thread.eq((first..500).step_by(2).map(numbered).collect::<Vec<_>>().iter()));
    }
}

#[test]
fn every_shared_file_has_all_its_pages_before_it_is_used() {
    let domain = Domain::new(1024);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let _pair = Pair::connect(&gateway, &worker);
    let mark = domain.config.mark();
    let mut bytes = 0;
    for path in residue(&domain.config).unwrap() {
        if path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with(&mark))
            && path.parent().unwrap().ends_with("shm")
        {
            let metadata = fs::metadata(&path).unwrap();
            assert!(metadata.blocks() * 512 >= metadata.len(), "{path:?} is sparse");
            bytes += metadata.len();
        }
    }
    let asked = room::FOR_A_NODE + room::FOR_A_SERVICE + room::for_a_sender(1024);
    assert!((1..=asked).contains(&bytes), "{bytes} bytes in shared memory, asked for {asked}");
}

#[test]
fn names_of_files_tell_this_process_as_their_origin() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let before = residue(&domain.config).unwrap().len();
    let _pair = Pair::connect(&gateway, &worker);
    let files = Territory::of(&domain.config);
    let this = [Burial::now(process::id()).unwrap()];
    let other = [Burial::now(process::id() + 1).unwrap()];
    assert!(files.files_of_dead(&other).unwrap().is_empty());
    // All but the static description of the service, the list of nodes, and the directories.
    assert!(files.files_of_dead(&this).unwrap().len() + 6 > before);
    assert_eq!(files.connections_of_dead(&this).unwrap().len(), 1);
}

#[test]
fn clean_close_leaves_no_file_of_the_link() {
    let domain = Domain::new(8);
    let (gateway, worker) = (domain.open("gateway"), domain.open("worker"));
    let mut before = residue(&domain.config).unwrap();
    drop(Pair::connect(&gateway, &worker));
    let mut after = residue(&domain.config).unwrap();
    after.retain(|path| path.is_file());
    before.retain(|path| path.is_file());
    before.sort();
    after.sort();
    assert_eq!(before, after);
}

#[test]
fn removing_a_domain_leaves_another_whose_prefix_begins_alike() {
    let domain = Domain::new(8);
    let longer = TransportConfig { prefix: format!("{}0", domain.config.prefix), ..domain.config.clone() };
    let neighbour = Transport::open(&longer, "neighbour").unwrap();
    let files = residue(&longer).unwrap();
    drop(domain.open("gateway"));
    remove_domain(&domain.config).unwrap();
    assert_eq!(residue(&longer).unwrap(), files);
    drop(neighbour);
    remove_domain(&longer).unwrap();
}

#[test]
fn configuration_that_cannot_be_used_is_refused() {
    let check = |root: &str, prefix: &str, expected: &str| {
        let config = TransportConfig { root: root.into(), prefix: prefix.into(), capacity: 8 };
        let error = Transport::open(&config, "gateway").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(remove_domain(&config).is_err(), "{root} {prefix}");
    };
    check("/tmp", "", "prefix ''");
    check("/tmp", "../boot", "prefix '../boot'");
    check("/tmp", "Boot", "lower-case");
    check("/tmp", &"b".repeat(33), "1 to 32");
    check("relative", "boot1", "expected an absolute path");
    check(&format!("/{}", "r".repeat(120)), "boot1", "at most 100 bytes");
}
