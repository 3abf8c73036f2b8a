//! A gateway dies, or is stopped: its workers keep what they have loaded and serve the next one; its clients are told, and
//! nothing of it is left.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_cli::admin::{AdminDoor, Status, WorkerStatus};
use remotemedia_cli::transport::GrpcTransport;
use remotemedia_core::Fault;
use remotemedia_core::fault::{DeathCause, PlacementError, Unavailability};
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::transport::{Caller, PipelineTransport as _, StreamRequest, StreamSession as _};
use remotemedia_protos::convert;
use remotemedia_protos::v1::{ExecuteRequest, PipelineManifest, ResourceLimits};
use remotemedia_tests::client::{error_in, fault};
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::{Process, START, program, python};
use remotemedia_tests::up::{Home, SOON};
use remotemedia_tests::{Client, Plant, Recipe, Up};
use tonic::{Code, Status as Refusal};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

const COUNTED: &str = "{ id: counted, node_type: Counted }";
const PASS: &str = "{ id: pass, node_type: PassThrough }";

/// From the first word of the next gateway to all its workers being ready.
const RECONNECTED: Duration = Duration::from_secs(1);

/// From the same to the kill of a worker that has not joined it.
const REJOINING: Duration = Duration::from_secs(10);

/// Exit code of a gateway whose runtime directory is another's.
const IN_USE: i32 = 69;

#[tokio::test]
async fn workers_outlive_a_killed_gateway_with_what_they_have_loaded_and_serve_within_a_second() {
    let home = Home::fresh();
    let (dir, bystander) =
        (home.file("run"), format!("/dev/shm/remotemedia-not-ours-{}", std::process::id()));
    let python = python();
    let command = [python.to_str().unwrap(), "-m", "remotemedia.worker", "counted"];
    let config = home.configuration(&format!(
        "[[pool]]\nkind = 'rust'\nworkers = 2\n[[pool]]\nkind = 'python'\nworkers = 1\ncommand = {command:?}\n"
    ));
    let up = Up::ready(home, &["--config", &config, "--runtime-dir", &dir]).await;
    let of_others = [format!("{dir}/remotemedia-notes"), format!("{dir}/notes.txt"), bystander];
    let (client, door) = (up.client().await, AdminDoor::at(up.ready["admin"].as_str().unwrap()));
    let before = up.look().await;
    let marks = up.marks();
    of_others.iter().for_each(|path| fs::write(path, "mine").unwrap());
    let (mut call, _session) = client.stream(&chain(&[COUNTED])).await;
    call.send(0, text("before")).await;
    assert_eq!(words(&call.result().await.data_outputs["counted"]), "before");
    let (ours, _version) = GrpcTransport::connect(up.ready["grpc"].as_str().unwrap(), None).await.unwrap();
    let request = StreamRequest {
        manifest: Arc::new(convert::manifest::from_wire(chain(&[PASS])).unwrap()),
        limits: LimitRequest::default(),
        listener: None,
        caller: Caller::default(),
    };
    let ours = ours.stream(request).await.unwrap();
    signal(before.gateway.pid, Signal::SIGKILL);
    // Who is killed says nothing: of a stream in the middle gRPC makes one code or the other.
    let broken = call.next().await.unwrap().unwrap_err();
    assert!(matches!(broken.code(), Code::Unavailable | Code::Unknown), "{broken:?}");
    assert!(broken.details().is_empty(), "{broken:?}");
    let told = within(SOON, "our own client's answer", ours.receive()).await.unwrap_err();
    assert_eq!(told, Fault::Unavailable { state: Unavailability::Gone, retry_after_ms: 1_000 });
    assert_eq!(told.to_string(), "the service is gone, and with it what ran there: try again in 1000 ms");

    let mut answered = None;
    until(SOON, async || {
        let status = door.status().await.map_err(|error| error.to_string())?;
        let at = *answered.get_or_insert_with(Instant::now);
        if !is_whole(&status, &before) {
            return Err(format!("{status:?}"));
        }
        println!("reconnected in {:?}", at.elapsed());
        Ok(())
    })
    .await;
    assert!(answered.unwrap().elapsed() < RECONNECTED, "{:?}", answered.unwrap().elapsed());
    let served = client.execute(&chain(&[COUNTED]), [("counted", text("after"))]).await.unwrap();
    assert_eq!(words(&served.data_outputs["counted"]), "after");
    let loads = up.process.log().iter().filter(|line| line.contains("counted is loaded")).count();
    assert_eq!(loads, 1, "the worker has loaded again: {:#?}", up.process.log());

    nothing_left(&dir, &marks).await;
    for path in of_others {
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine", "{path}");
        fs::remove_file(&path).unwrap();
    }
    up.idle().await;
    drop((call, client));
    up.stop().await;
}

