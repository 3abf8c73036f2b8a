//! The runtime directory: whether a gateway would take it, and what dead ones have left in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access, geteuid};
use remotemedia_core::runtime_dir::{self, Found, LOCK, Unfit};
use remotemedia_ipc::host::domains_in;

use super::finding::Finding;
use crate::launch::{Home, Purpose, Running, is_locked};

/// One directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    path: PathBuf,
    /// As the gateway judges it.
    state: State,
    /// On what it lies, or will.
    ground: Ground,
    /// Whether a gateway that lives holds it.
    is_held: bool,
    /// Each domain in it, with its files in shared memory.
    domains: Vec<Domain>,
}

/// What is there.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// A directory of ours alone.
    Fit,
    /// Something else.
    Unfit(Unfit),
    /// Nothing: the gateway will make it.
    Absent {
        /// Whether it can.
        can_be_made: bool,
    },
    /// It cannot be looked at.
    Unknown(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ground {
    Memory,
    Network,
    Disk,
}

/// The links of one life of a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Domain {
    name: String,
    shared_files: u64,
    bytes: u64,
}

/// Where `up` and `run` make directories of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HomeFacts {
    path: PathBuf,
    state: State,
    /// Launchers that were killed.
    killed: Vec<Running>,
}

/// Where links have their files.
const SHARED_MEMORY: &str = "/dev/shm";

/// The directories to look at: the one that was named, else those of this user's services, and where a gateway is that
/// nobody tells, if one has been there.
pub(super) fn candidates(named: Option<&Path>, home: &Home) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![std::path::absolute(named).unwrap_or_else(|_unresolved| named.to_owned())];
    }
    let running = home.running().into_iter().filter(|running| running.purpose == Purpose::Up);
    let mut dirs: Vec<PathBuf> = running.map(|running| running.runtime_dir).collect();
    // The home lies beside it, and has the login's own directory or not.
    let of_login = home.path().parent().filter(|base| *base != Path::new(SHARED_MEMORY));
    let system_wide = Path::new(runtime_dir::SYSTEM_WIDE);
    let user = geteuid().as_raw();
    let default = runtime_dir::default_path(of_login, system_wide.is_dir(), user);
    let system_wide = system_wide.to_owned();
    dirs.extend([default, system_wide].into_iter().filter(|dir| dir.is_dir()));
    dirs.dedup();
    dirs
}

pub(super) fn read(path: PathBuf) -> Facts {
    let state = state_of(&path);
    let standing = path.ancestors().find(|dir| dir.is_dir()).unwrap_or(&path);
    let ground = statfs(standing).map_or(Ground::Disk, |found| Ground::of(found.filesystem_type()));
    let domains = domains_in(&path).map(Domain::read).collect();
    Facts { state, ground, is_held: is_locked(&path.join(LOCK)), domains, path }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let check = "runtime-dir";
    let path = facts.path.display();
    let mut findings = vec![match (&facts.state, facts.ground) {
        (State::Fit | State::Absent { can_be_made: true }, Ground::Network) => Finding::problem(
            check,
            format!("{path} is on a file system of the network"),
            "one of this machine: its locks and sockets tell whether a gateway lives",
            "pass --runtime-dir with a directory on tmpfs, such as one in /dev/shm",
        ),
        (State::Fit, Ground::Disk) => Finding::note(
            check,
            format!("{path} is of this user alone, and on disk"),
            "one in memory: what a gateway leaves there when the machine goes down is of no use after it",
            "pass --runtime-dir with a directory on tmpfs, such as one in /dev/shm",
        ),
        (State::Fit, Ground::Memory) => {
            Finding::ok(check, format!("{path} is of this user alone, in memory"))
        }
        (State::Absent { can_be_made: true }, Ground::Memory | Ground::Disk) => {
            Finding::ok(check, format!("{path} is not there: the gateway makes it"))
        }
        (State::Absent { can_be_made: false }, _) => Finding::problem(
            check,
            format!("{path} is not there, and this user cannot make it"),
            "a directory of the user whom the gateway runs as, mode 0700",
            format!("sudo install -d -m 0700 -o \"$USER\" {path}"),
        ),
        (State::Unfit(unfit), _) => unfit_place(check, unfit),
        (State::Unknown(why), _) => Finding::problem(
            check,
            format!("{path} cannot be looked at: {why}"),
            "a directory of this user alone",
            "pass --runtime-dir with a directory on tmpfs, such as one in /dev/shm",
        ),
    }];
    findings.extend(stale(facts));
    findings
}

