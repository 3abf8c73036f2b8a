//! Whether this machine, and the cgroup this process lives in, can give what the frame pools will reserve.
//!
//! Beyond a cgroup's limit, reserving memory is no error but a SIGKILL; so it is asked first.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::cgroup::{Dialect, MOUNT, membership};

/// Compares the budget with what can still be charged to this process, before a byte is reserved.
///
/// # Errors
/// It is more than the cgroup's limits or the machine's available memory leave; or neither can be read.
pub fn check(budget_bytes: u64) -> Result<(), BudgetError> {
    check_at(budget_bytes, Path::new("/proc"), Path::new(MOUNT))
}

/// How many bytes can still be charged to this process, and by which limit.
///
/// # Errors
/// The machine does not say what it has.
pub fn available() -> Result<(u64, Limit), BudgetError> {
    available_at(Path::new("/proc"), Path::new(MOUNT))
}

/// A budget that cannot be had, or not be judged.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// Too little memory is left.
    #[error(
        "the frame pools' budget is {budget_bytes} bytes, but {limit} leaves {available_bytes}: \
         lower the budget, or {}",
        limit.remedy()
    )]
    TooLarge {
        /// What was configured.
        budget_bytes: u64,
        /// What can still be had.
        available_bytes: u64,
        /// Which limit is the tightest.
        limit: Limit,
    },
    /// The machine does not say what it has.
    #[error("cannot tell how much memory is available: {path} is unreadable; is /proc mounted?")]
    Unreadable {
        /// The file that was asked.
        path: PathBuf,
        /// Why it did not answer.
        source: io::Error,
    },
    /// The machine says it in words we do not know.
    #[error("cannot tell how much memory is available: {path} has no line `MemAvailable: <number> kB`")]
    Malformed {
        /// The file that was asked.
        path: PathBuf,
    },
}

/// What the gateway's own frame pool reserves unless it is told otherwise.
pub const GATEWAY_POOL_BYTES: u64 = 192 << 20;
/// The same of each worker's.
pub const WORKER_POOL_BYTES: u64 = 96 << 20;

/// Where a limit comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Limit {
    /// A cgroup, this process's own or one above it; the file holds the limit.
    Cgroup(PathBuf),
    /// What the machine has.
    Machine,
}

// === impl Limit ===

impl Limit {
    /// What gives more of it, as the second half of a sentence.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Cgroup(_) => "raise that limit (systemd: MemoryMax=, docker: --memory)",
            Self::Machine => "free memory on this machine",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(file) => write!(f, "the cgroup limit in {}", file.display()),
            Self::Machine => f.write_str("this machine's MemAvailable"),
        }
    }
}

fn check_at(budget_bytes: u64, proc: &Path, cgroups: &Path) -> Result<(), BudgetError> {
    let (available_bytes, limit) = available_at(proc, cgroups)?;
    if budget_bytes > available_bytes {
        return Err(BudgetError::TooLarge { budget_bytes, available_bytes, limit });
    }
    Ok(())
}

fn available_at(proc: &Path, cgroups: &Path) -> Result<(u64, Limit), BudgetError> {
    let mut tightest = (machine_available(proc)?, Limit::Machine);
    // Without cgroups in this kernel or container the file is absent, and so are their limits.
    let memberships = std::fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    for line in memberships.lines() {
        let Some((dialect, mount, group)) = membership(line, cgroups) else { continue };
        for (available, file) in limits_up_the_hierarchy(&dialect, &mount, &group) {
            if available < tightest.0 {
                tightest = (available, Limit::Cgroup(file));
            }
        }
    }
    Ok(tightest)
}

fn machine_available(proc: &Path) -> Result<u64, BudgetError> {
    let path = proc.join("meminfo");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(BudgetError::Unreadable { path, source }),
    };
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kibibytes.and_then(|number| number.checked_mul(1024)).ok_or(BudgetError::Malformed { path })
}

/// What each group leaves, from this process's own up to the root of what is mounted here. A group that is not
/// mounted (as in a container that sees only itself, at the root) has no files and is passed over.
fn limits_up_the_hierarchy(dialect: &Dialect, mount: &Path, group: &Path) -> Vec<(u64, PathBuf)> {
    group
        .ancestors()
        .filter_map(|group| {
            let directory = mount.join(group);
            let file = directory.join(dialect.limit);
            // "max" is no number: no limit here.
            let limit = number_in(&file)?;
            let used = number_in(&directory.join(dialect.usage))?;
            let droppable = droppable_cache(&directory, dialect.droppable);
            Some((limit.saturating_sub(used.saturating_sub(droppable)), file))
        })
        .collect()
}

