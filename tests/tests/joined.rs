//! Pipelines with several inputs, several sinks and branches that meet again, as clients meet them.

use std::collections::BTreeMap;

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{DataBuffer, DataChunk, ErrorType, PipelineManifest};
use remotemedia_tests::Plant;
use remotemedia_tests::client::Call;
use remotemedia_tests::pipeline::{chain, connection, document, text, unconnected, words};
use serde_json::json;

const JOIN: &str = "{ id: join, node_type: Join }";

/// A chunk for an entry, with a text for each port; an empty port is the entry's only one.
fn chunk(node: &str, sequence: u64, texts: &[(&str, &str)]) -> Request {
    let mut named_buffers: BTreeMap<String, DataBuffer> =
        texts.iter().map(|(port, words)| ((*port).to_owned(), text(*words))).collect();
    let buffer = named_buffers.remove("");
    Request::DataChunk(DataChunk {
        node_id: node.to_owned(),
        buffer,
        named_buffers,
        sequence,
        ..DataChunk::default()
    })
}

fn connected(nodes: &[&str], connections: &[(&str, &str)]) -> PipelineManifest {
    let mut manifest = unconnected(nodes);
    manifest.connections = connections.iter().map(|(from, to)| connection(from, to)).collect();
    manifest
}

async fn say_all(call: &Call, chunks: impl IntoIterator<Item = Request>) {
    for chunk in chunks {
        call.say(chunk).await;
    }
}

#[tokio::test]
async fn named_buffers_of_one_chunk_reach_their_ports_together() {
    let plant = Plant::start().await;
    let (mut call, _session) = plant.client().stream(&chain(&[JOIN])).await;
    call.say(chunk("join", 0, &[("left", "a"), ("right", "b")])).await;
    call.say(chunk("join", 1, &[("left", "alone")])).await;
    call.say(chunk("join.left", 2, &[("", "by its full name")])).await;
    let expected = [("a", json!("b")), ("alone", json!(null)), ("by its full name", json!(null))];
    for (sequence, (left, right)) in (0..).zip(expected) {
        let result = call.result().await;
        assert_eq!(result.sequence, sequence);
        assert_eq!(document(&result.data_outputs["join"]), json!({ "left": left, "right": right }));
    }
    call.close().await;
    assert!(call.rest().await.closed().results.is_empty());

    let ports = [("join.left", text("a")), ("join.right", text("b"))];
    let result = plant.client().execute(&chain(&[JOIN]), ports).await.unwrap();
    assert_eq!(document(&result.data_outputs["join"]), json!({ "left": "a", "right": "b" }));
    plant.finish().await;
}

#[tokio::test]
async fn an_input_for_no_port_and_a_missing_one_are_answered_with_the_ports_there_are() {
    let plant = Plant::start().await;
    let check = async |node: &str, texts: &[(&str, &str)], error_type: ErrorType, expect: &str| {
        let (call, _session) = plant.client().stream(&chain(&[JOIN])).await;
        call.say(chunk(node, 0, texts)).await;
        let error = call.rest().await.error.unwrap();
        assert_eq!((error.error_type(), error.failing_node_id.as_str()), (error_type, "join"), "{error:?}");
        assert!(error.message.contains(expect), "{}", error.message);
    };
    let ports = "its type has ports left, right";
    check("join", &[("", "a")], ErrorType::Validation, ports).await;
    check("join", &[("middle", "a")], ErrorType::Validation, ports).await;
    check("join.middle", &[("", "a")], ErrorType::Validation, ports).await;
    check("join", &[], ErrorType::Validation, "has no data").await;
    check("join.left", &[("", "a"), ("left", "b")], ErrorType::Validation, "is given twice").await;
    let missing = "nothing came on input 'left' for sequence 0";
    check("join", &[("right", "a")], ErrorType::NodeExecution, missing).await;

    let pass = "{ id: pass, node_type: PassThrough }";
    let inputs = || [("pass", text("a"))];
    for (to, expect) in [("join", ports), ("join.middle", ports)] {
        let manifest = connected(&[pass, JOIN], &[("pass", to)]);
        let error = plant.client().execute(&manifest, inputs()).await.unwrap_err();
        assert!(error.message.contains(expect), "{}", error.message);
    }
    let other = "{ id: other, node_type: PassThrough }";
    let manifest = connected(&[pass, other], &[("pass", "other.left")]);
    let error = plant.client().execute(&manifest, inputs()).await.unwrap_err();
    assert!(error.message.contains("one input, without a name"), "{}", error.message);
    plant.finish().await;
}

