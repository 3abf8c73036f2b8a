//! How a process that sleeps is woken: an eventfd, and a flag in the domain file that says whether to ring it.
//!
//! # Why no push is slept through
//!
//! A sender pushes, then looks at the flag. A receiver sets the flag, then looks into its links. Each writes one
//! place and then reads the other's, so at least one of them sees the other's write, provided that neither's read
//! overtakes its own write. Release and acquire do not forbid that (a store may wait in the store buffer while a
//! later load of another place is answered); a sequentially consistent fence between the two does, on both sides:
//!
//! | sender ([`ring_if_asleep`]) | receiver |
//! | --- | --- |
//! | push | [`arm`]: flag = 1 |
//! | fence | fence |
//! | flag is 1: swap it to 0, ring if it was | look into all links: found something: [`disarm`], work |
//! | | nothing: [`Doorbell::wait`], at most [`TICK`]; then [`disarm`], [`Doorbell::drain`], look again |
//!
//! Of several senders one wins the swap, so a sleeper is rung once. A sender that is killed between swap and ring
//! takes the wake-up with it: that is what the tick is for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, readlink};
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{read, write};

use crate::readiness;

/// Longest sleep on a doorbell: what a message waits whose sender died between swap and ring.
pub const TICK: Duration = Duration::from_millis(10);

/// A process's doorbell: rung by any number of senders, readable (see [`AsFd`]) until drained by its owner.
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

/// Why there is no doorbell.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DoorbellError {
    /// A descriptor on which ringing could do anything, such as block.
    #[error("the descriptor is not an eventfd")]
    NotAnEventFd,
    /// The system refused.
    #[error("cannot {step} a doorbell")]
    System {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: Errno,
    },
}

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// Wakes a receiver if it sleeps. To be called after the push, by the thread that pushed.
pub fn ring_if_asleep(asleep: &AtomicU32, bell: &Doorbell) {
    fence(Ordering::SeqCst);
    // The load keeps the line shared while the receiver is awake, as it is under load.
    if asleep.load(Ordering::Relaxed) == ASLEEP && asleep.swap(AWAKE, Ordering::Relaxed) == ASLEEP {
        bell.ring();
    }
}

