//! Every fault in every phase, with real processes, and after every case everything as it was before.

#![expect(clippy::print_stdout, reason = "what took how long, and what this machine cannot show")]

mod bystander;
mod cage;
mod ground;
mod newcomer;
mod play;
mod table;

use std::collections::BTreeMap;
use std::time::Instant;

use nix::sys::signal::Signal;
use remotemedia_core::Fault as ClientFault;
use remotemedia_core::fault::DeathCause;
use remotemedia_tests::deadline::until;
use remotemedia_tests::plant::{Process, RELEASE, START, program};

use bystander::Bystander;
use cage::Cage;
use ground::{Ground, SOON, groups_are_gone};
use play::{Ending, Play};
use table::{Actor, Fault, Outcome, Phase, Row};

#[tokio::test]
async fn whatever_a_rust_node_does_while_a_session_begins_or_none_is_there_is_contained() {
    all(Actor::Rust, is_at_the_edge).await;
}

#[tokio::test]
async fn whatever_a_rust_node_does_in_the_midst_of_its_work_is_contained() {
    all(Actor::Rust, |phase| !is_at_the_edge(phase)).await;
}

#[tokio::test]
async fn whatever_a_python_node_does_while_a_session_begins_or_none_is_there_is_contained() {
    all(Actor::Python, is_at_the_edge).await;
}

#[tokio::test]
async fn whatever_a_python_node_does_in_the_midst_of_its_work_is_contained() {
    all(Actor::Python, |phase| !is_at_the_edge(phase)).await;
}

#[tokio::test]
async fn a_worker_that_lies_harms_its_own_session_and_no_other() {
    all(Actor::Liar, |phase| phase != Phase::GatewayRestarting).await;
}

#[tokio::test]
async fn a_worker_that_is_never_ready_or_dies_at_once_is_waited_for_no_longer_than_asked() {
    let mut ground = Ground::without_victim(Actor::Liar).await;
    for row in Row::of(Actor::Liar, |_| true).filter(|row| row.is_of_a_newcomer()) {
        let begin = Instant::now();
        newcomer::case(&mut ground, row).await;
        assert_undisturbed(&mut ground, row, &["worker_died"]);
        println!("{:?} {:?} in {:?}: {:?}", row.actor, row.fault, row.phase, begin.elapsed());
    }
    ground.plant.finish().await;
}

#[tokio::test]
async fn a_soak_of_some_seconds_loses_nothing_and_leaks_nothing() {
    let soak = Process::start("soak", &program("soak"), &["--minutes", "0.2", "--seed", "5"]);
    let status = soak.ended(START * 4).await.status;
    assert!(status.success(), "{:#?}", soak.printed());
}

/// Half of the phases, so that two plants share them.
const fn is_at_the_edge(phase: Phase) -> bool {
    match phase {
        Phase::Starting | Phase::Idle | Phase::MidUnary | Phase::GatewayRestarting => true,
        Phase::HoldingALease | Phase::MidStream | Phase::Producing | Phase::Forwarding | Phase::Draining => {
            false
        }
    }
}

async fn all(actor: Actor, is_wanted: impl Fn(Phase) -> bool) {
    let mut ground = Ground::prepare(actor).await;
    for row in Row::of(actor, is_wanted).filter(|row| !row.is_of_a_newcomer()) {
        let begin = Instant::now();
        case(&mut ground, row).await;
        println!("{:?} {:?} in {:?}: {:?}", row.actor, row.fault, row.phase, begin.elapsed());
    }
    ground.finish().await;
}

