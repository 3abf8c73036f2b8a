//! The signals that ask a command to end.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Listens for SIGINT, SIGTERM and SIGHUP.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    /// From here on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// The system does not let us listen.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hang_up: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _count = self.interrupt.recv() => Signal::SIGINT,
            _count = self.terminate.recv() => Signal::SIGTERM,
            _count = self.hang_up.recv() => Signal::SIGHUP,
        }
    }
}
