//! What the runtime is at the moment of the question, as metrics.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use remotemedia_runtime::{RuntimeStatus, WorkerState};

/// Made anew for every question, so that nothing is shown of what is gone.
pub(super) fn of(status: &RuntimeStatus) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let sessions = IntGauge::new("remotemedia_sessions", "Sessions that are open")?;
    sessions.set(number(status.sessions.len()));
    registry.register(Box::new(sessions))?;
    workers(status, &registry)?;
    frame_pools(status, &registry)?;
    Ok(registry)
}

fn workers(status: &RuntimeStatus, registry: &Registry) -> Result<(), prometheus::Error> {
    let workers =
        gauges("remotemedia_workers", "Workers that are registered or in quarantine, by state", &["state"])?;
    // A state without workers is a 0 and not a gap.
    for state in WorkerState::ALL {
        let count = status.workers.iter().filter(|worker| worker.state == state).count();
        workers.with_label_values(&[name(state)]).set(number(count));
    }
    workers.with_label_values(&["quarantined"]).set(number(status.quarantines.len()));
    let quarantines = IntCounter::new(
        "remotemedia_worker_quarantines_total",
        "Quarantines that have begun: a worker died too often in a row",
    )?;
    quarantines.inc_by(status.quarantines_begun);
    registry.register(Box::new(quarantines))?;
    let deaths = IntCounterVec::new(
        Opts::new(
            "remotemedia_worker_deaths_total",
            "Workers that have died, by cause: a signal's name, exit, oom, hang or such",
        ),
        &["cause"],
    )?;
    for death in &status.deaths {
        deaths.with_label_values(&[death.cause]).inc_by(death.count);
    }
    let replays = "remotemedia_replays_total";
    let replays = IntCounter::new(replays, "Times that work whose worker died was given to another")?;
    replays.inc_by(status.replays);
    let poisons = "remotemedia_poisons_total";
    let poisons =
        IntCounter::new(poisons, "Times that an input was given up because it had killed too many workers")?;
    poisons.inc_by(status.poisons);
    registry.register(Box::new(replays))?;
    registry.register(Box::new(poisons))?;
    registry.register(Box::new(workers))?;
    registry.register(Box::new(deaths))
}

/// By owner, and not by pool: pools are numbered anew with every life of a worker.
fn frame_pools(status: &RuntimeStatus, registry: &Registry) -> Result<(), prometheus::Error> {
    let bytes = "remotemedia_frame_pool_bytes";
    let bytes = gauges(bytes, "Memory of frame pools, reserved, by the process that fills them", &["owner"])?;
    let used = "remotemedia_frame_pool_used_bytes";
    let used =
        gauges(used, "Memory of blocks that somebody holds, by the process that fills them", &["owner"])?;
    let blocks = "remotemedia_frame_pool_blocks";
    let blocks = gauges(
        blocks,
        "Blocks of frame pools, by owner and whether somebody holds them",
        &["owner", "state"],
    )?;
    for pool in &status.frame_pools {
        let owner = pool.owner.as_str();
        bytes.with_label_values(&[owner]).add(whole(pool.bytes));
        used.with_label_values(&[owner]).add(whole(pool.bytes_in_use));
        blocks.with_label_values(&[owner, "used"]).add(i64::from(pool.blocks_in_use));
        let free = pool.blocks.saturating_sub(pool.blocks_in_use);
        blocks.with_label_values(&[owner, "free"]).add(i64::from(free));
    }
    registry.register(Box::new(bytes))?;
    registry.register(Box::new(used))?;
    registry.register(Box::new(blocks))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

const fn name(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Loading => "loading",
        WorkerState::Ready => "ready",
        WorkerState::Leaving => "leaving",
        WorkerState::Late => "late",
        WorkerState::Stuck => "stuck",
        WorkerState::Condemned => "condemned",
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
