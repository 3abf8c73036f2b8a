//! The plant on which the matrix is played: what is there before every case, and has to be there again after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use remotemedia_cli::admin::AdminDoor;
use remotemedia_core::fault::DeathCause;
use remotemedia_tests::deadline::until;
use remotemedia_tests::plant::{Process, RELEASE, START};
use remotemedia_tests::{Plant, Recipe, deaths, http};
use tempfile::TempDir;

use crate::bystander::{Bystander, Undisturbed};
use crate::table::Actor;

/// A plant with a victim, which is replaced when it has died.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) plant: Plant,
    pub(crate) actor: Actor,
    undisturbed: Arc<Undisturbed>,
    baseline: Baseline,
    /// For gates and marks; not in the runtime directory, where nothing but the service's own files may be.
    notes: TempDir,
    notes_given: u64,
}

/// What there is when no victim is there and nothing runs.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Baseline {
    gateway: u32,
    /// The workers beside the victim.
    workers: Vec<u32>,
    /// Open file descriptors of all of these, by name.
    fds: BTreeMap<String, usize>,
    /// In the runtime directory, and of its domain in shared memory.
    files: usize,
}

/// Hangs are seen soon, and nothing that is merely slow is taken for one.
const SETTINGS: &str = "
[limits]
default_timeout_ms = 500
open_timeout_ms = 1500
hang_grace_ms = 200
";

// === impl Ground ===

impl Ground {
    /// Stock workers, and a victim beside them.
    pub(crate) async fn prepare(actor: Actor) -> Self {
        let mut ground = Self::without_victim(actor).await;
        ground.bring_a_victim().await;
        ground
    }

    /// The same before there is a victim.
    pub(crate) async fn without_victim(actor: Actor) -> Self {
        let worker = "remotemedia-worker";
        let workers = match actor {
            Actor::Rust | Actor::Python => 3,
            // So that it has a link to the one that the bystander is in.
            Actor::Liar => 2,
        };
        let recipe = Recipe { workers, worker, settings: SETTINGS, launches: true, ..Recipe::default() };
        let plant = Plant::of(recipe).await;
        let undisturbed = Undisturbed::record(plant.client()).await;
        plant.idle_within(RELEASE).await;
        let baseline = Baseline::of(&plant, actor.victim());
        let notes = TempDir::new().expect("a directory for notes");
        Self { plant, actor, undisturbed, baseline, notes, notes_given: 0 }
    }

