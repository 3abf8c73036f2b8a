//! `remotemedia new-node`, and what it wrote, used as it says.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use remotemedia_tests::pipeline::{document, of};
use remotemedia_tests::plant::{Process, START, program, python};
use remotemedia_tests::{Client, audio};
use serde_json::{Value, json};

#[tokio::test]
async fn a_new_node_passes_its_own_test_and_is_served_and_called() {
    let place = tempfile::Builder::new().prefix("new-").tempdir_in("/dev/shm").unwrap();
    let dir = place.path().join("loudness");
    let dir = dir.to_str().unwrap();
    let make = ["new-node", "Loudness", "--dir", dir];
    let made = ended("new-node", &program("remotemedia"), &make, 0).await;
    assert!(made.contains("Loudness is in") && made.contains("remotemedia up --config up.toml"), "{made}");
    let again = ended("again", &program("remotemedia"), &make, 2).await;
    assert!(again.contains("loudness_node.py is there already"), "{again}");

    let tested = ended("pytest", &python(), &["-m", "pytest", "-p", "no:cacheprovider", dir], 0).await;
    assert!(tested.contains("2 passed"), "{tested}");
    let config = ["--project", dir, "--pythonpath", python().to_str().unwrap()].map(str::to_owned);
    let config: Vec<&str> = config.iter().map(String::as_str).collect();
    ended("pyright", &python().with_file_name("pyright"), &config, 0).await;

    let user = place.path().join("user");
    fs::create_dir(&user).unwrap();
    // The worker looks for its module where it is started.
    let script = format!(
        "cd {dir}; exec {} --user-dir={} up --config up.toml --grpc 127.0.0.1:0 --admin 127.0.0.1:0",
        program("remotemedia").display(),
        user.display()
    );
    let up =
        Process::start_with("up", Path::new("/bin/bash"), &["-ec", &script], &[("PATH", path().as_os_str())]);
    let ready: Value = serde_json::from_str(&up.first_line(START * 2).await).unwrap();
    let client = Client::connect(ready["grpc"].as_str().unwrap()).await;
    let pipeline = of(&fs::read_to_string(Path::new(dir).join("pipeline.yaml")).unwrap());
    let input = [("loudness_node", audio::mono(16_000, &[0.0, -0.5, 0.125]))];
    let result = client.execute(&pipeline, input).await.unwrap();
    assert_eq!(document(&result.data_outputs["loudness_node"]), json!({ "peak": 0.5, "loud": true }));
    drop(client);
    up.stop(START).await;
}

/// What a command said that ended with this code.
async fn ended(name: &str, program: &Path, arguments: &[&str], code: i32) -> String {
    let process = Process::start_with(name, program, arguments, &[("PYTHONDONTWRITEBYTECODE", "1".as_ref())]);
    let ending = process.ended(START * 4).await;
    let said = [process.printed(), process.log()].concat().join("\n");
    assert_eq!(ending.status.code(), Some(code), "{name}: {said}");
    said
}

/// With the interpreter that has the SDK.
fn path() -> OsString {
    let known = std::env::var_os("PATH").unwrap_or_default();
    let first = [python().parent().unwrap().to_owned()];
    std::env::join_paths(first.into_iter().chain(std::env::split_paths(&known))).unwrap()
}
