//! What the shell, or whoever started us, lets a process have.

use std::fs;
use std::thread;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::geteuid;
use remotemedia_ipc::memory::budget;

use super::finding::{Finding, mebibytes};

/// The limits that children inherit; none where there is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Facts {
    files: Option<u64>,
    /// Up to which the limit of files may be raised without asking anybody.
    hard_files: Option<u64>,
    /// How many threads this user may have; root may have more.
    threads: Option<u64>,
    /// How many they are.
    threads_in_use: u64,
    processors: u64,
    data: Option<u64>,
    address_space: Option<u64>,
    file_size: Option<u64>,
}

/// Descriptors of a gateway without workers, and for each worker: as measured, rounded up.
const GATEWAY_FILES: u64 = 32;
const FILES_PER_WORKER: u64 = 24;
/// Connections that a gateway takes with its default settings.
const CONNECTIONS: u64 = 2_048;
/// Threads of a process of ours beside one for each processor.
const THREADS: u64 = 6;
/// What a worker without models needs of private memory, with room: numpy alone takes 26 MiB.
const LEAST_DATA: u64 = 128 << 20;
/// Address space of libraries and reservations of a process, beside the domain's frame pools.
const ADDRESS_SPACE: u64 = 1 << 30;

pub(super) fn read() -> Facts {
    Facts {
        files: limit(Resource::RLIMIT_NOFILE).0,
        hard_files: limit(Resource::RLIMIT_NOFILE).1,
        threads: if geteuid().is_root() { None } else { limit(Resource::RLIMIT_NPROC).0 },
        threads_in_use: threads_of(geteuid().as_raw()),
        processors: thread::available_parallelism().map_or(1, |number| number.get() as u64),
        data: limit(Resource::RLIMIT_DATA).0,
        address_space: limit(Resource::RLIMIT_AS).0,
        file_size: limit(Resource::RLIMIT_FSIZE).0,
    }
}

pub(super) fn judge(facts: &Facts, workers: u16) -> Vec<Finding> {
    let mut findings = vec![files(facts, workers.into())];
    findings.extend(threads(facts, workers.into()));
    let pools = budget::GATEWAY_POOL_BYTES + u64::from(workers) * budget::WORKER_POOL_BYTES;
    findings.extend(bytes(
        ("data-size", "-d", facts.data),
        LEAST_DATA,
        "private writable memory of each process: models need more",
    ));
    findings.extend(bytes(
        ("address-space", "-v", facts.address_space),
        pools + ADDRESS_SPACE,
        "each process maps all frame pools of its domain",
    ));
    findings.extend(bytes(
        ("file-size", "-f", facts.file_size),
        budget::GATEWAY_POOL_BYTES,
        "frame pools are files in memory, and the gateway dies of SIGXFSZ where it makes one that is larger",
    ));
    findings
}

fn files(facts: &Facts, workers: u64) -> Finding {
    let check = "open-files";
    let Some(files) = facts.files else { return Finding::ok(check, "no limit") };
    let own = GATEWAY_FILES + workers * FILES_PER_WORKER;
    let all = own + CONNECTIONS;
    let needed = format!(
        "{all}: {own} for a gateway and {workers} workers, and one for each of {CONNECTIONS} connections"
    );
    let raised = all.max(4_096);
    let remedy = match facts.hard_files {
        Some(hard) if hard < raised => format!(
            "LimitNOFILE={raised} in the gateway's unit; a shell gets it by a line `* hard nofile {raised}` in /etc/security/limits.conf and a new login"
        ),
        Some(_) | None => format!("ulimit -n {raised}"),
    };
    match files {
        files if files <= own => {
            Finding::problem(check, format!("{files}, with which no client gets in"), needed, remedy)
        }
        files if files < all => {
            Finding::note(check, format!("{files}: room for {} connections", files - own), needed, remedy)
        }
        files => Finding::ok(check, format!("{files}, of which {all} are needed")),
    }
}