async fn case(ground: &mut Ground, row: Row) {
    let cage = match Cage::around(ground, row) {
        Ok(cage) => cage,
        Err(why) => return println!("{row:?} is not shown: {why}"),
    };
    let (victim, deaths) = (ground.victim_pid(), ground.deaths().await);
    let bystanders = if row.actor == Actor::Liar {
        ground.bystanders_everywhere().await
    } else {
        vec![ground.bystander().await]
    };
    let endings = Play { ground: &mut *ground, row }.run().await;
    for (place, ending) in endings.iter().enumerate() {
        assert_ending(ground, row, place, ending);
    }
    assert_evidence(ground, row, &bystanders).await;
    if row.phase != Phase::GatewayRestarting {
        assert_death(ground, row, victim, &deaths).await;
    }
    for bystander in bystanders {
        if row.phase == Phase::GatewayRestarting {
            bystander.breaks_off().await;
        } else {
            bystander.end().await;
        }
    }
    assert_undisturbed(ground, row, &[]);
    let by_hand = bury(ground, row, victim).await;
    drop(cage);
    assert_undisturbed(ground, row, if by_hand { &["worker_died"] } else { &[] });
}

/// What the client was told is what was done.
fn assert_ending(ground: &Ground, row: Row, place: usize, ending: &Ending) {
    let is_right = match (row.phase, row.outcome(), ending) {
        (Phase::GatewayRestarting, _, Ending::Broken) => true,
        // What was asked for before it came.
        (Phase::Idle, _, Ending::Served) if place == 0 => true,
        (_, Outcome::Lives, Ending::Served) => true,
        (_, Outcome::Fails, Ending::Fault(ClientFault::Node(fault))) => {
            fault.node == "doom" && fault.message.contains("told to panic")
        }
        (_, Outcome::Dies(cause), Ending::Fault(ClientFault::Worker(lost))) => {
            let pid = lost.pid.cast_unsigned();
            let of_victim = lost.worker == ground.victim() && pid == ground.victim_pid();
            of_victim && lost.node == "doom" && lost.cause == cause
        }
        (_, Outcome::Hangs, Ending::Fault(ClientFault::Deadline { .. })) => true,
        (_, Outcome::Disbelieved, Ending::Fault(ClientFault::Internal { problem, .. })) => {
            row.is_disbelief(problem)
        }
        // All that was asked for had been answered when the same came again.
        (Phase::MidUnary, Outcome::Disbelieved, Ending::Served) => row.fault == Fault::ReplayedSequence,
        (..) => false,
    };
    assert!(is_right, "{row:?} should come out as {:?}, and the client was told {ending:?}", row.outcome());
}

/// Who was lied to says so, and where it is spoken of another session, that it was a bystander's that was meant.
async fn assert_evidence(ground: &Ground, row: Row, bystanders: &[Bystander]) {
    let words = row.evidence();
    let is_of_others = row.fault == Fault::ForeignSession && row.phase == Phase::Forwarding;
    let is_meant = |alarm: &String| bystanders.iter().any(|one| alarm.contains(one.session()));
    until(SOON, async || {
        let alarms = ground.plant.unseen_alarms();
        let is_it = |alarm: &String| words.iter().all(|words| alarm.contains(words));
        let is_there = alarms.iter().any(|alarm| is_it(alarm) && (!is_of_others || is_meant(alarm)));
        if words.is_empty() || is_there { Ok(()) } else { Err((row, words, alarms)) }
    })
    .await;
}

/// What the gateway tells of it is what was done.
async fn assert_death(ground: &Ground, row: Row, victim: u32, deaths: &BTreeMap<String, u64>) {
    match row.outcome() {
        Outcome::Dies(cause) => ground.is_told(victim, cause, deaths).await,
        Outcome::Hangs => ground.is_told(victim, DeathCause::Hang, deaths).await,
        Outcome::Lives | Outcome::Fails | Outcome::Disbelieved | Outcome::Unseen => {
            assert_eq!(&ground.deaths().await, deaths, "nobody has died");
        }
    }
}