#[tokio::test]
async fn a_worker_that_does_not_join_the_next_gateway_is_killed_for_that_and_replaced() {
    let up = Up::start().await;
    let (client, door) = (up.client().await, AdminDoor::at(up.ready["admin"].as_str().unwrap()));
    let before = up.look().await;
    let [stopped, other] = before.workers.as_slice() else { panic!("{before:?}") };
    signal(stopped.pid, Signal::SIGSTOP);
    signal(before.gateway.pid, Signal::SIGKILL);
    let (mut after, mut waits) = (None, 0);
    let apart = "{ id: apart, node_type: PassThrough, own_process: true }";
    until(REJOINING + SOON, async || {
        let status = door.status().await.map_err(|error| error.to_string())?;
        // It needs both of them.
        waits += usize::from(is_awaited(&client, &chain(&[PASS, apart])).await);
        let is_new = |worker: &WorkerStatus| worker.name == stopped.name && worker.pid != stopped.pid;
        let is_replaced = status.workers.iter().any(|worker| is_new(worker) && worker.state == "ready");
        let said = format!("{status:?}");
        after = Some(status);
        if is_replaced { Ok(()) } else { Err(said) }
    })
    .await;
    let after = after.unwrap();
    let loss = after.losses.iter().find(|loss| loss.pid == stopped.pid).expect("it is told");
    assert_eq!((&loss.worker, &loss.cause), (&stopped.name, &DeathCause::Hang.to_string()));
    assert!(after.workers.iter().any(|worker| worker.pid == other.pid), "who had joined was killed too");
    let log = up.process.log().join("\n");
    assert!(log.contains(&format!("(pid {}) has not joined the gateway in 10 s", stopped.pid)), "{log}");
    assert!(waits > 0, "nobody had to wait");
    // Both serve.
    let served = client.execute(&chain(&[PASS, apart]), [("pass", text("after"))]).await.unwrap();
    assert_eq!(words(&served.data_outputs["apart"]), "after");
    up.idle().await;
    drop(client);
    up.stop().await;
}

/// Whether who asks would have to wait for a worker; else it is served.
async fn is_awaited(client: &Client, manifest: &PipelineManifest) -> bool {
    match client.execute_request(impatient(manifest)).await {
        Ok(Ok(_served)) => false,
        Ok(Err(error)) => panic!("who asks is told: {error:?}"),
        // The connection is to the gateway before.
        Err(status) if status.details().is_empty() && status.code() == Code::Unavailable => false,
        Err(status) => {
            let told = fault(&error_in(&status));
            assert!(matches!(told, Fault::Starting { .. }), "who asks is told: {told}");
            true
        }
    }
}

/// A call that would rather be told than wait for a worker.
fn impatient(manifest: &PipelineManifest) -> ExecuteRequest {
    ExecuteRequest {
        manifest: Some(manifest.clone()),
        data_inputs: [("pass".to_owned(), text("x"))].into(),
        resource_limits: Some(ResourceLimits { max_start_ms: Some(0), ..ResourceLimits::default() }),
        ..ExecuteRequest::default()
    }
}

