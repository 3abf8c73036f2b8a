//! A process's death, known for certain: a pidfd that becomes readable when its last thread is gone.
#![expect(unsafe_code, reason = "nix wraps neither pidfd_open, pidfd_send_signal nor the pidfd's ioctl")]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};

use crate::readiness;

/// A handle on one process, whatever later gets its number. Readable (see [`AsFd`]) once all its threads are gone.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It exited by itself, with this status.
    Code(i32),
    /// A signal killed it; the number as the kernel gives it, real-time signals included.
    Signal(i32),
}

/// Why a process cannot be watched or signalled.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeathError {
    /// Nobody has that number: it died, and was reaped, before it could be watched.
    #[error("process {pid} does not exist any more")]
    NoSuchProcess {
        /// The number.
        pid: i32,
    },
    /// The process at the other end of a connection died, and was reaped, before it could be watched.
    #[error("the process that made the connection does not exist any more")]
    PeerGone,
    /// The kernel cannot name the process to us.
    #[error("the peer lives in another pid namespace: run gateway and workers in one")]
    ForeignPidNamespace,
    /// A descriptor that is of no process.
    #[error("the descriptor is not a pidfd")]
    NotAPidFd,
    /// The system refused.
    #[error("cannot {step} a process")]
    System {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: Errno,
    },
}

// === impl PidFd ===

impl PidFd {
    /// Watches the process that has this number now. For the peer of a connection [`Self::of_peer`] is better: a
    /// number can change hands between being told and being opened.
    ///
    /// # Errors
    /// There is no such process, or no file descriptor is left.
    pub fn open(pid: i32) -> Result<Self, DeathError> {
        // SAFETY: takes and returns numbers.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match Errno::result(opened) {
            Ok(number) => Ok(Self(own(number)?)),
            Err(Errno::ESRCH) => Err(DeathError::NoSuchProcess { pid }),
            Err(source) => Err(DeathError::System { step: "watch", source }),
        }
    }

    /// Watches the process that made a unix socket's connection. From Linux 6.5 the kernel itself remembers it, and
    /// no other process can be mistaken for it; before, it is looked up by its number.
    ///
    /// # Errors
    /// It is gone already, or lives in another pid namespace.
    pub fn of_peer(socket: impl AsFd) -> Result<Self, DeathError> {
        match getsockopt(&socket, sockopt::PeerPidfd) {
            Ok(fd) => return Ok(Self(fd)),
            Err(Errno::ESRCH | Errno::EINVAL) => return Err(DeathError::PeerGone),
            Err(Errno::ENOPROTOOPT | Errno::ENODATA) => {}
            Err(source) => return Err(DeathError::System { step: "watch", source }),
        }
        let peer = getsockopt(&socket, sockopt::PeerCredentials)
            .map_err(|source| DeathError::System { step: "identify", source })?;
        if peer.pid() == 0 {
            return Err(DeathError::ForeignPidNamespace);
        }
        Self::open(peer.pid())
    }

    /// Takes a pidfd that somebody passed.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, DeathError> {
        // Signal 0 is only checked, not sent; on what is no pidfd the kernel answers EBADF.
        match send_signal(fd.as_fd(), 0) {
            Err(Errno::EBADF) => Err(DeathError::NotAPidFd),
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => Ok(Self(fd)),
            Err(source) => Err(DeathError::System { step: "watch", source }),
        }
    }

    /// Whether the process is gone: no thread of it will ever run again.
    ///
    /// # Errors
    /// The system refused to say.
    pub fn is_dead(&self) -> Result<bool, DeathError> {
        self.wait(Instant::now())
    }

    /// Waits until the process is gone; false if it still lives at the deadline.
    ///
    /// # Errors
    /// The system refused to wait.
    pub fn wait(&self, deadline: Instant) -> Result<bool, DeathError> {
        readiness::wait(&self.0, PollFlags::POLLIN, deadline)
            .map_err(|source| DeathError::System { step: "wait for", source })
    }

    /// Sends a signal. To a process that is gone already there is nothing to send, which is no error.
    ///
    /// # Errors
    /// The process belongs to another user.
    pub fn kill(&self, signal: Signal) -> Result<(), DeathError> {
        match send_signal(self.as_fd(), signal as i32) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(source) => Err(DeathError::System { step: "signal", source }),
        }
    }

    /// How the process ended, for whoever is not its parent. None while it lives, until its parent has reaped it, or
    /// if the kernel is older than Linux 6.15. It stays known for as long as the pidfd is open.
    #[must_use]
    pub fn exit_info(&self) -> Option<Exit> {
        let mut info = PidFdInfo { mask: PidFdInfo::EXIT, ..PidFdInfo::default() };
        // SAFETY: the request carries the size of the structure, so the kernel writes no further; the structure is
        // plain numbers, and lives through the call.
        let answered = unsafe { libc::ioctl(self.0.as_raw_fd(), PidFdInfo::GET, &raw mut info) };
        let known = answered == 0 && info.mask & PidFdInfo::EXIT != 0;
        known.then(|| Exit::from_wait_status(info.exit_code))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// === impl Exit ===

impl Exit {
    const fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// The first published version of the kernel's `struct pidfd_info`; newer kernels take it, and fill as much.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct PidFdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidFdInfo>() == 64, "the kernel refuses another size");

impl PidFdInfo {
    /// Asks for, and says that there is, an exit code.
    const EXIT: u64 = 1 << 3;

    /// `_IOWR(0xFF, 11, struct pidfd_info)`.
    const GET: libc::Ioctl = libc::_IOWR::<Self>(0xFF, 11);
}

fn send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_details = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: takes numbers and a null pointer, which stands for what `kill` would send.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_details, 0) };
    Errno::result(sent).map(drop)
}

