//! Workers that died and are to be there again.

use std::time::Duration;

use remotemedia_cli::admin::{Status, WorkerStatus};
use tokio::time::sleep;

use crate::book::Book;
use crate::cell::Cell;
use crate::service::Service;
use crate::strike::now;

/// Those that are awaited.
#[derive(Debug, Default)]
pub(crate) struct Recoveries(Vec<Awaited>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) cell: Cell,
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// When it was struck.
    pub(crate) since: Duration,
}

/// So many may be away while others are struck: the pools must not run empty.
const MOST_AWAY: usize = 2;
/// The longest pause between two starts, and the start.
const LIMIT: Duration = Duration::from_secs(40);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

// === impl Recoveries ===

impl Recoveries {
    pub(crate) fn expect(&mut self, awaited: Awaited) {
        self.0.push(awaited);
    }

    /// Looks for so long, and longer while too many are away.
    pub(crate) async fn watch(&mut self, service: &Service, book: &Book, at_least: Duration) {
        let begin = now();
        while now().saturating_sub(begin) < at_least || self.0.len() > MOST_AWAY {
            if let Some(status) = service.status().await {
                self.look(&status, book);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for all of them.
    pub(crate) async fn all(&mut self, service: &Service, book: &Book) {
        while !self.0.is_empty() {
            self.watch(service, book, LOOK_EVERY).await;
        }
    }

    fn look(&mut self, status: &Status, book: &Book) {
        let now = now();
        self.0.retain(|awaited| {
            let took = now.saturating_sub(awaited.since);
            if status.workers.iter().any(|worker| awaited.is_back(worker)) {
                book.page().recoveries.push((format!("{} of {}", awaited.cell, awaited.name), took));
                return false;
            }
            if took > LIMIT {
                book.breach(format!("{}: {} did not come back", awaited.cell, awaited.name));
                return false;
            }
            true
        });
    }
}

// === impl Awaited ===

impl Awaited {
    fn is_back(&self, worker: &WorkerStatus) -> bool {
        worker.name == self.name && worker.pid != self.pid && worker.state == "ready"
    }
}
