//! Input that has been read and that the session has not taken yet: a little, so that what comes behind it is heard.
//!
//! When it is full, the client waits. Or, where the client asks for that, what has waited longest makes way, so that
//! what is worked on is fresh; its sequence is kept, for the session to count and for the client to be told.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use remotemedia_core::limits::LimitExceeded;
use remotemedia_core::transport::TransportData;
use tokio::sync::Notify;

use super::Halt;

/// Bytes of payload that wait at most, or one chunk if it is larger: half of what the HTTP/2 window of a stream lets
/// wait below us anyway.
const MAX_BYTES: usize = 1_024 * 1_024;
/// Chunks that wait at most, however small: 20 seconds of audio in pieces of 20 ms. Also that many a client may ask for
/// where older ones are to make way. What a client says behind more than that is heard late.
const MAX_CHUNKS: usize = 1_024;
/// Unbroken runs of sequences that have made way. Each entry has one, unless its client skips sequences, which ends
/// the session as soon as it is seen; until then, whoever skips has to wait.
const MAX_GONE: usize = 64;

/// What happens to input for which there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WhenFull {
    /// Its client waits.
    Wait,
    /// With so many chunks waiting, the one that has waited longest is dropped.
    DropOldest { chunks: usize },
}

/// Where input is put. Dropped, no more comes.
pub(super) struct Ahead(Arc<Shared>);

/// Where input is taken.
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    put: Notify,
    taken: Notify,
}

struct Waiting {
    when_full: WhenFull,
    /// What has made way. All of it came before the chunks, as far as it is for the same entry.
    gone: Vec<Gone>,
    chunks: VecDeque<TransportData>,
    bytes: usize,
    end: Option<End>,
}

/// Chunks for one entry that have made way.
struct Gone {
    node: String,
    sequences: RangeInclusive<u64>,
}

enum End {
    /// All is said.
    Complete,
    /// What followed was wrong.
    Wrong(Halt),
}

pub(super) fn bounded(when_full: WhenFull) -> (Ahead, Queue) {
    let waiting = Waiting { when_full, gone: Vec::new(), chunks: VecDeque::new(), bytes: 0, end: None };
    let waiting = Mutex::new(waiting);
    let shared = Arc::new(Shared { waiting, put: Notify::new(), taken: Notify::new() });
    (Ahead(Arc::clone(&shared)), Queue(shared))
}

// === impl WhenFull ===

impl WhenFull {
    /// As a client asks by `max_buffered_chunks`.
    pub(super) fn asked(chunks: u64) -> Result<Self, LimitExceeded> {
        match usize::try_from(chunks) {
            Ok(0) => Ok(Self::Wait),
            Ok(chunks @ 1..=MAX_CHUNKS) => Ok(Self::DropOldest { chunks }),
            Ok(_) | Err(_) => Err(LimitExceeded {
                what: "the requested max_buffered_chunks".to_owned(),
                value: chunks,
                limit: MAX_CHUNKS as u64,
                unit: "chunks".to_owned(),
                advice: "ask for less, or for 0 to be slowed down instead".to_owned(),
            }),
        }
    }

    const fn max_chunks(self) -> usize {
        match self {
            Self::Wait => MAX_CHUNKS,
            Self::DropOldest { chunks } => chunks,
        }
    }
}

// === impl Ahead ===

impl Ahead {
    /// Makes room, or waits for it.
    pub(super) async fn push(&self, input: TransportData) {
        let bytes = input.payload_bytes();
        while !self.0.lock().has_room(bytes) {
            if self.0.lock().drop_oldest() {
                // Reading and dropping could go on as long as the client sends: whoever takes the input has a turn.
                tokio::task::yield_now().await;
            } else {
                self.0.taken.notified().await;
            }
        }
        self.0.lock().put(input);
        self.0.put.notify_one();
    }

    /// Has whoever takes the input stop, after all that came before.
    pub(super) fn fail(self, halt: Halt) {
        self.0.lock().end = Some(End::Wrong(halt));
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.lock().end.get_or_insert(End::Complete);
        self.0.put.notify_one();
    }
}

