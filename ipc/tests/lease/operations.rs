//! Single operations and what they promise.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use remotemedia_ipc::descriptor::BlockRef;
use remotemedia_ipc::lease::ack::{Ack, NoSuchSequence};
use remotemedia_ipc::lease::pool::{BitWithoutCount, CountOverflow};
use remotemedia_ipc::lease::reap::{self, Tenancy, Vacancy};
use remotemedia_ipc::lease::rules::{Rules, Sound};
use remotemedia_ipc::lease::state;
use remotemedia_ipc::lease::{
    AcceptError, BlockCells, Counts, DomainCells, Flight, Intake, LinkSequence, PoolLeases, References,
    Refused, Rejected,
};
use remotemedia_ipc::slot::{BlockIndex, Generation, Incarnation, Member, PoolId, Slot};

use crate::memory::{Blocks, Domain};

/// Books that write down what they are asked, and know no block from 90 on.
#[derive(Default)]
struct Ledger(RefCell<Vec<(char, u32)>>);

impl Ledger {
    fn take(&self) -> Vec<(char, u32)> {
        self.0.take()
    }
}

impl Counts for Ledger {
    type Refusal = BlockIndex;

    fn accept(&self, reference: &BlockRef) -> Result<(), BlockIndex> {
        self.0.borrow_mut().push(('a', reference.block));
        if reference.block < 90 { Ok(()) } else { Err(reference.block()) }
    }

    fn retain(&self, reference: &BlockRef) -> Result<(), CountOverflow> {
        self.0.borrow_mut().push(('+', reference.block));
        if reference.block < 90 { Ok(()) } else { Err(CountOverflow { block: reference.block() }) }
    }

    fn release(&self, reference: &BlockRef) {
        self.0.borrow_mut().push(('-', reference.block));
    }
}

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("a slot of this test")
}

fn member(number: u8, incarnation: u16) -> Member {
    Member { slot: slot(number), incarnation: Incarnation::new(incarnation) }
}

fn sequence(number: u64) -> LinkSequence {
    LinkSequence::new(number).expect("a sequence of this test")
}

fn reference(block: u32) -> BlockRef {
    BlockRef { generation: 1, offset: 0, len: 8, pool: 1, block }
}

fn one(block: u32) -> References {
    References { payload: reference(block), ..References::NONE }
}

fn two(payload: u32, metadata: u32) -> References {
    References { payload: reference(payload), metadata: reference(metadata) }
}

/// A domain in which slots 0, 1 and 2 live.
fn domain() -> (Arc<Domain>, Vec<Tenancy>) {
    let domain = Domain::new();
    let tenancies = reap::vacancies().into_iter().take(3).map(|vacancy| vacancy.admit(&domain)).collect();
    (domain, tenancies)
}

fn send<R: Rules>(
    flight: &mut Flight<R>,
    domain: &Arc<Domain>,
    ledger: &Ledger,
    references: References,
) -> Result<u64, Refused<()>> {
    let sent = flight.send(domain, ledger, &references, Instant::now(), |_| Ok(()));
    sent.map(LinkSequence::number)
}

// The pool.

#[test]
fn allocation_goes_round_its_candidates_and_counts_generations() {
    let leases = PoolLeases::new(slot(1), Blocks::new(5));
    let mut taken = Vec::new();
    for candidates in [2..5, 2..5, 0..2, 2..5, 2..5, 0..0] {
        taken.push(leases.allocate(candidates).map(|taken| taken.block.0));
    }
    assert_eq!(taken, [Some(2), Some(3), Some(0), Some(4), None, None]);
    leases.release(BlockIndex(3));
    leases.release(BlockIndex(2));
    let again = [(); 3].map(|()| leases.allocate(2..5).map(|taken| (taken.block.0, taken.generation.0)));
    assert_eq!(again, [Some((2, 2)), Some((3, 2)), None]);
    assert_eq!(leases.held(), 4);
}

