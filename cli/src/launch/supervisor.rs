//! The thread that starts the processes of a service, watches over them, and buries them.

mod rejoining;
mod rollout;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use nix::sys::signal::Signal;
use remotemedia_core::fault::DeathCause;
use remotemedia_core::launching::{LaunchOrder, LaunchRefusal, MAX_LAST_LINE, Quarantine};
use remotemedia_ipc::control::messages::{Burial, MAX_LAST_BYTES, MAX_LAST_LINES, ToLauncher};
use remotemedia_ipc::memory::MemoryGroup;
use serde::Deserialize;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::cell::Cell;
use super::child::{Child, Fence, Output, Program};
use super::herald::Herald;
use super::home::random_bits;
use super::journal::{Journal, Logs, for_each_line};
use super::last_lines::LastLines;
use super::plan::Plan;
use super::restart::{Action, Event, Lifecycle, Luck, Patience};
use super::warden::{Ward, Warden};
use super::{LaunchError, State, Wish};
use crate::admin::Serving;
use rollout::Roll;

/// Against a death whose signal was swallowed by another handler in this process.
const SLOW_TICK: Duration = Duration::from_millis(500);
/// The same while children are young: their cgroups are looked for, and one that loads a large model may run out of
/// memory early.
const FAST_TICK: Duration = Duration::from_millis(100);
/// How long a child is young.
const YOUTH: Duration = Duration::from_secs(5);
/// Words of a gateway on their way: it says one a boot.
const QUEUED_WORDS: usize = 16;
/// How long the last words of buried children may take when all is over.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long the last words of a buried worker are listened for: somebody may have inherited its standard error, and a
/// client waits for the answer.
const WORDS_OF_ONE: Duration = Duration::from_millis(50);
/// Our own name among those who say something.
const SELF: &str = "launcher";
/// From the request to stop to the kill of a gateway that has not said how long it drains: 10 s by default.
const GATEWAY_GRACE: Duration = Duration::from_secs(15);
/// The longest that is believed: a number from outside.
const LONGEST_DRAIN: Duration = Duration::from_secs(24 * 3_600);
/// What it may take beyond that: it then answers the calls that run, and puts its files away.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The gateway's place among the children.
const GATEWAY: usize = 0;

/// All that the thread needs to begin.
pub(super) struct Order {
    pub(super) plan: Plan,
    pub(super) runtime_dir: PathBuf,
    pub(super) logs: Logs,
    pub(super) patience: Patience,
    pub(super) wish: watch::Receiver<Wish>,
    pub(super) state: watch::Sender<State>,
}

/// Starts the thread. It ends when all its children are buried; the kernel ends them if it does not get so far.
pub(super) fn start(order: Order) -> io::Result<(thread::JoinHandle<()>, LastLines)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (journal, writer) = {
        let _entered = runtime.enter();
        Journal::new(order.logs)
    };
    let last_lines = journal.last();
    let thread = thread::Builder::new().name("launcher".to_owned()).spawn(move || {
        runtime.block_on(async {
            let state = order.state.clone();
            let ended = Supervisor::new(order, journal).run().await;
            writer.finish().await;
            state.send_modify(|state| {
                state.serving = None;
                state.ended = Some(ended);
            });
        });
        // A write to a full pipe that nobody reads may still be blocked: it is not waited for.
        runtime.shutdown_background();
    })?;
    Ok((thread, last_lines))
}

struct Supervisor {
    /// The gateway, the workers of the plan, and those that replace them or were replaced.
    children: Vec<Supervised>,
    next_id: u64,
    patience: Patience,
    roll: Option<Roll>,
    plan: Plan,
    runtime_dir: PathBuf,
    wish: watch::Receiver<Wish>,
    state: watch::Sender<State>,
    journal: Journal,
    /// Where the gateway has served last.
    place: Option<Serving>,
    words: (mpsc::Sender<Word>, mpsc::Receiver<Word>),
    pumps: JoinSet<()>,
    herald: Herald,
    warden: Option<Warden>,
    /// Cgroups of the dead in which somebody lives yet.
    cells: Vec<Cell>,
    /// Whether it was said that no cgroup can be made.
    has_no_cells: bool,
    /// Workers whose last words are listened for.
    burials: JoinSet<(u64, Burial)>,
    /// How the gateway died, if it never served.
    stillborn: Option<DeathCause>,
}

