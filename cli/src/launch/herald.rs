//! Who talks with the gateway of the workers: which were started here, how those died, which are left alone; and hears
//! which are ready, and what people ask for.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use remotemedia_core::launching::{LaunchRefusal, Quarantine, Rollout};
use remotemedia_ipc::control::messages::{Burial, ToLauncher};
use remotemedia_ipc::launcher::{Launcher, LauncherError};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The line to the gateway, as long as there is one. What is said without one is lost: the gateway then knows what the
/// kernel tells.
#[derive(Debug, Default)]
pub(super) struct Herald(Option<Line>);

#[derive(Debug)]
struct Line {
    launcher: Launcher,
    /// A duplicate of its socket.
    readable: UnixStream,
}

/// For a place in the gateway's queue of connections. It has just said that it serves.
const CONNECT: Duration = Duration::from_millis(100);

// === impl Herald ===

impl Herald {
    /// Tells a gateway that has begun to serve whose parent we are, who has served and will come, by itself or started
    /// again, and whom we leave alone. Must be called on a runtime.
    ///
    /// # Errors
    /// It does not listen.
    pub(super) fn greet(
        &mut self,
        runtime_dir: &Path,
        children: impl IntoIterator<Item = i32>,
        awaited: impl IntoIterator<Item = String>,
        quarantines: impl IntoIterator<Item = Quarantine>,
    ) -> Result<(), LauncherError> {
        self.0 = None;
        let mut launcher = Launcher::connect(runtime_dir, Instant::now() + CONNECT)?;
        for pid in children {
            launcher.started(pid)?;
        }
        for worker in awaited {
            launcher.awaited(worker)?;
        }
        for quarantine in quarantines {
            launcher.quarantined(quarantine)?;
        }
        // Without it nothing is heard, and all is said as before.
        let duplicate = launcher.as_fd().try_clone_to_owned();
        let readable = duplicate.and_then(|socket| UnixStream::from_std(socket.into()));
        self.0 = readable.ok().map(|readable| Line { launcher, readable });
        Ok(())
    }

    /// Whether there is a line: what the gateway says comes.
    pub(super) const fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn started(&mut self, pid: i32) {
        self.say(|launcher| launcher.started(pid));
    }

    pub(super) fn buried(&mut self, burial: Burial) {
        self.say(|launcher| launcher.buried(burial));
    }

    pub(super) fn quarantined(&mut self, quarantine: Quarantine) {
        self.say(|launcher| launcher.quarantined(quarantine));
    }

    pub(super) fn released(&mut self, worker: &str) {
        self.say(|launcher| launcher.released(worker.to_owned()));
    }

    pub(super) fn restarting(&mut self, rollout: Rollout) {
        self.say(|launcher| launcher.restarting(rollout));
    }

    pub(super) fn answer(&mut self, request: u64, answer: Result<(), LaunchRefusal>) {
        self.say(|launcher| launcher.answer(request, answer));
    }

    /// What the gateway says next. Waits for ever where there is no line. Whoever stops waiting loses nothing.
    pub(super) async fn hear(&mut self) -> ToLauncher {
        loop {
            let Some(Line { launcher, readable }) = &mut self.0 else { return std::future::pending().await };
            if readable.readable().await.is_err() {
                return std::future::pending().await;
            }
            let heard = readable.try_io(Interest::READABLE, || match launcher.hear() {
                Ok(Some(message)) => Ok(message),
                Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                Err(parted) => Err(io::Error::other(parted)),
            });
            match heard {
                Ok(message) => return message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The gateway is gone, or going: its successor is greeted anew.
                Err(_parted) => self.0 = None,
            }
        }
    }

    fn say(&mut self, what: impl FnOnce(&mut Launcher) -> Result<(), LauncherError>) {
        // As above.
        if self.0.as_mut().is_some_and(|line| what(&mut line.launcher).is_err()) {
            self.0 = None;
        }
    }
}
