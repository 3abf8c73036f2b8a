//! What a service is made of: which programs, with which arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};

use super::child::Program;
use super::restart::Isolation;
use crate::admin::Serving;

/// A gateway and its pools of workers, before they run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The gateway.
    pub gateway: GatewayPlan,
    /// The pools. At most [`Plan::MAX_WORKERS`] workers together.
    pub pools: Vec<PoolPlan>,
    /// When a worker that keeps dying is left alone.
    pub isolation: Isolation,
    /// The program that, told to be a [warden](super::WARDEN), kills what is left when the launcher is killed; none
    /// to do without.
    pub warden: Option<PathBuf>,
}

/// The gateway, before it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayPlan {
    /// The program and its first arguments.
    pub command: Command,
    /// `HOST:PORT`, port 0 for a free one, or `unix:PATH`.
    pub grpc: String,
    /// `HOST:PORT`, port 0 for a free one, or `unix:PATH`.
    pub admin: String,
    /// The gateway's own configuration file, if it has one.
    pub config: Option<PathBuf>,
}

/// Workers of one kind, before they run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolPlan {
    /// What they are called in names and `status`.
    pub kind: String,
    /// How many there are.
    pub workers: u16,
    /// The program and its first arguments.
    pub command: Command,
    /// How much memory each of them may use, in bytes; none if that is not bounded. Frame pools do not count.
    pub memory_bytes: Option<u64>,
}

/// A program and its first arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The program: a path. No search path is looked at.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

/// A plan that cannot work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// Nothing to start.
    #[error("no program {program}: build it (cargo build --release), or name another one with {advice}")]
    NoProgram {
        /// As given.
        program: PathBuf,
        /// The options that do.
        advice: &'static str,
    },
    /// More processes than one gateway can hold apart.
    #[error("{workers} workers are over the limit of {limit} for one gateway", limit = Plan::MAX_WORKERS)]
    TooManyWorkers {
        /// Of all pools together.
        workers: usize,
    },
    /// Nobody would run anything.
    #[error("no workers: start at least one")]
    NoWorkers,
    /// Two pools of one name.
    #[error("two pools are of kind '{kind}': give each its own, workers are named by it")]
    SameKind {
        /// The name.
        kind: String,
    },
}

// === impl Plan ===

impl Plan {
    /// A lease word has 40 bits for the processes of one gateway, and the gateway takes one of them.
    pub const MAX_WORKERS: usize = 39;

    /// # Errors
    /// The first thing that cannot work.
    pub fn check(&self) -> Result<(), PlanError> {
        let workers = self.pools.iter().map(|pool| usize::from(pool.workers)).sum();
        if workers == 0 {
            return Err(PlanError::NoWorkers);
        }
        if workers > Self::MAX_WORKERS {
            return Err(PlanError::TooManyWorkers { workers });
        }
        for (place, pool) in self.pools.iter().enumerate() {
            if self.pools[..place].iter().any(|other| other.kind == pool.kind) {
                return Err(PlanError::SameKind { kind: pool.kind.clone() });
            }
            pool.command.check("--worker-bin or 'command' of the pool")?;
        }
        self.gateway.command.check("--gateway-bin or 'command' of [gateway]")
    }
}

// === impl GatewayPlan ===

impl GatewayPlan {
    /// The gateway's command line. One that starts again serves where its predecessor did: clients know that place.
    /// It looks for memory for so many workers.
    pub(super) fn program(&self, runtime_dir: &Path, workers: usize, before: Option<&Serving>) -> Program {
        let (grpc, admin) =
            before.map_or((&self.grpc, &self.admin), |serving| (&serving.grpc, &serving.admin));
        let mut arguments = self.command.arguments.clone();
        arguments.extend(["--grpc", grpc, "--admin", admin, "--runtime-dir"].map(OsString::from));
        arguments.push(runtime_dir.into());
        arguments.extend(["--workers".into(), workers.to_string().into()]);
        if let Some(config) = &self.config {
            arguments.extend([OsString::from("--config"), config.into()]);
        }
        // Asked, not killed: it removes its sockets and shared memory.
        Program { path: self.command.program.clone(), arguments, on_launcher_death: Signal::SIGTERM }
    }
}

