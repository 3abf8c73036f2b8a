//! A frame pool mapped into this process, to produce frames or to read them.

use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::stat::FileStat;

use super::geometry::{Geometry, STAMP_BYTES, WORD_STRIDE};
use super::mapping::{Access, Mapping};
use super::pool::{PAYLOAD, WORDS};
use super::sealed::{self, SharedFileError};
use crate::slot::BlockIndex;

/// The producer's view of its own frame pool: blocks can be written.
pub struct ProducerMap(PoolMap);

/// A consumer's view of a frame pool: the payload is read-only memory, whatever this process does.
pub struct ReaderMap(PoolMap);

/// What both views have in common.
pub struct PoolMap {
    geometry: Geometry,
    words: Mapping,
    payload: Mapping,
    inode: PoolInode,
}

/// Which file a payload is mapped from. Two processes that see the same inode see the same bytes: proof that nothing
/// was copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PoolInode {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

/// Bytes that do not lie in a block of this pool. What a peer's descriptor says is checked by this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OutOfBlock {
    /// The pool has no such block.
    #[error("block {block} does not exist: the frame pool has {blocks}", block = block.0)]
    NoSuchBlock {
        /// The block named.
        block: BlockIndex,
        /// How many there are.
        blocks: u32,
    },
    /// The bytes reach over the block's end.
    #[error("{len} bytes at {offset} of block {block}, which ends at {block_bytes}", block = block.0)]
    BeyondEnd {
        /// The block named.
        block: BlockIndex,
        /// Where the bytes begin.
        offset: u64,
        /// How many there are.
        len: u64,
        /// The block's size.
        block_bytes: u64,
    },
}

// === impl ProducerMap ===

impl ProducerMap {
    /// Maps one's own pool. The descriptors may be closed afterwards.
    ///
    /// # Errors
    /// The files are not what the gateway makes for this geometry, or are closed to writers already.
    pub fn map(geometry: Geometry, words: impl AsFd, payload: impl AsFd) -> Result<Self, SharedFileError> {
        PoolMap::map(geometry, words, payload, Access::ReadWrite).map(Self)
    }

    /// A block's first byte and its size in bytes. Writing is right only between allocating the block and first
    /// sending it, and while this map lives.
    ///
    /// # Panics
    /// There is no such block.
    #[must_use]
    pub fn block(&self, block: BlockIndex) -> (NonNull<u8>, usize) {
        let bytes = to_usize(self.geometry.block_bytes(block));
        (self.payload.pointer(to_usize(self.geometry.offset(block))), bytes)
    }
}

impl Deref for ProducerMap {
    type Target = PoolMap;

    fn deref(&self) -> &PoolMap {
        &self.0
    }
}

// === impl ReaderMap ===

impl ReaderMap {
    /// Maps another process's pool. The descriptors may be closed afterwards.
    ///
    /// # Errors
    /// The files are not what the gateway makes for this geometry.
    pub fn map(geometry: Geometry, words: impl AsFd, payload: impl AsFd) -> Result<Self, SharedFileError> {
        PoolMap::map(geometry, words, payload, Access::Read).map(Self)
    }
}

impl Deref for ReaderMap {
    type Target = PoolMap;

    fn deref(&self) -> &PoolMap {
        &self.0
    }
}

// === impl PoolMap ===

impl PoolMap {
    fn map(
        geometry: Geometry,
        words: impl AsFd,
        payload: impl AsFd,
        access: Access,
    ) -> Result<Self, SharedFileError> {
        let words = map_checked(WORDS, words, geometry.words_file_bytes(), Access::ReadWrite)?.0;
        words.keep_from_children().map_err(refused(WORDS))?;
        let (payload, stat) = map_checked(PAYLOAD, payload, geometry.payload_file_bytes(), access)?;
        payload.keep_from_core_dumps().map_err(refused(PAYLOAD))?;
        let inode = PoolInode { device: stat.st_dev, inode: stat.st_ino };
        Ok(Self { geometry, words, payload, inode })
    }

