//! Content that kills whoever works on it: counted, and refused for a while when it has killed too many.
//!
//! A worker that dies takes along what others had in it at that moment, too, and that may be the same each time: what a
//! silent room sounds like, or the pipeline that everybody opens. So a death counts once for a content, however many
//! sessions had it there, and content that is served meanwhile is no killer: what is poison has killed so many in a row.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remotemedia_core::fault::Poison;
use remotemedia_core::graph::Graph;
use remotemedia_core::manifest::Manifest;
use remotemedia_ipc::plane::Prepared;

use crate::captures::{Captures, Kill};
use crate::survival::Loss;

/// Content that has killed workers. Shared by all sessions.
#[derive(Debug)]
pub(crate) struct Poisons {
    hashing: RandomState,
    strikes: Mutex<HashMap<Content, Strikes>>,
    /// Entries of `strikes`: while there are none, which is nearly always, nothing is hashed.
    known: AtomicUsize,
    memory: Duration,
    /// Deaths in a row of the same content after which it is refused.
    limit: usize,
    /// Where it is kept then.
    captures: Option<Captures>,
}

/// What stands for a pipeline's node types and parameters, and one input.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Content(u64);

#[derive(Debug)]
struct Strikes {
    /// The processes that died of it.
    dead: Vec<i32>,
    latest: Instant,
    /// How it is refused, once it is.
    poison: Option<Poison>,
}

/// What a worker died of, in full.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) manifest: Arc<Manifest>,
    /// By entry and port.
    pub(crate) frames: Vec<(String, String, Prepared)>,
}

/// Contents remembered: beyond it the one that killed least recently is forgotten.
const MOST: usize = 256;

// === impl Poisons ===

impl Poisons {
    /// Content is refused for `memory` when it has killed more workers than `replays` after the first.
    pub(crate) fn new(replays: u32, memory: Duration, captures: Option<Captures>) -> Self {
        Self {
            hashing: RandomState::new(),
            strikes: Mutex::default(),
            known: AtomicUsize::new(0),
            memory,
            limit: usize::try_from(replays).unwrap_or(usize::MAX).saturating_add(1),
            captures,
        }
    }

