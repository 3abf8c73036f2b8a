//! Ends its process, or worse, on command.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use remotemedia_core::data::Binary;
use remotemedia_core::frame::{Frame, Metadata};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Loan, Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;

/// Forwards its input, and does one thing that no node should, at a moment that is chosen. A `REPEATABLE` one says of
/// itself that it may be run again.
pub(crate) struct Doom<const REPEATABLE: bool> {
    settings: Settings,
    inputs: u64,
    /// Outputs that the last call has not given yet, of which its fault is the last.
    owed: u64,
    kept: Vec<Frame>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    fault: Fault,
    #[serde(default)]
    when: When,
    #[serde(default)]
    at: u64,
    /// A file that is there when [`When::LeftBehind`] may happen.
    gate: Option<PathBuf>,
    /// A file that is made when it happens, and keeps it from happening again: it says when, and in which process.
    once: Option<PathBuf>,
}

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Panics.
    Panic,
    /// Ends as a failed check of a C library does.
    Abort,
    /// Ends as for a bad pointer.
    Segv,
    /// Is killed.
    Kill,
    /// Is stopped, and not continued.
    Stop,
    /// Computes for ever.
    Spin,
    /// Takes memory until there is none.
    Memory,
    /// Ends as if all were well.
    Exit,
    /// Writes more to standard error than anybody wants to read.
    Flood,
    /// Starts a process that keeps what it inherits open, and aborts.
    Orphan,
    /// Opens files until there are no descriptors left, keeps them, and takes any that comes free.
    Descriptors,
}

/// The moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    /// While it is made.
    Made,
    /// At its `at`th input, counted from 0.
    #[default]
    Input,
    /// The same, holding all inputs so far and memory for an output.
    Holding,
    /// When its first input has given `at` outputs, made by itself, that have left.
    Output,
    /// When its input has ended.
    Flush,
    /// While it is dropped.
    Drop,
    /// When it has been dropped, by a thread that it has left behind.
    LeftBehind,
}

/// As many bytes as one output has that it makes.
const MADE_BYTES: usize = 64 * 1_024;
/// Taken at a time.
const MOUTHFUL: usize = 1 << 20;
/// What is written of [`Fault::Flood`].
const FLOOD_LINES: usize = 4_096;
/// How long a gate is waited for, and how long an orphan lives: longer than a test.
const LONG: Duration = Duration::from_secs(30);

// === impl Doom ===

impl<const REPEATABLE: bool> NodeType for Doom<REPEATABLE> {
    fn info() -> NodeInfo {
        let name = if REPEATABLE { "RepeatableDoom" } else { "Doom" };
        let path = Values::Text { max_bytes: 4_096 };
        NodeInfo {
            name: name.to_owned(),
            summary: "Forwards its input, and does what no node should.".to_owned(),
            parameters: vec![
                Parameter::with_default("fault", Values::choice(FAULTS), "none", "What it does."),
                Parameter::with_default("when", Values::choice(MOMENTS), "input", "At what moment."),
                Parameter::with_default("at", Values::integer(0..=u32::MAX, ""), 0, "At the how-manieth."),
                Parameter::optional("gate", path.clone(), "A file that a thread left behind waits for."),
                Parameter::optional("once", path, "A file that is made when it happens, and prevents it."),
            ],
            repeatable: REPEATABLE,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        let settings: Settings = read_params(params)?;
        let mut made = Self { settings, inputs: 0, owed: 0, kept: Vec::new() };
        made.at(When::Made);
        Ok(made)
    }
}

impl<const REPEATABLE: bool> Node for Doom<REPEATABLE> {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let is_it = self.inputs == self.settings.at;
        self.inputs += 1;
        match self.settings.when {
            When::Holding => {
                self.kept.push(input.clone());
                // Held over the fault.
                let _held: Option<Loan> = if is_it { Some(out.loan(MADE_BYTES)?) } else { None };
                if is_it {
                    self.commit();
                }
            }
            When::Input if is_it => self.commit(),
            When::Output if self.inputs == 1 => {
                self.owed = self.settings.at;
                return self.resume(out);
            }
            When::Made | When::Input | When::Output | When::Flush | When::Drop | When::LeftBehind => {}
        }
        let Frame { data, metadata, .. } = input;
        Ok(out.emit(Output { data, metadata, timestamp_us: None })?)
    }

    fn has_more(&self) -> bool {
        self.owed > 0
    }

