//! One interpreter's lock is no other's: what a Python node keeps to itself, it keeps from its own process alone.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use remotemedia_tests::pipeline::{chain, document, text, words};
use remotemedia_tests::{Plant, Recipe};

#[tokio::test]
async fn a_node_that_holds_its_interpreter_delays_no_session_of_another_process() {
    let plant = Plant::of(Recipe { workers: 1, python: &["stuck", "working"], ..Recipe::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let open = async |node: &str| plant.client().stream(&chain(&[node])).await.0;
    let mut stuck = open("{ id: stuck, node_type: Stuck }").await;
    let mut inside = open("{ id: inside, node_type: Inside }").await;
    let mut neighbour = open("{ id: later, node_type: Later }").await;

    stuck.send(0, text(pipe.display().to_string())).await;
    assert_eq!(words(&stuck.result().await.data_outputs["stuck"]), "begun");
    for sequence in 0..50 {
        if sequence == 25 {
            inside.send(0, text("let me in")).await;
        }
        neighbour.send(sequence, text("seven")).await;
        assert_eq!(document(&neighbour.result().await.data_outputs["later"])["letters"], 5);
    }
    let early = tokio::time::timeout(Duration::ZERO, inside.result()).await;
    assert!(early.is_err(), "a node of the stuck process was answered: it was not stuck");

    let mut release = File::options().write(true).open(&pipe).unwrap();
    release.write_all(b"!").unwrap();
    assert_eq!(words(&stuck.result().await.data_outputs["stuck"]), "over");
    assert_eq!(words(&inside.result().await.data_outputs["inside"]), "let me in");
    for mut call in [stuck, inside, neighbour] {
        call.half_close();
        let _answers = call.rest().await.closed();
    }
    plant.finish().await;
}