#[tokio::test]
async fn every_named_input_reaches_its_node_and_every_sink_answers_by_its_id() {
    let plant = Plant::start().await;
    let nodes = ["one", "two", "left", "right", "both"]
        .map(|id| format!("{{ id: {id}, node_type: PassThrough, own_process: {} }}", id == "right"));
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let edges = [("one", "left"), ("one", "right"), ("one", "both"), ("two", "both")];
    let manifest = connected(&nodes, &edges);
    let inputs = [("one", text("1")), ("two", text("2"))];
    let result = plant.client().execute(&manifest, inputs).await.unwrap();
    assert_eq!(result.data_outputs.keys().collect::<Vec<_>>(), ["both", "left", "right"]);
    assert_eq!(words(&result.data_outputs["left"]), "1");
    assert_eq!(words(&result.data_outputs["right"]), "1");
    // Texts of one sink are one text in a unary answer, in the order of the connections.
    assert_eq!(words(&result.data_outputs["both"]), "12");

    let (mut call, _session) = plant.client().stream(&manifest).await;
    say_all(&call, [chunk("two", 0, &[("", "b0")]), chunk("one", 0, &[("", "a0")])]).await;
    let (mut by_sink, mut results) = (BTreeMap::<String, Vec<String>>::new(), 0);
    while by_sink.values().map(Vec::len).sum::<usize>() < 4 {
        let result = call.result().await;
        assert_eq!(result.sequence, 0);
        for (sink, buffer) in result.data_outputs {
            by_sink.entry(sink).or_default().push(words(&buffer).to_owned());
        }
        results += 1;
    }
    assert!(results <= 2, "what comes last of all sinks comes together");
    assert_eq!(by_sink["left"], ["a0"]);
    assert_eq!(by_sink["both"], ["a0", "b0"]);
    call.close().await;
    assert!(call.rest().await.closed().results.is_empty());
    plant.finish().await;
}

/// Many outputs of each input go over one branch, none or one over the other, which is a process away: more than all
/// windows hold. Whichever the joint waits for, the other must not keep it from coming.
#[tokio::test]
async fn branches_that_meet_again_never_wait_for_each_other_in_a_circle() {
    let plant = Plant::start().await;
    let check = async |branch: &str, each: usize| {
        let nodes = [
            "{ id: in, node_type: Multi, params: { outputs: 20 } }",
            "{ id: near, node_type: PassThrough }",
            branch,
            "{ id: out, node_type: PassThrough }",
        ];
        let edges = [("in", "far"), ("in", "near"), ("near", "out"), ("far", "out")];
        let (call, _session) = plant.client().stream(&connected(&nodes, &edges)).await;
        let answers = call.run((0..60).map(|number| text(number.to_string()))).await.closed();
        let mut expected: BTreeMap<u64, usize> = BTreeMap::new();
        for result in &answers.results {
            let output = words(&result.data_outputs["out"]);
            assert_eq!(output, result.sequence.to_string(), "{branch}");
            *expected.entry(result.sequence).or_default() += 1;
        }
        assert!(answers.sequences().is_sorted(), "{branch}");
        assert_eq!(expected, (0..60).map(|sequence| (sequence, each)).collect(), "{branch}");
    };
    check("{ id: far, node_type: PassThrough, own_process: true }", 40).await;
    check("{ id: far, node_type: Silent, own_process: true }", 20).await;
    check("{ id: far, node_type: Multi, own_process: true, params: { outputs: 3 } }", 80).await;
    plant.finish().await;
}

#[tokio::test]
async fn frames_of_two_entries_are_joined_by_sequence_across_processes() {
    let plant = Plant::start().await;
    let nodes = [
        "{ id: a, node_type: PassThrough }",
        "{ id: b, node_type: PassThrough, own_process: true }",
        "{ id: join, node_type: Join }",
    ];
    let manifest = connected(&nodes, &[("a", "join.left"), ("b", "join.right")]);
    let (mut call, _session) = plant.client().stream(&manifest).await;
    let sender = call.sender();
    // The second entry begins at another number: what the first has before goes alone.
    let send = tokio::spawn(async move {
        for sequence in 0..100_u64 {
            let mut requests = vec![chunk("a", sequence, &[("", "a")])];
            if sequence >= 2 {
                requests.push(chunk("b", sequence, &[("", "b")]));
            }
            for request in requests {
                let request = remotemedia_protos::v1::StreamRequest { request: Some(request) };
                sender.send(request).await.unwrap();
            }
        }
    });
    for sequence in 0..100 {
        let result = call.result().await;
        assert_eq!(result.sequence, sequence);
        let right = if sequence < 2 { json!(null) } else { json!("b") };
        assert_eq!(document(&result.data_outputs["join"]), json!({ "left": "a", "right": right }));
    }
    send.await.unwrap();
    call.close().await;
    assert!(call.rest().await.closed().results.is_empty());
    plant.finish().await;
}
