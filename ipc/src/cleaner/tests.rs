//! Processes that are killed, and what is left of them. A child is this test binary, told its role by a variable.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::{env, fs};

use super::*;
use crate::link::tests::{Domain, member, numbered};
use crate::link::{LinkReceiver, LinkSender, LinkService, PushRefused, Transport};
use crate::slot::Member;

const PATIENCE: Duration = Duration::from_secs(30);

/// How many descriptors a link holds in these tests.
const CAPACITY: usize = 64;

/// `<role> <slot> <incarnation> <prefix> <root>`
const ROLE: &str = "REMOTEMEDIA_LINK_TEST_ROLE";

/// What a child prints when its ends of the links exist.
const READY: &str = "child is ready";

/// What a child prints when it has pushed what its role wants.
const PUSHED: &str = "child has pushed";

/// A child process and the links between it and this one, of which this one holds the other ends.
struct Peer {
    child: Child,
    lines: Receiver<String>,
    who: Member,
    from: LinkReceiver,
    to: Option<LinkSender>,
    popped: u64,
    _services: [LinkService; 2],
}

#[test]
fn child() {
    let Some(role) = env::var_os(ROLE) else { return };
    let role = role.into_string().unwrap();
    let [role, slot, incarnation, prefix, root] = role.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let config = TransportConfig { root: root.into(), prefix: prefix.into(), capacity: CAPACITY };
    let who = member(slot.parse().unwrap(), incarnation.parse().unwrap());
    let transport = Transport::open(&config, "child").unwrap();
    let mut from_gateway = transport.subscribe(gateway(), who).unwrap();
    let to_gateway = transport.publish(who, gateway()).unwrap();
    println!("{READY}");
    match role {
        "full" => {
            for sequence in 0..CAPACITY as u64 {
                to_gateway.push(&numbered(sequence)).unwrap();
            }
            println!("{PUSHED}");
            wait_to_be_killed();
        }
        "restless" => talk(&to_gateway, &mut from_gateway),
        other => panic!("role {other} is not known, expected full or restless"),
    }
}

fn gateway() -> Member {
    member(0, 1)
}

/// Ends with the parent, too: its end of the pipe closes.
fn wait_to_be_killed() {
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {}
}

fn talk(to_gateway: &LinkSender, from_gateway: &mut LinkReceiver) {
    let end = Instant::now() + PATIENCE;
    let mut sequence = 0;
    while Instant::now() < end {
        match to_gateway.push(&numbered(sequence)) {
            Ok(()) => sequence += 1,
            Err(PushRefused::Full) => thread::yield_now(),
            Err(refused) => panic!("{refused:?}"),
        }
        from_gateway.pop().unwrap();
    }
}

impl Peer {
    fn spawn(domain: &Domain, transport: &Transport, role: &str, slot: u8, incarnation: u16) -> Self {
        let who = member(slot, incarnation);
        let config = &domain.config;
        let services =
            [transport.create_link(who, gateway()).unwrap(), transport.create_link(gateway(), who).unwrap()];
        let from = transport.subscribe(who, gateway()).unwrap();
        let role = format!("{role} {slot} {incarnation} {} {}", config.prefix, config.root.display());
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "cleaner::tests::child", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, lines) = mpsc::channel();
        let output = child.stdout.take().unwrap();
        // Ends with the child, at the latest when it is killed.
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Self { child, lines, who, from, to: None, popped: 0, _services: services }
    }

    fn wait_for(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap() != line {}
    }

    /// Whatever there is to do meanwhile: complete the handshake, push, and check what comes.
    fn serve(&mut self, transport: &Transport) {
        if self.to.is_none() && self.lines.try_iter().any(|line| line == READY) {
            self.to = Some(transport.publish(gateway(), self.who).unwrap());
        }
        if let Some(to) = &self.to {
            match to.push(&numbered(7)) {
                Ok(()) | Err(PushRefused::Full | PushRefused::NoReceiver) => {}
                Err(PushRefused::Broken(error)) => panic!("{error:?}"),
            }
        }
        for _at_most in 0..CAPACITY {
            let Some(descriptor) = self.from.pop().unwrap() else { return };
            assert_eq!(descriptor, numbered(self.popped));
            self.popped += 1;
        }
    }

    fn kill(&mut self) -> u32 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// xorshift: the same kills for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn files_in(domain: &Domain) -> BTreeSet<PathBuf> {
    residue(&domain.config).unwrap().into_iter().collect()
}

#[test]
fn what_a_killed_sender_pushed_is_received_before_and_after_its_burial() {
    let domain = Domain::new(CAPACITY);
    let transport = domain.open("gateway");
    let cleaner = Cleaner::new(&domain.config).unwrap();
    let mut peer = Peer::spawn(&domain, &transport, "full", 1, 1);
    peer.wait_for(READY);
    peer.from.settle().unwrap();
    peer.wait_for(PUSHED);
    let pid = peer.kill();
    for sequence in 0..CAPACITY as u64 / 2 {
        assert_eq!(peer.from.pop().unwrap(), Some(numbered(sequence)));
    }
    cleaner.bury(pid).unwrap();
    assert!(cleaner.idle(soon()));
    for sequence in CAPACITY as u64 / 2..CAPACITY as u64 {
        assert_eq!(peer.from.pop().unwrap(), Some(numbered(sequence)));
    }
    assert_eq!(peer.from.pop().unwrap(), None);
}

