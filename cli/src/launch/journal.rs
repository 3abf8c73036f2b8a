//! What the processes of a service say, line by line, each with its speaker's name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::last_lines::LastLines;

/// Lines kept for an error's report: enough for a panic with its backtrace.
const KEPT_LINES: usize = 60;
/// Bytes of them, as many as a reader scrolls through.
const KEPT_BYTES: usize = 64 * 1_024;
/// Lines on their way to standard error: a burst at start, and little memory.
const QUEUED_LINES: usize = 1_024;
/// Bytes of one line: longer ones are cut into several.
const MAX_LINE_BYTES: usize = 16 * 1_024;
/// Bytes that one pipe may bring in a [`WINDOW`]: who floods waits for its own writes before it costs us much of a
/// processor, and who dumps some megabytes is not held up past its deadline.
const WINDOW_BYTES: usize = 1_024 * 1_024;
/// What a line costs beside its bytes: a million empty ones are more work than a megabyte.
const LINE_BYTES: usize = 64;
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
        (Self { last: LastLines::at_most(KEPT_LINES, KEPT_BYTES), shown, dropped }, writer)
    }

    /// Takes in one line that `speaker` said.
    pub(super) fn line(&self, speaker: &str, text: &str) {
        let line = format!("[{speaker}] {text}");
        self.last.push(&line);
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

/// Calls `on_line` with every line of `from` until it ends; a line that is too long comes in pieces. Once `died` is
/// notified, what is left in the pipe is read as fast as it comes: nobody floods any more.
pub(super) async fn for_each_line(
    mut from: impl AsyncRead + Unpin,
    died: &Notify,
    mut on_line: impl FnMut(&str),
) {
    let mut pending = Vec::new();
    let mut piece = vec![0; MAX_LINE_BYTES];
    let (mut window, mut brought, mut paced) = (Instant::now(), 0, true);
    // An error of the pipe is its end, as far as lines are concerned.
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        for part in piece[..count].split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(part);
            if part.ends_with(b"\n") || pending.len() >= MAX_LINE_BYTES {
                on_line(String::from_utf8_lossy(&pending).trim_end());
                pending.clear();
                brought += LINE_BYTES;
            }
        }
        brought += count;
        if brought > WINDOW_BYTES && paced {
            tokio::select! {
                () = tokio::time::sleep_until(window + WINDOW) => {}
                () = died.notified() => paced = false,
            }
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
        for_each_line(text, &Notify::new(), |line| lines.push(line.to_owned())).await;
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
    async fn the_last_lines_of_all_are_kept_with_their_speakers() {
        let (journal, writer) = Journal::new(Logs::Kept);
        journal.line("rust-1", "one");
        journal.line("rust-2", "two");
        assert_eq!(journal.last().get(), ["[rust-1] one", "[rust-2] two"]);
        drop(journal);
        writer.finish().await;
    }

    #[tokio::test]
    async fn a_flood_is_read_slowly_while_its_source_lives_and_at_once_when_it_is_dead() {
        let line = [&[b'x'; 1_023], b"\n".as_slice()].concat();
        let flood = line.repeat(5 * WINDOW_BYTES / line.len());
        let died = Notify::new();
        let time = async |died: &Notify| {
            let begin = Instant::now();
            for_each_line(flood.as_slice(), died, |_line| {}).await;
            begin.elapsed()
        };
        let slowly = time(&died).await;
        assert!(slowly > 2 * WINDOW, "{slowly:?}");
        died.notify_one();
        let at_once = time(&died).await;
        assert!(at_once < slowly / 2, "{at_once:?} against {slowly:?}");
    }
}
