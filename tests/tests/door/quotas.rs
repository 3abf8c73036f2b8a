//! Who takes much and gives nothing back meets a bound of his own, and starves nobody.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use remotemedia_core::fault::{Fault, StreamFault};
use remotemedia_protos::v1::StreamRequest;
use remotemedia_tests::client::{PATIENCE, chunk, error_in, fault};
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::{Process, Recipe, START, program};
use remotemedia_tests::{Client, Plant, audio};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::body::Body;

use crate::PASS;
use crate::raw::{prefixed, send_body};

const STREAM: &str = "/remotemedia.v1.StreamingPipelineService/StreamPipeline";
const EXECUTE: &str = "/remotemedia.v1.PipelineExecutionService/ExecutePipeline";
const COPY: &str = "{ id: copy, node_type: CopyingPassThrough }";

async fn plant(settings: &'static str) -> Plant {
    Plant::of(Recipe { workers: 1, settings, ..Recipe::default() }).await
}

/// A body that begins with these bytes and then goes quiet, until the other end is dropped.
fn quiet(bytes: &Bytes) -> (Body, watch::Sender<()>) {
    let (quiet, told) = watch::channel(());
    let pieces: Vec<Result<Frame<Bytes>, tonic::Status>> =
        bytes.chunks(16 << 10).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    let end = tokio_stream::wrappers::WatchStream::from_changes(told).filter_map(|()| None);
    (Body::new(StreamBody::new(tokio_stream::iter(pieces).chain(end))), quiet)
}

#[tokio::test]
async fn a_client_that_goes_quiet_within_a_message_is_told_and_let_go() {
    let plant = plant("[limits]\nmessage_stall_ms = 300").await;
    for path in [STREAM, EXECUTE] {
        let began = Instant::now();
        let (body, _quiet) = quiet(&prefixed(0, 1_000, &[7; 100]));
        let (status, _) = send_body(plant.client(), path, body).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{path}: {status}");
        let Fault::Deadline { limit_ms, waiting_for } = fault(&error_in(&status)) else { panic!("{status}") };
        assert_eq!(
            (limit_ms, waiting_for.as_str()),
            (300, "the rest of a message, of which 105 of 1005 bytes came")
        );
        assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    }
    // One that is quiet between messages is not meant.
    let (mut call, _session) = plant.client().stream(&chain(&[PASS])).await;
    call.send(0, text("a")).await;
    call.result().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    call.send(1, text("b")).await;
    assert_eq!(call.result().await.sequence, 1);
    call.close().await;
    let answers = call.rest().await.closed();
    assert_eq!(answers.results.len(), 0, "both were read");
    plant.finish().await;
}

#[tokio::test]
async fn large_messages_that_are_begun_and_not_ended_are_bounded_for_each_connection() {
    let plant = plant("[limits]\nmax_connection_incomplete_bytes = 4194304").await;
    let greedy = Client::connect(plant.address()).await;
    let part = prefixed(0, 8 << 20, &vec![7; 3 << 20]);
    let [(one, first_quiet), (other, second_quiet)] = [quiet(&part), quiet(&part)];
    let before = plant.gateway().private_bytes();
    let call = |body| {
        let greedy = greedy.clone();
        tokio::spawn(async move { send_body(&greedy, STREAM, body).await })
    };
    let (mut first, mut second) = (call(one), call(other));
    let (refused, holder) = tokio::select! {
        refused = &mut first => (refused, second),
        refused = &mut second => (refused, first),
    };
    let (status, _) = refused.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let Fault::Limit(limit) = fault(&error_in(&status)) else { panic!("{status}") };
    assert_eq!((limit.limit, limit.unit.as_str()), (4 << 20, "bytes"));
    assert!(limit.what.contains("this connection") && !limit.advice.is_empty(), "{limit}");
    let held = plant.gateway().private_bytes().saturating_sub(before);
    assert!(held < 32 << 20, "{held} bytes are held for it");
    // The other one holds on to its part meanwhile.
    let manifest = chain(&[PASS]);
    for _ in 0..10 {
        let run = plant.client().execute(&manifest, [("pass", large())]);
        let result = within(PATIENCE, "another client's run", run).await.unwrap();
        assert_eq!(result.data_outputs["pass"], large());
    }
    assert!(!holder.is_finished(), "it was let go meanwhile");
    holder.abort();
    drop((greedy, first_quiet, second_quiet));
    plant.finish().await;
}

