//! The files of one frame pool, as the gateway keeps them.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{OFlag, SealFlag, open};
use nix::sys::stat::Mode;

use super::geometry::Geometry;
use super::sealed::{self, SharedFileError};
use crate::slot::PoolId;

/// What the file of lease words is called in errors.
pub(super) const WORDS: &str = "lease words";

/// What the payload file is called in errors.
pub(super) const PAYLOAD: &str = "payloads";

/// A frame pool's two files. The gateway keeps them for as long as the pool exists: whoever else has a mapping of
/// them keeps the memory, but nobody new can get one.
#[derive(Debug)]
pub struct PoolFiles {
    /// Lease words; every process maps them writable.
    pub words: OwnedFd,
    /// Stamps and payloads; only the producer maps them writable.
    pub payload: OwnedFd,
}

impl PoolFiles {
    /// Makes both files, reserved in full and charged to this process.
    ///
    /// # Errors
    /// The system has no memory, or no file descriptor, left. Beyond a cgroup's limit there is no error but a
    /// SIGKILL: ask [`super::budget::check`] first.
    pub fn create(pool: PoolId, geometry: &Geometry) -> Result<Self, SharedFileError> {
        let PoolId(number) = pool;
        let words =
            sealed::create(WORDS, &format!("remotemedia-words-{number}"), geometry.words_file_bytes())?;
        // All write to the words, so no one may ever seal them against writing.
        sealed::seal(WORDS, &words, SealFlag::F_SEAL_SEAL)?;
        let payload =
            sealed::create(PAYLOAD, &format!("remotemedia-pool-{number}"), geometry.payload_file_bytes())?;
        Ok(Self { words, payload })
    }

    /// Closes the payload to new writers, for ever. The producer has mapped it by now and writes on through its
    /// mapping; nobody else can map it writable, write to it or punch holes into it.
    ///
    /// # Errors
    /// The system refused.
    pub fn seal_against_writers(&self) -> Result<(), SharedFileError> {
        sealed::seal(PAYLOAD, &self.payload, SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL)
    }

    /// A descriptor of the payload file for readers.
    ///
    /// # Errors
    /// `/proc` is not mounted, or no file descriptor is left.
    pub fn payload_read_only(&self) -> Result<OwnedFd, SharedFileError> {
        let path = format!("/proc/self/fd/{}", self.payload.as_raw_fd());
        open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|source| SharedFileError::System { file: PAYLOAD, step: "reopen", source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::{Command, Stdio};
    use std::sync::atomic::Ordering;

    use nix::errno::Errno;
    use nix::unistd::{ftruncate, write};

    use super::super::geometry::SizeClass;
    use super::super::mapping::{Access, Mapping};
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(vec![SizeClass { block_bytes: 4096, blocks: 8 }]).unwrap()
    }

    fn sealed_files() -> PoolFiles {
        let files = PoolFiles::create(PoolId(7), &geometry()).unwrap();
        files.seal_against_writers().unwrap();
        files
    }

    #[test]
    fn every_page_is_reserved_at_creation() {
        let files = PoolFiles::create(PoolId(1), &geometry()).unwrap();
        for file in [files.words, files.payload] {
            let metadata = std::fs::File::from(file).metadata().unwrap();
            assert!(metadata.blocks() * 512 >= metadata.len());
        }
    }

    #[test]
    fn neither_file_can_be_resized() {
        let files = PoolFiles::create(PoolId(1), &geometry()).unwrap();
        for file in [&files.words, &files.payload] {
            assert_eq!(ftruncate(file, 0), Err(Errno::EPERM));
            assert_eq!(ftruncate(file, 1 << 20), Err(Errno::EPERM));
        }
    }

    #[test]
    fn a_producer_writes_on_after_the_payload_is_closed_to_writers() {
        let files = PoolFiles::create(PoolId(1), &geometry()).unwrap();
        let producer =
            Mapping::new(&files.payload, geometry().payload_file_bytes(), Access::ReadWrite).unwrap();
        files.seal_against_writers().unwrap();
        let reader =
            Mapping::new(files.payload_read_only().unwrap(), geometry().payload_file_bytes(), Access::Read)
                .unwrap();
        producer.atomic_u64(8).store(42, Ordering::Relaxed);
        assert_eq!(reader.atomic_u64(8).load(Ordering::Relaxed), 42);
    }

    #[test]
    fn after_sealing_even_a_writable_descriptor_gives_no_way_to_write() {
        let files = sealed_files();
        let refused = Mapping::new(&files.payload, geometry().payload_file_bytes(), Access::ReadWrite);
        assert_eq!(refused.err(), Some(Errno::EPERM));
        assert_eq!(write(&files.payload, b"x"), Err(Errno::EPERM));
        let punch = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
            | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert_eq!(nix::fcntl::fallocate(&files.payload, punch, 0, 4096), Err(Errno::EPERM));
        assert_eq!(
            sealed::seal(PAYLOAD, &files.payload, SealFlag::F_SEAL_WRITE),
            Err(SharedFileError::System { file: PAYLOAD, step: "seal", source: Errno::EPERM })
        );
    }

    /// Has another process write to the payload, through a descriptor that it opens anew from a reader's.
    fn reopened_and_written(files: &PoolFiles) -> bool {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "printf damage 1<>/proc/self/fd/0"]).stderr(Stdio::null());
        shell.stdin(Stdio::from(files.payload_read_only().unwrap())).status().unwrap().success()
    }

    #[test]
    fn another_process_that_reopens_a_readers_descriptor_cannot_write() {
        let files = PoolFiles::create(PoolId(7), &geometry()).unwrap();
        let reader =
            Mapping::new(files.payload_read_only().unwrap(), geometry().payload_file_bytes(), Access::Read)
                .unwrap();
        let first_bytes = || reader.atomic_u64(0).load(Ordering::Relaxed);
        assert!(reopened_and_written(&files), "nothing but the seal protects the payload");
        assert_eq!(first_bytes(), u64::from_le_bytes(*b"damage\0\0"));

        let files = sealed_files();
        let reader =
            Mapping::new(files.payload_read_only().unwrap(), geometry().payload_file_bytes(), Access::Read)
                .unwrap();
        assert!(!reopened_and_written(&files));
        assert_eq!(reader.atomic_u64(0).load(Ordering::Relaxed), 0);
    }
}
