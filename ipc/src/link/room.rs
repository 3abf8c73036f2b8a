//! Room in `/dev/shm`: asked for before files are made, and reserved in them before they are used.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::error::LinkError;
use super::residue::{SHARED_MEMORY, Territory};

/// What a node's own shared file takes, in bytes, with room to spare.
pub(super) const FOR_A_NODE: u64 = 64 << 10;

/// What a link's service takes, in bytes, with room to spare.
pub(super) const FOR_A_SERVICE: u64 = 64 << 10;

/// What a sender's data and connection take for each descriptor, in bytes: some 310 for the sample with its header, and
/// some 25 in the queues.
const PER_DESCRIPTOR: u64 = 384;

/// What a sender takes, in bytes, with room to spare.
pub(super) fn for_a_sender(capacity: usize) -> u64 {
    let capacity = u64::try_from(capacity).unwrap_or(u64::MAX);
    capacity.saturating_mul(PER_DESCRIPTOR).saturating_add(FOR_A_SERVICE)
}

/// Whether twice as much is free.
pub(super) fn ask(bytes: u64) -> Result<(), LinkError> {
    let failed = |errno| LinkError::Reserve { path: SHARED_MEMORY.into(), source: io::Error::from(errno) };
    let state = statvfs(SHARED_MEMORY).map_err(failed)?;
    let needed = bytes.saturating_mul(2);
    let available = state.blocks_available().saturating_mul(state.fragment_size());
    // A tmpfs that was given no size has no blocks to count.
    if state.blocks() == 0 || available >= needed {
        Ok(())
    } else {
        Err(LinkError::NoRoom { needed, available })
    }
}

/// Gives every shared file that has `id` in its name all of its pages, so that touching them cannot be a SIGBUS.
pub(super) fn reserve(files: &Territory, id: u128) -> Result<(), LinkError> {
    let failed = |source| LinkError::Reserve { path: SHARED_MEMORY.into(), source };
    for path in files.shared_files_of(id).map_err(failed)? {
        populate(&path).map_err(|source| LinkError::Reserve { path: path.clone(), source })?;
    }
    Ok(())
}

fn populate(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = i64::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length == 0 {
        return Ok(());
    }
    Ok(fallocate(&file, FallocateFlags::empty(), 0, length)?)
}
