//! What a process has open and mapped.

use std::fs;
use std::io;

/// What must not grow. Compared before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footprint {
    /// Open file descriptors, by what they lead to.
    pub fds: Vec<String>,
    /// Mappings of memfds.
    pub memfd_mappings: usize,
    /// Mappings of files in `/dev/shm`.
    pub shared_mappings: usize,
    /// Threads.
    pub threads: usize,
}

impl Footprint {
    /// This process's own, now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of_this_process() -> io::Result<Self> {
        let mut fds: Vec<String> = fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .map(|target| kind(&target.to_string_lossy()))
            .collect();
        fds.sort_unstable();
        let maps = fs::read_to_string("/proc/self/maps")?;
        let mapped = |what: &str| maps.lines().filter(|line| line.contains(what)).count();
        Ok(Self {
            fds,
            memfd_mappings: mapped("/memfd:"),
            shared_mappings: mapped("/dev/shm/"),
            threads: fs::read_dir("/proc/self/task")?.count(),
        })
    }

    /// How many there are of everything.
    #[must_use]
    pub fn counts(&self) -> [usize; 4] {
        [self.fds.len(), self.memfd_mappings, self.shared_mappings, self.threads]
    }
}

/// Numbers in names differ between two processes that do the same.
fn kind(target: &str) -> String {
    target.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}