fn threads(facts: &Facts, workers: u64) -> Option<Finding> {
    let limit = facts.threads?;
    let needed = (workers + 1) * (THREADS + facts.processors) + 2;
    let left = limit.saturating_sub(facts.threads_in_use);
    let found = format!("{limit}, of which {} are in use", facts.threads_in_use);
    Some(if left < needed {
        let needed = format!("{needed} more, for a gateway and {workers} workers");
        let raised = facts.threads_in_use + 4_096;
        Finding::problem("threads", found, needed, format!("ulimit -u {raised}, or TasksMax= of the unit"))
    } else {
        Finding::ok("threads", found)
    })
}

fn bytes((check, flag, limit): (&'static str, &str, Option<u64>), least: u64, why: &str) -> Option<Finding> {
    let found = mebibytes(limit?);
    let needed = format!("{} or more: {why}", mebibytes(least));
    let remedy = format!("ulimit {flag} unlimited");
    Some(if limit? < least {
        Finding::problem(check, found, needed, remedy)
    } else {
        Finding::note(check, found, needed, remedy)
    })
}

/// The soft and the hard one.
fn limit(resource: Resource) -> (Option<u64>, Option<u64>) {
    let finite = |limit| (limit != RLIM_INFINITY).then_some(limit);
    // One that the kernel does not tell bounds nothing.
    getrlimit(resource).map_or((None, None), |(soft, hard)| (finite(soft), finite(hard)))
}

/// Threads of all processes of a user.
fn threads_of(user: u32) -> u64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    // Who is gone meanwhile has none.
    let statuses = entries.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    statuses.filter_map(|status| threads_in(&status, user)).sum()
}

fn threads_in(status: &str, user: u32) -> Option<u64> {
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let is_of_user = field("Uid:")?.parse() == Ok(user);
    if is_of_user { field("Threads:")?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn check(facts: &Facts, expected: &[(&str, Level)]) -> Vec<Finding> {
        let findings = judge(facts, 2);
        let found: Vec<_> = findings.iter().map(|finding| (finding.check, finding.level)).collect();
        assert_eq!(found, expected);
        findings
    }

    const FILES_OK: (&str, Level) = ("open-files", Level::Ok);

    #[test]
    fn too_few_files_are_told_with_what_they_are_enough_for() {
        check(&Facts::default(), &[FILES_OK]);
        let few = Facts { files: Some(1_024), hard_files: Some(524_288), ..Facts::default() };
        let findings = check(&few, &[("open-files", Level::Note)]);
        assert_eq!(findings[0].found, "1024: room for 944 connections");
        assert_eq!(findings[0].remedy, "ulimit -n 4096");
        let none = Facts { files: Some(64), hard_files: Some(64), ..Facts::default() };
        let findings = check(&none, &[("open-files", Level::Problem)]);
        assert!(findings[0].remedy.starts_with("LimitNOFILE=4096"), "{findings:?}");
    }

    #[test]
    fn too_few_threads_are_a_problem() {
        let facts = Facts { threads: Some(1_000), threads_in_use: 990, processors: 4, ..Facts::default() };
        check(&facts, &[FILES_OK, ("threads", Level::Problem)]);
        check(&Facts { threads_in_use: 90, ..facts }, &[FILES_OK, ("threads", Level::Ok)]);
    }

    #[test]
    fn limits_of_bytes_are_a_problem_below_what_is_needed_and_else_a_note() {
        let data = Facts { data: Some(64 << 20), ..Facts::default() };
        check(&data, &[FILES_OK, ("data-size", Level::Problem)]);
        check(&Facts { data: Some(4 << 30), ..data }, &[FILES_OK, ("data-size", Level::Note)]);
        let space = Facts { address_space: Some(1 << 30), ..Facts::default() };
        check(&space, &[FILES_OK, ("address-space", Level::Problem)]);
        let size = Facts { file_size: Some(100 << 20), ..Facts::default() };
        let findings = check(&size, &[FILES_OK, ("file-size", Level::Problem)]);
        assert_eq!(findings[1].remedy, "ulimit -f unlimited");
    }

    #[test]
    fn the_threads_of_a_user_are_counted() {
        assert_eq!(threads_in("Name:\tx\nUid:\t7\t7\t7\t7\nThreads:\t3\n", 7), Some(3));
        assert_eq!(threads_in("Uid:\t8\t8\nThreads:\t3\n", 7), None);
        assert!(threads_of(geteuid().as_raw()) >= 1);
    }
}