/// Takes ownership of a descriptor that a system call has just returned.
fn own(number: libc::c_long) -> Result<OwnedFd, DeathError> {
    let number = RawFd::try_from(number)
        .map_err(|_| DeathError::System { step: "watch", source: Errno::EOVERFLOW })?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    fn shell(script: &str) -> Child {
        Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn pid(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn a_killed_process_is_seen_dead_before_its_parent_reaps_it() {
        let mut child = shell("read forever");
        let process = PidFd::open(pid(&child)).unwrap();
        assert_eq!(process.is_dead(), Ok(false));
        process.kill(Signal::SIGKILL).unwrap();
        assert_eq!(process.wait(soon()), Ok(true));
        assert_eq!(process.exit_info(), None, "not reaped yet");
        child.wait().unwrap();
        assert_eq!(process.is_dead(), Ok(true));
        assert_eq!(process.exit_info(), Some(Exit::Signal(9)));
        assert_eq!(process.kill(Signal::SIGKILL), Ok(()));
    }

    #[test]
    fn the_cause_of_death_of_somebody_elses_child_is_known() {
        // The shell's own child: this process is not its parent, and the shell reaps it.
        for (end, expected) in [("exit 7", Exit::Code(7)), ("kill -ABRT $$", Exit::Signal(6))] {
            // What runs in the background gets the shell's input only under another number.
            let script = format!(
                "exec 3<&0; /bin/sh -c 'echo $$; read go; {end}; :' <&3 & wait $!; echo reaped; read done"
            );
            let mut parent = Command::new("/bin/sh")
                .args(["-c", &script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
            let grandchild = PidFd::open(lines.next().unwrap().unwrap().parse().unwrap()).unwrap();
            assert_eq!(grandchild.exit_info(), None);
            let mut stdin = parent.stdin.take().unwrap();
            std::io::Write::write_all(&mut stdin, b"\n").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), "reaped");
            assert_eq!(grandchild.is_dead(), Ok(true));
            assert_eq!(grandchild.exit_info(), Some(expected));
            drop(stdin);
            parent.wait().unwrap();
        }
    }

    #[test]
    fn a_process_that_lives_outlasts_the_deadline() {
        let mut child = shell("read forever");
        let process = PidFd::open(pid(&child)).unwrap();
        assert_eq!(process.wait(Instant::now() + Duration::from_millis(20)), Ok(false));
        drop(child.stdin.take());
        assert_eq!(process.wait(soon()), Ok(true));
        child.wait().unwrap();
        assert_eq!(PidFd::open(pid(&child)).unwrap_err(), DeathError::NoSuchProcess { pid: pid(&child) });
    }

    #[test]
    fn the_peer_of_a_connection_can_be_watched() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = PidFd::of_peer(&ours).unwrap();
        assert_eq!(peer.is_dead(), Ok(false));
    }

    #[test]
    fn what_is_no_pidfd_is_not_taken_for_one() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        assert_eq!(PidFd::from_fd(file).unwrap_err(), DeathError::NotAPidFd);
        let own = PidFd::open(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(PidFd::from_fd(own.0).unwrap().is_dead(), Ok(false));
    }

    #[test]
    fn an_exit_is_told_in_words() {
        assert_eq!(Exit::Signal(9).to_string(), "killed by SIGKILL");
        assert_eq!(Exit::Signal(40).to_string(), "killed by signal 40");
        assert_eq!(Exit::Code(1).to_string(), "exited with status 1");
    }
}
