//! The baselines of `hop` and `python-hop`: plain iceoryx2, and Python's own queues and pipes, each in two processes of
//! its own, making round trips when told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use nix::unistd::Pid;

use crate::error::{BenchError, while_doing};
use crate::processors::pid_of;
use crate::program::Program;

/// A program that makes round trips, as a child that is reaped when this is dropped.
pub(crate) struct Baseline {
    child: Child,
    other: Pid,
    /// Taken by the drop alone.
    demands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// An example of `ipc`, since iceoryx2 is named there alone.
const ICEORYX2: &str = "examples/raw_round_trip";

/// Python's own ways.
const MULTIPROCESSING: &str = "multiprocessing_round_trip.py";

// === impl Baseline ===

impl Baseline {
    /// iceoryx2 with payloads of `bytes` bytes.
    pub(crate) fn iceoryx2(bytes: usize) -> Result<Self, BenchError> {
        Self::start(&Program::beside_this(ICEORYX2)?, &["on-demand", &bytes.to_string()])
    }

    /// `multiprocessing.Queue`, with arrays of `bytes` bytes as objects.
    pub(crate) fn python_queue(bytes: usize) -> Result<Self, BenchError> {
        Self::start(&Program::python(&[MULTIPROCESSING])?, &["queue", &bytes.to_string()])
    }

    /// `multiprocessing.Pipe`, with the bytes of such arrays.
    pub(crate) fn python_pipe(bytes: usize) -> Result<Self, BenchError> {
        Self::start(&Program::python(&[MULTIPROCESSING])?, &["pipe", &bytes.to_string()])
    }

    fn start(program: &Program, arguments: &[&str]) -> Result<Self, BenchError> {
        let mut child = program
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(while_doing("start a baseline"))?;
        let demands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output was asked to be piped"));
        let mut baseline = Self { child, other: Pid::from_raw(0), demands, answers };
        let line = baseline.answer()?;
        let other = line.trim().parse().map_err(|_| BenchError::Baseline { line, expected: 1 })?;
        baseline.other = Pid::from_raw(other);
        Ok(baseline)
    }

    /// The process that measures, and the other.
    pub(crate) fn processes(&self) -> [Pid; 2] {
        [pid_of(&self.child), self.other]
    }

    /// Makes so many round trips, one after the other.
    pub(crate) fn rounds(&mut self, rounds: usize) -> Result<Vec<Duration>, BenchError> {
        let demands = self.demands.as_mut().expect("its input is piped and not closed");
        writeln!(demands, "{rounds}").map_err(while_doing("ask a baseline"))?;
        let line = self.answer()?;
        let took: Option<Vec<Duration>> =
            line.split_whitespace().map(|nanos| nanos.parse().ok().map(Duration::from_nanos)).collect();
        took.filter(|took| took.len() == rounds).ok_or(BenchError::Baseline { line, expected: rounds })
    }

    fn answer(&mut self) -> Result<String, BenchError> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(while_doing("hear a baseline"))?;
        Ok(line)
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        // At the end of its input it removes its files and ends. None of its own waits is longer than seconds.
        drop(self.demands.take());
        let _reaped = self.child.wait();
    }
}
