//! Load on `remotemedia up` for as long as one likes, while everything is done to it that processes can suffer.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress and a summary are what this program is for"
)]

mod asker;
mod book;
mod cage;
mod cell;
mod load;
mod log;
mod recovery;
mod service;
mod strike;
mod verdict;
mod vigil;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use remotemedia_tests::storm::Dice;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use asker::Asker;
use book::Book;
use cell::Cell;
use load::Lane;
use log::Log;
use recovery::Recoveries;
use service::{Holdings, Service};
use strike::Strike;
use verdict::Verdict;

const HELP: &str = "\
Load on `remotemedia up` with random faults, and a judgement at the end.

usage: soak [--minutes N] [--seed S]

  --minutes N   for how long; 0.2 is enough to see that it works [default: 5]
  --seed S      which faults come when, and for how long [default: one of chance, which is printed]

Clients call all the time: unary and streams, small and large, in Rust, and in Python if scripts/python has made an
environment. Meanwhile one node after the other is killed, aborts, has a segmentation fault, exits, is stopped, hangs, or
takes all memory, in one phase of its work after the other, and now and then the gateway is killed. What is held to:

  lost 0      every call is answered once and in order, with its own data or with an error that says what happened; while
              nothing is done to anybody, with its own data
  leaked 0    when all is quiet again no block is in use, the gateway has not a file descriptor more than before, nor the
              service a process or a file, but exactly those of links that workers who live have made since; the heap of
              a gateway that lives for four minutes is what it was in the first two; and after SIGTERM nothing is left
  told        who was struck is told so: the cause of the death, or the deadline; nobody is told of another death, and
              the gateways count, by cause, those that were. They warn of nothing else
  recovered   every worker that died is there again, and works

A death to its answer is measured twice, to the moment at which the client has it: from the death, which is when the kernel
says that the process is gone, and from the moment that the node wrote down as its last deed. In between the kernel takes the
process apart. So is, by the gateway's log, a death to its work going to another worker. From eight minutes on a cell of
faults and phases that stays empty is a failure too. Memory is taken only where each worker can be given a cgroup.

The last line is JSON. Exit code: 0 if all held, 1 if not, 2 for a wrong command line.";

/// Between two strikes.
const STRIKE_EVERY: Duration = Duration::from_millis(400);
/// Between two kills of the gateway, in strikes.
const GATEWAY_EVERY: u64 = 40;
/// While a gateway is away and comes back.
const EXCUSE: Duration = Duration::from_secs(6);
/// For a pool of which some keep dying: the longest pause between two starts, and the start.
const WHOLE: Duration = Duration::from_secs(40);
/// Load alone, before the first strike and after the last.
const CALM: Duration = Duration::from_secs(3);
const PROGRESS: Duration = Duration::from_secs(10);
/// As long as a gateway gets to know its load: what it has had at once it keeps for the next time.
const WARMING: Duration = Duration::from_secs(120);
/// What it may have more after that: by a message of the largest lane in each direction.
const HEAP_NOISE_BYTES: u64 = 8_000_000;
/// What a link between two workers is to the gateway, which has made it: descriptors of its description and its shared part.
const LINK_FDS: usize = 2;
/// What it is in files: its description, its shared part, the sender's memory, the connection, a tag of each port, and one of
/// each of the three processes that know it.
const LINK_FILES: usize = 9;
/// For one round of all.
const IDLE: Duration = Duration::from_secs(10);
/// For connections of those who only ask to be gone.
const SETTLED: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let order = match Order::read(std::env::args().skip(1)) {
        Ok(Some(order)) => order,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            println!("{problem}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let all_held = runtime.expect("a runtime starts").block_on(soak(order));
    ExitCode::from(u8::from(!all_held))
}

struct Order {
    time: Duration,
    seed: u64,
}

// === impl Order ===

impl Order {
    /// None if help is wanted.
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut order = Self { time: Duration::from_secs(300), seed: Dice::seed() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--minutes" => order.time = minutes(&value()?)?,
                "--seed" => {
                    order.seed = value()?.parse().map_err(|_| "a seed is a whole number".to_owned())?
                }
                other => return Err(format!("'{other}' is no option: there are --minutes and --seed")),
            }
        }
        Ok(Some(order))
    }
}

