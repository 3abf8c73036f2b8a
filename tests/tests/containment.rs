//! What the death of a worker does: to its own sessions, at once and by name; to everybody else, nothing.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_core::fault::{DeathCause, Fault, WorkerLost};
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{DataBuffer, ErrorResponse, ErrorType, ResourceLimits};
use remotemedia_tests::client::{Call, context, fault};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{RESAMPLE, chain, text, words};
use remotemedia_tests::plant::Process;
use remotemedia_tests::{Plant, Recipe, audio};

/// Forwards what comes. Its work is not done again when its worker dies.
const PASS: &str = "{ id: pass, node_type: Fault, params: { how: fail, at: 1000000 } }";

/// From the death of a worker to the error at the client.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Pieces of 10 ms at 44.1 kHz.
fn pieces() -> Vec<DataBuffer> {
    audio::tone(44_100, 44_100).chunks(441).map(|piece| audio::mono(44_100, piece)).collect()
}

/// A session, and the worker that its only node runs in.
async fn session<'a>(plant: &'a Plant, manifest_node: &str) -> (Call, &'a Process) {
    let (call, session) = plant.client().stream(&chain(&[manifest_node])).await;
    let status = plant.status().await;
    let found = status.sessions.into_iter().find(|other| other.id == session).expect("the session is listed");
    let [worker] = found.workers.as_slice() else { panic!("one node runs in one worker") };
    (call, plant.worker(worker))
}

/// The error that ends a call, and when it came; results and metrics before it are passed over.
async fn error(call: &mut Call) -> (ErrorResponse, Instant) {
    loop {
        match call.next().await {
            Some(Ok(Response::Result(_) | Response::Metrics(_))) => {}
            Some(Ok(Response::Error(error))) => {
                let at = Instant::now();
                assert!(call.next().await.is_none(), "something followed the error");
                return (error, at);
            }
            other => panic!("expected an error, got {other:?}"),
        }
    }
}

fn assert_lost(error: &ErrorResponse, node: &str, worker: &Process, cause: DeathCause) {
    assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::NodeExecution, node));
    let Fault::Worker(lost) = fault(error) else { panic!("{error:?}") };
    let pid = i32::try_from(worker.pid()).unwrap();
    let (node, worker) = (node.to_owned(), worker.name().to_owned());
    // Nobody launched it who tells.
    let last_lines = Vec::new();
    assert_eq!(lost, WorkerLost { node, worker, pid, cause, restarts: 0, last_lines, replays: 0 });
    assert_eq!(context(error)["stream_error_type"], "STREAM_ERROR_EXECUTION");
}

#[tokio::test]
async fn a_killed_worker_ends_its_own_sessions_within_100_ms_by_name_and_no_other() {
    let mut plant = Plant::start().await;
    plant.expect("worker_died");
    let (undisturbed, _worker) = session(&plant, RESAMPLE).await;
    let undisturbed: Vec<DataBuffer> =
        undisturbed.run(pieces()).await.closed().of("resample").cloned().collect();
    plant.idle_within(remotemedia_tests::plant::RELEASE).await;

    let (mut first, victim) = session(&plant, PASS).await;
    let (mut other, survivor) = session(&plant, RESAMPLE).await;
    let (mut second, same) = session(&plant, PASS).await;
    assert_ne!(victim.pid(), survivor.pid());
    assert_eq!(victim.pid(), same.pid());

    let sender = other.sender();
    let mut outputs = Vec::new();
    let (half, rest) = (pieces()[..50].to_vec(), pieces()[50..].to_vec());
    for (sequence, piece) in (0..).zip(half) {
        other.send(sequence, piece).await;
        outputs.extend(other.result().await.data_outputs.remove("resample"));
    }
    for call in [&mut first, &mut second] {
        call.send(0, text("x".repeat(500_000))).await;
        assert_eq!(call.result().await.sequence, 0);
        // Under way, or about to be, when it dies.
        call.send(1, text("y".repeat(500_000))).await;
    }
    let killed = Instant::now();
    victim.signal(Signal::SIGKILL);
    let ((first, first_at), (second, second_at)) = tokio::join!(error(&mut first), error(&mut second));
    for (error, at) in [(&first, first_at), (&second, second_at)] {
        assert_lost(error, "pass", victim, DeathCause::Signal(9));
        assert!(error.message.contains("SIGKILL"), "{}", error.message);
        let took = at - killed;
        println!("told {took:?} after the kill");
        assert!(took < AT_ONCE, "told only {took:?} after the kill");
    }
    assert_eq!(victim.killed_by(), 9);

    for (sequence, piece) in (50..).zip(rest) {
        other.send(sequence, piece).await;
        outputs.extend(other.result().await.data_outputs.remove("resample"));
    }
    other.half_close();
    drop(sender);
    outputs.extend(other.rest().await.closed().of("resample").cloned());
    assert_eq!(joined(&outputs), joined(&undisturbed), "the other session is not what it was undisturbed");

    plant.start_worker().await;
    let (one, another) = (session(&plant, PASS).await, session(&plant, PASS).await);
    assert_ne!(one.1.pid(), another.1.pid(), "the new worker is given nothing");
    for (call, _worker) in [one, another] {
        let answers = call.run([text("again")]).await.closed();
        assert_eq!(words(&answers.results[0].data_outputs["pass"]), "again");
    }
    plant.finish().await;
}

