//! What a node is, held to once for every language that nodes are written in: each case is run with a node in Rust and
//! with its twin in Python, and what it gives back must be the same for both.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::fmt::Debug;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{
    DataBuffer, DataChunk, ErrorResponse, ErrorType, ExecuteRequest, PipelineManifest, ResourceLimits,
    StreamInit,
};
use remotemedia_tests::client::{context, error_in};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, document, json, text, words};
use remotemedia_tests::plant::RELEASE;
use remotemedia_tests::{Plant, Recipe};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the node under test is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Language {
    Rust,
    Python,
}

/// Where a node keeps its diary.
struct Shelf(TempDir);

/// On a panic, says in which language the case failed.
struct Under(Language);

#[tokio::test]
async fn in_any_language_an_input_passes_with_its_metadata() {
    conform(async |plant, language| {
        let (manifest, sent) = (chain(&[&language.node("PassThrough", "")]), said(text("grüß"), "k", "v"));
        let result = plant.client().execute(&manifest, [("node", sent.clone())]).await.unwrap();
        assert_eq!(result.data_outputs["node"], sent);
    })
    .await;
}

#[tokio::test]
async fn in_any_language_a_stream_comes_back_in_order() {
    conform(async |plant, language| {
        let (call, _session) = plant.client().stream(&chain(&[&language.node("PassThrough", "")])).await;
        let answers = call.run((0..300).map(|number| text(number.to_string()))).await.closed();
        assert_eq!(answers.sequences(), (0..300).collect::<Vec<_>>());
        let came: Vec<String> = answers.of("node").map(|buffer| words(buffer).to_owned()).collect();
        assert_eq!(came, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn in_any_language_all_outputs_of_an_input_come_in_order_with_its_metadata() {
    conform(async |plant, language| {
        let (call, _session) = plant.client().stream(&chain(&[&language.node("Multi", "outputs: 3")])).await;
        let sent: Vec<DataBuffer> = ["a", "b", "c"].map(|word| said(text(word), "of", word)).into();
        let answers = call.run(sent.clone()).await.closed();
        assert_eq!(answers.sequences(), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        let came: Vec<DataBuffer> = answers.of("node").cloned().collect();
        assert_eq!(came, sent.into_iter().flat_map(|buffer| vec![buffer; 3]).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn in_any_language_an_input_of_which_nothing_comes_is_answered_empty() {
    conform(async |plant, language| {
        let (call, _session) = plant.client().stream(&chain(&[&language.node("Silent", "")])).await;
        let answers = call.run(["a", "b", "c"].map(text)).await.closed();
        assert_eq!(answers.sequences(), [0, 1, 2]);
        assert_eq!(answers.of("node").count(), 0);
    })
    .await;
}

/// More than a call may have: a node in Rust gives its outputs at once, and is refused; a generator's leave as they are
/// made, so that however many they are, there is never more than one.
#[tokio::test]
async fn in_any_language_a_call_gives_no_more_at_once_than_it_may() {
    conform(async |plant, language| {
        let (call, _session) =
            plant.client().stream(&chain(&[&language.node("Multi", "outputs: 2000")])).await;
        let answers = call.run([text("x")]).await;
        match language {
            Language::Rust => {
                let error = answers.error.unwrap();
                assert_eq!(named(&error), (ErrorType::NodeExecution, "node"));
                assert!(error.message.contains("the number of outputs of one call"), "{}", error.message);
            }
            Language::Python => assert_eq!(answers.closed().of("node").count(), 2_000),
        }
    })
    .await;
}

#[tokio::test]
async fn in_any_language_a_flush_gives_the_last_word_with_the_last_sequence() {
    conform(async |plant, language| {
        let shelf = Shelf::new();
        let (call, _session) = plant.client().stream(&chain(&[&shelf.node(language, "flush")])).await;
        let answers = call.run(["a", "b"].map(text)).await.closed();
        assert_eq!(answers.sequences(), [0, 1, 1]);
        assert_eq!(document(answers.of("node").last().unwrap()), json!({ "inputs": 2, "over": true }));
        shelf.clear().await;
    })
    .await;
}

#[tokio::test]
async fn in_any_language_state_belongs_to_one_session() {
    conform(async |plant, language| {
        let shelf = Shelf::new();
        let manifest = chain(&[&shelf.node(language, "state")]);
        let (mut first, _session) = plant.client().stream(&manifest).await;
        let (mut second, _session) = plant.client().stream(&manifest).await;
        let mut counts = Vec::new();
        for sequence in 0..3 {
            for call in [&mut first, &mut second] {
                call.send(sequence, text("x")).await;
                counts.push(document(&call.result().await.data_outputs["node"])["inputs"].clone());
            }
        }
        assert_eq!(counts, [1, 1, 2, 2, 3, 3]);
        for mut call in [first, second] {
            call.half_close();
            let _answers = call.rest().await.closed();
        }
        shelf.clear().await;
    })
    .await;
}

#[tokio::test]
async fn in_any_language_a_node_is_closed_once_at_the_end_at_a_cancel_and_after_a_fault() {
    conform(async |plant, language| {
        let shelf = Shelf::new();
        let (call, _session) = plant.client().stream(&chain(&[&shelf.node(language, "end")])).await;
        let _answers = call.run(["a", "b"].map(text)).await.closed();
        shelf.says("end", &["open", "process a", "process b", "flush", "close"]).await;

        let (mut call, _session) = plant.client().stream(&chain(&[&shelf.node(language, "cancel")])).await;
        call.send(0, text("a")).await;
        let _first = call.result().await;
        call.cancel().await;
        let _answers = call.rest().await;
        shelf.says("cancel", &["open", "process a", "close"]).await;

        let after = language.other("Fault", "how: fail, at: 0");
        let (call, _session) = plant.client().stream(&chain(&[&shelf.node(language, "fault"), &after])).await;
        // The fault is of the JSON that the diary gives.
        let error = call.run([text("a")]).await.error.unwrap();
        assert_eq!(error.failing_node_id, "other", "{}", error.message);
        shelf.says("fault", &["open", "process a", "close"]).await;
        shelf.clear().await;
    })
    .await;
}

#[tokio::test]
async fn in_any_language_sequence_time_and_metadata_reach_the_node_and_the_one_behind_it() {
    conform(async |plant, language| {
        let shelf = Shelf::new();
        let alone = chain(&[&shelf.node(language, "moment")]);
        let behind = Shelf::diary(Language::Rust, "behind", &shelf.path("behind"));
        let behind = chain(&[&language.node("PassThrough", ""), &behind]);
        for (manifest, sink) in [(alone, "node"), (behind, "behind")] {
            let (call, _session) = plant.client().stream(&manifest).await;
            for (sequence, timestamp_ms) in [(7, 40), (8, 0)] {
                let buffer = Some(said(text("x"), "k", "ä"));
                call.say(Request::DataChunk(DataChunk { buffer, sequence, timestamp_ms, ..DataChunk::default() }))
                    .await;
            }
            call.close().await;
            let answers = call.rest().await.closed();
            let moments: Vec<Value> = answers.of(sink).map(document).collect();
            let moment = |inputs, sequence: u64, timestamp_us: Option<u64>| {
                json!({ "inputs": inputs, "sequence": sequence, "timestamp_us": timestamp_us, "metadata": { "k": "ä" } })
            };
            assert_eq!(moments[..2], [moment(1, 7, Some(40_000)), moment(2, 8, None)]);
        }
        shelf.clear().await;
    })
    .await;
}

#[tokio::test]
async fn in_any_language_named_inputs_come_by_their_names_and_a_missing_one_is_named() {
    conform(async |plant, language| {
        let manifest = chain(&[&language.node("Join", "")]);
        let (left, right) = (("node.left", text("a")), ("node.right", text("b")));
        let both = plant.client().execute(&manifest, [left.clone(), right.clone()]).await.unwrap();
        assert_eq!(document(&both.data_outputs["node"]), json!({ "left": "a", "right": "b" }));
        let one = plant.client().execute(&manifest, [left]).await.unwrap();
        assert_eq!(document(&one.data_outputs["node"]), json!({ "left": "a", "right": null }));
        let error = plant.client().execute(&manifest, [right]).await.unwrap_err();
        assert_eq!(named(&error), (ErrorType::NodeExecution, "node"), "{}", error.message);
        let said = "nothing came on input 'left' for sequence 0";
        assert!(error.message.ends_with(said), "{}", error.message);
    })
    .await;
}

#[tokio::test]
async fn in_any_language_parameters_are_refused_in_the_same_words() {
    conform(async |plant, language| {
        let mut words = Vec::new();
        for params in [
            "",
            "how: fail",
            "how: fail, at: x",
            "how: fail, at: 1.5",
            "how: fail, at: -1",
            "how: fail, at: 4294967296",
            "how: fial, at: 0",
            "how: 3, at: 0",
            "how: fail, at: 0, hwo: fail",
        ] {
            let manifest = chain(&[&language.node("Fault", params)]);
            let error = plant.client().execute(&manifest, [("node", text("x"))]).await.unwrap_err();
            assert_eq!(named(&error), (ErrorType::Validation, "node"), "{params}: {}", error.message);
            words.push(language.without_prefix(&error.message));
        }
        words
    })
    .await;
}

#[tokio::test]
async fn in_any_language_an_input_of_another_kind_is_refused_in_the_same_words_wherever_it_is_met() {
    conform(async |plant, language| {
        let shelf = Shelf::new();
        let diary = shelf.node(language, "kind");
        let at_the_door = chain(&[&diary]);
        let behind_another = chain(&["{ id: pass, node_type: PassThrough }", &diary]);
        let mut refused = Vec::new();
        for (manifest, entry) in [(at_the_door, "node"), (behind_another, "pass")] {
            let error = plant.client().execute(&manifest, [(entry, json("{}"))]).await.unwrap_err();
            assert_eq!(named(&error), (ErrorType::TypeValidation, "node"), "{}", error.message);
            assert!(error.message.contains("expects text, got json"), "{}", error.message);
            refused.push(error.message);
        }
        shelf.clear().await;
        refused
    })
    .await;
}

#[tokio::test]
async fn in_any_language_what_a_node_says_no_with_is_told_behind_the_results_before() {
    conform(async |plant, language| {
        let (call, _session) =
            plant.client().stream(&chain(&[&language.node("Fault", "how: fail, at: 2")])).await;
        let answers = call.run(["a", "b", "c", "d"].map(text)).await;
        assert_eq!(answers.sequences(), [0, 1]);
        let error = answers.error.unwrap();
        assert_eq!(named(&error), (ErrorType::NodeExecution, "node"), "{}", error.message);
        assert!(error.message.ends_with("told to fail at 2"), "{}", error.message);
        context(&error)["failing_sequence"].clone()
    })
    .await;
}

#[tokio::test]
async fn in_any_language_what_a_node_did_not_foresee_is_told_with_its_stack() {
    conform(async |plant, language| {
        let source = match language {
            Language::Rust => "fault.rs",
            Language::Python => "twins.py",
        };
        for (how, said) in [
            ("panic", "told to panic at 0"),
            ("panic_in_flush", "told to panic in flush"),
            ("panic_in_new", "told to panic when made"),
        ] {
            let manifest = chain(&[&language.node("Fault", &format!("how: {how}, at: 0"))]);
            for error in [unary(plant, &manifest).await, streamed(plant, &manifest).await] {
                assert_eq!(named(&error), (ErrorType::NodeExecution, "node"), "{}", error.message);
                assert!(error.message.contains(said), "{}", error.message);
                assert!(error.stack_trace.contains(source), "{how}: {}", error.stack_trace);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn in_any_language_an_output_of_an_undeclared_kind_is_the_nodes_fault() {
    conform(async |plant, language| {
        let error = unary(plant, &chain(&[&language.node("Liar", "")])).await;
        assert_eq!(named(&error), (ErrorType::NodeExecution, "node"), "{}", error.message);
        assert!(error.message.contains("gave text, but its type declares to produce audio"));
        language.without_prefix(&error.message)
    })
    .await;
}

#[tokio::test]
async fn in_any_language_a_node_that_takes_too_long_is_a_deadline() {
    conform(async |plant, language| {
        let request = ExecuteRequest {
            manifest: Some(chain(&[&language.node("Slow", "ms: 1000")])),
            data_inputs: [("node".to_owned(), text("x"))].into(),
            resource_limits: Some(ResourceLimits { max_timeout_ms: 100, ..ResourceLimits::default() }),
            ..ExecuteRequest::default()
        };
        let status = plant.client().execute_request(request).await.unwrap_err();
        let error = error_in(&status);
        assert_eq!(
            (status.code(), error.error_type()),
            (tonic::Code::DeadlineExceeded, ErrorType::ResourceLimit)
        );
        assert!(error.message.contains("within 100 ms"), "{}", error.message);
    })
    .await;
}

/// Runs a case with each language: what it gives back is what must not depend on it.
async fn conform<T: PartialEq + Debug>(case: impl AsyncFn(&Plant, Language) -> T) {
    let plant = Plant::of(Recipe { workers: 1, python: &["twins"], ..Recipe::default() }).await;
    let mut gave = Vec::new();
    for language in [Language::Rust, Language::Python] {
        let under = Under(language);
        gave.push(case(&plant, language).await);
        drop(under);
    }
    assert_eq!(gave[0], gave[1], "left is Rust, right is Python");
    plant.finish().await;
}

// === impl Language ===

impl Language {
    /// The node `node` of this type, or of its twin.
    fn node(self, node_type: &str, params: &str) -> String {
        self.called("node", node_type, params)
    }

    /// The same as node `other`.
    fn other(self, node_type: &str, params: &str) -> String {
        self.called("other", node_type, params)
    }

    fn called(self, id: &str, node_type: &str, params: &str) -> String {
        format!("{{ id: {id}, node_type: {}{node_type}, params: {{ {params} }} }}", self.prefix())
    }

    /// Both are offered by one gateway, so their names differ.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Rust => "",
            Self::Python => "Py",
        }
    }

    fn without_prefix(self, message: &str) -> String {
        match self {
            Self::Rust => message.to_owned(),
            Self::Python => message.replace("'Py", "'"),
        }
    }
}

// === impl Shelf ===

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A node that keeps its diary under this name.
    fn node(&self, language: Language, name: &str) -> String {
        Self::diary(language, "node", &self.path(name))
    }

    fn diary(language: Language, id: &str, path: &std::path::Path) -> String {
        language.called(id, "Diary", &format!("path: '{}'", path.display()))
    }

    /// Takes the diaries away when nobody writes there any more: a node is closed behind the last answer.
    async fn clear(self) {
        until(RELEASE, async || {
            let diaries = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
            let diaries: Vec<String> = diaries.map(|path| fs::read_to_string(path).unwrap()).collect();
            let lines =
                |word| diaries.iter().flat_map(|diary| diary.lines()).filter(|line| *line == word).count();
            if lines("open") == lines("close") { Ok(()) } else { Err(diaries) }
        })
        .await;
    }

    /// Waits until the diary says this, and nothing else.
    async fn says(&self, name: &str, lines: &[&str]) {
        until(RELEASE, async || {
            let diary = fs::read_to_string(self.path(name)).unwrap_or_default();
            if diary.lines().eq(lines.iter().copied()) { Ok(()) } else { Err(diary) }
        })
        .await;
    }
}

// === impl Under ===

impl Drop for Under {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _told = writeln!(std::io::stderr(), "the node is written in {:?}", self.0);
        }
    }
}

/// With one more word in its metadata.
fn said(mut buffer: DataBuffer, key: &str, value: &str) -> DataBuffer {
    buffer.metadata.insert(key.to_owned(), value.to_owned());
    buffer
}

fn named(error: &ErrorResponse) -> (ErrorType, &str) {
    (error.error_type(), &error.failing_node_id)
}

async fn unary(plant: &Plant, manifest: &PipelineManifest) -> ErrorResponse {
    plant.client().execute(manifest, [("node", text("x"))]).await.unwrap_err()
}

async fn streamed(plant: &Plant, manifest: &PipelineManifest) -> ErrorResponse {
    let mut call = plant.client().call().await;
    let manifest = Some(manifest.clone());
    call.say(Request::Init(StreamInit { manifest, ..StreamInit::default() })).await;
    match call.next().await {
        Some(Ok(Response::Ready(_))) => call.run([text("x")]).await.error.unwrap(),
        Some(Ok(Response::Error(error))) => error,
        other => panic!("neither ready nor an error: {other:?}"),
    }
}