    fn resume(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let mut loan = out.loan(MADE_BYTES)?;
        self.owed = self.owed.saturating_sub(1);
        if self.owed == 0 {
            self.at(When::Output);
        }
        loan.bytes_mut().fill(7);
        let data = Binary::new(loan.freeze(), None).into();
        Ok(out.emit(Output { data, metadata: Metadata::new(), timestamp_us: None })?)
    }

    fn flush(&mut self, _out: &mut dyn Outputs) -> Result<(), NodeError> {
        self.at(When::Flush);
        Ok(())
    }
}

impl<const REPEATABLE: bool> Drop for Doom<REPEATABLE> {
    fn drop(&mut self) {
        self.at(When::Drop);
        if self.settings.when == When::LeftBehind {
            let mut heir = Self {
                settings: Settings { when: When::Flush, ..self.settings.clone() },
                inputs: 0,
                owed: 0,
                kept: Vec::new(),
            };
            thread::spawn(move || {
                if heir.settings.gate.as_deref().is_none_or(opened) {
                    heir.commit();
                }
            });
        }
    }
}

impl<const REPEATABLE: bool> Doom<REPEATABLE> {
    fn at(&mut self, moment: When) {
        if self.settings.when == moment {
            self.commit();
        }
    }

    fn commit(&mut self) {
        if self.settings.once.as_deref().is_some_and(|path| !mark(path)) {
            return;
        }
        match self.settings.fault {
            Fault::None => {}
            Fault::Panic => panic!("told to panic"),
            Fault::Abort => std::process::abort(),
            Fault::Segv => segfault(),
            Fault::Kill => signal(Signal::SIGKILL),
            Fault::Stop => signal(Signal::SIGSTOP),
            Fault::Spin => spin(),
            Fault::Memory => hoard(),
            Fault::Exit => std::process::exit(0),
            Fault::Flood => flood(),
            Fault::Orphan => leave_an_orphan(),
            Fault::Descriptors => take_all_descriptors(),
        }
    }
}

/// The words for [`Fault`], in its order.
const FAULTS: &[&str] = &[
    "none",
    "panic",
    "abort",
    "segv",
    "kill",
    "stop",
    "spin",
    "memory",
    "exit",
    "flood",
    "orphan",
    "descriptors",
];

/// The words for [`When`], in its order.
const MOMENTS: &[&str] = &["made", "input", "holding", "output", "flush", "drop", "left_behind"];

/// To this process.
fn signal(signal: Signal) {
    raise(signal).expect("a thread may signal itself");
}

/// Twice and more: the first is taken by the handler of Rust's own runtime, which looks whether a stack has overflowed,
/// and lets the next one through.
fn segfault() -> ! {
    loop {
        signal(Signal::SIGSEGV);
        thread::yield_now();
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn hoard() -> ! {
    let mut all = Vec::new();
    loop {
        // Written, so that it is memory and not a promise of some.
        all.push(vec![1_u8; MOUTHFUL]);
    }
}

#[expect(clippy::print_stderr, reason = "it is what this fault is")]
fn flood() {
    let line = "x".repeat(1_023);
    for _ in 0..FLOOD_LINES {
        eprintln!("{line}");
    }
    eprintln!("that was the flood");
}

fn leave_an_orphan() -> ! {
    let orphan = Command::new("sleep").arg(LONG.as_secs().to_string()).spawn();
    drop(orphan.expect("every system has a sleep"));
    std::process::abort()
}

/// A few hundred, for that is then all there are; to the end of the process, whatever becomes of the node.
fn take_all_descriptors() {
    const FEW: u64 = 512;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(FEW), hard).expect("less is always allowed");
    let take = || std::iter::from_fn(|| File::open("/dev/null").ok());
    let mut taken: Vec<File> = take().collect();
    thread::spawn(move || {
        loop {
            taken.extend(take());
            pause();
        }
    });
}

/// Writes when and where it happens, unless that is written already. The clock is one for all processes.
fn mark(path: &Path) -> bool {
    let Ok(mut file) = File::create_new(path) else { return false };
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a system has this clock"));
    write!(file, "{} {}", now.as_nanos(), Pid::this()).expect("a test names a file that can be written");
    true
}

/// Whether the gate opens in time.
fn opened(gate: &Path) -> bool {
    let until = Instant::now() + LONG;
    while !gate.exists() {
        if Instant::now() > until {
            return false;
        }
        pause();
    }
    true
}

#[expect(clippy::disallowed_methods, reason = "nobody tells of a file that comes to be, or of a descriptor")]
fn pause() {
    thread::sleep(Duration::from_millis(2));
}
