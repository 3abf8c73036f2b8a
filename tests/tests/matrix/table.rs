//! The matrix: every fault in every phase, and for each cell by whom it is played, or why it cannot be.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use remotemedia_core::fault::DeathCause;
use remotemedia_tests::declared::{OF_A_DEATH, OF_A_HANG};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    Panic,
    Abort,
    Segv,
    Kill,
    Stop,
    Spin,
    GilHold,
    OutOfMemory,
    ExitZero,
    NeverReady,
    RegistersThenDies,
    CorruptDescriptor,
    ForeignSession,
    StaleGeneration,
    ReplayedSequence,
    WrongRelease,
    Flood,
    Orphan,
    Descriptors,
}

/// What a flood's last line is.
pub(crate) const FLOOD_IS_OVER: &str = "that was the flood";

/// When it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// While the nodes of a session are made, or the worker itself loads.
    Starting,
    /// No session is there.
    Idle,
    /// The node holds its inputs and memory for an output.
    HoldingALease,
    MidUnary,
    MidStream,
    /// Some outputs of one input are under way, others to come.
    Producing,
    /// Between two other processes.
    Forwarding,
    /// The worker was asked to stop, and has a session still.
    Draining,
    /// There is no gateway.
    GatewayRestarting,
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Actor {
    /// A node in Rust.
    Rust,
    /// A node in Python.
    Python,
    /// A process that is a worker by its words alone.
    Liar,
}

/// A cell of the matrix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cell {
    /// Played by each of these.
    Played(&'static [Actor]),
    /// Not played, and why.
    Argued(&'static str),
}

/// What becomes of a worker, and of its session's client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nothing: all is answered.
    Lives,
    /// The worker lives, and the session ends with the node's fault.
    Fails,
    /// The worker dies of this, and the session ends with it.
    Dies(DeathCause),
    /// The session ends at its deadline, and the worker is killed for that.
    Hangs,
    /// The worker lives, and the session that it lied about ends.
    Disbelieved,
    /// The worker is never to be had, where nobody waits for it.
    Unseen,
}

/// One cell as one actor plays it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) fault: Fault,
    pub(crate) phase: Phase,
    pub(crate) actor: Actor,
}

const RUST: Cell = Cell::Played(&[Actor::Rust]);
const BOTH: Cell = Cell::Played(&[Actor::Rust, Actor::Python]);
const PYTHON: Cell = Cell::Played(&[Actor::Python]);
const LIAR: Cell = Cell::Played(&[Actor::Liar]);

// === impl Fault ===

impl Fault {
    pub(crate) const ALL: [Self; 19] = [
        Self::Panic,
        Self::Abort,
        Self::Segv,
        Self::Kill,
        Self::Stop,
        Self::Spin,
        Self::GilHold,
        Self::OutOfMemory,
        Self::ExitZero,
        Self::NeverReady,
        Self::RegistersThenDies,
        Self::CorruptDescriptor,
        Self::ForeignSession,
        Self::StaleGeneration,
        Self::ReplayedSequence,
        Self::WrongRelease,
        Self::Flood,
        Self::Orphan,
        Self::Descriptors,
    ];

    /// As the fault nodes call it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Abort => "abort",
            Self::Segv => "segv",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Spin => "spin",
            Self::GilHold => "hold",
            Self::OutOfMemory => "memory",
            Self::ExitZero => "exit",
            Self::NeverReady => "never_ready",
            Self::RegistersThenDies => "registers_then_dies",
            Self::CorruptDescriptor => "corrupt_descriptor",
            Self::ForeignSession => "foreign_session",
            Self::StaleGeneration => "stale_generation",
            Self::ReplayedSequence => "replayed_sequence",
            Self::WrongRelease => "wrong_release",
            Self::Flood => "flood",
            Self::Orphan => "orphan",
            Self::Descriptors => "descriptors",
        }
    }

    /// The cell of this fault in a phase.
    pub(crate) const fn in_phase(self, phase: Phase) -> Cell {
        match self {
            // What differs in Python: how it is done, or who is told.
            Self::Panic | Self::Segv | Self::Spin | Self::ExitZero | Self::Orphan | Self::Descriptors => BOTH,
            // To the system the same in any language: a signal, or memory and outputs of the process.
            Self::Abort | Self::Kill | Self::Stop | Self::OutOfMemory | Self::Flood => RUST,
            Self::GilHold => PYTHON,
            Self::NeverReady => match phase {
                Phase::Starting | Phase::Draining | Phase::GatewayRestarting => LIAR,
                Phase::Idle => Cell::Argued("a worker that is not ready is starting, and never idle"),
                Phase::HoldingALease
                | Phase::MidUnary
                | Phase::MidStream
                | Phase::Producing
                | Phase::Forwarding => Cell::Argued("a worker that is not ready is given no session"),
            },
            Self::RegistersThenDies => match phase {
                Phase::Starting | Phase::Idle | Phase::Draining | Phase::GatewayRestarting => LIAR,
                Phase::HoldingALease
                | Phase::MidUnary
                | Phase::MidStream
                | Phase::Producing
                | Phase::Forwarding => {
                    Cell::Argued("with a session it is a worker that dies: see abort, segv, kill and exit")
                }
            },
            Self::WrongRelease if matches!(phase, Phase::Starting | Phase::Idle) => {
                Cell::Argued("it holds no lease, and every block that it can name is its own")
            }
            Self::CorruptDescriptor
            | Self::ForeignSession
            | Self::StaleGeneration
            | Self::ReplayedSequence
            | Self::WrongRelease => match phase {
                Phase::Starting
                | Phase::Idle
                | Phase::HoldingALease
                | Phase::MidUnary
                | Phase::MidStream
                | Phase::Producing
                | Phase::Forwarding
                | Phase::Draining => LIAR,
                Phase::GatewayRestarting => {
                    Cell::Argued("without a gateway there is no link and no lease word to lie about")
                }
            },
        }
    }
}

