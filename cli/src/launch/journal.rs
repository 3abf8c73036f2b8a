//! What the processes of a service say, line by line, each with its speaker's name.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Lines kept for an error's report: enough for a panic with its backtrace.
const KEPT_LINES: usize = 60;
/// Lines on their way to standard error: a burst at start, and little memory.
const QUEUED_LINES: usize = 1_024;
/// Bytes of one line: longer ones are cut into several.
const MAX_LINE_BYTES: usize = 16 * 1_024;
/// Bytes that one pipe may bring in a [`WINDOW`]: who floods waits for its own writes, and costs us no processor.
const WINDOW_BYTES: usize = 64 * 1_024;
/// See [`WINDOW_BYTES`].
const WINDOW: Duration = Duration::from_millis(100);
/// How long the last lines may take when whoever reads standard error does not.
const FLUSH: Duration = Duration::from_millis(500);

/// Where the lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Logs {
    /// To standard error as they come, with prefixes. Lines are dropped, and counted, when nobody reads them:
    /// a full pipe must not stop the service.
    Shown,
    /// Nowhere: the last ones are kept for [`super::LaunchError`].
    Kept,
}

/// Takes lines in.
#[derive(Clone)]
pub(super) struct Journal {
    last: LastLines,
    shown: Option<mpsc::Sender<String>>,
    dropped: Arc<AtomicU64>,
}

/// The lines that were said last.
#[derive(Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

/// The task that writes to standard error.
pub(super) struct Writer(Option<JoinHandle<()>>);

// === impl Journal ===

impl Journal {
    /// Must be called on a runtime.
    pub(super) fn new(logs: Logs) -> (Self, Writer) {
        let dropped = Arc::new(AtomicU64::new(0));
        let (shown, writer) = match logs {
            Logs::Kept => (None, Writer(None)),
            Logs::Shown => {
                let (sender, lines) = mpsc::channel(QUEUED_LINES);
                let task = tokio::spawn(write(lines, Arc::clone(&dropped)));
                (Some(sender), Writer(Some(task)))
            }
        };
        (Self { last: LastLines::default(), shown, dropped }, writer)
    }

    /// Takes in one line that `speaker` said.
    pub(super) fn line(&self, speaker: &str, text: &str) {
        let line = format!("[{speaker}] {text}");
        self.last.push(line.clone());
        if let Some(shown) = &self.shown
            && shown.try_send(line).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was said last, also after this journal is gone.
    pub(super) fn last(&self) -> LastLines {
        self.last.clone()
    }
}

// === impl LastLines ===

impl LastLines {
    /// The lines, oldest first.
    pub(super) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

// === impl Writer ===

impl Writer {
    /// Waits, not for long, until everything has been written. All journals must be gone.
    pub(super) async fn finish(self) {
        if let Some(mut task) = self.0
            && tokio::time::timeout(FLUSH, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

async fn write(mut lines: mpsc::Receiver<String>, dropped: Arc<AtomicU64>) {
    let mut stderr = tokio::io::stderr();
    while let Some(mut line) = lines.recv().await {
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            line =
                format!("[launcher] {missing} lines were dropped here: standard error was not read\n{line}");
        }
        line.push('\n');
        if stderr.write_all(line.as_bytes()).await.is_err() {
            // Nobody will ever read: the senders see a closed queue and go on.
            return;
        }
    }
    // An error here has nobody left to be told to.
    let _gone = stderr.flush().await;
}

/// Calls `on_line` with every line of `from` until it ends; a line that is too long comes in pieces.
pub(super) async fn for_each_line(mut from: impl AsyncRead + Unpin, mut on_line: impl FnMut(&str)) {
    let mut pending = Vec::new();
    let mut piece = vec![0; MAX_LINE_BYTES];
    let (mut window, mut brought) = (Instant::now(), 0);
    // An error of the pipe is its end, as far as lines are concerned.
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        for part in piece[..count].split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(part);
            if part.ends_with(b"\n") || pending.len() >= MAX_LINE_BYTES {
                on_line(String::from_utf8_lossy(&pending).trim_end());
                pending.clear();
            }
        }
        brought += count;
        if brought > WINDOW_BYTES {
            tokio::time::sleep_until(window + WINDOW).await;
            (window, brought) = (Instant::now(), 0);
        }
    }
    if !pending.is_empty() {
        on_line(String::from_utf8_lossy(&pending).trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(text: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for_each_line(text, |line| lines.push(line.to_owned())).await;
        lines
    }

    #[tokio::test]
    async fn lines_are_told_apart_and_the_last_needs_no_newline() {
        assert_eq!(lines_of(b"one\r\n\ntwo").await, ["one", "", "two"]);
        assert_eq!(lines_of(b"").await, Vec::<String>::new());
        assert_eq!(lines_of(b"a \xff b\n").await, ["a \u{fffd} b"]);
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_and_not_gathered() {
        let lines = lines_of(&vec![b'x'; 5 * MAX_LINE_BYTES]).await;
        assert!(lines.len() >= 5);
        assert!(lines.iter().all(|line| line.len() <= 2 * MAX_LINE_BYTES));
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept() {
        let (journal, writer) = Journal::new(Logs::Kept);
        for number in 0..KEPT_LINES + 2 {
            journal.line("rust-1", &number.to_string());
        }
        let last = journal.last().get();
        assert_eq!((last.len(), last[0].as_str()), (KEPT_LINES, "[rust-1] 2"));
        drop(journal);
        writer.finish().await;
    }
}
