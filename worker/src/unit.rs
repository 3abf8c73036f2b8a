//! The unit of systemd that a worker is, and what systemd is told of it.

use std::time::{Duration, Instant};

use remotemedia_core::launching::Invocation;
use sd_notify::NotifyState;

/// What systemd has said to the process that it started, in its environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unit {
    invocation: Invocation,
    /// How long it may keep silent; for ever, if there is no watchdog.
    silence: Option<Duration>,
}

/// The thread that talks with the gateway, as systemd hears it.
///
/// A beat says that this thread goes round: it hears the gateway, takes what nodes leave for it, and looks at its own end.
/// It says nothing of the nodes, which have threads of their own: a node that does not return is seen by the gateway, which
/// has the worker killed. Where there is no unit, nothing is told.
#[derive(Debug)]
pub(crate) struct Pulse {
    unit: Option<Unit>,
    next_beat: Instant,
    is_ready: bool,
    status: String,
}

/// Beats in the time that the watchdog allows: one may be late, as on a machine that is busy.
const BEATS: u32 = 4;

// === impl Unit ===

impl Unit {
    /// That of this process, if systemd has started it: not if it is a child of what systemd has started, whose
    /// environment it has.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "what systemd says to a process, it says there")]
    pub fn of_this_process() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        Self::of(variable, std::process::id(), sd_notify::watchdog_enabled())
    }

    fn of(
        variable: impl Fn(&'static str) -> Option<String>,
        pid: u32,
        silence: Option<Duration>,
    ) -> Option<Self> {
        let started = variable("SYSTEMD_EXEC_PID")?.parse::<u32>().ok()?;
        let invocation = variable("INVOCATION_ID")?.parse().ok()?;
        (started == pid).then_some(Self { invocation, silence })
    }

    /// Which life of the unit.
    #[must_use]
    pub const fn invocation(&self) -> Invocation {
        self.invocation
    }
}

// === impl Pulse ===

impl Pulse {
    pub(crate) const fn new(unit: Option<Unit>, now: Instant) -> Self {
        Self { unit, next_beat: now, is_ready: false, status: String::new() }
    }

    /// The thread has gone round once more.
    pub(crate) fn beat(&mut self, now: Instant) {
        if let Some(silence) = self.unit.and_then(|unit| unit.silence)
            && now >= self.next_beat
        {
            self.next_beat = now + silence / BEATS;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// The gateway gives it sessions.
    pub(crate) fn ready(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            self.tell(&[NotifyState::Ready]);
        }
        self.status("ready");
    }

    /// What it does, in words; told when it is something else than before.
    pub(crate) fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.tell(&[NotifyState::Status(status)]);
        }
    }

    /// It was asked to stop.
    pub(crate) fn stopping(&mut self) {
        if self.unit.is_some() && self.status != STOPPING {
            self.tell(&[NotifyState::Stopping]);
            self.status(STOPPING);
        }
    }

    fn tell(&self, words: &[NotifyState<'_>]) {
        if self.unit.is_some()
            && let Err(error) = sd_notify::notify(words)
        {
            // Systemd takes silence for death, and starts it again.
            tracing::debug!(%error, "systemd_not_told");
        }
    }
}

const STOPPING: &str = "finishes its sessions";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_a_unit_is_no_unit() {
        let unit = |pid: u32, started: Option<&str>, invocation: &str| {
            let variable = |name: &'static str| match name {
                "SYSTEMD_EXEC_PID" => started.map(str::to_owned),
                _ => Some(invocation.to_owned()),
            };
            Unit::of(variable, pid, None)
        };
        let life = "0f2a7ad7f6c4435ba7b1c9e58c1cd8f0";
        assert_eq!(unit(7, Some("7"), life).unwrap().invocation().to_string(), life);
        assert_eq!(unit(8, Some("7"), life), None);
        assert_eq!(unit(7, None, life), None);
        assert_eq!(unit(7, Some("7"), "anything else"), None);
    }

    #[test]
    fn beats_come_often_enough_and_not_at_every_turn() {
        let (invocation, began) = (Invocation(1), Instant::now());
        let unit = Unit { invocation, silence: Some(Duration::from_secs(4)) };
        let mut pulse = Pulse::new(Some(unit), began);
        let mut beats = 0;
        for ms in (0..4_000).step_by(10) {
            let before = pulse.next_beat;
            pulse.beat(began + Duration::from_millis(ms));
            beats += u32::from(pulse.next_beat != before);
        }
        assert_eq!(beats, BEATS);
    }
}