// === impl PoolPlan ===

impl PoolPlan {
    /// The names of the workers.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.workers).map(|number| format!("{}-{number}", self.kind))
    }

    /// The command line of one worker.
    pub(super) fn program(&self, name: &str, runtime_dir: &Path) -> Program {
        let mut arguments = self.command.arguments.clone();
        arguments.push("--runtime-dir".into());
        arguments.push(runtime_dir.into());
        arguments.extend(["--name", name].map(OsString::from));
        // Killed, not asked: a node may hang, and what a worker leaves behind the gateway removes.
        Program { path: self.command.program.clone(), arguments, on_launcher_death: Signal::SIGKILL }
    }
}

// === impl Command ===

impl Command {
    /// A program without arguments.
    #[must_use]
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    fn check(&self, advice: &'static str) -> Result<(), PlanError> {
        if self.program.is_file() && access(&self.program, AccessFlags::X_OK).is_ok() {
            return Ok(());
        }
        Err(PlanError::NoProgram { program: self.program.clone(), advice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(workers: &[(&str, u16)]) -> Plan {
        let command = Command::of("/proc/self/exe");
        let pool = |(kind, workers): &(&str, u16)| PoolPlan {
            kind: (*kind).to_owned(),
            workers: *workers,
            command: command.clone(),
            memory_bytes: None,
        };
        Plan {
            gateway: GatewayPlan {
                command: command.clone(),
                grpc: "127.0.0.1:0".to_owned(),
                admin: "127.0.0.1:0".to_owned(),
                config: None,
            },
            pools: workers.iter().map(pool).collect(),
            isolation: Isolation::default(),
            warden: None,
        }
    }

    #[test]
    fn plans_that_cannot_work_are_refused_with_the_reason() {
        assert_eq!(plan(&[("rust", 39)]).check(), Ok(()));
        let check = |plan: Plan, expect| assert_eq!(plan.check().unwrap_err().to_string(), expect);
        check(plan(&[]), "no workers: start at least one");
        check(plan(&[("rust", 0)]), "no workers: start at least one");
        check(plan(&[("rust", 39), ("gpu", 1)]), "40 workers are over the limit of 39 for one gateway");
        check(
            plan(&[("rust", 1), ("rust", 1)]),
            "two pools are of kind 'rust': give each its own, workers are named by it",
        );
        let mut missing = plan(&[("rust", 1)]);
        missing.gateway.command = Command::of("/nowhere/gateway");
        check(
            missing,
            "no program /nowhere/gateway: build it (cargo build --release), or name another one with --gateway-bin or 'command' of [gateway]",
        );
    }

    #[test]
    fn a_gateway_that_starts_again_serves_where_its_predecessor_did() {
        let plan = plan(&[("rust", 1)]);
        let (grpc, admin) = ("127.0.0.1:5001".to_owned(), "127.0.0.1:5002".to_owned());
        let before = Serving { grpc, admin, pid: 7, drain_ms: None };
        let program = plan.gateway.program(Path::new("/run/x"), 3, Some(&before));
        let expect = [
            "--grpc",
            "127.0.0.1:5001",
            "--admin",
            "127.0.0.1:5002",
            "--runtime-dir",
            "/run/x",
            "--workers",
            "3",
        ];
        assert_eq!(program.arguments, expect);
    }

    #[test]
    fn workers_are_named_by_kind_and_number() {
        let plan = plan(&[("rust", 2)]);
        let names: Vec<String> = plan.pools[0].names().collect();
        assert_eq!(names, ["rust-1", "rust-2"]);
        let program = plan.pools[0].program(&names[1], Path::new("/run/x"));
        assert_eq!(program.arguments, ["--runtime-dir", "/run/x", "--name", "rust-2"]);
    }
}