struct Supervised {
    /// Tells it from others of its name.
    id: u64,
    name: String,
    role: Role,
    /// Of the pool in the plan; the gateway has none.
    pool: Option<usize>,
    life: Lifecycle,
    process: Option<Child>,
    voice: Option<Voice>,
    deaths: u32,
    /// Whether it has ever been ready.
    served: bool,
    /// How it died last, and what it said last.
    last: Option<(DeathCause, String)>,
    /// Whether its last words are awaited.
    mourned: bool,
    /// When it is to be ready for the gateway that there is, having been so for the one before.
    rejoins_by: Option<Instant>,
    /// What it was killed for.
    condemned: Option<DeathCause>,
}

/// What a child is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// To run always.
    Lasting,
    /// To take another's place when it is ready.
    Heir,
    /// To end: another has its place.
    Retired,
}

/// What a running child says on its standard error.
struct Voice {
    last: LastLines,
    died: Arc<Notify>,
    /// Ends when all has been read.
    silence: oneshot::Receiver<()>,
}

/// What a gateway says on its standard output.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Word {
    Serving(Serving),
}

// === impl Supervisor ===

impl Supervisor {
    fn new(order: Order, journal: Journal) -> Self {
        let mut ids = 0..;
        let mut child = |name, pool, patience| {
            let id = ids.next().expect("there are more numbers than children");
            Supervised::new(id, name, pool, patience)
        };
        let patience = order.patience;
        // Nobody could be asked to release a gateway.
        let gateway = Patience { grace: GATEWAY_GRACE, quarantine: None, ..patience };
        let mut children = vec![child("gateway".to_owned(), None, gateway)];
        for (pool, plan) in order.plan.pools.iter().enumerate() {
            children.extend(plan.names().map(|name| child(name, Some(pool), patience)));
        }
        Self {
            next_id: children.len() as u64,
            children,
            patience,
            roll: None,
            plan: order.plan.clone(),
            runtime_dir: order.runtime_dir,
            wish: order.wish,
            state: order.state,
            journal,
            place: None,
            words: mpsc::channel(QUEUED_WORDS),
            pumps: JoinSet::new(),
            herald: Herald::default(),
            warden: order.plan.warden.clone().map(Warden::new),
            cells: Vec::new(),
            has_no_cells: false,
            burials: JoinSet::new(),
            stillborn: None,
        }
    }

    /// Runs until all children have stopped for good; says why they did.
    async fn run(mut self) -> LaunchError {
        if self.plan.pools.iter().any(|pool| pool.memory_bytes.is_some()) {
            Cell::sweep();
        }
        let mut deaths = match unix::signal(SignalKind::child()) {
            Ok(deaths) => deaths,
            Err(source) => return LaunchError::Watch { source: Arc::new(source) },
        };
        loop {
            self.bury_the_dead();
            self.obey();
            self.tick();
            self.end_the_lost();
            self.roll();
            self.publish();
            if self.children.iter().all(|child| child.life.is_over()) {
                break;
            }
            let wake_at = self.children.iter().filter_map(|child| child.life.wake_at()).min();
            let is_young = |child: &Supervised| child.process.as_ref().is_some_and(|one| one.age() < YOUTH);
            let tick = if self.children.iter().any(is_young) { FAST_TICK } else { SLOW_TICK };
            let tick_at = Instant::now() + tick;
            tokio::select! {
                _death = deaths.recv() => {}
                // Without a wisher nobody will ever stop us: `obey` sees to that.
                _changed = self.wish.changed(), if self.wish.has_changed().is_ok() => {}
                Some(Word::Serving(serving)) = self.words.1.recv() => self.serves(serving),
                Some(_ended) = self.pumps.join_next() => {}
                Some(Ok((id, burial))) = self.burials.join_next() => self.tell_burial(id, burial),
                message = self.herald.hear() => self.on_message(message),
                () = tokio::time::sleep_until(wake_at.map_or(tick_at, |at| at.min(tick_at)).into()) => {}
            }
        }
        self.hear_last_words().await;
        match self.stillborn {
            Some(cause) => LaunchError::GatewayFailed { cause, last_lines: self.journal.last().get() },
            None => LaunchError::Stopped,
        }
    }

