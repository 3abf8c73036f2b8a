//! What is done to the service, and when.

use std::fmt;

use remotemedia_core::fault::DeathCause;

/// One fault in one phase, by a node of one language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Cell {
    pub(crate) fault: Fault,
    pub(crate) phase: Phase,
    pub(crate) language: Language,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    Kill,
    Abort,
    Segv,
    Exit,
    /// Stopped, and continued before anybody's deadline.
    Pause,
    /// Stopped for good.
    Stop,
    /// Keeps a thread, or the interpreter's lock, for good.
    Hang,
    Memory,
}

/// When it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    Starting,
    Idle,
    Holding,
    Unary,
    /// In a unary call that may be run again, and is.
    Repeated,
    Stream,
    Producing,
    Forwarding,
    Draining,
}

/// Of the node that does it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Language {
    Rust,
    Python,
}

// === impl Cell ===

impl Cell {
    /// All that can be done where there is Python or not, and a cgroup for each worker or not.
    pub(crate) fn all(has_python: bool, has_cages: bool) -> Vec<Self> {
        let languages: &[Language] =
            if has_python { &[Language::Rust, Language::Python] } else { &[Language::Rust] };
        let mut all = Vec::new();
        for language in languages.iter().copied() {
            for fault in Fault::ALL.into_iter().filter(|fault| has_cages || *fault != Fault::Memory) {
                all.extend(Phase::ALL.into_iter().map(|phase| Self { fault, phase, language }));
            }
        }
        // A thread beside those that work may compute for ever, and nobody is the worse for it.
        all.retain(|cell| *cell != Self { fault: Fault::Hang, phase: Phase::Idle, language: Language::Rust });
        // What dies late is late for its client too.
        all.retain(|cell| cell.phase != Phase::Repeated || cell.fault.is_sudden());
        all
    }
}

impl Cell {
    pub(crate) const fn node_type(self) -> &'static str {
        match (self.language, self.phase) {
            (Language::Rust, Phase::Repeated) => "RepeatableDoom",
            (Language::Python, Phase::Repeated) => "PyRepeatableDoom",
            (
                language @ (Language::Rust | Language::Python),
                Phase::Starting
                | Phase::Idle
                | Phase::Holding
                | Phase::Unary
                | Phase::Stream
                | Phase::Producing
                | Phase::Forwarding
                | Phase::Draining,
            ) => language.node_type(),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, phase, language } = self;
        write!(f, "{language:?} {fault:?} {phase:?}")
    }
}

// === impl Fault ===

impl Fault {
    pub(crate) const ALL: [Self; 8] =
        [Self::Kill, Self::Abort, Self::Segv, Self::Exit, Self::Pause, Self::Stop, Self::Hang, Self::Memory];

    /// As the fault nodes of a language call it.
    pub(crate) const fn word(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::Kill, _) => "kill",
            (Self::Abort, _) => "abort",
            (Self::Segv, _) => "segv",
            (Self::Exit, _) => "exit",
            (Self::Pause | Self::Stop, _) => "stop",
            (Self::Hang, Language::Rust) => "spin",
            (Self::Hang, Language::Python) => "hold",
            (Self::Memory, _) => "memory",
        }
    }

    /// What its worker dies of; none if it lives.
    pub(crate) const fn death(self) -> Option<DeathCause> {
        match self {
            Self::Kill => Some(DeathCause::Signal(9)),
            Self::Abort => Some(DeathCause::Signal(6)),
            Self::Segv => Some(DeathCause::Signal(11)),
            Self::Exit => Some(DeathCause::Exit(0)),
            Self::Pause => None,
            Self::Stop | Self::Hang => Some(DeathCause::Hang),
            Self::Memory => Some(DeathCause::OutOfMemory),
        }
    }

    /// Whether death comes at once, and by the fault alone.
    pub(crate) const fn is_sudden(self) -> bool {
        match self {
            Self::Kill | Self::Abort | Self::Segv | Self::Exit => true,
            Self::Pause | Self::Stop | Self::Hang | Self::Memory => false,
        }
    }
}

// === impl Phase ===

impl Phase {
    pub(crate) const ALL: [Self; 9] = [
        Self::Starting,
        Self::Idle,
        Self::Holding,
        Self::Unary,
        Self::Repeated,
        Self::Stream,
        Self::Producing,
        Self::Forwarding,
        Self::Draining,
    ];

    /// As the fault nodes call it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Starting => "made",
            Self::Idle => "left_behind",
            Self::Holding => "holding",
            Self::Unary | Self::Repeated | Self::Stream | Self::Forwarding | Self::Draining => "input",
            Self::Producing => "output",
        }
    }
}

// === impl Language ===

impl Language {
    /// How the workers are called that speak it.
    pub(crate) const fn pool(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
        }
    }

    pub(crate) const fn node_type(self) -> &'static str {
        match self {
            Self::Rust => "Doom",
            Self::Python => "PyDoom",
        }
    }
}
