//! Nodes of Python, in processes of their own: between Rust nodes, with frames where they lie, and dying alone.

use std::fs;

use nix::sys::signal::Signal;
use remotemedia_core::Fault;
use remotemedia_core::fault::DeathCause;
use remotemedia_protos::v1::{ErrorResponse, ErrorType, NodeMetrics, ResourceLimits, StreamInit};
use remotemedia_tests::client::{context, fault};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, connection, document, json, text, unconnected, words};
use remotemedia_tests::plant::{RELEASE, START};
use remotemedia_tests::{Plant, Recipe, audio};

const PASS: &str = "{ id: pass, node_type: PassThrough }";

async fn plant(python: &'static [&'static str]) -> Plant {
    Plant::of(Recipe { workers: 1, python, ..Recipe::default() }).await
}

#[tokio::test]
async fn a_python_node_between_rust_nodes_passes_every_kind_on_as_it_came() {
    let plant = plant(&["working"]).await;
    let manifest =
        chain(&[PASS, "{ id: python, node_type: PyPass }", "{ id: last, node_type: PassThrough }"]);
    let pieces = [
        audio::mono(16_000, &audio::tone(16_000, 1_600)),
        text("grüß"),
        text(""),
        json("{ \"as\" : [\"it\", \"was\", 1e3] }"),
    ];
    for piece in pieces {
        let result = plant.client().execute(&manifest, [("pass", piece.clone())]).await.unwrap();
        assert_eq!(result.data_outputs["last"], piece);
        let node = &result.metrics.unwrap().node_metrics["python"];
        assert_eq!(custom(node)["copied_bytes"], 0, "{node:?}");
    }
    let (call, _session) = plant.client().stream(&manifest).await;
    let answers = call.run((0..200).map(|number| text(number.to_string()))).await.closed();
    let came: Vec<&str> = answers.of("last").map(words).collect();
    assert_eq!(came, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    plant.finish().await;
}

#[tokio::test]
async fn a_large_frame_is_not_copied_on_its_way_through_python_and_what_is_copied_is_counted() {
    let plant = plant(&["working"]).await;
    let samples = audio::tone(48_000, 1 << 20);
    let copied = async |node: &str| {
        let input = [("", audio::mono(48_000, &samples))];
        let mut result = plant.client().execute(&chain(&[node]), input).await.unwrap();
        let node = &result.metrics.unwrap().node_metrics["node"];
        let output = result.data_outputs.remove("node").unwrap();
        (audio::samples(&output), custom(node)["copied_bytes"].as_u64().unwrap())
    };
    let (louder, bytes) = copied("{ id: node, node_type: Gain, params: { factor: 2 } }").await;
    assert!(louder.iter().zip(&samples).all(|(louder, sample)| *louder == 2.0 * sample));
    assert_eq!(bytes, 0, "into memory that was lent for it");
    let (tail, bytes) = copied("{ id: node, node_type: Tail }").await;
    assert_eq!((tail.as_slice(), bytes), (&samples[1 << 19..], 0), "a slice of the input");
    let (_, bytes) = copied("{ id: node, node_type: Gain, params: { factor: 2, memory: own } }").await;
    assert_eq!(bytes, 4 << 20, "an array of its own");
    plant.finish().await;
}

#[tokio::test]
async fn a_node_that_keeps_too_many_views_is_told_so_and_others_are_served() {
    let plant = plant(&["working"]).await;
    let limits = ResourceLimits { max_memory_bytes: 1_000_000, ..ResourceLimits::default() };
    let manifest = Some(chain(&["{ id: hoard, node_type: Hoard }"]));
    let init = StreamInit { manifest, resource_limits: Some(limits), ..StreamInit::default() };
    let (mut call, _session) = plant.client().stream_as(init).await;
    let second = || audio::mono(16_000, &[0.25; 16_000]);
    for number in 0..15 {
        call.send(number, second()).await;
        let kept = call.result().await;
        assert_eq!(words(&kept.data_outputs["hoard"]), (number + 1).to_string());
    }
    // While it keeps them, its process serves others, and as much as they ask for.
    let gain = chain(&["{ id: gain, node_type: Gain, params: { factor: 1 } }"]);
    let large = audio::mono(48_000, &[0.5; 750_000]);
    for _ in 0..10 {
        let outputs = plant.client().execute(&gain, [("gain", large.clone())]).await.unwrap().data_outputs;
        assert_eq!(outputs["gain"], large);
    }
    for number in 15..17 {
        call.send(number, second()).await;
    }
    let answers = call.rest().await;
    let kept: Vec<&str> = answers.of("hoard").map(words).collect();
    // A second of audio has 64 000 bytes, so the sixteenth is one too many, and is told at the seventeenth.
    assert_eq!(kept, ["16"]);
    let error = answers.error.unwrap();
    assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::NodeExecution, "hoard"));
    let says = "what the node keeps of its earlier inputs is 1024000 bytes, over the limit of 1000000 bytes: keep copies";
    assert!(error.message.contains(says), "{}", error.message);
    // All that was kept is given back: the plant holds the pools to that.
    plant.finish().await;
}

