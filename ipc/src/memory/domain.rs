//! The one file that all processes of a domain share: who is alive, what was handled, who sleeps, what credit is left,
//! and which calls of nodes are under way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::fcntl::SealFlag;

use super::map::{map_checked, refused};
use super::mapping::{Access, Mapping};
use super::sealed::{self, SharedFileError};
use crate::lease::DomainCells;
use crate::slot::{SLOTS, Slot};

/// Edges between processes that can have credit at one time, over all sessions.
pub const EDGES: u32 = 8192;

/// Calls of nodes that a process can be in at one time and be known to be in: one for each of its node threads.
pub const CALLS: usize = 16;

/// The version of the domain file's layout. It changes whenever an offset below does.
pub const LAYOUT: u64 = 3;

/// "rmdomain", as it lies in memory on our little-endian machines.
const MAGIC: u64 = u64::from_le_bytes(*b"rmdomain");

const FILE: &str = "the domain";

/// Cells of different writers never share a cache line.
const LINE: usize = 64;

/// One receiver's acknowledgements: whole lines, with one writer.
const ACK_ROW: usize = (SLOTS * size_of::<u64>()).next_multiple_of(LINE);

const MAGIC_AT: usize = 0;
const LAYOUT_AT: usize = 8;
const BOOT_AT: usize = 16;
const STATES_AT: usize = LINE;
const ASLEEP_AT: usize = STATES_AT + SLOTS * LINE;
const ACKS_AT: usize = ASLEEP_AT + SLOTS * LINE;
const CREDITS_AT: usize = ACKS_AT + SLOTS * ACK_ROW;
const CALLS_AT: usize = CREDITS_AT + EDGES as usize * LINE;
const BYTES: usize = (CALLS_AT + SLOTS * CALLS * LINE).next_multiple_of(4096);

/// The domain file, mapped. Made by the gateway anew at each boot, passed to every process it admits.
pub struct Domain {
    fd: OwnedFd,
    mapping: Mapping,
    boot: u64,
}

/// Why a file cannot be joined as a domain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DomainError {
    /// It is no file of the right kind and size.
    #[error(transparent)]
    File(#[from] SharedFileError),
    /// It is something else.
    #[error("not a domain file: it begins with {found:#018x}, expected {MAGIC:#018x}")]
    Magic {
        /// Its first eight bytes as a number.
        found: u64,
    },
    /// Gateway and worker were built from different versions.
    #[error(
        "the gateway's domain has layout {found}, this process knows {LAYOUT}: install the same version for both"
    )]
    Layout {
        /// The gateway's layout.
        found: u64,
    },
}

impl Domain {
    /// Makes the domain of one boot of the gateway: nobody alive, nothing acknowledged, no credit.
    ///
    /// # Errors
    /// The system has no memory, or no file descriptor, left.
    pub fn create(boot: u64) -> Result<Self, DomainError> {
        let fd = sealed::create(FILE, "remotemedia-domain", BYTES as u64)?;
        // All write to it, so no one may ever seal it against writing.
        sealed::seal(FILE, &fd, SealFlag::F_SEAL_SEAL)?;
        let mapping = map_file(&fd)?;
        mapping.atomic_u64(LAYOUT_AT).store(LAYOUT, Ordering::Relaxed);
        mapping.atomic_u64(BOOT_AT).store(boot, Ordering::Relaxed);
        mapping.atomic_u64(MAGIC_AT).store(MAGIC, Ordering::Release);
        Ok(Self { fd, mapping, boot })
    }

    /// Joins the domain whose file the gateway passed.
    ///
    /// # Errors
    /// It is not a domain file, or one of another layout.
    pub fn map(fd: OwnedFd) -> Result<Self, DomainError> {
        let mapping = map_file(&fd)?;
        let magic = mapping.atomic_u64(MAGIC_AT).load(Ordering::Acquire);
        if magic != MAGIC {
            return Err(DomainError::Magic { found: magic });
        }
        let layout = mapping.atomic_u64(LAYOUT_AT).load(Ordering::Relaxed);
        if layout != LAYOUT {
            return Err(DomainError::Layout { found: layout });
        }
        let boot = mapping.atomic_u64(BOOT_AT).load(Ordering::Relaxed);
        Ok(Self { fd, mapping, boot })
    }

    /// The file, to be passed to a process that is admitted.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Which boot of the gateway the domain belongs to, as it was when this process joined.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// Incarnation and state of a slot; only the gateway writes it.
    #[must_use]
    pub fn state(&self, slot: Slot) -> &AtomicU32 {
        self.mapping.atomic_u32(STATES_AT + slot.index() * LINE)
    }

    /// What `receiver` has handled of what `sender` sent it; only the receiver writes it.
    #[must_use]
    pub fn ack(&self, receiver: Slot, sender: Slot) -> &AtomicU64 {
        let row = ACKS_AT + receiver.index() * ACK_ROW;
        self.mapping.atomic_u64(row + sender.index() * size_of::<u64>())
    }

    /// Whether the process in a slot sleeps on its doorbell (see [`crate::doorbell`]).
    #[must_use]
    pub fn asleep(&self, slot: Slot) -> &AtomicU32 {
        self.mapping.atomic_u32(ASLEEP_AT + slot.index() * LINE)
    }

