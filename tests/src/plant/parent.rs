//! The plant as a launcher: it tells the gateway of its children, and how they died.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use remotemedia_core::fault::DeathCause;
use remotemedia_ipc::control::messages::{Burial, MAX_LAST_BYTES, MAX_LAST_LINES};
use remotemedia_ipc::launcher::Launcher;
use remotemedia_ipc::memory::MemoryGroup;

use super::journal::Journal;
use super::process::Process;

/// The line to the gateway, and what has to be remembered to tell of a death.
#[derive(Clone, Debug)]
pub(super) struct Parent(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    /// None while there is no gateway.
    line: Option<Launcher>,
    /// By name, how many have died.
    deaths: BTreeMap<String, u32>,
    /// By process id, in which memory cgroup of its own it is, and how many that had killed before.
    groups: BTreeMap<u32, (MemoryGroup, u64)>,
}

/// For a place in the gateway's queue of connections.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the last words of the dead are waited for: as `remotemedia up` does.
const LAST_WORDS: Duration = Duration::from_millis(50);

// === impl Parent ===

impl Parent {
    /// Connected to the gateway that serves in a directory.
    pub(super) fn greeting(dir: &Path) -> Self {
        let parent = Self(Arc::default());
        parent.greet(dir, []);
        parent
    }

    /// Tells a gateway whose parent this is.
    pub(super) fn greet(&self, dir: &Path, children: impl IntoIterator<Item = u32>) {
        let line = Launcher::connect(dir, Instant::now() + CONNECT);
        self.lock().line = Some(line.expect("a gateway that serves listens"));
        children.into_iter().for_each(|pid| self.say(|line| line.started(pid.cast_signed()).is_ok()));
    }

    /// Says that a worker has served and died, and will be started again.
    pub(super) fn will_start(&self, name: &str) {
        self.say(|line| line.awaited(name.to_owned()).is_ok());
    }

    /// Starts a child, and will tell how it died.
    pub(super) fn start(
        &self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Process {
        let (parent, named) = (self.clone(), name.to_owned());
        let told = move |pid, status, journal: &Journal| parent.bury(named, pid, status, journal);
        let process = Process::start_leading(name, program, arguments, environment, told);
        self.say(|line| line.started(process.pid().cast_signed()).is_ok());
        process
    }

    /// A child was put into a memory cgroup of its own.
    pub(super) fn confined(&self, pid: u32) {
        let group = MemoryGroup::of(pid.cast_signed());
        let kills = group.as_ref().and_then(MemoryGroup::kills);
        self.lock().groups.extend(group.zip(kills).map(|known| (pid, known)));
    }

    fn bury(&self, name: String, pid: u32, status: ExitStatus, journal: &Journal) {
        let last_lines = last_words(journal);
        let mut memory = self.lock();
        let cause = match (status.signal(), status.code()) {
            (Some(9), _) if memory.ran_out(pid) => DeathCause::OutOfMemory,
            (Some(signal), _) => DeathCause::Signal(signal),
            (None, Some(code)) => DeathCause::Exit(code),
            (None, None) => DeathCause::Unknown,
        };
        let deaths = memory.deaths.entry(name.clone()).or_default();
        let restarts = *deaths;
        *deaths += 1;
        drop(memory);
        let restarts = Some(restarts);
        let burial = Burial { pid: pid.cast_signed(), name, cause, restarts, last_lines };
        self.say(|line| line.buried(burial).is_ok());
    }

    /// What is said without a gateway is lost.
    fn say(&self, what: impl FnOnce(&mut Launcher) -> bool) {
        let mut memory = self.lock();
        if memory.line.as_mut().is_some_and(|line| !what(line)) {
            memory.line = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Memory ===

impl Memory {
    fn ran_out(&mut self, pid: u32) -> bool {
        let group = self.groups.remove(&pid);
        group.is_some_and(|(group, before)| group.kills().is_some_and(|kills| kills > before))
    }
}

/// The last lines that the dead wrote to its standard error, as many as a burial may have.
#[expect(clippy::disallowed_methods, reason = "the thread that reads has nobody to tell")]
fn last_words(journal: &Journal) -> Vec<String> {
    let until = Instant::now() + LAST_WORDS;
    while !journal.is_complete() && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    let mut bytes = 0;
    let lines = journal.lines();
    let last = lines.iter().rev().take(MAX_LAST_LINES).take_while(|line| {
        bytes += line.len();
        bytes <= MAX_LAST_BYTES
    });
    let mut last: Vec<String> = last.cloned().collect();
    last.reverse();
    last
}
