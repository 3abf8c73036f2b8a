//! Where inputs wait for blocks of the frame pool: in turn, so that each comes in that those before it let.
//!
//! An input that others of its session wait for goes before those that would begin something: what they wait for is what
//! ends, and gives blocks back. There are no more of them than have begun.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Those who wait, by the size of block that they need.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Waiting>);

/// A place in a line. Dropped, it is left.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    line: &'a Line,
    key: Key,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    places: BTreeSet<Key>,
    /// When somebody last had his turn, by size.
    served: BTreeMap<u32, Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    class: u32,
    /// Whether nobody waits for it.
    begins: bool,
    number: u64,
}

// === impl Line ===

impl Line {
    pub(crate) fn join(&self, class: u32, begins: bool) -> Place<'_> {
        let mut waiting = self.lock();
        let key = Key { class, begins, number: waiting.next };
        waiting.next += 1;
        waiting.places.insert(key);
        Place { line: self, key }
    }

    /// Whether somebody who does not wait yet may have what there is.
    pub(crate) fn is_open(&self, class: u32, begins: bool) -> bool {
        let first = Key { class, begins: false, number: 0 };
        let waiting = self.lock();
        !begins || waiting.places.range(first..).next().is_none_or(|place| place.class != class)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl Place<'_> {
    /// Whether it may have what comes free. One that is waited for always may: each of them may end what another needs
    /// the blocks of.
    pub(crate) fn is_next(&self) -> bool {
        let first = Key { begins: false, number: 0, ..self.key };
        !self.key.begins || self.line.lock().places.range(first..).next() == Some(&self.key)
    }

    /// When somebody of this line last had what this one waits for.
    pub(crate) fn last_served(&self) -> Option<Instant> {
        self.line.lock().served.get(&self.key.class).copied()
    }

    /// Leaves with what it waited for.
    pub(crate) fn served(self) {
        self.line.lock().served.insert(self.key.class, Instant::now());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.lock().places.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_served_in_turn_and_who_is_waited_for_before() {
        let line = Line::default();
        let [first, second, third] = [(); 3].map(|()| line.join(7, true));
        let is_next = |places: [&Place<'_>; 3]| places.map(Place::is_next);
        assert_eq!(is_next([&first, &second, &third]), [true, false, false]);
        assert!(line.join(8, true).is_next() && line.is_open(8, true), "another size is another line");
        assert!(!line.is_open(7, true) && line.is_open(7, false), "who comes last is last");
        let (waited_for, another) = (line.join(7, false), line.join(7, false));
        assert!(waited_for.is_next() && another.is_next());
        assert_eq!(is_next([&first, &second, &third]), [false; 3]);
        drop((waited_for, another, second));
        assert!(first.is_next() && !third.is_next());
        assert_eq!(third.last_served(), None);
        first.served();
        assert!(third.is_next() && third.last_served().is_some());
        drop(third);
        assert!(line.is_open(7, true));
        assert!(line.lock().places.is_empty());
    }
}
