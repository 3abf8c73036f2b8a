//! What the hub tells of itself and of its workers.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use remotemedia_core::frame::StageId;
use remotemedia_ipc::plane::Pool;
use remotemedia_ipc::slot::Member;

use super::Loop;
use super::stages::{Entry, Phase};
use crate::registry::{Standing, WorkerEntry};
use crate::status::{
    DeathStatus, LossStatus, PoolStatus, QuarantineStatus, RuntimeStatus, SessionState, SessionStatus,
    WorkerState, WorkerStatus,
};
use crate::stragglers::Lateness;

// === impl Loop ===

impl Loop {
    pub(super) fn publish_node_infos(&self) {
        let infos = self.registry.node_types().into_values().cloned().collect();
        *self.shared.node_infos.write().unwrap_or_else(PoisonError::into_inner) = infos;
    }

    pub(super) fn status(&self) -> RuntimeStatus {
        let workers = self.registry.iter().map(|(_, worker)| WorkerStatus {
            pid: worker.pid,
            name: worker.hello.name.clone(),
            kind: worker.hello.kind.clone(),
            state: WorkerState::of(worker),
            step: worker.step().map(str::to_owned),
            sessions: worker.sessions,
            restarts: self.registry.deaths(&worker.hello.name),
            nodes: worker.hello.nodes.iter().map(|info| info.name.clone()).collect(),
        });
        let pools = self.host.plane().pools().into_iter().map(|pool| self.pool_status(&pool));
        let sessions = self.sessions.values().filter_map(|stages| self.session_status(stages));
        RuntimeStatus {
            workers: workers.collect(),
            frame_pools: pools.collect(),
            sessions: sessions.collect(),
            deaths: self.registry.causes().map(|(cause, count)| DeathStatus { cause, count }).collect(),
            last_death: self.registry.last_death().map(str::to_owned),
            quarantines: self.registry.quarantines().iter().map(QuarantineStatus::from).collect(),
            restart: self.rollout.clone(),
            quarantines_begun: self.registry.quarantines().begun(),
            losses: self.registry.losses().map(|(name, loss)| LossStatus::of(name, loss)).collect(),
            replays: self.shared.replays.load(Ordering::Relaxed),
            poisons: self.shared.poisons.load(Ordering::Relaxed),
        }
    }

    fn session_status(&self, stages: &BTreeSet<StageId>) -> Option<SessionStatus> {
        let entries: Vec<&Entry> = stages.iter().filter_map(|id| self.stages.get(id)).collect();
        let opened = &entries.first()?.session;
        let members: BTreeSet<Member> = entries.iter().map(|entry| entry.member).collect();
        Some(SessionStatus {
            id: opened.session.to_string(),
            pipeline: opened.pipeline.clone(),
            state: Phase::of_all(&entries),
            age_s: opened.since.elapsed().as_secs_f64(),
            workers: members
                .into_iter()
                .filter_map(|member| self.registry.name(member))
                .map(str::to_owned)
                .collect(),
        })
    }

    fn pool_status(&self, pool: &Pool) -> PoolStatus {
        let usage = pool.usage();
        let owner = pool.owner();
        let worker = self.registry.get(owner).map(|worker| worker.hello.name.as_str());
        let gateway = (owner == self.host.plane().me()).then_some("gateway");
        let living = gateway.or(worker);
        PoolStatus {
            id: pool.id().0,
            owner: living.unwrap_or("dead").to_owned(),
            bytes: usage.bytes,
            bytes_in_use: usage.bytes_in_use,
            blocks: usage.blocks,
            blocks_in_use: usage.blocks_in_use,
            state: if living.is_some() { "active" } else { "retired" },
        }
    }
}

// === impl Phase ===

impl Phase {
    /// What a session does whose stages are in these.
    fn of_all(entries: &[&Entry]) -> SessionState {
        if entries.iter().any(|entry| entry.phase == Self::Linking) {
            SessionState::Opening
        } else if entries.iter().all(|entry| entry.phase == Self::Closing) {
            SessionState::Closing
        } else {
            SessionState::Open
        }
    }
}

// === impl WorkerState ===

impl WorkerState {
    const fn of(worker: &WorkerEntry) -> Self {
        match (&worker.standing, worker.lateness) {
            (Standing::Loading(_), _) => Self::Loading,
            (Standing::Ready, None) => Self::Ready,
            (Standing::Ready, Some(Lateness::Late)) => Self::Late,
            (Standing::Ready, Some(Lateness::Stuck | Lateness::Hopeless)) => Self::Stuck,
            (Standing::Leaving, _) => Self::Leaving,
            (Standing::Condemned, _) => Self::Condemned,
        }
    }
}