#[tokio::test]
async fn outputs_of_a_generator_leave_as_they_are_made_and_a_flush_is_heard() {
    let plant = plant(&["working"]).await;
    let go = plant.runtime_dir().join("go");
    let (mut call, _session) = plant.client().stream(&chain(&["{ id: paced, node_type: Paced }"])).await;
    call.send(0, text(format!("{} one two three", go.display()))).await;
    let first = call.result().await;
    assert_eq!(words(&first.data_outputs["paced"]), "one", "the second waits for what comes of the first");
    fs::write(&go, "").unwrap();
    call.half_close();
    let answers = call.rest().await.closed();
    assert_eq!(answers.of("paced").map(words).collect::<Vec<_>>(), ["two", "three", "over"]);
    fs::remove_file(&go).unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn asynchronous_nodes_and_named_inputs_work_through_processes() {
    let plant = plant(&["working"]).await;
    let later = chain(&["{ id: later, node_type: Later }"]);
    let result = plant.client().execute(&later, [("later", text("seven"))]).await.unwrap();
    assert_eq!(document(&result.data_outputs["later"])["letters"], 5);
    let mut mix = unconnected(&[
        "{ id: l, node_type: PassThrough }",
        "{ id: r, node_type: PyPass }",
        "{ id: mix, node_type: Mix }",
    ]);
    mix.connections = vec![connection("l", "mix.left"), connection("r", "mix.right")];
    let result = plant.client().execute(&mix, [("l", text("a")), ("r", text("b"))]).await.unwrap();
    assert_eq!(words(&result.data_outputs["mix"]), "a+b");
    plant.finish().await;
}

#[tokio::test]
async fn parameters_of_a_class_are_checked_before_its_process_is_asked() {
    let plant = plant(&["working"]).await;
    for (params, says) in [
        ("", "parameter 'factor' is missing: allowed is number, 0 to 16"),
        ("factor: 17", "parameter 'factor' is 17: allowed is number, 0 to 16"),
        ("factor: 1, memory: lant", "allowed is lent, own"),
        ("factr: 1", "did you mean 'factor'?"),
    ] {
        let node = format!("{{ id: gain, node_type: Gain, params: {{ {params} }} }}");
        let error = plant.client().execute(&chain(&[&node]), [("gain", text("x"))]).await.unwrap_err();
        assert_eq!(error.error_type(), ErrorType::Validation);
        assert!(error.message.contains(says), "{}", error.message);
    }
    let offered = plant.client().version("v1").await.version_info.unwrap().supported_node_types;
    assert!(offered.iter().any(|name| name == "Gain"), "{offered:?}");
    plant.finish().await;
}

#[tokio::test]
async fn an_exception_is_told_with_its_traceback_and_harms_nobody() {
    let plant = plant(&["failing"]).await;
    let (mut other, _session) = plant.client().stream(&chain(&["{ id: other, node_type: PyPass }"])).await;
    for (word, says, trace) in [
        (
            "raise",
            "LookupError: told to fail",
            &["ZeroDivisionError: the cause", "failing.py", "self.deeper()"][..],
        ),
        ("system exit", "SystemExit: told to leave", &["failing.py"][..]),
        ("type", "AttributeError", &["failing.py", "dtype"][..0]),
        ("number", "a node gives Audio, Video", &[][..]),
    ] {
        let error = bad(&plant, word).await;
        let said = &error.message;
        assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::NodeExecution, "bad"));
        assert!(said.contains(says), "{word}: {said}");
        trace
            .iter()
            .for_each(|line| assert!(error.stack_trace.contains(line), "{line}: {}", error.stack_trace));
    }
    let unmade = chain(&["{ id: unmade, node_type: Unmade, params: { reason: no model } }"]);
    let error = plant.client().execute(&unmade, [("unmade", text("x"))]).await.unwrap_err();
    assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::NodeExecution, "unmade"));
    assert!(error.message.contains("OSError: no model"), "{}", error.message);
    assert!(error.stack_trace.contains("failing.py"), "{}", error.stack_trace);
    other.send(0, text("untouched")).await;
    assert_eq!(words(&other.result().await.data_outputs["other"]), "untouched");
    other.half_close();
    let _answers = other.rest().await.closed();
    plant.finish().await;
}

