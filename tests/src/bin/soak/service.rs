//! `remotemedia up` with pools that can be killed in every way, and what is seen of it from outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_cli::admin::{AdminDoor, Status, WorkerStatus};
use remotemedia_ipc::death::PidFd;
use remotemedia_tests::plant::program;
use remotemedia_tests::{Up, deaths};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::cage::Cages;

/// The service, and notes that fault nodes leave.
#[derive(Debug)]
pub(crate) struct Service {
    up: Up,
    door: AdminDoor,
    admin: String,
    pub(crate) address: String,
    pub(crate) has_python: bool,
    pub(crate) cages: Option<Cages>,
    notes: TempDir,
    /// The domains that there were, one for each gateway.
    marks: Vec<String>,
    /// Of gateways that were killed.
    replays: u64,
    deaths: BTreeMap<String, u64>,
}

/// What can leak, as far as it is seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) gateway_fds: usize,
    pub(crate) gateway_heap_bytes: u64,
    /// In the runtime directory, and of the domain in shared memory.
    pub(crate) files: usize,
    /// Made when they are first used.
    pub(crate) links: usize,
    /// Made by processes that do not live.
    pub(crate) files_of_dead: usize,
    pub(crate) processes: usize,
}

/// Deadlines that are short enough to meet many of them in a minute.
const SETTINGS: &str = "
log_format = 'json'
[limits]
default_timeout_ms = 1000
open_timeout_ms = 1500
hang_grace_ms = 500
";

/// Whatever dies so often should be left alone, and here be struck again.
const FORGIVING: &str = "[quarantine]\ndeaths = 1000000\n";

const RUST_WORKERS: usize = 4;
const PYTHON_WORKERS: usize = 2;

/// POSIX shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// How the name of a file ends of which there is one for each link.
const LINK: &str = ".dynamic";

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

// === impl Service ===

impl Service {
    /// Starts it, with Python if there is an environment for that, and each worker in a memory cgroup if such can be made.
    pub(crate) async fn start() -> Self {
        let (python, cages) = (python(), Cages::find());
        let mut pools = pool("rust", RUST_WORKERS, cages.as_ref(), &[program("test-worker")], &[]);
        if let Some(python) = &python {
            let modules = ["-m", "remotemedia.worker", "passing", "doom"];
            pools += &pool("python", PYTHON_WORKERS, cages.as_ref(), std::slice::from_ref(python), &modules);
        }
        pools += FORGIVING;
        let up = Up::with_settings(SETTINGS, &pools).await;
        let said = |what: &str| up.ready[what].as_str().expect("it says where").to_owned();
        let (address, admin) = (said("grpc"), said("admin"));
        let notes = TempDir::new().expect("a directory for notes");
        let (door, marks, has_python) = (AdminDoor::at(&admin), up.marks(), python.is_some());
        Self {
            up,
            door,
            admin,
            address,
            has_python,
            cages,
            notes,
            marks,
            replays: 0,
            deaths: BTreeMap::new(),
        }
    }

    /// A path at which nothing is yet.
    pub(crate) fn note(&self, name: &str) -> PathBuf {
        self.notes.path().join(name)
    }

    /// What all of its processes have logged.
    pub(crate) fn log(&self) -> Vec<String> {
        self.up.process.log()
    }

    /// Where it tells of itself.
    pub(crate) fn door(&self) -> AdminDoor {
        self.door.clone()
    }

    /// None while no gateway answers.
    pub(crate) async fn status(&self) -> Option<Status> {
        self.door.status().await.ok()
    }

    /// Waits until it is so. False if it is not in time.
    pub(crate) async fn until(&self, limit: Duration, is_so: impl Fn(&Status) -> bool) -> bool {
        let give_up = Instant::now() + limit;
        while Instant::now() < give_up {
            if self.status().await.is_some_and(|status| is_so(&status)) {
                return true;
            }
            sleep(LOOK_EVERY).await;
        }
        false
    }

    /// Name by process id, of the workers that are ready.
    pub(crate) async fn ready(&self) -> BTreeMap<u32, String> {
        let workers = self.status().await.map(|status| status.workers).unwrap_or_default();
        workers.into_iter().filter(|one| one.state == "ready").map(|one| (one.pid, one.name)).collect()
    }

    /// Whether all workers are ready, and live: one that has just died is listed until it is known of what.
    pub(crate) async fn is_whole(&self, limit: Duration) -> bool {
        let is_alive =
            |pid: u32| PidFd::open(pid.cast_signed()).and_then(|one| one.is_dead()).is_ok_and(|dead| !dead);
        let serves = |one: &&WorkerStatus| one.state == "ready" && is_alive(one.pid);
        self.until(limit, |status| status.workers.iter().filter(serves).count() == self.workers()).await
    }

    /// All of them.
    pub(crate) const fn workers(&self) -> usize {
        RUST_WORKERS + if self.has_python { PYTHON_WORKERS } else { 0 }
    }

    /// Kills the gateway, and waits until its successor has all workers again. Gives the time that it took.
    pub(crate) async fn kill_gateway(&mut self) -> Option<Duration> {
        let before = self.status().await?;
        self.replays += self.counted("remotemedia_replays_total").await;
        self.deaths = self.deaths().await;
        let workers: Vec<u32> = before.workers.iter().map(|worker| worker.pid).collect();
        signal(before.gateway.pid, Signal::SIGKILL);
        let begin = Instant::now();
        let is_back = |status: &Status| {
            let has = |pid: &u32| status.workers.iter().any(|one| one.pid == *pid && one.state == "ready");
            status.gateway.pid != before.gateway.pid && workers.iter().all(has)
        };
        let is_back = self.until(Duration::from_secs(20), is_back).await;
        self.marks.extend(self.up.marks());
        is_back.then(|| begin.elapsed())
    }

