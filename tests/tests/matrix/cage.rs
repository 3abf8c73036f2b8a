//! A memory cgroup for one worker, so that its want of memory is its own.

use std::fs;
use std::path::PathBuf;

use crate::ground::Ground;
use crate::table::{Fault, Row};

/// Dropped when nobody is in it any more, it is gone.
#[derive(Debug)]
pub(crate) struct Cage(Option<PathBuf>);

/// More than a worker that works needs, and little to use up.
const LIMIT: &str = "33554432";

/// Where memory cgroups are made in either version, and how the limit is called there.
const MOUNTS: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

// === impl Cage ===

impl Cage {
    /// One around the victim of a row that takes all memory, and none around others.
    ///
    /// # Errors
    /// It needs one, and none can be made.
    pub(crate) fn around(ground: &Ground, row: Row) -> Result<Self, &'static str> {
        if row.fault != Fault::OutOfMemory {
            return Ok(Self(None));
        }
        let pid = ground.victim_pid();
        let made = MOUNTS.iter().find_map(|(mount, limit)| {
            let dir = PathBuf::from(mount).join(format!("remotemedia-matrix-{}-{pid}", std::process::id()));
            fs::create_dir(&dir).ok()?;
            let cage = Self(Some(dir.clone()));
            fs::write(dir.join(limit), LIMIT).ok()?;
            fs::write(dir.join("cgroup.procs"), pid.to_string()).ok()?;
            Some(cage)
        });
        let made = made.ok_or("no memory cgroup can be made here")?;
        ground.plant.is_caged(pid);
        Ok(made)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if let Self(Some(dir)) = self {
            // Where the case failed, its worker may still be in it.
            let _removed = fs::remove_dir(dir);
        }
    }
}
