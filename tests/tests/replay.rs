//! What becomes of work whose worker dies: done again where it may be, given up where it kills, and never done twice
//! where that must not be.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use remotemedia_cli::admin::LossStatus;
use remotemedia_core::fault::{DeathCause, Fault, Poison, StreamFault, WorkerLost};
use remotemedia_core::token::Token;
use remotemedia_protos::v1::{
    Connection, DataBuffer, ErrorResponse, PipelineManifest, ResourceLimits, StreamInit, WorkerLossPolicy,
};
use remotemedia_tests::Plant;
use remotemedia_tests::client::{Answers, context, fault};
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::{Recipe, START, program, python};
use tempfile::TempDir;

/// What the nodes of these tests do when they die.
const ABORT: DeathCause = DeathCause::Signal(6);

/// Where nodes leave a file for each call and each death.
struct Graves(TempDir);

impl Graves {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A node that dies of the text `killer`.
    fn node(&self, id: &str, node_type: &str, more: &str) -> String {
        self.node_that_dies_of("killer", id, node_type, more)
    }

    fn node_that_dies_of(&self, killer: &str, id: &str, node_type: &str, more: &str) -> String {
        let graves = self.0.path().join(id);
        fs::create_dir_all(&graves).unwrap();
        let graves = graves.display();
        format!(
            "{{ id: {id}, node_type: {node_type}, params: {{ kills: {killer}, graves: '{graves}'{more} }} }}"
        )
    }

    /// How many files there are of a node, of calls or of deaths.
    fn count(&self, id: &str, what: &str) -> usize {
        let files = fs::read_dir(self.0.path().join(id)).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with(what)).count()
    }

    /// As if nobody had been called or had died.
    fn clear(&self, id: &str) {
        let files = fs::read_dir(self.0.path().join(id)).unwrap();
        files.for_each(|file| fs::remove_file(file.unwrap().path()).unwrap());
    }
}

async fn plant(workers: usize) -> Plant {
    let mut plant = Plant::of(Recipe { workers, ..Recipe::default() }).await;
    plant.expect("worker_died");
    plant
}

fn texts(answers: &Answers, node: &str) -> Vec<String> {
    answers.of(node).map(|buffer| words(buffer).to_owned()).collect()
}

fn lost(error: &ErrorResponse) -> WorkerLost {
    let Fault::Worker(lost) = fault(error) else { panic!("{error:?}") };
    lost
}

fn poison(error: &ErrorResponse) -> Poison {
    let Fault::Poison(poison) = fault(error) else { panic!("{error:?}") };
    poison
}

fn pieces(killer: u64, count: u64) -> Vec<DataBuffer> {
    (0..count)
        .map(|number| text(if number == killer { "killer".to_owned() } else { format!("piece {number}") }))
        .collect()
}

#[tokio::test]
async fn a_run_whose_worker_dies_is_done_again_and_its_client_does_not_notice() {
    let (plant, graves) = (plant(3).await, Graves::new());
    let manifest = chain(&[&graves.node("a", "CountingMortal", ", times: 2")]);
    let outputs = plant.client().execute(&manifest, [("a", text("killer"))]).await.unwrap();
    assert_eq!(words(&outputs.data_outputs["a"]), "killer 1", "the node that answered was a fresh one");
    assert_eq!((graves.count("a", "grave"), graves.count("a", "call")), (2, 3));
    let status = plant.status().await;
    assert_eq!((status.replays, status.poisons), (2, 0));
    plant.finish().await;
}

#[tokio::test]
async fn an_input_that_kills_three_workers_is_poison_and_is_refused_while_others_are_served() {
    let (mut plant, graves) = (plant(4).await, Graves::new());
    plant.expect("input_is_poison");
    let manifest = chain(&[&graves.node("a", "Mortal", "")]);
    let run = |input: &'static str| plant.client().execute(&manifest, [("a", text(input))]);
    let first = poison(&run("killer").await.unwrap_err());
    assert_eq!((first.node.as_str(), first.deaths, first.cause), ("a", 3, ABORT));
    let error = run("killer").await.unwrap_err();
    assert!(error.message.contains("has killed 3 workers in node 'a'"), "{}", error.message);
    assert!((1..60_000).contains(&poison(&error).refused_ms), "{error:?}");
    assert_eq!(graves.count("a", "grave"), 3, "the second was not given to anybody");
    assert_eq!(words(&run("lamb").await.unwrap().data_outputs["a"]), "lamb 0");
    let other = chain(&[&graves.node("a", "Mortal", ", pieces: 2")]);
    let again = plant.client().execute(&other, [("a", text("lamb"))]).await.unwrap();
    assert_eq!(words(&again.data_outputs["a"]), "lamb 0lamb 1");
    assert_eq!((plant.status().await.replays, plant.status().await.poisons), (2, 1));
    plant.finish().await;
}

