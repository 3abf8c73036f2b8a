//! A worker that keeps dying is left alone for a while: who asks for it hears so at once, operators see it, and a person or
//! time ends it.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_cli::admin::{AdminDoor, Status};
use remotemedia_core::Fault;
use remotemedia_core::fault::DeathCause;
use remotemedia_core::launching::LaunchOrder;
use remotemedia_protos::v1::ExecuteRequest;
use remotemedia_tests::client::{Call, error_in, fault};
use remotemedia_tests::deadline::within;
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::{START, program};
use remotemedia_tests::up::{Home, SOON};
use remotemedia_tests::{Client, Up};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status as Refusal};

/// Only the worker that fails has it.
const TELL: &str = "{ id: tell, node_type: Tell }";
const PASS: &str = "{ id: pass, node_type: PassThrough }";

/// From the question to the answer that the worker is in quarantine: nobody waits for it to be started.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A stock worker, and one whose program does not start while the file `broken` is there.
async fn service(pause_s: u64) -> (Up, String) {
    let home = Home::fresh();
    let (broken, worker) = (home.file("broken"), program("test-worker"));
    let script = format!("test -e {broken} && {{ echo no model >&2; exit 7; }}; exec \"$0\" \"$@\"");
    let command = ["/bin/sh", "-c", &script, worker.to_str().unwrap()];
    let pools = format!(
        "[quarantine]\ndeaths = 3\npause_s = {pause_s}\n[[pool]]\nkind = 'rust'\nworkers = 1\n\
         [[pool]]\nkind = 'shaky'\nworkers = 1\ncommand = {command:?}\n"
    );
    let config = home.configuration(&pools);
    (Up::ready(home, &["--config", &config]).await, broken)
}