#[tokio::test]
async fn a_worker_that_ends_by_its_own_node_is_told_with_that_cause() {
    for (how, cause) in [("abort", DeathCause::Signal(6)), ("exit", DeathCause::Exit(0))] {
        let mut plant = Plant::start().await;
        plant.expect("worker_died");
        let bad = format!("{{ id: bad, node_type: Fault, params: {{ how: {how}, at: 3 }} }}");
        let (mut call, worker) = session(&plant, &bad).await;
        for sequence in 0..3 {
            call.send(sequence, text("fine")).await;
            assert_eq!(call.result().await.sequence, sequence);
        }
        call.send(3, text("the end")).await;
        let (error, _at) = error(&mut call).await;
        assert_lost(&error, "bad", worker, cause);
        drop(call);

        let pass = plant.client().execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
        assert_eq!(words(&pass.data_outputs["pass"]), "hello");
        plant.start_worker().await;
        plant.finish().await;
    }
}

#[tokio::test]
async fn a_death_is_told_while_a_grandchild_keeps_all_open_that_the_dead_had() {
    let recipe = Recipe { workers: 1, python: &["brood"], ..Recipe::default() };
    let mut plant = Plant::of(recipe).await;
    plant.expect("worker_died");
    let (mut call, worker) = session(&plant, "{ id: brood, node_type: Brood }").await;
    call.send(0, text("fork")).await;
    let heir = Heir(words(&call.result().await.data_outputs["brood"]).parse().unwrap());
    let sockets = sockets_of(worker.pid());
    assert!(!sockets.is_empty() && sockets.is_subset(&sockets_of(heir.0)), "{sockets:?}");
    worker.signal(Signal::SIGKILL);
    let (error, at) = error(&mut call).await;
    assert!(sockets.is_subset(&sockets_of(heir.0)), "the grandchild has let go of the connection");
    let dead = until_dead(worker).await;
    assert_lost(&error, "brood", worker, DeathCause::Signal(9));
    assert!(at.saturating_duration_since(dead) < AT_ONCE, "{:?}", at.duration_since(dead));
    // Its place can be another's.
    plant.start_python("brood").await;
    drop((heir, call));
    plant.finish().await;
}

/// The child of a child, in a process group of its own. Dropped, it is killed.
struct Heir(u32);

impl Drop for Heir {
    fn drop(&mut self) {
        let _gone = kill(Pid::from_raw(self.0.cast_signed()), Signal::SIGKILL);
    }
}

fn sockets_of(pid: u32) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    let open = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    open.filter(|file| file.to_string_lossy().starts_with("socket:")).collect()
}

/// When it was reaped: what it wrote to is still open.
async fn until_dead(worker: &Process) -> Instant {
    until(Duration::from_secs(5), async || worker.ending().map(drop).ok_or("it lives")).await;
    worker.ending().unwrap().at
}

