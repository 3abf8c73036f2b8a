//! What a scenario plays on: one pool of a few blocks, a domain of four slots, and queues that stand for links.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use loom::cell::UnsafeCell;

use crate::descriptor::BlockRef;
use crate::lease::ack::{Intake, LinkSequence};
use crate::lease::cells::{BlockCells, DomainCells};
use crate::lease::counts::{Counts, References};
use crate::lease::flight::Flight;
use crate::lease::pool::{AcceptError, CountOverflow, PoolLeases};
use crate::lease::reap::{self, Tenancy};
use crate::lease::rules::Rules;
use crate::lease::sync::{AtomicU32, AtomicU64, Ordering};
use crate::slot::{BlockIndex, Generation, Member, PoolId, Slot};

pub(crate) const POOL: PoolId = PoolId(1);
const SLOTS: usize = 4;
const CREDIT: usize = 4;

/// Shared memory.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) domain: Arc<Domain>,
}

/// The living processes of a stage in slots 1, 2 and 3: producer, forwarder, consumer.
pub(crate) struct Cast {
    pub(crate) producer: Tenancy,
    pub(crate) forwarder: Tenancy,
    pub(crate) consumer: Tenancy,
}

/// A pool whose payloads are plain data: loom reports every race on them.
pub(crate) struct Blocks(Vec<Block>);

struct Block {
    word: AtomicU64,
    stamp: AtomicU64,
    payload: UnsafeCell<u64>,
}

// SAFETY: the payload is written and read only as leases allow, and loom fails the test where that does not suffice.
unsafe impl Sync for Block {}
// SAFETY: as above.
unsafe impl Send for Block {}

pub(crate) struct Domain {
    states: Vec<AtomicU32>,
    acks: Vec<AtomicU64>,
}

/// One process: its private books.
pub(crate) struct Process<R: Rules> {
    pub(crate) member: Member,
    pub(crate) stage: Stage,
    pub(crate) leases: PoolLeases<Arc<Blocks>, R>,
}

/// A link's queue: the push releases, the pop acquires. Pushes come from one thread, pops from one other.
#[derive(Default)]
pub(crate) struct Queue {
    pushed: AtomicU64,
    messages: [[AtomicU64; 3]; 2],
}

/// The popping end of a queue.
pub(crate) struct Inbox {
    queue: Arc<Queue>,
    popped: Cell<u64>,
}

// === impl Stage ===

impl Stage {
    pub(crate) fn new(blocks: usize) -> (Self, Cast) {
        let block =
            || Block { word: AtomicU64::new(0), stamp: AtomicU64::new(0), payload: UnsafeCell::new(0) };
        let domain = Arc::new(Domain {
            states: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            acks: (0..SLOTS * SLOTS).map(|_| AtomicU64::new(0)).collect(),
        });
        let mut tenancies =
            reap::vacancies().into_iter().skip(1).take(3).map(|vacancy| vacancy.admit(&domain));
        let mut next = || tenancies.next().expect("a domain has slots 1 to 3");
        let cast = Cast { producer: next(), forwarder: next(), consumer: next() };
        let blocks = Arc::new(Blocks((0..blocks).map(|_| block()).collect()));
        (Self { blocks, domain }, cast)
    }

    /// The content is the one that the reference means. A data race with a writer fails too.
    pub(crate) fn read(&self, reference: &BlockRef) {
        self.blocks.of(reference.block()).payload.with(|payload| {
            // SAFETY: the caller holds a lease on the block.
            let content = unsafe { *payload };
            assert_eq!(content, reference.generation, "torn: the block changed under its reader");
        });
    }
}

// === impl Process ===

impl<R: Rules> Process<R> {
    pub(crate) fn new(member: Member, stage: &Stage) -> Self {
        let leases = PoolLeases::under_rules(member.slot, Arc::clone(&stage.blocks));
        Self { member, stage: stage.clone(), leases }
    }

    pub(crate) fn link_to(&self, receiver: Member) -> Flight<R> {
        Flight::under_rules(self.member, receiver, CREDIT)
    }

    /// Writes new content into a free block; the payload is its generation.
    pub(crate) fn produce(&self) -> Option<BlockRef> {
        let taken = self.leases.allocate(0..self.stage.blocks.blocks())?;
        self.stage.blocks.of(taken.block).payload.with_mut(|payload| {
            // SAFETY: the block was free and is now ours alone.
            unsafe { *payload = taken.generation.0 };
        });
        let (block, generation) = (taken.block.0, taken.generation.0);
        Some(BlockRef { generation, offset: 0, len: 8, pool: POOL.0, block })
    }