#[tokio::test]
async fn a_run_that_kills_is_known_again_by_all_its_inputs_also_those_that_go_in_only_once() {
    let (mut plant, graves) = (plant(5).await, Graves::new());
    plant.expect("input_is_poison");
    let mut manifest = own_processes(&[
        &graves.node("killed", "Mortal", ""),
        &graves.node_that_dies_of("nothing", "beside", "OnceMortal", ""),
    ]);
    manifest.connections.clear();
    let inputs = |beside| [("killed", text("killer")), ("beside", text(beside))];
    let error = plant.client().execute(&manifest, inputs("lamb")).await.unwrap_err();
    assert_eq!((poison(&error).deaths, graves.count("killed", "grave")), (3, 3));
    let again = plant.client().execute(&manifest, inputs("lamb")).await.unwrap_err();
    assert_eq!(
        (poison(&again).deaths, graves.count("killed", "grave")),
        (3, 3),
        "it was not given to anybody"
    );
    plant.finish().await;
}

#[tokio::test]
async fn a_pipeline_that_kills_as_it_is_made_is_refused_before_it_is_made_again() {
    let mut plant = plant(4).await;
    plant.expect("input_is_poison");
    let manifest = chain(&["{ id: a, node_type: RepeatableDoom, params: { fault: abort, when: made } }"]);
    let run = || plant.client().execute(&manifest, [("a", text("x"))]);
    let first = poison(&run().await.unwrap_err());
    assert_eq!((first.node.as_str(), first.deaths, first.made), ("a", 3, true));
    let error = run().await.unwrap_err();
    assert!(
        error.message.contains("making the pipeline's nodes has killed 3 workers in node 'a'"),
        "{error:?}"
    );
    assert_eq!(poison(&error).deaths, 3, "nobody else has died of it");
    let fine = chain(&["{ id: a, node_type: PassThrough }"]);
    assert_eq!(
        words(&plant.client().execute(&fine, [("a", text("x"))]).await.unwrap().data_outputs["a"]),
        "x"
    );
    plant.finish().await;
}

#[tokio::test]
async fn what_is_served_in_between_is_no_poison_however_many_workers_die_under_it() {
    let (plant, graves) = (plant(10).await, Graves::new());
    let [run, stream] = ["run", "stream"].map(|id| chain(&[&graves.node(id, "Mortal", ", times: 1")]));
    let once = graves.0.path().join("once");
    let made = chain(&[&format!(
        "{{ id: made, node_type: RepeatableDoom, params: {{ fault: abort, when: made, once: '{}' }} }}",
        once.display()
    )]);
    for _round in 0..3 {
        // Each dies under one worker, and is served by the next.
        let outputs = plant.client().execute(&run, [("run", text("killer"))]).await.unwrap();
        assert_eq!(words(&outputs.data_outputs["run"]), "killer 0");
        let answers = plant.client().stream(&stream).await.0.run(pieces(0, 1)).await.closed();
        assert_eq!(texts(&answers, "stream"), ["killer 0"]);
        let outputs = plant.client().execute(&made, [("made", text("x"))]).await.unwrap();
        assert_eq!(words(&outputs.data_outputs["made"]), "x");
        ["run", "stream"].iter().for_each(|id| graves.clear(id));
        fs::remove_file(&once).unwrap();
    }
    let status = plant.status().await;
    assert_eq!((status.workers.len(), status.poisons), (1, 0));
    plant.finish().await;
}

