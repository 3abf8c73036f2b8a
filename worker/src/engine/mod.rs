//! The process around the nodes.
//!
//! ```text
//! I/O thread (this one)                                 node threads
//! Desk: Guest::turn ── Arrival ──▶ SessionCell::post ── Roster ──▶ SessionCell::run
//!                      Open, Close ▶                                Stage: nodes and routes, pure
//!       Guest::reply ◀── Mailbox ◀──────────────────────────────── Outlets: credit, blocks, links
//! ```
//!
//! The I/O thread never runs a node and never waits for one. A node runs behind a wall that turns its panic into a
//! fault of its session. When the gateway goes, all sessions go with it, and the worker joins the next one: nodes'
//! shared state, such as loaded models in a static, survives.

mod contained;
mod course;
mod crew;
mod held;
mod joint;
mod logbook;
mod mailbox;
mod membership;
mod offer;
mod outlets;
mod routes;
mod session;
#[cfg(test)]
mod sketch;
mod stage;
mod station;
mod stop;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remotemedia_ipc::control::messages::{Hello, PROTOCOL};
use remotemedia_ipc::guest::{Guest, GuestError};

use crate::registry::Registry;
use crate::unit::{Pulse, Unit};
use crew::Crew;
use membership::{Desk, Membership};
use offer::{Offer, Told};

pub use offer::Loader;
pub use stop::Stop;

/// A worker at work. What drops it ends the node threads, behind the calls of nodes that they are in.
pub struct Engine {
    settings: Settings,
    offer: Arc<Offer>,
    stop: Arc<Stop>,
    crew: Crew,
}

/// What one worker is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where the gateway's control socket is.
    pub runtime_dir: PathBuf,
    /// The worker's name, for people.
    pub name: String,
    /// The kind of its pool, such as `rust`.
    pub kind: String,
    /// Threads that run nodes. A session is run by one thread at a time.
    pub threads: usize,
    /// How long sessions may go on after it was asked to stop. It is given no new ones then.
    pub drain: Duration,
    /// The unit of systemd that it is, if it is one: told how the worker is.
    pub unit: Option<Unit>,
}

/// What a node thread does around all its work, which it is given and calls once: for what is to be there as long as the
/// thread is.
pub type Around = dyn Fn(&mut (dyn FnMut() + Send)) + Send + Sync;

/// The gateway does not want this worker.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the gateway refused this worker: {reason}")]
pub struct Refused {
    /// In the gateway's words.
    reason: String,
    /// Whether gateway and worker are of versions that do not understand each other.
    of_version: bool,
}

/// How long a gateway that is there may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// The first and the longest pause between two attempts to join: a gateway that is back has its workers within a second,
/// and an attempt in vain costs microseconds.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

// === impl Engine ===

impl Engine {
    /// Takes over panics in nodes, and starts the node threads.
    ///
    /// # Errors
    /// The system has no threads left.
    pub fn start(settings: Settings, registry: Registry, stop: Arc<Stop>) -> io::Result<Self> {
        let around: Arc<Around> = Arc::new(|work| work());
        Self::offering(settings, Arc::new(Offer::ready(registry)), &around, stop)
    }

    /// Starts one whose nodes are loaded while it joins already, so that who needs them waits for them. `step` says
    /// what it does first, such as `importing models`. Every node thread works within `around`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn loading(
        settings: Settings,
        step: &str,
        around: &Arc<Around>,
        stop: Arc<Stop>,
    ) -> io::Result<(Self, Loader)> {
        let (offer, loader) = Offer::loading(step);
        Ok((Self::offering(settings, offer, around, stop)?, loader))
    }

    fn offering(
        settings: Settings,
        offer: Arc<Offer>,
        around: &Arc<Around>,
        stop: Arc<Stop>,
    ) -> io::Result<Self> {
        contained::install_panic_hook();
        let crew = Crew::start(settings.threads, around)?;
        Ok(Self { settings, offer, stop, crew })
    }

    /// Serves one gateway after the other until asked to stop.
    ///
    /// # Errors
    /// A gateway does not want this worker.
    pub fn run(&self) -> Result<(), Refused> {
        let mut absence = Absence::default();
        let mut pulse = Pulse::new(self.settings.unit, Instant::now());
        while !self.stop.is_asked() {
            match self.join() {
                Ok(mut desk) => {
                    absence = Absence::default();
                    absence.note(desk.serve(&self.stop, self.settings.drain, &mut pulse))?;
                }
                Err(error) => absence.note(Err(error))?,
            }
            pulse.beat(Instant::now());
            if absence.is_told() {
                pulse.status("waits for a gateway");
            }
            self.stop.wait(absence.next_pause());
        }
        pulse.stopping();
        Ok(())
    }

    fn join(&self) -> Result<Desk, GuestError> {
        let Settings { runtime_dir, name, kind, unit, .. } = &self.settings;
        let told = self.offer.told();
        let Told { nodes, loading } = told.clone();
        let invocation = unit.as_ref().map(Unit::invocation);
        let (name, kind) = (name.clone(), kind.clone());
        let hello = Hello { protocol: PROTOCOL, name: name.clone(), kind, nodes, loading, invocation };
        let guest = Guest::join(runtime_dir, hello, Instant::now() + CONNECT)?;
        tracing::info!(member = %guest.me(), "joined");
        let (offer, roster) = (Arc::clone(&self.offer), Arc::clone(self.crew.roster()));
        let membership = Membership::new(&guest, offer, name, roster);
        Ok(Desk::new(guest, told, membership))
    }
}

// === impl Refused ===

impl Refused {
    /// Whether gateway and worker are of versions that do not understand each other: trying again helps only when one
    /// of them has been replaced.
    #[must_use]
    pub const fn is_of_version(&self) -> bool {
        self.of_version
    }
}

/// The time between two memberships.
#[derive(Debug, Default)]
struct Absence {
    pause: Duration,
    last_error: String,
}

// === impl Absence ===

impl Absence {
    /// Logs why there is no gateway, each reason once; what will not get better by waiting is returned.
    fn note(&mut self, outcome: Result<(), GuestError>) -> Result<(), Refused> {
        match outcome {
            Ok(()) => Ok(()),
            Err(GuestError::Refused { reason }) => Err(Refused { reason, of_version: false }),
            Err(GuestError::Version { reason }) => Err(Refused { reason, of_version: true }),
            Err(error) => {
                let error = error.to_string();
                if error != self.last_error {
                    tracing::info!(error, "gateway_awaited");
                    self.last_error = error;
                }
                Ok(())
            }
        }
    }

    /// Whether there is a reason for it.
    const fn is_told(&self) -> bool {
        !self.last_error.is_empty()
    }

    fn next_pause(&mut self) -> Duration {
        let [first, longest] = PAUSES;
        self.pause = (self.pause * 2).clamp(first, longest);
        self.pause
    }
}

#[cfg(test)]
mod served;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut absence = Absence::default();
        let pauses: Vec<u128> = (0..7).map(|_| absence.next_pause().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 250, 250, 250, 250]);
    }

    #[test]
    fn a_refusal_is_final_and_an_absence_is_not() {
        let mut absence = Absence::default();
        absence.note(Err(GuestError::GatewayGone)).unwrap();
        let refused = absence.note(Err(GuestError::Refused { reason: "no slot".to_owned() })).unwrap_err();
        assert_eq!(refused.to_string(), "the gateway refused this worker: no slot");
    }
}