    fn bury_the_dead(&mut self) {
        for place in 0..self.children.len() {
            let child = &mut self.children[place];
            let Some(process) = &mut child.process else { continue };
            match process.bury_if_dead() {
                Ok(None) => {}
                Ok(Some(DeathCause::Signal(9))) => {
                    let condemned = child.condemned.unwrap_or(DeathCause::Signal(9));
                    let is_want = self.ran_out_of_memory(place);
                    self.buried(place, if is_want { DeathCause::OutOfMemory } else { condemned });
                }
                Ok(Some(cause)) => self.buried(place, cause),
                Err(error) => {
                    self.journal.line(SELF, &format!("cannot wait for {}: {error}", child.name));
                    self.buried(place, DeathCause::Unknown);
                }
            }
        }
    }

    /// Only where its cgroup is its own: with others in it, it would be a guess which of them it was.
    fn ran_out_of_memory(&self, place: usize) -> bool {
        let group = |child: &Supervised| child.process.as_ref()?.memory_group().cloned();
        let own = group(&self.children[place]);
        let others = self.children.iter().enumerate().filter(|(other, _)| *other != place);
        let is_shared = own.is_some() && others.map(|(_, child)| group(child)).any(|other| other == own);
        let process = self.children[place].process.as_ref();
        !is_shared && process.is_some_and(Child::ran_out_of_memory)
    }

    fn buried(&mut self, place: usize, cause: DeathCause) {
        let process = self.children[place].process.take();
        let pid = process.as_ref().map_or(0, |process| process.pid().as_raw());
        process.into_iter().for_each(|process| self.clear_up_after(process));
        let child = &mut self.children[place];
        child.last = Some((cause, String::new()));
        (child.rejoins_by, child.condemned) = (None, None);
        let has_voice = child.voice.is_some();
        if let Some(voice) = child.voice.take()
            && place != GATEWAY
        {
            let (id, name, restarts) = (child.id, child.name.clone(), child.deaths);
            child.mourned = true;
            self.burials.spawn(async move {
                let restarts = Some(restarts);
                (id, Burial { pid, name, cause, restarts, last_lines: voice.last_words().await })
            });
        }
        child.deaths = child.deaths.saturating_add(1);
        let now = Instant::now();
        let _nothing = child.life.on(now, Event::Exited(Luck::from_bits(random_bits())));
        // It had one chance, and the one whose place it should have taken still has that.
        if child.role == Role::Heir {
            let _nothing = child.life.on(now, Event::Kill);
        }
        let next = child.life.wake_at().map(|at| at.duration_since(now).as_millis());
        let is_isolated = child.life.quarantine().is_some();
        if place == GATEWAY {
            self.state.send_modify(|state| state.serving = None);
            self.expect_nobody();
            self.gateway_died(cause);
        }
        let next = match next {
            Some(_) if self.stillborn.is_some() => "given up".to_owned(),
            Some(pause_ms) if is_isolated => {
                let name = &self.children[place].name;
                format!("in quarantine for {pause_ms} ms: `remotemedia release {name}` ends it")
            }
            Some(pause_ms) => format!("starts again in {pause_ms} ms"),
            None => "stopped".to_owned(),
        };
        self.journal.line(SELF, &format!("{} (pid {pid}) {cause}: {next}", self.children[place].name));
        // Of one that could not be started there are no last words to wait for.
        if is_isolated && !has_voice {
            self.tell_quarantine(place);
        }
    }

    /// The gateway hears of a quarantine behind the death that led to it.
    fn tell_burial(&mut self, id: u64, burial: Burial) {
        let place = self.children.iter().position(|child| child.id == id);
        let last_line = burial.last_lines.iter().rev().find(|line| !line.is_empty()).cloned();
        self.herald.buried(burial);
        let Some(place) = place else { return };
        self.children[place].mourned = false;
        if let Some((_, line)) = &mut self.children[place].last {
            *line = last_line.unwrap_or_default();
        }
        self.tell_quarantine(place);
    }

