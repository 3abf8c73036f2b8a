//! `bench gil`: what processes of their own do for Python nodes, which share one interpreter's lock in a process.
//!
//! `gil` is four sessions of a node that computes, in Python alone: on two worker processes, and all four on one. Both take
//! turns. The client, this process, sends a few bytes a chunk and waits; the processors are the nodes'.
//!
//! `gil_stuck` is how long a chunk takes through a node of another process while a node computes for seconds without
//! letting go of its interpreter's lock, against how long it takes while nothing else goes on. `inside_p50_us` is how long
//! it takes in the process of that node: as long as that node does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use remotemedia_core::data::Text;
use remotemedia_core::transport::{StreamSession as _, TransportData};
use remotemedia_runtime::RunningSession;
use tokio::time::timeout;

use crate::error::BenchError;
use crate::library::{Library, ended, single};
use crate::program::Program;
use crate::row::Row;
use crate::stream;
use crate::times::{Times, microseconds, ratio};

const SESSIONS: usize = 4;
const WORKERS: usize = 2;

/// Of each session in a turn.
const CHUNKS: u64 = 20;

/// What a chunk's node does: about 5 ms.
const STEPS: &str = "60000";

const TURNS: usize = 15;

/// Promised: the sessions take at most so much of the time on two processes.
const OF_ONE: f64 = 0.65;

/// Turns with a stuck node and without, and chunks through its neighbour in each.
const STUCK_TURNS: usize = 5;
const STUCK_CHUNKS: u64 = 200;

/// Promised: beside a stuck node a chunk takes at most so many times as long.
const BESIDE_STUCK: f64 = 1.5;

/// Seconds that a node is stuck.
const STUCK: &str = "2";

/// Longest that a stuck node may take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run() -> Result<Vec<Row>, BenchError> {
    let beside = Program::python_worker("nodes:BurnBeside")?;
    let mut programs = vec![beside; WORKERS];
    programs.extend([
        Program::python_worker("nodes:BurnAlone")?,
        Program::python_worker("nodes:Hold,PassInside")?,
        Program::python_worker("nodes:PyPass")?,
    ]);
    let library = Library::start(&programs).await?;
    let rows = Box::pin(measure(&library)).await;
    let stopped = library.stop().await;
    let rows = rows?;
    stopped?;
    Ok(rows)
}

async fn measure(library: &Library) -> Result<Vec<Row>, BenchError> {
    Ok(vec![spread(library).await?, Box::pin(stuck(library)).await?])
}

async fn spread(library: &Library) -> Result<Row, BenchError> {
    let apart = Crowd::open(library, "BurnBeside").await?;
    check_spread(library).await?;
    let together = Crowd::open(library, "BurnAlone").await?;
    let (mut on_two, mut on_one) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let (two, one) = (apart.turn(turn as u64).await?, together.turn(turn as u64).await?);
        // The first one makes what is made once.
        if turn > 0 {
            on_two.push(two);
            on_one.push(one);
        }
    }
    let ratios = Times::new(
        on_two
            .iter()
            .zip(&on_one)
            .map(|(two, one)| two.div_duration_f64(*one))
            .map(Duration::from_secs_f64)
            .collect(),
    );
    let [two, one] = [on_two, on_one].map(Times::new);
    let share = ratio(two.p50(), one.p50());
    apart.end().await?;
    together.end().await?;
    Ok(Row::new("gil", "the same sessions on one worker process", TURNS)
        .with("sessions", SESSIONS)
        .with("workers", WORKERS)
        .with("gil_ratio", share)
        .with("gil_ratio_at_most", OF_ONE)
        .with(
            "gil_ratio_by_turn",
            [ratios.least(), ratios.most()].map(|time| ratio(time, Duration::from_secs(1))).to_vec(),
        )
        .with("p50_ms", microseconds(two.p50()) / 1e3)
        .with("one_p50_ms", microseconds(one.p50()) / 1e3)
        .promising(share <= OF_ONE))
}

/// Sessions of one node type at work at the same time.
struct Crowd(Vec<RunningSession>);

