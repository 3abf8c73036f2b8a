//! Whether the memory of workers can be bounded by the kernel's own groups.

use std::path::PathBuf;

use remotemedia_ipc::memory::MemoryGroup;

use super::finding::Finding;
use crate::launch;

/// What was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    /// The one of this process, if it tells of memory.
    group: Option<Group>,
    /// Where a worker's would be; else why there is none.
    made: Result<PathBuf, String>,
}

/// A memory cgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    directory: PathBuf,
    is_of_version_2: bool,
}

pub(super) fn read() -> Facts {
    let group = MemoryGroup::of(std::process::id().cast_signed());
    let group = group.map(|group| Group {
        directory: group.directory().to_owned(),
        is_of_version_2: group.is_of_version_2(),
    });
    Facts { group, made: launch::try_cgroup().map_err(|error| error.to_string()) }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let version = facts.group.as_ref().map(|group| if group.is_of_version_2 { 2 } else { 1 });
    let described = match (&facts.group, version) {
        (Some(group), Some(version)) => format!("version {version}, {}", group.directory.display()),
        (Some(_) | None, _) => "this process is in none that counts memory".to_owned(),
    };
    vec![match &facts.made {
        Ok(_dir) => Finding::ok("cgroups", format!("{described}: `up` can bound the memory of workers")),
        Err(why) => {
            let found = format!("{described}; `up` can make none for a worker: {why}");
            let needed = "a cgroup for each worker whose memory is bounded: without, --worker-memory is RLIMIT_DATA, and want of memory is told by the worker itself";
            Finding::note("cgroups", found, needed, remedy(facts))
        }
    }]
}

fn remedy(facts: &Facts) -> String {
    match &facts.group {
        Some(Group { directory, is_of_version_2: true }) => {
            let parent = directory.parent().unwrap_or(directory).display();
            format!(
                "echo +memory | sudo tee {parent}/cgroup.subtree_control, and run `up` as a user who may write there; or let systemd start the workers, whose units have MemoryMax="
            )
        }
        Some(Group { directory, is_of_version_2: false }) => {
            format!(
                "run `up` as a user who may write to {}; or let systemd start the workers, whose units have MemoryMax=",
                directory.display()
            )
        }
        None => "docker run --cgroupns=private …, with /sys/fs/cgroup mounted writable; or let systemd start the workers, whose units have MemoryMax=".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn where_no_cgroup_can_be_made_it_is_said_what_that_costs_and_what_to_do() {
        let check = |facts: Facts, level: Level, remedy: &str| {
            let findings = judge(&facts);
            assert_eq!(findings.len(), 1);
            assert_eq!((findings[0].check, findings[0].level), ("cgroups", level));
            assert!(findings[0].remedy.starts_with(remedy), "{findings:?}");
        };
        let group = |is_of_version_2| Some(Group { directory: "/sys/fs/cgroup/a/b".into(), is_of_version_2 });
        let refused = || Err("permission denied".to_owned());
        check(Facts { group: group(true), made: Ok("/c".into()) }, Level::Ok, "");
        let subtree = "echo +memory | sudo tee /sys/fs/cgroup/a/cgroup.subtree_control,";
        check(Facts { group: group(true), made: refused() }, Level::Note, subtree);
        check(
            Facts { group: group(false), made: refused() },
            Level::Note,
            "run `up` as a user who may write",
        );
        check(Facts { group: None, made: refused() }, Level::Note, "docker run");
    }
}
