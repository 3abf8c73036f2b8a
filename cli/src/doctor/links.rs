//! Whether there is room for the files of links in `/dev/shm`.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::finding::{Finding, mebibytes};

/// The file system at `/dev/shm`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    /// What it has; else why that cannot be known.
    mount: Result<Mount, String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Mount {
    is_tmpfs: bool,
    /// Whether we may make files in it.
    is_open: bool,
    bytes: u64,
    free_bytes: u64,
}

/// What the files of one link take with the default `link_capacity`, in bytes. A link is one way from one process to another.
pub const LINK_BYTES: u64 = 1_376_256;

/// Where they lie.
const SHARED_MEMORY: &str = "/dev/shm";

pub(super) fn read() -> Facts {
    let mount = statfs(SHARED_MEMORY).map(|found| {
        let block = u64::try_from(found.block_size()).unwrap_or_default();
        Mount {
            is_tmpfs: found.filesystem_type() == TMPFS_MAGIC,
            is_open: access(Path::new(SHARED_MEMORY), AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
            bytes: block * found.blocks(),
            free_bytes: block * found.blocks_available(),
        }
    });
    Facts { mount: mount.map_err(|error| error.to_string()) }
}

pub(super) fn judge(facts: &Facts, workers: u16, a_service_runs: bool) -> Finding {
    let check = "shared-memory";
    let mount = match &facts.mount {
        Ok(mount) => mount,
        Err(why) => {
            let found = format!("{SHARED_MEMORY} cannot be looked at: {why}");
            let remedy = format!("sudo mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs {SHARED_MEMORY}");
            return Finding::problem(check, found, "a tmpfs there: links are files in it", remedy);
        }
    };
    let processes = u64::from(workers) + 1;
    let links = processes * (processes - 1);
    let total = links * LINK_BYTES;
    let found =
        format!("{SHARED_MEMORY} has {} free of {}", mebibytes(mount.free_bytes), mebibytes(mount.bytes));
    let needed = format!(
        "{} free: {links} links between a gateway and {workers} workers where all speak to all, {LINK_BYTES} bytes each",
        mebibytes(total.next_multiple_of(1 << 20))
    );
    let larger = format!(
        "sudo mount -o remount,size={}M {SHARED_MEMORY}, or in docker --shm-size={0}m",
        (total + mount.bytes - mount.free_bytes).div_ceil(1 << 20).next_multiple_of(64)
    );
    if !mount.is_open {
        let remedy = format!("sudo chmod 1777 {SHARED_MEMORY}");
        return Finding::problem(check, format!("{SHARED_MEMORY} cannot be written to"), needed, remedy);
    }
    match () {
        () if !mount.is_tmpfs => {
            let remedy = format!("sudo mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs {SHARED_MEMORY}");
            Finding::problem(check, format!("{SHARED_MEMORY} is not in memory"), "a tmpfs there", remedy)
        }
        () if mount.free_bytes >= total => Finding::ok(check, found),
        () if a_service_runs => {
            Finding::note(check, format!("{found}, beside the service that runs"), needed, larger)
        }
        () => Finding::problem(check, found, needed, larger),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    const DOCKER: Mount = Mount { is_tmpfs: true, is_open: true, bytes: 64 << 20, free_bytes: 64 << 20 };

    fn of(mount: Mount, workers: u16) -> Finding {
        judge(&Facts { mount: Ok(mount) }, workers, false)
    }

    #[test]
    fn what_containers_have_is_enough_for_six_workers_and_not_for_seven() {
        assert_eq!(of(DOCKER, 6).level, Level::Ok);
        let short = of(DOCKER, 7);
        assert_eq!(short.level, Level::Problem);
        assert!(short.needed.starts_with("74 MiB free: 56 links"), "{short:?}");
        assert!(short.remedy.ends_with("--shm-size=128m"), "{short:?}");
        assert_eq!(judge(&Facts { mount: Ok(DOCKER) }, 7, true).level, Level::Note);
    }

    #[test]
    fn what_is_no_memory_or_closed_or_not_there_is_a_problem() {
        assert_eq!(of(Mount { is_tmpfs: false, ..DOCKER }, 2).level, Level::Problem);
        let closed = of(Mount { is_open: false, ..DOCKER }, 2);
        assert_eq!((closed.level, closed.remedy.as_str()), (Level::Problem, "sudo chmod 1777 /dev/shm"));
        let gone = Facts { mount: Err("ENOENT".to_owned()) };
        assert_eq!(judge(&gone, 2, false).level, Level::Problem);
    }
}