#[tokio::test]
async fn whom_a_launcher_starts_again_is_waited_for_also_by_a_gateway_that_has_never_seen_it() {
    let mut plant = Plant::of(Recipe { workers: 1, launches: true, ..Recipe::default() }).await;
    let apart = "{ id: apart, node_type: PassThrough, own_process: true }";
    let manifest = chain(&[PASS, apart]);
    // With one worker for two processes there are too few, and nobody is on the way.
    let error = plant.client().execute(&manifest, [("pass", text("x"))]).await.unwrap_err();
    assert!(matches!(fault(&error), Fault::Placement(PlacementError::NoOwnProcess { .. })), "{error:?}");
    plant.will_start("late");
    until(SOON, async || {
        let outcome = plant.client().execute_request(impatient(&manifest)).await;
        let Err(status) = outcome else { return Err(format!("{outcome:?}")) };
        let Fault::Starting { starting, .. } = fault(&error_in(&status)) else {
            return Err(status.to_string());
        };
        assert_eq!((starting.node.as_str(), starting.workers[0].name.as_str()), ("apart", "late"));
        Ok(())
    })
    .await;
    let client = plant.client().clone();
    let waits = tokio::spawn(async move { client.execute(&manifest, [("pass", text("x"))]).await });
    plant.launch("late", "test-worker", &[]);
    assert_eq!(words(&waits.await.unwrap().unwrap().data_outputs["apart"]), "x");
    plant.settle().await;
    plant.finish().await;
}

#[tokio::test]
async fn who_comes_while_the_only_worker_makes_way_for_its_successor_waits_and_is_served() {
    let mut plant = Plant::of(Recipe { workers: 1, launches: true, ..Recipe::default() }).await;
    let name = plant.workers()[0].name().to_owned();
    let (mut running, _session) = plant.client().stream(&chain(&[PASS])).await;
    plant.worker(&name).signal(Signal::SIGTERM);
    let is_leaving = async || {
        let state = plant.status().await.workers.first().map(|worker| worker.state.clone());
        if state.as_deref() == Some("leaving") { Ok(()) } else { Err(state) }
    };
    until(SOON, is_leaving).await;
    let come = |client: Client| {
        tokio::spawn(async move { client.execute(&chain(&[PASS]), [("pass", text("x"))]).await })
    };
    let while_it_leaves = come(plant.client().clone());
    running.send(0, text("still served")).await;
    assert_eq!(words(&running.result().await.data_outputs["pass"]), "still served");
    running.half_close();
    let _closed = running.rest().await.closed();
    assert!(plant.worker(&name).ended(SOON).await.status.success());
    let when_it_has_left = come(plant.client().clone());
    plant.launch(&name, "test-worker", &[]);
    for waits in [while_it_leaves, when_it_has_left] {
        assert_eq!(words(&waits.await.unwrap().unwrap().data_outputs["pass"]), "x");
    }
    plant.settle().await;
    plant.finish().await;
}