/// Leaves the ground without a victim, holds it to being as it was, and brings the next one. A victim that is as good as
/// before stays. Says whether one had to be killed by hand.
async fn bury(ground: &mut Ground, row: Row, victim: u32) -> bool {
    let is_fated = match row.outcome() {
        Outcome::Dies(_) | Outcome::Hangs => true,
        Outcome::Lives | Outcome::Fails | Outcome::Disbelieved | Outcome::Unseen => false,
    } || row.phase == Phase::Draining;
    let is_spent =
        row.phase == Phase::GatewayRestarting || matches!(row.fault, Fault::Spin | Fault::Descriptors);
    if !is_fated && !is_spent {
        ground.plant.idle_within(RELEASE).await;
        assert!(ground.plant.worker(ground.victim()).ending().is_none(), "{row:?}: the victim died");
        return false;
    }
    let restarts = row.phase == Phase::GatewayRestarting;
    let outlives = !matches!(row.outcome(), Outcome::Dies(_));
    if row.fault == Fault::Descriptors && !is_fated && !restarts {
        // It has no file descriptor left, and needs none for a session.
        let served = Play { ground: &mut *ground, row }.unharmed().await;
        assert!(matches!(served, Ending::Served), "{row:?}: then {served:?}");
    }
    if restarts && outlives {
        ground.plant.start_gateway().await;
        meets_the_successor(ground, row, victim).await;
    }
    let process = ground.plant.worker(ground.victim());
    if !is_fated {
        process.signal(Signal::SIGKILL);
    }
    let status = process.ended(SOON).await.status;
    assert!(row.ends_with(status), "{row:?}: the victim ended with {status}");
    if restarts {
        let nobody = BTreeMap::new();
        match row.outcome() {
            // No gateway was there to be told of that death, and none is told later: its launcher knows of it, and starts
            // the worker again.
            Outcome::Dies(_) => {
                ground.plant.start_gateway().await;
                assert_eq!(ground.deaths().await, nobody, "{row:?}: deaths from before the gateway's time");
            }
            Outcome::Hangs => ground.is_told(victim, DeathCause::Hang, &nobody).await,
            Outcome::Lives | Outcome::Fails | Outcome::Disbelieved | Outcome::Unseen => {
                ground.is_told(victim, DeathCause::Signal(9), &nobody).await;
            }
        }
        ground.has_a_gateway_again().await;
        ground.bystander().await.end().await;
    }
    ground.plant.ready().await;
    ground.plant.idle_within(RELEASE).await;
    groups_are_gone(&[victim]).await;
    ground.is_as_before().await;
    ground.bring_a_victim().await;
    !is_fated
}

/// There is another gateway, and the victim, which has outlived the first, is of use to it or not known there at all.
async fn meets_the_successor(ground: &mut Ground, row: Row, victim: u32) {
    assert_eq!(ground.victim_pid(), victim);
    if row.outcome() != Outcome::Unseen {
        ground.plant.ready().await;
        let served = Play { ground: &mut *ground, row }.unharmed().await;
        let is_right = match (row.outcome(), &served) {
            (Outcome::Hangs, Ending::Fault(ClientFault::Deadline { .. })) => true,
            (Outcome::Lives, Ending::Served) => true,
            (..) => false,
        };
        assert!(is_right, "{row:?}: then {served:?}");
        return;
    }
    ground.others_are_ready().await;
    // The others serve as if there had never been one.
    ground.bystander().await.end().await;
    assert!(!ground.others_are_ready().await, "{row:?}: the victim has joined");
    assert!(ground.plant.worker(ground.victim()).ending().is_none(), "{row:?}: the victim died");
}

/// What was logged is what the row declares.
fn assert_undisturbed(ground: &mut Ground, row: Row, besides: &[&'static str]) {
    let declared = [&row.declared(), besides].concat();
    let alarms = ground.plant.fresh_alarms();
    let is_declared = |alarm: &&String| declared.iter().any(|event| alarm.contains(event));
    // A panic's words begin with an empty line.
    let is_blank = |alarm: &&String| alarm.ends_with("] ");
    let mut surprises: Vec<_> =
        alarms.iter().filter(|alarm| !is_declared(alarm) && !is_blank(alarm)).collect();
    surprises.dedup();
    assert!(surprises.is_empty(), "{row:?}: logged but not declared: {surprises:#?}");
}
