//! How clients are slowed down, and what they are not slowed down by.

use std::time::{Duration, Instant};

use remotemedia_protos::v1::StreamRequest;
use remotemedia_tests::client::chunk;
use remotemedia_tests::deadline::within;
use remotemedia_tests::pipeline::{chain, of, text, words};
use remotemedia_tests::{Client, Plant, audio};

use crate::{APART, PASS, numbered};

/// Sessions at once.
const SESSIONS: usize = 50;
/// Chunks of each, sent as fast as they are taken.
const CHUNKS: u64 = 1_000;

/// Every session sends its burst with the close right behind it, reads all the while, and gets everything in order.
/// Gives how long that took.
async fn bursts(clients: Vec<Client>) -> Duration {
    let begin = Instant::now();
    let sessions = clients.into_iter().map(|client| {
        tokio::spawn(async move {
            let (call, session) = client.stream(&chain(&[PASS])).await;
            let answers = call.run(numbered(CHUNKS)).await.closed();
            assert_eq!(answers.answered, (0..CHUNKS).collect::<Vec<_>>());
            for result in &answers.results {
                assert_eq!(words(&result.data_outputs["pass"]), result.sequence.to_string());
            }
            let closed = answers.closed.expect("it is closed");
            assert_eq!(closed.session_id, session);
            assert_eq!(
                closed.final_metrics.expect("its last metrics").node_metrics["pass"].items_processed,
                CHUNKS
            );
        })
    });
    for session in sessions.collect::<Vec<_>>() {
        session.await.expect("a session passes");
    }
    begin.elapsed()
}

#[tokio::test]
async fn a_burst_of_1000_chunks_finishes_on_each_of_50_sessions_of_one_connection() {
    let plant = Plant::start().await;
    let took = bursts(vec![plant.client().clone(); SESSIONS]).await;
    println!("{SESSIONS} bursts of {CHUNKS} chunks on one connection took {took:?}");
    plant.finish().await;
}

#[tokio::test]
async fn a_burst_of_1000_chunks_finishes_on_each_of_50_connections() {
    let plant = Plant::start().await;
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(Client::connect(plant.address()).await);
    }
    let took = bursts(clients).await;
    println!("{SESSIONS} bursts of {CHUNKS} chunks on as many connections took {took:?}");
    plant.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_stopped_by_flow_control_and_slows_nobody_else() {
    let plant = Plant::start().await;
    let (mut deaf, _session) = plant.client().stream(&chain(&[PASS, APART])).await;
    let before = plant.gateway().private_bytes();
    // 256 KiB a chunk, and 256 MiB in all: far more than all windows and queues together.
    let piece = || audio::mono(48_000, &[0.25; 65_536]);
    let sender = deaf.sender();
    let mut sent = 0;
    let stopped = loop {
        let request = StreamRequest { request: Some(chunk(sent, piece())) };
        match tokio::time::timeout(Duration::from_millis(500), sender.send(request)).await {
            Ok(taken) => taken.unwrap(),
            Err(_elapsed) => break sent,
        }
        sent += 1;
        assert!(sent < 1_024, "nothing stops a client that does not read");
    };
    let held = plant.gateway().private_bytes().saturating_sub(before);
    println!("stopped after {stopped} chunks of 256 KiB, with {held} bytes more in the gateway");
    assert!(stopped < 200, "{stopped} chunks of 256 KiB wait somewhere");
    assert!(held < 64 << 20, "{held} bytes for one client that does not read");

    // Neither the other sessions of its own connection are disturbed, nor those of another.
    let client = Client::connect(plant.address()).await;
    for client in [plant.client(), &client] {
        let (call, _session) = client.stream(&chain(&[PASS, APART])).await;
        let answers = within(Duration::from_secs(5), "the undisturbed session", call.run(numbered(200)));
        assert_eq!(answers.await.closed().results.len(), 200);
    }

    // What was sent has waited, and nothing of it is lost.
    drop(sender);
    deaf.half_close();
    let answers = deaf.rest().await.closed();
    assert_eq!(answers.sequences(), (0..stopped).collect::<Vec<_>>());
    drop(client);
    plant.finish().await;
}

#[tokio::test]
async fn a_client_of_small_chunks_is_stopped_by_flow_control_and_keeps_its_connection() {
    let plant = Plant::start().await;
    let (stuck, _session) =
        plant.client().stream(&chain(&["{ id: slow, node_type: Slow, params: { ms: 500 } }"])).await;
    let sender = stuck.sender();
    let mut sent = 0;
    loop {
        let request = StreamRequest { request: Some(chunk(sent, text("a piece of thirty-two characters"))) };
        match tokio::time::timeout(Duration::from_millis(500), sender.send(request)).await {
            Ok(Ok(())) => sent += 1,
            Ok(Err(_closed)) => panic!("the stream broke after {sent} chunks"),
            Err(_elapsed) => break,
        }
        assert!(sent < 1_000_000, "nothing stops a client of small chunks");
    }
    println!("stopped after {sent} small chunks");
    let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
    assert_eq!(call.run(numbered(20)).await.closed().results.len(), 20);
    drop((sender, stuck));
    plant.finish().await;
}

#[tokio::test]
async fn fifty_sessions_of_two_hundred_chunks_complete_without_pauses() {
    let plant = Plant::start().await;
    let manifest = of("
version: v1
nodes:
  - { id: pass, node_type: PassThrough }
  - { id: left, node_type: PassThrough, own_process: true }
  - { id: right, node_type: PassThrough }
connections:
  - { from: pass, to: left }
  - { from: pass, to: right }
");
    let sessions: Vec<_> = (0..50)
        .map(|_| {
            let (client, manifest) = (plant.client().clone(), manifest.clone());
            tokio::spawn(async move {
                let (call, _session) = client.stream(&manifest).await;
                let answers = call.run((0..200).map(|_| audio::mono(16_000, &[0.1; 320]))).await.closed();
                assert_eq!(answers.sequences(), (0..200).collect::<Vec<_>>());
                assert!(answers.results.iter().all(|result| result.data_outputs.len() == 2));
            })
        })
        .collect();
    for session in sessions {
        session.await.unwrap();
    }
    plant.finish().await;
}
