//! Workers of Python that come and go under a gateway that serves: loading, leaving, several of a kind, started again.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_cli::admin::WorkerStatus;
use remotemedia_core::Fault;
use remotemedia_core::fault::PlacementError;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{ExecuteRequest, PipelineManifest, ResourceLimits, StreamInit};
use remotemedia_tests::client::{error_in, fault};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::START;
use remotemedia_tests::{Plant, Recipe};
use tonic::Code;

async fn plant(python: &'static [&'static str]) -> Plant {
    Plant::of(Recipe { workers: 1, python, ..Recipe::default() }).await
}

#[tokio::test]
async fn a_session_hears_what_it_waits_for_and_opens_when_the_worker_has_loaded() {
    let mut plant = plant(&[]).await;
    let manifest = chain(&["{ id: slow, node_type: Sluggish }"]);
    let name = plant.launch_python("slow", &[]);
    let loading = until_state(&plant, &name, "loading", "setting up Sluggish").await;
    assert_eq!(loading.nodes, ["PyPass", "Sluggish"]);
    let types = offered(&plant).await;
    assert!(!types.contains(&"Sluggish".to_owned()), "it cannot be run yet: {types:?}");

    let mut call = plant.client().call().await;
    call.say(Request::Init(patient(&manifest, 30_000))).await;
    let Some(Ok(Response::Status(status))) = call.next().await else { panic!("something else first") };
    assert_eq!((status.node_id.as_str(), status.node_type.as_str()), ("slow", "Sluggish"));
    assert_eq!(status.workers.len(), 1);
    assert_eq!((&status.workers[0].name, status.workers[0].step.as_str()), (&name, "setting up Sluggish"));
    let first = status.waited_ms;
    let Some(Ok(Response::Status(status))) = call.next().await else { panic!("something else next") };
    assert!((2_000..4_000).contains(&(status.waited_ms - first)), "told every 2 s: {status:?}");

    fs::write(plant.runtime_dir().join("loaded"), "").unwrap();
    loop {
        match call.next().await {
            Some(Ok(Response::Status(_))) => {}
            Some(Ok(Response::Ready(_))) => break,
            other => panic!("neither status nor ready: {other:?}"),
        }
    }
    call.send(0, text("at last")).await;
    call.half_close();
    let answers = call.rest().await.closed();
    assert_eq!(answers.of("slow").map(words).collect::<Vec<_>>(), ["at last"]);
    assert!(offered(&plant).await.contains(&"Sluggish".to_owned()));
    plant.settle().await;
    fs::remove_file(plant.runtime_dir().join("loaded")).unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn who_does_not_wait_and_who_has_waited_long_enough_hears_who_is_loading() {
    let mut plant = plant(&[]).await;
    let manifest = chain(&["{ id: slow, node_type: Sluggish }"]);
    let name = plant.launch_python("slow", &[]);
    until_state(&plant, &name, "loading", "setting up Sluggish").await;
    for (max_start_ms, at_least) in [(0, 0), (300, 300)] {
        let request = ExecuteRequest {
            manifest: Some(manifest.clone()),
            data_inputs: [("slow".to_owned(), text("x"))].into(),
            resource_limits: Some(limits(max_start_ms)),
            ..ExecuteRequest::default()
        };
        let status = plant.client().execute_request(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let Fault::Starting { starting, .. } = fault(&error_in(&status)) else { panic!("{status}") };
        assert!(starting.waited.as_millis() >= at_least, "{starting:?}");
        assert_eq!((starting.node.as_str(), starting.workers[0].name.as_str()), ("slow", name.as_str()));
    }
    let unknown = chain(&["{ id: slow, node_type: Sluggishly }"]);
    let error = plant.client().execute(&unknown, [("slow", text("x"))]).await.unwrap_err();
    let Fault::Placement(PlacementError::UnknownType { .. }) = fault(&error) else { panic!("{error:?}") };
    fs::write(plant.runtime_dir().join("loaded"), "").unwrap();
    plant.settle().await;
    fs::remove_file(plant.runtime_dir().join("loaded")).unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn a_worker_that_leaves_ends_its_sessions_first_and_gets_no_others() {
    let plant = plant(&["working"]).await;
    let manifest = chain(&["{ id: later, node_type: Later }"]);
    let (mut call, _session) = plant.client().stream(&manifest).await;
    let worker = plant.worker("python-2");
    worker.signal(Signal::SIGTERM);
    until_state(&plant, "python-2", "leaving", "").await;
    let error = plant.client().execute(&manifest, [("later", text("x"))]).await.unwrap_err();
    assert!(matches!(fault(&error), Fault::Placement(PlacementError::UnknownType { .. })), "{error:?}");
    for number in 0..20 {
        call.send(number, text("letters")).await;
        assert!(call.result().await.data_outputs.contains_key("later"));
    }
    assert!(worker.ending().is_none(), "it has a session");
    call.half_close();
    assert_eq!(call.rest().await.closed().results.len(), 0, "all was answered before");
    let ending = worker.ended(START).await;
    assert_eq!(ending.status.code(), Some(0), "{:?}", worker.log());
    // Nobody has died: the plant holds the logs to that.
    plant.finish().await;
}

#[tokio::test]
async fn sessions_spread_over_the_workers_that_offer_a_type() {
    let mut plant = plant(&["working"]).await;
    plant.start_python("working").await;
    let manifest = chain(&["{ id: later, node_type: Later }"]);
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(plant.client().stream(&manifest).await.0);
    }
    let status = plant.status().await;
    let mut sessions: Vec<&str> = status.sessions.iter().map(|session| session.workers[0].as_str()).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, ["python-2", "python-2", "python-3", "python-3"]);
    for mut call in calls {
        call.half_close();
        assert!(call.rest().await.closed().results.is_empty());
    }
    plant.finish().await;
}

#[tokio::test]
async fn a_type_that_means_something_else_elsewhere_is_refused_with_both_schemas() {
    let mut plant = plant(&["working"]).await;
    plant.expect("worker_refused");
    plant.expect("worker_died");
    let other = plant.python_process("other", &["otherwise"]);
    let ending = other.ended(START).await;
    assert_eq!(ending.status.code(), Some(3));
    let said = other.log().join("\n");
    for part in ["'Gain' is offered by worker 'python-2'", "exclamations", "factor"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let gain = chain(&["{ id: gain, node_type: Gain, params: { factor: 1 } }"]);
    let input = remotemedia_tests::audio::mono(16_000, &[0.5; 160]);
    plant.client().execute(&gain, [("gain", input)]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn replicas_are_processes_that_are_started_again() {
    let mut plant = plant(&[]).await;
    plant.expect("worker_died");
    let supervisor = plant.python_process("replica", &["passing", "--replicas=2"]);
    let first = until_state(&plant, "replica-1", "ready", "").await;
    until_state(&plant, "replica-2", "ready", "").await;
    kill(pid(&first), Signal::SIGKILL).unwrap();
    until(START, async || match worker(&plant, "replica-1").await {
        Some(second) if second.pid != first.pid && second.state == "ready" => Ok(()),
        other => Err((other, supervisor.log())),
    })
    .await;
    supervisor.stop(START).await;
    until(START, async || {
        let workers = plant.status().await.workers;
        if workers.len() == 1 { Ok(()) } else { Err(workers) }
    })
    .await;
    plant.finish().await;
}

#[tokio::test]
async fn a_supervisor_that_is_killed_leaves_no_worker() {
    let plant = plant(&[]).await;
    let supervisor = plant.python_process("orphan", &["passing", "--replicas=2"]);
    for name in ["orphan-1", "orphan-2"] {
        until_state(&plant, name, "ready", "").await;
    }
    supervisor.signal(Signal::SIGKILL);
    until(START, async || {
        let workers = plant.status().await.workers;
        if workers.len() == 1 { Ok(()) } else { Err(workers) }
    })
    .await;
    supervisor.ended(START).await;
    plant.finish().await;
}

#[tokio::test]
async fn a_changed_source_is_loaded_and_a_broken_one_waits_to_be_mended() {
    let plant = plant(&[]).await;
    let module = plant.runtime_dir().join("edited.py");
    let source = |word: &str| {
        format!(
            "from remotemedia import Node, Text\n\n\nclass Edited(Node):\n    def process(self, text: Text) -> str:\n        return '{word}'\n"
        )
    };
    fs::write(&module, source("one")).unwrap();
    let worker = plant.python_process("edited", &["edited", "--reload"]);
    let says = async |word: &str| {
        until(START, async || {
            let manifest = chain(&["{ id: edited, node_type: Edited }"]);
            match plant.client().execute(&manifest, [("edited", text("?"))]).await {
                Ok(result) if words(&result.data_outputs["edited"]) == word => Ok(()),
                other => Err((other, worker.log())),
            }
        })
        .await;
    };
    says("one").await;
    fs::write(&module, source("two")).unwrap();
    says("two").await;
    fs::write(&module, "class Edited(:\n").unwrap();
    until(START, async || {
        let log = worker.log();
        if log.iter().any(|line| line.contains("started again when a file has changed")) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert!(worker.log().iter().any(|line| line.contains("SyntaxError")), "{:#?}", worker.log());
    fs::write(&module, source("three, which is longer")).unwrap();
    says("three, which is longer").await;
    worker.stop(START).await;
    fs::remove_file(&module).unwrap();
    until(START, async || {
        let workers = plant.status().await.workers;
        if workers.len() == 1 { Ok(()) } else { Err(workers) }
    })
    .await;
    plant.finish().await;
}

async fn offered(plant: &Plant) -> Vec<String> {
    plant.client().version("v1").await.version_info.expect("told").supported_node_types
}

fn patient(manifest: &PipelineManifest, max_start_ms: u64) -> StreamInit {
    StreamInit {
        manifest: Some(manifest.clone()),
        resource_limits: Some(limits(max_start_ms)),
        ..StreamInit::default()
    }
}

fn limits(max_start_ms: u64) -> ResourceLimits {
    ResourceLimits { max_start_ms: Some(max_start_ms), ..ResourceLimits::default() }
}

async fn worker(plant: &Plant, name: &str) -> Option<WorkerStatus> {
    plant.status().await.workers.into_iter().find(|worker| worker.name == name)
}

/// Waits until a worker is so far, and gives what is told of it.
async fn until_state(plant: &Plant, name: &str, state: &str, step: &str) -> WorkerStatus {
    let mut found = None;
    until(START, async || match worker(plant, name).await {
        Some(worker) if worker.state == state && worker.step.as_deref().unwrap_or_default() == step => {
            found = Some(worker);
            Ok(())
        }
        other => Err((other, plant.log_of(name))),
    })
    .await;
    found.expect("waited for")
}

fn pid(worker: &WorkerStatus) -> Pid {
    Pid::from_raw(i32::try_from(worker.pid).expect("a process id"))
}
