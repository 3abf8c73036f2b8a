//! Gateway and workers of different versions: they refuse each other in words that both understand.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use remotemedia_ipc::control::messages::{Hello, PROTOCOL, ToGateway, ToWorker};
use remotemedia_ipc::control::{Channel, Listener, codec};
use remotemedia_ipc::guest::{Guest, GuestError, SOCKET};
use remotemedia_tests::Plant;
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::plant::{Process, START, program, python};

const PASS: &str = "{ id: pass, node_type: PassThrough }";

/// The version after ours.
const NEXT: u32 = PROTOCOL + 1;
/// Exit code of a worker whose gateway is of another version.
const OF_VERSION: i32 = 5;

#[tokio::test]
async fn a_worker_of_another_version_is_refused_with_both_numbers_and_harms_nobody() {
    let mut plant = Plant::start().await;
    plant.expect("worker_refused");
    let deadline = Instant::now() + Duration::from_secs(5);
    let told = Guest::join(plant.runtime_dir(), hello(), deadline).err().unwrap();
    // One that says it in another way than ours.
    let mut channel = Channel::connect(&plant.runtime_dir().join(SOCKET), deadline).unwrap();
    channel.send(&codec::encode(&(0_u32, NEXT, "anything else")).unwrap(), &[]).unwrap();
    let ToWorker::Refused { protocol, reason } =
        codec::decode(&channel.recv_blocking(deadline).unwrap().bytes).unwrap()
    else {
        panic!("it was not refused")
    };
    assert_eq!(protocol, PROTOCOL);
    let GuestError::Version { reason: first } = told else { panic!("{told}") };
    for reason in [reason, first] {
        let expect =
            format!("it speaks control protocol {NEXT}, this gateway {PROTOCOL}: install the same version");
        assert!(reason.starts_with(&expect), "{reason}");
    }
    plant.client().execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn a_worker_that_meets_a_gateway_of_another_version_ends_with_a_code_of_its_own() {
    let dir =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir_in("/dev/shm").unwrap();
    let door = Listener::bind(&dir.path().join(SOCKET)).unwrap();
    let place = format!("--runtime-dir={}", dir.path().display());
    let rust = Process::start("rust", &program("test-worker"), &[&place]);
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
    let words = ["-m", "remotemedia.worker", &place, "passing"];
    let python = Process::start_with("python", &python(), &words, &[("PYTHONPATH", tests.as_ref())]);
    let mut refused = 0;
    until(START, async || {
        while let Some(mut channel) = door.accept().unwrap() {
            let hello = channel.recv_blocking(Instant::now() + START).unwrap();
            let hello: ToGateway = codec::decode(&hello.bytes).unwrap();
            assert!(matches!(hello, ToGateway::Hello(Hello { protocol: PROTOCOL, .. })), "{hello:?}");
            let reason = format!("this is protocol {NEXT}");
            let refusal = ToWorker::Refused { protocol: NEXT, reason };
            channel.send(&codec::encode(&refusal).unwrap(), &[]).unwrap();
            refused += 1;
        }
        if refused == 2 { Ok(()) } else { Err(refused) }
    })
    .await;
    for worker in [&rust, &python] {
        assert_eq!(worker.ended(START).await.status.code(), Some(OF_VERSION), "{:#?}", worker.log());
        let said = worker.log().join("\n");
        assert!(said.contains(&format!("this is protocol {NEXT}")), "{said}");
    }
}

fn hello() -> Hello {
    let (name, kind) = ("from-the-future".to_owned(), "rust".to_owned());
    Hello { protocol: NEXT, name, kind, nodes: Vec::new(), loading: None, invocation: None }
}
