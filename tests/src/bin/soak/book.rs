//! All that was asked, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remotemedia_core::Fault;
use remotemedia_core::fault::DeathCause;
use serde_json::{Value, json};

use crate::asker::Trouble;
use crate::cell::Cell;
use crate::log::{Death, Told};

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
    /// What became of calls whose worker died at once.
    pub(crate) answers: Vec<Answer>,
    /// From a death to a successor that works.
    pub(crate) recoveries: Vec<(String, Duration)>,
    pub(crate) gateway_kills: u64,
    /// Until when a call may break off.
    excused_until: Option<Instant>,
    /// Since when nothing is done to anybody, and all of it is over.
    calm_since: Option<Instant>,
    /// The processes that were struck, and what each died of.
    pub(crate) struck: Vec<(u32, DeathCause)>,
    /// The workers that died at once, and when, by the clock that logs have.
    pub(crate) sudden: Vec<Death>,
    /// Deaths that clients were told of.
    told: Vec<(u32, DeathCause)>,
    /// From a death to when its work went to another worker.
    pub(crate) dispatches: Vec<Duration>,
}

/// A call's client has its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) fault: &'static str,
    /// Whether it is the result, from another worker; else it is the error.
    pub(crate) is_result: bool,
    /// From the moment that the node wrote down before it died.
    pub(crate) since_mark: Duration,
    /// From the moment that the process was dead, if somebody was looking.
    pub(crate) since_death: Option<Duration>,
}

