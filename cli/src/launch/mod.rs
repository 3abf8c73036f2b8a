//! Starting and burying the processes of a service: a gateway and its workers.
//!
//! A [`Service`] owns one thread, which is the parent of all of them. Each is the leader of a process group and is
//! killed by the kernel should that thread be gone; each that dies is started again after a pause, and the gateway is
//! told of what it died and what it said last; when the service
//! is stopped or dropped nothing of it is left, neither processes nor files.

mod cell;
mod child;
mod confine;
mod herald;
mod home;
mod journal;
mod last_lines;
mod plan;
mod restart;
mod supervisor;
mod warden;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use remotemedia_core::fault::DeathCause;
use tokio::sync::watch;

pub(crate) use home::is_locked;
pub use home::{Home, HomeError, Purpose, Running, RuntimeDir};
pub use journal::Logs;
pub use plan::{Command, GatewayPlan, Plan, PlanError, PoolPlan};
pub use warden::{COMMAND as WARDEN, watch};

pub use restart::{Action, Event, Isolation, Lifecycle, Luck, Patience};

use crate::admin::{AdminDoor, Serving};
use last_lines::LastLines;

/// How often the gateway is asked whether the workers are ready.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// What the gateway says of a worker that sessions can use.
const READY: &str = "ready";

/// Makes a memory cgroup as for a worker of `up`, and removes it. Where it would have been.
///
/// # Errors
/// None can be made here: the memory of workers is bounded by `RLIMIT_DATA`.
pub(crate) fn try_cgroup() -> io::Result<PathBuf> {
    let cell = cell::Cell::make(&format!("trial-{}", home::random_bits()), 64 << 20)?;
    Ok(cell.path().to_owned())
}

/// A gateway and its workers, as children of this process. Dropping it kills them.
pub struct Service {
    wish: watch::Sender<Wish>,
    state: watch::Receiver<State>,
    last_lines: LastLines,
    workers: usize,
    thread: Option<JoinHandle<()>>,
    // After the thread: the files go when nobody uses them any more.
    dir: RuntimeDir,
}

/// Why a service did not start, or is gone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaunchError {
    /// It cannot work as planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The thread that watches over the processes could not be had.
    #[error("cannot watch over child processes: {source}")]
    Watch {
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The gateway ended before it served: its settings are wrong, and the last lines say how.
    #[error("the gateway {cause} before it served{}", Lines(.last_lines))]
    GatewayFailed {
        /// How it ended.
        cause: DeathCause,
        /// What was said last.
        last_lines: Vec<String>,
    },
    /// Not everybody was there in time.
    #[error(
        "not ready within {} s: {}, {registered} of {workers} workers are ready{}",
        .within.as_secs(),
        if *.serving { "the gateway serves" } else { "the gateway does not serve" },
        Lines(.last_lines)
    )]
    NotReady {
        /// How long was waited.
        within: Duration,
        /// Whether the gateway did its part.
        serving: bool,
        /// The workers that did theirs.
        registered: usize,
        /// The workers there should be.
        workers: usize,
        /// What was said last.
        last_lines: Vec<String>,
    },
    /// It was stopped, and is.
    #[error("the service was stopped")]
    Stopped,
}

/// What the processes should do. Later ones include earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    Run,
    Stop,
    Kill,
}

/// How the processes are.
#[derive(Clone, Debug, Default)]
struct State {
    serving: Option<Serving>,
    worker_pids: Vec<u32>,
    ended: Option<LaunchError>,
}

// === impl Service ===

impl Service {
    /// Starts all processes of the plan. They are not ready yet when this returns.
    ///
    /// # Errors
    /// The plan cannot work, or there is no thread to be had.
    pub fn start(plan: Plan, dir: RuntimeDir, logs: Logs) -> Result<Self, LaunchError> {
        plan.check()?;
        let workers = plan.pools.iter().map(|pool| usize::from(pool.workers)).sum();
        let (wish, wishes) = watch::channel(Wish::Run);
        let (states, state) = watch::channel(State::default());
        let patience = Patience { quarantine: Some(plan.isolation), ..Patience::default() };
        let order = supervisor::Order {
            plan,
            runtime_dir: dir.path().to_owned(),
            logs,
            patience,
            wish: wishes,
            state: states,
        };
        let (thread, last_lines) =
            supervisor::start(order).map_err(|error| LaunchError::Watch { source: Arc::new(error) })?;
        Ok(Self { wish, state, last_lines, workers, thread: Some(thread), dir })
    }

    /// Waits until the gateway serves and all workers are ready.
    ///
    /// # Errors
    /// The service ended, or was not ready in time.
    pub async fn ready(&mut self, within: Duration) -> Result<Serving, LaunchError> {
        let mut registered = 0;
        match tokio::time::timeout(within, self.until_ready(&mut registered)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(LaunchError::NotReady {
                within,
                serving: self.state.borrow().serving.is_some(),
                registered,
                workers: self.workers,
                last_lines: self.last_lines.get(),
            }),
        }
    }

    /// Waits until the service has ended, and says why.
    pub async fn ended(&mut self) -> LaunchError {
        loop {
            if let Some(ended) = &self.state.borrow_and_update().ended {
                return ended.clone();
            }
            if self.state.changed().await.is_err() {
                // The thread is gone without a word: it panicked, and the kernel has killed its children.
                return self.state.borrow().ended.clone().unwrap_or(LaunchError::Stopped);
            }
        }
    }