    /// What stands for these frames, in whatever order, as an input of this pipeline; for none, the pipeline itself, which
    /// kills as it is set up.
    pub(crate) fn content<'a>(&self, graph: &Graph, pieces: impl Iterator<Item = &'a Prepared>) -> Content {
        let mut hasher = self.hashing.build_hasher();
        for node in graph.nodes() {
            node.node_type.hash(&mut hasher);
            // A map of JSON values has one text.
            serde_json::to_string(&node.params).unwrap_or_default().hash(&mut hasher);
        }
        let of_piece = |piece: &Prepared| {
            let mut hasher = self.hashing.build_hasher();
            piece.hash_content(&mut hasher);
            hasher.finish()
        };
        Content(pieces.map(of_piece).fold(hasher.finish(), u64::wrapping_add))
    }

    /// Whether nothing is refused, nor has killed lately.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.load(Ordering::Relaxed) == 0
    }

    /// Whether this death is once too often.
    pub(crate) fn is_last(&self, content: Content, loss: &Loss) -> bool {
        let strikes = self.fresh(Instant::now());
        let dead = strikes.get(&content).map_or(&[][..], |entry| &entry.dead);
        let deaths = dead.len() + usize::from(!dead.contains(&loss.lost.pid));
        !self.memory.is_zero() && deaths >= self.limit
    }

    /// Whether workers have died of it lately.
    pub(crate) fn is_suspect(&self, content: Content) -> bool {
        !self.is_empty() && self.fresh(Instant::now()).contains_key(&content)
    }

    /// It was served: it does not kill whoever works on it.
    pub(crate) fn absolve(&self, content: Content) {
        let mut strikes = self.fresh(Instant::now());
        if strikes.remove(&content).is_some() {
            self.known.store(strikes.len(), Ordering::Relaxed);
        }
    }

    /// A worker has died of it. If that was once too often, says how it is refused from here on; with the place where it
    /// is kept, if there is `evidence` that may be kept.
    pub(crate) fn blame(
        &self,
        content: Content,
        loss: &Loss,
        sequence: Option<u64>,
        evidence: impl FnOnce() -> Option<Evidence>,
    ) -> Option<Poison> {
        let (poison, is_new) = self.strike(content, loss, sequence)?;
        if !is_new {
            return Some(poison);
        }
        tracing::warn!(node = poison.node, deaths = poison.deaths, "input_is_poison");
        let Some(Evidence { manifest, frames }) = evidence() else { return Some(poison) };
        let worker_kind = loss.kind.clone();
        Some(self.capture(content, Kill { manifest, poison, worker_kind, frames }))
    }

    /// How it is refused, if it is, and whether that is new.
    fn strike(&self, content: Content, loss: &Loss, sequence: Option<u64>) -> Option<(Poison, bool)> {
        if self.memory.is_zero() {
            return None;
        }
        let now = Instant::now();
        let mut strikes = self.fresh(now);
        if strikes.len() >= MOST && !strikes.contains_key(&content) {
            let oldest = strikes.iter().min_by_key(|(_, entry)| entry.latest).map(|(content, _)| *content);
            oldest.and_then(|oldest| strikes.remove(&oldest));
        }
        let entry = strikes.entry(content).or_insert(Strikes { dead: Vec::new(), latest: now, poison: None });
        if !entry.dead.contains(&loss.lost.pid) {
            entry.latest = now;
            if entry.dead.len() < self.limit {
                entry.dead.push(loss.lost.pid);
            }
        }
        let is_new = entry.poison.is_none();
        if is_new && entry.dead.len() >= self.limit {
            entry.poison = Some(Poison {
                node: loss.lost.node.clone(),
                sequence,
                made: loss.call.is_some_and(|call| call.sequence.is_none()),
                deaths: u32::try_from(entry.dead.len()).unwrap_or(u32::MAX),
                worker: loss.lost.worker.clone(),
                pid: loss.lost.pid,
                cause: loss.lost.cause,
                refused_ms: u32::try_from(self.memory.as_millis()).unwrap_or(u32::MAX),
                capture: None,
            });
        }
        let poison = entry.poison.clone().map(|poison| (Poison { sequence, ..poison }, is_new));
        self.known.store(strikes.len(), Ordering::Relaxed);
        poison
    }

    /// Keeps the input, where inputs are kept, and gives what is told of it with the place.
    fn capture(&self, content: Content, kill: Kill) -> Poison {
        let poison = kill.poison.clone();
        let path = self.captures.as_ref().and_then(|captures| captures.keep(kill));
        let capture = path.map(|path| path.display().to_string());
        let mut strikes = self.fresh(Instant::now());
        if let Some(poison) = strikes.get_mut(&content).and_then(|entry| entry.poison.as_mut()) {
            poison.capture.clone_from(&capture);
        }
        Poison { capture, ..poison }
    }

    /// Why it is refused, if it is.
    pub(crate) fn refusal(&self, content: Content, sequence: Option<u64>) -> Option<Poison> {
        let now = Instant::now();
        let strikes = self.fresh(now);
        let entry = strikes.get(&content)?;
        let left = self.memory.saturating_sub(now.saturating_duration_since(entry.latest));
        let refused_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        Some(Poison { sequence, refused_ms, ..entry.poison.clone()? })
    }

    /// Those that are not forgotten.
    fn fresh(&self, now: Instant) -> MutexGuard<'_, HashMap<Content, Strikes>> {
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.retain(|_, entry| now.saturating_duration_since(entry.latest) < self.memory);
        self.known.store(strikes.len(), Ordering::Relaxed);
        strikes
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::fault::{DeathCause, WorkerLost};

    use super::*;

    /// Of this process.
    fn loss(pid: i32) -> Loss {
        let lost = WorkerLost {
            node: "a".to_owned(),
            worker: "w".to_owned(),
            pid,
            cause: DeathCause::Signal(11),
            restarts: 0,
            last_lines: Vec::new(),
            replays: 0,
        };
        let (_hub, ending) = tokio::sync::watch::channel(None);
        Loss { lost, kind: "rust".to_owned(), call: None, is_counted: false, ending }
    }

    #[test]
    fn content_is_refused_when_it_has_killed_once_too_often() {
        let poisons = Poisons::new(2, Duration::from_secs(60), None);
        assert!(poisons.is_empty());
        let (killer, other) = (Content(1), Content(2));
        assert_eq!(poisons.strike(killer, &loss(7), Some(4)), None);
        assert_eq!(poisons.strike(other, &loss(7), None), None);
        assert_eq!(poisons.strike(killer, &loss(8), Some(4)), None);
        assert!(!poisons.is_empty() && poisons.refusal(killer, None).is_none());
        assert!(poisons.is_last(killer, &loss(9)) && !poisons.is_last(other, &loss(9)));
        let (poison, is_new) = poisons.strike(killer, &loss(9), Some(4)).unwrap();
        assert_eq!((poison.deaths, poison.sequence, poison.refused_ms, is_new), (3, Some(4), 60_000, true));
        let (again, is_new) = poisons.strike(killer, &loss(10), Some(5)).unwrap();
        assert_eq!((again.deaths, again.pid, again.sequence, is_new), (3, 9, Some(5), false));
        let refused = poisons.refusal(killer, Some(9)).unwrap();
        assert_eq!((refused.sequence, refused.capture), (Some(9), None));
        assert!(refused.refused_ms <= 60_000);
        assert!(poisons.refusal(other, None).is_none());
    }

    #[test]
    fn one_death_counts_once_however_many_sessions_had_the_same_content_there() {
        let poisons = Poisons::new(2, Duration::from_secs(60), None);
        for _session in 0..9 {
            assert_eq!(poisons.strike(Content(1), &loss(7), None), None);
            assert_eq!(poisons.strike(Content(1), &loss(8), None), None);
            assert!(!poisons.is_last(Content(1), &loss(8)) && poisons.is_last(Content(1), &loss(9)));
        }
        assert_eq!(poisons.strike(Content(1), &loss(9), None).unwrap().0.deaths, 3);
    }

    #[test]
    fn content_that_is_served_is_no_killer_whatever_died_beside_it() {
        let poisons = Poisons::new(2, Duration::from_secs(60), None);
        assert!(!poisons.is_suspect(Content(1)));
        for pid in 0..9 {
            assert_eq!(poisons.strike(Content(1), &loss(pid), None), None, "after {pid} deaths");
            assert!(poisons.is_suspect(Content(1)) && !poisons.is_suspect(Content(2)));
            poisons.absolve(Content(1));
            assert!(poisons.is_empty());
        }
    }

    #[test]
    fn it_is_forgotten_after_a_while_and_the_oldest_makes_room() {
        let brief = Poisons::new(0, Duration::from_millis(1), None);
        assert!(brief.strike(Content(1), &loss(7), None).is_some());
        std::thread::park_timeout(Duration::from_millis(2));
        assert!(brief.refusal(Content(1), None).is_none());
        assert!(brief.is_empty());
        let poisons = Poisons::new(0, Duration::from_secs(60), None);
        for number in 0..=MOST as u64 {
            poisons.strike(Content(number), &loss(7), None);
        }
        assert!(poisons.refusal(Content(0), None).is_none());
        assert!(poisons.refusal(Content(MOST as u64), None).is_some());
        let never = Poisons::new(0, Duration::ZERO, None);
        assert!(never.strike(Content(1), &loss(7), None).is_none(), "it was switched off");
    }
}