fn minutes(given: &str) -> Result<Duration, String> {
    let minutes = given.parse::<f64>().ok().filter(|minutes| (0.1..=10_000.0).contains(minutes));
    let minutes = minutes.ok_or_else(|| format!("'{given}' is no number of minutes from 0.1 to 10000"))?;
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

/// Whether all held.
async fn soak(order: Order) -> bool {
    let mut service = Service::start().await;
    let cells = Cell::all(service.has_python, service.cages.is_some());
    println!("seed {}, {:?}, {} cells of fault, phase and language", order.seed, order.time, cells.len());
    if !service.has_python {
        println!("without Python: scripts/python makes an environment for it");
    }
    if service.cages.is_none() {
        println!("without want of memory: no memory cgroup can be made here");
    }
    let (book, asker) = (Book::open(), Asker::connect(&service.address).await);
    book.is_calm(true);
    // What is made when it is first used is made then, and what there is when it is over should be there at the end.
    Load::on(&service, &asker, &book).end_after(CALM).await;
    let mut before = quiet(&service, &book).await;
    let mut heap = Heap::of(before);
    let load = Load::on(&service, &asker, &book);
    book.is_calm(false);
    strike_until(&mut service, &asker, &book, &order, &cells, &mut heap).await;
    await_whole(&service, &book).await;
    book.is_calm(true);
    load.end_after(CALM).await;
    let log = service.log();
    read(&log, &service.deaths().await, &book);
    before.gateway_heap_bytes = heap.most_at_first;
    let verdict = Verdict {
        seed: order.seed,
        time: order.time,
        leaks: leaks(&service, before, heap.most_at_last()).await,
        empty: empty_cells(&book, &cells),
        replays: service.replays().await,
        before,
        after: service.holdings().await.unwrap_or_default(),
    };
    service.stop().await;
    verdict.print(&book.page());
    let all_held = verdict.all_held(&book.page());
    if !all_held {
        keep(&log);
    }
    all_held
}

/// How large the heap of the gateway that there is has been while that was young.
struct Heap {
    since: Instant,
    most_at_first: u64,
}

// === impl Heap ===

impl Heap {
    fn of(first: Holdings) -> Self {
        Self { since: Instant::now(), most_at_first: first.gateway_heap_bytes }
    }

    fn note(&mut self, now: Holdings) {
        if self.since.elapsed() < WARMING {
            self.most_at_first = self.most_at_first.max(now.gateway_heap_bytes);
        }
    }

    /// What it may be at the end, if the gateway has lived long enough to tell.
    fn most_at_last(&self) -> Option<u64> {
        (self.since.elapsed() >= WARMING * 2).then_some(self.most_at_first + HEAP_NOISE_BYTES)
    }
}

/// Clients that work until it is enough.
struct Load<'a> {
    book: &'a Book,
    lanes: JoinSet<()>,
    enough: watch::Sender<bool>,
}

// === impl Load ===

impl<'a> Load<'a> {
    fn on(service: &Service, asker: &Asker, book: &'a Book) -> Self {
        let (enough, stop) = watch::channel(false);
        let mut lanes = JoinSet::new();
        for lane in Lane::all(service.has_python) {
            lanes.spawn(lane.work(asker.clone(), book.clone(), stop.clone()));
        }
        Self { book, lanes, enough }
    }

    async fn end_after(mut self, time: Duration) {
        sleep(time).await;
        self.enough.send_replace(true);
        while let Some(ended) = self.lanes.join_next().await {
            if let Err(error) = ended {
                self.book.breach(format!("a client did not end: {error}"));
            }
        }
    }
}

/// What is held when nothing runs.
async fn quiet(service: &Service, book: &Book) -> Holdings {
    if let Err(left) = service.is_idle(IDLE).await {
        book.breach(format!("not idle after some calls: {left}"));
    }
    let mut least = service.holdings().await.unwrap_or_default();
    let give_up = Instant::now() + Duration::from_secs(1);
    while Instant::now() < give_up {
        sleep(LOOK_EVERY).await;
        let fds = service.holdings().await.map_or(least.gateway_fds, |held| held.gateway_fds);
        least.gateway_fds = least.gateway_fds.min(fds);
    }
    least
}

/// What the gateways have logged and counted: that nobody declared, of what workers died, and when work of the dead went
/// to others.
fn read(log: &[String], counted: &BTreeMap<String, u64>, book: &Book) {
    let log = Log::of(log);
    log.undeclared().into_iter().for_each(|line| book.breach(format!("logged and not declared: {line}")));
    book.compare(&log.deaths(), counted);
    let sudden = book.page().sudden.clone();
    book.page().dispatches = log.dispatches(&sudden);
}

/// For whoever looks into what did not hold.
fn keep(log: &[String]) {
    let path = std::env::temp_dir().join(format!("soak-{}.log", std::process::id()));
    match std::fs::write(&path, log.join("\n")) {
        Ok(()) => eprintln!("what the service logged is in {}", path.display()),
        Err(error) => eprintln!("what the service logged cannot be kept in {}: {error}", path.display()),
    }
}

