//! One connection of the control plane: frames of bytes, with file descriptors, over a unix stream socket.
//!
//! A frame is `[u32 length][u32 descriptors]`, little-endian, then the bytes. Its descriptors ride with its first
//! byte. The reader asks for a header, then for exactly that frame's bytes, so descriptors are never attributed to
//! the wrong frame.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, getsockopt,
    setsockopt, sockopt,
};
use nix::sys::time::TimeVal;

use super::rights::receive;
use crate::readiness;

/// Longest frame, in bytes: a pipeline's manifest is the largest message, and is itself bounded below this.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// Most descriptors that ride with one frame: a frame pool has two, a domain one, a doorbell one.
pub const MAX_FRAME_FDS: usize = 8;

/// Most bytes that wait to be sent. A peer that reads so little that two of the longest frames wait is not well.
pub const MAX_QUEUED_BYTES: usize = 2 * MAX_FRAME_BYTES;

/// Most frames that wait to be sent; with them wait descriptors, of which a process has few.
pub const MAX_QUEUED_FRAMES: usize = 1024;

const HEADER_BYTES: usize = 8;

/// One end of a control connection. Never blocks, but in the methods that take a deadline.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    incoming: Reading,
    outgoing: VecDeque<Outgoing>,
    queued_bytes: usize,
}

/// A frame that came.
#[derive(Debug)]
pub struct Incoming {
    /// Its bytes; [`super::codec::decode`] knows what they mean.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Who connected, as the kernel recorded it when the connection was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerCredentials {
    /// The process, as numbered in our own pid namespace.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Why a connection was not made, or cannot go on. After [`Self::QueueFull`], [`Self::FrameTooLong`],
/// [`Self::TooManyFds`] and [`Self::Deadline`] it goes on; after all others it is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer closed, or died. What it had sent of an unfinished frame is dropped.
    #[error("the peer closed the control connection")]
    Closed,
    /// The peer does not speak the protocol. The connection has been shut down.
    #[error("the peer does not speak the control protocol: {0}")]
    Malformed(#[from] Malformed),
    /// One of our own frames is too long.
    #[error("a frame of {bytes} bytes: at most {MAX_FRAME_BYTES} can be sent")]
    FrameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// One of our own frames has too many descriptors.
    #[error("a frame with {fds} descriptors: at most {MAX_FRAME_FDS} can be sent")]
    TooManyFds {
        /// How many.
        fds: usize,
    },
    /// The peer does not read; the frame was not queued.
    #[error("{frames} frames of {bytes} bytes wait for a peer that does not read")]
    QueueFull {
        /// How many wait.
        frames: usize,
        /// Their length in bytes.
        bytes: usize,
    },
    /// Nothing came, or not all could be sent, in time.
    #[error("the peer did not answer in time")]
    Deadline,
    /// No gateway is there.
    #[error("cannot connect to {path}: is the gateway running?")]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the system says.
        source: Errno,
    },
    /// The kernel cannot name the peer to us, so that nobody could tell when it dies.
    #[error(
        "the peer lives in another pid namespace: run gateway and workers in one, \
         such as with `pid: service:gateway` in a compose file"
    )]
    ForeignPidNamespace,
    /// The system refused.
    #[error("cannot {step} on the control connection: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What a peer sent that no peer of ours sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// A frame's header names more bytes than a frame may have.
    #[error("a frame of {bytes} bytes, at most {MAX_FRAME_BYTES} are allowed")]
    FrameTooLong {
        /// The length it names.
        bytes: u32,
    },
    /// A frame's header names another number of descriptors than came with it.
    #[error("a frame that announces {announced} descriptors came with {came}")]
    FdCount {
        /// As its header says.
        announced: u32,
        /// As came.
        came: usize,
    },
    /// Descriptors came in the middle of a frame.
    #[error("{came} descriptors in the middle of a frame, they ride with its first byte")]
    StrayFds {
        /// How many came.
        came: usize,
    },
    /// More descriptors came than a frame may bring, or than this process has numbers for.
    #[error(
        "more descriptors came than can be taken: at most {MAX_FRAME_FDS} a frame, and within RLIMIT_NOFILE"
    )]
    FdsCutOff,
}

