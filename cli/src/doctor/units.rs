//! The units of systemd, where it is this machine's init.

use std::path::Path;

use super::finding::Finding;
use super::programs;

/// What systemd says of our units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Facts {
    /// Something else is the first process.
    NoSystemd,
    /// It does not say.
    Unknown { why: String },
    /// These are loaded; none if none is installed or was asked for.
    Loaded(Vec<Unit>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unit {
    name: String,
    /// `active`, `failed` and so on.
    active: String,
    /// Why its last run ended, in systemd's words: `success`, `oom-kill`, `start-limit-hit` and so on.
    result: String,
}

/// There if systemd is the first process.
const BOOTED: &str = "/run/systemd/system";

pub(super) async fn read() -> Facts {
    if !Path::new(BOOTED).is_dir() {
        return Facts::NoSystemd;
    }
    let words = ["show", "--property=Id,ActiveState,Result", "remotemedia*"];
    match programs::ask(Path::new("systemctl"), words).await {
        Ok(said) => Facts::Loaded(said.split("\n\n").filter_map(Unit::parse).collect()),
        Err(why) => Facts::Unknown { why },
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let check = "units";
    let units = match facts {
        // Nobody expects units there.
        Facts::NoSystemd => return Vec::new(),
        Facts::Unknown { why } => {
            let found = format!("systemd does not tell of its units: {why}");
            return vec![Finding::note(check, found, "an answer", "systemctl status 'remotemedia*'")];
        }
        Facts::Loaded(units) => units,
    };
    let failed = units.iter().filter(|unit| unit.active == "failed").map(|unit| {
        let Unit { name, result, .. } = unit;
        let remedy = format!(
            "journalctl -u {name} -n 50, then systemctl reset-failed {name} && systemctl start {name}"
        );
        Finding::problem(check, format!("{name} has failed: {result}"), "a unit that runs", remedy)
    });
    let mut findings: Vec<Finding> = failed.collect();
    if findings.is_empty() {
        let active = units.iter().filter(|unit| unit.active == "active").count();
        findings.push(match units.len() {
            0 => Finding::ok(
                check,
                "systemd has loaded none of RemoteMedia's: `remotemedia up` serves without",
            ),
            loaded => Finding::ok(check, format!("{active} of {loaded} are active, and none has failed")),
        });
    }
    findings
}

// === impl Unit ===

impl Unit {
    fn parse(block: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.map(str::to_owned)
        };
        let result = field("Result").unwrap_or_default();
        Some(Self { name: field("Id")?, active: field("ActiveState")?, result })
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn levels(facts: &Facts) -> Vec<Level> {
        judge(facts).into_iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_failed_unit_is_a_problem_with_the_commands_to_look_and_to_go_on() {
        let said = "Result=success\nId=remotemedia.slice\nActiveState=active\n\nResult=start-limit-hit\n\
                    Id=remotemedia-worker@1.service\nActiveState=failed";
        let units: Vec<Unit> = said.split("\n\n").filter_map(Unit::parse).collect();
        let findings = judge(&Facts::Loaded(units.clone()));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Problem);
        assert_eq!(findings[0].found, "remotemedia-worker@1.service has failed: start-limit-hit");
        assert!(findings[0].remedy.starts_with("journalctl -u remotemedia-worker@1.service -n 50"));
        assert_eq!(levels(&Facts::Loaded(units[..1].to_vec())), [Level::Ok]);
        assert_eq!(levels(&Facts::Loaded(Vec::new())), [Level::Ok]);
    }

    #[test]
    fn a_systemd_that_does_not_answer_is_told_and_one_that_is_not_there_is_not() {
        assert_eq!(levels(&Facts::Unknown { why: "no bus".to_owned() }), [Level::Note]);
        assert_eq!(levels(&Facts::NoSystemd), []);
    }
}