// === impl Queue ===

impl Queue {
    /// Makes room for as much as it takes; what was dropped comes without frames. None when all has been taken, and no
    /// more comes.
    pub(super) async fn next(&mut self) -> Option<Result<TransportData, Halt>> {
        loop {
            let next = self.0.lock().next();
            if let Poll::Ready(next) = next {
                self.0.taken.notify_one();
                return next;
            }
            self.0.put.notified().await;
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Waiting ===

impl Waiting {
    fn has_room(&self, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= MAX_BYTES;
        self.chunks.is_empty() || fits && self.chunks.len() < self.when_full.max_chunks()
    }

    /// Gives whether it did.
    fn drop_oldest(&mut self) -> bool {
        let may_drop = match self.when_full {
            WhenFull::Wait => false,
            WhenFull::DropOldest { .. } => self.gone.len() < MAX_GONE,
        };
        let oldest = self.chunks.pop_front_if(|_| may_drop);
        let dropped = oldest.is_some();
        if let Some(oldest) = oldest {
            self.bytes -= oldest.payload_bytes();
            self.remember(oldest.node, oldest.sequence);
        }
        dropped
    }

    fn remember(&mut self, node: String, sequence: u64) {
        let latest = self.gone.iter_mut().rfind(|gone| gone.node == node);
        match latest.filter(|gone| gone.sequences.end().checked_add(1) == Some(sequence)) {
            Some(gone) => gone.sequences = *gone.sequences.start()..=sequence,
            None => self.gone.push(Gone { node, sequences: sequence..=sequence }),
        }
    }

    fn put(&mut self, input: TransportData) {
        self.bytes += input.payload_bytes();
        self.chunks.push_back(input);
    }

    /// The lowest sequence of all entries, since what is joined is joined by sequence, and one entry that came far
    /// ahead of another would wait for it.
    fn next_gone(&mut self) -> Option<TransportData> {
        let mut seen: Vec<&str> = Vec::new();
        let first_of_entry = self.gone.iter().enumerate().filter(|(_, gone)| {
            let first = !seen.contains(&gone.node.as_str());
            seen.push(&gone.node);
            first
        });
        let (place, _) = first_of_entry.min_by_key(|(_, gone)| *gone.sequences.start())?;
        let gone = &mut self.gone[place];
        let sequence = gone.sequences.next()?;
        let node = gone.node.clone();
        if gone.sequences.is_empty() {
            self.gone.remove(place);
        }
        Some(TransportData { node, sequence, frames: BTreeMap::new() })
    }

    fn next(&mut self) -> Poll<Option<Result<TransportData, Halt>>> {
        if let Some(dropped) = self.next_gone() {
            return Poll::Ready(Some(Ok(dropped)));
        }
        if let Some(input) = self.chunks.pop_front() {
            self.bytes -= input.payload_bytes();
            return Poll::Ready(Some(Ok(input)));
        }
        match self.end.take() {
            Some(End::Wrong(halt)) => Poll::Ready(Some(Err(halt))),
            Some(End::Complete) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Waker};

    use remotemedia_core::Text;

    use super::*;

    #[test]
    fn room_is_bounded_in_chunks_and_in_bytes_and_a_larger_chunk_passes_alone() {
        let check = |bytes: usize, expect: usize| {
            let (ahead, _queue) = bounded(WhenFull::Wait);
            let pushed = (0..2_000).take_while(|sequence| is_pushed(&ahead, "", *sequence, bytes)).count();
            assert_eq!(pushed, expect, "{bytes} bytes a chunk");
        };
        check(0, 1_024);
        check(1_000, 1_024);
        check(256 * 1_024, 4);
        check(16 * 1_024 * 1_024, 1);
    }

    #[test]
    fn what_was_taken_makes_room() {
        let (ahead, queue) = bounded(WhenFull::Wait);
        assert!(is_pushed(&ahead, "", 0, 2_000_000));
        assert!(!is_pushed(&ahead, "", 1, 1));
        assert_eq!(all(&queue), ["0"]);
        assert!(is_pushed(&ahead, "", 1, 1));
    }

    #[test]
    fn the_oldest_make_way_and_every_sequence_is_left() {
        let check = |chunks: usize, bytes: usize, expect: &[&str]| {
            let (ahead, queue) = bounded(WhenFull::DropOldest { chunks });
            assert!((0..5).all(|sequence| is_pushed(&ahead, "", sequence, bytes)), "nobody waits");
            assert_eq!(all(&queue), expect, "{chunks} of {bytes} bytes");
        };
        check(5, 1, &["0", "1", "2", "3", "4"]);
        check(2, 1, &["0 dropped", "1 dropped", "2 dropped", "3", "4"]);
        check(1, 1, &["0 dropped", "1 dropped", "2 dropped", "3 dropped", "4"]);
        check(5, 400_000, &["0 dropped", "1 dropped", "2 dropped", "3", "4"]);
        check(5, 2_000_000, &["0 dropped", "1 dropped", "2 dropped", "3 dropped", "4"]);
    }

    #[test]
    fn what_has_made_way_is_bounded_however_much_it_is() {
        let (ahead, queue) = bounded(WhenFull::DropOldest { chunks: 1 });
        let entries = (0..100_000).all(|sequence| {
            is_pushed(&ahead, "audio", sequence, 0) && is_pushed(&ahead, "video", sequence, 0)
        });
        assert!(entries, "two entries take turns and nobody waits");
        assert_eq!(queue.0.lock().gone.len(), 2);

        let (ahead, _queue) = bounded(WhenFull::DropOldest { chunks: 1 });
        let gaps = (0..).take_while(|sequence| is_pushed(&ahead, "", 2 * sequence, 0)).count();
        assert_eq!(gaps, MAX_GONE + 1, "whoever skips sequences waits");
    }

    #[test]
    fn of_several_entries_the_lowest_sequence_comes_first() {
        let (ahead, queue) = bounded(WhenFull::DropOldest { chunks: 1 });
        for (node, sequence) in [("b", 5), ("b", 6), ("a", 5), ("a", 6), ("b", 7), ("a", 7)] {
            assert!(is_pushed(&ahead, node, sequence, 0));
        }
        let dropped = ["5", "5", "6", "6", "7"].map(|sequence| format!("{sequence} dropped"));
        assert_eq!(all(&queue), [&dropped[..], &["7".to_owned()]].concat());
    }

    #[test]
    fn a_wish_is_granted_or_refused() {
        assert_eq!(WhenFull::asked(0).unwrap(), WhenFull::Wait);
        assert_eq!(WhenFull::asked(1_024).unwrap(), WhenFull::DropOldest { chunks: 1_024 });
        assert_eq!(WhenFull::asked(1_025).unwrap_err().limit, 1_024);
        assert_eq!(WhenFull::asked(u64::MAX).unwrap_err().value, u64::MAX);
    }

    fn is_pushed(ahead: &Ahead, node: &str, sequence: u64, bytes: usize) -> bool {
        let text = Text::new(vec![b'a'; bytes].into(), "").unwrap();
        let input = TransportData { node: node.to_owned(), ..TransportData::new(sequence, text) };
        let mut push = std::pin::pin!(ahead.push(input));
        let mut cx = Context::from_waker(Waker::noop());
        // After each chunk that made way the others have a turn.
        (0..2 + queued(ahead)).any(|_| push.as_mut().poll(&mut cx).is_ready())
    }

    fn queued(ahead: &Ahead) -> usize {
        ahead.0.lock().chunks.len()
    }

    fn all(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| match queue.0.lock().next() {
            Poll::Ready(Some(Ok(input))) if input.frames.is_empty() => {
                Some(format!("{} dropped", input.sequence))
            }
            Poll::Ready(Some(Ok(input))) => Some(input.sequence.to_string()),
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => None,
        })
        .collect()
    }
}
