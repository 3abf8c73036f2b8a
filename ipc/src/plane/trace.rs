//! What an outsider may know of every payload on its way: which memory it lies in.
//!
//! Processes that name the same inode, block and generation have the same bytes before them, whatever our counters
//! say. Off unless the log filter asks for it: `remotemedia_ipc::trace=trace`.

use std::fmt;

use tracing::Level;

use super::pools::Pools;
use crate::descriptor::{Descriptor, flag};
use crate::slot::Member;

/// The events' target, apart from the modules' own, so that a filter can ask for these alone.
const TARGET: &str = "remotemedia_ipc::trace";

/// Which end of a hop this is.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// The descriptor is in the receiver's link.
    Sent,
    /// The lease is accepted.
    Arrived,
}

/// Tells of one payload; of marks there is nothing to tell. Costs one load where nobody listens.
pub(super) fn payload(pools: &Pools, step: Step, peer: Member, descriptor: &Descriptor) {
    if !tracing::enabled!(target: TARGET, Level::TRACE) || !descriptor.payload.is_some() {
        return;
    }
    let Some(pool) = pools.find(descriptor.payload.pool()) else { return };
    tracing::trace!(
        target: TARGET,
        %step,
        %peer,
        session = descriptor.session,
        edge = descriptor.edge,
        sequence = descriptor.sequence,
        last = descriptor.flags & flag::LAST != 0,
        pool = descriptor.payload.pool,
        inode = pool.map().inode().inode,
        block = descriptor.payload.block,
        generation = descriptor.payload.generation,
        offset = descriptor.payload.offset,
        len = descriptor.payload.len,
        "payload"
    );
}

// === impl Step ===

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "sent",
            Self::Arrived => "arrived",
        })
    }
}
