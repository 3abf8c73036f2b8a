//! The production code of the leases under loom: all interleavings, within a bound of preemptions, and all that the
//! memory model allows. Each scenario holds under the whole protocol, and notices when the rule is broken that it is
//! there for.
//!
//! The files are compiled here a second time, since production stands on std's atomics and these tests on loom's; no
//! `cfg` in production, and none of its other dependencies sees loom.

#![expect(unsafe_code, reason = "payloads are plain data, so that loom sees every race on them")]

use std::sync::Arc;

use loom::thread;

use crate::lease::counts::Counts;
use crate::lease::flight::Flight;
use crate::lease::reap::{self, Tenancy};
use crate::lease::rules::{Rules, Sound};
use crate::lease::state;
use crate::lease::sync::Ordering;
use crate::slot::Member;
use crate::stage::{Cast, Inbox, POOL, Process, Queue, Stage};

#[path = "../../src/descriptor.rs"]
pub mod descriptor;
pub mod lease;
#[path = "../../src/slot.rs"]
pub mod slot;
mod stage;

/// Declares protocols with one rule broken each.
macro_rules! broken {
    ($($name:ident { $($rule:ident: $kind:ty = $value:expr),+ })+) => { $(
        struct $name;
        impl Rules for $name { $(const $rule: $kind = $value;)+ }
    )+ };
}

broken! {
    AcceptWithoutGeneration { ACCEPT_CHECKS_GENERATION: bool = false }
    AcceptOfFree { ACCEPT_REFUSES_FREE: bool = false }
    CountAndBitApart { COUNT_AND_BIT_TOGETHER: bool = false }
    SlotReusedEarly { SLOT_WAITS_FOR_REAP: bool = false }
    AckBeforeBit { BIT_BEFORE_ACK: bool = false }
    AckWithoutIncarnation { ACK_NAMES_INCARNATION: bool = false }
    Wrapping { GENERATION_BITS: u32 = 1 }
    WrappingWithoutStamp { GENERATION_BITS: u32 = 1, ACCEPT_CHECKS_STAMP: bool = false }
    WrappingAcceptRelaxed { GENERATION_BITS: u32 = 1, ACCEPT_ORDER: Ordering = Ordering::Relaxed }
    AllocateRelaxed { ALLOCATE_ORDER: Ordering = Ordering::Relaxed }
    ClearRelaxed { CLEAR_ORDER: Ordering = Ordering::Relaxed }
}

/// How many times an execution may be preempted: all interleavings where that takes seconds, else what does.
#[derive(Clone, Copy)]
enum Preemptions {
    Any,
    AtMost(usize),
}

fn explore(preemptions: Preemptions, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = match preemptions {
        Preemptions::Any => None,
        Preemptions::AtMost(bound) => Some(bound),
    };
    model.check(scenario);
}

/// Producer sends to consumer, hears of it, and writes the block again.
fn hop<R: Rules>() {
    explore(Preemptions::Any, || {
        let (stage, cast) = Stage::new(1);
        let (queue, inbox) = Queue::new();
        let producer = Process::<R>::new(cast.producer.member(), &stage);
        let consumer = Process::<R>::new(cast.consumer.member(), &stage);
        let (sender, receiver) = (producer.member, consumer.member);
        let consuming = thread::spawn(move || {
            if let Some(frame) = consumer.receive_of_the_living(&inbox, sender) {
                consumer.stage.read(&frame);
                consumer.release(&frame);
            }
        });
        let mut flight = producer.link_to(receiver);
        let frame = producer.produce().expect("the block is free");
        producer.pass_on(&mut flight, &frame, &queue);
        producer.reclaim(&mut flight);
        producer.produce();
        consuming.join().expect("the consumer ends");
    });
}

