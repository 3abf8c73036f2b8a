//! What a process says, kept line by line.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::Deserialize;

/// The lines that a process wrote to one of its outputs, up to now.
#[derive(Debug)]
pub(super) struct Journal {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// A line as the processes' JSON log has it, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    level: String,
}

// === impl Journal ===

impl Journal {
    /// Reads to the end, on a thread of its own.
    pub(super) fn of(output: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            let whole = BufReader::new(output).split(b'\n').map_while(Result::ok);
            for line in whole.map(|line| String::from_utf8_lossy(&line).into_owned()) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the process has closed this output, and all of it has been read.
    pub(super) fn is_complete(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The lines that are worth a look: warnings, errors, and whatever is no log line at all, such as a panic's words.
    pub(super) fn alarms(&self) -> Vec<String> {
        let is_calm = |line: &String| {
            let entry = serde_json::from_str::<Entry>(line);
            entry.is_ok_and(|entry| !matches!(entry.level.as_str(), "WARN" | "ERROR"))
        };
        self.lines().into_iter().filter(|line| !is_calm(line)).collect()
    }
}

impl Drop for Journal {
    /// The process is dead by now, and has no children who could hold its outputs open.
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _panicked = reader.join();
        }
    }
}
