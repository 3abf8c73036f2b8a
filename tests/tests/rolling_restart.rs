//! Workers are replaced while clients go on: not one of them is refused, and what cannot take a worker's place does not.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use remotemedia_cli::admin::Status;
use remotemedia_tests::deadline::within;
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::{START, program};
use remotemedia_tests::up::Home;
use remotemedia_tests::{Client, Up};

const PASS: &str = "{ id: pass, node_type: PassThrough }";
/// Only the pool of one worker has it.
const SLOW: &str = "{ id: slow, node_type: Slow, params: { ms: 5 } }";

/// Clients that go on until they are to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_workers_under_load_fails_no_request_and_a_bad_successor_takes_no_place() {
    let home = Home::fresh();
    let (broken, worker) = (home.file("broken"), program("test-worker"));
    let script = format!("test -e {broken} && {{ echo no model >&2; exit 7; }}; exec \"$0\" \"$@\"");
    let command = ["/bin/sh", "-c", &script, worker.to_str().unwrap()];
    let config = home.configuration(&format!(
        "[[pool]]\nkind = 'rust'\nworkers = 2\n[[pool]]\nkind = 'single'\nworkers = 1\ncommand = {command:?}\n"
    ));
    let up = Up::ready(home, &["--config", &config]).await;
    let before = pids(&up.look().await);
    let client = up.client().await;
    let load = Load::of(&client);
    load.is_on().await;

    let begin = Instant::now();
    let done = restart(&up, &[]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    println!("three workers were replaced in {:?}", begin.elapsed());
    for name in ["rust-1", "rust-2", "single-1"] {
        assert!(done.stderr.contains(&format!("{name} is replaced")), "{}", done.stderr);
    }
    let after = pids(&up.look().await);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(before.iter().all(|(name, pid)| after[name] != *pid), "{before:?} {after:?}");
    load.is_on().await;

    fs::write(&broken, "").unwrap();
    let done = restart(&up, &["single"]).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for part in
        ["the successor of 'single-1' did not become ready: it exited with code 7", "'no model'", "serves on"]
    {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let done = restart(&up, &["double"]).await;
    assert!(done.stderr.contains("there is no pool 'double': there are rust, single"), "{}", done.stderr);
    load.is_on().await;
    assert_eq!(pids(&up.look().await), after);
    println!("{} requests were served, and none was refused", load.end().await);
    up.idle().await;
    drop(client);
    up.stop().await;
}

// === impl Load ===

impl Load {
    /// Calls and streams of a pool of two and of a pool of one.
    fn of(client: &Client) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let run = |node: &'static str, id: &'static str, is_stream: bool| {
            let (client, stop, served) = (client.clone(), Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if is_stream {
                        stream(&client, node, id).await
                    } else {
                        call(&client, node, id).await
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let nodes = [(PASS, "pass"), (SLOW, "slow")];
        let clients =
            nodes.iter().flat_map(|(node, id)| [run(node, id, false), run(node, id, true)]).collect();
        Self { stop, served, clients }
    }

    /// Waits until some more is served.
    async fn is_on(&self) {
        let enough = self.served.load(Ordering::Relaxed) + 20;
        remotemedia_tests::deadline::until(START, async || {
            let served = self.served.load(Ordering::Relaxed);
            if served >= enough { Ok(()) } else { Err(served) }
        })
        .await;
    }

    /// How many were served. A client that was refused has panicked.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            within(START, "the end of a client", client).await.unwrap();
        }
        self.served.load(Ordering::Relaxed)
    }
}

async fn call(client: &Client, node: &str, id: &str) {
    let result = client.execute(&chain(&[node]), [(id, text("a call"))]).await.unwrap();
    assert_eq!(words(&result.data_outputs[id]), "a call");
}

async fn stream(client: &Client, node: &str, id: &str) {
    let (call, _session) = client.stream(&chain(&[node])).await;
    let answers = call.run((0..5).map(|number| text(number.to_string()))).await.closed();
    assert_eq!(answers.of(id).map(words).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
}

async fn restart(up: &Up, pool: &[&str]) -> remotemedia_tests::up::Done {
    let dir = up.ready["runtime_dir"].as_str().unwrap();
    up.home.run(&[&["restart", "--runtime-dir", dir], pool].concat()).await
}

fn pids(status: &Status) -> BTreeMap<String, u32> {
    status.workers.iter().map(|worker| (worker.name.clone(), worker.pid)).collect()
}