/// Producer to forwarder to consumer: the forwarder's bit bridges the second hop.
fn chain<R: Rules>() {
    explore(Preemptions::AtMost(4), || {
        let (stage, cast) = Stage::new(1);
        let (first_queue, first_inbox) = Queue::new();
        let (second_queue, second_inbox) = Queue::new();
        let producer = Process::<R>::new(cast.producer.member(), &stage);
        let forwarder = Process::<R>::new(cast.forwarder.member(), &stage);
        let consumer = Process::<R>::new(cast.consumer.member(), &stage);
        let (from, via, to) = (producer.member, forwarder.member, consumer.member);
        let forwarding = thread::spawn(move || {
            if let Some(frame) = forwarder.receive_of_the_living(&first_inbox, from) {
                let mut flight = forwarder.link_to(to);
                forwarder.pass_on(&mut flight, &frame, &second_queue);
                forwarder.reclaim(&mut flight);
            }
        });
        let consuming = thread::spawn(move || {
            if let Some(frame) = consumer.receive_of_the_living(&second_inbox, via) {
                consumer.stage.read(&frame);
                consumer.release(&frame);
            }
        });
        let mut flight = producer.link_to(via);
        let frame = producer.produce().expect("the block is free");
        producer.pass_on(&mut flight, &frame, &first_queue);
        producer.reclaim(&mut flight);
        producer.produce();
        forwarding.join().expect("the forwarder ends");
        consuming.join().expect("the consumer ends");
    });
}

/// One payload to two receivers: the producer's bit stays until both have theirs.
fn fan_out<R: Rules>() {
    explore(Preemptions::AtMost(3), || {
        let (stage, cast) = Stage::new(1);
        let producer = Process::<R>::new(cast.producer.member(), &stage);
        let sender = producer.member;
        let arms = [cast.forwarder.member(), cast.consumer.member()].map(|receiver| {
            let (queue, inbox) = Queue::new();
            let process = Process::<R>::new(receiver, &stage);
            let reading = thread::spawn(move || {
                if let Some(frame) = process.receive_of_the_living(&inbox, sender) {
                    process.stage.read(&frame);
                    process.release(&frame);
                }
            });
            (receiver, queue, reading)
        });
        let mut flights = arms.each_ref().map(|&(receiver, ..)| producer.link_to(receiver));
        let frame = producer.produce().expect("the block is free");
        for (flight, (_, queue, _)) in flights.iter_mut().zip(&arms) {
            producer.send(flight, &frame, queue);
        }
        producer.release(&frame);
        for flight in &mut flights {
            producer.reclaim(flight);
        }
        producer.produce();
        for (_, _, reading) in arms {
            reading.join().expect("the receiver ends");
        }
    });
}

/// The forwarder was killed after it had sent on to the consumer; the producer had let go. The consumer gets the
/// message while the forwarder is reaped.
struct Orphan<R: Rules> {
    stage: Stage,
    producer: Process<R>,
    consumer: Process<R>,
    inbox: Inbox,
    dead: Tenancy,
    producer_lives: Tenancy,
    to_forwarder: Flight<R>,
}

impl<R: Rules> Orphan<R> {
    fn new() -> Self {
        let (stage, cast) = Stage::new(1);
        let Cast { producer: producer_lives, forwarder: dead, consumer: consumer_lives } = cast;
        let producer = Process::<R>::new(producer_lives.member(), &stage);
        let forwarder = Process::<R>::new(dead.member(), &stage);
        let consumer = Process::<R>::new(consumer_lives.member(), &stage);
        let (first_queue, first_inbox) = Queue::new();
        let (second_queue, inbox) = Queue::new();
        let mut to_forwarder = producer.link_to(forwarder.member);
        let frame = producer.produce().expect("the block is free");
        producer.pass_on(&mut to_forwarder, &frame, &first_queue);
        let frame = forwarder.receive_of_the_living(&first_inbox, producer.member).expect("it was pushed");
        assert_eq!(producer.reclaim(&mut to_forwarder), 1);
        forwarder.pass_on(&mut forwarder.link_to(consumer.member), &frame, &second_queue);
        Self { stage, producer, consumer, inbox, dead, producer_lives, to_forwarder }
    }
}

/// The block of an orphaned message is written again.
fn orphan<R: Rules>() {
    explore(Preemptions::AtMost(4), || {
        let Orphan { stage, producer, consumer, inbox, dead, .. } = Orphan::<R>::new();
        let sender = dead.member();
        let reaping = {
            let stage = stage.clone();
            thread::spawn(move || {
                let mut remains = dead.bury(&stage.domain, [POOL]);
                remains.reap(POOL, &stage.blocks);
                remains.vacate(&stage.domain).expect("every pool was reaped")
            })
        };
        let consuming = thread::spawn(move || {
            if let Some(Ok(frame)) = consumer.receive(&inbox, sender) {
                consumer.stage.read(&frame);
                consumer.release(&frame);
            }
        });
        if let Some(frame) = producer.produce() {
            stage.read(&frame);
            producer.release(&frame);
        }
        let successor = reaping.join().expect("the reaper ends");
        consuming.join().expect("the consumer ends");
        assert!(successor.is_some(), "the slot can be used again");
        assert!(reap::is_idle(&stage.blocks), "leaked: a block has a holder when everybody is done");
    });
}