#[tokio::test]
async fn a_second_gateway_in_a_runtime_directory_is_refused_with_the_pid_of_the_first() {
    let plant = Plant::start().await;
    let dir = format!("--runtime-dir={}", plant.runtime_dir().display());
    let words = ["--grpc=127.0.0.1:0", "--admin=127.0.0.1:0", &dir];
    let second = Process::start("second", &program("remotemedia-gateway"), &words);
    assert_eq!(second.ended(START).await.status.code(), Some(IN_USE));
    let said = second.log().join("\n");
    let first = format!("is used by another gateway (pid {}): stop that one, or", plant.gateway().pid());
    assert!(said.contains(&first) && said.contains("--runtime-dir"), "{said}");
    assert_eq!(second.printed(), Vec::<String>::new());
    // The first one has not noticed.
    plant.client().execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn a_gateway_that_is_asked_to_stop_finishes_what_runs_and_tells_the_rest_when_to_come_back() {
    let settings = "drain_ms = 1500\n";
    let plant = Plant::of(Recipe { workers: 1, settings, ..Recipe::default() }).await;
    let client = plant.client();
    let (mut idle, _session) = client.stream(&chain(&[PASS])).await;
    let slow = chain(&["{ id: slow, node_type: Slow, params: { ms: 800 } }"]);
    let (mut busy, _session) = client.stream(&slow).await;
    busy.send(0, text("under way")).await;
    let (another, manifest) = (client.clone(), slow.clone());
    let unary = tokio::spawn(async move { another.execute(&manifest, [("slow", text("in time"))]).await });
    until(SOON, async || {
        let sessions = plant.status().await.sessions.len();
        if sessions == 3 { Ok(()) } else { Err(sessions) }
    })
    .await;

    let asked = Instant::now();
    plant.gateway().signal(Signal::SIGTERM);
    nothing_is_begun(plant.address()).await;
    println!("who came later was refused, with the reason, within {:?}", asked.elapsed());
    assert_eq!(words(&unary.await.unwrap().unwrap().data_outputs["slow"]), "in time");
    assert_eq!(words(&busy.result().await.data_outputs["slow"]), "under way");
    for call in [&mut idle, &mut busy] {
        let told = call.next().await.unwrap().unwrap_err();
        assert_tells_when_to_come_back(&told);
        assert!(call.next().await.is_none(), "something followed the status");
    }
    let ended = plant.gateway().ended(START).await;
    let took = asked.elapsed();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", plant.gateway().log());
    assert!((1_400..4_000).contains(&took.as_millis()), "the drain took {took:?}");
    for worker in plant.workers() {
        assert!(worker.ending().is_none(), "its worker has gone with it");
        worker.stop(START).await;
    }
    let left: Vec<_> =
        fs::read_dir(plant.runtime_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["settings.toml"]);
}

/// Clients that come while the gateway drains are told so, and probes why.
async fn nothing_is_begun(address: &str) {
    let client = Client::connect(address).await;
    let mut health = HealthClient::new(client.channel());
    until(SOON, async || {
        let answer =
            health.check(HealthCheckRequest::default()).await.map_err(|status| status.to_string())?;
        let reason =
            answer.metadata().get("x-health-reason").map(|reason| reason.to_str().unwrap().to_owned());
        if answer.get_ref().status() == ServingStatus::NotServing
            && reason.as_deref() == Some("shutting down")
        {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    let client = Client::connect(address).await;
    let request = ExecuteRequest {
        manifest: Some(chain(&[PASS])),
        data_inputs: [("pass".to_owned(), text("too late"))].into(),
        ..ExecuteRequest::default()
    };
    assert_tells_when_to_come_back(&client.execute_request(request).await.unwrap_err());
}

fn assert_tells_when_to_come_back(status: &Refusal) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let Fault::Unavailable { state, .. } = fault(&error_in(status)) else { panic!("{status}") };
    assert_eq!(state, Unavailability::ShuttingDown);
    let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(retry, Duration::from_secs(1));
}

/// Another gateway, with the same workers as before, all of them ready.
fn is_whole(now: &Status, before: &Status) -> bool {
    let ready = |status: &Status| {
        let ready = status.workers.iter().filter(|worker| worker.state == "ready");
        let mut ready: Vec<_> = ready.map(|worker| (worker.name.clone(), worker.pid)).collect();
        ready.sort();
        ready
    };
    now.gateway.pid != before.gateway.pid && ready(now) == ready(before)
}

/// Waits until no file of a gateway's domains is left.
async fn nothing_left(dir: &str, marks: &[String]) {
    until(SOON, async || {
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let all = names(Path::new(dir)).into_iter().chain(names(Path::new("/dev/shm")));
        let left: Vec<_> = all.filter(|name| marks.iter().any(|mark| name.contains(mark.as_str()))).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}