    /// The pool's size classes.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Which file the payload is.
    #[must_use]
    pub const fn inode(&self) -> PoolInode {
        self.inode
    }

    /// A block's lease word.
    ///
    /// # Panics
    /// There is no such block.
    #[must_use]
    pub fn word(&self, block: BlockIndex) -> &AtomicU64 {
        assert!(self.geometry.contains(block), "block {} of {}", block.0, self.geometry.blocks());
        self.words.atomic_u64(to_usize(u64::from(block.0) * WORD_STRIDE))
    }

    /// The full generation of a block's content. A reader's memory is read-only here: it may load the cell, with
    /// relaxed order (the word orders it), and nothing else.
    ///
    /// # Panics
    /// There is no such block.
    #[must_use]
    pub fn stamp(&self, block: BlockIndex) -> &AtomicU64 {
        assert!(self.geometry.contains(block), "block {} of {}", block.0, self.geometry.blocks());
        self.payload.atomic_u64(to_usize(u64::from(block.0) * STAMP_BYTES))
    }

    /// Where these bytes of a block lie in this process. The pointer is good for `len` bytes while this map lives;
    /// what is there is stable only under a lease.
    ///
    /// # Errors
    /// The block does not exist, or the bytes reach over its end.
    pub fn bytes_at(&self, block: BlockIndex, offset: u64, len: u64) -> Result<*const u8, OutOfBlock> {
        if !self.geometry.contains(block) {
            return Err(OutOfBlock::NoSuchBlock { block, blocks: self.geometry.blocks() });
        }
        let block_bytes = self.geometry.block_bytes(block);
        if offset.checked_add(len).is_none_or(|end| end > block_bytes) || offset == block_bytes {
            return Err(OutOfBlock::BeyondEnd { block, offset, len, block_bytes });
        }
        let pointer = self.payload.pointer(to_usize(self.geometry.offset(block) + offset));
        Ok(pointer.as_ptr().cast_const())
    }

    /// Recognises memory of this pool by its address: in which block `len` bytes at `pointer` lie, and where in it.
    /// None if they are elsewhere, or not wholly in one block.
    #[must_use]
    pub fn locate(&self, pointer: *const u8, len: usize) -> Option<(BlockIndex, u64)> {
        let offset = pointer.addr().checked_sub(self.payload.base().addr().get())?;
        if offset >= self.payload.len() {
            return None;
        }
        let (block, within) = self.geometry.at(u64::try_from(offset).ok()?)?;
        let end = within.checked_add(u64::try_from(len).ok()?)?;
        (end <= self.geometry.block_bytes(block)).then_some((block, within))
    }
}

/// Checks first, maps then: a file of the wrong size is SIGBUS at some later read.
pub(super) fn map_checked(
    file: &'static str,
    fd: impl AsFd,
    bytes: u64,
    access: Access,
) -> Result<(Mapping, FileStat), SharedFileError> {
    let stat = sealed::check(file, &fd, bytes)?;
    let mapping = Mapping::new(&fd, bytes, access).map_err(refused(file))?;
    Ok((mapping, stat))
}

pub(super) fn refused(file: &'static str) -> impl FnOnce(nix::errno::Errno) -> SharedFileError {
    move |source| SharedFileError::System { file, step: "map", source }
}

