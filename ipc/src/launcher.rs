//! A launcher's line to the gateway: it says which processes it has started, how they died, and which it does not start
//! for a while; and it hears which have become workers, and what people ask it to do.
//!
//! The gateway knows a death by itself, and at once. What only the parent knows is what the dead wrote last and whether
//! it was killed for want of memory, and for that the gateway waits a moment, if a launcher has said that the process is
//! its child. A launcher takes no slot and maps no memory.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use remotemedia_core::launching::{LaunchRefusal, Quarantine, Rollout};

use crate::control::messages::{Burial, FromLauncher, PROTOCOL, Report, ToGateway, ToLauncher};
use crate::control::{Channel, ChannelError, codec};
use crate::guest::SOCKET;

/// A connection to the gateway for whoever is the parent of workers.
#[derive(Debug)]
pub struct Launcher(Channel);

/// The gateway was not told.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The gateway is not there, or does not read.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// It cannot be encoded, or what came cannot be decoded.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

/// Tells the gateway in `runtime_dir` how a worker ended that was a unit of systemd, and waits, until the deadline, until
/// it has heard.
///
/// # Errors
/// There is no gateway, or it does not hear.
pub fn report(runtime_dir: &Path, report: Report, deadline: Instant) -> Result<(), LauncherError> {
    let mut channel = Channel::connect(&runtime_dir.join(SOCKET), deadline)?;
    channel.send(&codec::encode(&ToGateway::Report { protocol: PROTOCOL, report })?, &[])?;
    match channel.recv_blocking(deadline) {
        // It hangs up: that is all it has to say. A gateway of another version has said that it is.
        Err(ChannelError::Closed) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

// === impl Launcher ===

impl Launcher {
    /// Connects to the gateway in `runtime_dir`. Waits, until the deadline, only for room in its queue of connections.
    ///
    /// # Errors
    /// There is no gateway.
    pub fn connect(runtime_dir: &Path, deadline: Instant) -> Result<Self, LauncherError> {
        let mut channel = Channel::connect(&runtime_dir.join(SOCKET), deadline)?;
        channel.send(&codec::encode(&ToGateway::Launcher { protocol: PROTOCOL })?, &[])?;
        Ok(Self(channel))
    }

    /// Says that a process is a child of this one. Never waits.
    ///
    /// # Errors
    /// The gateway is gone, or does not read: it is to be connected to anew.
    pub fn started(&mut self, pid: i32) -> Result<(), LauncherError> {
        self.say(&FromLauncher::Started { pid })
    }

    /// Says how a child died. Never waits.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub fn buried(&mut self, burial: Burial) -> Result<(), LauncherError> {
        self.say(&FromLauncher::Buried(burial))
    }

    /// Says that a worker has served and will come, by itself or started again: to a gateway that began after that.
    /// Never waits.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub fn awaited(&mut self, worker: String) -> Result<(), LauncherError> {
        self.say(&FromLauncher::Awaited { worker })
    }

    /// Says that a worker is not started for a while. Never waits.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub fn quarantined(&mut self, quarantine: Quarantine) -> Result<(), LauncherError> {
        self.say(&FromLauncher::Quarantined(quarantine))
    }

    /// Says that such a worker is started. Never waits.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub fn released(&mut self, worker: String) -> Result<(), LauncherError> {
        self.say(&FromLauncher::Released { worker })
    }

    /// Says how far it is in replacing workers. Never waits.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub fn restarting(&mut self, rollout: Rollout) -> Result<(), LauncherError> {
        self.say(&FromLauncher::Restarting(rollout))
    }

    /// Answers an order. Never waits.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub fn answer(&mut self, request: u64, answer: Result<(), LaunchRefusal>) -> Result<(), LauncherError> {
        self.say(&FromLauncher::Answered { request, answer })
    }

    /// What the gateway says next; none if it has said nothing more yet. Never waits.
    ///
    /// # Errors
    /// As [`Self::started`], or it says what nobody understands.
    pub fn hear(&mut self) -> Result<Option<ToLauncher>, LauncherError> {
        match self.0.try_recv()? {
            Some(incoming) => Ok(Some(codec::decode(&incoming.bytes)?)),
            None => Ok(None),
        }
    }

    fn say(&mut self, message: &FromLauncher) -> Result<(), LauncherError> {
        Ok(self.0.send(&codec::encode(message)?, &[])?)
    }
}

impl AsFd for Launcher {
    /// Readable when [`Self::hear`] has something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
