//! How soon what a session held is free when its client wants no more. In a program of its own: what is measured is not
//! the other tests.

use std::time::Duration;

use remotemedia_tests::client::{Call, PATIENCE};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text};
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
    send(&call, 10).await;
    assert_eq!(call.result().await.sequence, 0);
    call
}

/// A session whose chunks are small, and far more than it can have done when the next thing is said.
async fn begin_at_length(client: &Client) -> Call {
    let (mut call, _session) = client.stream(&chain(&[SLOW, PASS])).await;
    for sequence in 0..900 {
        call.send(sequence, text("a piece of thirty-two characters")).await;
    }
    assert_eq!(call.result().await.sequence, 0);
    call
}

/// A session whose results nobody reads: more than its client's window takes, and less than stops the client too.
async fn begin_unread(plant: &Plant) -> Call {
    let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
    send(&call, 18).await;
    // Until nothing moves any more, though something is held.
    let (mut last, mut times) = (Vec::new(), 0);
    until(PATIENCE, async || {
        let pools = plant.status().await.frame_pools;
        let in_use: Vec<u64> = pools.into_iter().map(|pool| pool.blocks_in_use).collect();
        times = if in_use == last { times + 1 } else { 0 };
        last = in_use;
        if times >= 20 && last.iter().any(|&blocks| blocks > 0) { Ok(()) } else { Err((last.clone(), times)) }
    })
    .await;
    call
}

async fn send(call: &Call, chunks: u64) {
    for sequence in 0..chunks {
        call.send(sequence, audio::mono(48_000, &[0.5; 48_000])).await;
    }
}

/// The times of all rounds, sorted. What is told at the end is less than was sent.
async fn check(plant: &Plant, how: &str, end: impl AsyncFn() -> Option<(Call, usize)>) -> Vec<Duration> {
    let mut took = Vec::new();
    for _round in 0..ROUNDS {
        let kept = end().await;
        took.push(plant.idle_within(AT_LAST).await);
        if let Some((call, sent)) = kept {
            let answers = call.rest().await.closed();
            assert!(answers.results.len() + 1 < sent, "{} results after {how}", answers.results.len());
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
        Some((call, 10))
    })
    .await;
    let behind_many = check(&plant, "COMMAND_CANCEL behind many chunks", async || {
        let call = begin_at_length(plant.client()).await;
        call.cancel().await;
        Some((call, 900))
    })
    .await;
    let unread = check(&plant, "COMMAND_CANCEL by a client that does not read", async || {
        let call = begin_unread(&plant).await;
        call.cancel().await;
        Some((call, 18))
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
    println!(
        "free after COMMAND_CANCEL: {cancelled:?}, behind many chunks: {behind_many:?}, unread: {unread:?}"
    );
    println!("after the call was dropped: {dropped:?}, half-closed before: {half_closed:?}");
    println!("after the connection was closed: {gone:?}");
    plant.finish().await;
}