    /// Times that work was given to another worker, of all gateways.
    pub(crate) async fn replays(&self) -> u64 {
        self.replays + self.counted("remotemedia_replays_total").await
    }

    /// How many workers have died, by cause, as all gateways tell.
    pub(crate) async fn deaths(&self) -> BTreeMap<String, u64> {
        let mut all = self.deaths.clone();
        for (cause, count) in deaths::by_cause(&self.door).await.unwrap_or_default() {
            *all.entry(cause).or_default() += count;
        }
        all
    }

    pub(crate) async fn holdings(&self) -> Option<Holdings> {
        let status = self.status().await?;
        let gateway = status.gateway.pid;
        let living: Vec<u32> = status.workers.iter().map(|one| one.pid).chain([gateway]).collect();
        let names = self.files();
        let is_of_dead = |name: &&String| makers(name).any(|pid| !living.contains(&pid));
        Some(Holdings {
            gateway_fds: fs::read_dir(format!("/proc/{gateway}/fd")).ok()?.count(),
            gateway_heap_bytes: heap_bytes(gateway)?,
            files: names.len(),
            links: names.iter().filter(|name| name.ends_with(LINK)).count(),
            files_of_dead: names.iter().filter(is_of_dead).count(),
            processes: children_of(self.up.process.pid()),
        })
    }

    /// The names of all of its files.
    fn files(&self) -> Vec<String> {
        let dir = self.up.ready["runtime_dir"].as_str().unwrap_or_default();
        let mut names = Vec::new();
        names_under(Path::new(dir), &mut names);
        let marks = self.up.marks();
        let shared = fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten();
        let shared = shared.filter_map(|entry| entry.file_name().into_string().ok());
        names.extend(shared.filter(|name| marks.iter().any(|mark| name.starts_with(mark))));
        names
    }

    /// Whether no session is there, and no block in use, in time; what is left if not.
    pub(crate) async fn is_idle(&self, limit: Duration) -> Result<(), String> {
        let is_idle = |status: &Status| {
            let is_free = |pool: &remotemedia_cli::admin::FramePoolStatus| {
                pool.blocks_in_use == 0 && pool.state == "active"
            };
            status.sessions.is_empty() && status.frame_pools.iter().all(is_free)
        };
        if self.until(limit, is_idle).await {
            return Ok(());
        }
        let status = self.status().await;
        Err(format!("{:?}", status.map(|status| (status.sessions, status.frame_pools))))
    }

    /// Stops it as a person would, and holds it to leaving nothing.
    ///
    /// # Panics
    /// It leaves something.
    pub(crate) async fn stop(self) {
        let Self { up, marks, cages, notes, .. } = self;
        up.stop_without(marks).await;
        drop((cages, notes));
    }

    async fn counted(&self, series: &str) -> u64 {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.admin).await.ok()?;
            let question = "GET /metrics HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
            stream.write_all(question.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let value = answer.lines().find_map(|line| line.strip_prefix(series))?;
            value.trim().parse().ok()
        };
        timeout(Duration::from_secs(5), exchange).await.ok().flatten().unwrap_or_default()
    }
}

/// To a grandchild, whose number is its own until its launcher has seen its death.
pub(crate) fn signal(pid: u32, signal: Signal) {
    // Dead already is dead enough.
    let _sent = kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// `[[pool]]` of a configuration.
fn pool(kind: &str, workers: usize, cages: Option<&Cages>, program: &[PathBuf], more: &[&str]) -> String {
    let before = cages.map(|cages| cages.command(kind)).unwrap_or_default();
    let program = program.iter().map(|path| path.to_string_lossy().into_owned());
    let command: Vec<String> =
        before.into_iter().chain(program).chain(more.iter().map(ToString::to_string)).collect();
    format!("[[pool]]\nkind = '{kind}'\nworkers = {workers}\ncommand = {command:?}\n")
}

/// The interpreter that has the SDK of this checkout, if there is one.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    Some(root.join(".cache/python/bin/python")).filter(|python| python.is_file())
}

fn heap_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

fn names_under(dir: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        names.extend(entry.file_name().into_string());
        names_under(&entry.path(), names);
    }
}

/// The processes that a file's name says have made it: `[mark_hash_]id[_id][.suffix]`, where an id has the process in its
/// third 32 bits.
fn makers(name: &str) -> impl Iterator<Item = u32> {
    let stem = name.split_once('.').map_or(name, |(stem, _suffix)| stem);
    let ids = stem.rsplit('_').take(2).map_while(|part| part.parse::<u128>().ok());
    ids.filter_map(|id| u32::try_from((id >> 64) & u128::from(u32::MAX)).ok())
}

/// Living processes with this parent.
fn children_of(parent: u32) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_child = |stat: String| {
        let mut fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace())?;
        let (state, of) = (fields.next()?, fields.next()?);
        Some(state != "Z" && of.parse() == Ok(parent))
    };
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| is_child(stat.clone()) == Some(true)).count()
}
