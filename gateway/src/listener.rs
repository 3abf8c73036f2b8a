//! Listening sockets, and the owner of the connections that come of them.

use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::address::Address;
use crate::inherited::Bound;
use crate::life::{LifeWatch, Phase};

/// A bound socket. Dropping it removes the file of a unix socket, unless it was bound by somebody else.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    /// Whether somebody else has bound it, who keeps it when this process has ended.
    outlives_us: bool,
}

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// That are served.
    pub(crate) seats: usize,
    /// Beyond, that are only told that there is no room. Those beyond these wait in the socket's queue.
    pub(crate) standing: usize,
}

/// A connection that is served. The place is free again when this is dropped.
pub(crate) type Seat = OwnedSemaphorePermit;

/// An accepted connection of either sort.
pub(crate) type Connection = Box<dyn Io>;

/// What a connection can do.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has it.
    #[error("{address} is in use by another process: stop that one, or choose another address")]
    InUse {
        /// As asked.
        address: Address,
    },
    /// The system said no.
    #[error("cannot listen at {address}: {source}")]
    Io {
        /// As asked.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How long to leave `accept` alone when the process has no file descriptor for what comes: the connection stays in
/// the queue, so asking again at once would only burn the processor.
const PAUSE: Duration = Duration::from_millis(100);

// === impl Listener ===

impl Listener {
    /// Binds `address`. The file of a unix socket whose process died is replaced.
    ///
    /// # Errors
    /// It is in use, or the system said no.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        let socket = match address {
            Address::Tcp(tcp) => TcpListener::bind(tcp).await.map(Socket::Tcp),
            Address::Unix(path) => bind_unix(path).await.map(Socket::Unix),
        };
        let bound = socket.and_then(|socket| {
            let address = match &socket {
                Socket::Tcp(tcp) => Address::Tcp(tcp.local_addr()?),
                Socket::Unix(_) => address.clone(),
            };
            Ok(Self { socket, address, outlives_us: false })
        });
        bound.map_err(|source| {
            let address = address.clone();
            if source.kind() == io::ErrorKind::AddrInUse {
                BindError::InUse { address }
            } else {
                BindError::Io { address, source }
            }
        })
    }

    /// What was bound is taken, or else `address` is bound.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn open(bound: Option<Bound>, address: &Address) -> Result<Self, BindError> {
        match bound {
            Some(bound) => bound.listen(),
            None => Self::bind(address).await,
        }
    }

    pub(crate) const fn inherited(socket: Socket, address: Address) -> Self {
        Self { socket, address, outlives_us: true }
    }

    /// Whether somebody else has bound it, who keeps it when this process has ended.
    pub(crate) const fn outlives_us(&self) -> bool {
        self.outlives_us
    }

    /// Where it listens: with the port that was picked.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Serves each connection in a task of its own, until `last`; then waits for those that are left, until life is
    /// over. Those without a seat are to be told that there is none; those that come while it waits are cut when it has
    /// waited, or are left to a successor where the socket stays. Dropping the future cuts them all.
    pub(crate) async fn serve<F>(
        self,
        room: Room,
        life: LifeWatch,
        last: Phase,
        serve: impl Fn(Connection, Option<Seat>) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let most = room.seats.saturating_add(room.standing);
        let seats = Arc::new(Semaphore::new(room.seats.min(Semaphore::MAX_PERMITS)));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = life.reached(last) => break,
                Some(ended) = connections.join_next() => report(ended),
                connection = self.accept(), if connections.len() < most => {
                    connections.spawn(serve(connection, Arc::clone(&seats).try_acquire_owned().ok()));
                }
            }
        }
        let mut late = JoinSet::new();
        while !connections.is_empty() {
            tokio::select! {
                biased;
                () = life.reached(Phase::Over) => break,
                Some(ended) = connections.join_next() => report(ended),
                Some(ended) = late.join_next() => report(ended),
                connection = self.accept(), if !self.outlives_us && late.len() < room.standing => {
                    late.spawn(serve(connection, None));
                }
            }
        }
    }

    async fn accept(&self) -> Connection {
        loop {
            match self.try_accept().await {
                Ok(connection) => return connection,
                Err(error) if is_of_one_connection(&error) => debug!(%error, "connection_lost_in_accept"),
                Err(error) => {
                    warn!(%error, address = %self.address, "accept_paused");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Connection> {
        match &self.socket {
            Socket::Tcp(tcp) => {
                let (stream, _peer) = tcp.accept().await?;
                // A result is sent when it is there, not when more of it comes.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Socket::Unix(unix) => {
                let (stream, _peer) = unix.accept().await?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.outlives_us
            && let Address::Unix(path) = &self.address
            && let Err(error) = std::fs::remove_file(path)
        {
            debug!(%error, path = %path.display(), "socket_file_not_removed");
        }
    }
}

// === impl Io ===

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // Whoever died here left the file; whoever lives here answers.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Ok(_) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    UnixListener::bind(path)
}

/// Whether an error of `accept` says something of the connection that was to be accepted, and nothing of us.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput};
    // InvalidInput: setting an option of a connection that was reset meanwhile.
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput
    )
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "connection_task_failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_pauses_and_a_reset_does_not() {
        let check = |errno: nix::errno::Errno, expect: bool| {
            let error = io::Error::from_raw_os_error(errno as i32);
            assert_eq!(is_of_one_connection(&error), expect, "{errno}");
        };
        check(nix::errno::Errno::EMFILE, false);
        check(nix::errno::Errno::ENFILE, false);
        check(nix::errno::Errno::ENOMEM, false);
        check(nix::errno::Errno::ECONNABORTED, true);
        check(nix::errno::Errno::EINTR, true);
    }

    #[tokio::test]
    async fn the_socket_file_of_a_dead_process_is_replaced_and_that_of_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grpc.sock");
        let address = Address::Unix(path.clone());
        // Dropping the standard library's listener leaves the file, as a killed process would.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());

        let living = Listener::bind(&address).await.unwrap();
        assert!(matches!(Listener::bind(&address).await, Err(BindError::InUse { .. })));
        drop(living);
        assert!(!path.exists());
    }
}
