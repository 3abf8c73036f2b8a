//! The memory cgroup of a process, in either version of cgroups.

use std::path::{Component, Path, PathBuf};

/// A memory cgroup that can be asked how many of its processes the kernel has killed for want of memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryGroup {
    events: PathBuf,
}

/// The names under which one version of cgroups keeps the same numbers.
pub(super) struct Dialect {
    pub(super) limit: &'static str,
    pub(super) usage: &'static str,
    /// Key in `memory.stat` of the file cache that the kernel drops before it kills anyone.
    pub(super) droppable: &'static str,
    /// Has a line that counts the processes which the kernel has killed for want of memory.
    events: &'static str,
}

const V1: Dialect = Dialect {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    droppable: "total_inactive_file",
    events: "memory.oom_control",
};

const V2: Dialect = Dialect {
    limit: "memory.max",
    usage: "memory.current",
    droppable: "inactive_file",
    events: "memory.events",
};

/// Where cgroups are mounted.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";

// === impl MemoryGroup ===

impl MemoryGroup {
    /// That of a living process; none if it is dead, or in none that tells.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::of_lines(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?, Path::new(MOUNT))
    }

    /// That whose files are in a directory; none if it does not tell.
    #[must_use]
    pub fn at(dir: &Path) -> Option<Self> {
        let mut groups = [V2, V1].into_iter().map(|dialect| Self { events: dir.join(dialect.events) });
        groups.find(|group| group.kills().is_some())
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.events.parent().unwrap_or(&self.events)
    }

    /// Whether it is of the second version of cgroups.
    #[must_use]
    pub fn is_of_version_2(&self) -> bool {
        self.events.ends_with(V2.events)
    }

    /// How many it has killed since it was made.
    #[must_use]
    pub fn kills(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.events).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    }

    fn of_lines(lines: &str, mount: &Path) -> Option<Self> {
        let groups = lines.lines().filter_map(|line| membership(line, mount));
        let mut groups =
            groups.map(|(dialect, mount, group)| Self { events: mount.join(group).join(dialect.events) });
        groups.find(|group| group.kills().is_some())
    }
}

/// What a line of `/proc/self/cgroup` says: `0::/path` in version 2, `4:cpu,memory:/path` in version 1.
pub(super) fn membership(line: &str, cgroups: &Path) -> Option<(Dialect, PathBuf, PathBuf)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    // A namespace may show a path with `..`; what lies outside it is not mounted here.
    let group = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if controllers.is_empty() {
        return Some((V2, cgroups.to_owned(), group));
    }
    let has_memory = controllers.split(',').any(|controller| controller == "memory");
    has_memory.then(|| (V1, cgroups.join("memory"), group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_kills_are_counted_in_both_versions_of_cgroups() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/memory.events", "low 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n");
        write("memory/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
        let kills = |lines: &str| MemoryGroup::of_lines(lines, root.path()).and_then(|group| group.kills());
        assert_eq!(kills("0::/a\n"), Some(2));
        assert_eq!(kills("3:cpu:/b\n4:memory:/b\n0::/\n"), Some(5));
        assert_eq!(kills("3:cpu:/b\n0::/elsewhere\n"), None);
    }
}
