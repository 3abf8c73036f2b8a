//! The baseline of `hop`: plain iceoryx2, in two processes of its own, making round trips when told to.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::unistd::Pid;

use crate::error::{BenchError, while_doing};
use crate::processors::pid_of;

/// The example program of `ipc`, as a child that is reaped when this is dropped.
pub(crate) struct Baseline {
    child: Child,
    other: Pid,
    /// Taken by the drop alone.
    demands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Beside this program, since iceoryx2 is named in `ipc` alone.
const PROGRAM: &str = "examples/raw_round_trip";

// === impl Baseline ===

impl Baseline {
    /// Payloads of `bytes` bytes.
    pub(crate) fn start(bytes: usize) -> Result<Self, BenchError> {
        let own = env::current_exe().map_err(while_doing("find this program"))?;
        let path = own.with_file_name(PROGRAM);
        if !path.exists() {
            return Err(BenchError::NotBuilt { path });
        }
        let mut child = Command::new(path)
            .args(["on-demand", &bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(while_doing("start the iceoryx2 baseline"))?;
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
        writeln!(demands, "{rounds}").map_err(while_doing("ask the iceoryx2 baseline"))?;
        let line = self.answer()?;
        let took: Option<Vec<Duration>> =
            line.split_whitespace().map(|nanos| nanos.parse().ok().map(Duration::from_nanos)).collect();
        took.filter(|took| took.len() == rounds).ok_or(BenchError::Baseline { line, expected: rounds })
    }

    fn answer(&mut self) -> Result<String, BenchError> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(while_doing("hear the iceoryx2 baseline"))?;
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
