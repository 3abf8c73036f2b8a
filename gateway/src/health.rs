//! Whether calls should be sent here, and why not: for probes, load balancers and people.

use std::time::Duration;

use remotemedia_runtime::{RuntimeStatus, WorkerState};
use serde::Serialize;
use tokio::sync::watch;
use tracing::info;

use crate::backend::Backend;
use crate::life::{LifeWatch, Phase};

/// Whether calls are served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Health {
    /// They are.
    Serving {
        /// Workers that are in quarantine all the same, in words; empty if none is.
        #[serde(skip_serializing_if = "String::is_empty")]
        quarantined: String,
    },
    /// They would be refused.
    NotServing {
        /// What is missing, in words.
        reason: String,
    },
}

/// How often the runtime is asked: a pool's death is told within a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For the runtime to say how it is. On a busy machine it may be late, and is well all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the runtime.
pub(crate) async fn of<B: Backend>(backend: &B, life: &LifeWatch) -> Health {
    match life.phase() {
        Phase::Serving => {}
        Phase::Draining | Phase::Ending | Phase::Over => return Health::shutting_down(),
    }
    match tokio::time::timeout(PATIENCE, backend.status()).await {
        Ok(Some(status)) => Health::of_runtime(&status),
        Ok(None) => Health::shutting_down(),
        Err(_elapsed) => {
            let reason = format!("the runtime does not answer within {} s", PATIENCE.as_secs());
            Health::NotServing { reason }
        }
    }
}

/// Keeps `told` true, for ever. What it tells changes only when health does. When the process goes away there is a
/// last word, and whoever watches is let go: a watch must not hold up the end.
pub(crate) async fn follow<B: Backend>(backend: &B, life: &LifeWatch, told: watch::Sender<Health>) {
    loop {
        let health = of(backend, life).await;
        told.send_if_modified(|known| {
            let is_news = *known != health;
            if is_news {
                match &health {
                    Health::Serving { .. } => info!(quarantined = health.reason(), "health_serving"),
                    Health::NotServing { reason } => info!(reason, "health_not_serving"),
                }
                *known = health;
            }
            is_news
        });
        if life.phase() > Phase::Serving {
            break;
        }
        tokio::select! {
            () = life.reached(Phase::Draining) => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    drop(told);
    std::future::pending().await
}

// === impl Health ===

impl Health {
    /// What there is to say, if anything: why calls are not served, or which workers are missing.
    pub(crate) fn reason(&self) -> Option<&str> {
        let (Self::Serving { quarantined: reason } | Self::NotServing { reason }) = self;
        (!reason.is_empty()).then_some(reason.as_str())
    }

    /// Before the runtime was asked.
    pub(crate) fn unknown() -> Self {
        Self::NotServing { reason: "the gateway starts".to_owned() }
    }

    fn shutting_down() -> Self {
        Self::NotServing { reason: "shutting down".to_owned() }
    }

    fn of_runtime(status: &RuntimeStatus) -> Self {
        let quarantined =
            status.quarantines.iter().map(|one| format!("{}; `{}` ends it", one.reason, one.remedy));
        let quarantined = quarantined.collect::<Vec<_>>().join("; ");
        let may_work = |state| matches!(state, WorkerState::Ready | WorkerState::Late);
        if status.workers.iter().any(|worker| may_work(worker.state)) {
            return Self::Serving { quarantined };
        }
        let reason = match &status.last_death {
            _ if !quarantined.is_empty() => format!("no worker is left: {quarantined}"),
            Some(death) => format!("no worker is left: the last to go was {death}"),
            None => "no worker has registered".to_owned(),
        };
        Self::NotServing { reason }
    }
}
