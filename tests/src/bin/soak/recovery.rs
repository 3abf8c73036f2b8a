//! Workers that died and are to be there again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remotemedia_cli::admin::{AdminDoor, Status, WorkerStatus};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::book::Book;
use crate::cell::Cell;
use crate::strike::now;

/// Those that are awaited, and who looks for them all the time: also while others are struck.
#[derive(Debug)]
pub(crate) struct Recoveries {
    away: Arc<Mutex<Vec<Awaited>>>,
    watcher: JoinHandle<()>,
}

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
    pub(crate) fn watch(door: AdminDoor, book: Book) -> Self {
        let away = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::clone(&away);
        let watcher = tokio::spawn(async move {
            loop {
                let status = door.status().await.ok();
                look(&mut lock(&watched), status.as_ref(), &book);
                sleep(LOOK_EVERY).await;
            }
        });
        Self { away, watcher }
    }

    pub(crate) fn expect(&self, awaited: Awaited) {
        lock(&self.away).push(awaited);
    }

    /// Waits while too many are away.
    pub(crate) async fn enough(&self) {
        self.at_most(MOST_AWAY).await;
    }

    /// Waits for all of them.
    pub(crate) async fn all(&self) {
        self.at_most(0).await;
    }

    /// Whoever is away for too long is given up, so this ends.
    async fn at_most(&self, most: usize) {
        while lock(&self.away).len() > most {
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Recoveries {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// While there is no gateway nobody is there again.
fn look(away: &mut Vec<Awaited>, status: Option<&Status>, book: &Book) {
    let now = now();
    let workers = status.map(|status| status.workers.as_slice()).unwrap_or_default();
    away.retain(|awaited| {
        let took = now.saturating_sub(awaited.since);
        if workers.iter().any(|worker| awaited.is_back(worker)) {
            book.page().recoveries.push((format!("{} of {}", awaited.cell, awaited.name), took));
            return false;
        }
        if took > LIMIT {
            book.breach(format!("{}: {} did not come back", awaited.cell, awaited.name));
        }
        took <= LIMIT
    });
}

fn lock(away: &Mutex<Vec<Awaited>>) -> MutexGuard<'_, Vec<Awaited>> {
    away.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Awaited ===

impl Awaited {
    fn is_back(&self, worker: &WorkerStatus) -> bool {
        worker.name == self.name && worker.pid != self.pid && worker.state == "ready"
    }
}
