//! Where workers connect: the gateway's socket in its runtime directory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use super::channel::{Channel, ChannelError, io_error};

/// Connections that wait to be accepted: all processes of a domain at once, with room to spare.
const BACKLOG: i32 = 64;

/// A listening socket. Its file is removed on drop, if it is still its own.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    identity: FileIdentity,
}

/// Why a control socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another gateway listens there.
    #[error("a gateway already listens on {path}: stop it, or give this one another runtime directory")]
    AlreadyServed {
        /// The socket's path.
        path: PathBuf,
    },
    /// Two gateways start at this moment.
    #[error("another gateway is just starting in {directory}: give this one another runtime directory")]
    Contended {
        /// The runtime directory.
        directory: PathBuf,
    },
    /// Something that is no socket lies there; it is left alone.
    #[error("{path} exists and is not a socket: move it away, or give the gateway another runtime directory")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Others could reach the socket.
    #[error(
        "{directory} must be a directory of this user with mode 0700, it is of user {uid} with mode {mode:04o}"
    )]
    OpenDirectory {
        /// The runtime directory.
        directory: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The path does not fit a socket address.
    #[error(
        "{path} is too long for a unix socket: choose a runtime directory with a path of some 90 bytes at most"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {step} {path}")]
    System {
        /// The path concerned.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Tells a file from another that later has the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

// === impl Listener ===

impl Listener {
    /// Listens on a socket of mode 0600, in a directory of mode 0700 that exists. A socket that a dead gateway left
    /// behind is replaced.
    ///
    /// # Errors
    /// Somebody listens there, the directory is open to others, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let address = UnixAddr::new(path).map_err(|_| BindError::PathTooLong { path: path.to_owned() })?;
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Held until the new socket listens: between finding a dead socket and removing it nobody else may replace
        // it. The kernel lets go of the lock if this process dies here.
        let _lock = lock_private(directory)?;
        remove_if_dead(path, &address)?;
        let system = |step| move |errno: Errno| system_error(path, step, errno.into());
        let socket = new_socket().map_err(system("create a socket for"))?;
        // Before it has a name: the mode is then never a wider one.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(system("restrict"))?;
        socket::bind(socket.as_raw_fd(), &address).map_err(system("create"))?;
        let backlog = Backlog::new(BACKLOG).map_err(system("listen on"))?;
        socket::listen(&socket, backlog).map_err(system("listen on"))?;
        let metadata = path.symlink_metadata().map_err(|source| system_error(path, "examine", source))?;
        Ok(Self { socket, path: path.to_owned(), identity: FileIdentity::of(&metadata) })
    }

    /// The next connection that waits.
    ///
    /// # Errors
    /// The system refuses, such as for want of file descriptors: the connection then still waits, and the socket
    /// stays readable, so the caller must pause before it asks again.
    pub fn accept(&self) -> Result<Option<Channel>, ChannelError> {
        match accept(self.socket.as_fd()) {
            Ok(socket) => Channel::from_stream(socket).map(Some),
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
            Err(errno) => Err(io_error("accept")(errno)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let current = self.path.symlink_metadata().map(|metadata| FileIdentity::of(&metadata));
        if current.is_ok_and(|current| current == self.identity) {
            // A file that stays behind is found dead, and replaced, by the next gateway.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

// === impl FileIdentity ===

impl FileIdentity {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

fn lock_private(directory: &Path) -> Result<Flock<File>, BindError> {
    let opened = File::open(directory).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|source| system_error(directory, "open", source))?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() || mode & 0o077 != 0 {
        return Err(BindError::OpenDirectory { directory: directory.to_owned(), uid: metadata.uid(), mode });
    }
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => Err(BindError::Contended { directory: directory.to_owned() }),
        Err((_, errno)) => Err(system_error(directory, "lock", errno.into())),
    }
}

fn remove_if_dead(path: &Path, address: &UnixAddr) -> Result<(), BindError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(system_error(path, "examine", source)),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket { path: path.to_owned() }),
    }
    let probe = new_socket().map_err(|errno| system_error(path, "create a socket for", errno.into()))?;
    match socket::connect(probe.as_raw_fd(), address) {
        // EAGAIN: it listens, and its queue of connections is full.
        Ok(()) | Err(Errno::EAGAIN) => Err(BindError::AlreadyServed { path: path.to_owned() }),
        Err(Errno::ECONNREFUSED) => {
            std::fs::remove_file(path).map_err(|source| system_error(path, "remove the dead socket", source))
        }
        Err(errno) => Err(system_error(path, "examine", errno.into())),
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

#[expect(unsafe_code, reason = "nix returns the accepted socket as a bare number")]
fn accept(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let number = socket::accept4(socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn system_error(path: &Path, step: &'static str, source: io::Error) -> BindError {
    BindError::System { path: path.to_owned(), step, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use nix::poll::PollFlags;

    use super::*;
    use crate::readiness;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    fn runtime_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        directory
    }

    #[test]
    fn a_worker_connects_and_talks() {
        let directory = runtime_directory();
        let path = directory.path().join("control");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(listener.accept().unwrap().is_none());
        let mut worker = Channel::connect(&path, soon()).unwrap();
        assert!(readiness::wait(&listener, PollFlags::POLLIN, soon()).unwrap());
        let mut gateway = listener.accept().unwrap().unwrap();
        worker.send(b"hello", &[listener.as_fd()]).unwrap();
        let hello = gateway.recv_blocking(soon()).unwrap();
        assert_eq!((hello.bytes.as_slice(), hello.fds.len()), (&b"hello"[..], 1));
    }

    #[test]
    fn a_live_gateways_socket_is_not_taken() {
        let directory = runtime_directory();
        let path = directory.path().join("control");
        let listener = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(BindError::AlreadyServed { .. })));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_gateways_socket_is_replaced() {
        let directory = runtime_directory();
        let path = directory.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file, as a killed process does");
        let _listener = Listener::bind(&path).unwrap();
        Channel::connect(&path, soon()).unwrap();
    }

    #[test]
    fn only_the_own_socket_file_is_removed() {
        let directory = runtime_directory();
        let path = directory.path().join("control");
        let old = Listener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _new = Listener::bind(&path).unwrap();
        drop(old);
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = runtime_directory();
        let path = directory.path().join("control");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path), Err(BindError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let directory = runtime_directory();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o750)).unwrap();
        let refused = Listener::bind(&directory.path().join("control"));
        assert!(matches!(refused, Err(BindError::OpenDirectory { mode: 0o750, .. })), "{refused:?}");
    }

    #[test]
    fn two_gateways_do_not_start_in_one_directory_at_once() {
        let directory = runtime_directory();
        let _starting = lock_private(directory.path()).unwrap();
        let refused = Listener::bind(&directory.path().join("control"));
        assert!(matches!(refused, Err(BindError::Contended { .. })), "{refused:?}");
    }

    #[test]
    fn connecting_where_nobody_listens_is_an_error_that_names_the_path() {
        let directory = runtime_directory();
        let path = directory.path().join("control");
        let refused = Channel::connect(&path, soon()).unwrap_err();
        assert!(matches!(&refused, ChannelError::Connect { source: Errno::ENOENT, .. }), "{refused}");
        assert!(refused.to_string().contains(path.to_str().unwrap()));
    }
}
