//! `remotemedia doctor` as somebody runs it whose service does not do what it should.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_cli::doctor::LINK_BYTES;
use remotemedia_tests::Up;
use remotemedia_tests::plant::{Process, START, program, python};
use remotemedia_tests::up::Home;
use serde_json::Value;

/// What makes up a report.
struct Report {
    code: Option<i32>,
    findings: Vec<Value>,
}

#[tokio::test]
async fn a_doctor_says_how_this_machine_is_and_how_the_service_is_that_runs() {
    let home = Home::fresh();
    let alone = Report::of(&home, &[]).await;
    for check in ["kernel", "cgroups", "open-files", "memory", "shared-memory", "home", "programs", "python"]
    {
        assert!(alone.found(check)["found"].is_string());
    }
    for check in ["kernel", "home", "programs", "service"] {
        alone.expect(check, "ok", "");
    }
    let up = Up::start_in(home).await;
    let beside = Report::of(&up.home, &[]).await;
    beside.expect("service", "ok", "2 of 2 workers are ready");
    beside.expect("runtime-dir", "ok", up.ready["runtime_dir"].as_str().unwrap());
    assert!(!beside.has("stale-files"), "{:?}", beside.findings);

    let gateway = Pid::from_raw(i32::try_from(up.look().await.gateway.pid).unwrap());
    kill(gateway, Signal::SIGSTOP).unwrap();
    let stopped = Report::of(&up.home, &[]).await;
    kill(gateway, Signal::SIGCONT).unwrap();
    stopped.expect("service", "problem", "did not answer within 5 s");
    assert_eq!(stopped.code, Some(1));
    up.stop().await;
}

