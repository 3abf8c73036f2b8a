//! Which files are a domain's, and who made them.
//!
//! iceoryx2 names what it makes after ids, and an id says which process made it, and when. So whether a file is a
//! dead process's can be told from its name, exactly, though pids are used again.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use nix::time::{ClockId, clock_gettime};

use super::TransportConfig;

/// Where POSIX shared memory is on Linux.
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// How the name of a connection between two ports ends.
const CONNECTION: &str = ".connection";

/// How the name of what describes a link ends.
const SERVICE: &str = "service";

/// The files of one domain.
#[derive(Clone, Debug)]
pub(crate) struct Territory {
    directory: PathBuf,
    mark: String,
}

/// Who made what a file is named after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pid: u32,
    made: Duration,
}

/// A process that is surely dead, and when that was known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Burial {
    pid: u32,
    known: Duration,
}

// === impl Territory ===

impl Territory {
    pub(crate) fn of(config: &TransportConfig) -> Self {
        Self { directory: config.directory(), mark: config.mark() }
    }

    /// Everything: shared files, then the directory's content, a directory after what is in it.
    pub(crate) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = self.shared_files()?;
        collect(&self.directory, &mut files)?;
        Ok(files)
    }

    /// Everything that a dead process made, or was one end of.
    pub(crate) fn files_of_dead(&self, dead: &[Burial]) -> io::Result<Vec<PathBuf>> {
        let mut files = self.files()?;
        files.retain(|path| self.is_of(path, dead));
        Ok(files)
    }

    /// Shared files that a dead process made, or was one end of.
    pub(crate) fn shared_files_of_dead(&self, dead: &[Burial]) -> io::Result<Vec<PathBuf>> {
        let mut files = self.shared_files()?;
        files.retain(|path| self.is_of(path, dead));
        Ok(files)
    }

    /// Connections of which one end is dead.
    pub(crate) fn connections_of_dead(&self, dead: &[Burial]) -> io::Result<Vec<PathBuf>> {
        let mut files = self.shared_files()?;
        files.retain(|path| name_of(path).ends_with(CONNECTION) && self.is_of(path, dead));
        Ok(files)
    }

    /// What describes links that have nothing shared, and has for so long.
    pub(crate) fn descriptions_without_links(&self, age: Duration) -> io::Result<Vec<PathBuf>> {
        let shared = self.shared_files()?;
        let mut files = Vec::new();
        collect(&self.directory, &mut files)?;
        files.retain(|path| {
            let is_old = |path: &Path| {
                let made = fs::metadata(path).and_then(|metadata| metadata.modified());
                made.is_ok_and(|made| made.elapsed().is_ok_and(|elapsed| elapsed >= age))
            };
            if path.extension().is_none_or(|end| end != SERVICE) || !is_old(path) {
                return false;
            }
            // Unreadable, it is gone.
            let id = fs::read_to_string(path).ok().and_then(|described| described_id(&described));
            id.is_some_and(|id| !shared.iter().any(|path| name_of(path).contains(&id.to_string())))
        });
        Ok(files)
    }

    pub(super) fn shared_files_of(&self, id: u128) -> io::Result<Vec<PathBuf>> {
        let id = id.to_string();
        let mut files = self.shared_files()?;
        files.retain(|path| name_of(path).contains(&id));
        Ok(files)
    }

    /// Removes every file, and the domain's directory.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for file in self.shared_files()? {
            gone(fs::remove_file(file))?;
        }
        gone(fs::remove_dir_all(&self.directory))
    }

    fn shared_files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(SHARED_MEMORY)? {
            let path = entry?.path();
            if name_of(&path).starts_with(&self.mark) {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// A node keeps its files in a directory that is named after it, so every part of the path may name the dead.
    fn is_of(&self, path: &Path, dead: &[Burial]) -> bool {
        let below = path.strip_prefix(&self.directory).or_else(|_| path.strip_prefix(SHARED_MEMORY));
        let parts = below.into_iter().flat_map(Path::iter).filter_map(|part| part.to_str());
        parts.flat_map(Origin::in_name).any(|origin| dead.iter().any(|burial| burial.covers(origin)))
    }
}

/// The id of a link, from its description, where it is kept in two halves.
fn described_id(described: &str) -> Option<u128> {
    let half = |name: &str| {
        let value = described.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='))?;
        value.trim().parse::<u64>().ok()
    };
    let [low, high] = [half("payload_value")?, half("unique_value")?].map(u128::from);
    Some(high << u64::BITS | low)
}

/// Removes a file, or a directory if it is empty by now. That it is gone already is as good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    gone(if is_directory { fs::remove_dir(path) } else { fs::remove_file(path) })
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Living processes make and remove files meanwhile: what vanishes was not there.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, files)?;
        }
        files.push(path);
    }
    Ok(())
}