    /// The name of the worker that everything happens to.
    pub(crate) const fn victim(&self) -> &'static str {
        self.actor.victim()
    }

    /// A path at which nothing is yet.
    pub(crate) fn note(&mut self, what: &str) -> String {
        self.notes_given += 1;
        let path = self.notes.path().join(format!("{what}-{}", self.notes_given));
        path.to_str().expect("a path of text").to_owned()
    }

    pub(crate) async fn bystander(&self) -> Bystander {
        Bystander::begin(&self.plant, self.victim(), &self.undisturbed).await
    }

    /// One in each worker that can have one: whatever the victim does to another worker it does beside a bystander.
    pub(crate) async fn bystanders_everywhere(&self) -> Vec<Bystander> {
        let mut bystanders: Vec<Bystander> = Vec::new();
        for worker in self.plant.workers().iter().filter(|one| one.ending().is_none()) {
            if worker.name() != self.victim() {
                bystanders.push(self.bystander().await);
            }
        }
        let workers: BTreeSet<&String> = bystanders.iter().flat_map(Bystander::workers).collect();
        assert_eq!(workers.len(), bystanders.len(), "two bystanders are in one worker");
        bystanders
    }

    pub(crate) fn victim_pid(&self) -> u32 {
        self.plant.worker(self.victim()).pid()
    }

    /// How many have died, by cause, of which the metrics and the status tell the same.
    pub(crate) async fn deaths(&self) -> BTreeMap<String, u64> {
        let door = AdminDoor::at(self.plant.admin_address());
        let mut same = BTreeMap::new();
        // One may die between the two questions.
        until(RELEASE, async || {
            let status = deaths::by_cause(&door).await.expect("the gateway tells its status");
            let metrics = deaths_in(&http::get(self.plant.admin_address(), "/metrics").await.1);
            same.clone_from(&status);
            if metrics == status { Ok(()) } else { Err(("metrics and status", metrics, status)) }
        })
        .await;
        same
    }

    /// Waits until the gateway tells of this death, once and as what it was.
    pub(crate) async fn is_told(&self, pid: u32, cause: DeathCause, before: &BTreeMap<String, u64>) {
        until(RELEASE, async || {
            let losses = self.plant.status().await.losses;
            let loss = losses.into_iter().find(|loss| loss.worker == self.victim() && loss.pid == pid);
            match loss {
                Some(loss) if loss.cause == cause.to_string() => Ok(()),
                other => Err((other, cause.to_string())),
            }
        })
        .await;
        let mut after = before.clone();
        *after.entry(cause.label().to_owned()).or_default() += 1;
        assert_eq!(self.deaths().await, after, "deaths by cause");
    }

    /// The victim is dead: nothing of it is left, and nothing else has changed.
    pub(crate) async fn is_as_before(&self) {
        until(RELEASE, async || {
            let now = Baseline::of(&self.plant, self.victim());
            let fds_are_less = now.fds.iter().all(|(name, open)| self.baseline.fds.get(name) >= Some(open));
            let same = Baseline { fds: self.baseline.fds.clone(), ..now.clone() } == self.baseline;
            if same && fds_are_less { Ok(()) } else { Err((now, self.baseline.clone())) }
        })
        .await;
    }

    /// Lets the last victim go, and ends as any plant does.
    pub(crate) async fn finish(self) {
        self.plant.worker(self.victim()).stop(SOON).await;
        self.plant.ready().await;
        self.is_as_before().await;
        self.plant.finish().await;
    }

    /// There is another gateway, with the workers of its predecessor, and it has what that had.
    pub(crate) async fn has_a_gateway_again(&mut self) {
        self.baseline.gateway = self.plant.gateway().pid();
        self.plant.settle().await;
    }

    /// Waits until all workers are ready but the victim. Says whether the gateway knows that one too.
    pub(crate) async fn others_are_ready(&self) -> bool {
        let mut knows_victim = false;
        until(START, async || {
            let workers = self.plant.status().await.workers;
            knows_victim = workers.iter().any(|worker| worker.pid == self.victim_pid());
            let ready = workers.into_iter().filter(|worker| worker.state == "ready").map(|worker| worker.pid);
            let ready: BTreeSet<u32> = ready.collect();
            let are_ready = self.baseline.workers.iter().all(|pid| ready.contains(pid));
            if are_ready { Ok(()) } else { Err(ready) }
        })
        .await;
        knows_victim
    }

    /// Starts a victim, and waits until it serves.
    pub(crate) async fn bring_a_victim(&mut self) {
        self.launch(&[]);
        self.plant.ready().await;
    }

    /// Starts a victim with these arguments more, and waits for nothing.
    pub(crate) fn launch(&mut self, more: &[&str]) {
        match self.actor {
            Actor::Rust => self.plant.launch(self.victim(), "test-worker", more),
            Actor::Python => self.plant.launch_python_as(self.victim(), "doom", more),
            Actor::Liar => self.plant.launch(self.victim(), "false-worker", more),
        }
    }
}

// === impl Baseline ===

impl Baseline {
    fn of(plant: &Plant, victim: &str) -> Self {
        let is_beside = |one: &&Process| one.name() != victim && one.ending().is_none();
        let beside: Vec<&Process> = plant.workers().iter().filter(is_beside).collect();
        let all = beside.iter().copied().chain([plant.gateway()]);
        let fds = all.map(|one| (one.name().to_owned(), one.fds())).collect();
        let workers = beside.iter().map(|one| one.pid()).collect();
        let marks = plant.domains();
        let of_us = |name: &String| marks.iter().any(|mark| name.contains(mark.as_str()));
        let in_memory = names_in(Path::new("/dev/shm")).filter(of_us).count();
        let files = in_memory + files_under(plant.runtime_dir());
        Self { gateway: plant.gateway().pid(), workers, fds, files }
    }
}

fn files_under(dir: &Path) -> usize {
    // What is removed meanwhile is not there.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| 1 + if entry.path().is_dir() { files_under(&entry.path()) } else { 0 }).sum()
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// How many have died, by cause, as the metrics tell it.
fn deaths_in(metrics: &str) -> BTreeMap<String, u64> {
    let samples = metrics.lines().filter_map(|line| {
        let (cause, count) =
            line.strip_prefix("remotemedia_worker_deaths_total{cause=\"")?.split_once("\"} ")?;
        Some((cause.to_owned(), count.parse().expect("a count is a number")))
    });
    samples.collect()
}

/// No process is left of the groups that these led.
pub(crate) async fn groups_are_gone(leaders: &[u32]) {
    until(RELEASE, async || {
        let processes = names_in(Path::new("/proc")).filter(|name| name.parse::<u32>().is_ok());
        let left: Vec<String> =
            processes.filter(|pid| group_of(pid).is_some_and(|group| leaders.contains(&group))).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// The process group of a process that runs.
fn group_of(pid: &str) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name: state, parent, group.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    // A zombie waits for init alone.
    (state != "Z").then_some(group)
}

/// How long a case waits for what takes a moment.
pub(crate) const SOON: Duration = START;