/// Offsets within a mapping, which the address space held.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a mapped file fits the address space")
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::Ordering;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::unistd::ftruncate;

    use super::super::geometry::SizeClass;
    use super::super::pool::PoolFiles;
    use super::*;
    use crate::slot::PoolId;

    fn geometry() -> Geometry {
        Geometry::new(vec![
            SizeClass { block_bytes: 64, blocks: 3 },
            SizeClass { block_bytes: 4096, blocks: 2 },
        ])
        .unwrap()
    }

    fn pool() -> (ProducerMap, ReaderMap) {
        let files = PoolFiles::create(PoolId(1), &geometry()).unwrap();
        let producer = ProducerMap::map(geometry(), &files.words, &files.payload).unwrap();
        files.seal_against_writers().unwrap();
        let reader = ReaderMap::map(geometry(), &files.words, files.payload_read_only().unwrap()).unwrap();
        (producer, reader)
    }

    fn memfd(len: i64, seals: SealFlag) -> OwnedFd {
        let fd = memfd_create("lie", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&fd, len).unwrap();
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        fd
    }

    #[test]
    fn words_and_stamps_are_the_same_cells_for_both_sides() {
        let (producer, reader) = pool();
        for block in (0..5).map(BlockIndex) {
            reader.word(block).fetch_or(1 << block.0, Ordering::AcqRel);
            producer.stamp(block).store(u64::from(block.0) + 100, Ordering::Relaxed);
        }
        for block in (0..5).map(BlockIndex) {
            assert_eq!(producer.word(block).load(Ordering::Acquire), 1 << block.0);
            assert_eq!(reader.stamp(block).load(Ordering::Relaxed), u64::from(block.0) + 100);
        }
        assert_eq!(producer.inode(), reader.inode());
    }

    #[test]
    fn own_memory_is_recognised_by_its_address() {
        let (producer, reader) = pool();
        for block in (0..5).map(BlockIndex) {
            let (start, bytes) = producer.block(block);
            assert_eq!(start.addr().get() % 64, 0);
            let start = start.as_ptr().cast_const();
            assert_eq!(producer.locate(start, bytes), Some((block, 0)));
            assert_eq!(producer.locate(start.wrapping_add(10), bytes - 10), Some((block, 10)));
            assert_eq!(producer.locate(start.wrapping_add(10), bytes), None);
            assert_eq!(reader.locate(start, bytes), None);
            assert_eq!(producer.bytes_at(block, 10, 20), Ok(start.wrapping_add(10)));
        }
        let outside = 0_u64;
        assert_eq!(producer.locate((&raw const outside).cast(), 8), None);
        assert_eq!(producer.locate(std::ptr::null(), 0), None);
    }

    #[test]
    fn a_descriptors_lies_about_its_bytes_are_refused() {
        let (_, reader) = pool();
        let beyond = |block, offset, len, block_bytes| OutOfBlock::BeyondEnd {
            block: BlockIndex(block),
            offset,
            len,
            block_bytes,
        };
        let no_such = |block| OutOfBlock::NoSuchBlock { block: BlockIndex(block), blocks: 5 };
        let rows = [
            (5, 0, 1, no_such(5)),
            (u32::MAX, 0, 0, no_such(u32::MAX)),
            (0, 0, 65, beyond(0, 0, 65, 64)),
            (0, 64, 0, beyond(0, 64, 0, 64)),
            (2, 1, u64::MAX, beyond(2, 1, u64::MAX, 64)),
            (4, u64::MAX, 1, beyond(4, u64::MAX, 1, 4096)),
        ];
        for (block, offset, len, expected) in rows {
            assert_eq!(reader.bytes_at(BlockIndex(block), offset, len), Err(expected));
        }
        assert!(reader.bytes_at(BlockIndex(0), 0, 64).is_ok());
    }

    #[test]
    fn a_file_that_a_peer_could_shrink_is_not_mapped() {
        let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        let files = PoolFiles::create(PoolId(1), &geometry()).unwrap();
        let size = i64::try_from(geometry().payload_file_bytes()).unwrap();
        let regular = OwnedFd::from(tempfile::tempfile().unwrap());
        let rows = [
            (memfd(size, SealFlag::F_SEAL_GROW), SharedFileError::Unsealed { file: PAYLOAD }),
            (regular, SharedFileError::Unsealed { file: PAYLOAD }),
            (
                memfd(size - 4096, fixed),
                SharedFileError::Size {
                    file: PAYLOAD,
                    found: size - 4096,
                    expected: geometry().payload_file_bytes(),
                },
            ),
        ];
        for (payload, expected) in rows {
            assert_eq!(ReaderMap::map(geometry(), &files.words, payload).err(), Some(expected));
        }
    }
}
