//! One process's side of the data plane: the pools it sees, the links it has, and the frames that pass.
//!
//! ```text
//! node -> Loan -> Bytes -> prepare: recognised by its address, or copied into a block
//!                       -> send: descriptor into the receiver's link, bell rung if it sleeps
//! link -> Inbox::poll: lease accepted, acknowledged -> Arrival: Bytes over the same block, in another process
//! ```
//!
//! Any thread may loan, prepare and send. One thread, the process's I/O thread, owns the [`Inbox`], and calls
//! [`Plane::reclaim`] at every turn and at least every [`crate::doorbell::TICK`] while anything is in flight.

mod block;
mod credit;
mod description;
mod frames;
mod inbox;
mod peers;
mod pools;
mod share;
mod trace;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use block::Block;
pub use credit::{EdgeIn, EdgeOut, EdgeRef};
pub use frames::{FrameError, Prepared};
pub(crate) use inbox::Incoming;
pub use inbox::{Arrival, Content, Inbox};
pub(crate) use peers::End;
pub use peers::SendError;
pub use pools::{Pool, PoolUse, Refusal};
pub use share::{Outstanding, OverPart, Part, Together};

use crate::descriptor::Descriptor;
use crate::doorbell::Doorbell;
use crate::lease::{HolderMask, References};
use crate::link::LinkSender;
use crate::memory::{Domain, ProducerMap, ReaderMap};
use crate::slot::{Member, PoolId, Slot};

use peers::Peers;
use pools::Pools;
use trace::Step;

/// One process's side of the data plane. Cloning gives another handle.
#[derive(Clone)]
pub struct Plane(Arc<Shared>);

struct Shared {
    me: Member,
    domain: Domain,
    pools: Pools,
    peers: Peers,
    counters: Counters,
    freed: Mutex<u64>,
    freed_signal: Condvar,
}

/// What has been counted since the plane stands.
#[derive(Debug, Default)]
struct Counters {
    copied_bytes: AtomicU64,
    lost_of_dead: AtomicU64,
    lost_of_living: AtomicU64,
}

/// Where and when a frame goes, apart from its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The session.
    pub session: u64,
    /// The edge, by its index.
    pub edge: u32,
    /// The sequence of the input that the frame is or came of.
    pub sequence: u64,
    /// Nothing more comes of this sequence on this edge.
    pub last: bool,
}

/// No block is free now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoBlock {
    /// No block is so large.
    #[error("{bytes} bytes are more than the largest block has, {largest}")]
    TooLarge {
        /// As asked.
        bytes: usize,
        /// The largest block, in bytes.
        largest: u64,
    },
    /// All that fit are held.
    #[error("all blocks for {bytes} bytes are held, by slots {holders:?}")]
    AllHeld {
        /// As asked.
        bytes: usize,
        /// The processes that hold one.
        holders: HolderMask,
    },
}

/// How long a thread sleeps at most between two looks for a free block: receivers say only by their cells that they
/// let go.
const LOAN_POLL: Duration = Duration::from_millis(1);

/// Age of a message in flight at which a delivery must have been lost, and a fence is sent.
const FENCE_AGE: Duration = Duration::from_secs(1);

// === impl Plane ===

impl Plane {
    /// The data plane of `me`, which has no pools and no links yet.
    #[must_use]
    pub fn new(me: Member, domain: Domain, link_capacity: usize) -> Self {
        crate::fork::notice();
        Self(Arc::new(Shared {
            me,
            pools: Pools::new(me.slot),
            peers: Peers::new(me, link_capacity),
            domain,
            counters: Counters::default(),
            freed: Mutex::default(),
            freed_signal: Condvar::new(),
        }))
    }

    /// Who this process is.
    #[must_use]
    pub fn me(&self) -> Member {
        self.0.me
    }

