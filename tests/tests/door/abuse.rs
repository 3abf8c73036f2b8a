//! Bad input: each with its typed answer, after which the next call works and the gateway is as before.

use bytes::Bytes;
use prost::Message as _;
use remotemedia_protos::v1::stream_control::Command;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{ErrorType, ExecuteRequest, StreamControl, StreamInit, StreamRequest};
use remotemedia_tests::client::{chunk, context, error_in};
use remotemedia_tests::deadline::within;
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::{RELEASE, START};
use remotemedia_tests::storm::Dice;
use remotemedia_tests::{Client, Plant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::Code;

use crate::PASS;
use crate::raw::{framed, prefixed, send};

const EXECUTE: &str = "/remotemedia.v1.PipelineExecutionService/ExecutePipeline";
const STREAM: &str = "/remotemedia.v1.StreamingPipelineService/StreamPipeline";
/// What an allocator may keep of what was given back.
const SLACK_BYTES: u64 = 16 << 20;
/// The same where messages are large; what leaked would be more than three times this.
const LARGE_SLACK_BYTES: u64 = 64 << 20;

#[tokio::test]
async fn a_stream_that_begins_wrong_is_told_what_comes_first_and_harms_nobody() {
    let plant = Plant::start().await;
    let init = || Request::Init(StreamInit { manifest: Some(chain(&[PASS])), ..StreamInit::default() });
    let close = || Request::Control(StreamControl { command: Command::Close.into() });
    const FIRST: &str = "STREAM_ERROR_INIT_REQUIRED";
    const OTHER: &str = "STREAM_ERROR_UNSPECIFIED";
    let rows = [
        (Vec::new(), FIRST, "the end of the stream"),
        (vec![chunk(0, text("a"))], FIRST, "got 'data_chunk'"),
        (vec![close()], FIRST, "got 'control'"),
        (vec![init(), init()], OTHER, "'init' came twice"),
    ];
    let before = memory_of(&plant).await;
    for _round in 0..10 {
        for (requests, kind, expect) in rows.clone() {
            let mut call = plant.client().call().await;
            for request in requests {
                call.say(request).await;
            }
            call.half_close();
            let error = loop {
                match call.next().await.expect("an error comes").expect("no status ends the stream") {
                    Response::Error(error) => break error,
                    Response::Ready(_) | Response::Metrics(_) => {}
                    other @ (Response::Result(_) | Response::Closed(_) | Response::Status(_)) => {
                        panic!("{expect}: {other:?}")
                    }
                }
            };
            assert!(call.next().await.is_none(), "{expect}: something followed");
            assert_eq!(error.error_type(), ErrorType::Validation, "{}", error.message);
            assert_eq!(context(&error)["stream_error_type"], kind, "{}", error.message);
            assert!(error.message.contains(expect), "{}", error.message);
            works(plant.client()).await;
        }
    }
    as_before(plant, before, SLACK_BYTES).await;
}

#[tokio::test]
async fn messages_of_11_mib_pass_and_of_17_mib_are_refused_in_one_call_and_on_a_stream() {
    let plant = Plant::start().await;
    let sized = |mebibytes: usize| text("x".repeat(mebibytes << 20));
    let before = memory_of(&plant).await;
    for _round in 0..6 {
        let result = plant.client().execute(&chain(&[PASS]), [("pass", sized(11))]).await.unwrap();
        assert_eq!(words(&result.data_outputs["pass"]).len(), 11 << 20);
        let (mut call, _session) = plant.client().stream(&chain(&[PASS])).await;
        call.send(0, sized(11)).await;
        assert_eq!(words(&call.result().await.data_outputs["pass"]).len(), 11 << 20);
        call.send(1, sized(17)).await;
        let on_stream = loop {
            match call.next().await.expect("a status comes") {
                Ok(Response::Metrics(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(status) => break status,
            }
        };
        let inputs = [("pass".to_owned(), sized(17))].into();
        let manifest = Some(chain(&[PASS]));
        let request = ExecuteRequest { manifest, data_inputs: inputs, ..ExecuteRequest::default() };
        let in_call = plant.client().execute_request(request).await.unwrap_err();
        for status in [on_stream, in_call] {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            let error = error_in(&status);
            assert_eq!(error.error_type(), ErrorType::ResourceLimit);
            let told = &context(&error)["fault"]["Limit"];
            assert_eq!(told["limit"], 16 << 20, "{error:?}");
            assert!(told["value"].as_u64().unwrap() > 17 << 20, "{error:?}");
            assert!(error.message.contains("send less at once"), "{}", error.message);
        }
        works(plant.client()).await;
    }
    as_before(plant, before, LARGE_SLACK_BYTES).await;
}

#[tokio::test]
async fn truncated_and_random_bytes_are_invalid_arguments_and_harm_nobody() {
    let plant = Plant::start().await;
    let execute = ExecuteRequest {
        manifest: Some(chain(&[PASS])),
        data_inputs: [("pass".to_owned(), text("hello"))].into(),
        ..ExecuteRequest::default()
    };
    let init = Request::Init(StreamInit { manifest: Some(chain(&[PASS])), ..StreamInit::default() });
    let stream = StreamRequest { request: Some(init) };
    let messages = [(EXECUTE, execute.encode_to_vec()), (STREAM, stream.encode_to_vec())];
    let seed = 0x5eed_d002;
    println!("seed {seed:#x}");
    let mut dice = Dice::seeded(seed);
    let before = memory_of(&plant).await;
    for (path, message) in &messages {
        // Cut between two fields, what is left is a message; cut anywhere else it is none.
        for length in 0..message.len() {
            is_typed(plant.client(), path, framed(&message[..length])).await;
        }
        let length = u32::try_from(message.len()).unwrap();
        let half = &message[..message.len() / 2];
        for (what, body, expect) in [
            ("a frame cut off", prefixed(0, length, half), Code::InvalidArgument),
            ("a prefix cut off", Bytes::from_static(&[0, 0, 0]), Code::InvalidArgument),
            ("a flag that is none", prefixed(7, length, message), Code::InvalidArgument),
            ("a length of 4 GiB", prefixed(0, u32::MAX, half), Code::ResourceExhausted),
        ] {
            let (status, _body) = send(plant.client(), path, body).await;
            assert_eq!(status.code(), expect, "{path}, {what}: {status}");
            let _error = error_in(&status);
        }
        for _ in 0..200 {
            let length = dice.within(0..300);
            let noise: Vec<u8> = (0..length).map(|_| u8::try_from(dice.within(0..256)).unwrap()).collect();
            is_typed(plant.client(), path, framed(&noise)).await;
            is_typed(plant.client(), path, Bytes::from(noise)).await;
        }
        works(plant.client()).await;
    }
    as_before(plant, before, SLACK_BYTES).await;
}

/// How far a client comes before it is gone.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connected,
    Greeted,
    Called,
    Began,
    Ready,
    Sent,
    Answered,
    Sending,
    Closed,
}

const STEPS: [Step; 9] = [
    Step::Connected,
    Step::Greeted,
    Step::Called,
    Step::Began,
    Step::Ready,
    Step::Sent,
    Step::Answered,
    Step::Sending,
    Step::Closed,
];

#[tokio::test]
async fn a_client_that_vanishes_at_any_step_of_a_stream_leaves_nothing() {
    let plant = Plant::start().await;
    let before = memory_of(&plant).await;
    for _round in 0..3 {
        for step in STEPS {
            let address = plant.address().to_owned();
            let client =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let (tell, told) = tokio::sync::oneshot::channel();
            client.spawn(async move {
                let _alive = come_to(step, &address).await;
                tell.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            let arrived = within(START, "the step", told).await;
            assert!(arrived.is_ok(), "{step:?} was not reached");
            // All its tasks stop where they are, and the sockets close: as if its process had been killed.
            client.shutdown_background();
            println!("gone when {step:?}");
            plant.idle_within(RELEASE).await;
            works(plant.client()).await;
        }
    }
    as_before(plant, before, SLACK_BYTES).await;
}

/// What comes back keeps the client alive as far as it is.
async fn come_to(step: Step, address: &str) -> Box<dyn Send> {
    let slow = chain(&["{ id: slow, node_type: Slow, params: { ms: 50 } }"]);
    let raw = async |bytes: &[u8]| {
        let mut socket = TcpStream::connect(address).await.expect("the door is open");
        socket.write_all(bytes).await.expect("the socket takes bytes");
        Box::new(socket) as Box<dyn Send>
    };
    match step {
        Step::Connected => return raw(b"").await,
        Step::Greeted => return raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0").await,
        Step::Called
        | Step::Began
        | Step::Ready
        | Step::Sent
        | Step::Answered
        | Step::Sending
        | Step::Closed => {}
    }
    let client = Client::connect(address).await;
    if matches!(step, Step::Called) {
        let call = client.call().await;
        return Box::new((client, call));
    }
    if matches!(step, Step::Began) {
        let call = client.call().await;
        call.say(Request::Init(StreamInit { manifest: Some(slow), ..StreamInit::default() })).await;
        return Box::new((client, call));
    }
    let (mut call, _session) = client.stream(&slow).await;
    if !matches!(step, Step::Ready) {
        call.send(0, text("x".repeat(100_000))).await;
    }
    if matches!(step, Step::Answered | Step::Sending | Step::Closed) {
        call.result().await;
    }
    if matches!(step, Step::Sending) {
        // Far more than the windows take at once: it breaks off within a message.
        for sequence in 1..4 {
            call.send(sequence, text("x".repeat(15 << 20))).await;
        }
    }
    if matches!(step, Step::Closed) {
        call.close().await;
    }
    Box::new((client, call))
}

/// Either a reply, or a status of the contract with its details; never one that says that the gateway is at a loss.
async fn is_typed(client: &Client, path: &str, body: Bytes) {
    let (status, _body) = send(client, path, body.clone()).await;
    let code = status.code();
    if code != Code::Ok {
        let is_of_input = matches!(code, Code::InvalidArgument | Code::ResourceExhausted);
        assert!(is_of_input, "{path}: {status} for {body:?}");
        let _typed = error_in(&status);
    }
}

async fn works(client: &Client) {
    let result =
        client.execute(&chain(&[PASS]), [("pass", text("next"))]).await.expect("the next call works");
    assert_eq!(words(&result.data_outputs["pass"]), "next");
}

/// Once the allocator has seen the largest message, so that what it keeps for the next is not taken for a leak.
async fn memory_of(plant: &Plant) -> u64 {
    for _ in 0..3 {
        let large = text("x".repeat(15 << 20));
        plant.client().execute(&chain(&[PASS]), [("pass", large)]).await.expect("a large text passes");
    }
    plant.idle_within(RELEASE).await;
    plant.gateway().private_bytes()
}

/// Process, descriptors, files and blocks are the plant's to look at.
async fn as_before(plant: Plant, before: u64, slack: u64) {
    plant.idle_within(RELEASE).await;
    let after = plant.gateway().private_bytes();
    assert!(after < before + slack, "{before} bytes before, {after} after");
    plant.finish().await;
}
