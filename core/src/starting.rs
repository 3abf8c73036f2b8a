//! What a session waits for that needs a node whose worker is still loading.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// No worker offers a node's type yet, but some are still loading.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Starting {
    /// The node.
    pub node: String,
    /// Its type, as written.
    pub node_type: String,
    /// How long the session has waited.
    pub waited: Duration,
    /// Who may come to offer it.
    pub workers: Vec<LoadingWorker>,
}

/// A worker that has joined and cannot run nodes yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadingWorker {
    /// Its name.
    pub name: String,
    /// What it does, such as `setting up Whisper`.
    pub step: String,
    /// Since it joined.
    pub elapsed: Duration,
}

/// Hears how the start of a session goes. It is called on a thread that serves all sessions, and must not block.
#[derive(Clone)]
pub struct StartListener(Arc<dyn Fn(Starting) + Send + Sync>);

// === impl Starting ===

impl fmt::Display for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node '{}' waits for a worker that offers '{}': ", self.node, self.node_type)?;
        let workers: Vec<String> = self.workers.iter().map(LoadingWorker::to_string).collect();
        f.write_str(&workers.join(", "))
    }
}

// === impl LoadingWorker ===

impl fmt::Display for LoadingWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is {} ({:.1} s)", self.name, self.step, self.elapsed.as_secs_f64())
    }
}

// === impl StartListener ===

impl StartListener {
    /// One that calls this.
    #[must_use]
    pub fn new(hear: impl Fn(Starting) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Tells it.
    pub fn tell(&self, starting: Starting) {
        (self.0)(starting);
    }
}

impl fmt::Debug for StartListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StartListener")
    }
}