    /// The domain's shared cells.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.0.domain
    }

    /// Makes this process's own pool known. Once.
    pub fn add_own_pool(&self, id: PoolId, map: ProducerMap) {
        self.0.pools.add_own(id, self.0.me, map);
    }

    /// Makes another process's pool known.
    pub fn add_pool(&self, id: PoolId, owner: Member, map: ReaderMap) {
        self.0.pools.add(id, owner, map);
    }

    /// Forgets a pool that the gateway destroyed: nobody holds any of it.
    pub fn forget_pool(&self, id: PoolId) {
        self.0.pools.forget(id);
    }

    /// The pools known now.
    #[must_use]
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.0.pools.all()
    }

    /// Makes known how a process is woken, before any link to it.
    pub fn announce(&self, member: Member, bell: Arc<Doorbell>) {
        self.0.peers.announce(member, bell);
    }

    /// Connects the sending end of a link.
    pub fn connect(&self, to: Member, sender: LinkSender, bell: Arc<Doorbell>) {
        self.0.peers.connect(to, sender, bell);
    }

    /// Forgets a process: the sending end of the link to it, which is given, and its bell.
    pub(crate) fn disconnect(&self, to: Member) -> Option<End> {
        self.0.peers.disconnect(to)
    }

    /// Rings a process's bell, if it sleeps and has been announced.
    pub fn ring(&self, slot: Slot) {
        self.0.peers.ring(&self.0.domain, slot);
    }

    /// Lends a block, if one is free.
    ///
    /// # Errors
    /// None is: the processes that hold some have been told to let go of what they can.
    pub fn loan(&self, bytes: usize) -> Result<Block, NoBlock> {
        let own = self.0.pools.own();
        let largest = own.map_or(0, |pool| pool.map().geometry().largest_block());
        let fits = u64::try_from(bytes).is_ok_and(|bytes| bytes <= largest);
        let Some(own) = own.filter(|_| fits) else { return Err(NoBlock::TooLarge { bytes, largest }) };
        if let Some(block) = Block::allocate(own, bytes) {
            return Ok(block);
        }
        self.reclaim();
        if let Some(block) = Block::allocate(own, bytes) {
            return Ok(block);
        }
        Err(self.all_held(own, bytes))
    }

    /// Nothing is free: the processes that hold some are told to let go of what they can.
    fn all_held(&self, own: &Pool, bytes: usize) -> NoBlock {
        let holders = own.holders_of(bytes);
        holders.iter().filter(|slot| *slot != self.0.me.slot).for_each(|slot| self.ring(slot));
        NoBlock::AllHeld { bytes, holders }
    }

    /// Lends a block, waiting for one until the deadline.
    ///
    /// # Errors
    /// None came free.
    pub fn loan_until(&self, bytes: usize, deadline: Instant) -> Result<Block, NoBlock> {
        loop {
            match self.loan(bytes) {
                Err(NoBlock::AllHeld { .. }) if Instant::now() < deadline => self.wait_for_freed(LOAN_POLL),
                outcome => return outcome,
            }
        }
    }

    /// Lets go of what receivers have taken over, and sends a fence where a delivery was lost.
    pub fn reclaim(&self) {
        if self.0.peers.reclaim(&self.0.domain, &self.0.pools, FENCE_AGE) > 0 {
            *self.0.freed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.0.freed_signal.notify_all();
        }
    }

    /// Messages in flight to all receivers.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.peers.in_flight()
    }

    /// Sends a prepared frame.
    ///
    /// # Errors
    /// It was not sent, and nothing changed.
    pub fn send(&self, to: Member, header: &Header, frame: &Prepared) -> Result<(), SendError> {
        let mut descriptor = frame.descriptor();
        self.push(to, header, &mut descriptor, &frame.references())
    }

    /// Says that nothing (more) came of a sequence.
    ///
    /// # Errors
    /// It was not sent.
    pub fn send_mark(&self, to: Member, header: &Header) -> Result<(), SendError> {
        self.push(to, header, &mut frames::mark(), &References::NONE)
    }

    /// Says that nothing more comes on this edge at all.
    ///
    /// # Errors
    /// It was not sent.
    pub fn send_flush(&self, to: Member, header: &Header) -> Result<(), SendError> {
        self.push(to, header, &mut frames::flush(), &References::NONE)
    }

    /// Payload bytes copied into blocks because they were not in pool memory.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.0.counters.copied_bytes.load(Ordering::Relaxed)
    }

    /// Frames that could not be accepted although their sender lived. Always 0, or the lease protocol is broken.
    #[must_use]
    pub fn lost_of_living(&self) -> u64 {
        self.0.counters.lost_of_living.load(Ordering::Relaxed)
    }

    /// Frames that could not be accepted because their sender had died.
    #[must_use]
    pub fn lost_of_dead(&self) -> u64 {
        self.0.counters.lost_of_dead.load(Ordering::Relaxed)
    }

    fn push(
        &self,
        to: Member,
        header: &Header,
        descriptor: &mut Descriptor,
        references: &References,
    ) -> Result<(), SendError> {
        frames::address(descriptor, header, self.0.me);
        self.0.peers.send(&self.0.domain, &self.0.pools, to, descriptor, references)?;
        trace::payload(&self.0.pools, Step::Sent, to, descriptor);
        Ok(())
    }

    fn wait_for_freed(&self, at_most: Duration) {
        let freed = self.0.freed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.freed_signal.wait_timeout(freed, at_most);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "data plane of {}", self.0.me)
    }
}