    pub(crate) fn send(&self, flight: &mut Flight<R>, reference: &BlockRef, queue: &Queue) {
        let references = References { payload: *reference, ..References::NONE };
        let push = |sequence| queue.push(sequence, reference);
        flight
            .send(&self.stage.domain, self, &references, Instant::now(), push)
            .expect("the receiver lives and the link has room");
    }

    /// A send of the only handle: it travels on.
    pub(crate) fn pass_on(&self, flight: &mut Flight<R>, reference: &BlockRef, queue: &Queue) {
        self.send(flight, reference, queue);
        self.release(reference);
    }

    /// Pops a message, if there is one, and takes it under lease, if that succeeds.
    pub(crate) fn receive(&self, inbox: &Inbox, sender: Member) -> Option<Result<BlockRef, AcceptError>> {
        let (sequence, reference) = inbox.pop()?;
        let references = References { payload: reference, ..References::NONE };
        let intake = Intake::<R>::under_rules(self.member.slot, sender);
        let outcome = intake.receive(&self.stage.domain, self, sequence, &references);
        Some(outcome.map(|()| reference))
    }

    /// As [`Self::receive`], of a sender that lives: nothing may be lost.
    pub(crate) fn receive_of_the_living(&self, inbox: &Inbox, sender: Member) -> Option<BlockRef> {
        Some(self.receive(inbox, sender)?.expect("lost: a frame was refused while its sender lives"))
    }

    pub(crate) fn reclaim(&self, flight: &mut Flight<R>) -> usize {
        flight.reclaim(&self.stage.domain, self)
    }
}

impl<R: Rules> Counts for Process<R> {
    type Refusal = AcceptError;

    fn accept(&self, reference: &BlockRef) -> Result<(), AcceptError> {
        self.leases.accept(reference.block(), reference.generation())
    }

    fn retain(&self, reference: &BlockRef) -> Result<(), CountOverflow> {
        self.leases.retain(reference.block())
    }

    fn release(&self, reference: &BlockRef) {
        self.leases.release(reference.block());
        assert_eq!(self.leases.stolen_bits(), 0, "stolen: our bit was gone while we held the block");
    }
}

// === impl Blocks, Domain ===

impl Blocks {
    fn of(&self, block: BlockIndex) -> &Block {
        &self.0[usize::try_from(block.0).expect("a small number")]
    }
}

impl BlockCells for Blocks {
    fn blocks(&self) -> u32 {
        u32::try_from(self.0.len()).expect("a small number")
    }

    fn word(&self, block: BlockIndex) -> &AtomicU64 {
        &self.of(block).word
    }

    fn stamp(&self, block: BlockIndex) -> &AtomicU64 {
        &self.of(block).stamp
    }
}

impl DomainCells for Domain {
    fn state(&self, slot: Slot) -> &AtomicU32 {
        &self.states[slot.index()]
    }

    fn ack(&self, receiver: Slot, sender: Slot) -> &AtomicU64 {
        &self.acks[receiver.index() * SLOTS + sender.index()]
    }
}

// === impl Queue, Inbox ===

impl Queue {
    pub(crate) fn new() -> (Arc<Self>, Inbox) {
        let queue = Arc::new(Self::default());
        (Arc::clone(&queue), Inbox { queue, popped: Cell::new(0) })
    }

    fn message(&self, position: u64) -> &[AtomicU64; 3] {
        &self.messages[usize::try_from(position).expect("a small number")]
    }

    fn push(&self, sequence: LinkSequence, reference: &BlockRef) -> Result<(), AcceptError> {
        let position = self.pushed.load(Ordering::Relaxed);
        let fields = [sequence.number(), u64::from(reference.block), reference.generation];
        for (cell, field) in self.message(position).iter().zip(fields) {
            cell.store(field, Ordering::Relaxed);
        }
        self.pushed.store(position + 1, Ordering::Release);
        Ok(())
    }
}

impl Inbox {
    fn pop(&self) -> Option<(LinkSequence, BlockRef)> {
        let position = self.popped.get();
        if self.queue.pushed.load(Ordering::Acquire) == position {
            return None;
        }
        self.popped.set(position + 1);
        let [sequence, block, generation] =
            self.queue.message(position).each_ref().map(|cell| cell.load(Ordering::Relaxed));
        let sequence = LinkSequence::new(sequence).expect("a sequence that was sent");
        let (block, Generation(generation)) =
            (u32::try_from(block).expect("a small number"), Generation(generation));
        Some((sequence, BlockRef { generation, offset: 0, len: 8, pool: POOL.0, block }))
    }
}