    fn tell_quarantine(&mut self, place: usize) {
        if let Some(quarantine) = self.children[place].quarantine() {
            self.herald.quarantined(quarantine);
        }
    }

    fn on_message(&mut self, message: ToLauncher) {
        match message {
            ToLauncher::Ready { pid } => {
                let is_it =
                    |child: &Supervised| child.process.as_ref().is_some_and(|one| one.pid().as_raw() == pid);
                // One that has died meanwhile has nothing to be ready for.
                if let Some(place) = self.children.iter().position(is_it) {
                    self.children[place].served = true;
                    self.children[place].rejoins_by = None;
                    self.feed(place, Event::Ready);
                }
            }
            ToLauncher::Order { request, order } => {
                let answer = self.on_order(&order);
                self.herald.answer(request, answer);
            }
        }
    }

    fn on_order(&mut self, order: &LaunchOrder) -> Result<(), LaunchRefusal> {
        match order {
            LaunchOrder::Release { worker } => self.release(worker),
            LaunchOrder::Restart { pool } => self.restart(pool.as_deref()),
        }
    }

    fn release(&mut self, worker: &str) -> Result<(), LaunchRefusal> {
        let is_isolated = |child: &&Supervised| child.life.quarantine().is_some();
        let found = self.children.iter().position(|child| child.name == worker && is_isolated(&child));
        let Some(place) = found else {
            let isolated = self.children.iter().filter(is_isolated).map(|child| child.name.clone());
            return Err(LaunchRefusal::NotQuarantined {
                worker: worker.to_owned(),
                quarantined: isolated.collect(),
            });
        };
        self.journal.line(SELF, &format!("{worker} is released from quarantine"));
        self.feed(place, Event::Release);
        Ok(())
    }

    /// A gateway that never served has a mistake in its settings: trying again would not help.
    fn gateway_died(&mut self, cause: DeathCause) {
        if self.place.is_none() && self.stillborn.is_none() && *self.wish.borrow() == Wish::Run {
            self.stillborn = Some(cause);
        }
    }

    /// Passes the wish on. In peace the gateway stops first, so that sessions end while their workers live.
    fn obey(&mut self) {
        let wish = if self.stillborn.is_some() || self.wish.has_changed().is_err() {
            Wish::Kill
        } else {
            *self.wish.borrow_and_update()
        };
        // Whoever has begun is stopped with the others.
        if wish != Wish::Run {
            self.roll = None;
        }
        let event = match wish {
            Wish::Run => return,
            Wish::Stop => Event::Stop,
            Wish::Kill => Event::Kill,
        };
        for place in 0..self.children.len() {
            let waits = wish == Wish::Stop && place != GATEWAY && !self.children[GATEWAY].life.is_over();
            if !waits {
                self.feed(place, event);
            }
        }
    }

    fn tick(&mut self) {
        let ours = MemoryGroup::of(std::process::id().cast_signed());
        self.children.iter_mut().filter_map(|child| child.process.as_mut()).for_each(|process| {
            process.look_at_memory(ours.as_ref());
        });
        for place in 0..self.children.len() {
            self.feed(place, Event::Tick);
        }
        self.clear_cells();
    }

    /// What the dead child has started, and is not in its process group any more, is in its cgroup, if it has one.
    fn clear_up_after(&mut self, mut process: Child) {
        self.cells.extend(process.take_cell());
        if let Some(warden) = &mut self.warden {
            warden.dismiss(&Ward::Group(process.pid().as_raw()));
        }
        self.clear_cells();
    }

    fn clear_cells(&mut self) {
        let warden = &mut self.warden;
        self.cells.retain(|cell| {
            let is_gone = cell.clear();
            if let Some(warden) = warden.as_mut().filter(|_| is_gone) {
                warden.dismiss(&Ward::Cell(cell.path().to_owned()));
            }
            !is_gone
        });
    }

