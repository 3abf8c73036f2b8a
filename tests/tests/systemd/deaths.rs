//! Units that die: why is told, others are not touched, and they are started again, but not for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use remotemedia_core::Fault;
use remotemedia_core::fault::{DeathCause, WorkerLost};
use remotemedia_protos::v1::{ErrorResponse, ExecuteRequest};
use remotemedia_tests::Machine;
use remotemedia_tests::client::fault;
use remotemedia_tests::deadline::within;
use remotemedia_tests::machine::{CHECKOUT, INTERPRETER, SLOW};
use remotemedia_tests::pipeline::{chain, text, words};
use tonic::Code;

use crate::{GATEWAY, PASS, WORKERS};

const STUCK: &str = "{ id: stuck, node_type: Stuck }";
const BROOD: &str = "{ id: brood, node_type: Brood }";

/// Nobody writes into it.
const PIPE: &str = "/run/pipe";

#[tokio::test]
async fn a_unit_that_is_killed_is_told_with_its_cause_and_no_other_is_touched() {
    let machine = Machine::serving().await;
    machine.succeed(&format!("mkfifo -m 644 {PIPE} && systemctl start remotemedia-python@stuck")).await;
    let others = Others::of(&machine).await;
    let client = machine.client().await;
    let asking = tokio::spawn(async move { client.execute(&chain(&[STUCK]), [("stuck", text(PIPE))]).await });
    machine.until_status(|status| status.sessions.iter().any(|one| one.state == "open")).await;
    machine.succeed("systemctl kill --kill-whom main --signal KILL remotemedia-python@stuck").await;
    let killed = Instant::now();
    let error = within(SLOW, "the answer", asking).await.unwrap().unwrap_err();
    println!("told after {:?}", killed.elapsed());
    let lost = lost(&error);
    assert_eq!((lost.worker.as_str(), lost.node.as_str()), ("python-stuck", "stuck"));
    assert_eq!(lost.cause, DeathCause::Signal(9));
    is_back(&machine, "remotemedia-python@stuck").await;
    others.are_untouched(&machine).await;
    machine.finish();
}

#[tokio::test]
async fn a_unit_over_its_memory_is_killed_alone_and_told_as_out_of_memory() {
    let machine = Machine::serving().await;
    machine.succeed("systemctl set-property --runtime remotemedia-python@brood.service MemoryMax=256M").await;
    machine.succeed("systemctl start remotemedia-python@brood").await;
    let others = Others::of(&machine).await;
    let (client, manifest) = (machine.client().await, chain(&[BROOD]));
    client.execute(&manifest, [("brood", text("take 32"))]).await.unwrap();
    let error = client.execute(&manifest, [("brood", text("take 400"))]).await.unwrap_err();
    assert_eq!(lost(&error).cause, DeathCause::OutOfMemory, "{error:?}");
    is_back(&machine, "remotemedia-python@brood").await;
    let served = client.execute(&manifest, [("brood", text("fine"))]).await.unwrap();
    assert_eq!(words(&served.data_outputs["brood"]), "fine");
    others.are_untouched(&machine).await;
    machine.finish();
}

#[tokio::test]
async fn a_process_whose_one_thread_stands_still_is_killed_by_its_watchdog() {
    let machine = Machine::installed().await;
    for unit in ["remotemedia-worker@", "remotemedia-gateway"] {
        let path = format!("/etc/systemd/system/{unit}.service.d/test.conf");
        machine.write(&path, "[Service]\nWatchdogSec=1s\n");
    }
    machine.succeed("systemctl daemon-reload && systemctl start remotemedia.target").await;
    let [first, second] = WORKERS;
    let untouched = machine.pid(second).await;
    // The thread that talks with the gateway, by the name that the kernel gives to a process of this name.
    stand_still(&machine, first, "remotemedia-wor").await;
    machine.until_status(|status| status.workers.len() == 2).await;
    let status = machine.status().await;
    let loss = status.losses.iter().find(|loss| loss.worker == "rust-1").unwrap();
    assert_eq!(loss.cause, DeathCause::Hang.to_string());

    stand_still(&machine, GATEWAY, "hub").await;
    let client = machine.client().await;
    client.execute(&chain(&[PASS]), [("pass", text("after"))]).await.unwrap();
    // Beats were not missed by who was well.
    assert_eq!(machine.pid(second).await, untouched);
    machine.finish();
}

