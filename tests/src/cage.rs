//! A memory cgroup of its own for a process that a test wants to die of want.

use std::fs;
use std::path::{Path, PathBuf};

/// In either version of cgroups. Removed when it is dropped.
#[derive(Debug)]
pub struct Cage(PathBuf);

// === impl Cage ===

impl Cage {
    /// One in which processes may take so many bytes; none where this process may not make any.
    #[must_use]
    pub fn of(bytes: u64) -> Option<Self> {
        let mounts = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        mounts.iter().find_map(|(mount, limit)| {
            let cage = Self(Path::new(mount).join(format!("remotemedia-test-{}", std::process::id())));
            fs::create_dir(&cage.0).ok()?;
            fs::write(cage.0.join(limit), bytes.to_string()).ok()?;
            Some(cage)
        })
    }

    /// A line of a shell that puts itself there.
    #[must_use]
    pub fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Where the test failed, a worker may still be in it.
        let _removed = fs::remove_dir(&self.0);
    }
}