/// Names are iceoryx2's and ours, which are ASCII; any other belongs to nobody we know.
fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

// === impl Origin ===

impl Origin {
    /// The ids a file's name carries: `[mark hash_]id[_id][.suffix]`.
    fn in_name(name: &str) -> impl Iterator<Item = Self> {
        let stem = name.split_once('.').map_or(name, |(stem, _suffix)| stem);
        stem.rsplit('_').take(2).map_while(|part| part.parse().ok()).map(Self::of_id)
    }

    /// An id is, in memory: seconds and nanoseconds of the monotonic clock, pid, and a counter, 32 bits each.
    pub(crate) fn of_id(id: u128) -> Self {
        let bytes = id.to_ne_bytes();
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_ne_bytes(word)
        };
        let made = Duration::from_secs(u64::from(word(0))) + Duration::from_nanos(u64::from(word(4)));
        Self { pid: word(8), made }
    }

    pub(super) const fn pid(self) -> u32 {
        self.pid
    }
}

// === impl Burial ===

impl Burial {
    /// Of a process that is known to be dead from now on.
    pub(crate) fn now(pid: u32) -> io::Result<Self> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        Ok(Self { pid, known: now.into() })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the dead process made it, and not a later one with its pid.
    pub(crate) fn covers(&self, origin: Origin) -> bool {
        origin.pid == self.pid && origin.made <= self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: u32, seconds: u32) -> u128 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&seconds.to_ne_bytes());
        bytes[8..12].copy_from_slice(&pid.to_ne_bytes());
        bytes[12..].copy_from_slice(&7_u32.to_ne_bytes());
        u128::from_ne_bytes(bytes)
    }

    #[test]
    fn a_description_tells_the_id_of_its_link() {
        let of = |described: &str| described_id(described).map(|id| Origin::of_id(id).pid);
        let described = "service_name = \"1.1-0.1\"\n[unique_service_id]\npayload_value = 3627511399468589573\n\
                         unique_value = 17179901300\n";
        assert_eq!(of(described), Some(32_116));
        assert_eq!(of("service_name = \"1.1-0.1\"\npayload_value = 7\nunique_value = many\n"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn names_tell_which_processes_made_a_file() {
        let (one, two) = (id(4711, 100), id(4712, 100));
        let check = |name: String, pids: &[u32]| {
            let found: Vec<u32> = Origin::in_name(&name).map(|origin| origin.pid).collect();
            assert_eq!(found, pids, "{name}");
        };
        check(format!("boot1_hAsh-4_{one}_{two}.connection"), &[4712, 4711]);
        check(format!("boot1_hAsh-4_{one}.data"), &[4711]);
        check(format!("boot1_{one}.node_monitor_owner_lock"), &[4711]);
        check(one.to_string(), &[4711]);
        check("boot1_node.details".to_owned(), &[]);
        check("boot1_0a1b2c.service".to_owned(), &[]);
        check(String::new(), &[]);
    }

    #[test]
    fn later_process_with_the_same_pid_is_not_buried() {
        let burial = Burial { pid: 4711, known: Duration::from_secs(100) };
        assert!(burial.covers(Origin::of_id(id(4711, 99))));
        assert!(!burial.covers(Origin::of_id(id(4711, 101))));
        assert!(!burial.covers(Origin::of_id(id(4712, 99))));
    }
}