    /// Stops the gateway, then the workers, each with a time of grace; returns when all are buried and the files are
    /// gone. Dropping the future kills them instead.
    pub async fn stop(mut self) {
        self.wish.send_replace(Wish::Stop);
        let _why = self.ended().await;
    }

    /// What the processes said last.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        self.last_lines.get()
    }

    /// Where the service keeps its files.
    #[must_use]
    pub const fn dir(&self) -> &RuntimeDir {
        &self.dir
    }

    async fn until_ready(&mut self, registered: &mut usize) -> Result<Serving, LaunchError> {
        loop {
            let state = self.state.borrow_and_update().clone();
            if let Some(ended) = state.ended {
                return Err(ended);
            }
            if let Some(serving) = state.serving {
                *registered = ready_workers(&serving, &state.worker_pids).await;
                if *registered >= self.workers {
                    return Ok(serving);
                }
            }
            // The worker's registration is no event of ours; the rest is.
            let _news = tokio::time::timeout(ASK_EVERY, self.state.changed()).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.wish.send_replace(Wish::Kill);
        if let Some(thread) = self.thread.take() {
            // Bounded by the kills' time for burial. Its panic, if any, was reported when it happened.
            let _ended = thread.join();
        }
    }
}

/// How many of our workers the gateway knows as ready: what is joined and still loads has no node types yet. A gateway
/// that does not answer knows none: it is asked again.
async fn ready_workers(serving: &Serving, pids: &[u32]) -> usize {
    match AdminDoor::at(&serving.admin).status().await {
        Ok(status) => {
            let ours = status.workers.iter().filter(|worker| pids.contains(&worker.pid));
            ours.filter(|worker| worker.state == READY).count()
        }
        Err(_not_yet) => 0,
    }
}

/// Lines as the end of an error message.
struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str("; the last lines were")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    /// A service whose gateway and workers are what these scripts make of a shell.
    fn start(gateway: &str, worker: &str) -> (tempfile::TempDir, Service) {
        let shell = |script: &str| Command {
            program: "/bin/sh".into(),
            arguments: ["-c", script].map(Into::into).to_vec(),
        };
        let local = "127.0.0.1:0".to_owned();
        let gateway =
            GatewayPlan { command: shell(gateway), grpc: local.clone(), admin: local, config: None };
        let pools =
            vec![PoolPlan { kind: "sh".to_owned(), workers: 2, command: shell(worker), memory_bytes: None }];
        let base = tempfile::tempdir().unwrap();
        let dir = Home::of_user(Some(base.path())).private_dir(Purpose::Run).unwrap();
        (
            base,
            Service::start(
                Plan { gateway, pools, isolation: Isolation::default(), warden: None },
                dir,
                Logs::Kept,
            )
            .unwrap(),
        )
    }

    async fn worker_pids(service: &mut Service, is_it: impl Fn(&[u32]) -> bool) -> Vec<u32> {
        let state = service.state.wait_for(|state| is_it(&state.worker_pids));
        tokio::time::timeout(Duration::from_secs(20), state).await.unwrap().unwrap().worker_pids.clone()
    }

    fn lives(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn a_gateway_that_ends_before_it_serves_is_reported_in_its_own_words() {
        let (base, mut service) = start("echo 'port 5 is taken' >&2; exit 2", "exec sleep 1000");
        let error = service.ready(Duration::from_secs(20)).await.unwrap_err().to_string();
        assert!(error.starts_with("the gateway exited with code 2 before it served"), "{error}");
        assert!(error.contains("\n  [gateway] port 5 is taken"), "{error}");
        drop(service);
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_worker_that_dies_is_started_again() {
        let (_base, mut service) = start("exec sleep 1000", "exec sleep 1000");
        let first = worker_pids(&mut service, |pids| pids.len() == 2).await;
        let victim = nix::unistd::Pid::from_raw(i32::try_from(first[0]).unwrap());
        nix::sys::signal::kill(victim, nix::sys::signal::SIGKILL).unwrap();
        let second = worker_pids(&mut service, |pids| pids.len() == 2 && !pids.contains(&first[0])).await;
        assert_eq!(first[1], second[1]);
        let lines = service.last_lines().join("\n");
        assert!(
            lines
                .contains(&format!("[launcher] sh-1 (pid {}) was killed by SIGKILL: starts again", first[0])),
            "{lines}"
        );
    }

    #[tokio::test]
    async fn a_service_that_is_not_ready_in_time_says_what_is_missing() {
        let (_base, mut service) = start("exec sleep 1000", "exec sleep 1000");
        let error = service.ready(Duration::from_millis(200)).await.unwrap_err().to_string();
        assert!(error.contains("the gateway does not serve, 0 of 2 workers are ready"), "{error}");
    }

    #[tokio::test]
    async fn stopping_asks_everybody_and_leaves_nothing() {
        let (base, mut service) = start("exec sleep 1000", "exec sleep 1000");
        let pids = worker_pids(&mut service, |pids| pids.len() == 2).await;
        let begin = Instant::now();
        service.stop().await;
        assert!(begin.elapsed() < Patience::default().grace, "nobody was asked: {:?}", begin.elapsed());
        assert!(!pids.into_iter().any(lives));
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_service_that_is_dropped_is_gone_even_if_it_ignores_requests() {
        let deaf = "trap '' TERM; while :; do sleep 1000; done";
        let (base, mut service) = start(deaf, deaf);
        let pids = worker_pids(&mut service, |pids| pids.len() == 2).await;
        drop(service);
        assert!(!pids.into_iter().any(lives));
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