/// Says that this process is about to sleep. It must now look into all its links once more, and sleep only if they
/// are empty.
pub fn arm(asleep: &AtomicU32) {
    asleep.store(ASLEEP, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Says that this process is awake: senders need not ring. One that has won the swap may still ring; the next sleep
/// then ends at once.
pub fn disarm(asleep: &AtomicU32) {
    asleep.store(AWAKE, Ordering::Relaxed);
}

// === impl Doorbell ===

impl Doorbell {
    /// Makes a doorbell, close-on-exec and non-blocking.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> Result<Self, DoorbellError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell =
            EventFd::from_flags(flags).map_err(|source| DoorbellError::System { step: "make", source })?;
        Ok(Self(bell.into()))
    }

    /// Takes a doorbell that a peer passed.
    ///
    /// # Errors
    /// It is something else, or `/proc` is not mounted.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, DoorbellError> {
        let system = |source| DoorbellError::System { step: "examine", source };
        let kind = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str()).map_err(system)?;
        if kind != "anon_inode:[eventfd]" {
            return Err(DoorbellError::NotAnEventFd);
        }
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).map_err(system)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(system)?;
        Ok(Self(fd))
    }

    /// Rings. Rings that nobody has heard yet become one.
    pub fn ring(&self) {
        // EAGAIN: rung 2^64 - 2 times and never drained, so the owner will hear it.
        match write(&self.0, &1_u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => unreachable!("an eventfd of our own refused to count: {errno}"),
        }
    }

    /// Silences the bell, by its owner, before it looks into its links; says whether it had been rung.
    pub fn drain(&self) -> bool {
        match read(&self.0, &mut [0; 8]) {
            Ok(_) => true,
            Err(Errno::EAGAIN) => false,
            Err(errno) => unreachable!("an eventfd of our own refused to be read: {errno}"),
        }
    }

    /// Waits for a ring; false if there is none by the deadline. Does not drain.
    ///
    /// # Errors
    /// The system refused to wait.
    pub fn wait(&self, deadline: Instant) -> Result<bool, DoorbellError> {
        readiness::wait(&self.0, PollFlags::POLLIN, deadline)
            .map_err(|source| DoorbellError::System { step: "wait for", source })
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn rings_become_one_until_drained() {
        let bell = Doorbell::new().unwrap();
        let passed = Doorbell::from_fd(bell.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert!(!bell.drain());
        passed.ring();
        passed.ring();
        assert_eq!(bell.wait(Instant::now()), Ok(true));
        assert!(bell.drain());
        assert!(!bell.drain());
        assert_eq!(bell.wait(Instant::now()), Ok(false));
    }

    #[test]
    fn a_bell_rung_to_the_end_of_its_count_neither_blocks_nor_fails() {
        let bell = Doorbell::new().unwrap();
        write(&bell.0, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        bell.ring();
        assert!(bell.drain());
    }

    #[test]
    fn what_is_no_eventfd_is_no_doorbell() {
        let (end, _other) = nix::unistd::pipe().unwrap();
        assert_eq!(Doorbell::from_fd(end).unwrap_err(), DoorbellError::NotAnEventFd);
    }

    #[test]
    fn a_bell_that_a_peer_made_blocking_does_not_block() {
        let peers = OwnedFd::from(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap());
        assert!(!Doorbell::from_fd(peers).unwrap().drain());
    }

    #[test]
    fn only_a_sleeper_is_rung_and_only_once() {
        let (bell, asleep) = (Doorbell::new().unwrap(), AtomicU32::new(AWAKE));
        ring_if_asleep(&asleep, &bell);
        assert!(!bell.drain());
        arm(&asleep);
        ring_if_asleep(&asleep, &bell);
        assert_eq!(asleep.load(Ordering::Relaxed), AWAKE);
        ring_if_asleep(&asleep, &bell);
        assert_eq!(read(&bell.0, &mut [0; 8]), Ok(8));
        arm(&asleep);
        disarm(&asleep);
        ring_if_asleep(&asleep, &bell);
        assert!(!bell.drain());
    }

    /// One side of a conversation in which every turn waits for the other's: a push slept through would end it.
    fn converse(turns: u64, inbox: &Side, outbox: &Side, first: bool) {
        let give_up = Instant::now() + Duration::from_secs(2);
        for turn in 1..=turns {
            if first {
                outbox.push(turn);
            }
            while inbox.pushed.load(Ordering::Acquire) < turn {
                arm(&inbox.asleep);
                if inbox.pushed.load(Ordering::Acquire) < turn {
                    assert_eq!(inbox.bell.wait(give_up), Ok(true), "slept through turn {turn}");
                }
                disarm(&inbox.asleep);
                inbox.bell.drain();
            }
            if !first {
                outbox.push(turn);
            }
        }
    }

    struct Side {
        pushed: AtomicU64,
        asleep: AtomicU32,
        bell: Doorbell,
    }

    impl Side {
        fn new() -> Self {
            Self { pushed: AtomicU64::new(0), asleep: AtomicU32::new(AWAKE), bell: Doorbell::new().unwrap() }
        }

        fn push(&self, turn: u64) {
            self.pushed.store(turn, Ordering::Release);
            ring_if_asleep(&self.asleep, &self.bell);
        }
    }

    #[test]
    fn no_push_is_slept_through_without_any_tick() {
        let (left, right) = (Side::new(), Side::new());
        std::thread::scope(|scope| {
            scope.spawn(|| converse(5_000, &left, &right, true));
            scope.spawn(|| converse(5_000, &right, &left, false));
        });
    }
}
