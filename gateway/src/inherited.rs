//! Sockets that are bound already: systemd holds them, so that clients wait where the gateway is started anew.

use std::io;
use std::os::unix::net::SocketAddr as UnixAddress;

use listenfd::ListenFd;

use crate::address::Address;
use crate::listener::{BindError, Listener, Socket};

/// The sockets of `LISTEN_FDS`, by the names of `LISTEN_FDNAMES`.
#[derive(Debug, Default)]
pub struct Inherited {
    grpc: Option<Bound>,
    admin: Option<Bound>,
}

/// One of them.
#[derive(Debug)]
pub struct Bound {
    socket: Standard,
    address: Address,
}

/// Sockets that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// A socket without a name that we know.
    #[error(
        "systemd passes a socket named '{name}': the gateway knows 'grpc' and 'admin', one of each, set by FileDescriptorName= in the socket's unit"
    )]
    Unknown {
        /// As passed.
        name: String,
    },
    /// No listening stream.
    #[error(
        "the socket '{name}' that systemd passes is of no use: {source}; ListenStream= makes one that is"
    )]
    Socket {
        /// As passed.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug)]
enum Standard {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

// === impl Inherited ===

impl Inherited {
    /// Takes what this process was started with. Before any other thread is: the environment is changed, so that no child
    /// takes the sockets for its own.
    ///
    /// # Errors
    /// One of them is of no use.
    #[expect(clippy::disallowed_methods, reason = "what systemd says to a process, it says there")]
    pub fn take() -> Result<Self, InheritedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut inherited = Self::default();
        for place in 0..sockets.len() {
            let name = names.next().unwrap_or_default();
            let door = match name {
                "grpc" => &mut inherited.grpc,
                "admin" => &mut inherited.admin,
                _ => return Err(InheritedError::Unknown { name: name.to_owned() }),
            };
            let bound = bound(&mut sockets, place)
                .map_err(|source| InheritedError::Socket { name: name.to_owned(), source })?;
            if door.replace(bound).is_some() {
                return Err(InheritedError::Unknown { name: name.to_owned() });
            }
        }
        Ok(inherited)
    }

    /// Where clients connect, if that is bound.
    #[must_use]
    pub fn grpc(&self) -> Option<&Address> {
        self.grpc.as_ref().map(|bound| &bound.address)
    }

    /// Where operators ask, if that is bound.
    #[must_use]
    pub fn admin(&self) -> Option<&Address> {
        self.admin.as_ref().map(|bound| &bound.address)
    }

    /// Both doors, the second for operators.
    #[must_use]
    pub fn into_doors(self) -> [Option<Bound>; 2] {
        [self.grpc, self.admin]
    }
}

// === impl Bound ===

impl Bound {
    /// Listens there.
    pub(crate) fn listen(self) -> Result<Listener, BindError> {
        let Self { socket, address } = self;
        let failed = |source| BindError::Io { address: address.clone(), source };
        let socket = match socket {
            Standard::Tcp(tcp) => tcp
                .set_nonblocking(true)
                .and_then(|()| tokio::net::TcpListener::from_std(tcp))
                .map(Socket::Tcp),
            Standard::Unix(unix) => unix
                .set_nonblocking(true)
                .and_then(|()| tokio::net::UnixListener::from_std(unix))
                .map(Socket::Unix),
        };
        Ok(Listener::inherited(socket.map_err(failed)?, address))
    }
}

fn bound(sockets: &mut ListenFd, place: usize) -> io::Result<Bound> {
    if let Ok(Some(tcp)) = sockets.take_tcp_listener(place) {
        let address = Address::Tcp(tcp.local_addr()?);
        return Ok(Bound { socket: Standard::Tcp(tcp), address });
    }
    let unix = sockets.take_unix_listener(place)?.ok_or(io::ErrorKind::NotFound)?;
    let path = unix.local_addr()?;
    let path = UnixAddress::as_pathname(&path).ok_or(io::ErrorKind::Unsupported)?;
    Ok(Bound { address: Address::Unix(path.to_owned()), socket: Standard::Unix(unix) })
}
