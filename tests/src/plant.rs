//! The system as it is deployed: a gateway process and worker processes, which tests talk to, kill, and then hold to
//! having left nothing behind.

mod footprint;
mod journal;
mod parent;
mod process;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::env::join_paths;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use remotemedia_cli::admin::{AdminDoor, Serving, Status, WorkerStatus};
use remotemedia_core::token::Token;
use remotemedia_protos::v1::{DataBuffer, PipelineManifest};
use tempfile::TempDir;

use crate::client::Client;
use crate::deadline::until;
use crate::pipeline;

use parent::Parent;

pub use footprint::Footprint;
pub use process::{Ending, Process};
pub use program::{program, python};

/// How long a process may take to start, or to stop when asked.
pub const START: Duration = Duration::from_secs(15);
/// How long what a session held may take to come free after its end, on a machine that is busy with other tests.
pub const RELEASE: Duration = Duration::from_secs(5);

/// What a plant is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// How many workers.
    pub workers: usize,
    /// The workers' program, one of this workspace.
    pub worker: &'static str,
    /// Workers of Python modules in `tests/python`: what each is told to run, beside a node that passes on.
    pub python: &'static [&'static str],
    /// The gateway's settings, as in its file.
    pub settings: &'static str,
    /// More arguments of the gateway.
    pub arguments: Vec<String>,
    /// Whether the plant is a launcher to its gateway: workers lead process groups of their own, which die with them,
    /// and the gateway is told how. It starts nobody again by itself.
    pub launches: bool,
    /// Whether workers say that they are units of systemd. Of how they end nobody reports.
    pub units: bool,
    /// What the plant's own client shows.
    pub token: Option<Token>,
}

/// A gateway and its workers, as children of this process. Dropped, they are killed; [`Plant::finish`] is how a test
/// ends that has passed so far.
#[derive(Debug)]
pub struct Plant {
    recipe: Recipe,
    gateway: Process,
    workers: Vec<Process>,
    started: usize,
    serving: Serving,
    client: Client,
    /// Open file descriptors of the gateway when all was warm and nothing ran.
    fds: usize,
    expected: Vec<&'static str>,
    /// By process id, how many of its alarms have been looked at.
    seen: BTreeMap<u32, usize>,
    parent: Option<Parent>,
    /// Gateways that were killed.
    past: Vec<Process>,
    // After the processes: the files go when nobody uses them any more.
    dir: TempDir,
}

/// The only file in the runtime directory that is not the gateway's or a worker's.
const SETTINGS: &str = "settings.toml";
/// POSIX shared memory. Nothing else than the files of links is put there.
const SHARED_MEMORY: &str = "/dev/shm";
/// How the names of workers begin that run Python.
const PYTHON: &str = "python-";
/// Where a Python module of the tests finds files that tell it to go on.
const TEST_DIR: &str = "TEST_DIR";
/// Runs a program as systemd does, which names to it its own process id.
const AS_UNIT: &str = "export SYSTEMD_EXEC_PID=$$ && exec \"$0\" \"$@\"";
/// How the names of a gateway's domain begin.
const DOMAIN: &str = "remotemedia";

// === impl Recipe ===

impl Default for Recipe {
    fn default() -> Self {
        Self {
            workers: 2,
            worker: "test-worker",
            python: &[],
            settings: "",
            arguments: Vec::new(),
            launches: false,
            units: false,
            token: None,
        }
    }
}

// === impl Plant ===

impl Plant {
    /// Two workers with the tests' nodes.
    ///
    /// # Panics
    /// As [`Self::of`].
    pub async fn start() -> Self {
        Self::of(Recipe::default()).await
    }