// === impl Crowd ===

impl Crowd {
    async fn open(library: &Library, node_type: &str) -> Result<Self, BenchError> {
        let mut sessions = Vec::with_capacity(SESSIONS);
        for _ in 0..SESSIONS {
            sessions.push(library.open(&single(node_type)).await?);
        }
        Ok(Self(sessions))
    }

    /// How long it takes until all sessions have been answered all chunks of a turn.
    async fn turn(&self, turn: u64) -> Result<Duration, BenchError> {
        let work = Text::from(STEPS).into();
        let chunks = turn * CHUNKS..(turn + 1) * CHUNKS;
        let begin = Instant::now();
        let [first, second, third, fourth] = &self.0[..] else { return Err(BenchError::Unexpected) };
        let at_once = |session| stream::at_once(session, &work, chunks.clone());
        tokio::try_join!(at_once(first), at_once(second), at_once(third), at_once(fourth))?;
        Ok(begin.elapsed())
    }

    async fn end(self) -> Result<(), BenchError> {
        for session in self.0 {
            ended(&session).await?;
        }
        Ok(())
    }
}

/// Each worker of the spread sessions must have as many.
async fn check_spread(library: &Library) -> Result<(), BenchError> {
    let mut by_worker: BTreeMap<String, usize> = BTreeMap::new();
    for session in library.status().await.sessions {
        session.workers.into_iter().for_each(|worker| *by_worker.entry(worker).or_default() += 1);
    }
    let expected = SESSIONS / WORKERS;
    if by_worker.len() == WORKERS && by_worker.values().all(|sessions| *sessions == expected) {
        return Ok(());
    }
    Err(BenchError::Placed { sessions: by_worker.values().sum(), workers: by_worker.len(), expected })
}

async fn stuck(library: &Library) -> Result<Row, BenchError> {
    let neighbour = library.open(&single("PyPass")).await?;
    let inside = library.open(&single("PassInside")).await?;
    let stuck = library.open(&single("Hold")).await?;
    let chunk = stream::chunk()?;
    let (mut free, mut beside, mut within) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..STUCK_TURNS as u64 {
        let chunks = turn * 2 * STUCK_CHUNKS..(turn * 2 + 1) * STUCK_CHUNKS;
        let more = chunks.end..chunks.end + STUCK_CHUNKS;
        free.extend(stream::one_by_one(&neighbour, &chunk, chunks).await?);
        stuck.send(TransportData::new(turn, Text::from(STUCK))).await?;
        // It has begun, and says no more until it is over.
        stuck.receive().await?.ok_or(BenchError::OtherAnswer)?;
        let over = stuck.receive();
        tokio::pin!(over);
        let beside_it = async {
            tokio::select! {
                biased;
                took = stream::one_by_one(&neighbour, &chunk, more) => took,
                _over = &mut over => Err(BenchError::NotStuck),
            }
        };
        let both = async { tokio::try_join!(beside_it, stream::one_by_one(&inside, &chunk, turn..turn + 1)) };
        let both =
            timeout(PATIENCE, both).await.map_err(|_elapsed| BenchError::Silent { waited: PATIENCE })?;
        let (took_beside, took_within) = both?;
        beside.extend(took_beside);
        within.extend(took_within);
        over.await?.ok_or(BenchError::OtherAnswer)?;
    }
    for session in [neighbour, inside, stuck] {
        ended(&session).await?;
    }
    let [free, beside, within] = [free, beside, within].map(Times::new);
    Ok(Row::new("gil_stuck", "the same chunks while nothing else goes on", beside.len())
        .with("stuck_ratio", ratio(beside.p50(), free.p50()))
        .with("stuck_ratio_at_most", BESIDE_STUCK)
        .with("p50_us", microseconds(beside.p50()))
        .with("p95_us", microseconds(beside.p95()))
        .with("free_p50_us", microseconds(free.p50()))
        .with("free_p95_us", microseconds(free.p95()))
        .with("inside_p50_us", microseconds(within.p50()))
        .promising(ratio(beside.p50(), free.p50()) <= BESIDE_STUCK))
}