#[tokio::test]
async fn what_is_left_of_a_killed_gateway_is_told_and_left_and_the_command_that_is_named_removes_it() {
    let home = Home::fresh();
    let dir = home.file("run");
    let gateway = gateway(&dir);
    gateway.first_line(START).await;
    let words = ["--runtime-dir", dir.as_str()];
    let living = Report::of(&home, &words).await;
    living.expect("service", "problem", "0 of 0 workers are ready");
    assert!(!living.has("stale-files"), "{:?}", living.findings);

    gateway.signal(Signal::SIGKILL);
    gateway.ended(START).await;
    let before = left_in(&dir);
    assert!(!before.is_empty());
    let dead = Report::of(&home, &words).await;
    dead.expect("stale-files", "note", "a gateway that was killed has left remotemedia");
    dead.expect("service", "ok", "no gateway runs");
    assert_eq!(left_in(&dir), before, "it removes nothing");

    let remedy = dead.found("stale-files")["remedy"].as_str().unwrap().to_owned();
    let (_, command) = remedy.split_once("any more: ").unwrap();
    assert!(shell(command), "{command}");
    assert!(!Report::of(&home, &words).await.has("stale-files"));
    assert_eq!(left_in(&dir), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_runtime_directory_that_others_reach_is_a_problem_and_the_command_that_is_named_mends_it() {
    let home = Home::fresh();
    let dir = home.file("run");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    let words = ["--runtime-dir", dir.as_str()];
    let open = Report::of(&home, &words).await;
    open.expect("runtime-dir", "problem", "has mode 0755");
    assert_eq!(open.code, Some(1));
    let refused = gateway(&dir).ended(START).await;
    assert_eq!(refused.status.code(), Some(73), "the gateway judges as the doctor does");

    let remedy = open.found("runtime-dir")["remedy"].as_str().unwrap().to_owned();
    assert!(shell(&remedy), "{remedy}");
    Report::of(&home, &words).await.expect("runtime-dir", "ok", "of this user alone");
}

#[tokio::test]
async fn limits_that_are_too_low_are_told_of_the_shell_that_has_them() {
    let check = |limits: &str, check: &str, expected: (&str, &str)| {
        let doctor = program("remotemedia");
        let script = format!("{limits}; exec {} doctor --json", doctor.display());
        let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let report = Report::parse(&String::from_utf8(output.stdout).unwrap(), output.status.code());
        report.expect(check, expected.0, "");
        let remedy = report.found(check)["remedy"].as_str().unwrap();
        assert!(remedy.contains(expected.1), "{remedy}");
    };
    check("ulimit -n 40", "open-files", ("problem", "4096"));
    check("ulimit -S -n 300", "open-files", ("note", "ulimit -n 4096"));
    check("ulimit -d 65536", "data-size", ("problem", "ulimit -d unlimited"));
    check("ulimit -f 1000", "file-size", ("problem", "ulimit -f unlimited"));
}

#[tokio::test]
async fn an_interpreter_with_the_package_is_told_from_one_without() {
    let home = Home::fresh();
    let place = format!("--user-dir={}", home.file("services"));
    let words = [place.as_str(), "doctor", "--json"];
    let python = python();
    let check = async |path: &Path, level: &str, found: &str| {
        let environment = [("PATH", path.as_os_str())];
        let doctor = Process::start_with("doctor", &program("remotemedia"), &words, &environment);
        let code = doctor.ended(START).await.status.code();
        Report::parse(&doctor.printed().join("\n"), code).expect("python", level, found);
    };
    check(python.parent().unwrap(), "ok", "has remotemedia").await;
    check(Path::new("/nowhere"), "note", "no python3").await;
}

#[tokio::test]
async fn the_size_of_a_link_that_the_doctor_reckons_with_is_the_one_it_has() {
    let up = Up::start().await;
    let marks = up.marks();
    let files = fs::read_dir("/dev/shm").unwrap().map(|file| file.unwrap());
    let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(marks[0].as_str()));
    let bytes: u64 = ours.map(|file| file.metadata().unwrap().len()).sum();
    // Both ways between the gateway and each of two workers.
    let each = bytes / 4;
    assert!(each <= LINK_BYTES && each > LINK_BYTES / 10 * 9, "a link has {each} bytes, not {LINK_BYTES}");
    up.stop().await;
}

// === impl Report ===

impl Report {
    async fn of(home: &Home, words: &[&str]) -> Self {
        let done = home.run(&[&["doctor", "--json"], words].concat()).await;
        Self::parse(&done.stdout.join("\n"), done.code)
    }

    fn parse(text: &str, code: Option<i32>) -> Self {
        let report: Value = serde_json::from_str(text).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        let problems = findings.iter().filter(|finding| finding["level"] == "problem").count();
        assert_eq!(report["problems"], problems);
        assert_eq!(code, Some(i32::from(problems > 0)), "{findings:#?}");
        for finding in findings.iter().filter(|finding| finding["level"] != "ok") {
            assert!(finding["needed"].is_string() && finding["remedy"].is_string(), "{finding}");
        }
        Self { code, findings }
    }

    fn has(&self, check: &str) -> bool {
        self.findings.iter().any(|finding| finding["check"] == check)
    }

    fn found(&self, check: &str) -> &Value {
        let found = self.findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("nothing about {check}: {:#?}", self.findings))
    }

    fn expect(&self, check: &str, level: &str, found: &str) {
        let finding = self.found(check);
        assert_eq!(finding["level"], level, "{finding}");
        assert!(finding["found"].as_str().unwrap().contains(found), "{finding}");
    }
}

fn gateway(dir: &str) -> Process {
    let words = ["--runtime-dir", dir, "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    Process::start("gateway", &program("remotemedia-gateway"), &words)
}

/// What is there of domains: directories, and files in shared memory.
fn left_in(dir: &str) -> Vec<PathBuf> {
    let entries =
        |dir: &str| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let name = |path: &Path| path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    let mut left = entries(dir);
    left.retain(|path| name(path).starts_with("remotemedia"));
    let marks: Vec<String> = left.iter().map(|path| format!("{}_", name(path))).collect();
    let shared = entries("/dev/shm").into_iter();
    left.extend(shared.filter(|path| marks.iter().any(|mark| name(path).starts_with(mark.as_str()))));
    left.sort();
    left
}

fn shell(command: &str) -> bool {
    Command::new("/bin/sh").args(["-c", command]).status().unwrap().success()
}