    /// Starts all processes, waits until the workers have registered, and has every link made.
    ///
    /// # Panics
    /// A program is not built, or it does not start.
    pub async fn of(recipe: Recipe) -> Self {
        let private = Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("plant-").permissions(private).tempdir_in(SHARED_MEMORY);
        let dir = dir.expect("a private directory on tmpfs");
        fs::write(dir.path().join(SETTINGS), recipe.settings).expect("the settings are written");
        let (gateway, serving) = start_gateway(&recipe, dir.path()).await;
        let client = Client::connect_as(&serving.grpc, recipe.token.as_ref()).await;
        let parent = recipe.launches.then(|| Parent::greeting(dir.path()));
        let mut plant = Self {
            recipe,
            gateway,
            workers: Vec::new(),
            started: 0,
            serving,
            client,
            fds: 0,
            expected: Vec::new(),
            seen: BTreeMap::new(),
            parent,
            past: Vec::new(),
            dir,
        };
        (0..plant.recipe.workers).for_each(|_| plant.launch_worker());
        for target in plant.recipe.python {
            plant.launch_python(target, &[]);
        }
        plant.settle().await;
        plant
    }

    /// A client with the connection that the plant itself uses.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Where clients connect: `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.serving.grpc
    }

    /// Where the gateway and its workers meet.
    #[must_use]
    pub fn runtime_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where operators ask: `HOST:PORT`.
    #[must_use]
    pub fn admin_address(&self) -> &str {
        &self.serving.admin
    }

    /// The gateway.
    #[must_use]
    pub const fn gateway(&self) -> &Process {
        &self.gateway
    }

    /// The workers that were started, the dead ones included.
    #[must_use]
    pub fn workers(&self) -> &[Process] {
        &self.workers
    }

    /// The worker of this name.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn worker(&self, name: &str) -> &Process {
        self.workers.iter().rev().find(|worker| worker.name() == name).expect("a worker of this name")
    }

    /// What the worker of this name has logged; nothing if there is none.
    #[must_use]
    pub fn log_of(&self, name: &str) -> Vec<String> {
        self.workers.iter().filter(|worker| worker.name() == name).flat_map(Process::log).collect()
    }

    /// Starts another worker, waits until it has registered, and has its links made.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_worker(&mut self) {
        self.launch_worker();
        self.ready().await;
        self.warm_up().await;
    }

    /// Starts a program of this workspace as a worker of this name, and waits for nothing.
    pub fn launch(&mut self, name: &str, worker: &str, more: &[&str]) {
        let dir = format!("--runtime-dir={}", self.dir.path().display());
        let name_argument = format!("--name={name}");
        let first = [dir.as_str(), &name_argument, "--log-format=json"];
        let (worker, arguments) = (program(worker), [&first, more].concat());
        let process = if self.recipe.units {
            let worker = worker.to_str().expect("a path that is text");
            let arguments = [&["-c", AS_UNIT, worker], arguments.as_slice()].concat();
            let invocation = format!("{:032x}", self.workers.len() + 1);
            self.child(name, Path::new("/bin/sh"), &arguments, &[("INVOCATION_ID", invocation.as_ref())])
        } else {
            self.child(name, &worker, &arguments, &[])
        };
        self.workers.push(process);
    }

    /// Starts another worker of a Python module, waits until it has registered, and has its links made.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_python(&mut self, target: &str) {
        self.launch_python(target, &[]);
        self.settle().await;
    }

    /// Waits until all workers are ready, has their links made, and takes what is open then for what is to be open.
    ///
    /// # Panics
    /// They are not, in time.
    pub async fn settle(&mut self) {
        self.ready().await;
        self.warm_up().await;
        self.fds = self.gateway.fds();
    }

    /// Starts a worker of a Python module, with these arguments more, and waits for nothing. Gives its name.
    pub fn launch_python(&mut self, target: &str, more: &[&str]) -> String {
        self.started += 1;
        let name = format!("{PYTHON}{}", self.started);
        self.launch_python_as(&name, target, more);
        name
    }

    /// Starts a worker of which the plant knows nothing: one that is not to live, or not to join.
    #[must_use]
    pub fn extra_worker(&self) -> Process {
        let dir = format!("--runtime-dir={}", self.dir.path().display());
        Process::start("extra", &program(self.recipe.worker), &[&dir, "--name=extra", "--log-format=json"])
    }

    /// The same under a name that begins as all of Python do.
    pub fn launch_python_as(&mut self, name: &str, target: &str, more: &[&str]) {
        let process = self.python_process(name, &[&["passing", target], more].concat());
        self.workers.push(process);
    }

    /// Starts a process that runs Python modules for this plant, of which the plant knows nothing.
    #[must_use]
    pub fn python_process(&self, name: &str, more: &[&str]) -> Process {
        let dir = format!("--runtime-dir={}", self.dir.path().display());
        let name_argument = format!("--name={name}");
        let first = ["-m", "remotemedia.worker", &dir, &name_argument, "--log-format=json"];
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let modules = join_paths([tests.as_path(), self.dir.path()]).expect("neither has a colon");
        let environment = [
            ("PYTHONPATH", modules.as_os_str()),
            ("PYTHONDONTWRITEBYTECODE", "1".as_ref()),
            (TEST_DIR, self.dir.path().as_os_str()),
        ];
        self.child(name, &python(), &[&first, more].concat(), &environment)
    }

    /// Runs a pipeline that needs links which not every plant has, so that they do not look like a leak.
    ///
    /// # Panics
    /// It does not run.
    pub async fn warm(&mut self, manifest: &PipelineManifest, input: (&str, DataBuffer)) {
        self.client.execute(manifest, [input]).await.expect("the pipeline runs");
        self.idle_within(RELEASE).await;
        self.fds = self.gateway.fds();
    }

    /// Kills the gateway, and starts its successor in the same place. Workers that live find it by themselves.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart_gateway(&mut self) {
        self.kill_gateway().await;
        self.start_gateway().await;
    }

    /// Leaves the workers without a gateway.
    ///
    /// # Panics
    /// It does not die.
    pub async fn kill_gateway(&mut self) {
        self.gateway.signal(Signal::SIGKILL);
        self.gateway.ended(START).await;
    }

    /// Starts a successor of a gateway that was killed. Workers that live find it by themselves.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_gateway(&mut self) {
        let (gateway, serving) = start_gateway(&self.recipe, self.dir.path()).await;
        self.past.push(std::mem::replace(&mut self.gateway, gateway));
        self.client = Client::connect_as(&serving.grpc, self.recipe.token.as_ref()).await;
        self.serving = serving;
        if let Some(parent) = &self.parent {
            parent.greet(self.dir.path(), self.living().map(Process::pid));
        }
    }

    /// Says that a worker of this name has served, has died, and will be started again, to a plant that
    /// [`Recipe::launches`].
    pub fn will_start(&self, name: &str) {
        self.parent.iter().for_each(|parent| parent.will_start(name));
    }

    /// Says that a worker was put into a memory cgroup of its own, to a plant that [`Recipe::launches`].
    pub fn is_caged(&self, pid: u32) {
        self.parent.iter().for_each(|parent| parent.confined(pid));
    }

    /// Says that a process will log a warning or error with this event, and that the test is about that.
    pub fn expect(&mut self, event: &'static str) {
        self.expected.push(event);
    }

    /// What the gateway says of itself.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn status(&self) -> Status {
        AdminDoor::at(&self.serving.admin).status().await.expect("the gateway tells its status")
    }

    /// Waits until no session is there and no block in use. Gives the time that it took.
    ///
    /// # Panics
    /// Something is left when the time is over.
    pub async fn idle_within(&self, limit: Duration) -> Duration {
        until(limit, async || {
            let Status { workers, frame_pools, sessions, .. } = self.status().await;
            let pools =
                frame_pools.into_iter().filter(|pool| pool.blocks_in_use > 0 || pool.state != "active");
            let busy = workers.into_iter().filter(|worker| worker.sessions > 0);
            let left = (sessions, pools.collect::<Vec<_>>(), busy.collect::<Vec<_>>());
            if left.0.is_empty() && left.1.is_empty() && left.2.is_empty() { Ok(()) } else { Err(left) }
        })
        .await
    }

    /// Ends the test: nothing is under way, nothing leaked, nobody died who was not killed, everything goes when asked,
    /// and nothing was logged that the test did not expect.
    ///
    /// # Panics
    /// Any of that does not hold.
    pub async fn finish(mut self) {
        self.idle_within(RELEASE).await;
        self.unleaked().await;
        let living: BTreeSet<u32> = self.living().map(Process::pid).collect();
        let status = self.status().await;
        assert_eq!(status.gateway.pid, self.gateway.pid(), "another gateway answers");
        assert_eq!(status.workers.iter().map(|worker| worker.pid).collect::<BTreeSet<_>>(), living);

        let marks = self.domains();
        assert_eq!(marks.len(), 1, "a gateway has one domain");
        self.gateway.stop(START).await;
        for worker in &self.workers {
            if worker.ending().is_none() {
                worker.stop(START).await;
            }
            worker.ended(START).await;
        }
        self.unlittered(&marks);
        self.undisturbed();
    }

    /// What was logged that is worth a look since this was asked last.
    pub fn fresh_alarms(&mut self) -> Vec<String> {
        let mut fresh = Vec::new();
        for process in self.workers.iter().chain([&self.gateway]).chain(&self.past) {
            let alarms = process.alarms();
            let seen = self.seen.insert(process.pid(), alarms.len()).unwrap_or_default();
            fresh.extend(alarms.into_iter().skip(seen));
        }
        fresh
    }

    /// The same, to be asked for again.
    #[must_use]
    pub fn unseen_alarms(&self) -> Vec<String> {
        let processes = self.workers.iter().chain([&self.gateway]).chain(&self.past);
        let unseen = processes.flat_map(|process| {
            let seen = self.seen.get(&process.pid()).copied().unwrap_or_default();
            process.alarms().into_iter().skip(seen)
        });
        unseen.collect()
    }

    /// Waits until the gateway has no more open than when all was warm and nothing ran.
    ///
    /// # Panics
    /// It has when the time is over.
    pub async fn unleaked(&self) {
        until(RELEASE, async || {
            let open = self.gateway.fds();
            if open <= self.fds { Ok(()) } else { Err((open, self.fds, self.gateway.open_files())) }
        })
        .await;
    }

    /// What runs is what was started and not killed.
    fn living(&self) -> impl Iterator<Item = &Process> {
        self.workers.iter().filter(|worker| worker.ending().is_none())
    }

    fn launch_worker(&mut self) {
        self.started += 1;
        self.launch(&format!("rust-{}", self.started), self.recipe.worker, &[]);
    }

    fn child(
        &self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Process {
        match &self.parent {
            Some(parent) => parent.start(name, program, arguments, environment),
            None => Process::start_with(name, program, arguments, environment),
        }
    }

    /// Waits until all workers that live are ready, and no other is known.
    ///
    /// # Panics
    /// They are not, in time.
    pub async fn ready(&self) {
        until(START, async || {
            let registered: BTreeSet<u32> =
                self.status().await.workers.into_iter().filter(is_ready).map(|worker| worker.pid).collect();
            let missing = self.living().filter(|worker| !registered.contains(&worker.pid()));
            let missing = missing.map(|worker| (worker.name().to_owned(), worker.log())).collect::<Vec<_>>();
            if missing.is_empty() && registered.len() == self.living().count() {
                Ok(())
            } else {
                Err(missing)
            }
        })
        .await;
    }

    /// Links are made when they are first used: has every one between gateway and worker made, and with two workers
    /// those between them in both directions.
    async fn warm_up(&self) {
        let (of_python, of_rust): (Vec<_>, Vec<_>) =
            self.living().partition(|worker| worker.name().starts_with(PYTHON));
        let workers = of_rust.len();
        let node =
            |place| format!("{{ id: n{place}, node_type: PassThrough, own_process: {} }}", workers > 1);
        let nodes: Vec<String> = (0..=workers).map(node).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let path = pipeline::chain(&nodes);
        self.client.execute(&path, [("n0", pipeline::text("warm"))]).await.expect("the plant runs");
        // Of nodes that nothing connects, each goes to the worker that has least to do.
        let apart = pipeline::unconnected(&nodes[..workers]);
        let (call, _session) = self.client.stream(&apart).await;
        call.close().await;
        let _answers = call.rest().await.closed();
        for _worker in of_python {
            let alone = "{ id: alone, node_type: PyPass }";
            self.client
                .execute(&pipeline::chain(&[alone]), [("alone", pipeline::text("warm"))])
                .await
                .expect("Python runs");
            let between = [
                "{ id: a, node_type: PassThrough }",
                "{ id: b, node_type: PyPass }",
                "{ id: c, node_type: PassThrough }",
            ];
            self.client
                .execute(&pipeline::chain(&between), [("a", pipeline::text("warm"))])
                .await
                .expect("Python runs between Rust");
        }
        self.idle_within(RELEASE).await;
    }

    /// The prefixes of the domains in the runtime directory.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        names_in(self.dir.path()).filter(|name| name.starts_with(DOMAIN)).collect()
    }

    fn unlittered(&self, marks: &[String]) {
        let litter = names_in(self.dir.path()).filter(|name| name != SETTINGS).collect::<Vec<_>>();
        assert!(litter.is_empty(), "left in the runtime directory: {litter:?}");
        let of_us = |name: &String| marks.iter().any(|mark| name.contains(mark.as_str()));
        let litter: Vec<String> = names_in(Path::new(SHARED_MEMORY)).filter(of_us).collect();
        assert!(litter.is_empty(), "left in {SHARED_MEMORY}: {litter:?}");
    }

    /// Whatever was logged as worth a look had been expected, and what was expected came.
    fn undisturbed(&mut self) {
        let alarms = self.fresh_alarms();
        let told = |event: &&&str| alarms.iter().any(|alarm| alarm.contains(**event));
        let untold: Vec<_> = self.expected.iter().filter(|event| !told(event)).collect();
        assert!(untold.is_empty(), "expected but not logged: {untold:?}");
        let expected = |alarm: &&String| self.expected.iter().any(|event| alarm.contains(event));
        let surprises: Vec<_> = alarms.iter().filter(|alarm| !expected(alarm)).collect();
        assert!(surprises.is_empty(), "logged but not expected: {surprises:#?}");
    }
}

/// A gateway in a directory, and what it says when it serves.
async fn start_gateway(recipe: &Recipe, dir: &Path) -> (Process, Serving) {
    let elsewhere = recipe.arguments.iter().any(|argument| argument.starts_with("--grpc="));
    let grpc = (!elsewhere).then(|| "--grpc=127.0.0.1:0".to_owned());
    let mut arguments = vec![
        "--admin=127.0.0.1:0".to_owned(),
        "--log-format=json".to_owned(),
        format!("--config={}", dir.join(SETTINGS).display()),
        format!("--runtime-dir={}", dir.display()),
    ];
    arguments.extend(grpc.into_iter().chain(recipe.arguments.iter().cloned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let gateway = Process::start("gateway", &program("remotemedia-gateway"), &arguments);
    let serving = gateway.first_line(START).await;
    let serving: Serving = serde_json::from_str(&serving).expect("the gateway's first line is JSON");
    assert_eq!(serving.pid, gateway.pid(), "the gateway names another process as itself");
    (gateway, serving)
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).expect("the directory is listed");
    entries.map(|entry| entry.expect("an entry is read").file_name().to_string_lossy().into_owned())
}

fn is_ready(worker: &WorkerStatus) -> bool {
    worker.state == "ready"
}