#[test]
fn block_is_accepted_as_sent_or_rejected_with_the_reason() {
    let blocks = Blocks::new(3);
    let producer = PoolLeases::new(slot(1), Arc::clone(&blocks));
    let consumer = PoolLeases::new(slot(2), Arc::clone(&blocks));
    assert!([(); 2].map(|()| producer.allocate(0..2)).iter().all(Option::is_some));
    producer.release(BlockIndex(1));
    let (block, generation) = (BlockIndex(0), Generation(1));
    let lap = Generation(1 + (1 << 24));
    #[rustfmt::skip]
    let rows = [
        (0, 1,     Ok(())),
        (0, 1,     Ok(())),
        (0, 2,     Err(Rejected::OtherGeneration { block, generation: Generation(2) })),
        (0, lap.0, Err(Rejected::OtherGeneration { block, generation: lap })),
        (1, 1,     Err(Rejected::Free { block: BlockIndex(1) })),
        (1, 2,     Err(Rejected::OtherGeneration { block: BlockIndex(1), generation: Generation(2) })),
        (3, 1,     Err(Rejected::NoSuchBlock { block: BlockIndex(3), blocks: 3 })),
    ];
    for (block, generation, outcome) in rows {
        let accepted = consumer.accept(BlockIndex(block), Generation(generation));
        assert_eq!(accepted, outcome.map_err(AcceptError::Rejected), "block {block} generation {generation}");
    }
    (0..2).for_each(|_| consumer.release(block));
    let stale = Rejected::StaleStamp { block, generation: lap, stamp: generation };
    assert_eq!(consumer.accept(block, lap), Err(stale.into()));
    assert!(!consumer.holders(block).contains(slot(2)), "a rejected block is not held");
    assert_eq!((consumer.held(), consumer.stolen_bits()), (0, 0));
}

#[test]
fn own_bit_on_a_block_not_held_is_reported_as_damage() {
    let blocks = Blocks::new(1);
    let producer = PoolLeases::new(slot(1), Arc::clone(&blocks));
    let consumer = PoolLeases::new(slot(2), Arc::clone(&blocks));
    producer.allocate(0..1).expect("the block is free");
    blocks.word(BlockIndex(0)).fetch_or(slot(2).bit(), Ordering::Relaxed);
    let damage = BitWithoutCount { block: BlockIndex(0), slot: slot(2) };
    assert_eq!(consumer.accept(BlockIndex(0), Generation(1)), Err(damage.into()));
}

#[test]
fn bit_taken_by_somebody_else_is_counted() {
    let blocks = Blocks::new(1);
    let producer = PoolLeases::new(slot(1), Arc::clone(&blocks));
    producer.allocate(0..1).expect("the block is free");
    reap::clear_bits(&blocks, slot(1));
    producer.release(BlockIndex(0));
    assert_eq!((producer.stolen_bits(), producer.held(), producer.is_idle()), (1, 0, true));
}

// The sender's side.

#[test]
fn flight_ends_from_the_front_up_to_the_acknowledgement() {
    let me = member(1, 7);
    #[rustfmt::skip]
    let rows = [
        // acknowledged as (incarnation, sequence), blocks released
        (0, 0, vec![]),
        (7, 1, vec![10]),
        (7, 2, vec![10, 11, 12]),
        (7, 9, vec![10, 11, 12, 13]),
        (6, 3, vec![]),
        (8, 3, vec![]),
    ];
    for (incarnation, number, released) in rows {
        let ((domain, _lives), ledger) = (domain(), Ledger::default());
        let mut flight = Flight::new(me, member(2, 1), 8);
        for references in [one(10), two(11, 12), one(13)] {
            send(&mut flight, &domain, &ledger, references).expect("there is room");
        }
        assert_eq!(ledger.take(), [('+', 10), ('+', 11), ('+', 12), ('+', 13)]);
        domain.ack(slot(2), me.slot).store(incarnation << 48 | number, Ordering::Relaxed);
        let ended = flight.reclaim(&domain, &ledger);
        assert_eq!(ledger.take(), released.into_iter().map(|block| ('-', block)).collect::<Vec<_>>());
        assert_eq!(ended + flight.outstanding(), 3, "acknowledged {incarnation}, {number}");
    }
}