/// Frames so large that the pools hold only some.
fn large() -> remotemedia_protos::v1::DataBuffer {
    audio::mono(48_000, &vec![0.25; 750_000])
}

/// Pools of about eight blocks of the largest size.
const SMALL_POOLS: &str = "[limits]\nmax_message_bytes = 4194304\n\
                           [pools]\ngateway_bytes = 50331648\nworker_bytes = 50331648";

#[tokio::test]
async fn a_client_that_does_not_read_large_frames_leaves_memory_for_others() {
    let plant = plant(SMALL_POOLS).await;
    // What is forwarded lies in the gateway's pool, what is copied in the worker's.
    let mut deaf = Vec::new();
    for node in [PASS, COPY] {
        let client = Client::connect(plant.address()).await;
        let (call, _session) = client.stream(&chain(&[node])).await;
        let sender = call.sender();
        let mut sent = 0;
        loop {
            let request = StreamRequest { request: Some(chunk(sent, large())) };
            if tokio::time::timeout(Duration::from_millis(400), sender.send(request)).await.is_err() {
                break;
            }
            sent += 1;
        }
        deaf.push((client, call, sender, sent));
    }
    for node in [PASS, COPY] {
        let id = if node == PASS { "pass" } else { "copy" };
        let (manifest, began) = (chain(&[node]), Instant::now());
        for _ in 0..10 {
            let run = plant.client().execute(&manifest, [(id, large())]);
            within(PATIENCE, "another client's run", run).await.unwrap();
        }
        println!("ten runs beside two clients that do not read: {:?}", began.elapsed());
        let (call, _session) = plant.client().stream(&manifest).await;
        let answers = within(PATIENCE, "another client's stream", call.run((0..10).map(|_| large())));
        assert_eq!(answers.await.closed().results.len(), 10);
    }
    // What they have sent has waited, and nothing of it is lost.
    for (client, mut call, sender, sent) in deaf {
        drop(sender);
        call.half_close();
        let answers = call.rest().await.closed();
        assert_eq!(answers.sequences(), (0..sent).collect::<Vec<_>>());
        drop(client);
    }
    plant.finish().await;
}

#[tokio::test]
async fn more_workers_than_the_budget_of_the_frame_pools_has_room_for_are_refused_by_name() {
    let settings = "[pools]\ngateway_bytes = 67108864\nworker_bytes = 67108864\nbudget_bytes = 150000000";
    let mut plant = plant(settings).await;
    plant.expect("worker_refused");
    let refused = plant.extra_worker();
    refused.ended(START).await;
    let said = refused.log().join("\n");
    assert!(
        said.contains("of the 150000000 bytes of their budget") && said.contains("raise budget_bytes"),
        "{said}"
    );
    let result = plant.client().execute(&chain(&[PASS]), [("pass", text("mine"))]).await.unwrap();
    assert_eq!(words(&result.data_outputs["pass"]), "mine");
    plant.finish().await;
}

