//! What the kernel can do: tried, and not told from its version.

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::utsname::uname;
use remotemedia_ipc::death::PidFd;
use remotemedia_ipc::memory::{Geometry, PoolFiles, SizeClass};
use remotemedia_ipc::slot::PoolId;

use super::finding::Finding;

/// What was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    /// As `uname -r` says.
    release: String,
    /// Whether a process's death can be waited for; else why not.
    deaths: Result<(), String>,
    /// Whether it is told how a process ended to who is not its parent.
    causes: bool,
    /// Whether the process behind a socket is known for certain.
    peers: bool,
    /// Whether a frame pool can be made and sealed; else why not.
    sealed: Result<(), String>,
}

/// How long a child may take that does nothing.
const CHILD: Duration = Duration::from_secs(5);

pub(super) fn read() -> Facts {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned());
    let watched = watch_a_child();
    let peers = UnixStream::pair().is_ok_and(|(ours, _theirs)| getsockopt(&ours, sockopt::PeerPidfd).is_ok());
    Facts {
        release: release.unwrap_or_default(),
        causes: watched == Ok(true),
        deaths: watched.map(|_told| ()),
        peers,
        sealed: make_a_pool(),
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts { release, deaths, causes, peers, sealed } = facts;
    let mut findings = Vec::new();
    if let Err(why) = deaths {
        let found = format!("Linux {release} gives no pidfd: {why}");
        let needed = "pidfd_open and pidfd_send_signal: a death is known by them (Linux 5.3, and a container whose seccomp filter lets them through)";
        findings.push(Finding::problem(
            "kernel",
            found,
            needed,
            "docker run --security-opt seccomp=unconfined …, or a newer kernel",
        ));
    }
    if let Err(why) = sealed {
        let found = format!("Linux {release} makes no frame pool: {why}");
        let needed =
            "memfd_create and its seals, F_SEAL_FUTURE_WRITE too (Linux 5.1): frames live in sealed memory";
        findings.push(Finding::problem(
            "sealed-memory",
            found,
            needed,
            "a newer kernel, or where the sentence above names a limit, a higher one",
        ));
    }
    if !causes && deaths.is_ok() {
        let found = format!("Linux {release} tells only parents how a process ended");
        let needed = "Linux 6.15: below, the cause of a worker's death is known where a launcher or systemd tells it, and else told as unknown";
        findings.push(Finding::note(
            "exit-causes",
            found,
            needed,
            "start workers by `remotemedia up` or by systemd, not by hand",
        ));
    }
    if !peers && deaths.is_ok() {
        let found = format!("Linux {release} names the process behind a socket by its number alone");
        let needed = "Linux 6.5: below, a worker that dies while it connects can be mistaken for the next process of its number";
        findings.push(Finding::note(
            "socket-peers",
            found,
            needed,
            "nothing: the number is looked up at once, and numbers come round late",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "kernel",
            format!("Linux {release}: deaths and their causes are told, memory is sealed"),
        ));
    }
    findings
}

/// Whether the kernel says how a process ended that was reaped.
fn watch_a_child() -> Result<bool, String> {
    // This program, since no other is there for certain.
    let mut child = Command::new("/proc/self/exe")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start a process: {error}"))?;
    let watched = i32::try_from(child.id()).map_err(|error| error.to_string()).and_then(|pid| {
        let process = PidFd::open(pid).map_err(|error| with_source(&error))?;
        process.wait(Instant::now() + CHILD).map_err(|error| with_source(&error))?;
        Ok(process)
    });
    // One that does not end is ended: nothing of it is of use any more.
    let _killed = child.kill();
    child.wait().map_err(|error| error.to_string())?;
    watched.map(|process| process.exit_info().is_some())
}

fn make_a_pool() -> Result<(), String> {
    let smallest = Geometry::new(vec![SizeClass { block_bytes: 4_096, blocks: 1 }]);
    let geometry = smallest.map_err(|error| error.to_string())?;
    let files = PoolFiles::create(PoolId(0), &geometry).map_err(|error| with_source(&error))?;
    files.seal_against_writers().map_err(|error| with_source(&error))
}

fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn recent() -> Facts {
        Facts { release: "6.18".to_owned(), deaths: Ok(()), causes: true, peers: true, sealed: Ok(()) }
    }

    fn check(facts: &Facts, expected: &[(&str, Level)]) {
        let findings = judge(facts);
        let found: Vec<_> = findings.iter().map(|finding| (finding.check, finding.level)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_the_kernel_does_not_do_is_told() {
        check(&recent(), &[("kernel", Level::Ok)]);
        let why = || Err("EPERM".to_owned());
        check(&Facts { deaths: why(), causes: false, ..recent() }, &[("kernel", Level::Problem)]);
        check(&Facts { sealed: why(), ..recent() }, &[("sealed-memory", Level::Problem)]);
        let old = Facts { causes: false, peers: false, ..recent() };
        check(&old, &[("exit-causes", Level::Note), ("socket-peers", Level::Note)]);
    }

    #[test]
    fn this_kernel_does_what_the_tests_need() {
        let facts = read();
        assert_eq!((&facts.deaths, &facts.sealed), (&Ok(()), &Ok(())), "{facts:?}");
    }
}