// === impl Phase ===

impl Phase {
    pub(crate) const ALL: [Self; 9] = [
        Self::Starting,
        Self::Idle,
        Self::HoldingALease,
        Self::MidUnary,
        Self::MidStream,
        Self::Producing,
        Self::Forwarding,
        Self::Draining,
        Self::GatewayRestarting,
    ];
}

// === impl Actor ===

impl Actor {
    /// The name of the worker that everything happens to.
    pub(crate) const fn victim(self) -> &'static str {
        match self {
            Self::Rust => "victim",
            Self::Python => "python-victim",
            Self::Liar => "liar",
        }
    }

    /// The node type that goes wrong.
    pub(crate) const fn node_type(self) -> &'static str {
        match self {
            Self::Rust => "Doom",
            Self::Python => "PyDoom",
            Self::Liar => "Lie",
        }
    }
}

// === impl Row ===

impl Row {
    /// All rows that an actor plays in the phases that `is_wanted` chooses, phase by phase.
    pub(crate) fn of(actor: Actor, is_wanted: impl Fn(Phase) -> bool) -> impl Iterator<Item = Self> {
        let phases = Phase::ALL.into_iter().filter(move |phase| is_wanted(*phase));
        phases.flat_map(move |phase| {
            let faults = Fault::ALL.into_iter().filter(move |fault| match fault.in_phase(phase) {
                Cell::Played(actors) => actors.contains(&actor),
                Cell::Argued(_) => false,
            });
            faults.map(move |fault| Self { fault, phase, actor })
        })
    }

    /// Whether it is about a worker that has not begun to work.
    pub(crate) const fn is_of_a_newcomer(self) -> bool {
        matches!(self.fault, Fault::NeverReady | Fault::RegistersThenDies)
    }

    /// What has to come of it.
    pub(crate) const fn outcome(self) -> Outcome {
        let Self { fault, phase, actor: _ } = self;
        match fault {
            Fault::Panic => match phase {
                // In a thread that no session waits for.
                Phase::Idle | Phase::GatewayRestarting => Outcome::Lives,
                Phase::Starting
                | Phase::HoldingALease
                | Phase::MidUnary
                | Phase::MidStream
                | Phase::Producing
                | Phase::Forwarding
                | Phase::Draining => Outcome::Fails,
            },
            Fault::Abort | Fault::Orphan => Outcome::Dies(DeathCause::Signal(6)),
            Fault::Segv => Outcome::Dies(DeathCause::Signal(11)),
            Fault::Kill => Outcome::Dies(DeathCause::Signal(9)),
            Fault::OutOfMemory => Outcome::Dies(DeathCause::OutOfMemory),
            Fault::ExitZero => Outcome::Dies(DeathCause::Exit(0)),
            // A thread of its own, beside those that work; or one of those, and the others find the next gateway.
            Fault::Spin if matches!(phase, Phase::Idle | Phase::GatewayRestarting) => Outcome::Lives,
            // It does not find it, and nobody there knows of it: its launcher ends it, as `up` does. The others do find
            // it, who need no interpreter for that, and hang in the first call there.
            Fault::Stop if matches!(phase, Phase::GatewayRestarting) => Outcome::Unseen,
            Fault::Stop | Fault::Spin | Fault::GilHold => Outcome::Hangs,
            // It cannot even ask for a gateway.
            Fault::Descriptors if matches!(phase, Phase::GatewayRestarting) => {
                Outcome::Dies(DeathCause::Exit(1))
            }
            Fault::Flood | Fault::Descriptors => Outcome::Lives,
            Fault::NeverReady => Outcome::Unseen,
            Fault::RegistersThenDies => Outcome::Dies(DeathCause::Exit(7)),
            // What it is told of a session that it has no part in, a peer leaves alone, as it does one that is over.
            Fault::ForeignSession if matches!(phase, Phase::Forwarding) => Outcome::Lives,
            Fault::ForeignSession => Outcome::Dies(DeathCause::Protocol),
            // The gateway counts its own reasons to hold a block, and holds the bit for a hint.
            Fault::WrongRelease => Outcome::Lives,
            Fault::CorruptDescriptor | Fault::StaleGeneration | Fault::ReplayedSequence => {
                Outcome::Disbelieved
            }
        }
    }

