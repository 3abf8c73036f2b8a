//! Who tells the gateway of the workers: which were started here, and how those died.

use std::path::Path;
use std::time::{Duration, Instant};

use remotemedia_ipc::control::messages::Burial;
use remotemedia_ipc::launcher::{Launcher, LauncherError};

/// The line to the gateway, as long as there is one. What is said without one is lost: the gateway then knows what the
/// kernel tells.
#[derive(Debug, Default)]
pub(super) struct Herald(Option<Launcher>);

/// For a place in the gateway's queue of connections. It has just said that it serves.
const CONNECT: Duration = Duration::from_millis(100);

// === impl Herald ===

impl Herald {
    /// Tells a gateway that has begun to serve whose parent we are.
    ///
    /// # Errors
    /// It does not listen.
    pub(super) fn greet(
        &mut self,
        runtime_dir: &Path,
        children: impl IntoIterator<Item = i32>,
    ) -> Result<(), LauncherError> {
        self.0 = None;
        let mut launcher = Launcher::connect(runtime_dir, Instant::now() + CONNECT)?;
        for pid in children {
            launcher.started(pid)?;
        }
        self.0 = Some(launcher);
        Ok(())
    }

    pub(super) fn started(&mut self, pid: i32) {
        self.say(|launcher| launcher.started(pid));
    }

    pub(super) fn buried(&mut self, burial: Burial) {
        self.say(|launcher| launcher.buried(burial));
    }

    fn say(&mut self, what: impl FnOnce(&mut Launcher) -> Result<(), LauncherError>) {
        // The gateway is gone, or going: its successor is greeted anew.
        if self.0.as_mut().is_some_and(|launcher| what(launcher).is_err()) {
            self.0 = None;
        }
    }
}
