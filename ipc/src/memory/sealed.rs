//! A memfd that is reserved in full and can neither shrink nor grow: one that is safe to map on a stranger's word.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, fstat};

/// Why a file of shared memory could not be made or may not be mapped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SharedFileError {
    /// A file of another size than was agreed: to map it would be to ask for SIGBUS.
    #[error("the file of {file} has {found} bytes, expected {expected}")]
    Size {
        /// What the file is for.
        file: &'static str,
        /// Its size.
        found: i64,
        /// The size that follows from the geometry.
        expected: u64,
    },
    /// A file that its maker could still shrink under us, or that is no memfd.
    #[error(
        "the file of {file} is not sealed against shrinking and growing: only the gateway's own memfds are mapped"
    )]
    Unsealed {
        /// What the file is for.
        file: &'static str,
    },
    /// The system refused.
    #[error("cannot {step} the file of {file}")]
    System {
        /// What the file is for.
        file: &'static str,
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: Errno,
    },
}

/// The seals that make a file safe to map: without them whoever holds it could shrink it, and readers get SIGBUS.
const FIXED_SIZE: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// Makes a file of `bytes` that exist from now on, charged to this process. The caller has compared the size with
/// the limits first ([`super::budget::check`]): beyond a cgroup's limit this is a SIGKILL and no error.
pub(super) fn create(file: &'static str, name: &str, bytes: u64) -> Result<OwnedFd, SharedFileError> {
    let system = |step| move |source| SharedFileError::System { file, step, source };
    let fd =
        memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(system("create"))?;
    let length = i64::try_from(bytes).map_err(|_| system("reserve")(Errno::EFBIG))?;
    // A signal (of a profiler, say) may interrupt a long reservation; it then starts anew, over pages already there.
    while let Err(source) = fallocate(&fd, FallocateFlags::empty(), 0, length) {
        if source != Errno::EINTR {
            return Err(system("reserve")(source));
        }
    }
    seal(file, &fd, FIXED_SIZE)?;
    Ok(fd)
}

pub(super) fn seal(file: &'static str, fd: impl AsFd, seals: SealFlag) -> Result<(), SharedFileError> {
    match fcntl(fd, FcntlArg::F_ADD_SEALS(seals)) {
        Ok(_) => Ok(()),
        Err(source) => Err(SharedFileError::System { file, step: "seal", source }),
    }
}

/// Checks what a mapping relies on, in the order that leaves no gap: a sealed size is then a true one.
pub(super) fn check(file: &'static str, fd: impl AsFd, expected: u64) -> Result<FileStat, SharedFileError> {
    let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_| SharedFileError::Unsealed { file })?;
    if !SealFlag::from_bits_retain(seals).contains(FIXED_SIZE) {
        return Err(SharedFileError::Unsealed { file });
    }
    let stat = fstat(&fd).map_err(|source| SharedFileError::System { file, step: "examine", source })?;
    if u64::try_from(stat.st_size) != Ok(expected) {
        return Err(SharedFileError::Size { file, found: stat.st_size, expected });
    }
    Ok(stat)
}