/// Strikes in an order of chance, each cell once a round, until the time is over.
async fn strike_until(
    service: &mut Service,
    asker: &Asker,
    book: &Book,
    order: &Order,
    cells: &[Cell],
    heap: &mut Heap,
) {
    let mut dice = Dice::seeded(order.seed);
    let begin = Instant::now();
    let end = begin + order.time.saturating_sub(CALM * 2);
    let (mut round, mut number, mut told) = (Vec::new(), 0, begin);
    let away = Recoveries::watch(service.door(), book.clone());
    while Instant::now() < end {
        if round.is_empty() {
            round = cells.to_vec();
            dice.shuffle(&mut round);
        }
        if let Some(cell) = round.pop() {
            number += 1;
            let pause = Duration::from_millis(dice.within(50..600));
            match (Strike { service, asker, book, cell, number, pause }).run().await {
                Some(gone) => gone.into_iter().for_each(|gone| away.expect(gone)),
                // Later, when there is somebody to strike.
                None => round.insert(0, cell),
            }
        }
        // In the first two thirds, so that the last gateway lives long enough to be seen growing.
        if number % GATEWAY_EVERY == GATEWAY_EVERY / 2 && begin.elapsed() * 3 < order.time * 2 {
            away.all().await;
            await_whole(service, book).await;
            kill_gateway(service, book).await;
            sleep(CALM).await;
            *heap = Heap::of(service.holdings().await.unwrap_or_default());
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            heap.note(progress(service, book, begin).await);
        }
        sleep(STRIKE_EVERY).await;
        away.enough().await;
    }
    away.all().await;
}

/// Also for those who died so soon after they had begun that nobody knew them when they were struck.
async fn await_whole(service: &Service, book: &Book) {
    if !service.is_whole(WHOLE).await {
        book.breach("the pool is not whole again");
    }
}

async fn kill_gateway(service: &mut Service, book: &Book) {
    book.excuse(EXCUSE);
    match service.kill_gateway().await {
        Some(took) => {
            let mut page = book.page();
            page.gateway_kills += 1;
            page.recoveries.push(("the gateway".to_owned(), took));
        }
        None => book.breach("the gateway did not come back, or not with the workers that it had"),
    }
    book.excuse(EXCUSE);
}

async fn progress(service: &Service, book: &Book, begin: Instant) -> Holdings {
    let holdings = service.holdings().await.unwrap_or_default();
    let page = book.page();
    let strikes: u64 = page.strikes.values().sum();
    let errors: u64 = page.errors.values().sum();
    println!(
        "{:>5} s: {} calls, {} with errors, {} strikes in {} cells, {} breaches; gateway {:.1} MB, {} fds",
        begin.elapsed().as_secs(),
        page.asked,
        errors,
        strikes,
        page.strikes.len(),
        page.breach_count,
        verdict::megabytes(holdings.gateway_heap_bytes),
        holdings.gateway_fds,
    );
    // Whoever waits for it through a pipe should see it come.
    let _read = std::io::stdout().flush();
    holdings
}

/// What is held that was not held before, in words.
async fn leaks(service: &Service, before: Holdings, heap: Option<u64>) -> Vec<String> {
    let mut leaks = Vec::new();
    leaks.extend(service.is_idle(IDLE).await.err().map(|left| format!("not idle: {left}")));
    let give_up = Instant::now() + SETTLED;
    loop {
        let Some(after) = service.holdings().await else {
            return vec!["the gateway does not answer".to_owned()];
        };
        let more = held_more(before, after, heap, service.workers());
        if more.is_empty() || Instant::now() >= give_up {
            leaks.extend(more);
            return leaks;
        }
        sleep(LOOK_EVERY).await;
    }
}

fn held_more(before: Holdings, after: Holdings, heap: Option<u64>, workers: usize) -> Vec<String> {
    // Between any two of them, in both directions.
    let links = workers * (workers + 1);
    let of_links = |each: usize| after.links.saturating_sub(before.links) * each;
    let of_former = |each: usize| before.links.saturating_sub(after.links) * each;
    let mut more = Vec::new();
    let mut judge = |what: &str, is_more: bool, before: u64, after: u64| {
        if is_more {
            more.push(format!("{what} went from {before} to {after}"));
        }
    };
    // As if there were as many links as before.
    let [fds, files, processes, made] = [
        [before.gateway_fds + of_links(LINK_FDS), after.gateway_fds + of_former(LINK_FDS)],
        [before.files + of_links(LINK_FILES), after.files + of_former(LINK_FILES)],
        [before.processes, after.processes],
        [before.links, after.links],
    ]
    .map(|counts| counts.map(|count| count as u64));
    judge("the gateway's file descriptors", fds[1] > fds[0], fds[0], fds[1]);
    judge("files", files[1] != files[0], files[0], files[1]);
    judge("processes", processes[1] != processes[0], processes[0], processes[1]);
    judge("links", after.links > links, made[0], made[1]);
    judge("files of dead processes", after.files_of_dead > 0, 0, after.files_of_dead as u64);
    let [small, large] = [before.gateway_heap_bytes, after.gateway_heap_bytes];
    judge("the gateway's heap", heap.is_some_and(|heap| large > heap), small, large);
    more
}

fn empty_cells(book: &Book, cells: &[Cell]) -> Vec<String> {
    let page = book.page();
    let filled: BTreeSet<&Cell> = page.strikes.keys().collect();
    cells.iter().filter(|cell| !filled.contains(cell)).map(ToString::to_string).collect()
}
