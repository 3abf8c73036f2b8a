//! Workers that keep dying, and that their launcher does not start for a while.

use std::collections::BTreeMap;
use std::time::Instant;

use remotemedia_core::launching::Quarantine;

/// Those that a launcher has told of.
#[derive(Debug, Default)]
pub(crate) struct Quarantines {
    /// By name. A launcher tells of as many as it may have children.
    held: BTreeMap<String, Held>,
    /// How many there have been.
    begun: u64,
}

#[derive(Debug)]
struct Held {
    quarantine: Quarantine,
    told: Instant,
}

// === impl Quarantines ===

impl Quarantines {
    pub(crate) fn begin(&mut self, quarantine: Quarantine) {
        self.begun = self.begun.saturating_add(1);
        self.held.insert(quarantine.worker.clone(), Held { quarantine, told: Instant::now() });
    }

    pub(crate) fn end(&mut self, worker: &str) {
        self.held.remove(worker);
    }

    pub(crate) fn has(&self, worker: &str) -> bool {
        self.held.contains_key(worker)
    }

    /// As they are now, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Quarantine> {
        self.held.values().map(|Held { quarantine, told }| Quarantine {
            since: quarantine.since + told.elapsed(),
            left: quarantine.left.saturating_sub(told.elapsed()),
            ..quarantine.clone()
        })
    }

    pub(crate) const fn begun(&self) -> u64 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use remotemedia_core::fault::DeathCause;

    use super::*;

    #[test]
    fn a_quarantine_goes_on_while_it_is_held_and_is_counted_after_it() {
        let mut quarantines = Quarantines::default();
        quarantines.begin(Quarantine {
            worker: "a".to_owned(),
            deaths: 5,
            cause: DeathCause::Exit(1),
            last_line: String::new(),
            since: Duration::ZERO,
            left: Duration::ZERO,
        });
        let now = quarantines.iter().next().unwrap();
        assert!(now.since > Duration::ZERO && now.left == Duration::ZERO, "{now:?}");
        quarantines.end("a");
        assert_eq!((quarantines.has("a"), quarantines.iter().count(), quarantines.begun()), (false, 0, 1));
    }
}
