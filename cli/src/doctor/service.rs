//! The service that runs, if one does: whether it answers, serves, and is of one version with what is installed.

use std::fs;
use std::path::{Path, PathBuf};

use remotemedia_core::runtime_dir::LOCK;

use super::finding::Finding;
use crate::admin::{AdminDoor, QuarantineStatus, Status, WorkerStatus};
use crate::find;
use crate::launch::{Home, is_locked};

/// A gateway that lives, and what it says.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Facts {
    runtime_dir: PathBuf,
    /// Its status; else why there is none.
    status: Result<Status, String>,
    /// Processes whose program was replaced on disk since they started: their names.
    replaced: Vec<String>,
}

/// Exit code of a worker that meets a gateway of another version, as a death tells it.
const OF_OTHER_VERSION: &str = "exited with code 5";

/// None if no gateway holds the directory.
pub(super) async fn read(home: &Home, runtime_dir: &Path) -> Option<Facts> {
    if !is_locked(&runtime_dir.join(LOCK)) {
        return None;
    }
    let status = match find::gateway(home, Some(runtime_dir)) {
        Ok(serving) => AdminDoor::at(&serving.admin).status().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let replaced = status.as_ref().map_or_else(|_silent| Vec::new(), replaced);
    Some(Facts { runtime_dir: runtime_dir.to_owned(), status, replaced })
}

pub(super) fn judge(facts: &[Facts]) -> Vec<Finding> {
    if facts.is_empty() {
        return vec![Finding::ok("service", "no gateway runs where was looked")];
    }
    facts.iter().flat_map(of_service).collect()
}

fn of_service(facts: &Facts) -> Vec<Finding> {
    let dir = facts.runtime_dir.display();
    let status = match &facts.status {
        Ok(status) => status,
        Err(why) => {
            let found = format!("the gateway in {dir} does not answer: {why}");
            let needed = "an answer within 5 s";
            let remedy = format!(
                "kill -TERM \"$(cat {dir}/{LOCK})\", and -KILL if that does not help: its launcher starts another"
            );
            return vec![Finding::problem("service", found, needed, remedy)];
        }
    };
    let mut findings = vec![serving(facts, status)];
    findings.extend(status.workers.iter().filter_map(|worker| hanging(facts, worker)));
    findings.extend(status.quarantines.iter().map(quarantined));
    findings.extend(versions(facts, status));
    findings
}

fn serving(facts: &Facts, status: &Status) -> Finding {
    let dir = facts.runtime_dir.display();
    let gateway = &status.gateway;
    let ready = status.workers.iter().filter(|worker| worker.state == "ready").count();
    let found = format!(
        "the gateway in {dir} (pid {}) serves {}; {ready} of {} workers are ready",
        gateway.pid,
        gateway.grpc,
        status.workers.len()
    );
    if ready > 0 {
        return Finding::ok("service", found);
    }
    let remedy = format!(
        "remotemedia status --runtime-dir {dir}: it says what workers load, and what they died of; where none was started: remotemedia-worker --runtime-dir {dir}"
    );
    Finding::problem("service", found, "a worker that is ready: the gateway runs no node", remedy)
}

fn hanging(facts: &Facts, worker: &WorkerStatus) -> Option<Finding> {
    let is_stuck = matches!(worker.state.as_str(), "late" | "stuck");
    let remedy = format!(
        "kill -KILL {}: its launcher starts another, and its sessions end or go on elsewhere",
        worker.pid
    );
    is_stuck.then(|| {
        let found = format!(
            "{} (pid {}) in {} is {}",
            worker.name,
            worker.pid,
            facts.runtime_dir.display(),
            worker.state
        );
        Finding::problem("worker", found, "calls of nodes that come back by their deadline", remedy)
    })
}

fn quarantined(quarantine: &QuarantineStatus) -> Finding {
    let needed =
        format!("a worker that lives; it died {} times, and last it {}", quarantine.deaths, quarantine.cause);
    Finding::problem("worker", quarantine.reason.clone(), needed, quarantine.remedy.clone())
}

fn versions(facts: &Facts, status: &Status) -> Vec<Finding> {
    let check = "versions";
    let ours = env!("CARGO_PKG_VERSION");
    let (dir, theirs) = (facts.runtime_dir.display(), &status.gateway.version);
    let mut findings = Vec::new();
    let restart = "stop the gateway (SIGTERM to its pid, or systemctl restart remotemedia-gateway): its launcher starts the one that is installed";
    if theirs != ours {
        let found = format!("the gateway in {dir} is of version {theirs}, this program of {ours}");
        findings.push(Finding::problem(check, found, "one version", restart));
    }
    for loss in status.losses.iter().filter(|loss| loss.cause == OF_OTHER_VERSION) {
        let found =
            format!("{} is of another version than the gateway: {}", loss.worker, loss.last_lines.join(" "));
        let remedy = format!("install the worker of version {theirs}: its launcher starts what is installed");
        findings.push(Finding::problem(check, found, "one version", remedy));
    }
    if !facts.replaced.is_empty() {
        let found = format!("{} in {dir} began before what is installed now", facts.replaced.join(", "));
        let remedy = format!(
            "remotemedia restart --runtime-dir {dir}, which replaces workers; for a gateway: {restart}"
        );
        findings.push(Finding::note(check, found, "processes of the installed programs", remedy));
    }
    findings
}

fn replaced(status: &Status) -> Vec<String> {
    let gateway = (status.gateway.pid, "the gateway");
    let workers = status.workers.iter().map(|worker| (worker.pid, worker.name.as_str()));
    let all = std::iter::once(gateway).chain(workers);
    all.filter(|(pid, _name)| runs_what_was_deleted(*pid)).map(|(_pid, name)| name.to_owned()).collect()
}

/// Of another user's process it cannot be known, and then is not told.
fn runs_what_was_deleted(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|program| program.as_os_str().as_encoded_bytes().ends_with(b" (deleted)"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn facts(worker: &str, more: &str) -> Facts {
        let status = format!(
            r#"{{"gateway":{{"pid":7,"version":"{}","uptime_s":1,"grpc":"127.0.0.1:5"}},"workers":[{worker}],
                "frame_pools":[],"sessions":[]{more}}}"#,
            env!("CARGO_PKG_VERSION")
        );
        let status = Ok(serde_json::from_str(&status).unwrap());
        Facts { runtime_dir: "/run/x".into(), status, replaced: Vec::new() }
    }

    fn worker(state: &str) -> String {
        format!(r#"{{"pid":8,"name":"rust-1","kind":"rust","state":"{state}","sessions":0,"restarts":0}}"#)
    }

    fn check(facts: Facts, expected: &[(&str, Level)]) -> Vec<Finding> {
        let findings = judge(&[facts]);
        let found: Vec<_> = findings.iter().map(|finding| (finding.check, finding.level)).collect();
        assert_eq!(found, expected);
        findings
    }

    const SERVES: (&str, Level) = ("service", Level::Ok);

    #[test]
    fn a_service_that_does_not_answer_or_has_no_worker_is_a_problem() {
        check(facts(&worker("ready"), ""), &[SERVES]);
        check(facts("", ""), &[("service", Level::Problem)]);
        check(facts(&worker("loading"), ""), &[("service", Level::Problem)]);
        let silent = Facts { status: Err("it is late".to_owned()), ..facts("", "") };
        let findings = check(silent, &[("service", Level::Problem)]);
        assert!(findings[0].remedy.starts_with("kill -TERM \"$(cat /run/x/gateway.lock)\""), "{findings:?}");
        assert_eq!(judge(&[])[0].level, Level::Ok);
    }

    #[test]
    fn workers_that_hang_or_are_left_alone_are_problems() {
        let two = format!("{},{}", worker("ready"), worker("stuck"));
        let findings = check(facts(&two, ""), &[SERVES, ("worker", Level::Problem)]);
        assert!(findings[1].remedy.starts_with("kill -KILL 8:"), "{findings:?}");
        let left_alone = r#","quarantines":[{"worker":"python-1","deaths":5,"cause":"exited with code 4","left_s":41.2,
            "reason":"'python-1' is in quarantine","remedy":"remotemedia release python-1"}]"#;
        let findings = check(facts(&worker("ready"), left_alone), &[SERVES, ("worker", Level::Problem)]);
        assert_eq!(findings[1].remedy, "remotemedia release python-1");
    }

    #[test]
    fn versions_that_do_not_fit_are_told() {
        let mut older = facts(&worker("ready"), "");
        if let Ok(status) = &mut older.status {
            status.gateway.version = "0.0.9".to_owned();
        }
        check(older, &[SERVES, ("versions", Level::Problem)]);
        let refused = r#","losses":[{"worker":"rust-2","pid":9,"cause":"exited with code 5","ready":false,"deaths":1,
            "last_lines":["it speaks control protocol 8, this gateway 7"]}]"#;
        check(facts(&worker("ready"), refused), &[SERVES, ("versions", Level::Problem)]);
        let began_before = Facts { replaced: vec!["rust-1".to_owned()], ..facts(&worker("ready"), "") };
        let findings = check(began_before, &[SERVES, ("versions", Level::Note)]);
        assert!(findings[1].remedy.starts_with("remotemedia restart --runtime-dir /run/x,"), "{findings:?}");
    }
}
