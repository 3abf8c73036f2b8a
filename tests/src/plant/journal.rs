//! What a process says, kept line by line.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

/// The lines that a process wrote to one of its outputs, up to now: what it has written and nobody has read yet is read
/// first by whoever asks.
#[derive(Debug)]
pub(super) struct Journal {
    said: Arc<Mutex<Said>>,
    reader: Option<JoinHandle<()>>,
}

/// What has been read of a pipe.
#[derive(Debug)]
struct Said {
    output: File,
    lines: Vec<String>,
    /// The beginning of a line.
    begun: Vec<u8>,
    /// Nobody has the pipe's other end any more.
    is_over: bool,
}

/// As much as a pipe holds, so that one reading takes all that is in it.
const PIPE_BYTES: usize = 64 << 10;

/// A line as the processes' JSON log has it, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    level: String,
}

// === impl Journal ===

impl Journal {
    /// Reads to the end, on a thread of its own.
    pub(super) fn of(output: impl Into<OwnedFd>) -> Self {
        let output = output.into();
        let watched = output.try_clone().expect("a descriptor is duplicated");
        let said = Said { output: output.into(), lines: Vec::new(), begun: Vec::new(), is_over: false };
        let said = Arc::new(Mutex::new(said));
        let kept = Arc::clone(&said);
        let reader = thread::spawn(move || {
            while !lock(&kept).is_over {
                is_readable(&watched, PollTimeout::NONE);
                lock(&kept).catch_up();
            }
        });
        Self { said, reader: Some(reader) }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut said = lock(&self.said);
        said.catch_up();
        said.lines.clone()
    }

    /// Whether the process has closed this output, and all of it has been read.
    pub(super) fn is_complete(&self) -> bool {
        lock(&self.said).is_over
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

// === impl Said ===

impl Said {
    /// Reads what is there, and waits for nothing.
    fn catch_up(&mut self) {
        if self.is_over || !is_readable(&self.output, PollTimeout::ZERO) {
            return;
        }
        let mut piece = vec![0; PIPE_BYTES];
        match self.output.read(&mut piece) {
            Ok(0) => {
                self.is_over = true;
                if !self.begun.is_empty() {
                    self.end_line();
                }
            }
            Ok(bytes) => {
                let mut lines = piece[..bytes].split(|byte| *byte == b'\n').peekable();
                while let Some(line) = lines.next() {
                    self.begun.extend_from_slice(line);
                    if lines.peek().is_some() {
                        self.end_line();
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("a pipe is not read: {error}"),
        }
    }

    fn end_line(&mut self) {
        self.lines.push(String::from_utf8_lossy(&self.begun).into_owned());
        self.begun.clear();
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

/// Whether there is something to read, or an end.
fn is_readable(output: &impl AsFd, limit: PollTimeout) -> bool {
    match poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], limit) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        Err(error) => panic!("a pipe is not watched: {error}"),
    }
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}