#[tokio::test]
async fn a_python_process_that_dies_takes_only_its_own_sessions_with_it() {
    let mut plant = plant(&["failing"]).await;
    plant.expect("worker_died");
    // Its last words, and the Python lines that a segmentation fault came from.
    plant.expect("[python-");
    for (word, cause) in [
        ("exit", DeathCause::Exit(7)),
        ("segv", DeathCause::Signal(Signal::SIGSEGV as i32)),
        ("kill", DeathCause::Signal(Signal::SIGKILL as i32)),
    ] {
        let (mut other, _session) = plant.client().stream(&chain(&[PASS])).await;
        let error = bad(&plant, word).await;
        let Fault::Worker(lost) = fault(&error) else { panic!("{word}: {}", error.message) };
        assert_eq!((lost.node.as_str(), lost.cause), ("bad", cause), "{word}");
        assert!(lost.worker.starts_with("python-"), "{word}: {}", lost.worker);
        other.send(0, text("untouched")).await;
        assert_eq!(words(&other.result().await.data_outputs["pass"]), "untouched");
        other.half_close();
        let _answers = other.rest().await.closed();
        plant.workers().last().unwrap().ended(START).await;
        plant.start_python("failing").await;
        let served = chain(&["{ id: bad, node_type: Bad }"]);
        let result = plant.client().execute(&served, [("bad", text("fine"))]).await.unwrap();
        assert_eq!(words(&result.data_outputs["bad"]), "fine");
    }
    plant.finish().await;
}

#[tokio::test]
async fn a_worker_that_joins_is_usable_at_once_and_one_that_is_asked_to_stop_goes() {
    let mut plant = plant(&[]).await;
    let manifest = chain(&["{ id: later, node_type: Later }"]);
    let error = plant.client().execute(&manifest, [("later", text("x"))]).await.unwrap_err();
    assert!(error.message.contains("'Later', which no worker offers"), "{}", error.message);
    plant.start_python("working").await;
    plant.client().execute(&manifest, [("later", text("x"))]).await.unwrap();
    let worker = plant.workers().last().unwrap();
    worker.stop(START).await;
    assert_eq!(worker.ending().unwrap().status.code(), Some(0));
    until(RELEASE, async || {
        let left = plant.status().await.workers.len();
        if left == 1 { Ok(()) } else { Err(left) }
    })
    .await;
    plant.finish().await;
}

async fn bad(plant: &Plant, word: &str) -> ErrorResponse {
    let (call, _session) = plant.client().stream(&chain(&["{ id: bad, node_type: Bad }"])).await;
    let error = call.run([text("fine"), text(word)]).await.error.expect(word);
    assert!(context(&error).is_object());
    error
}

/// What the contract has no field for.
fn custom(node: &NodeMetrics) -> serde_json::Value {
    serde_json::from_str(&node.custom_metrics).expect("custom metrics are JSON")
}

#[tokio::test]
async fn what_is_resampled_in_rust_is_worked_on_in_python() {
    let plant = plant(&["working"]).await;
    let gain = "{ id: gain, node_type: Gain, params: { factor: 0.5 } }";
    let resample = "{ id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }";
    let input = audio::mono(48_000, &audio::tone(48_000, 48_000));
    let mut both =
        plant.client().execute(&chain(&[resample, gain]), [("resample", input.clone())]).await.unwrap();
    let mut whole = plant.client().execute(&chain(&[resample]), [("resample", input)]).await.unwrap();
    let halves = audio::samples(&both.data_outputs.remove("gain").unwrap());
    let wholes = audio::samples(&whole.data_outputs.remove("resample").unwrap());
    assert_eq!(halves.len(), wholes.len());
    assert!(halves.iter().zip(&wholes).all(|(half, whole)| 2.0 * half == *whole));
    plant.finish().await;
}
