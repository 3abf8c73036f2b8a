//! A memory cgroup for one child and all that it starts, where this process may make one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_ipc::memory::MemoryGroup;

/// A cgroup that was made here. It is removed by [`Cell::clear`], when nobody is in it any more; dropped, it is killed and
/// removed if that goes at once.
#[derive(Debug)]
pub(super) struct Cell {
    dir: PathBuf,
    /// Whoever writes 0 into it is in the cgroup.
    door: File,
}

/// How the names of cells begin.
const PREFIX: &str = "remotemedia-";

// === impl Cell ===

impl Cell {
    /// One beside this process, or below it, whose members together may use so much memory, without swap. Frame pools do
    /// not count: the gateway has paid for their pages.
    ///
    /// # Errors
    /// No memory cgroup can be made here.
    pub(super) fn make(name: &str, memory_bytes: u64) -> io::Result<Self> {
        let ours = MemoryGroup::of(std::process::id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        let dir = ours.directory().to_owned();
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        if ours.is_of_version_2() {
            // A cgroup with processes in it may have none below it that limit memory, unless it is the root.
            let beside = dir.parent().into_iter().map(Path::to_owned);
            let base = std::iter::once(dir.clone()).chain(beside).find(|base| gives_memory(base));
            let dir = base.ok_or(io::ErrorKind::Unsupported)?.join(name);
            Self::made(
                dir,
                &[("memory.max", memory_bytes)],
                &[("memory.swap.max", 0), ("memory.oom.group", 1)],
            )
        } else {
            let limit = [("memory.limit_in_bytes", memory_bytes)];
            Self::made(dir.join(name), &limit, &[("memory.memsw.limit_in_bytes", memory_bytes)])
        }
    }

    /// The second settings are of use where the kernel knows them.
    fn made(dir: PathBuf, limits: &[(&str, u64)], wishes: &[(&str, u64)]) -> io::Result<Self> {
        fs::create_dir(&dir)?;
        let set = |(file, value): &(&str, u64)| fs::write(dir.join(file), value.to_string());
        let door = limits.iter().try_for_each(set).and_then(|()| {
            wishes.iter().for_each(|wish| set(wish).unwrap_or_default());
            OpenOptions::new().write(true).open(dir.join("cgroup.procs"))
        });
        match door {
            Ok(door) => Ok(Self { dir, door }),
            Err(error) => {
                // Nobody is in it.
                fs::remove_dir(&dir).unwrap_or_default();
                Err(error)
            }
        }
    }

    /// Removes those that launchers have left that are dead, and whoever lives in them.
    pub(super) fn sweep() {
        let Some(ours) = MemoryGroup::of(std::process::id().cast_signed()) else { return };
        let dirs = [Some(ours.directory()), ours.directory().parent()];
        let entries =
            dirs.into_iter().flatten().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        for entry in entries {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let launcher = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            // A number that is used again is taken for the launcher's: nothing is killed that could be somebody's.
            if launcher.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                clear(&entry.path());
            }
        }
    }

    /// Where a child writes 0 to be in it.
    pub(super) const fn door(&self) -> &File {
        &self.door
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// What the kernel counts for it.
    pub(super) fn memory(&self) -> Option<MemoryGroup> {
        MemoryGroup::at(&self.dir)
    }

    /// Kills whoever is in it, also what has left the process group, and removes it. False if somebody is not gone yet:
    /// it is to be asked again.
    pub(super) fn clear(&self) -> bool {
        clear(&self.dir)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        clear(&self.dir);
    }
}

/// As [`Cell::clear`], of a cell that a dead launcher has made.
pub(super) fn clear(dir: &Path) -> bool {
    // Of the second version; all at once, also who is being forked.
    if fs::write(dir.join("cgroup.kill"), "1").is_err() {
        let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            // Who is gone meanwhile need not be killed.
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
        }
    }
    match fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn gives_memory(dir: &Path) -> bool {
    let given = fs::read_to_string(dir.join("cgroup.subtree_control"));
    given.is_ok_and(|given| given.split_whitespace().any(|controller| controller == "memory"))
}
