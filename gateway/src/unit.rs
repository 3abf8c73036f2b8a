//! What systemd is told of the gateway, where that is a unit of it.

use std::time::Duration;

use remotemedia_runtime::Runtime;
use sd_notify::NotifyState;
use tracing::debug;

/// The unit that this process is; nothing is told where it is none.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    is_one: bool,
    /// How long it may keep silent; for ever, if there is no watchdog.
    silence: Option<Duration>,
}

/// Beats in the time that the watchdog allows: one may be late, as on a machine that is busy.
const BEATS: u32 = 4;

// === impl Unit ===

impl Unit {
    /// That of this process, if systemd has started it: not if it is a child of what systemd has started, whose
    /// environment it has.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "what systemd says to a process, it says there")]
    pub fn of_this_process() -> Self {
        let started = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse::<u32>().ok());
        let is_one = started == Some(std::process::id());
        Self { is_one, silence: sd_notify::watchdog_enabled().filter(|_| is_one) }
    }

    /// It serves, as these words say.
    pub fn ready(self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It was asked to stop, and does what these words say.
    pub fn stopping(self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// Feeds the watchdog, for ever. Each beat has gone through the gateway: a task has run on one of the threads that serve
    /// clients, and the hub, which is all that workers and sessions have in common, has gone round once more. Where one of the
    /// two does not, there is no beat, and systemd kills the process.
    pub async fn beat(self, runtime: &Runtime) {
        let Some(silence) = self.silence else { return std::future::pending().await };
        let mut beats = tokio::time::interval(silence / BEATS);
        loop {
            beats.tick().await;
            if tokio::spawn(runtime.turned()).await.is_ok() {
                self.tell(&[NotifyState::Watchdog]);
            }
        }
    }

    fn tell(self, words: &[NotifyState<'_>]) {
        if self.is_one
            && let Err(error) = sd_notify::notify(words)
        {
            // Systemd takes silence for death, and starts it again.
            debug!(%error, "systemd_not_told");
        }
    }
}
