//! How soon what a session held is free when its client wants no more. In a program of its own: what is measured is not
//! the other tests.

use std::time::Duration;

use remotemedia_tests::client::Call;
use remotemedia_tests::pipeline::chain;
use remotemedia_tests::{Client, Plant, audio};

const PASS: &str = "{ id: pass, node_type: PassThrough }";
/// What it works on when it is told to stop it still finishes.
const SLOW: &str = "{ id: slow, node_type: Slow, params: { ms: 20 } }";

/// From the client's going to the last block and session being free, in gateway and workers.
const PROMPTLY: Duration = Duration::from_millis(100);
/// Of any one round: longer only where all processes wait for a processor.
const AT_LAST: Duration = Duration::from_secs(1);
const ROUNDS: usize = 9;

/// A session in the middle of its work, with more to do.
async fn begin(client: &Client) -> Call {
    let (mut call, _session) = client.stream(&chain(&[SLOW, PASS])).await;
    for sequence in 0..10 {
        call.send(sequence, audio::mono(48_000, &[0.5; 48_000])).await;
    }
    assert_eq!(call.result().await.sequence, 0);
    call
}

/// The times of all rounds, sorted.
async fn check(plant: &Plant, how: &str, end: impl AsyncFn() -> Option<Call>) -> Vec<Duration> {
    let mut took = Vec::new();
    for _round in 0..ROUNDS {
        let kept = end().await;
        took.push(plant.idle_within(AT_LAST).await);
        if let Some(call) = kept {
            let answers = call.rest().await.closed();
            assert!(answers.results.len() < 9, "{} results after {how}", answers.results.len());
        }
    }
    took.sort();
    let median = took[ROUNDS / 2];
    assert!(median <= PROMPTLY, "free only {median:?} after {how}");
    took
}

#[tokio::test]
async fn what_a_cancelled_or_vanished_client_held_is_free_within_100_ms() {
    let plant = Plant::start().await;
    let cancelled = check(&plant, "COMMAND_CANCEL", async || {
        let call = begin(plant.client()).await;
        call.cancel().await;
        Some(call)
    })
    .await;
    let dropped = check(&plant, "the call was dropped", async || {
        drop(begin(plant.client()).await);
        None
    })
    .await;
    let half_closed = check(&plant, "the half-closed call was dropped", async || {
        let mut call = begin(plant.client()).await;
        call.half_close();
        drop(call);
        None
    })
    .await;
    let gone = check(&plant, "the connection was closed", async || {
        let client = Client::connect(plant.address()).await;
        let call = begin(&client).await;
        drop((call, client));
        None
    })
    .await;
    println!("free after COMMAND_CANCEL: {cancelled:?}");
    println!("after the call was dropped: {dropped:?}, half-closed before: {half_closed:?}");
    println!("after the connection was closed: {gone:?}");
    plant.finish().await;
}
