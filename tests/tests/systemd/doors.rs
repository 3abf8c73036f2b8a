//! Sockets that stay when the gateway goes, and an end of everything.

use std::time::{Duration, Instant};

use remotemedia_tests::Machine;
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::machine::{Door, SLOW};
use remotemedia_tests::pipeline::{chain, text, words};

use tokio::task::JoinSet;

use crate::{GATEWAY, PASS, WORKERS};

#[tokio::test]
async fn the_first_client_starts_the_gateway() {
    let machine = Machine::installed().await;
    machine.succeed("systemctl start remotemedia-gateway.socket").await;
    assert_eq!(machine.property(GATEWAY, "ActiveState").await, "inactive");
    let client = machine.client().await;
    client.version("v1").await;
    assert_eq!(machine.property(GATEWAY, "ActiveState").await, "active");
    machine.finish();
}

#[tokio::test]
async fn who_comes_while_there_is_no_gateway_waits_and_is_served() {
    let machine = Machine::serving().await;
    let workers = [machine.pid(WORKERS[0]).await, machine.pid(WORKERS[1]).await];
    for end in ["systemctl kill --signal KILL", "systemctl restart --no-block"] {
        let before = machine.pid(GATEWAY).await;
        machine.succeed(&format!("{end} {GATEWAY}")).await;
        let began = Instant::now();
        let mut asking = JoinSet::new();
        for number in 0..8 {
            asking.spawn(ask(machine.door(), number.to_string()));
        }
        within(SLOW, "all answers", asking.join_all()).await;
        println!("`{end}`: served after {:?}", began.elapsed());
        until(SLOW, async || {
            let after = machine.pid(GATEWAY).await;
            if after == before { Err("it is the same gateway") } else { Ok(()) }
        })
        .await;
    }
    // Whatever they have loaded is loaded still.
    assert_eq!([machine.pid(WORKERS[0]).await, machine.pid(WORKERS[1]).await], workers);
    machine.finish();
}

#[tokio::test]
async fn the_service_finishes_what_runs_and_stops_in_time_and_leaves_nothing() {
    let machine = Machine::serving().await;
    machine.write("/etc/remotemedia/nodes.d/steady.py", STEADY);
    machine.succeed("systemctl start remotemedia-python@steady").await;
    let client = machine.client().await;
    let steady = chain(&["{ id: steady, node_type: Steady }"]);
    let asking = tokio::spawn(async move { client.execute(&steady, [("steady", text("hello"))]).await });
    machine.until_status(|status| status.sessions.iter().any(|one| one.state == "open")).await;
    let began = Instant::now();
    machine.succeed("systemctl stop remotemedia.target remotemedia.slice").await;
    let took = began.elapsed();
    println!("stopped in {took:?}");
    assert!(took < STOP, "{took:?}");
    within(SLOW, "the answer", asking).await.unwrap().expect("what ran was finished");
    let running = "systemctl list-units 'remotemedia*' --state active,activating --no-legend --plain";
    assert_eq!(machine.succeed(running).await, "");
    assert_eq!(machine.succeed("ls /dev/shm /run/remotemedia").await, "/dev/shm:\n\n/run/remotemedia:");
    for (unit, said) in [(WORKERS[0], "worker_draining"), (GATEWAY, "stopped"), (GATEWAY, "worker_joined")] {
        assert!(machine.journal(unit).await.contains(said), "{unit} has not said {said}");
    }
    for unit in [GATEWAY].into_iter().chain(WORKERS) {
        assert_eq!(machine.property(unit, "Result").await, "success", "{unit}");
    }
    machine.finish();
}

async fn ask(door: Door, said: String) {
    let client = door.client().await;
    let result = client.execute(&chain(&[PASS]), [("pass", text(said.as_str()))]).await.unwrap();
    assert_eq!(words(&result.data_outputs["pass"]), said);
}

/// Takes its time.
const STEADY: &str = "\
import time

from remotemedia import Node, Text


class Steady(Node):
    def process(self, text: Text) -> Text:
        time.sleep(1)
        return text
";

/// TimeoutStopSec= of the units.
const STOP: Duration = Duration::from_secs(20);
