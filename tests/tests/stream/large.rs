//! Frames so large that the frame pools hold few of them, in more sessions than there are blocks.

use std::collections::BTreeMap;

use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{DataBuffer, DataChunk, StreamRequest};
use remotemedia_tests::client::PATIENCE;
use remotemedia_tests::deadline::within;
use remotemedia_tests::pipeline::{chain, of, text};
use remotemedia_tests::{Client, Plant};
use tokio::task::JoinHandle;

use crate::PASS;

/// Sessions at once, each of which sends as fast as it may.
const SESSIONS: usize = 20;
/// Chunks of each.
const CHUNKS: u64 = 10;
/// Bytes of one: of blocks that are as large the pools have eight.
const LARGE: usize = 2 << 20;
/// Sessions at once that each need two blocks to give one back.
const JOINED: usize = 12;

/// A text of 2 MiB that begins with its place.
fn large(name: &str, sequence: u64) -> DataBuffer {
    let begin = format!("{name} {sequence} ");
    text(begin + &"x".repeat(LARGE))
}

fn begin_of(buffer: &DataBuffer) -> String {
    let words = remotemedia_tests::pipeline::words(buffer);
    assert!(words.len() > LARGE, "it came whole");
    words.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// As many clients, each with a connection of its own.
async fn connections(plant: &Plant, many: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..many {
        clients.push(Client::connect(plant.address()).await);
    }
    clients
}

/// All of them, which begin at once.
async fn pass(sessions: impl Iterator<Item = JoinHandle<()>>) {
    for session in sessions.collect::<Vec<_>>() {
        session.await.expect("a session passes");
    }
}

/// Every session sends its burst and reads all the while: all is answered once and in order.
async fn bursts(clients: Vec<Client>) {
    let sessions = clients.into_iter().map(|client| {
        tokio::spawn(async move {
            let (call, _session) = client.stream(&chain(&[PASS])).await;
            let answers = call.run((0..CHUNKS).map(|sequence| large("pass", sequence))).await.closed();
            let begins: Vec<String> = answers.of("pass").map(begin_of).collect();
            assert_eq!(begins, (0..CHUNKS).map(|sequence| format!("pass {sequence}")).collect::<Vec<_>>());
        })
    });
    pass(sessions).await;
}

#[tokio::test]
async fn a_burst_of_large_frames_finishes_on_each_of_20_sessions_of_one_connection() {
    let plant = Plant::start().await;
    bursts(vec![plant.client().clone(); SESSIONS]).await;
    plant.finish().await;
}

#[tokio::test]
async fn a_burst_of_large_frames_finishes_on_each_of_20_connections() {
    let plant = Plant::start().await;
    bursts(connections(&plant, SESSIONS).await).await;
    plant.finish().await;
}

/// Two entries that meet.
const MEETING: &str = "
version: v1
nodes:
  - { id: a, node_type: PassThrough }
  - { id: b, node_type: PassThrough }
  - { id: both, node_type: PassThrough }
connections:
  - { from: a, to: both }
  - { from: b, to: both }
";

/// Every session sends the first part of a sequence, and when all have, the second: until then nothing is answered, and
/// no block comes free.
async fn parts_that_meet(clients: Vec<Client>) {
    let all_have_sent = std::sync::Arc::new(tokio::sync::Barrier::new(clients.len()));
    let sessions = clients.into_iter().map(|client| {
        let all_have_sent = std::sync::Arc::clone(&all_have_sent);
        tokio::spawn(async move {
            let (mut call, _session) = client.stream(&of(MEETING)).await;
            let sender = call.sender();
            call.half_close();
            let send = async move {
                for sequence in 0..3 {
                    for name in ["a", "b"] {
                        let request = Request::DataChunk(DataChunk {
                            node_id: name.to_owned(),
                            buffer: Some(large(name, sequence)),
                            sequence,
                            ..DataChunk::default()
                        });
                        let sent = sender.send(StreamRequest { request: Some(request) });
                        // A session that failed takes no more, and its answers tell why.
                        let is_taken = within(PATIENCE, "the taking of a part", sent).await.is_ok();
                        if (sequence, name) == (0, "a") {
                            all_have_sent.wait().await;
                        }
                        if !is_taken {
                            return;
                        }
                    }
                }
            };
            let ((), answers) = tokio::join!(send, call.rest());
            let mut by_sequence = BTreeMap::<u64, Vec<String>>::new();
            for result in &answers.closed().results {
                by_sequence
                    .entry(result.sequence)
                    .or_default()
                    .extend(result.data_outputs.values().map(begin_of));
            }
            let expected =
                (0..3).map(|sequence| (sequence, vec![format!("a {sequence}"), format!("b {sequence}")]));
            assert_eq!(by_sequence, expected.collect());
        })
    });
    pass(sessions).await;
}

#[tokio::test]
async fn large_parts_that_meet_finish_on_each_of_12_sessions_of_one_connection() {
    let plant = Plant::start().await;
    parts_that_meet(vec![plant.client().clone(); JOINED]).await;
    plant.finish().await;
}

#[tokio::test]
async fn large_parts_that_meet_finish_on_each_of_12_connections() {
    let plant = Plant::start().await;
    parts_that_meet(connections(&plant, JOINED).await).await;
    plant.finish().await;
}

#[tokio::test]
async fn large_inputs_of_one_run_never_wait_for_those_of_another_in_a_circle() {
    let plant = Plant::start().await;
    let runs = (0..JOINED).map(|_| {
        let client = plant.client().clone();
        tokio::spawn(async move {
            let inputs = [("a", large("a", 0)), ("b", large("b", 0))];
            client.execute(&of(MEETING), inputs).await.map(|result| result.data_outputs["both"].clone())
        })
    });
    for run in runs.collect::<Vec<_>>() {
        let both = run.await.expect("no run panics").expect("a run passes");
        assert!(remotemedia_tests::pipeline::words(&both).len() > 2 * LARGE, "both came");
    }
    plant.finish().await;
}