    /// A cgroup where one can be made; else the limit that a process can have for itself.
    fn fence(&mut self, place: usize) -> Fence {
        let child = &self.children[place];
        let Some(bytes) = child.pool.and_then(|pool| self.plan.pools[pool].memory_bytes) else {
            return Fence::None;
        };
        match Cell::make(&format!("{}-{}", child.name, random_bits()), bytes) {
            Ok(cell) => Fence::Cell(cell),
            Err(error) => {
                if !std::mem::replace(&mut self.has_no_cells, true) {
                    let line =
                        format!("no memory cgroup can be made ({error}): workers are limited by RLIMIT_DATA");
                    self.journal.line(SELF, &line);
                }
                Fence::Data(bytes)
            }
        }
    }

    /// A worker goes with the launcher. The gateway is asked to, and has that long for it.
    fn guard(&mut self, process: &Child, grace: Duration) {
        let Some(warden) = &mut self.warden else { return };
        warden.guard(Ward::Group(process.pid().as_raw()), grace);
        if let Some(cell) = process.cell() {
            warden.guard(Ward::Cell(cell.path().to_owned()), Duration::ZERO);
        }
    }

    fn feed(&mut self, place: usize, event: Event) {
        let child = &mut self.children[place];
        let was_isolated = child.life.quarantine().is_some();
        let action = child.life.on(Instant::now(), event);
        if was_isolated && child.life.quarantine().is_none() {
            self.herald.released(&child.name);
        }
        match (action, &child.process) {
            (Action::Spawn, _) => self.spawn(place),
            (Action::Terminate, Some(process)) => process.signal(Signal::SIGTERM),
            (Action::Kill, Some(process)) => process.signal(Signal::SIGKILL),
            (Action::Abandon, Some(process)) => {
                let pid = process.pid();
                self.journal.line(SELF, &format!("{} (pid {pid}) does not die: given up", child.name));
                if let Some(process) = child.process.take() {
                    process.abandon();
                }
            }
            (Action::Nothing, _) | (Action::Terminate | Action::Kill | Action::Abandon, None) => {}
        }
    }

    fn spawn(&mut self, place: usize) {
        let program = self.program(place);
        let fence = self.fence(place);
        match Child::spawn(&program, fence) {
            Ok((process, output)) => {
                self.guard(&process, if place == GATEWAY { GATEWAY_GRACE } else { Duration::ZERO });
                let child = &mut self.children[place];
                self.journal.line(SELF, &format!("{} started as pid {}", child.name, process.pid()));
                self.herald.started(process.pid().as_raw());
                child.process = Some(process);
                self.listen(place, output);
            }
            Err(error) => {
                let path = program.path.display();
                let name = &self.children[place].name;
                self.journal.line(SELF, &format!("cannot start {name} ({path}): {error}"));
                self.buried(place, DeathCause::Unknown);
            }
        }
    }

    fn program(&self, place: usize) -> Program {
        let child = &self.children[place];
        match child.pool {
            None => {
                let workers = self.plan.pools.iter().map(|pool| usize::from(pool.workers)).sum();
                self.plan.gateway.program(&self.runtime_dir, workers, self.place.as_ref())
            }
            Some(pool) => self.plan.pools[pool].program(&child.name, &self.runtime_dir),
        }
    }

    /// Reads what the child says until it and all it started have closed their ends.
    fn listen(&mut self, place: usize, output: Output) {
        let (journal, name) = (self.journal.clone(), self.children[place].name.clone());
        let (died, last) = (Arc::new(Notify::new()), LastLines::at_most(MAX_LAST_LINES, MAX_LAST_BYTES));
        let (silent, silence) = oneshot::channel();
        self.children[place].voice = Some(Voice { last: last.clone(), died: Arc::clone(&died), silence });
        self.pumps.spawn(async move {
            let hear = |line: &str| {
                last.push(line);
                journal.line(&name, line);
            };
            for_each_line(output.stderr, &died, hear).await;
            drop(silent);
        });
        let (journal, name) = (self.journal.clone(), self.children[place].name.clone());
        let words = (place == GATEWAY).then(|| self.words.0.clone());
        self.pumps.spawn(async move {
            let hear = |line: &str| match (&words, serde_json::from_str(line)) {
                // A gateway that says more than fits says it in `gateway.json` too.
                (Some(words), Ok(word)) => drop(words.try_send(word)),
                (Some(_) | None, _) => journal.line(&name, line),
            };
            for_each_line(output.stdout, &Notify::new(), hear).await;
        });
    }