#[tokio::test]
async fn a_worker_without_file_descriptors_serves_until_it_is_given_some_and_then_its_sessions_are_told() {
    let mut plant = Plant::of(Recipe { workers: 1, ..Recipe::default() }).await;
    // It ends its connection, for it has lost what came on it, and cannot make another.
    ["worker_condemned", "worker_died"].into_iter().for_each(|event| plant.expect(event));
    let (mut call, _worker) =
        session(&plant, "{ id: doom, node_type: Doom, params: { fault: descriptors } }").await;
    for sequence in 0..3 {
        call.send(sequence, text("x")).await;
        assert_eq!(words(&call.result().await.data_outputs["doom"]), "x");
    }
    let full = plant.workers()[0].name().to_owned();
    // It is told of the newcomer with descriptors, and cannot take them.
    plant.launch("newcomer", "test-worker", &[]);
    let (error, _at) = error(&mut call).await;
    assert_lost(&error, "doom", plant.worker(&full), DeathCause::Protocol);
    let said = plant.worker(&full).log().join("\n");
    assert!(said.contains("within RLIMIT_NOFILE"), "{said}");
    plant.worker(&full).ended(Duration::from_secs(5)).await;
    plant.settle().await;
    drop(call);
    plant.finish().await;
}

#[tokio::test]
async fn the_death_of_one_of_two_workers_of_a_session_frees_what_the_other_held() {
    let mut plant = Plant::start().await;
    plant.expect("worker_died");
    let slow = "{ id: slow, node_type: Slow, params: { ms: 20 }, own_process: true }";
    for place in 0..2 {
        let (mut call, session) = plant.client().stream(&chain(&[PASS, slow])).await;
        let status = plant.status().await;
        let found = status.sessions.into_iter().find(|other| other.id == session).unwrap();
        let victim = plant.worker(&found.workers[place]);
        for sequence in 0..8 {
            call.send(sequence, audio::mono(48_000, &[0.5; 48_000])).await;
        }
        assert_eq!(call.result().await.sequence, 0);
        victim.signal(Signal::SIGKILL);
        let (error, _at) = error(&mut call).await;
        let Fault::Worker(lost) = fault(&error) else { panic!("{error:?}") };
        assert_eq!((lost.worker.as_str(), lost.cause), (victim.name(), DeathCause::Signal(9)));
        plant.idle_within(remotemedia_tests::plant::RELEASE).await;
        plant.start_worker().await;
    }
    plant.finish().await;
}

#[tokio::test]
async fn without_any_worker_the_gateway_lives_and_serves_the_next_one() {
    let mut plant = Plant::start().await;
    plant.expect("worker_died");
    for worker in plant.workers() {
        worker.signal(Signal::SIGKILL);
        worker.ended(Duration::from_secs(5)).await;
    }
    until(Duration::from_secs(5), async || {
        let workers = plant.status().await.workers;
        if workers.is_empty() { Ok(()) } else { Err(workers) }
    })
    .await;
    let request = remotemedia_protos::v1::ExecuteRequest {
        manifest: Some(chain(&[PASS])),
        data_inputs: [("pass".to_owned(), text("hello"))].into(),
        ..Default::default()
    };
    let status = plant.client().execute_request(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    plant.start_worker().await;
    plant.client().execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn who_comes_to_the_successor_of_a_dead_gateway_waits_for_its_workers_and_is_not_told_that_there_is_no_such_node()
 {
    let stock = Recipe { workers: 1, worker: "remotemedia-worker", ..Recipe::default() };
    let mut plant = Plant::of(stock).await;
    plant.launch("late", "test-worker", &[]);
    plant.ready().await;
    plant.kill_gateway().await;
    plant.worker("late").signal(Signal::SIGSTOP);
    plant.start_gateway().await;
    until(Duration::from_secs(5), async || {
        let workers = plant.status().await.workers;
        if workers.iter().any(|worker| worker.state == "ready") { Ok(()) } else { Err(workers) }
    })
    .await;
    let manifest = chain(&["{ id: multi, node_type: Multi, params: { outputs: 1 } }"]);
    let impatient = remotemedia_protos::v1::ExecuteRequest {
        manifest: Some(manifest.clone()),
        data_inputs: [("multi".to_owned(), text("hello"))].into(),
        resource_limits: Some(ResourceLimits { max_start_ms: Some(0), ..ResourceLimits::default() }),
        ..Default::default()
    };
    let status = plant.client().execute_request(impatient).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    let client = plant.client().clone();
    let waiting = tokio::spawn(async move { client.execute(&manifest, [("multi", text("hello"))]).await });
    plant.worker("late").signal(Signal::SIGCONT);
    waiting.await.unwrap().unwrap();
    plant.ready().await;
    plant.settle().await;
    plant.finish().await;
}

fn joined(buffers: &[DataBuffer]) -> Vec<u32> {
    buffers.iter().flat_map(audio::samples).map(f32::to_bits).collect()
}
