//! Workers that do not get as far as to work: nobody waits for them longer than he wants to, and nobody else notices.

use nix::sys::signal::Signal;
use remotemedia_core::Fault as ClientFault;
use remotemedia_core::fault::{DeathCause, PlacementError};
use remotemedia_protos::v1::{ExecuteRequest, ResourceLimits};
use remotemedia_tests::client::{error_in, fault};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text};

use crate::ground::{Ground, SOON, groups_are_gone};
use crate::table::{Fault, Phase, Row};

/// How long a client waits for a worker to be ready.
const START_MS: u64 = 200;

/// On a ground without a victim, and leaves it without one.
pub(crate) async fn case(ground: &mut Ground, row: Row) {
    let deaths = ground.deaths().await;
    let bystander = ground.bystander().await;
    let restarts = row.phase == Phase::GatewayRestarting;
    let victim = if row.fault == Fault::NeverReady {
        never_ready(ground, row.phase).await
    } else {
        registers_then_dies(ground, row.phase).await
    };
    if restarts {
        bystander.breaks_off().await
    } else {
        bystander.end().await
    }
    if row.fault == Fault::RegistersThenDies && row.phase != Phase::Draining {
        let before = if restarts { Default::default() } else { deaths };
        ground.is_told(victim, DeathCause::Exit(7), &before).await;
    }
    if restarts {
        ground.has_a_gateway_again().await;
        ground.bystander().await.end().await;
    }
    ground.plant.ready().await;
    groups_are_gone(&[victim]).await;
    ground.is_as_before().await;
}

/// Gives its process id when it is dead.
async fn never_ready(ground: &mut Ground, phase: Phase) -> u32 {
    ground.launch(&["--never-ready"]);
    let pid = ground.victim_pid();
    is_loading(ground).await;
    let answer = ask(ground).await;
    assert!(matches!(answer, Some(ClientFault::Starting { .. })), "{answer:?}");
    if phase == Phase::GatewayRestarting {
        ground.plant.restart_gateway().await;
        is_loading(ground).await;
    }
    let process = ground.plant.worker(ground.victim());
    // Nobody has been told to kill one that loads for long: a large model does.
    process.signal(if phase == Phase::Draining { Signal::SIGTERM } else { Signal::SIGKILL });
    process.ended(SOON).await;
    pid
}

/// The same of the other fault.
async fn registers_then_dies(ground: &mut Ground, phase: Phase) -> u32 {
    let restarts = phase == Phase::GatewayRestarting;
    if restarts {
        ground.plant.kill_gateway().await;
    }
    ground.launch(&[habit(phase)]);
    if restarts {
        ground.plant.start_gateway().await;
    }
    let pid = ground.victim_pid();
    if phase == Phase::Draining {
        ground.plant.ready().await;
        ground.plant.worker(ground.victim()).signal(Signal::SIGTERM);
    }
    let status = ground.plant.worker(ground.victim()).ended(SOON).await.status;
    assert_eq!(status.code(), Some(7));
    is_known_dead(ground, phase).await;
    let answer = ask(ground).await;
    let is_told = match &answer {
        // One that was ready for no longer than a moment may have died before it was known to be.
        Some(ClientFault::Placement(PlacementError::UnknownType { failing, .. })) => {
            failing.contains("does not start: it exited with code 7") || phase == Phase::Draining
        }
        // Its launcher is expected to start it again.
        Some(ClientFault::Starting { .. }) => true,
        _ => false,
    };
    assert!(is_told, "{phase:?}: {answer:?}");
    pid
}

const fn habit(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "--dies=joining",
        Phase::Draining => "--dies=leaving",
        Phase::Idle
        | Phase::HoldingALease
        | Phase::MidUnary
        | Phase::MidStream
        | Phase::Producing
        | Phase::Forwarding
        | Phase::GatewayRestarting => "--dies=ready",
    }
}

async fn is_loading(ground: &Ground) {
    let pid = ground.victim_pid();
    until(SOON, async || {
        let workers = ground.plant.status().await.workers;
        let state = workers.into_iter().find(|worker| worker.pid == pid).map(|worker| worker.state);
        if state.as_deref() == Some("loading") { Ok(()) } else { Err(state) }
    })
    .await;
}

async fn is_known_dead(ground: &Ground, phase: Phase) {
    let pid = ground.victim_pid();
    until(SOON, async || {
        let status = ground.plant.status().await;
        let is_gone = status.workers.iter().all(|worker| worker.pid != pid);
        let is_lost = status.losses.iter().any(|loss| loss.pid == pid);
        // One that was asked to go is not lost.
        if is_gone && (is_lost || phase == Phase::Draining) { Ok(()) } else { Err(status) }
    })
    .await;
}

/// What a client is told who asks for what only the newcomer has, and does not wait for it long.
async fn ask(ground: &Ground) -> Option<ClientFault> {
    let limits =
        ResourceLimits { max_start_ms: Some(START_MS), max_timeout_ms: 10_000, ..ResourceLimits::default() };
    let request = ExecuteRequest {
        manifest: Some(chain(&["{ id: lie, node_type: Lie }"])),
        data_inputs: [("lie".to_owned(), text("anybody?"))].into(),
        resource_limits: Some(limits),
        ..ExecuteRequest::default()
    };
    match ground.plant.client().execute_request(request).await {
        Ok(Ok(_result)) => None,
        Ok(Err(error)) => Some(fault(&error)),
        Err(status) => Some(fault(&error_in(&status))),
    }
}
