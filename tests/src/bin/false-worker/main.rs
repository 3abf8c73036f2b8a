//! A worker by its words alone: it keeps its place in a domain by hand, forwards as a node would, and tells one lie, of a
//! kind and at a moment that a session's parameters choose.
//!
//! `false-worker --runtime-dir=DIR --name=NAME [--never-ready | --dies=joining|ready|leaving]`

#![forbid(unsafe_code)]

mod member;
mod stage;

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use remotemedia_core::frame::StageId;
use remotemedia_core::node::{NodeInfo, Parameter, Values};
use remotemedia_ipc::control::ChannelError;
use remotemedia_ipc::control::messages::{Hello, News, PROTOCOL, StageCommand, StageReply, ToGateway};

use member::{Event, Gone, Member};
use stage::{Grudge, LIES, MOMENTS, Stage};

/// How it ends when it was told to die.
const DEAD: u8 = 7;
/// How it ends when it cannot go on.
const LOST: u8 = 1;
/// How it ends when its arguments are wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // A test that is killed leaves nothing behind.
    let bound = prctl::set_pdeathsig(Signal::SIGKILL);
    let Some(arguments) = Arguments::read().filter(|_| bound.is_ok()) else { return USAGE.into() };
    match Pretender::new(arguments).map(Pretender::run) {
        Ok(Ok(code)) => code.into(),
        Ok(Err(gone)) => tell(&gone.to_string()),
        Err(errno) => tell(&errno.to_string()),
    }
}

struct Arguments {
    dir: PathBuf,
    name: String,
    habit: Habit,
}

/// What it does as a worker, whatever its sessions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// What workers do.
    Works,
    /// Says that it is loading, and nothing else.
    NeverReady,
    /// Dies when it has mapped its memory, and is not known to anybody yet.
    DiesJoining,
    /// Dies when it could be given work.
    DiesReady,
    /// Dies when it has said that it wants to go.
    DiesLeaving,
}

/// The process.
struct Pretender {
    arguments: Arguments,
    stop: SignalFd,
    stages: BTreeMap<StageId, Stage>,
    /// What is to be done when no session is there.
    grudges: Vec<Grudge>,
    leaving: bool,
}

// === impl Arguments ===

impl Arguments {
    fn read() -> Option<Self> {
        let (mut dir, mut name, mut habit) = (None, None, Habit::Works);
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some(("--runtime-dir", path)) => dir = Some(PathBuf::from(path)),
                Some(("--name", given)) => name = Some(given.to_owned()),
                Some(("--log-format", _)) => {}
                Some(("--dies", "joining")) => habit = Habit::DiesJoining,
                Some(("--dies", "ready")) => habit = Habit::DiesReady,
                Some(("--dies", "leaving")) => habit = Habit::DiesLeaving,
                None if argument == "--never-ready" => habit = Habit::NeverReady,
                Some(_) | None => return None,
            }
        }
        Some(Self { dir: dir?, name: name?, habit })
    }

    fn hello(&self) -> Hello {
        let path = Values::Text { max_bytes: 4_096 };
        let info = NodeInfo {
            name: "Lie".to_owned(),
            summary: "Forwards its input, and tells one lie about it.".to_owned(),
            parameters: vec![
                Parameter::with_default("fault", Values::choice(LIES), "none", "Which."),
                Parameter::with_default("when", Values::choice(MOMENTS), "input", "At what moment."),
                Parameter::with_default("at", Values::integer(0..=u32::MAX, ""), 0, "At the how-manieth."),
                Parameter::optional("gate", path.clone(), "A file that is waited for."),
                Parameter::optional("once", path, "A file that is made when it is told."),
            ],
            ..NodeInfo::default()
        };
        let loading = (self.habit == Habit::NeverReady).then(|| "setting up what never stands".to_owned());
        let (name, kind) = (self.name.clone(), "false".to_owned());
        Hello { protocol: PROTOCOL, name, kind, nodes: vec![info], loading, invocation: None }
    }
}

// === impl Pretender ===

impl Pretender {
    fn new(arguments: Arguments) -> nix::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM]);
        signals.thread_block()?;
        let stop = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { arguments, stop, stages: BTreeMap::new(), grudges: Vec::new(), leaving: false })
    }

    /// Serves one gateway after the other.
    fn run(mut self) -> Result<u8, Gone> {
        loop {
            let member = match Member::join(&self.arguments.dir, &self.arguments.hello()) {
                Ok(member) => member,
                // There is none now.
                Err(Gone::Channel(
                    ChannelError::Connect { .. } | ChannelError::Closed | ChannelError::Deadline,
                )) => {
                    if self.is_asked_to_stop(50) {
                        return Ok(0);
                    }
                    continue;
                }
                Err(other) => return Err(other),
            };
            match self.serve(member) {
                Err(Gone::Channel(ChannelError::Closed)) => self.stages.clear(),
                ended => return ended,
            }
        }
    }

    fn serve(&mut self, mut member: Member) -> Result<u8, Gone> {
        if self.arguments.habit == Habit::DiesJoining {
            return Ok(DEAD);
        }
        loop {
            let mut events = Vec::new();
            member.turn(&mut |event| events.push(event))?;
            for event in events {
                match event {
                    Event::Arrival(arrival) => {
                        let stage = self.stages.get_mut(&StageId(arrival.header.session));
                        stage.map_or(Ok(()), |stage| stage.take(&mut member, arrival))?;
                    }
                    Event::Command(command) => self.obey(&mut member, command)?,
                    Event::Dismissed => return Ok(0),
                }
            }
            self.grudges.retain_mut(|grudge| !grudge.is_over(&mut member));
            if self.arguments.habit == Habit::DiesReady && member.is_linked() {
                return Ok(DEAD);
            }
            if !self.leaving && self.is_asked_to_stop(0) {
                self.leaving = true;
                member.say(&ToGateway::News(News::Leaving))?;
                if self.arguments.habit == Habit::DiesLeaving {
                    return Ok(DEAD);
                }
            }
        }
    }

    fn obey(&mut self, member: &mut Member, command: StageCommand) -> Result<(), Gone> {
        match command {
            StageCommand::Open(plan) => {
                let id = plan.stage;
                let mut stage = Stage::of(plan)?;
                stage.begin(member)?;
                self.stages.insert(id, stage);
                member.say(&ToGateway::Stage(StageReply::Opened { stage: id }))
            }
            StageCommand::Rewire { .. } => Err(Gone::Expected { what: "sessions of one stage" }),
            StageCommand::Close { stage: id } => {
                let stage = self.stages.remove(&id);
                self.grudges.extend(stage.and_then(Stage::into_grudge));
                member.say(&ToGateway::Stage(StageReply::Closed { stage: id }))
            }
        }
    }

    /// Waits so many milliseconds for that.
    fn is_asked_to_stop(&self, at_most_ms: u8) -> bool {
        let mut fds = [PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(at_most_ms)).is_ok_and(|ready| ready > 0)
    }
}

#[expect(clippy::print_stderr, reason = "whoever started this reads there why it ended")]
fn tell(problem: &str) -> ExitCode {
    eprintln!("false-worker {}: {problem}", std::process::id());
    LOST.into()
}