#[tokio::test]
async fn work_that_must_not_be_done_twice_is_not() {
    let (plant, graves) = (plant(4).await, Graves::new());
    let once = chain(&[&graves.node("a", "OnceMortal", "")]);
    let error = plant.client().execute(&once, [("a", text("killer"))]).await.unwrap_err();
    assert_eq!((lost(&error).node.as_str(), lost(&error).cause, lost(&error).replays), ("a", ABORT, 0));
    assert_eq!(graves.count("a", "call"), 1);

    // Behind the node that dies in its first call, it is not reached; before it, it is.
    let behind = own_processes(&[
        &graves.node("b", "Mortal", ", times: 1"),
        &graves.node("c", "OnceMortal", ", times: 0"),
    ]);
    let outputs = plant.client().execute(&behind, [("b", text("killer"))]).await.unwrap();
    assert_eq!(words(&outputs.data_outputs["c"]), "killer 0 0");
    assert_eq!((graves.count("b", "call"), graves.count("c", "call")), (2, 1));
    let dying = graves.node_that_dies_of("killer 0", "e", "Mortal", "");
    let before = own_processes(&[&graves.node("d", "OnceMortal", ", times: 0"), &dying]);
    let error = plant.client().execute(&before, [("d", text("killer"))]).await.unwrap_err();
    assert_eq!((lost(&error).node.as_str(), lost(&error).replays), ("e", 0));
    assert_eq!((graves.count("d", "call"), graves.count("e", "call")), (1, 1));
    plant.finish().await;
}

#[tokio::test]
async fn a_run_goes_on_as_far_as_the_dead_and_what_is_behind_them_is_not_called_twice() {
    let (plant, graves) = (plant(5).await, Graves::new());
    for (of_dead, times, expected) in [("Mortal", 1, ["0", "1", "2"]), ("CountingMortal", 2, ["1", "1", "1"])]
    {
        let dead = format!("dead-{of_dead}");
        let behind = format!("behind-{of_dead}");
        let manifest = own_processes(&[
            &graves.node(&dead, of_dead, &format!(", times: {times}, pieces: 3, after: 2")),
            &graves.node_that_dies_of("nothing", &behind, "OnceMortal", ""),
        ]);
        let outputs = plant.client().execute(&manifest, [(dead.as_str(), text("killer"))]).await.unwrap();
        let expected: String = expected.iter().map(|piece| format!("killer {piece} 0")).collect();
        assert_eq!(words(&outputs.data_outputs[&behind]), expected);
        assert_eq!((graves.count(&dead, "grave"), graves.count(&behind, "call")), (times, 3));
    }
    assert_eq!(plant.status().await.replays, 3);
    plant.finish().await;
}

fn own_processes(nodes: &[&str]) -> PipelineManifest {
    let mut manifest = chain(nodes);
    manifest.nodes.iter_mut().for_each(|node| node.own_process = true);
    manifest
}

/// Workers of which it is known late, and for a client's default deadline too late, of what they died.
async fn plant_of_units(workers: usize) -> Plant {
    let mut plant = Plant::of(Recipe { workers, units: true, ..Recipe::default() }).await;
    plant.expect("worker_died");
    plant
}

#[tokio::test]
async fn work_goes_to_another_worker_at_the_death_and_not_when_its_cause_is_known() {
    let (plant, graves) = (plant_of_units(3).await, Graves::new());
    let manifest = chain(&[&graves.node("run", "Mortal", ", times: 1")]);
    let outputs = plant.client().execute(&manifest, [("run", text("killer"))]).await.unwrap();
    assert_eq!(words(&outputs.data_outputs["run"]), "killer 0");
    let manifest = chain(&[&graves.node("stream", "Mortal", ", times: 1")]);
    let answers = plant.client().stream(&manifest).await.0.run(pieces(2, 4)).await.closed();
    assert!(answers.missed.is_empty(), "{answers:?}");
    assert_eq!(texts(&answers, "stream").len(), 4);
    let status = plant.status().await;
    assert_eq!(status.losses.len(), 0, "it was not known of what they died");
    assert_eq!((status.replays, graves.count("run", "grave"), graves.count("stream", "grave")), (2, 1, 1));
    each_died_once(&plant, 2).await;
    assert_eq!(plant.status().await.replays, 2);
    plant.finish().await;
}

