//! `remotemedia status`: what a running service does.

use std::fmt;

use remotemedia_core::launching::Rollout;
use serde_json::Value;

use crate::admin::{AdminDoor, LossStatus, QuarantineStatus, Status};
use crate::args::StatusArgs;
use crate::error::CommandError;
use crate::find;
use crate::launch::Home;
use crate::table::Table;

/// Prints what the gateway says of its workers, frame pools and sessions.
///
/// # Errors
/// There is no gateway, or it does not answer.
pub async fn status(args: StatusArgs, home: &Home) -> Result<(), CommandError> {
    let serving = find::gateway(home, args.runtime_dir.as_deref())?;
    let door = AdminDoor::at(&serving.admin);
    Ok(if args.json {
        // Passed on as it is: what a newer gateway adds is not lost.
        crate::print_json(&door.get_json::<Value>("/status").await?)
    } else {
        crate::print_line(Report(door.status().await?).to_string().trim_end())
    }?)
}

/// A status for people.
struct Report(Status);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status {
            gateway,
            workers,
            frame_pools,
            sessions,
            losses,
            replays,
            poisons,
            quarantines,
            restart,
        } = &self.0;
        writeln!(
            f,
            "gateway {} (pid {}) serves {} for {:.0} s",
            gateway.version, gateway.pid, gateway.grpc, gateway.uptime_s
        )?;
        let mut table = Table::new(["worker", "pid", "kind", "state", "sessions", "restarts"]);
        for worker in workers {
            table.row([
                worker.name.clone(),
                worker.pid.to_string(),
                worker.kind.clone(),
                match &worker.step {
                    Some(step) => format!("{}: {step}", worker.state),
                    None => worker.state.clone(),
                },
                worker.sessions.to_string(),
                worker.restarts.to_string(),
            ]);
        }
        write!(f, "\n{table}")?;
        if !losses.is_empty() {
            writeln!(f)?;
        }
        losses.iter().try_for_each(|loss| writeln!(f, "{}", Last(loss)))?;
        if *replays > 0 {
            writeln!(
                f,
                "work of the dead was given to others {replays} times, and given up {poisons} times"
            )?;
        }
        if !quarantines.is_empty() {
            writeln!(f)?;
        }
        quarantines.iter().try_for_each(|quarantine| writeln!(f, "{}", Isolated(quarantine)))?;
        if let Some(rollout) =
            restart.as_ref().filter(|rollout| !rollout.done.is_empty() || !rollout.left.is_empty())
        {
            writeln!(f, "\n{}", Replaced(rollout))?;
        }
        let mut table = Table::new(["frame pool", "owner", "size", "blocks", "in use", "state"]);
        for pool in frame_pools {
            table.row([
                pool.id.to_string(),
                pool.owner.clone(),
                mebibytes(pool.bytes),
                pool.blocks.to_string(),
                pool.blocks_in_use.to_string(),
                pool.state.clone(),
            ]);
        }
        write!(f, "\n{table}")?;
        if sessions.is_empty() {
            return writeln!(f, "\nno sessions");
        }
        let mut table = Table::new(["session", "pipeline", "state", "age", "workers"]);
        for session in sessions {
            table.row([
                session.id.clone(),
                session.pipeline.clone(),
                session.state.clone(),
                format!("{:.1} s", session.age_s),
                session.workers.join(", "),
            ]);
        }
        write!(f, "\n{table}")
    }
}

/// A death in one line.
struct Last<'a>(&'a LossStatus);

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LossStatus { worker, pid, cause, ready, deaths, last_lines } = self.0;
        let before = if *ready { "" } else { " before it was ready" };
        write!(f, "{worker} (pid {pid}) {cause}{before}, death {deaths} of this name")?;
        match last_lines.iter().rev().find(|line| !line.is_empty()) {
            Some(line) => write!(f, "; it wrote last: {line}"),
            None => Ok(()),
        }
    }
}

/// A quarantine in one line.
struct Isolated<'a>(&'a QuarantineStatus);

impl fmt::Display for Isolated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuarantineStatus { left_s, reason, remedy, .. } = self.0;
        write!(f, "{reason}; it is tried again in {:.0} s, or at once by `{remedy}`", left_s.ceil())
    }
}

/// A restart in one line.
struct Replaced<'a>(&'a Rollout);

impl fmt::Display for Replaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rollout { done, left, problem } = self.0;
        match (left.as_slice(), problem.as_str()) {
            ([], _) => write!(f, "restarted: {}", done.join(", ")),
            (left, "") => write!(f, "restarting: {} replaced, {} left", done.len(), left.join(", ")),
            (left, problem) => write!(f, "restart given up, with {} left: {problem}", left.join(", ")),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_tables() {
        let status: Status = serde_json::from_str(
            r#"{"gateway":{"pid":7,"version":"0.1.0","uptime_s":61.4,"grpc":"127.0.0.1:5"},
                "workers":[{"pid":8,"name":"rust-1","kind":"rust","state":"ready","sessions":1,"restarts":0}],
                "frame_pools":[{"id":1,"owner":"gateway","bytes":67108864,"blocks":64,"blocks_in_use":2,"state":"active"}],
                "sessions":[],
                "losses":[{"worker":"python-1","pid":9,"cause":"exited with code 4","ready":false,"deaths":3,
                           "last_lines":["Traceback","ImportError: no model",""]}],
                "replays":4,"poisons":1,
                "quarantines":[{"worker":"python-1","deaths":5,"cause":"exited with code 4","left_s":41.2,
                                "reason":"'python-1' is in quarantine: …","remedy":"remotemedia release python-1"}]}"#,
        )
        .unwrap();
        assert_eq!(
            Report(status).to_string(),
            "gateway 0.1.0 (pid 7) serves 127.0.0.1:5 for 61 s\n\n\
             worker  pid  kind  state  sessions  restarts\n\
             rust-1  8    rust  ready  1         0\n\n\
             python-1 (pid 9) exited with code 4 before it was ready, death 3 of this name; it wrote last: \
             ImportError: no model\n\
             work of the dead was given to others 4 times, and given up 1 times\n\n\
             'python-1' is in quarantine: …; it is tried again in 42 s, or at once by \
             `remotemedia release python-1`\n\n\
             frame pool  owner    size      blocks  in use  state\n\
             1           gateway  64.0 MiB  64      2       active\n\n\
             no sessions\n"
        );
    }
}