#[test]
fn flight_to_the_dead_ends_and_its_order_goes_on_with_the_successor() {
    let ((domain, mut lives), ledger) = (domain(), Ledger::default());
    let mut flight = Flight::new(member(1, 1), member(2, 1), 8);
    assert_eq!(send(&mut flight, &domain, &ledger, one(10)), Ok(1));
    let remains = lives.remove(2).bury(&domain, []);
    assert_eq!(
        send(&mut flight, &domain, &ledger, one(11)),
        Err(Refused::ReceiverGone { receiver: member(2, 1) })
    );
    let vacancy = remains.vacate(&domain).expect("there is no pool").expect("the slot is young");
    let _successor = vacancy.admit(&domain);
    flight.rebind(Incarnation::new(2));
    assert_eq!(send(&mut flight, &domain, &ledger, one(12)), Ok(2));
    assert_eq!((flight.reclaim(&domain, &ledger), flight.outstanding()), (1, 1));
    assert_eq!(ledger.take(), [('+', 10), ('+', 12), ('-', 10)]);
}

#[test]
fn refused_message_leaves_nothing_behind() {
    let ((domain, _lives), ledger) = (domain(), Ledger::default());
    let mut flight = Flight::new(member(1, 1), member(2, 1), 1);
    let refusal = flight.send(&domain, &ledger, &two(10, 11), Instant::now(), |_| Err("full"));
    assert_eq!(refusal, Err(Refused::Push("full")));
    assert_eq!(ledger.take(), [('+', 10), ('+', 11), ('-', 10), ('-', 11)]);
    let overflow = CountOverflow { block: BlockIndex(90) };
    assert_eq!(send(&mut flight, &domain, &ledger, two(10, 90)), Err(Refused::Overflow(overflow)));
    assert_eq!(ledger.take(), [('+', 10), ('+', 90), ('-', 10)]);
    assert_eq!(send(&mut flight, &domain, &ledger, one(10)), Ok(2), "a gap in the order is no harm");
    assert_eq!(send(&mut flight, &domain, &ledger, one(11)), Err(Refused::FlightFull { limit: 1 }));
    assert_eq!(ledger.take(), [('+', 10)]);
}

#[test]
fn fence_covers_what_was_lost_before_it() {
    let ((domain, _lives), ledger) = (domain(), Ledger::default());
    let (me, receiver) = (member(1, 1), member(2, 1));
    let mut flight = Flight::new(me, receiver, 1);
    let sent = Instant::now();
    flight.send(&domain, &ledger, &one(10), sent, |_| Ok::<_, ()>(())).expect("there is room");
    let later = sent + Duration::from_secs(1);
    assert_eq!(flight.oldest_age(later), Some(Duration::from_secs(1)));
    assert_eq!(send(&mut flight, &domain, &ledger, References::NONE), Ok(2), "a fence needs no room");
    let intake = Intake::new(receiver.slot, me);
    assert_eq!(intake.receive(&domain, &ledger, sequence(2), &References::NONE), Ok(()));
    assert_eq!((flight.reclaim(&domain, &ledger), flight.oldest_age(later)), (1, None));
    assert_eq!(ledger.take(), [('+', 10), ('-', 10)]);
}

// The receiver's side.

