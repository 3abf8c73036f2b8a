//! The programs that `up` starts: whether they are there, and of this version.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::finding::Finding;
use crate::config::Programs;

/// Each with what it says of itself.
pub(super) type Facts = Vec<Program>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    path: PathBuf,
    /// What it prints when it is asked; else why it does not.
    said: Result<String, String>,
}

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn read(programs: &Programs) -> Facts {
    let mut found = Vec::new();
    for path in [&programs.gateway, &programs.worker] {
        found.push(Program { path: path.clone(), said: ask(path, ["--version"]).await });
    }
    found
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let check = "programs";
    let ours = env!("CARGO_PKG_VERSION");
    let of_program = |program: &Program| {
        let path = program.path.display();
        let needed = format!("version {ours}, as this program");
        let remedy =
            format!("install {path} of version {ours}: all programs of a service are of one version");
        match &program.said {
            Err(why) => Some(Finding::problem(check, format!("{path} cannot be run: {why}"), needed, remedy)),
            Ok(said) if said.split(' ').next_back() != Some(ours) => {
                Some(Finding::problem(check, format!("{path} says '{said}'"), needed, remedy))
            }
            Ok(_said) => None,
        }
    };
    let mut findings: Vec<Finding> = facts.iter().filter_map(of_program).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("this program, gateway and worker are of version {ours}")));
    }
    findings
}

/// What a program prints, without the end of the last line.
pub(super) async fn ask(
    program: &Path,
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String, String> {
    let mut command = Command::new(program);
    // One that is given up is killed, and reaped by the runtime.
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_elapsed| format!("no answer within {} s", PATIENCE.as_secs()))?;
    let output = output.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        let said = text(&output.stderr);
        Err(format!("{}, {}", output.status, said.lines().next_back().unwrap_or("without a word")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn of(said: Result<&str, &str>) -> Finding {
        let said = said.map(str::to_owned).map_err(str::to_owned);
        judge(&vec![Program { path: "/usr/bin/remotemedia-gateway".into(), said }]).remove(0)
    }

    #[test]
    fn a_program_that_is_missing_or_of_another_version_is_a_problem() {
        let ours = concat!("remotemedia-gateway ", env!("CARGO_PKG_VERSION"));
        assert_eq!(of(Ok(ours)).level, Level::Ok);
        let other = of(Ok("remotemedia-gateway 0.0.9"));
        assert_eq!(other.level, Level::Problem);
        assert!(other.found.contains("'remotemedia-gateway 0.0.9'"), "{other:?}");
        assert_eq!(of(Err("not found")).level, Level::Problem);
    }

    #[tokio::test]
    async fn a_program_that_fails_is_told_with_its_last_line() {
        let failed = ask(Path::new("/bin/sh"), ["-c", "echo a >&2; echo b >&2; exit 3"]).await;
        assert_eq!(failed, Err("exit status: 3, b".to_owned()));
        assert_eq!(ask(Path::new("/bin/sh"), ["-c", "echo a"]).await, Ok("a".to_owned()));
    }
}