    /// What a client must be told whose session was ended by such a lie: what was not believed, and nothing else.
    pub(crate) fn is_disbelief(self, problem: &str) -> bool {
        let words: &[_] = match (self.fault, self.phase) {
            (Fault::CorruptDescriptor | Fault::StaleGeneration, Phase::Forwarding) => {
                &["frame ", " could not be had"]
            }
            (Fault::CorruptDescriptor | Fault::StaleGeneration, _) => &["a frame of sequence ", " was lost"],
            (Fault::ReplayedSequence, Phase::Starting) => &["which nobody sent"],
            (Fault::ReplayedSequence, _) => &[" finished twice at sink "],
            (..) => return false,
        };
        words.iter().all(|words| problem.contains(words))
    }

    /// What who was lied to must have logged, if it logs anything: of which lie it was, or of whom it spoke.
    pub(crate) const fn evidence(self) -> &'static [&'static str] {
        match (self.fault, self.phase) {
            (Fault::CorruptDescriptor, _) => &["frame_of_living_sender_lost", " of block ", "which ends at"],
            (Fault::StaleGeneration, _) => &["frame_of_living_sender_lost", "no longer has generation"],
            (Fault::ForeignSession, Phase::Forwarding) => &["frame_of_stranger_dropped"],
            (Fault::ForeignSession, _) => &["worker_spoke_for_others"],
            (..) => &[],
        }
    }

    /// Whether that is how the worker's process ends.
    pub(crate) fn ends_with(self, status: ExitStatus) -> bool {
        match self.outcome() {
            Outcome::Dies(DeathCause::Signal(signal)) => status.signal() == Some(signal),
            Outcome::Dies(DeathCause::Exit(code)) => status.code() == Some(code),
            Outcome::Dies(
                DeathCause::OutOfMemory | DeathCause::Hang | DeathCause::Protocol | DeathCause::Unknown,
            )
            | Outcome::Hangs
            | Outcome::Unseen => status.signal() == Some(9),
            // When asked to stop, or by hand.
            Outcome::Lives | Outcome::Fails | Outcome::Disbelieved => {
                status.code() == Some(0) || status.signal() == Some(9)
            }
        }
    }

    /// The warnings and errors that processes may log of it.
    pub(crate) fn declared(self) -> Vec<&'static str> {
        let of_outcome: &[_] = match self.outcome() {
            Outcome::Lives | Outcome::Fails | Outcome::Unseen | Outcome::Disbelieved => &[],
            Outcome::Dies(_) => OF_A_DEATH,
            Outcome::Hangs => OF_A_HANG,
        };
        let of_fault: &[_] = match (self.fault, self.phase) {
            // Its interpreter writes where it was, over some lines.
            (Fault::Panic, Phase::Idle | Phase::GatewayRestarting) | (Fault::Segv | Fault::Orphan, _)
                if self.actor == Actor::Python =>
            {
                &["[python-victim] "]
            }
            (Fault::Panic, Phase::Idle) => &["panicked at", "told to panic", "RUST_BACKTRACE"],
            (Fault::Panic, Phase::GatewayRestarting) => &["node_panicked_when_dropped"],
            // Its links may be half made.
            (Fault::RegistersThenDies, _) => &["link_step_failed"],
            // What a lie makes others say may be read when the next is told already.
            (
                Fault::CorruptDescriptor
                | Fault::StaleGeneration
                | Fault::ReplayedSequence
                | Fault::ForeignSession
                | Fault::WrongRelease,
                _,
            ) => &["frame_of_living_sender_lost", "frame_of_stranger_dropped", "worker_spoke_for_others"],
            (Fault::Flood, _) => &["xxxxxxxx", FLOOD_IS_OVER],
            (Fault::Descriptors, Phase::GatewayRestarting) => &["no file descriptor was left"],
            _ => &[],
        };
        of_outcome.iter().chain(of_fault).copied().collect()
    }
}

#[test]
fn every_fault_is_played_in_every_phase_or_it_is_said_why_it_cannot_be() {
    for fault in Fault::ALL {
        for phase in Phase::ALL {
            match fault.in_phase(phase) {
                Cell::Played(actors) => {
                    assert!(!actors.is_empty(), "{fault:?} in {phase:?}: nobody plays it");
                    for actor in actors {
                        let row = Row { fault, phase, actor: *actor };
                        let rows = Row::of(*actor, |_| true).filter(|other| *other == row).count();
                        assert_eq!(rows, 1, "{row:?} is in no test");
                    }
                }
                Cell::Argued(why) => assert!(!why.is_empty(), "{fault:?} in {phase:?}: no reason"),
            }
        }
    }
}