/// The producer is dead too: its pool is destroyed when it is idle, and an orphaned message does not revive it.
fn destruction<R: Rules>() {
    explore(Preemptions::Any, || {
        let Orphan { stage, consumer, inbox, dead, producer_lives, .. } = Orphan::<R>::new();
        let sender = dead.member();
        let burying = {
            let stage = stage.clone();
            thread::spawn(move || {
                for dead in [dead, producer_lives] {
                    dead.bury(&stage.domain, [POOL]).reap(POOL, &stage.blocks);
                }
                reap::is_idle(&stage.blocks)
            })
        };
        let held = consumer.receive(&inbox, sender).is_some_and(|outcome| outcome.is_ok());
        let destroyed = burying.join().expect("the reaper ends");
        assert!(!(held && destroyed), "revived: a block of a destroyed pool is held");
    });
}

/// A message is still queued when the generation in the word comes round to its own.
fn wrap<R: Rules>() {
    explore(Preemptions::AtMost(4), || {
        let Orphan { stage, producer, consumer, inbox, dead, .. } = Orphan::<R>::new();
        let sender = dead.member();
        dead.bury(&stage.domain, [POOL]).reap(POOL, &stage.blocks);
        let consuming = thread::spawn(move || {
            if let Some(Ok(frame)) = consumer.receive(&inbox, sender) {
                consumer.stage.read(&frame);
                consumer.release(&frame);
            }
        });
        for _ in 0..2 {
            if let Some(frame) = producer.produce() {
                producer.release(&frame);
            }
        }
        consuming.join().expect("the consumer ends");
    });
}

/// A process releases a block on one thread while another of its threads is sent the same block again.
fn two_threads<R: Rules>() {
    explore(Preemptions::Any, || {
        let (stage, cast) = Stage::new(1);
        let (queue, inbox) = Queue::new();
        let producer = Process::<R>::new(cast.producer.member(), &stage);
        let consumer = Arc::new(Process::<R>::new(cast.consumer.member(), &stage));
        let sender = producer.member;
        let mut flight = producer.link_to(consumer.member);
        let frame = producer.produce().expect("the block is free");
        producer.send(&mut flight, &frame, &queue);
        producer.pass_on(&mut flight, &frame, &queue);
        consumer.receive_of_the_living(&inbox, sender).expect("it was pushed");
        let releasing = {
            let consumer = Arc::clone(&consumer);
            thread::spawn(move || consumer.release(&frame))
        };
        let reading = thread::spawn(move || {
            if let Some(frame) = consumer.receive_of_the_living(&inbox, sender) {
                consumer.stage.read(&frame);
                consumer.release(&frame);
            }
        });
        producer.reclaim(&mut flight);
        producer.produce();
        releasing.join().expect("the releasing thread ends");
        reading.join().expect("the reading thread ends");
    });
}

/// A dead process's slot gets a new tenant, which is sent a block at once.
fn slot_reuse<R: Rules>() {
    explore(Preemptions::Any, || {
        let (stage, cast) = Stage::new(1);
        let producer = Process::<R>::new(cast.producer.member(), &stage);
        let dead = cast.consumer;
        let mut flight = producer.link_to(dead.member());
        let Member { slot, incarnation } = dead.member();
        let successor = Member { slot, incarnation: incarnation.next().expect("the slot is young") };
        let reaping = {
            let stage = stage.clone();
            thread::spawn(move || admit_successor::<R>(dead, &stage))
        };
        if state::is_live(&stage.domain, successor) {
            flight.rebind(successor.incarnation);
            let (queue, inbox) = Queue::new();
            let consumer = Process::<R>::new(successor, &stage);
            let frame = producer.produce().expect("the block is free");
            producer.pass_on(&mut flight, &frame, &queue);
            let frame = consumer.receive_of_the_living(&inbox, producer.member).expect("it was pushed");
            producer.reclaim(&mut flight);
            producer.produce();
            consumer.stage.read(&frame);
            consumer.release(&frame);
        }
        reaping.join().expect("the reaper ends");
    });
}