/// As many breaches as are told in words.
const TOLD: usize = 20;
/// So many make a 99th percentile, and below this it is to be.
const ENOUGH: usize = 100;
const PROMPT_MS: f64 = 50.0;

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
            let what = what.into();
            println!("  breach: {what}");
            page.breaches.push(what);
        }
    }

    /// From now on nothing is done to anybody, or again.
    pub(crate) fn is_calm(&self, is_calm: bool) {
        self.page().calm_since = is_calm.then(Instant::now);
    }

    /// What has to agree when all is over: the gateways have told once of each process that was struck, as what was done
    /// to it, and counted the same; clients were told of deaths that were, with their causes.
    pub(crate) fn compare(&self, deaths: &[Told], counted: &BTreeMap<String, u64>) {
        let (told, struck) = {
            let page = self.page();
            (page.told.clone(), page.struck.clone())
        };
        // One that hangs may be struck again before it is found to hang, and has one death.
        let done_to = |pid: u32| struck.iter().filter(move |(who, _)| *who == pid).map(|(_, cause)| *cause);
        let mut done: BTreeMap<String, u64> = BTreeMap::new();
        for Told { pid, cause: told } in deaths {
            match done_to(*pid).find(|cause| cause.to_string() == *told) {
                Some(cause) => *done.entry(cause.label().to_owned()).or_default() += 1,
                None => {
                    let was: Vec<String> = done_to(*pid).map(|cause| cause.to_string()).collect();
                    self.breach(format!("process {pid} is told to have died: it {told}; but it {was:?}"));
                }
            }
        }
        let pids: BTreeSet<u32> = struck.iter().map(|(pid, _)| *pid).collect();
        for pid in pids {
            let told = deaths.iter().filter(|told| told.pid == pid).count();
            let most = done_to(pid).count();
            if !(1..=most).contains(&told) {
                let was: Vec<String> = done_to(pid).map(|cause| cause.to_string()).collect();
                self.breach(format!("process {pid} {was:?}, and {told} deaths of it are told"));
            }
        }
        if done != *counted {
            self.breach(format!("workers died of {done:?}, and the gateways counted {counted:?}"));
        }
        // Whose deadline comes first is told of the death, and not of what it was.
        let is_true = |(pid, cause): &(u32, DeathCause)| {
            struck.iter().any(|(who, of)| who == pid && (of == cause || *cause == DeathCause::Unknown))
        };
        for (pid, cause) in told.iter().filter(|one| !is_true(one)) {
            self.breach(format!("a client was told that process {pid} {cause}, which nobody did to it"));
        }
    }

    /// Keeps what came of a call that began then. `who` asked.
    pub(crate) fn keep(&self, who: &str, begun: Instant, told: &Result<(), Trouble>) {
        let is_excused = self.page().excused_until.is_some_and(|until| Instant::now() < until);
        let is_calm = self.page().calm_since.is_some_and(|since| since <= begun);
        match told {
            Ok(()) => self.page().served += 1,
            Err(Trouble::Fault(fault)) => {
                let kind = kind_of(fault);
                if is_calm || !is_explained(fault) {
                    let when = if is_calm { ", while nothing is done to anybody" } else { "" };
                    self.breach(format!("{who}{when}: {kind}: {fault}"));
                }
                if let Fault::Worker(lost) = &**fault {
                    self.page().told.push((lost.pid.cast_unsigned(), lost.cause));
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
    /// From a death to its client's answer, by what is measured: how many, the median, the 99th percentile and the longest,
    /// in milliseconds.
    pub(crate) fn answered_ms(&self) -> BTreeMap<&'static str, (usize, [f64; 3])> {
        let errors = || self.answers.iter().filter(|answer| !answer.is_result);
        let results = || self.answers.iter().filter(|answer| answer.is_result);
        let rows: [(&str, Vec<Duration>); 5] = [
            ("death to error", errors().filter_map(|answer| answer.since_death).collect()),
            (
                "death to result by another worker",
                results().filter_map(|answer| answer.since_death).collect(),
            ),
            ("death to its work going to another worker", self.dispatches.clone()),
            ("last deed to error", errors().map(|answer| answer.since_mark).collect()),
            ("last deed to result by another worker", results().map(|answer| answer.since_mark).collect()),
        ];
        let rows = rows.into_iter();
        rows.filter_map(|(what, mut all)| Some((what, (all.len(), percentiles(&mut all)?)))).collect()
    }

    /// Whether a death's error, and its work, were on their way as soon as is promised; none where too few died to tell.
    pub(crate) fn is_prompt(&self) -> BTreeMap<&'static str, Option<bool>> {
        let answered = self.answered_ms();
        let held = |what| {
            let (count, [_, p99, _]) = answered.get(what)?;
            (*count >= ENOUGH).then_some(*p99 < PROMPT_MS)
        };
        ["death to error", "death to its work going to another worker"].map(|what| (what, held(what))).into()
    }

    /// The same for errors, from the death on, by fault.
    fn answered_by_fault(&self) -> BTreeMap<&'static str, [f64; 3]> {
        let mut by_fault: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
        for answer in self.answers.iter().filter(|answer| !answer.is_result) {
            by_fault.entry(answer.fault).or_default().extend(answer.since_death);
        }
        by_fault.into_iter().filter_map(|(fault, mut all)| Some((fault, percentiles(&mut all)?))).collect()
    }

    pub(crate) fn slowest_recovery(&self) -> Option<&(String, Duration)> {
        self.recoveries.iter().max_by_key(|(_, took)| *took)
    }

    pub(crate) fn summary(&self) -> Value {
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
            "answers_n_p50_p99_max_ms": self.answered_ms(),
            "p99_below_50_ms": self.is_prompt(),
            "death_to_error_p50_p99_max_ms_by_fault": self.answered_by_fault(),
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

/// Whether deaths, hangs and restarts all around explain it. That a worker died as it is told is seen at the end.
fn is_explained(fault: &Fault) -> bool {
    match fault {
        Fault::Worker(_) | Fault::Deadline { .. } | Fault::Unavailable { .. } | Fault::Starting { .. } => {
            true
        }
        // No two inputs are the same, and pipelines that are made again and again are served in between.
        Fault::Poison(_)
        | Fault::Parse(_)
        | Fault::Graph(_)
        | Fault::Placement(_)
        | Fault::Params { .. }
        | Fault::Input { .. }
        | Fault::TypeMismatch { .. }
        | Fault::Entry(_)
        | Fault::Node(_)
        | Fault::Limit(_)
        | Fault::Stream(_)
        | Fault::Version { .. }
        | Fault::Quarantined { .. }
        | Fault::Internal { .. } => false,
    }
}

fn percentiles(all: &mut [Duration]) -> Option<[f64; 3]> {
    all.sort_unstable();
    let at = |percent: usize| all.get((all.len() * percent / 100).min(all.len().checked_sub(1)?)).copied();
    Some([ms(at(50)?), ms(at(99)?), ms(*all.last()?)])
}

pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