#[tokio::test]
async fn a_worker_that_keeps_dying_is_left_alone_told_at_once_and_released_by_hand() {
    let (up, broken) = service(1_000).await;
    let client = up.client().await;
    break_it(&up, &broken).await;
    let status = up.look().await;
    let quarantine = &status.quarantines[0];
    assert_eq!((quarantine.worker.as_str(), quarantine.deaths), ("shaky-1", 3));
    assert_eq!(quarantine.cause, "exited with code 7");
    assert!(quarantine.left_s > 990.0 && quarantine.left_s <= 1_000.0, "{quarantine:?}");

    let asked = Instant::now();
    let (unary, streamed) = (refused(&client).await, refused_stream(&client).await);
    println!("a call and a stream were refused within {:?}", asked.elapsed());
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    for refusal in [unary, streamed] {
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        let Fault::Quarantined { node, node_type, quarantines, retry_after_ms } = fault(&error_in(&refusal))
        else {
            panic!("{refusal}")
        };
        assert_eq!((node.as_str(), node_type.as_str()), ("tell", "Tell"));
        assert_eq!(
            (quarantines[0].cause, quarantines[0].last_line.as_str()),
            (DeathCause::Exit(7), "no model")
        );
        assert!(retry_after_ms > 990_000, "{retry_after_ms}");
        let pushback = refusal.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
        assert!(pushback.parse::<u64>().unwrap() > 990_000, "{pushback}");
        for part in ["exited with code 7", "'no model'", "tried again in", "`remotemedia release shaky-1`"] {
            assert!(refusal.message().contains(part), "{part}: {refusal}");
        }
    }
    shown_everywhere(&up).await;
    let served = client.execute(&chain(&[PASS]), [("pass", text("others"))]).await.unwrap();
    assert_eq!(words(&served.data_outputs["pass"]), "others");

    not_released(&up).await;
    fs::remove_file(&broken).unwrap();
    let dir = up.ready["runtime_dir"].as_str().unwrap();
    let done = up.home.run(&["release", "shaky-1", "--runtime-dir", dir]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let served = client.execute(&chain(&[TELL]), [("tell", text("again"))]).await;
    assert!(served.is_ok(), "{served:?}");
    up.until(SOON, |status| status.quarantines.is_empty()).await;
    assert_eq!(get(&up, "/readyz").await, "ready");
    up.idle().await;
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn a_quarantine_is_told_to_the_next_gateway_and_ended_by_time() {
    let (up, broken) = service(2).await;
    break_it(&up, &broken).await;
    let gateway = up.look().await.gateway.pid;
    signal(gateway, Signal::SIGKILL);
    fs::remove_file(&broken).unwrap();
    let door = AdminDoor::at(up.ready["admin"].as_str().unwrap());
    let mut told = false;
    remotemedia_tests::deadline::until(SOON, async || {
        let status = door.status().await.map_err(|error| error.to_string())?;
        told |= status.gateway.pid != gateway && status.quarantines.len() == 1;
        let is_back = status.workers.iter().any(|worker| worker.name == "shaky-1" && worker.state == "ready");
        if is_back && status.quarantines.is_empty() { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert!(told, "the next gateway did not know of it");
    up.stop().await;
}

/// Has it die until it is left alone.
async fn break_it(up: &Up, broken: &str) {
    fs::write(broken, "").unwrap();
    let status = up.look().await;
    let victim = status.workers.iter().find(|worker| worker.name == "shaky-1").unwrap();
    signal(victim.pid, Signal::SIGKILL);
    up.until(SOON, |status: &Status| status.quarantines.len() == 1).await;
}

async fn refused(client: &Client) -> Refusal {
    let request = ExecuteRequest {
        manifest: Some(chain(&[TELL])),
        data_inputs: [("tell".to_owned(), text("x"))].into(),
        ..ExecuteRequest::default()
    };
    client.execute_request(request).await.unwrap_err()
}

async fn refused_stream(client: &Client) -> Refusal {
    let mut call: Call = client.call().await;
    let init = remotemedia_protos::v1::StreamInit { manifest: Some(chain(&[TELL])), ..Default::default() };
    call.say(remotemedia_protos::v1::stream_request::Request::Init(init)).await;
    call.next().await.unwrap().unwrap_err()
}

async fn shown_everywhere(up: &Up) {
    let dir = up.ready["runtime_dir"].as_str().unwrap();
    let table = up.home.run(&["status", "--runtime-dir", dir]).await.stdout.join("\n");
    assert!(table.contains("'shaky-1' is in quarantine: of 3 deaths in a row the last was"), "{table}");
    let ready = get(up, "/readyz").await;
    assert!(ready.starts_with("ready, but 'shaky-1' is in quarantine"), "{ready}");
    let metrics = get(up, "/metrics").await;
    for line in ["remotemedia_workers{state=\"quarantined\"} 1", "remotemedia_worker_quarantines_total 1"] {
        assert!(metrics.lines().any(|other| other == line), "{line}: {metrics}");
    }
}

/// What is not in quarantine cannot be released, nor by a page in a browser.
async fn not_released(up: &Up) {
    let dir = up.ready["runtime_dir"].as_str().unwrap();
    let done = up.home.run(&["release", "rust-1", "--runtime-dir", dir]).await;
    assert_ne!(done.code, Some(0));
    assert!(
        done.stderr.contains("worker 'rust-1' is not in quarantine: there are shaky-1"),
        "{}",
        done.stderr
    );
    let body = serde_json::to_string(&LaunchOrder::Release { worker: "shaky-1".to_owned() }).unwrap();
    let head = format!("content-length: {}\r\norigin: http://evil.example\r\n", body.len());
    let answer = ask(up, &format!("POST /launcher HTTP/1.1\r\nhost: gateway\r\n{head}"), &body).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(up.look().await.quarantines.len(), 1);
}

async fn get(up: &Up, path: &str) -> String {
    let answer = ask(up, &format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n"), "").await;
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn ask(up: &Up, head: &str, body: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(up.ready["admin"].as_str().unwrap()).await.unwrap();
        let request = format!("{head}connection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    within(START, head, exchange).await
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}