fn unfit_place(check: &'static str, unfit: &Unfit) -> Finding {
    let needed = "a directory of the user whom the gateway runs as, mode 0700, not through a link";
    let remedy = match unfit {
        Unfit::Mode { path, .. } => format!("chmod 0700 {}", path.display()),
        Unfit::Owner { path, user, .. } => {
            format!("sudo chown {user} {}, or run this as its owner", path.display())
        }
        Unfit::NotADirectory { path } => format!("rm {}, or pass another --runtime-dir", path.display()),
        Unfit::Long { .. } => "pass --runtime-dir with a shorter one".to_owned(),
    };
    Finding::problem(check, unfit.to_string(), needed, remedy)
}

/// What is left of gateways that are dead: a living one has one domain, and no other can be of use.
fn stale(facts: &Facts) -> Option<Finding> {
    if facts.is_held || facts.domains.is_empty() {
        return None;
    }
    let path = facts.path.display();
    let files: u64 = facts.domains.iter().map(|domain| domain.shared_files).sum();
    let bytes: u64 = facts.domains.iter().map(|domain| domain.bytes).sum();
    let names: Vec<_> = facts.domains.iter().map(|domain| domain.name.as_str()).collect();
    let found = format!(
        "a gateway that was killed has left {} in {path}, and {files} files with {bytes} bytes in {SHARED_MEMORY}",
        names.join(", ")
    );
    let removed = names.iter().map(|name| format!(" {path}/{name} {SHARED_MEMORY}/{name}_*"));
    let remedy = format!(
        "start the gateway: it removes them first; if none shall run here any more: rm -r{}",
        removed.collect::<String>()
    );
    Some(Finding::note("stale-files", found, "nothing of the dead", remedy))
}

pub(super) fn read_home(home: &Home) -> HomeFacts {
    HomeFacts { path: home.path().to_owned(), state: state_of(home.path()), killed: home.killed() }
}

pub(super) fn judge_home(facts: &HomeFacts) -> Vec<Finding> {
    let check = "home";
    let path = facts.path.display();
    let mut findings = vec![match &facts.state {
        State::Fit | State::Absent { can_be_made: true } => {
            Finding::ok(check, format!("{path} can have the runtime directories of `up` and `run`"))
        }
        State::Unfit(unfit) => unfit_place(check, unfit),
        State::Absent { can_be_made: false } | State::Unknown(_) => Finding::problem(
            check,
            format!("{path} cannot be made, or not be looked at"),
            "a place for the runtime directories of `up` and `run`",
            "set XDG_RUNTIME_DIR to a directory of this user alone",
        ),
    }];
    findings.extend(facts.killed.iter().map(|dead| {
        let dir = dead.runtime_dir.display();
        let found =
            format!("`remotemedia {}` (pid {}) was killed, and has left {dir}", dead.purpose, dead.pid);
        let remedy = "the next `remotemedia up` or `remotemedia run` removes it first";
        Finding::note("stale-files", found, "nothing of the dead", remedy)
    }));
    findings
}

// === impl Ground ===

impl Ground {
    fn of(kind: FsType) -> Self {
        match kind {
            TMPFS_MAGIC => Self::Memory,
            NFS_SUPER_MAGIC | SMB_SUPER_MAGIC => Self::Network,
            _ => Self::Disk,
        }
    }
}

// === impl Domain ===

impl Domain {
    fn read(name: String) -> Self {
        let mark = format!("{name}_");
        let entries = fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(mark.as_bytes()));
        let sizes: Vec<u64> = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).collect();
        Self { name, shared_files: sizes.len() as u64, bytes: sizes.iter().sum() }
    }
}

fn state_of(path: &Path) -> State {
    if let Err(unfit) = runtime_dir::check_path(path) {
        return State::Unfit(unfit);
    }
    match fs::symlink_metadata(path) {
        Ok(found) => {
            let found =
                Found { is_directory: found.is_dir(), owner: found.uid(), mode: found.mode() & 0o7777 };
            runtime_dir::check_private(path, found, whose(path, found))
                .map_or_else(State::Unfit, |()| State::Fit)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path);
            State::Absent { can_be_made: access(parent, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() }
        }
        Err(error) => State::Unknown(error.to_string()),
    }
}