#[test]
fn nothing_is_left_of_processes_killed_at_any_moment_and_the_living_notice_nothing() {
    const SEED: u64 = 0x5eed_1e55;
    println!("seed {SEED:#x}");
    let mut dice = Dice(SEED);
    let domain = Domain::new(CAPACITY);
    let transport = domain.open("gateway");
    let cleaner = Cleaner::new(&domain.config).unwrap();
    let mut survivor = Peer::spawn(&domain, &transport, "restless", 39, 1);
    survivor.wait_for(READY);
    survivor.to = Some(transport.publish(gateway(), survivor.who).unwrap());
    let living = files_in(&domain);
    let mut spoken = 0;
    let mut ready = 0;
    for incarnation in 1..=25 {
        let mut doomed = Vec::new();
        for slot in [1, 2] {
            let peer = Peer::spawn(&domain, &transport, "restless", slot, incarnation);
            doomed.push((peer, Instant::now() + Duration::from_micros(dice.roll(25_000))));
        }
        for slot in [3, 4] {
            // Killed while it starts, which takes it a few milliseconds.
            let mut peer = Peer::spawn(&domain, &transport, "restless", slot, incarnation);
            let death = Instant::now() + Duration::from_micros(dice.roll(8_000));
            while Instant::now() < death {
                thread::yield_now();
            }
            cleaner.bury(peer.kill()).unwrap();
            ready += usize::from(peer.lines.iter().any(|line| line == READY));
        }
        while !doomed.is_empty() {
            survivor.serve(&transport);
            for (mut peer, death) in mem::take(&mut doomed) {
                peer.serve(&transport);
                if Instant::now() < death {
                    doomed.push((peer, death));
                } else {
                    let pid = peer.kill();
                    peer.serve(&transport);
                    spoken += usize::from(peer.popped > 0);
                    cleaner.bury(pid).unwrap();
                }
            }
        }
        // Kills come faster than an unoptimised clean-up follows.
        if incarnation % 5 == 0 {
            assert!(cleaner.idle(soon()));
        }
    }
    println!(
        "killed 50 that started, of which {ready} were ready, and 50 later, of which {spoken} had spoken"
    );
    assert!(cleaner.idle(soon()));
    let before = survivor.popped;
    let deadline = soon();
    while survivor.popped == before {
        assert!(Instant::now() < deadline, "the survivor was silenced");
        survivor.serve(&transport);
    }
    assert_eq!(files_in(&domain), living);
    cleaner.bury(survivor.kill()).unwrap();
    assert!(cleaner.idle(soon()));
}

#[test]
fn what_describes_a_link_that_is_not_there_goes_some_time_after_a_burial_and_what_is_there_stays() {
    let domain = Domain::new(CAPACITY);
    let cleaner = Cleaner::new(&domain.config).unwrap();
    let transport = domain.open("gateway");
    let _living = transport.create_link(gateway(), member(1, 1)).unwrap();
    let before = files_in(&domain);
    let living = before.iter().find(|path| path.extension().is_some_and(|end| end == "service")).unwrap();
    // As it is left when nobody was the last: the same, with another id.
    let described = fs::read_to_string(living).unwrap();
    let other = |line| if str::starts_with(line, "payload_value") { "payload_value = 7" } else { line };
    let left = living.with_file_name("left.service");
    fs::write(&left, described.lines().map(other).collect::<Vec<_>>().join("\n")).unwrap();
    let mut process = Command::new("true").spawn().unwrap();
    process.wait().unwrap();
    cleaner.bury(process.id()).unwrap();
    assert!(cleaner.idle(soon()) && left.exists(), "somebody may be making it");
    let deadline = soon();
    while left.exists() {
        assert!(Instant::now() < deadline, "it is still there");
        thread::yield_now();
    }
    assert_eq!(files_in(&domain), before);
}

#[test]
fn burial_of_a_living_process_with_a_dead_ones_pid_takes_nothing_from_it() {
    let domain = Domain::new(CAPACITY);
    let cleaner = Cleaner::new(&domain.config).unwrap();
    let pid = std::process::id();
    let burial = Burial::now(pid).unwrap();
    let transport = domain.open("gateway");
    let _service = transport.create_link(gateway(), member(1, 1)).unwrap();
    let before = files_in(&domain);
    cleaner.graveyard.bury(&[burial]);
    assert_eq!(files_in(&domain), before);
}

#[test]
fn cleaner_does_not_hang_on_a_half_made_connection() {
    let domain = Domain::new(CAPACITY);
    let transport = domain.open("gateway");
    let mut peer = Peer::spawn(&domain, &transport, "full", 1, 1);
    peer.wait_for(PUSHED);
    let burial = Burial::now(peer.kill()).unwrap();
    let files = Territory::of(&domain.config);
    let connection = files.connections_of_dead(&[burial]).unwrap().pop().unwrap();
    // Nobody has it mapped any more when it shrinks to what it is before its maker gives it a size.
    drop(peer);
    fs::remove_file(&connection).unwrap();
    File::create(&connection).unwrap();

    let cleaner = Cleaner::new(&domain.config).unwrap();
    // The watchdog alone: the cleaner's own first look would find this one, but not one that is made later.
    cleaner.graveyard.lock().under_way.push(burial);
    cleaner.graveyard.changed.notify_all();
    assert!(cleaner.graveyard.clean_nodes_of(&[burial]));
    cleaner.graveyard.lock().under_way.clear();
    assert!(!connection.exists());
    assert!(files.files_of_dead(&[burial]).unwrap().is_empty());
}

#[test]
fn cleaner_without_work_is_idle_and_ends_at_once() {
    let domain = Domain::new(CAPACITY);
    let cleaner = Cleaner::new(&domain.config).unwrap();
    assert!(cleaner.idle(Instant::now()));
    let begin = Instant::now();
    drop(cleaner);
    assert!(begin.elapsed() < FAREWELL);
}
