//! The baseline that our own hops are compared with: plain iceoryx2, nothing of ours.
//!
//! Two processes pass a payload to and fro over two publish/subscribe services, each send followed by the
//! notification of an event service on which the other process blocks. As iceoryx2 cannot send on what was received,
//! each side copies the payload once per send.
//!
//! `cargo run --release -p remotemedia-ipc --example raw_round_trip -- [payload bytes] [round trips]`
//!
//! With `on-demand PAYLOAD_BYTES` it says the pid of its second process, then makes as many round trips as each line on
//! standard input says, and answers with a line of their nanoseconds: `bench hop` has it take turns with the hops that
//! it measures.
#![expect(clippy::print_stdout, reason = "a program that prints what it measured")]

use std::error::Error;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, process};

use iceoryx2::config::Config;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    BackpressureStrategy, FileName, Node, NodeBuilder, Path as NodePath, SemanticString, SignalHandlingMode,
    ipc_threadsafe,
};
use remotemedia_ipc::cleaner::remove_domain;
use remotemedia_ipc::link::TransportConfig;

type Service = ipc_threadsafe::Service;
type Outcome<T> = Result<T, Box<dyn Error>>;

/// The process that measures, and the other.
struct Ping {
    side: Side,
    payload: Vec<u8>,
    other: Owned,
}

/// One process's four ports: it sends on one pair of services and receives on the other.
struct Side {
    publisher: Publisher<Service, [u8], ()>,
    notifier: Notifier<Service>,
    subscriber: Subscriber<Service, [u8], ()>,
    listener: Listener<Service>,
    _node: Node<Service>,
}

/// Kills and reaps the other process when the first is done, or fails.
struct Owned(Child);

/// Longest a side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the second process prints when its ports exist.
const READY: &str = "ready";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pong", root, prefix, bytes] => pong(&domain(Path::new(root), prefix), bytes.parse()?),
        ["on-demand", bytes] => measure(bytes.parse()?, answer_demands),
        [] => measure(256, |ping| report(ping, 20_000)),
        [bytes] => measure(bytes.parse()?, |ping| report(ping, 20_000)),
        [bytes, rounds] => {
            let rounds = rounds.parse()?;
            measure(bytes.parse()?, |ping| report(ping, rounds))
        }
        _ => {
            Err("arguments are not known, expected [payload bytes] [round trips], or on-demand PAYLOAD_BYTES"
                .into())
        }
    }
}

fn measure(bytes: usize, with: impl FnOnce(&Ping) -> Outcome<()>) -> Outcome<()> {
    let root = tempfile::tempdir_in("/dev/shm")?;
    let domain = domain(root.path(), &format!("raw{}", process::id()));
    let measured = Ping::start(&domain, bytes).and_then(|ping| with(&ping));
    remove_domain(&domain)?;
    measured
}

/// Where the files are: only the names are ours, the transport is not.
fn domain(root: &Path, prefix: &str) -> TransportConfig {
    TransportConfig { root: root.into(), prefix: prefix.to_owned(), capacity: 0 }
}

fn report(ping: &Ping, rounds: usize) -> Outcome<()> {
    let mut took = ping.rounds(rounds)?;
    took.sort_unstable();
    let at = |percent: usize| took[(rounds - 1) * percent / 100].as_nanos();
    let bytes = ping.payload.len();
    println!("{bytes} bytes, {rounds} round trips: p50 {} ns, p90 {} ns, p99 {} ns", at(50), at(90), at(99));
    Ok(())
}

fn answer_demands(ping: &Ping) -> Outcome<()> {
    println!("{}", ping.other.0.id());
    for demand in stdin().lines() {
        let took = ping.rounds(demand?.parse()?)?;
        println!("{}", took.iter().map(|took| took.as_nanos().to_string()).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

fn pong(domain: &TransportConfig, bytes: usize) -> Outcome<()> {
    let side = Side::open(domain, bytes, ["pong", "ping"])?;
    println!("{READY}");
    loop {
        side.receive(|payload| side.send(payload))?;
    }
}

// === impl Ping ===

impl Ping {
    fn start(domain: &TransportConfig, bytes: usize) -> Outcome<Self> {
        let side = Side::open(domain, bytes, ["ping", "pong"])?;
        let mut other = Command::new(env::current_exe()?)
            .arg("pong")
            .args([domain.root.as_os_str(), domain.prefix.as_ref(), bytes.to_string().as_ref()])
            .stdout(Stdio::piped())
            .spawn()
            .map(Owned)?;
        let output = other.0.stdout.take().ok_or("the other process has no output")?;
        BufReader::new(output)
            .lines()
            .find(|line| matches!(line, Ok(line) if line == READY))
            .ok_or("it did not start")??;
        Ok(Self { side, payload: vec![7; bytes], other })
    }

    fn rounds(&self, rounds: usize) -> Outcome<Vec<Duration>> {
        let round = || {
            let begin = Instant::now();
            self.side.send(&self.payload)?;
            self.side.receive(|_echo| Ok(()))?;
            Ok(begin.elapsed())
        };
        std::iter::repeat_with(round).take(rounds).collect()
    }
}

// === impl Side ===

impl Side {
    fn open(domain: &TransportConfig, bytes: usize, [own, other]: [&str; 2]) -> Outcome<Self> {
        let mut config = Config::default();
        config.global.set_root_path(&NodePath::new(domain.directory().as_os_str().as_encoded_bytes())?);
        config.global.prefix = FileName::new(domain.mark().as_bytes())?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<Service>()?;
        let frames = |name: &str| -> Outcome<_> {
            let service = node.service_builder(&name.try_into()?).publish_subscribe::<[u8]>();
            Ok(service.enable_safe_overflow(false).open_or_create()?)
        };
        let events = |name: &str| -> Outcome<_> {
            Ok(node.service_builder(&name.try_into()?).event().open_or_create()?)
        };
        let frames_out = frames(own)?;
        let publisher = frames_out.publisher_builder().initial_max_slice_len(bytes);
        Ok(Self {
            subscriber: frames(other)?.subscriber_builder().create()?,
            listener: events(other)?.listener_builder().create()?,
            publisher: publisher.backpressure_strategy(BackpressureStrategy::DiscardData).create()?,
            notifier: events(own)?.notifier_builder().create()?,
            _node: node,
        })
    }

    fn send(&self, payload: &[u8]) -> Outcome<()> {
        let sent = self.publisher.loan_slice_uninit(payload.len())?.write_from_slice(payload).send()?;
        self.notifier.notify()?;
        if sent == 1 { Ok(()) } else { Err(format!("{sent} received, expected 1").into()) }
    }

    fn receive(&self, with: impl FnOnce(&[u8]) -> Outcome<()>) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(sample) = self.subscriber.receive()? {
                return with(sample.payload());
            }
            self.listener.timed_wait(|_event| {}, PATIENCE)?;
        }
        Err("nothing came in time".into())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It is dead already, or it is killed here.
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}
