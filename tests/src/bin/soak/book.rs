//! All that was asked, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remotemedia_core::Fault;
use serde_json::{Value, json};

use crate::asker::Trouble;
use crate::cell::Cell;

/// Shared by everybody who asks or strikes.
#[derive(Clone, Debug)]
pub(crate) struct Book(Arc<Mutex<Page>>);

#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Calls begun.
    pub(crate) asked: u64,
    /// Calls answered with all that was due.
    pub(crate) served: u64,
    /// Calls answered with an error, by its kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Calls that broke off when a gateway had just been killed.
    pub(crate) broken_off: u64,
    /// What must not be: silence, nonsense, another's data, errors that nothing explains. The first of them in words.
    pub(crate) breaches: Vec<String>,
    pub(crate) breach_count: u64,
    /// Strikes that did what they should.
    pub(crate) strikes: BTreeMap<Cell, u64>,
    /// From a death to its client's answer, by fault.
    pub(crate) answers: BTreeMap<&'static str, Vec<Duration>>,
    /// From a death to a successor that works.
    pub(crate) recoveries: Vec<(String, Duration)>,
    pub(crate) gateway_kills: u64,
    /// Until when a call may break off.
    excused_until: Option<Instant>,
}

/// As many breaches as are told in words.
const TOLD: usize = 20;

// === impl Book ===

impl Book {
    pub(crate) fn open() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn page(&self) -> MutexGuard<'_, Page> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on for so long a call may break off: there is no gateway, or a new one.
    pub(crate) fn excuse(&self, duration: Duration) {
        self.page().excused_until = Some(Instant::now() + duration);
    }

    pub(crate) fn breach(&self, what: impl Into<String>) {
        let mut page = self.page();
        page.breach_count += 1;
        if page.breaches.len() < TOLD {
            page.breaches.push(what.into());
        }
    }

    /// Keeps what came of a call. `who` asked.
    pub(crate) fn keep(&self, who: &str, told: &Result<(), Trouble>) {
        let is_excused = self.page().excused_until.is_some_and(|until| Instant::now() < until);
        match told {
            Ok(()) => self.page().served += 1,
            Err(Trouble::Fault(fault)) => {
                let kind = kind_of(fault);
                if !is_explained(fault) {
                    self.breach(format!("{who}: {kind}: {fault}"));
                }
                *self.page().errors.entry(kind).or_default() += 1;
            }
            Err(Trouble::Broken(..)) if is_excused => self.page().broken_off += 1,
            Err(trouble @ (Trouble::Broken(..) | Trouble::Silence | Trouble::Nonsense(_))) => {
                self.breach(format!("{who}: {trouble}"));
            }
        }
    }
}

// === impl Page ===

impl Page {
    /// From death to answer: the median, the 99th percentile and the longest, in milliseconds.
    pub(crate) fn answered_ms(&self) -> Option<[f64; 3]> {
        let mut all: Vec<Duration> = self.answers.values().flatten().copied().collect();
        percentiles(&mut all)
    }

    pub(crate) fn slowest_recovery(&self) -> Option<&(String, Duration)> {
        self.recoveries.iter().max_by_key(|(_, took)| *took)
    }

    pub(crate) fn summary(&self) -> Value {
        let [p50, p99, longest] = self.answered_ms().unwrap_or_default();
        let by_fault: BTreeMap<_, _> = self
            .answers
            .iter()
            .filter_map(|(fault, all)| Some((fault, percentiles(&mut all.clone())?)))
            .collect();
        let deaths: BTreeMap<String, u64> =
            self.strikes.iter().map(|(cell, count)| (cell.to_string(), *count)).collect();
        let slowest = self.slowest_recovery().map(|(of, took)| json!({ "of": of, "ms": ms(*took) }));
        json!({
            "requests": self.asked,
            "served": self.served,
            "errors": self.errors,
            "broken_off_by_gateway_kills": self.broken_off,
            "gateway_kills": self.gateway_kills,
            "deaths": deaths,
            "death_to_answer_ms": { "p50": p50, "p99": p99, "max": longest, "by_fault_p50_p99_max": by_fault },
            "slowest_recovery": slowest,
            "lost": self.breach_count,
        })
    }
}

/// The kind of a fault, and where a worker died, of what.
fn kind_of(fault: &Fault) -> String {
    if let Fault::Worker(lost) = fault {
        return format!("Worker {}", lost.cause.label());
    }
    match serde_json::to_value(fault) {
        Ok(Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Whether deaths, hangs and restarts all around explain it.
fn is_explained(fault: &Fault) -> bool {
    matches!(
        kind_of(fault).split(' ').next(),
        Some("Worker" | "Deadline" | "Unavailable" | "Starting" | "Node" | "Poison")
    )
}

fn percentiles(all: &mut [Duration]) -> Option<[f64; 3]> {
    all.sort_unstable();
    let at = |percent: usize| all.get((all.len() * percent / 100).min(all.len().checked_sub(1)?)).copied();
    Some([ms(at(50)?), ms(at(99)?), ms(*all.last()?)])
}

pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
