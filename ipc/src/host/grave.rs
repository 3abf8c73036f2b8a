//! What is left of a process that is dead, until it is put away.

use std::fmt;
use std::time::{Duration, Instant};

use super::links::Link;
use crate::ends::Severed;
use crate::lease::reap::Remains;
use crate::slot::{Member, PoolId};

/// One who is dead, of whom nothing comes any more, and who is not buried yet.
pub(super) struct Grave {
    pub(super) remains: Remains,
    pub(super) pid: i32,
    pub(super) name: String,
    /// Its own.
    pub(super) pool: PoolId,
    // In this order they are dropped: a link's ends before its service.
    pub(super) severed: Severed,
    pub(super) links: Vec<Link>,
    dug: Instant,
}

/// How long a burial is put off. It takes some milliseconds where many links and pools are, and so long nobody would hear
/// of the death, nor be given a worker in the dead one's place.
const PUT_OFF: Duration = Duration::from_millis(5);

// === impl Grave ===

impl Grave {
    pub(super) fn dig(
        remains: Remains,
        pid: i32,
        name: String,
        pool: PoolId,
        severed: Severed,
        links: Vec<Link>,
    ) -> Self {
        Self { remains, pid, name, pool, severed, links, dug: Instant::now() }
    }

    pub(super) const fn member(&self) -> Member {
        self.remains.member()
    }

    /// How long it is to be left.
    pub(super) fn left(&self) -> Duration {
        PUT_OFF.saturating_sub(self.dug.elapsed())
    }
}

impl fmt::Debug for Grave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grave of {} (pid {})", self.member(), self.pid)
    }
}