#[tokio::test]
async fn frame_pools_that_the_budget_or_the_machine_cannot_give_are_told_at_the_start_with_what_to_change() {
    let pools = "workers = 2\n[pools]\ngateway_bytes = 67108864\nworker_bytes = 67108864\n";
    for (more, code, says) in [
        // The settings contradict each other.
        (
            "budget_bytes = 150000000",
            78,
            [
                "the frame pools' budget of 150000000 bytes is less than the",
                "that the gateway and 2 workers take",
                "raise budget_bytes, or lower gateway_bytes, worker_bytes or the number of workers",
            ],
        ),
        // The machine, or a cgroup on the way up, has less.
        (
            "budget_bytes = 1125899906842624",
            71,
            ["the frame pools' budget is 1125899906842624 bytes, but", "leaves", "lower the budget, or"],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let settings = dir.path().join("gateway.toml");
        std::fs::write(&settings, format!("{pools}{more}\n")).unwrap();
        let config = format!("--config={}", settings.display());
        let runtime_dir = format!("--runtime-dir={}/run", dir.path().display());
        let words = ["--grpc=127.0.0.1:0", "--admin=127.0.0.1:0", &config, &runtime_dir];
        let gateway = Process::start("gateway", &program("remotemedia-gateway"), &words);
        assert_eq!(gateway.ended(START).await.status.code(), Some(code), "{:?}", gateway.log());
        let said = gateway.log().join("\n");
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
        assert_eq!(gateway.printed(), Vec::<String>::new(), "it never served");
    }
}

/// The same, where a connection may have one of them.
const ONE_BLOCK: &str = "[limits]\nmax_message_bytes = 4194304\nmax_connection_pool_percent = 10\n\
                         [pools]\ngateway_bytes = 50331648\nworker_bytes = 50331648";

#[tokio::test]
async fn what_one_connection_holds_keeps_its_own_next_input_waiting_and_nobody_elses() {
    const HELD: Duration = Duration::from_millis(1_500);
    let plant = plant(ONE_BLOCK).await;
    let one = Client::connect(plant.address()).await;
    let slow = format!("{{ id: slow, node_type: Slow, params: {{ ms: {} }} }}", HELD.as_millis());
    let (mut holder, _session) = one.stream(&chain(&[&slow])).await;
    let (mut next, _session) = one.stream(&chain(&[PASS])).await;
    let began = Instant::now();
    holder.send(0, large()).await;
    until(PATIENCE, async || {
        let pools = plant.status().await.frame_pools;
        let own = pools.into_iter().find(|pool| pool.owner == "gateway");
        if own.as_ref().is_some_and(|pool| pool.blocks_in_use > 0) { Ok(()) } else { Err(own) }
    })
    .await;
    next.send(0, large()).await;
    let manifest = chain(&[PASS]);
    let run = plant.client().execute(&manifest, [("pass", large())]);
    within(PATIENCE, "another connection's run", run).await.unwrap();
    let others = began.elapsed();
    let (held, waited) = tokio::join!(holder.result(), async {
        let result = next.result().await;
        (result, began.elapsed())
    });
    assert_eq!((held.sequence, waited.0.sequence), (0, 0));
    assert!(waited.1 >= HELD, "the second input was let in after {:?}, when the first was held", waited.1);
    assert!(others < waited.1, "the other connection was served after {others:?}");
    for mut call in [holder, next] {
        call.half_close();
        let _answers = call.rest().await.closed();
    }
    drop(one);
    plant.finish().await;
}

/// The same, where nobody is waited for long.
const IMPATIENT: &str = "[limits]\nmax_message_bytes = 4194304\nidle_timeout_ms = 4000\n\
                         [pools]\ngateway_bytes = 50331648\nworker_bytes = 50331648";

#[tokio::test]
async fn one_connection_has_its_part_of_the_pool_in_all_its_streams_and_is_told() {
    let plant = plant(IMPATIENT).await;
    let greedy = Client::connect(plant.address()).await;
    let manifest = chain(&[PASS]);
    let mut deaf = Vec::new();
    for _ in 0..3 {
        let (call, _session) = greedy.stream(&manifest).await;
        let sender = call.sender();
        let send = async |sequence| {
            sender.send(StreamRequest { request: Some(chunk(sequence, large())) }).await.unwrap();
        };
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_millis(100), send(sent)).await.is_ok() {
            sent += 1;
        }
        deaf.push((call, sender, sent));
    }
    // Long before those have ended.
    for _ in 0..3 {
        let run = plant.client().execute(&manifest, [("pass", large())]);
        within(Duration::from_millis(1_500), "another connection's run", run).await.unwrap();
    }
    for (call, sender, sent) in deaf {
        drop(sender);
        let answers = call.rest().await;
        let Some(error) = &answers.error else { panic!("{sent} frames were sent, and none too many") };
        println!("{sent} sent, {} answered: {}", answers.results.len(), error.message);
        // Whichever is over first: its own time without a reader or input, or that for which its input waits for others.
        let fault = fault(error);
        let is_its_time = matches!(
            &fault,
            Fault::Stream(StreamFault::Unread { idle_ms: 4_000 } | StreamFault::Idle { idle_ms: 4_000 })
        );
        let is_its_part =
            matches!(&fault, Fault::Limit(limit) if limit.what.contains("this connection's sessions"));
        assert!(is_its_time || is_its_part, "{fault:?}");
        assert!((answers.results.len() as u64) <= sent);
    }
    within(PATIENCE, "its own run", greedy.execute(&manifest, [("pass", large())])).await.unwrap();
    drop(greedy);
    plant.finish().await;
}
