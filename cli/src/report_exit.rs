//! `report-exit`: systemd's word to the gateway of how a worker ended.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use remotemedia_core::fault::DeathCause;
use remotemedia_ipc::control::messages::Report;
use remotemedia_ipc::launcher;
use remotemedia_ipc::memory::MemoryGroup;

use crate::args::ReportExitArgs;
use crate::error::CommandError;

/// How long the gateway may take to hear it. It waits for the report that long, and no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells the gateway how the unit's process ended. Run in the unit's own cgroup, which knows of want of memory.
///
/// # Errors
/// There is no gateway: nobody waits for the report then.
pub fn report_exit(args: &ReportExitArgs) -> Result<(), CommandError> {
    // Nobody else runs in this cgroup any more: who was killed in it was of the unit.
    let group = MemoryGroup::of(std::process::id().cast_signed());
    let kills = group.as_ref().and_then(MemoryGroup::kills).unwrap_or_default();
    let report = Report {
        invocation: args.invocation,
        name: args.name.clone(),
        cause: cause(args, kills),
        is_failure: args.result != SUCCESS,
    };
    launcher::report(&args.runtime_dir, report, Instant::now() + PATIENCE)
        .map_err(|source| CommandError::Report { name: args.name.clone(), source })
}

/// What systemd calls it when a unit did as it was told.
const SUCCESS: &str = "success";

/// How it ended, of which the kernel has killed so many processes for want of memory. Systemd knows of that in the second
/// version of cgroups only.
fn cause(args: &ReportExitArgs, kills: u64) -> DeathCause {
    let status = args.status.as_deref().unwrap_or_default();
    match (args.result.as_str(), args.code.as_deref()) {
        ("oom-kill", _) => DeathCause::OutOfMemory,
        ("watchdog", _) => DeathCause::Hang,
        (_, Some("killed")) if status == "KILL" && kills > 0 => DeathCause::OutOfMemory,
        (_, Some("killed" | "dumped")) => {
            let signal = format!("SIG{status}").parse::<Signal>();
            signal.map_or(DeathCause::Unknown, |signal| DeathCause::Signal(signal as i32))
        }
        (_, Some("exited")) => status.parse().map_or(DeathCause::Unknown, DeathCause::Exit),
        (_, _) => DeathCause::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::launching::Invocation;

    use super::*;

    #[test]
    fn the_cause_is_what_systemd_and_the_cgroup_know_together() {
        let check = |[result, code, status]: [&str; 3], kills, expect| {
            let args = ReportExitArgs {
                runtime_dir: "/run/remotemedia".into(),
                name: "rust-1".to_owned(),
                invocation: Invocation(1),
                result: result.to_owned(),
                code: (!code.is_empty()).then(|| code.to_owned()),
                status: Some(status.to_owned()),
            };
            assert_eq!(cause(&args, kills), expect, "{result} {code} {status}, {kills}");
        };
        check(["success", "exited", "0"], 0, DeathCause::Exit(0));
        check(["exit-code", "exited", "4"], 0, DeathCause::Exit(4));
        check(["signal", "killed", "KILL"], 0, DeathCause::Signal(9));
        // Of the first version of cgroups: systemd has not seen it.
        check(["signal", "killed", "KILL"], 1, DeathCause::OutOfMemory);
        check(["oom-kill", "killed", "KILL"], 1, DeathCause::OutOfMemory);
        check(["oom-kill", "killed", "TERM"], 1, DeathCause::OutOfMemory);
        check(["core-dump", "dumped", "SEGV"], 0, DeathCause::Signal(11));
        check(["watchdog", "dumped", "ABRT"], 0, DeathCause::Hang);
        check(["signal", "killed", "RTMIN+3"], 0, DeathCause::Unknown);
        check(["resources", "", ""], 0, DeathCause::Unknown);
    }
}