/// Lets a successor in as early as the rules allow.
fn admit_successor<R: Rules>(dead: Tenancy, stage: &Stage) {
    let slot = dead.member().slot;
    let remains = dead.bury(&stage.domain, [POOL]);
    let vacated = remains.vacate_under::<R>(&stage.domain).or_else(|mut remains| {
        remains.reap(POOL, &stage.blocks);
        remains.vacate_under::<R>(&stage.domain)
    });
    let vacancy = vacated.expect("every pool was reaped").expect("the slot is young");
    let _lives = vacancy.admit(&stage.domain);
    if !R::SLOT_WAITS_FOR_REAP {
        reap::clear_bits(&stage.blocks, slot);
    }
}

/// A forwarder dies; its successor sends to the same consumer, whose acknowledgement of the dead one still stands.
fn successor_sends<R: Rules>() {
    explore(Preemptions::Any, || {
        let Orphan { stage, producer, consumer, inbox, dead, mut to_forwarder, .. } = Orphan::<R>::new();
        let sender = dead.member();
        let frame = consumer.receive_of_the_living(&inbox, sender).expect("it was pushed");
        consumer.release(&frame);
        let mut remains = dead.bury(&stage.domain, [POOL]);
        remains.reap(POOL, &stage.blocks);
        let vacancy =
            remains.vacate(&stage.domain).expect("every pool was reaped").expect("the slot is young");
        let forwarder = Process::<R>::new(vacancy.admit(&stage.domain).member(), &stage);
        let frame = producer.produce().expect("the block is free");
        let (first_queue, first_inbox) = Queue::new();
        let (second_queue, second_inbox) = Queue::new();
        to_forwarder.rebind(forwarder.member.incarnation);
        producer.pass_on(&mut to_forwarder, &frame, &first_queue);
        let sender = forwarder.member;
        let receiver = consumer.member;
        let consuming = thread::spawn(move || {
            if let Some(frame) = consumer.receive_of_the_living(&second_inbox, sender) {
                consumer.stage.read(&frame);
                consumer.release(&frame);
            }
        });
        let frame = forwarder.receive_of_the_living(&first_inbox, producer.member).expect("it was pushed");
        producer.reclaim(&mut to_forwarder);
        let mut flight = forwarder.link_to(receiver);
        forwarder.pass_on(&mut flight, &frame, &second_queue);
        forwarder.reclaim(&mut flight);
        consuming.join().expect("the consumer ends");
    });
}

#[test]
fn hop_keeps_frame_and_returns_block() {
    hop::<Sound>();
}

#[test]
fn chain_keeps_frame_over_both_hops() {
    chain::<Sound>();
}

#[test]
fn fan_out_keeps_frame_until_both_arms_are_done() {
    fan_out::<Sound>();
}

#[test]
fn orphaned_message_is_accepted_whole_or_rejected() {
    orphan::<Sound>();
}

#[test]
fn destroyed_pool_is_not_revived_by_a_late_message() {
    destruction::<Sound>();
}

#[test]
fn wrapped_generation_is_told_apart_by_its_stamp() {
    wrap::<Wrapping>();
}

#[test]
fn two_threads_of_one_process_share_its_bit() {
    two_threads::<Sound>();
}

#[test]
fn slot_is_reused_after_the_reap() {
    slot_reuse::<Sound>();
}

#[test]
fn successor_is_not_answered_for_its_predecessor() {
    successor_sends::<Sound>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn accept_without_the_generation_is_caught() {
    orphan::<AcceptWithoutGeneration>();
}

#[test]
#[should_panic(expected = "revived")]
fn accept_of_a_free_block_is_caught() {
    destruction::<AcceptOfFree>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn accept_without_the_stamp_is_caught() {
    wrap::<WrappingWithoutStamp>();
}

#[test]
#[should_panic(expected = "lost")]
fn ack_before_the_bit_is_caught() {
    hop::<AckBeforeBit>();
}

#[test]
#[should_panic(expected = "lost")]
fn ack_without_the_incarnation_is_caught() {
    successor_sends::<AckWithoutIncarnation>();
}

#[test]
#[should_panic(expected = "lost")]
fn count_and_bit_changed_apart_is_caught() {
    two_threads::<CountAndBitApart>();
}

#[test]
#[should_panic(expected = "stolen")]
fn slot_reused_before_the_reap_is_caught() {
    slot_reuse::<SlotReusedEarly>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn relaxed_clear_is_caught() {
    hop::<ClearRelaxed>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn relaxed_allocation_is_caught() {
    hop::<AllocateRelaxed>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn relaxed_accept_is_caught() {
    wrap::<WrappingAcceptRelaxed>();
}