/// How far the frame that is being read has come.
#[derive(Debug)]
enum Reading {
    Header { bytes: [u8; HEADER_BYTES], filled: usize, fds: Vec<OwnedFd> },
    Body { bytes: Vec<u8>, filled: usize, fds: Vec<OwnedFd> },
}

/// A frame on its way out. The descriptors are our own duplicates, and go with the first byte.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

// === impl Channel ===

impl Channel {
    /// Makes a channel of a connected unix stream socket.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn from_stream(stream: impl Into<OwnedFd>) -> Result<Self, ChannelError> {
        let socket = stream.into();
        set_nonblocking(&socket).map_err(io_error("switch to non-blocking"))?;
        Ok(Self { socket, incoming: Reading::fresh(), outgoing: VecDeque::new(), queued_bytes: 0 })
    }

    /// Two ends of one connection, within this process.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn pair() -> Result<(Self, Self), ChannelError> {
        let (left, right) =
            UnixStream::pair().map_err(|source| ChannelError::Io { step: "create", source })?;
        Ok((Self::from_stream(left)?, Self::from_stream(right)?))
    }

    /// Connects to a [`super::Listener`]. Waits, until the deadline, only for room in its queue of connections.
    ///
    /// # Errors
    /// Nobody listens there, or does not come to it in time.
    pub fn connect(path: &Path, deadline: Instant) -> Result<Self, ChannelError> {
        let refused = |source| ChannelError::Connect { path: path.to_owned(), source };
        let address = UnixAddr::new(path).map_err(refused)?;
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
            .map_err(io_error("create a socket"))?;
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().clamp(1, 3_600_000);
        let seconds = i64::try_from(left / 1000).unwrap_or(3600);
        let micros = i64::try_from(left % 1000).unwrap_or(0) * 1000;
        // On a unix socket this bounds the wait of `connect` for a full queue of connections.
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(seconds, micros))
            .map_err(io_error("bound the wait"))?;
        match socket::connect(socket.as_raw_fd(), &address) {
            Ok(()) => Self::from_stream(socket),
            Err(Errno::EAGAIN) => Err(ChannelError::Deadline),
            Err(source) => Err(refused(source)),
        }
    }

    /// Queues a frame and sends what the socket takes now. The descriptors are duplicated, so the caller's may be
    /// closed at once.
    ///
    /// # Errors
    /// The frame is too large, too much waits already, or the connection is gone.
    pub fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(ChannelError::FrameTooLong { bytes: bytes.len() });
        }
        if fds.len() > MAX_FRAME_FDS {
            return Err(ChannelError::TooManyFds { fds: fds.len() });
        }
        let frame = Outgoing::new(bytes, fds)?;
        let queued_bytes = self.queued_bytes + frame.bytes.len();
        if queued_bytes > MAX_QUEUED_BYTES || self.outgoing.len() == MAX_QUEUED_FRAMES {
            return Err(ChannelError::QueueFull { frames: self.outgoing.len(), bytes: self.queued_bytes });
        }
        self.queued_bytes = queued_bytes;
        self.outgoing.push_back(frame);
        self.flush().map(drop)
    }

    /// Sends what the socket takes now. True if frames still wait, to be flushed when the socket is writable.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self) -> Result<bool, ChannelError> {
        while let Some(frame) = self.outgoing.front_mut() {
            match frame.send_some(self.socket.as_fd()) {
                Ok(()) if frame.is_sent() => {
                    self.queued_bytes -= frame.bytes.len();
                    self.outgoing.pop_front();
                }
                Ok(()) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(true),
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(error) => return Err(io_error("send")(error)),
            }
        }
        Ok(false)
    }

    /// Whether frames wait for the socket to be writable.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Sends a frame, and all that waited before it, by a deadline. What is unsent then stays queued.
    ///
    /// # Errors
    /// As [`Self::send`]; or not all could be sent in time.
    pub fn send_blocking(
        &mut self,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), ChannelError> {
        self.send(bytes, fds)?;
        while self.flush()? {
            self.wait(PollFlags::POLLOUT, deadline)?;
        }
        Ok(())
    }

    /// The next frame, if it has come in full.
    ///
    /// # Errors
    /// The peer closed or is malformed. Descriptors that came with an unfinished frame are closed.
    pub fn try_recv(&mut self) -> Result<Option<Incoming>, ChannelError> {
        loop {
            if let Some(frame) = self.incoming.take_if_complete() {
                return Ok(Some(frame));
            }
            let received = match receive(self.socket.as_fd(), self.incoming.missing()) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ChannelError::Closed);
                }
                Err(source) => return Err(ChannelError::Io { step: "receive", source }),
            };
            if received.bytes == 0 {
                self.incoming = Reading::fresh();
                return Err(ChannelError::Closed);
            }
            if received.truncated {
                return Err(self.give_up(Malformed::FdsCutOff));
            }
            if let Err(malformed) = self.incoming.advance(received.bytes, received.fds) {
                return Err(self.give_up(malformed));
            }
        }
    }

    /// The next frame, by a deadline.
    ///
    /// # Errors
    /// As [`Self::try_recv`]; or no whole frame came in time. What came of it is kept.
    pub fn recv_blocking(&mut self, deadline: Instant) -> Result<Incoming, ChannelError> {
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(frame);
            }
            self.wait(PollFlags::POLLIN, deadline)?;
        }
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// It lives where this process cannot see it.
    pub fn peer_credentials(&self) -> Result<PeerCredentials, ChannelError> {
        let peer =
            getsockopt(&self.socket, sockopt::PeerCredentials).map_err(io_error("identify the peer"))?;
        if peer.pid() == 0 {
            return Err(ChannelError::ForeignPidNamespace);
        }
        Ok(PeerCredentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
    }

    fn wait(&self, events: PollFlags, deadline: Instant) -> Result<(), ChannelError> {
        match readiness::wait(&self.socket, events, deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ChannelError::Deadline),
            Err(error) => Err(io_error("wait")(error)),
        }
    }

    /// After a malformed frame nobody knows where the next begins: both directions end, and both sides see it.
    fn give_up(&mut self, malformed: Malformed) -> ChannelError {
        self.incoming = Reading::fresh();
        self.outgoing.clear();
        self.queued_bytes = 0;
        match socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both) {
            // Not connected: the peer was faster.
            Ok(()) | Err(Errno::ENOTCONN) => ChannelError::Malformed(malformed),
            Err(error) => io_error("shut down")(error),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

// === impl Reading ===

impl Reading {
    const fn fresh() -> Self {
        Self::Header { bytes: [0; HEADER_BYTES], filled: 0, fds: Vec::new() }
    }

    /// Where the next bytes go; never empty, for a complete frame has been taken before.
    fn missing(&mut self) -> &mut [u8] {
        match self {
            Self::Header { bytes, filled, .. } => &mut bytes[*filled..],
            Self::Body { bytes, filled, .. } => &mut bytes[*filled..],
        }
    }

    /// Counts in what was received. Header => (Header | Body), Body => Body.
    fn advance(&mut self, count: usize, came: Vec<OwnedFd>) -> Result<(), Malformed> {
        match self {
            Self::Header { bytes, filled, fds } => {
                if *filled == 0 {
                    *fds = came;
                } else if !came.is_empty() {
                    return Err(Malformed::StrayFds { came: came.len() });
                }
                *filled += count;
                if *filled == HEADER_BYTES {
                    *self = Self::after_header(*bytes, std::mem::take(fds))?;
                }
            }
            Self::Body { filled, .. } => {
                if !came.is_empty() {
                    return Err(Malformed::StrayFds { came: came.len() });
                }
                *filled += count;
            }
        }
        Ok(())
    }

    fn after_header(header: [u8; HEADER_BYTES], fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        let [l0, l1, l2, l3, f0, f1, f2, f3] = header;
        let (length, announced) =
            (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([f0, f1, f2, f3]));
        let too_long = Malformed::FrameTooLong { bytes: length };
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= MAX_FRAME_BYTES).ok_or(too_long)?;
        if usize::try_from(announced) != Ok(fds.len()) {
            return Err(Malformed::FdCount { announced, came: fds.len() });
        }
        Ok(Self::Body { bytes: vec![0; bytes], filled: 0, fds })
    }

    /// Complete Body => Header.
    fn take_if_complete(&mut self) -> Option<Incoming> {
        match self {
            Self::Body { bytes, filled, fds } if *filled == bytes.len() => {
                let frame = Incoming { bytes: std::mem::take(bytes), fds: std::mem::take(fds) };
                *self = Self::fresh();
                Some(frame)
            }
            Self::Body { .. } | Self::Header { .. } => None,
        }
    }
}

