//! A memory cgroup for each worker, so that one that takes all memory takes its own.

use std::fs;
use std::path::PathBuf;

/// Where they are made. Dropped when nobody is in them any more, they are gone.
#[derive(Debug)]
pub(crate) struct Cages {
    dir: PathBuf,
    limit: &'static str,
}

/// In either version of cgroups: where memory cgroups are, and how the limit is called there.
const MOUNTS: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// More than a worker of a kind needs.
const RUST_BYTES: u64 = 96 << 20;
const PYTHON_BYTES: u64 = 320 << 20;

// === impl Cages ===

impl Cages {
    /// None where this process may not make any.
    pub(crate) fn find() -> Option<Self> {
        MOUNTS.iter().find_map(|(mount, limit)| {
            let dir = PathBuf::from(mount).join(format!("remotemedia-soak-{}", std::process::id()));
            fs::create_dir(&dir).ok()?;
            let cages = Self { dir, limit };
            let trial = cages.dir.join("trial");
            fs::create_dir(&trial).ok()?;
            let is_limited = fs::write(trial.join(limit), RUST_BYTES.to_string()).is_ok();
            fs::remove_dir(&trial).ok()?;
            is_limited.then_some(cages)
        })
    }

    /// What stands before a worker's command: makes a cage for it, and enters it.
    pub(crate) fn command(&self, kind: &str) -> Vec<String> {
        let Self { dir, limit } = self;
        let bytes = if kind == "python" { PYTHON_BYTES } else { RUST_BYTES };
        let cage = format!("{}/$$", dir.display());
        let script = format!(
            "mkdir {cage} && echo {bytes} > {cage}/{limit} && echo $$ > {cage}/cgroup.procs && exec \"$0\" \"$@\""
        );
        vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
    }
}

impl Drop for Cages {
    fn drop(&mut self) {
        let cages = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for cage in cages.filter(|entry| entry.path().is_dir()) {
            // One that somebody is in stays, and with it the directory.
            let _removed = fs::remove_dir(cage.path());
        }
        let _removed = fs::remove_dir(&self.dir);
    }
}