    fn serves(&mut self, serving: Serving) {
        let alive = self.children[GATEWAY].process.as_ref();
        // The word of a gateway that has died meanwhile says nothing about its successor.
        if alive.is_some_and(|process| u32::try_from(process.pid().as_raw()) == Ok(serving.pid)) {
            self.journal.line(SELF, &format!("gateway serves gRPC at {}", serving.grpc));
            self.feed(GATEWAY, Event::Ready);
            if let Some(drain_ms) = serving.drain_ms {
                let grace = Duration::from_millis(drain_ms).min(LONGEST_DRAIN) + LAST_ANSWERS;
                self.children[GATEWAY].life.grant(grace);
                if let Some(warden) = &mut self.warden {
                    warden.guard(Ward::Group(serving.pid.cast_signed()), grace);
                }
            }
            let workers = || self.children.iter().skip(1);
            let pids = workers().filter_map(|child| Some(child.process.as_ref()?.pid().as_raw()));
            let on_the_way = workers().filter(|child| child.is_absent() || child.has_been_ready());
            let awaited = on_the_way.map(|child| child.name.clone());
            let quarantines = workers().filter_map(Supervised::quarantine);
            match self.herald.greet(&self.runtime_dir, pids, awaited, quarantines) {
                Ok(()) => self.expect_all_again(),
                Err(error) => {
                    self.journal.line(SELF, &format!("cannot tell the gateway of its workers: {error}"));
                }
            }
            if let Some(roll) = &self.roll {
                self.herald.restarting(roll.told());
            }
            self.place = Some(serving.clone());
            self.state.send_modify(|state| state.serving = Some(serving));
        }
    }

    fn publish(&self) {
        let pids = self.children.iter().skip(1).filter_map(|child| child.process.as_ref());
        let pids: Vec<u32> = pids.filter_map(|child| u32::try_from(child.pid().as_raw()).ok()).collect();
        self.state.send_if_modified(|state| {
            let changed = state.worker_pids != pids;
            state.worker_pids = pids;
            changed
        });
    }

    async fn hear_last_words(&mut self) {
        let all = async { while self.pumps.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            self.pumps.shutdown().await;
        }
        // Who was killed just now takes a moment to leave its cgroup.
        let begin = Instant::now();
        while !self.cells.is_empty() && begin.elapsed() < LAST_WORDS {
            tokio::time::sleep(FAST_TICK / 10).await;
            self.clear_cells();
        }
    }
}

// === impl Supervised ===

impl Supervised {
    fn new(id: u64, name: String, pool: Option<usize>, patience: Patience) -> Self {
        let life = Lifecycle::new(patience, Instant::now());
        Self {
            id,
            name,
            role: Role::Lasting,
            pool,
            life,
            process: None,
            voice: None,
            deaths: 0,
            served: false,
            last: None,
            mourned: false,
            rejoins_by: None,
            condemned: None,
        }
    }

    /// Whether it has served, died, and starts again by itself.
    fn is_absent(&self) -> bool {
        self.served
            && self.process.is_none()
            && self.role == Role::Lasting
            && !self.life.is_over()
            && self.quarantine().is_none()
    }

    /// What is told of it, if it is left alone.
    fn quarantine(&self) -> Option<Quarantine> {
        let (since, until) = self.life.quarantine()?;
        let (now, (cause, line)) = (Instant::now(), self.last.as_ref()?);
        Some(Quarantine {
            worker: self.name.clone(),
            deaths: self.life.failures(),
            cause: *cause,
            last_line: line[..line.floor_char_boundary(MAX_LAST_LINE)].to_owned(),
            since: now.saturating_duration_since(since),
            left: until.saturating_duration_since(now),
        })
    }
}

// === impl Voice ===

impl Voice {
    /// What a child that is dead said last, as far as it is read in time.
    async fn last_words(self) -> Vec<String> {
        self.died.notify_one();
        // Silence is the end of its standard error: nothing is ever sent.
        let _end = tokio::time::timeout(WORDS_OF_ONE, self.silence).await;
        self.last.get()
    }
}
