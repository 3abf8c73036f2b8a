//! Input that has been read and that the session has not taken yet: a little, so that what comes behind it is heard.

use std::sync::Arc;

use remotemedia_core::transport::TransportData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Halt;

/// Bytes of payload that wait at most, or one chunk if it is larger: half of what the HTTP/2 window of a stream lets
/// wait below us anyway.
const MAX_BYTES: u32 = 1_024 * 1_024;
/// Chunks that wait at most, however small.
const MAX_CHUNKS: usize = 16;

/// Where input is put.
pub(super) struct Ahead {
    room: Arc<Semaphore>,
    queue: mpsc::Sender<Waiting>,
}

/// Where input is taken.
pub(super) struct Queue(mpsc::Receiver<Waiting>);

enum Waiting {
    /// With the room that it takes.
    Input(TransportData, OwnedSemaphorePermit),
    /// What followed was wrong.
    Wrong(Halt),
}

pub(super) fn bounded() -> (Ahead, Queue) {
    let (queue, taken) = mpsc::channel(MAX_CHUNKS);
    (Ahead { room: Arc::new(Semaphore::new(MAX_BYTES as usize)), queue }, Queue(taken))
}

// === impl Ahead ===

impl Ahead {
    /// Waits for room. Input that nobody will take any more is dropped: whoever stopped taking it says why.
    pub(super) async fn push(&self, input: TransportData) {
        let bytes = u32::try_from(input.payload_bytes()).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(bytes).await {
            let _nobody_takes = self.queue.send(Waiting::Input(input, room)).await;
        }
    }

    /// Has whoever takes the input stop, after all that came before.
    pub(super) async fn fail(&self, halt: Halt) {
        let _nobody_takes = self.queue.send(Waiting::Wrong(halt)).await;
    }
}

// === impl Queue ===

impl Queue {
    /// Makes room for as much as it takes. None when all has been taken, and no more comes.
    pub(super) async fn next(&mut self) -> Option<Result<TransportData, Halt>> {
        Some(match self.0.recv().await? {
            Waiting::Input(input, _room) => Ok(input),
            Waiting::Wrong(halt) => Err(halt),
        })
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
            let (ahead, _queue) = bounded();
            let pushed = (0..100).take_while(|_| is_pushed(&ahead, bytes)).count();
            assert_eq!(pushed, expect, "{bytes} bytes a chunk");
        };
        check(0, 16);
        check(1_000, 16);
        check(256 * 1_024, 4);
        check(16 * 1_024 * 1_024, 1);
    }

    #[test]
    fn what_was_taken_makes_room() {
        let (ahead, mut queue) = bounded();
        assert!(is_pushed(&ahead, 2_000_000));
        assert!(!is_pushed(&ahead, 1));
        drop(queue.0.try_recv().unwrap());
        assert!(is_pushed(&ahead, 1));
    }

    fn is_pushed(ahead: &Ahead, bytes: usize) -> bool {
        let text = Text::new(vec![b'a'; bytes].into(), "").unwrap();
        let push = std::pin::pin!(ahead.push(TransportData::new(0, text)));
        push.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}