#[test]
fn acknowledgement_only_grows() {
    #[rustfmt::skip]
    let rows = [
        // the cell, the sender's incarnation and sequence, the cell afterwards
        ((0, 0), (1, 1), (1, 1)),
        ((1, 1), (1, 2), (1, 2)),
        ((1, 5), (1, 2), (1, 5)),
        ((2, 1), (1, 9), (2, 1)),
        ((1, 9), (2, 1), (2, 1)),
    ];
    let cell_of = |(incarnation, number): (u16, u64)| u64::from(incarnation) << 48 | number;
    for (before, (incarnation, number), after) in rows {
        let (domain, _lives) = domain();
        let cell = domain.ack(slot(2), slot(1));
        cell.store(cell_of(before), Ordering::Relaxed);
        Intake::new(slot(2), member(1, incarnation)).acknowledge(&domain, sequence(number));
        let found = cell.load(Ordering::Relaxed);
        assert_eq!(found, cell_of(after), "{before:?} then {incarnation}, {number}");
        assert!(Ack::from_bits(found).covers::<Sound>(Incarnation::new(after.0), sequence(after.1)));
    }
}

#[test]
fn message_is_held_whole_or_not_at_all_and_acknowledged_either_way() {
    #[rustfmt::skip]
    let rows = [
        (one(1),           Ok(()),              vec![('a', 1)]),
        (two(1, 2),        Ok(()),              vec![('a', 1), ('a', 2)]),
        (two(1, 1),        Ok(()),              vec![('a', 1), ('a', 1)]),
        (two(1, 90),       Err(BlockIndex(90)), vec![('a', 1), ('a', 90), ('-', 1)]),
        (two(91, 2),       Err(BlockIndex(91)), vec![('a', 91)]),
        (References::NONE, Ok(()),              vec![]),
    ];
    for (references, outcome, asked) in rows {
        let ((domain, _lives), ledger) = (domain(), Ledger::default());
        let received = Intake::new(slot(2), member(1, 1)).receive(&domain, &ledger, sequence(3), &references);
        assert_eq!((received, ledger.take()), (outcome, asked));
        assert_eq!(domain.ack(slot(2), slot(1)).load(Ordering::Relaxed), 1 << 48 | 3);
    }
}

#[test]
fn sequence_from_outside_its_range_does_not_exist() {
    for number in [0, 1 << 48, u64::MAX] {
        assert_eq!(LinkSequence::new(number), Err(NoSuchSequence(number)));
    }
    assert_eq!(LinkSequence::new((1 << 48) - 1), Ok(LinkSequence::LAST));
}

// The gateway's side.

#[test]
fn slot_is_not_vacant_before_every_pool_is_reaped() {
    let (domain, mut lives) = domain();
    let (first, second) = (Blocks::new(2), Blocks::new(1));
    let dead = lives.remove(1);
    let who = dead.member();
    for blocks in [&first, &second] {
        PoolLeases::new(who.slot, Arc::clone(blocks)).allocate(0..1).expect("the block is free");
    }
    let mut remains = dead.bury(&domain, [PoolId(1), PoolId(2), PoolId(3)]);
    assert!(!state::is_live(&domain, who));
    assert_eq!([remains.reap(PoolId(1), &first), remains.reap(PoolId(1), &first)], [1, 0]);
    remains.pool_destroyed(PoolId(3));
    let mut remains = remains.vacate(&domain).expect_err("a pool is not reaped");
    assert_eq!(remains.unreaped().collect::<Vec<_>>(), [PoolId(2)]);
    assert_eq!(remains.reap(PoolId(2), &second), 1);
    assert!(reap::is_idle(&first) && reap::is_idle(&second));
    let vacancy = remains.vacate(&domain).expect("every pool is reaped");
    assert_eq!(vacancy.as_ref().map(Vacancy::member), Some(member(1, 2)));
}

#[test]
fn slot_at_the_end_of_its_lives_stays_empty() {
    let domain = Domain::new();
    let mut vacancy = reap::vacancies().pop();
    let mut lives = 0;
    while let Some(next) = vacancy {
        lives += 1;
        vacancy = next.admit(&domain).bury(&domain, []).vacate(&domain).expect("there is no pool");
    }
    assert_eq!(lives, u16::MAX);
}