/// Who will use it: we, unless root asks about the machine's own, which is of the user whom systemd's units run as.
fn whose(path: &Path, found: Found) -> u32 {
    let user = geteuid();
    if user.is_root() && path == Path::new(runtime_dir::SYSTEM_WIDE) { found.owner } else { user.as_raw() }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn fit() -> Facts {
        Facts {
            path: "/run/x".into(),
            state: State::Fit,
            ground: Ground::Memory,
            is_held: false,
            domains: Vec::new(),
        }
    }

    fn check(facts: &Facts, expected: &[(&str, Level)]) -> Vec<Finding> {
        let findings = judge(facts);
        let found: Vec<_> = findings.iter().map(|finding| (finding.check, finding.level)).collect();
        assert_eq!(found, expected, "{facts:?}");
        findings
    }

    #[test]
    fn a_directory_that_the_gateway_would_refuse_is_a_problem_with_the_command_that_mends_it() {
        let of = |unfit| Facts { state: State::Unfit(unfit), ..fit() };
        let path = PathBuf::from("/run/x");
        for (unfit, remedy) in [
            (Unfit::Mode { path: path.clone(), mode: 0o755 }, "chmod 0700 /run/x"),
            (Unfit::Owner { path: path.clone(), owner: 1, user: 2 }, "sudo chown 2 /run/x,"),
            (Unfit::NotADirectory { path: path.clone() }, "rm /run/x,"),
            (Unfit::Long { path, bytes: 99 }, "pass --runtime-dir"),
        ] {
            let findings = check(&of(unfit), &[("runtime-dir", Level::Problem)]);
            assert!(findings[0].remedy.starts_with(remedy), "{findings:?}");
        }
    }

    #[test]
    fn where_it_lies_and_whether_it_can_be_made_is_told() {
        check(&fit(), &[("runtime-dir", Level::Ok)]);
        check(&Facts { ground: Ground::Disk, ..fit() }, &[("runtime-dir", Level::Note)]);
        check(&Facts { ground: Ground::Network, ..fit() }, &[("runtime-dir", Level::Problem)]);
        let absent = |can_be_made| Facts { state: State::Absent { can_be_made }, ..fit() };
        check(&absent(true), &[("runtime-dir", Level::Ok)]);
        check(&absent(false), &[("runtime-dir", Level::Problem)]);
        check(
            &Facts { state: State::Unknown("EACCES".to_owned()), ..fit() },
            &[("runtime-dir", Level::Problem)],
        );
    }

    #[test]
    fn what_a_dead_gateway_left_is_told_and_what_a_living_one_uses_is_not() {
        let domain = Domain { name: "remotemedia00".to_owned(), shared_files: 13, bytes: 7 };
        let left = Facts { domains: vec![domain], ..fit() };
        let findings = check(&left, &[("runtime-dir", Level::Ok), ("stale-files", Level::Note)]);
        let remedy = &findings[1].remedy;
        assert!(remedy.ends_with("rm -r /run/x/remotemedia00 /dev/shm/remotemedia00_*"), "{remedy}");
        check(&Facts { is_held: true, ..left }, &[("runtime-dir", Level::Ok)]);
    }

    #[test]
    fn root_is_not_who_uses_the_directory_of_the_machine() {
        let found = Found { is_directory: true, owner: 7, mode: 0o700 };
        let expected = if geteuid().is_root() { 7 } else { geteuid().as_raw() };
        assert_eq!(whose(Path::new("/run/remotemedia"), found), expected);
        assert_eq!(whose(Path::new("/run/mine"), found), geteuid().as_raw());
    }

    #[test]
    fn a_home_that_is_unfit_and_launchers_that_were_killed_are_told() {
        let home = HomeFacts { path: "/h".into(), state: State::Fit, killed: Vec::new() };
        assert_eq!(judge_home(&home)[0].level, Level::Ok);
        let unfit = Unfit::Mode { path: "/h".into(), mode: 0o777 };
        let open = HomeFacts { state: State::Unfit(unfit), ..home.clone() };
        assert_eq!(judge_home(&open)[0].remedy, "chmod 0700 /h");
        let closed = HomeFacts { state: State::Absent { can_be_made: false }, ..home.clone() };
        assert_eq!(judge_home(&closed)[0].level, Level::Problem);
        let dead = Running { pid: 7, purpose: Purpose::Run, runtime_dir: "/h/7".into() };
        let findings = judge_home(&HomeFacts { killed: vec![dead], ..home });
        assert_eq!((findings[1].check, findings[1].level), ("stale-files", Level::Note));
    }
}