#[tokio::test]
async fn an_answer_that_tells_of_a_death_waits_until_its_cause_is_known_if_its_client_does() {
    let (mut plant, graves) = (plant_of_units(6).await, Graves::new());
    plant.expect("input_is_poison");
    let patient = ResourceLimits { max_timeout_ms: 20_000, ..ResourceLimits::default() };
    let request = |node: &str, limits| remotemedia_protos::v1::ExecuteRequest {
        manifest: Some(chain(&[node])),
        data_inputs: [("a".to_owned(), text("killer"))].into(),
        resource_limits: Some(limits),
        client_version: "v1".to_owned(),
    };
    let once = graves.node("a", "OnceMortal", "");
    let run = plant.client().execute_request(request(&once, patient));
    let error = run.await.unwrap().unwrap_err();
    assert_eq!((lost(&error).cause, lost(&error).replays), (ABORT, 0));

    let killer = graves.node("a", "Mortal", "");
    let run = plant.client().execute_request(request(&killer, patient));
    let poison = poison(&run.await.unwrap().unwrap_err());
    assert_eq!((poison.deaths, poison.cause), (3, ABORT), "each death counts once");

    let brief = ResourceLimits { max_timeout_ms: 1_000, ..ResourceLimits::default() };
    let run = plant.client().execute_request(request(&once, brief));
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(lost(&error).cause, DeathCause::Unknown, "that it died is known at its deadline");
    assert_eq!(graves.count("a", "grave"), 5);
    each_died_once(&plant, 5).await;
    plant.finish().await;
}