fn number_in(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn droppable_cache(directory: &Path, key: &str) -> u64 {
    let text = std::fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files: `MemAvailable` in kB, the process's cgroup line, and files below the cgroup mount.
    fn machine(available_kb: u64, cgroup: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/meminfo", &format!("MemTotal: 99 kB\nMemAvailable:    {available_kb} kB\n"));
        write("proc/self/cgroup", cgroup);
        for (path, text) in files {
            write(&format!("cgroup/{path}"), text);
        }
        root
    }

    fn check(available_kb: u64, cgroup: &str, files: &[(&str, &str)], expected: Option<(u64, Option<&str>)>) {
        let root = machine(available_kb, cgroup, files);
        let verdict = check_at(1 << 20, &root.path().join("proc"), &root.path().join("cgroup"));
        let found = match verdict {
            Ok(()) => None,
            Err(BudgetError::TooLarge { available_bytes, limit, .. }) => Some((available_bytes, limit)),
            Err(other) => panic!("{other}"),
        };
        let expected = expected.map(|(available, file)| match file {
            Some(file) => (available, Limit::Cgroup(root.path().join("cgroup").join(file))),
            None => (available, Limit::Machine),
        });
        assert_eq!(found, expected, "{cgroup:?} {files:?}");
    }

    #[test]
    fn a_budget_is_compared_with_what_the_machine_has() {
        check(1024, "", &[], None);
        check(1023, "", &[], Some((1023 * 1024, None)));
        check(4096, "0::/a/b\n", &[("a/b/memory.max", "max\n"), ("a/b/memory.current", "5\n")], None);
    }

    #[test]
    fn the_tightest_cgroup_up_the_hierarchy_counts() {
        let files = [
            ("a/b/memory.max", "4000000\n"),
            ("a/b/memory.current", "0\n"),
            ("a/memory.max", "3000000\n"),
            ("a/memory.current", "2000000\n"),
            ("a/memory.stat", "anon 7\ninactive_file 40000\ninactive_file_x 1\n"),
            ("memory.max", "2000000\n"),
            ("memory.current", "0\n"),
        ];
        check(1 << 30, "0::/a/b\n", &files, Some((1_040_000, Some("a/memory.max"))));
        check(1 << 30, "0::/elsewhere\n", &files, None);
    }

    #[test]
    fn a_group_over_its_limit_leaves_nothing() {
        let files = [("memory.max", "5\n"), ("memory.current", "9\n")];
        check(1 << 30, "0::/../../outside\n", &files, Some((0, Some("memory.max"))));
    }

    #[test]
    fn the_first_version_of_cgroups_counts_too() {
        let files = [
            ("memory/box/memory.limit_in_bytes", "1048575\n"),
            ("memory/box/memory.usage_in_bytes", "70\n"),
            ("memory/box/memory.stat", "inactive_file 1\ntotal_inactive_file 70\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
        ];
        let expected = Some((1_048_575, Some("memory/box/memory.limit_in_bytes")));
        check(1 << 30, "7:cpu:/box\n4:blkio,memory:/box\n0::/\n", &files, expected);
        check(1 << 30, "4:memory:/not/mounted/here\n", &files, None);
    }

    #[test]
    fn an_error_names_budget_limit_and_remedy() {
        let error = BudgetError::TooLarge {
            budget_bytes: 100,
            available_bytes: 60,
            limit: Limit::Cgroup("/sys/fs/cgroup/a/memory.max".into()),
        };
        assert_eq!(
            error.to_string(),
            "the frame pools' budget is 100 bytes, but the cgroup limit in /sys/fs/cgroup/a/memory.max leaves 60: \
             lower the budget, or raise that limit (systemd: MemoryMax=, docker: --memory)"
        );
    }

    #[test]
    fn this_machine_can_be_asked() {
        super::check(1).unwrap();
        assert!(matches!(super::check(u64::MAX), Err(BudgetError::TooLarge { .. })));
    }
}
