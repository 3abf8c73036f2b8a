//! What systemd has told of the ends of workers that were units of it, until somebody asks.

use std::collections::{BTreeMap, VecDeque};

use remotemedia_core::launching::Invocation;

use super::HostEvent;
use crate::control::messages::{Burial, Report};
use crate::slot::SLOTS;

/// The reports that nobody has asked for, and which would come too late.
#[derive(Debug, Default)]
pub(super) struct Reports {
    told: BTreeMap<Invocation, Report>,
    /// Workers whose death is published, the latest last.
    past: VecDeque<Invocation>,
}

/// Reports kept, and deaths remembered: as many as there are slots, and as many that waited for one.
const MOST: usize = SLOTS * 2;

// === impl Reports ===

impl Reports {
    /// Takes in what is told of an end.
    pub(super) fn hear(&mut self, report: Report) {
        if self.past.contains(&report.invocation) {
            tracing::debug!(worker = report.name, "report_told_late");
        } else if self.told.len() < MOST {
            self.told.insert(report.invocation, report);
        }
    }

    /// What was told of the end of a worker.
    pub(super) fn take(&mut self, invocation: Invocation, pid: i32) -> Option<Burial> {
        self.told.remove(&invocation).map(|report| burial(report, pid))
    }

    /// What is told of its end from here on comes too late.
    pub(super) fn forget(&mut self, invocation: Invocation) {
        self.told.remove(&invocation);
        if self.past.len() >= MOST {
            self.past.pop_front();
        }
        self.past.push_back(invocation);
    }

    /// Those who failed and, as `is_awaited` says of them, never were workers. Nobody knows their process ids.
    pub(super) fn stillborn(&mut self, is_awaited: impl Fn(Invocation) -> bool) -> Vec<HostEvent> {
        let theirs = self.told.extract_if(.., |invocation, _| !is_awaited(*invocation));
        let failed = theirs.map(|(_, report)| report).filter(|report| report.is_failure);
        failed.map(|report| HostEvent::Stillborn(burial(report, 0))).collect()
    }
}

/// As of any parent; what was written last is in the journal.
fn burial(Report { name, cause, .. }: Report, pid: i32) -> Burial {
    Burial { pid, name, cause, restarts: None, last_lines: Vec::new() }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::fault::DeathCause;

    use super::*;

    fn report(invocation: u128, is_failure: bool) -> Report {
        let (name, cause) = ("rust-1".to_owned(), DeathCause::OutOfMemory);
        Report { invocation: Invocation(invocation), name, cause, is_failure }
    }

    #[test]
    fn a_report_is_kept_until_it_is_asked_for_or_too_late() {
        let mut reports = Reports::default();
        reports.hear(report(1, true));
        assert!(reports.stillborn(|_| true).is_empty());
        let told = reports.take(Invocation(1), 7).unwrap();
        assert_eq!((told.pid, told.cause), (7, DeathCause::OutOfMemory));
        reports.forget(Invocation(1));
        reports.hear(report(1, true));
        assert_eq!(reports.take(Invocation(1), 7), None);
    }

    #[test]
    fn who_failed_before_it_was_a_worker_is_stillborn_and_who_was_stopped_is_not() {
        let mut reports = Reports::default();
        (1..=3).for_each(|number| reports.hear(report(number, number != 2)));
        let stillborn = reports.stillborn(|invocation| invocation == Invocation(3));
        assert!(matches!(stillborn.as_slice(), [HostEvent::Stillborn(one)] if one.name == "rust-1"));
        assert!(reports.take(Invocation(3), 7).is_some());
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut reports = Reports::default();
        (0..1_000).for_each(|number| reports.hear(report(number, true)));
        (0..1_000).for_each(|number| reports.forget(Invocation(number + 1_000)));
        assert_eq!((reports.told.len(), reports.past.len()), (MOST, MOST));
    }
}
