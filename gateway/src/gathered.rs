//! A connection whose answers leave as a whole.
//!
//! HTTP/2 hands each frame of more than 256 bytes to the kernel by itself, and what stands behind it, such as the end of
//! the answer, by itself again. Each of these writes costs more than the bytes of a small answer, and wakes the client
//! once more. So they are held until the connection's task has written all that it can write now, and then leave
//! together.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listener::Connection;

/// A connection that holds what is written to it until its [`Outlet`] lets it go.
#[derive(Debug)]
pub(crate) struct Gathered(Shared);

/// Lets go what was written to a [`Gathered`] connection.
#[derive(Debug)]
pub(crate) struct Outlet(Shared);

/// Both are of one task, so neither ever waits for the other.
type Shared = Arc<Mutex<Held>>;

struct Held {
    connection: Connection,
    bytes: Vec<u8>,
    /// How many of these have left.
    left: usize,
    /// Why the rest cannot leave, until somebody is told.
    error: Option<io::Error>,
}

/// Held at most, in bytes: what is more is not copied, and takes what is held with it. A second of speech fits.
const MOST: usize = 64 * 1_024;
/// Kept of a buffer that is empty, in bytes: connections that only listen are many.
const KEPT: usize = 4 * 1_024;

// === impl Gathered ===

impl Gathered {
    pub(crate) fn new(connection: Connection) -> (Self, Outlet) {
        let held = Held { connection, bytes: Vec::new(), left: 0, error: None };
        let shared = Arc::new(Mutex::new(held));
        (Self(Arc::clone(&shared)), Outlet(shared))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).connection).poll_read(cx, into)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).take(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).connection.is_write_vectored()
    }

    /// Done at once: the outlet flushes when the task has done what it can.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.0).error.take().map_or(Ok(()), Err))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = lock(&self.0);
        ready!(held.let_go(cx))?;
        Pin::new(&mut held.connection).poll_shutdown(cx)
    }
}

// === impl Outlet ===

impl Outlet {
    /// Runs what reads and writes the connection. Whatever it wrote leaves whenever it waits.
    pub(crate) async fn run<F: Future + Unpin>(&self, mut task: F) -> F::Output {
        poll_fn(|cx| {
            let polled = Pin::new(&mut task).poll(cx);
            let mut held = lock(&self.0);
            match held.let_go(cx) {
                // What cannot leave yet does so when the task is woken for it.
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(error)) => {
                    held.error = Some(error);
                    // The task hears of it when it flushes, and may wait for nothing else.
                    cx.waker().wake_by_ref();
                }
            }
            polled
        })
        .await
    }
}

// === impl Held ===

impl Held {
    fn take(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let taken: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.bytes.len() + taken <= MOST {
            pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
            return Poll::Ready(Ok(taken));
        }
        loop {
            let waiting = self.bytes.len() - self.left;
            let all: Vec<IoSlice<'_>> = [IoSlice::new(&self.bytes[self.left..])]
                .into_iter()
                .chain(pieces.iter().copied())
                .filter(|piece| !piece.is_empty())
                .collect();
            let written = ready!(Pin::new(&mut self.connection).poll_write_vectored(cx, &all))?;
            match written.checked_sub(waiting) {
                // The caller may be told of nothing only if nothing could be written.
                Some(0) if waiting > 0 => self.empty(),
                Some(of_pieces) => {
                    self.empty();
                    return Poll::Ready(Ok(of_pieces));
                }
                None if written == 0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                None => self.left += written,
            }
        }
    }

    /// Writes what is held, and flushes the connection.
    fn let_go(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.left < self.bytes.len() {
            let rest = &self.bytes[self.left..];
            match ready!(Pin::new(&mut self.connection).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.left += written,
            }
        }
        self.empty();
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn empty(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.left = 0;
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connection: _, bytes, left, error } = self;
        let waiting = bytes.len() - left;
        f.debug_struct("Held").field("waiting", &waiting).field("error", error).finish_non_exhaustive()
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Held> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Bytes that can be told apart.
    fn bytes(count: usize) -> Vec<u8> {
        (0..=250).cycle().take(count).collect()
    }

    fn gathered(room: usize) -> (Gathered, Outlet, DuplexStream) {
        let (here, there) = duplex(room);
        let (gathered, outlet) = Gathered::new(Box::new(here));
        (gathered, outlet, there)
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_at_its_end() {
        let (mut gathered, outlet, mut client) = gathered(MOST);
        let turn = Box::pin(async {
            gathered.write_all(b"one").await.unwrap();
            gathered.flush().await.unwrap();
            gathered.write_all(b"two").await.unwrap();
            let mut came = [0; 8];
            let mut came = ReadBuf::new(&mut came);
            poll_fn(|cx| {
                assert!(Pin::new(&mut client).poll_read(cx, &mut came).is_pending(), "{came:?}");
                Poll::Ready(())
            })
            .await;
        });
        outlet.run(turn).await;
        let mut came = [0; 8];
        assert_eq!(client.read(&mut came).await.unwrap(), 6);
        assert_eq!(&came[..6], b"onetwo");
    }

    #[tokio::test]
    async fn everything_arrives_in_order_however_little_the_client_takes_at_a_time() {
        for room in [100, 5_000, MOST] {
            for sizes in [vec![10, 3, 0, 500], vec![MOST, 1, 9], vec![10, 3 * MOST, 9, MOST - 1, 2]] {
                let (mut gathered, outlet, mut client) = gathered(room);
                let expect = bytes(sizes.iter().sum());
                let mut rest = &expect[..];
                let writing = Box::pin(async {
                    for size in sizes {
                        let (mut piece, behind) = rest.split_at(size);
                        rest = behind;
                        while !piece.is_empty() {
                            let (head, tail) = piece.split_at(piece.len() / 2);
                            let halves = [IoSlice::new(head), IoSlice::new(tail)];
                            let sent = gathered.write_vectored(&halves).await.unwrap();
                            piece = &piece[sent..];
                        }
                        gathered.flush().await.unwrap();
                    }
                    gathered.shutdown().await.unwrap();
                });
                let mut came = Vec::new();
                let ((), read) = tokio::join!(outlet.run(writing), client.read_to_end(&mut came));
                read.unwrap();
                assert!(came == expect, "{} bytes of {} by {room}", came.len(), expect.len());
            }
        }
    }

    #[tokio::test]
    async fn a_task_whose_bytes_cannot_leave_is_told() {
        let (mut gathered, outlet, client) = gathered(MOST);
        drop(client);
        let writing = Box::pin(async {
            gathered.write_all(b"one").await.unwrap();
            tokio::task::yield_now().await;
            gathered.flush().await.unwrap_err()
        });
        assert_eq!(outlet.run(writing).await.kind(), io::ErrorKind::BrokenPipe);
    }
}