/// Waits until so many deaths are told, of as many workers, and of what they were.
async fn each_died_once(plant: &Plant, deaths: usize) {
    until(START, async || {
        let losses = plant.status().await.losses;
        let is_right = |loss: &LossStatus| loss.deaths == 1 && loss.cause == ABORT.to_string();
        if losses.len() == deaths && losses.iter().all(is_right) { Ok(()) } else { Err(losses) }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_wants_no_replay_gets_none() {
    let (plant, graves) = (plant(2).await, Graves::new());
    let limits = ResourceLimits { max_replays: Some(0), ..ResourceLimits::default() };
    let manifest = chain(&[&graves.node("a", "Mortal", ", times: 1")]);
    let request = remotemedia_protos::v1::ExecuteRequest {
        manifest: Some(manifest),
        data_inputs: [("a".to_owned(), text("killer"))].into(),
        resource_limits: Some(limits),
        client_version: "v1".to_owned(),
    };
    let error = plant.client().execute_request(request).await.unwrap().unwrap_err();
    assert_eq!(lost(&error).replays, 0);
    assert_eq!(graves.count("a", "call"), 1);
    plant.finish().await;
}

#[tokio::test]
async fn a_stream_without_a_state_goes_on_and_each_piece_comes_once() {
    let (plant, graves) = (plant(3).await, Graves::new());
    // Two pieces have left when it dies of the third.
    let manifest = chain(&[&graves.node("a", "Mortal", ", times: 2, pieces: 4, after: 2")]);
    let answers = plant.client().stream(&manifest).await.0.run(pieces(7, 20)).await.closed();
    let expected: Vec<String> = (0..20_u64)
        .flat_map(|number| {
            let word = if number == 7 { "killer".to_owned() } else { format!("piece {number}") };
            (0..4).map(move |piece| format!("{word} {piece}"))
        })
        .collect();
    assert_eq!(texts(&answers, "a"), expected);
    assert_eq!(graves.count("a", "grave"), 2);
    assert_eq!(plant.status().await.replays, 2);
    plant.finish().await;
}

/// Behind a node without a state, whose worker dies, stays one that counts, in another process.
fn before_a_counter(graves: &Graves, mortal: &str) -> PipelineManifest {
    own_processes(&[
        &graves.node("a", "Mortal", mortal),
        &graves.node_that_dies_of("nothing", "b", "CountingMortal", ""),
    ])
}

#[tokio::test]
async fn what_lives_behind_the_dead_keeps_its_state_and_gets_everything_once() {
    let plant = plant(5).await;
    // With the last one, it dies when the client has closed the stream.
    for killer in [0, 7, 19] {
        let graves = Graves::new();
        let manifest = before_a_counter(&graves, ", times: 1, pieces: 3, after: 2");
        let answers = plant.client().stream(&manifest).await.0.run(pieces(killer, 20)).await.closed();
        let undisturbed = (0..20_u64).flat_map(|number| {
            let word = if number == killer { "killer".to_owned() } else { format!("piece {number}") };
            (0..3).map(move |piece| format!("{word} {piece} {}", number * 3 + piece + 1))
        });
        assert_eq!(texts(&answers, "b"), undisturbed.collect::<Vec<String>>());
        assert!(answers.missed.is_empty(), "{answers:?}");
        assert_eq!((graves.count("a", "grave"), graves.count("b", "call")), (1, 60));
    }
    assert_eq!(plant.status().await.replays, 3);
    plant.finish().await;
}

#[tokio::test]
async fn what_branches_around_the_dead_and_meets_behind_them_stays() {
    let (plant, graves) = (plant(9).await, Graves::new());
    let nothing = |id: &str, node_type| graves.node_that_dies_of("nothing", id, node_type, "");
    let mut manifest = own_processes(&[
        "{ id: x, node_type: PassThrough }",
        &graves.node_that_dies_of("piece 5", "a", "Mortal", ", times: 1, pieces: 2, after: 1"),
        &nothing("c", "CountingMortal"),
        &graves.node_that_dies_of("piece 9", "d", "Mortal", ", times: 1"),
        &nothing("b", "CountingMortal"),
    ]);
    let ends = [("x", "a"), ("a", "c"), ("x", "d"), ("d", "c"), ("x", "b")];
    manifest.connections =
        ends.iter().map(|(from, to)| Connection { from: (*from).to_owned(), to: (*to).to_owned() }).collect();
    let answers = plant.client().stream(&manifest).await.0.run(pieces(99, 16)).await.closed();
    let joined = (0..16_u64).flat_map(|number| {
        let came = ["0", "1", "0"].into_iter().zip(1..);
        came.map(move |(piece, count)| format!("piece {number} {piece} {}", number * 3 + count))
    });
    assert_eq!(texts(&answers, "c"), joined.collect::<Vec<String>>());
    let beside = (0..16_u64).map(|number| format!("piece {number} {}", number + 1));
    assert_eq!(texts(&answers, "b"), beside.collect::<Vec<String>>());
    assert_eq!(["a", "d"].map(|id| graves.count(id, "grave")), [1, 1]);
    assert_eq!(["b", "c"].map(|id| graves.count(id, "call")), [16, 48]);
    plant.finish().await;
}

#[tokio::test]
async fn a_worker_may_run_what_stays_beside_what_does_not() {
    let (plant, graves) = (plant(4).await, Graves::new());
    let passing = |id: &str| graves.node_that_dies_of("nothing", id, "Mortal", "");
    // On four workers the last node shares the first one's.
    let manifest = own_processes(&[
        "{ id: x, node_type: PassThrough }",
        &passing("a"),
        &passing("m"),
        &graves.node_that_dies_of("killer 0 0", "d", "Mortal", ", times: 1"),
        &graves.node_that_dies_of("nothing", "b", "CountingMortal", ""),
    ]);
    let (mut call, _session) = plant.client().stream(&manifest).await;
    assert_eq!(plant.status().await.sessions[0].workers.len(), 4);
    for (number, word) in (0..).zip(["one", "killer", "three"]) {
        call.send(number, text(word)).await;
        let result = call.result().await;
        assert_eq!(words(&result.data_outputs["b"]), format!("{word} 0 0 0 {}", number + 1));
    }
    call.close().await;
    assert!(call.rest().await.closed().missed.is_empty());
    assert_eq!((graves.count("d", "grave"), graves.count("b", "call")), (1, 3));
    plant.finish().await;
}

#[tokio::test]
async fn a_chunk_that_is_poison_before_a_node_with_a_state_is_told_and_the_state_is_kept() {
    let (mut plant, graves) = (plant(5).await, Graves::new());
    plant.expect("input_is_poison");
    let manifest = before_a_counter(&graves, ", pieces: 2, after: 1");
    let answers = plant.client().stream(&manifest).await.0.run(pieces(2, 6)).await.closed();
    let [missed] = answers.missed.as_slice() else { panic!("{:?}", answers.missed) };
    assert_eq!((poison(missed).sequence, poison(missed).deaths), (Some(2), 3));
    let counts: Vec<String> = texts(&answers, "b");
    // The piece that had left before the first death has been counted.
    let expected =
        ["0 0 1", "0 1 2", "1 0 3", "1 1 4", "3 0 6", "3 1 7", "4 0 8", "4 1 9", "5 0 10", "5 1 11"];
    let expected: Vec<String> = expected.iter().map(|words| format!("piece {words}")).collect();
    assert_eq!(
        counts.iter().filter(|text| !text.starts_with("killer")).cloned().collect::<Vec<_>>(),
        expected
    );
    plant.finish().await;
}

#[tokio::test]
async fn a_death_with_a_state_before_it_or_in_it_ends_the_stream_as_before() {
    let (plant, graves) = (plant(4).await, Graves::new());
    let in_it = own_processes(&[
        &graves.node_that_dies_of("nothing", "a", "Mortal", ""),
        &graves.node_that_dies_of("killer 0", "b", "CountingMortal", ""),
    ]);
    let answers = plant.client().stream(&in_it).await.0.run(pieces(3, 6)).await;
    assert_eq!(lost(&answers.error.unwrap()).node, "b");
    let before_it = own_processes(&[
        &graves.node_that_dies_of("nothing", "c", "CountingMortal", ""),
        &graves.node_that_dies_of("killer 4", "d", "Mortal", ""),
    ]);
    let answers = plant.client().stream(&before_it).await.0.run(pieces(3, 6)).await;
    assert_eq!(lost(&answers.error.unwrap()).node, "d");
    assert!(graves.count("c", "call") <= 6, "it is not called twice for an input");
    plant.finish().await;
}

#[tokio::test]
async fn a_chunk_that_is_poison_is_told_in_its_place_and_the_stream_goes_on() {
    let (mut plant, graves) = (plant(4).await, Graves::new());
    plant.expect("input_is_poison");
    let manifest = chain(&[&graves.node("a", "Mortal", "")]);
    for deaths in [3, 3] {
        let answers = plant.client().stream(&manifest).await.0.run(pieces(5, 12)).await.closed();
        assert_eq!(answers.answered, (0..12).collect::<Vec<u64>>());
        let [missed] = answers.missed.as_slice() else { panic!("{:?}", answers.missed) };
        let poison = poison(missed);
        assert_eq!(
            (poison.sequence, poison.deaths, context(missed)["failing_sequence"].as_u64()),
            (Some(5), 3, Some(5))
        );
        assert_eq!(context(missed)["ends_stream"], false);
        assert_eq!(texts(&answers, "a").len(), 11);
        assert_eq!(graves.count("a", "grave"), deaths, "the second time it is refused at once");
    }
    plant.finish().await;
}

#[tokio::test]
async fn a_stream_with_a_state_ends_or_begins_anew_with_the_gap_told() {
    let (plant, graves) = (plant(4).await, Graves::new());
    let mut manifest = chain(&[&graves.node("a", "CountingMortal", "")]);
    let answers = plant.client().stream(&manifest).await.0.run(pieces(3, 6)).await;
    let error = lost(&answers.error.unwrap());
    assert_eq!((error.node.as_str(), error.cause), ("a", ABORT));

    manifest.set_on_worker_loss(WorkerLossPolicy::Restart);
    let (mut call, _session) = plant.client().stream(&manifest).await;
    for number in 0..3 {
        call.send(number, text("before")).await;
        assert_eq!(words(&call.result().await.data_outputs["a"]), format!("before {}", number + 1));
    }
    call.send(3, text("killer")).await;
    for number in 4..7 {
        call.send(number, text("after")).await;
    }
    call.close().await;
    let answers = call.rest().await.closed();
    assert_eq!(answers.answered, [3, 4, 5, 6], "{answers:#?}");
    for missed in &answers.missed {
        let Fault::Stream(StreamFault::Gap { sequence, lost }) = fault(missed) else { panic!("{missed:?}") };
        assert_eq!((lost.node.as_str(), lost.cause), ("a", ABORT));
        assert_eq!(context(missed)["failing_sequence"].as_u64(), sequence);
    }
    let after: Vec<String> = texts(&answers, "a");
    let expected: Vec<String> = (1..=after.len()).map(|count| format!("after {count}")).collect();
    assert_eq!(after, expected, "it counts from the beginning");
    assert_eq!(answers.missed.len() + after.len(), 4);
    plant.finish().await;
}

#[tokio::test]
async fn the_death_of_a_worker_that_runs_two_parts_of_a_session_is_one_death() {
    let (plant, graves) = (plant(4).await, Graves::new());
    let passing = |id: &str| graves.node_that_dies_of("nothing", id, "Mortal", "");
    // The first and the last node share a worker.
    let manifest = own_processes(&[
        &graves.node("x", "Mortal", ", times: 1"),
        &passing("a"),
        &passing("m"),
        &passing("d"),
        &passing("b"),
    ]);
    let limits = ResourceLimits { max_replays: Some(1), ..ResourceLimits::default() };
    let init =
        StreamInit { manifest: Some(manifest), resource_limits: Some(limits), ..StreamInit::default() };
    let (mut call, _session) = plant.client().stream_as(init).await;
    assert_eq!(plant.status().await.sessions[0].workers.len(), 4);
    for (number, word) in (0..).zip(["one", "killer", "three"]) {
        call.send(number, text(word)).await;
        assert_eq!(words(&call.result().await.data_outputs["b"]), format!("{word} 0 0 0 0 0"));
    }
    call.close().await;
    assert!(call.rest().await.closed().missed.is_empty());
    assert_eq!((graves.count("x", "grave"), plant.status().await.replays), (1, 1));
    plant.finish().await;
}

/// What `remotemedia replay` says on standard error, and its exit code.
async fn replay(path: &str) -> (i32, String) {
    replay_with(&[path, "--", program("test-worker").to_str().unwrap()]).await
}

/// The same with these words, where the tests' modules of Python are found.
async fn replay_with(words: &[&str]) -> (i32, String) {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut command = tokio::process::Command::new(program("remotemedia"));
    command.arg("replay").args(words).env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    let done = within(START * 2, "the end of the replay", command.output()).await.unwrap();
    (done.status.code().unwrap(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[tokio::test]
async fn a_frame_that_killed_is_kept_and_run_once_more_in_the_foreground() {
    let (captures, graves) = (tempfile::tempdir().unwrap(), Graves::new());
    let arguments = vec![format!("--captures={}", captures.path().join("kept").display())];
    let mut plant = Plant::of(Recipe { workers: 4, arguments, ..Recipe::default() }).await;
    plant.expect("worker_died");
    plant.expect("input_is_poison");
    let manifest = chain(&[
        "{ id: in, node_type: PassThrough }",
        &graves.node("a", "Mortal", ", times: 4"),
        "{ id: out, node_type: PassThrough }",
    ]);
    let answers = plant.client().stream(&manifest).await.0.run(pieces(2, 4)).await.closed();
    let poison = poison(&answers.missed[0]);
    let path = poison.capture.unwrap();
    assert!(answers.missed[0].message.contains(&format!("`remotemedia replay {path}`")), "{answers:?}");
    until(START, async || if fs::exists(&path).unwrap() { Ok(()) } else { Err("no file") }).await;
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it is for its owner alone");

    let (code, said) = replay(&path).await;
    assert!(said.contains("node 'a' has killed 3 workers with this input"), "{said}");
    assert!(said.contains("in gets text, 6 bytes"), "{said}");
    assert!(said.contains("node 'a' has killed its worker once more: it was killed by SIGABRT"), "{said}");
    assert_eq!((code, graves.count("a", "grave")), (1, 4));
    let (code, said) = replay(&path).await;
    assert!(said.contains("node 'a' gave text, 8 bytes") && said.contains("node 'a' lives"), "{said}");
    assert_eq!(code, 0);
    // To be shown it is not run, and to be debugged it is run by another program.
    let graves_before = graves.count("a", "grave");
    let (code, said) = replay_with(&[&path, "--show"]).await;
    assert!(said.contains("with this input") && said.contains("in gets text, 6 bytes"), "{said}");
    assert!(!said.contains("lives"), "{said}");
    assert_eq!((code, graves.count("a", "grave")), (0, graves_before));
    let (debugger, seen) = (captures.path().join("debugger"), captures.path().join("seen"));
    fs::write(&debugger, format!("echo \"$@\" > {} && exec \"$@\"\n", seen.display())).unwrap();
    let under = format!("/bin/sh {}", debugger.display());
    let worker = program("test-worker");
    let (code, said) = replay_with(&["--under", &under, &path, "--", worker.to_str().unwrap()]).await;
    assert!(code == 0 && said.contains("node 'a' lives"), "{said}");
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.starts_with(worker.to_str().unwrap()) && seen.contains("--name replay"), "{seen}");
    let (code, said) = replay(captures.path().join("none").to_str().unwrap()).await;
    assert!(code == 2 && said.contains("cannot read"), "{said}");
    plant.finish().await;
}

#[tokio::test]
async fn a_frame_that_killed_a_python_node_is_run_once_more_where_it_is_said_how_its_worker_starts() {
    let captures = tempfile::tempdir().unwrap();
    let arguments = vec![format!("--captures={}", captures.path().join("kept").display())];
    let python_workers = &["doom", "doom", "doom"];
    let recipe = Recipe { workers: 1, python: python_workers, arguments, ..Recipe::default() };
    let mut plant = Plant::of(recipe).await;
    plant.expect("worker_died");
    plant.expect("input_is_poison");
    let manifest = chain(&[
        "{ id: in, node_type: PyPass }",
        "{ id: doom, node_type: PyRepeatableDoom, params: { fault: kill, when: input, at: 0 } }",
    ]);
    let error = plant.client().execute(&manifest, [("in", text("killer"))]).await.unwrap_err();
    let (deaths, path) = (poison(&error).deaths, poison(&error).capture.unwrap());
    assert_eq!(deaths, 3);
    until(START, async || if fs::exists(&path).unwrap() { Ok(()) } else { Err("no file") }).await;

    let (code, said) = replay_with(&[&path]).await;
    assert!(said.contains("node 'doom' ran in a python worker: say how it is started"), "{said}");
    assert_eq!(code, 2);
    let python = python();
    let worker = [python.to_str().unwrap(), "-m", "remotemedia.worker", "passing", "doom"];
    let (code, said) = replay_with(&[&[path.as_str(), "--"], worker.as_slice()].concat()).await;
    assert!(said.contains("in gets text, 6 bytes"), "{said}");
    assert!(said.contains("node 'doom' has killed its worker once more: it was killed by SIGKILL"), "{said}");
    assert_eq!(code, 1);
    plant.finish().await;
}

#[tokio::test]
async fn nothing_is_kept_of_who_shows_a_private_token() {
    let (dir, graves) = (tempfile::tempdir().unwrap(), Graves::new());
    let (captures, tokens) = (dir.path().join("captures"), dir.path().join("tokens"));
    let made = tokio::process::Command::new(program("remotemedia"))
        .args(["token", "new", "--private", "--file", tokens.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    let token: Token = String::from_utf8(made.stdout).unwrap().parse().unwrap();
    let arguments =
        vec![format!("--captures={}", captures.display()), format!("--token-file={}", tokens.display())];
    let mut plant =
        Plant::of(Recipe { workers: 4, arguments, token: Some(token), ..Recipe::default() }).await;
    plant.expect("worker_died");
    plant.expect("input_is_poison");
    let manifest = chain(&[&graves.node("a", "Mortal", "")]);
    let error = plant.client().execute(&manifest, [("a", text("killer"))]).await.unwrap_err();
    assert_eq!(poison(&error).capture, None);
    let answers = plant.client().stream(&manifest).await.0.run([text("killer")]).await.closed();
    assert_eq!(poison(&answers.missed[0]).capture, None);
    plant.finish().await;
    assert!(!captures.exists());
}

#[tokio::test]
async fn without_another_worker_the_death_is_told_and_not_the_want_of_one() {
    let (plant, graves) = (plant(1).await, Graves::new());
    let manifest = chain(&[&graves.node("a", "Mortal", "")]);
    let error = plant.client().execute(&manifest, [("a", text("killer"))]).await.unwrap_err();
    assert_eq!(lost(&error).cause, ABORT);
    plant.finish().await;
}