    /// The credit cell of an edge; none if the number, which may come from a peer, is not below [`EDGES`].
    #[must_use]
    pub fn credit(&self, edge: u32) -> Option<&AtomicU64> {
        let edge = usize::try_from(edge).ok().filter(|edge| *edge < EDGES as usize)?;
        Some(self.mapping.atomic_u64(CREDITS_AT + edge * LINE))
    }

    /// The four words of one of a process's places for calls (see [`crate::calls`]); none if it has fewer. Only the
    /// process in the slot writes them, and the gateway when nobody is there.
    #[must_use]
    pub fn call(&self, slot: Slot, place: usize) -> Option<[&AtomicU64; 6]> {
        let line = CALLS_AT + (slot.index() * CALLS + Some(place).filter(|place| *place < CALLS)?) * LINE;
        Some([0, 1, 2, 3, 4, 5].map(|word| self.mapping.atomic_u64(line + word * size_of::<u64>())))
    }
}

fn map_file(fd: &OwnedFd) -> Result<Mapping, DomainError> {
    let (mapping, _) = map_checked(FILE, fd, BYTES as u64, Access::ReadWrite)?;
    mapping.keep_from_children().map_err(refused(FILE))?;
    Ok(mapping)
}

impl DomainCells for Domain {
    fn state(&self, slot: Slot) -> &AtomicU32 {
        Self::state(self, slot)
    }

    fn ack(&self, receiver: Slot, sender: Slot) -> &AtomicU64 {
        Self::ack(self, receiver, sender)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn joined(domain: &Domain) -> Result<Domain, DomainError> {
        Domain::map(domain.fd().try_clone_to_owned().unwrap())
    }

    #[test]
    fn what_one_process_writes_the_others_read() {
        let gateway = Domain::create(77).unwrap();
        let worker = joined(&gateway).unwrap();
        let (a, b) = (Slot::new(1).unwrap(), Slot::new(39).unwrap());
        gateway.state(b).store(5, Ordering::Release);
        worker.ack(b, a).store(6, Ordering::Release);
        worker.asleep(b).store(1, Ordering::Release);
        worker.credit(EDGES - 1).unwrap().store(7, Ordering::Release);
        assert_eq!(worker.boot(), 77);
        assert_eq!(worker.state(b).load(Ordering::Acquire), 5);
        assert_eq!(gateway.ack(b, a).load(Ordering::Acquire), 6);
        assert_eq!(gateway.ack(a, b).load(Ordering::Acquire), 0);
        assert_eq!(gateway.asleep(b).load(Ordering::Acquire), 1);
        assert_eq!(gateway.credit(EDGES - 1).unwrap().load(Ordering::Acquire), 7);
        assert!(gateway.credit(EDGES).is_none());
        worker.call(b, CALLS - 1).unwrap()[5].store(8, Ordering::Release);
        assert_eq!(gateway.call(b, CALLS - 1).unwrap()[5].load(Ordering::Acquire), 8);
        assert!(gateway.call(b, CALLS).is_none());
    }

    #[test]
    fn no_two_cells_overlap_and_no_two_writers_share_a_cache_line() {
        let domain = Domain::create(1).unwrap();
        let mut cells = BTreeSet::new();
        let mut lines = BTreeSet::new();
        for slot in Slot::all() {
            assert!(lines.insert(domain.state(slot).as_ptr().addr() / LINE));
            assert!(lines.insert(domain.asleep(slot).as_ptr().addr() / LINE));
            let row: BTreeSet<usize> =
                Slot::all().map(|sender| domain.ack(slot, sender).as_ptr().addr()).collect();
            assert_eq!(row.len(), SLOTS);
            let row_lines: BTreeSet<usize> = row.iter().map(|cell| cell / LINE).collect();
            assert!(row_lines.into_iter().all(|line| lines.insert(line)));
            cells.extend(row);
        }
        for edge in 0..EDGES {
            assert!(lines.insert(domain.credit(edge).unwrap().as_ptr().addr() / LINE));
        }
        for (slot, place) in Slot::all().flat_map(|slot| (0..CALLS).map(move |place| (slot, place))) {
            let words = domain.call(slot, place).unwrap();
            assert!(lines.insert(words[0].as_ptr().addr() / LINE));
            assert!(words.iter().all(|word| word.as_ptr().addr() / LINE == words[0].as_ptr().addr() / LINE));
        }
        assert_eq!(cells.len(), SLOTS * SLOTS);
        assert_eq!(lines.len(), 2 * SLOTS + SLOTS * ACK_ROW / LINE + EDGES as usize + SLOTS * CALLS);
        assert!(!lines.contains(&(domain.mapping.base().addr().get() / LINE)), "the header has its own line");
    }

    #[test]
    fn a_file_of_another_kind_or_version_is_named_as_such() {
        let domain = Domain::create(1).unwrap();
        domain.mapping.atomic_u64(LAYOUT_AT).store(LAYOUT + 1, Ordering::Relaxed);
        assert_eq!(joined(&domain).err(), Some(DomainError::Layout { found: LAYOUT + 1 }));
        domain.mapping.atomic_u64(MAGIC_AT).store(3, Ordering::Relaxed);
        assert_eq!(joined(&domain).err(), Some(DomainError::Magic { found: 3 }));
        let other = sealed::create(FILE, "remotemedia-other", 4096).unwrap();
        assert!(matches!(
            Domain::map(other),
            Err(DomainError::File(SharedFileError::Size { found: 4096, .. }))
        ));
    }
}
