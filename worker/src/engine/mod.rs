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

/// The gateway does not want this worker, or the system does not let it join.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// By the gateway.
    #[error("the gateway refused this worker: {reason}")]
    ByGateway {
        /// In the gateway's words.
        reason: String,
    },
    /// By the gateway, for gateway and worker are of versions that do not understand each other: trying again helps only
    /// when one of them has been replaced.
    #[error("the gateway refused this worker: {reason}")]
    OfVersion {
        /// In the gateway's words.
        reason: String,
    },
    /// By the system: a node has opened more than it closes, and only another process has room for a connection.
    #[error(
        "no file descriptor was left to join a gateway with, for {} s: {reason}; a node leaves too much open, \
         or RLIMIT_NOFILE is too low",
        STARVED.as_secs()
    )]
    OfDescriptors {
        /// In the system's words.
        reason: String,
    },
}

/// How long a gateway that is there may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a process without a gateway and without a file descriptor is left to itself: calls that are under way may
/// close some.
const STARVED: Duration = Duration::from_secs(2);

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
    /// A gateway does not want this worker, or it cannot join one.
    pub fn run(&self) -> Result<(), Refused> {
        let mut absence = Absence::default();
        let mut pulse = Pulse::new(self.settings.unit, Instant::now());
        while !self.stop.is_asked() {
            match self.join() {
                Ok(mut desk) => {
                    absence = Absence::default();
                    let served = desk.serve(&self.stop, self.settings.drain, &mut pulse);
                    absence.note(served, Instant::now())?;
                }
                Err(error) => absence.note(Err(error), Instant::now())?,
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

/// The time between two memberships.
#[derive(Debug, Default)]
struct Absence {
    pause: Duration,
    last_error: String,
    /// Since when every attempt has failed for want of a file descriptor.
    starved: Option<Instant>,
}

// === impl Absence ===

impl Absence {
    /// Logs why there is no gateway, each reason once; what will not get better by waiting is returned.
    fn note(&mut self, outcome: Result<(), GuestError>, now: Instant) -> Result<(), Refused> {
        match outcome {
            Ok(()) => Ok(()),
            Err(GuestError::Refused { reason }) => Err(Refused::ByGateway { reason }),
            Err(GuestError::Version { reason }) => Err(Refused::OfVersion { reason }),
            Err(error) => {
                let (is_starved, error) = (error.is_for_want_of_descriptors(), error.to_string());
                let since = self.starved.take_if(|_| is_starved).unwrap_or(now);
                if is_starved && now.saturating_duration_since(since) >= STARVED {
                    return Err(Refused::OfDescriptors { reason: error });
                }
                self.starved = is_starved.then_some(since);
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
    use nix::errno::Errno;
    use remotemedia_ipc::control::ChannelError;

    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut absence = Absence::default();
        let pauses: Vec<u128> = (0..7).map(|_| absence.next_pause().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 250, 250, 250, 250]);
    }

    #[test]
    fn a_refusal_is_final_and_an_absence_is_not() {
        let (mut absence, now) = (Absence::default(), Instant::now());
        absence.note(Err(GuestError::GatewayGone), now).unwrap();
        let refused =
            absence.note(Err(GuestError::Refused { reason: "no slot".to_owned() }), now).unwrap_err();
        assert_eq!(refused.to_string(), "the gateway refused this worker: no slot");
    }

    #[test]
    fn a_want_of_descriptors_is_final_when_it_lasts() {
        let (mut absence, now) = (Absence::default(), Instant::now());
        let want = || {
            let source = Errno::EMFILE.into();
            Err(GuestError::Channel(ChannelError::Io { step: "create a socket", source }))
        };
        let after = |ms| now + Duration::from_millis(ms);
        absence.note(want(), now).unwrap();
        absence.note(want(), after(1_999)).unwrap();
        // One was to be had.
        absence.note(Err(GuestError::GatewayGone), after(2_000)).unwrap();
        absence.note(want(), after(2_001)).unwrap();
        absence.note(want(), after(4_000)).unwrap();
        let refused = absence.note(want(), after(4_001)).unwrap_err().to_string();
        assert!(refused.contains("for 2 s: cannot create a socket"), "{refused}");
    }
}