// === impl Outgoing ===

impl Outgoing {
    fn new(payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Self, ChannelError> {
        let field = |number: usize| u32::try_from(number).expect("bounded by the caller").to_le_bytes();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&field(payload.len()));
        bytes.extend_from_slice(&field(fds.len()));
        bytes.extend_from_slice(payload);
        let fds = fds.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>();
        let fds = fds.map_err(|source| ChannelError::Io { step: "duplicate a descriptor", source })?;
        Ok(Self { bytes, sent: 0, fds })
    }

    fn is_sent(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn send_some(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let raw: Vec<_> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(&self.bytes[self.sent..])];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        self.sent += socket::sendmsg::<()>(socket.as_raw_fd(), &parts, rights, flags, None)?;
        // They went with the first byte; sent again they would ride in the middle.
        self.fds.clear();
        Ok(())
    }
}

fn set_nonblocking(socket: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

pub(super) fn io_error(step: &'static str) -> impl Fn(Errno) -> ChannelError {
    move |errno| ChannelError::Io { step, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use nix::sys::stat::fstat;
    use nix::unistd::{pipe, read, write};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    /// A channel, and the bare socket of a peer that may say anything.
    fn with_bare_peer() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::from_stream(ours).unwrap(), theirs)
    }

    fn header(length: u32, fds: u32) -> Vec<u8> {
        [length.to_le_bytes(), fds.to_le_bytes()].concat()
    }

    fn send_raw(peer: &UnixStream, bytes: &[u8], fds: &[&OwnedFd]) {
        let raw: Vec<_> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let sent =
            socket::sendmsg::<()>(peer.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::empty(), None);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// The peer's end of a pipe is gone: whoever had received the write end has closed it.
    fn is_closed_everywhere(read_end: &OwnedFd) -> bool {
        read(read_end, &mut [0; 1]) == Ok(0)
    }

    #[test]
    fn frames_come_in_order_with_their_own_descriptors() {
        let (mut left, mut right) = Channel::pair().unwrap();
        let (out, into) = pipe().unwrap();
        left.send(b"first", &[]).unwrap();
        left.send(b"", &[out.as_fd(), into.as_fd()]).unwrap();
        left.send(b"third", &[into.as_fd()]).unwrap();
        drop(into);
        let frames: Vec<_> = (0..3).map(|_| right.try_recv().unwrap().unwrap()).collect();
        let seen: Vec<_> = frames.iter().map(|frame| (frame.bytes.as_slice(), frame.fds.len())).collect();
        assert_eq!(seen, [(&b"first"[..], 0), (b"", 2), (b"third", 1)]);
        assert_eq!(fstat(&frames[1].fds[0]).unwrap().st_ino, fstat(&out).unwrap().st_ino);
        write(&frames[2].fds[0], b"!").unwrap();
        let mut byte = [0];
        assert_eq!(read(&out, &mut byte), Ok(1));
        for fd in frames.iter().flat_map(|frame| &frame.fds) {
            let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags, nix::libc::FD_CLOEXEC);
        }
        assert!(right.try_recv().unwrap().is_none());
    }

    #[test]
    fn the_longest_frame_passes_through_a_full_socket() {
        let (mut left, mut right) = Channel::pair().unwrap();
        let (out, into) = pipe().unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(MAX_FRAME_BYTES).collect();
        left.send(&bytes, &[into.as_fd()]).unwrap();
        drop(into);
        assert!(left.wants_write());
        // Its end is kept until all is sent: without it, sending is an error.
        let reader = std::thread::spawn(move || (right.recv_blocking(soon()).unwrap(), right));
        left.send_blocking(b"after", &[], soon()).unwrap();
        let (frame, _right) = reader.join().unwrap();
        assert!(frame.bytes == bytes);
        assert_eq!(frame.fds.len(), 1);
        drop(frame);
        assert!(is_closed_everywhere(&out));
    }

    #[test]
    fn a_peer_that_does_not_read_meets_a_bound() {
        let (mut left, _right) = Channel::pair().unwrap();
        let frame = vec![0; MAX_FRAME_BYTES / 2];
        let refused = (0..8).find_map(|_| left.send(&frame, &[]).err()).unwrap();
        assert!(matches!(refused, ChannelError::QueueFull { .. }), "{refused}");
        assert!(left.queued_bytes <= MAX_QUEUED_BYTES);
        let late = left.send_blocking(b"x", &[], Instant::now());
        assert!(matches!(late, Err(ChannelError::Deadline)), "{late:?}");
    }

    #[test]
    fn own_frames_beyond_the_limits_are_refused() {
        let (mut left, _right) = Channel::pair().unwrap();
        let too_long = left.send(&vec![0; MAX_FRAME_BYTES + 1], &[]);
        assert!(matches!(too_long, Err(ChannelError::FrameTooLong { .. })));
        let (out, _into) = pipe().unwrap();
        let too_many = left.send(b"", &[out.as_fd(); MAX_FRAME_FDS + 1]);
        assert!(matches!(too_many, Err(ChannelError::TooManyFds { fds: 9 })));
    }

    #[test]
    fn a_frame_in_pieces_is_put_together() {
        let (mut channel, mut peer) = with_bare_peer();
        let bytes = [header(3, 0), b"abc".to_vec()].concat();
        for byte in &bytes {
            assert!(channel.try_recv().unwrap().is_none());
            peer.write_all(&[*byte]).unwrap();
        }
        assert_eq!(channel.try_recv().unwrap().unwrap().bytes, b"abc");
    }

    #[test]
    fn a_closing_peer_is_seen_after_its_last_frame() {
        let (mut left, mut right) = Channel::pair().unwrap();
        left.send(b"last", &[]).unwrap();
        drop(left);
        assert_eq!(right.recv_blocking(soon()).unwrap().bytes, b"last");
        assert!(matches!(right.recv_blocking(soon()), Err(ChannelError::Closed)));
        assert!(matches!(right.send(b"x", &[]), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_peer_that_dies_within_a_frame_leaks_no_descriptor() {
        let (mut channel, peer) = with_bare_peer();
        let (out, into) = pipe().unwrap();
        send_raw(&peer, &[header(100, 1), b"half".to_vec()].concat(), &[&into]);
        drop((into, peer));
        assert!(matches!(channel.try_recv(), Err(ChannelError::Closed)));
        assert!(is_closed_everywhere(&out));
    }

    #[test]
    fn malformed_frames_are_typed_end_the_connection_and_leak_nothing() {
        let cases: [(Vec<u8>, usize, Malformed); 4] = [
            (header(u32::MAX, 0), 0, Malformed::FrameTooLong { bytes: u32::MAX }),
            (header(0, 0), 1, Malformed::FdCount { announced: 0, came: 1 }),
            (header(0, u32::MAX), 2, Malformed::FdCount { announced: u32::MAX, came: 2 }),
            (header(0, 9), 9, Malformed::FdsCutOff),
        ];
        for (bytes, count, expected) in cases {
            let (mut channel, peer) = with_bare_peer();
            let (out, into) = pipe().unwrap();
            send_raw(&peer, &bytes, &vec![&into; count]);
            drop(into);
            match channel.try_recv() {
                Err(ChannelError::Malformed(found)) => assert_eq!(found, expected),
                other => panic!("expected {expected:?}, got {other:?}"),
            }
            assert!(is_closed_everywhere(&out), "{expected}");
            assert!(matches!(channel.try_recv(), Err(ChannelError::Closed)));
            assert!(matches!(channel.send(b"x", &[]), Err(ChannelError::Closed)));
        }
    }

    #[test]
    fn descriptors_in_the_middle_of_a_frame_are_malformed() {
        let (mut channel, peer) = with_bare_peer();
        let (out, into) = pipe().unwrap();
        send_raw(&peer, &header(4, 0), &[]);
        send_raw(&peer, b"body", &[&into]);
        drop(into);
        let stray = channel.try_recv();
        assert!(matches!(stray, Err(ChannelError::Malformed(Malformed::StrayFds { came: 1 }))), "{stray:?}");
        assert!(is_closed_everywhere(&out));
    }

    #[test]
    fn the_peer_is_known_by_pid() {
        let (left, _right) = Channel::pair().unwrap();
        let peer = left.peer_credentials().unwrap();
        assert_eq!(u32::try_from(peer.pid), Ok(std::process::id()));
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    }
}
