//! One file mapped into this process, and the only way to its bytes.
#![expect(unsafe_code, reason = "mapping files and lending atomics in them is what this module is for")]

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use nix::errno::Errno;
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::unistd::{Pid, getpid};

/// A shared mapping of a whole file. Unmapped on drop, by the process that mapped it.
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: NonZeroUsize,
    /// In a forked child the range may be absent ([`Mapping::keep_from_children`]) or, worse, hold something else.
    owner: Pid,
}

/// What this process may do with the mapped bytes.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// Only loads; a store is SIGSEGV.
    Read,
    ReadWrite,
}

// SAFETY: the mapping belongs to the process and not to a thread; the fields never change after construction, and
// all that is lent is atomics and raw pointers.
unsafe impl Send for Mapping {}

// SAFETY: as above: no method changes a field, and shared access to the bytes is by atomics or raw pointers.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of the file, of which the caller knows that they exist and cannot be taken away.
    pub(super) fn new(file: impl AsFd, len: u64, access: Access) -> Result<Self, Errno> {
        let len = usize::try_from(len).ok().and_then(NonZeroUsize::new).ok_or(Errno::EINVAL)?;
        let protection = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        // SAFETY: the kernel chooses a fresh range (no MAP_FIXED), so nothing that exists is replaced.
        let base = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { base: base.cast(), len, owner: getpid() })
    }

    /// A forked child does not inherit the mapping: it must not touch its parent's leases.
    pub(super) fn keep_from_children(&self) -> Result<(), Errno> {
        self.advise(MmapAdvise::MADV_DONTFORK)
    }

    /// The bytes stay out of core dumps. The kernel writes a dump before it lets the death be seen, and gigabytes of
    /// frames would delay that by seconds.
    pub(super) fn keep_from_core_dumps(&self) -> Result<(), Errno> {
        self.advise(MmapAdvise::MADV_DONTDUMP)
    }

    pub(super) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) const fn len(&self) -> usize {
        self.len.get()
    }

    /// # Panics
    /// `offset` is not below [`Self::len`].
    pub(super) fn pointer(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len.get(), "byte {offset} of a mapping of {}", self.len);
        // SAFETY: the offset was just checked to lie within the one mapped range.
        unsafe { self.base.add(offset) }
    }

    /// A cell of the file.
    ///
    /// In a mapping with [`Access::Read`] the cell may only be loaded, and with relaxed order: that much Rust promises
    /// on read-only memory, on the 64-bit machines we run on.
    ///
    /// # Panics
    /// The cell would reach over the end, or is misaligned.
    pub(super) fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        let cell = self.cell::<AtomicU64>(offset);
        // SAFETY: `cell` checked range and alignment; every process touches these bytes by atomics of this size only;
        // the reference borrows the mapping, so the range outlives it.
        unsafe { cell.as_ref() }
    }

    /// As [`Self::atomic_u64`], for half the size.
    pub(super) fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let cell = self.cell::<AtomicU32>(offset);
        // SAFETY: as in `atomic_u64`.
        unsafe { cell.as_ref() }
    }

    fn cell<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset.checked_add(size_of::<T>());
        assert!(
            end.is_some_and(|end| end <= self.len.get()),
            "cell at {offset} of a mapping of {}",
            self.len
        );
        let cell = self.pointer(offset).cast::<T>();
        assert!(cell.is_aligned(), "cell at {offset} is misaligned");
        cell
    }

    fn advise(&self, advice: MmapAdvise) -> Result<(), Errno> {
        // SAFETY: the range is our own mapping, and the advice given here changes what children and core dumps get,
        // never the bytes.
        unsafe { madvise(self.base.cast::<c_void>(), self.len.get(), advice) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if getpid() != self.owner {
            return;
        }
        // SAFETY: the range is our own mapping, made by this process; all that was lent from it borrowed `self`, and
        // raw pointers given out are documented to end with it.
        let unmapped = unsafe { munmap(self.base.cast::<c_void>(), self.len.get()) };
        debug_assert_eq!(unmapped, Ok(()), "own mapping is unmapped once");
    }
}