/// Stops one thread of a unit, and waits until its watchdog has done the rest.
async fn stand_still(machine: &Machine, unit: &str, thread: &str) {
    let pid = machine.pid(unit).await;
    machine
        .succeed(&format!("/usr/bin/env {INTERPRETER} {CHECKOUT}/tests/systemd/still.py {pid} {thread}"))
        .await;
    is_back(machine, unit).await;
    assert!(machine.journal(unit).await.contains("Watchdog timeout"), "{unit}");
}

#[tokio::test]
async fn a_node_that_does_not_return_costs_its_unit_a_restart() {
    let machine = Machine::installed().await;
    machine.write(SETTINGS, "[limits]\ndefault_timeout_ms = 500\nhang_grace_ms = 300\n");
    machine.succeed(&format!("mkfifo -m 644 {PIPE} && systemctl start remotemedia.target")).await;
    machine.succeed("systemctl start remotemedia-python@stuck").await;
    let data_inputs = [("stuck".to_owned(), text(PIPE))].into();
    let request =
        ExecuteRequest { manifest: Some(chain(&[STUCK])), data_inputs, ..ExecuteRequest::default() };
    let refusal = machine.client().await.execute_request(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::DeadlineExceeded);
    is_back(&machine, "remotemedia-python@stuck").await;
    machine.until_status(|status| status.workers.len() == 3).await;
    let status = machine.status().await;
    let loss = status.losses.iter().find(|loss| loss.worker == "python-stuck").unwrap();
    assert_eq!((loss.cause.as_str(), loss.deaths), (DeathCause::Hang.to_string().as_str(), 1));
    machine.finish();
}

#[tokio::test]
async fn what_keeps_dying_is_left_alone_and_status_says_of_what() {
    let machine = Machine::serving().await;
    let unit = "remotemedia-python@unimportable";
    let started = machine.run(&format!("systemctl start {unit}")).await;
    assert_ne!(started.code, Some(0));
    let took = machine.until(unit, "ActiveState", "failed").await;
    println!("given up after {took:?}");
    assert!(machine.journal(unit).await.contains("Start request repeated too quickly"));
    machine.until_status(|status| status.losses.iter().any(|loss| loss.deaths == 5)).await;
    let status = machine.status().await;
    let loss = status.losses.iter().find(|loss| loss.worker == "python-unimportable").unwrap();
    assert!(!loss.ready);
    assert_eq!(loss.cause, DeathCause::Exit(4).to_string());
    assert!(machine.succeed("remotemedia status").await.contains("python-unimportable"));
    machine.finish();
}

const SETTINGS: &str = "/etc/remotemedia/gateway.toml";

/// The processes of the units that nothing was done to.
struct Others(BTreeMap<&'static str, u32>);

impl Others {
    async fn of(machine: &Machine) -> Self {
        let mut pids = BTreeMap::new();
        for unit in [GATEWAY].into_iter().chain(WORKERS) {
            pids.insert(unit, machine.pid(unit).await);
        }
        Self(pids)
    }

    async fn are_untouched(&self, machine: &Machine) {
        for (unit, pid) in &self.0 {
            assert_eq!(machine.pid(unit).await, *pid, "{unit}");
            assert_eq!(machine.property(unit, "NRestarts").await, "0", "{unit}");
        }
    }
}

/// Waits until a unit has been started again, once.
async fn is_back(machine: &Machine, unit: &str) -> Duration {
    let gone = machine.until(unit, "NRestarts", "1").await;
    gone + machine.until(unit, "ActiveState", "active").await
}

fn lost(error: &ErrorResponse) -> WorkerLost {
    let Fault::Worker(lost) = fault(error) else { panic!("{error:?}") };
    lost
}
