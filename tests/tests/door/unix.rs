//! The door as a socket in a directory, for clients of the same machine.

use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::{Plant, Recipe};

use crate::PASS;

#[tokio::test]
async fn a_call_and_a_stream_are_served_over_a_unix_socket_which_goes_with_the_gateway() {
    let dir = tempfile::tempdir().expect("a directory for a socket");
    let socket = dir.path().join("grpc");
    let arguments = vec![format!("--grpc=unix:{}", socket.display())];
    let plant = Plant::of(Recipe { workers: 1, arguments, ..Recipe::default() }).await;
    assert_eq!(plant.address(), format!("unix:{}", socket.display()));
    let result =
        plant.client().execute(&chain(&[PASS]), [("pass", text("once"))]).await.expect("it is served");
    assert_eq!(words(&result.data_outputs["pass"]), "once");
    let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
    let answers = call.run((0..100).map(|number| text(number.to_string()))).await.closed();
    let said: Vec<&str> = answers.of("pass").map(words).collect();
    assert_eq!(said, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    plant.finish().await;
    assert!(!socket.exists(), "the socket is left behind");
}
