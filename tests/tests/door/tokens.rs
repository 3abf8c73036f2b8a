//! Who may call.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use remotemedia_cli::admin::{AdminDoor, AdminError};
use remotemedia_core::launching::{LaunchOrder, LaunchRefusal};
use remotemedia_core::token::Token;
use remotemedia_protos::v1::{ErrorType, VersionRequest, VersionResponse};
use remotemedia_tests::client::{PATIENCE, error_in};
use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::plant::{Process, START, program};
use remotemedia_tests::{Client, Plant, Recipe};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

use crate::PASS;

/// Every method there is, those that are not served too, and one that does not exist; not the one that probes call.
const METHODS: [&str; 11] = [
    "/remotemedia.v1.PipelineExecutionService/ExecutePipeline",
    "/remotemedia.v1.PipelineExecutionService/GetVersion",
    "/remotemedia.v1.StreamingPipelineService/StreamPipeline",
    "/remotemedia.v1.PipelineControl/Attach",
    "/remotemedia.v1.webrtc.WebRtcSignaling/Signal",
    "/remotemedia.v1.webrtc.WebRtcSignaling/GetPeers",
    "/remotemedia.v1.webrtc.WebRtcSignaling/HealthCheck",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/not.Here/AtAll",
];

#[tokio::test]
async fn without_a_known_token_every_method_is_unauthenticated_and_probes_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (plant, token) = guarded(dir.path()).await;
    for shown in [None, Some(Token::of_random([7; 32])), Some(Token::shown(&token.secret()[1..]))] {
        let stranger = Client::connect_as(plant.address(), shown.as_ref()).await;
        for method in METHODS {
            let status = call(&stranger, method).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{method}: {status}");
            let error = error_in(&status);
            assert_eq!(error.error_type(), ErrorType::Authentication, "{method}");
            let expected = if shown.is_some() { "not known" } else { "authorization: Bearer TOKEN" };
            assert!(error.message.contains(expected), "{method}: {}", error.message);
        }
        // A probe has no token. What it is told is looked up a few times a second.
        let mut health = HealthClient::new(stranger.channel());
        until(PATIENCE, async || {
            let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
            if answer.status() == ServingStatus::Serving { Ok(()) } else { Err(answer) }
        })
        .await;
    }
    // With the token, everything is as without tokens.
    plant.client().execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
    let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
    assert_eq!(call.run([text("a"), text("b")]).await.closed().sequences(), [0, 1]);
    plant.finish().await;
}

#[tokio::test]
async fn orders_for_the_launcher_need_a_token_too() {
    let dir = tempfile::tempdir().unwrap();
    let (plant, token) = guarded(dir.path()).await;
    let door = AdminDoor::at(plant.admin_address());
    let order = LaunchOrder::Release { worker: "rust-1".to_owned() };
    for shown in [None, Some(Token::of_random([7; 32]))] {
        let error = door.order(&order, shown.as_ref()).await.unwrap_err();
        assert!(matches!(error, AdminError::NoOrder { .. }), "{error}");
    }
    let error = door.order(&order, Some(&token)).await.unwrap_err();
    assert!(matches!(error, AdminError::Launcher(LaunchRefusal::NoLauncher)), "{error}");
    plant.finish().await;
}

#[tokio::test]
async fn a_token_is_taken_or_refused_soon_after_its_file_changed_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (mut plant, first) = guarded(dir.path()).await;
    let second = new_token(&file, "second").await;
    let is_taken = async |token: &Token| {
        let client = Client::connect_as(plant.address(), Some(token)).await;
        match call(&client, METHODS[1]).await {
            Ok(_version) => true,
            Err(status) if status.code() == Code::Unauthenticated => false,
            Err(status) => panic!("{status}"),
        }
    };
    let becomes = async |token: &Token, taken: bool| {
        let look = async || if is_taken(token).await == taken { Ok(()) } else { Err("as before") };
        until(Duration::from_secs(10), look).await
    };
    let took = becomes(&second, true).await;
    println!("a new token is taken after {took:?}");

    let all = fs::read_to_string(&file).unwrap();
    let without_second: String = all.lines().filter(|line| !line.starts_with("second ")).collect();
    fs::write(&file, without_second + "\n").unwrap();
    let took = becomes(&second, false).await;
    println!("a revoked token is refused after {took:?}");
    assert!(is_taken(&first).await);

    fs::write(&file, "this is no token\n").unwrap();
    until(Duration::from_secs(10), async || {
        let alarms = plant.gateway().alarms();
        if alarms.iter().any(|line| line.contains("tokens_not_read")) { Ok(()) } else { Err(alarms) }
    })
    .await;
    assert!(is_taken(&first).await && !is_taken(&second).await);
    plant.expect("tokens_not_read");
    plant.finish().await;
}

#[tokio::test]
async fn without_tokens_or_in_plain_text_by_accident_the_network_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let _token = new_token(&file, "only").await;
    let with_tokens = format!("--token-file={}", file.display());
    let check = async |arguments: &[&str], expect: &str| {
        let runtime_dir = format!("--runtime-dir={}/run", dir.path().display());
        let arguments = [&["--admin=127.0.0.1:0", &runtime_dir], arguments].concat();
        let gateway = Process::start("gateway", &program("remotemedia-gateway"), &arguments);
        let ending = gateway.ended(START).await;
        assert_eq!(ending.status.code(), Some(78), "{:?}", gateway.log());
        assert!(gateway.log().join("\n").contains(expect), "{expect:?}: {:?}", gateway.log());
    };
    check(&["--grpc=0.0.0.0:0"], "--token-file").await;
    check(&["--grpc=0.0.0.0:0", "--insecure-plaintext"], "--token-file").await;
    check(&["--grpc=0.0.0.0:0", &with_tokens], "--insecure-plaintext").await;
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    check(&["--grpc=127.0.0.1:0", &with_tokens], "chmod 600").await;

    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let runtime_dir = format!("--runtime-dir={}/run", dir.path().display());
    let arguments =
        ["--grpc=0.0.0.0:0", "--admin=127.0.0.1:0", &with_tokens, "--insecure-plaintext", &runtime_dir];
    let gateway = Process::start("gateway", &program("remotemedia-gateway"), &arguments);
    assert!(gateway.first_line(START).await.contains("0.0.0.0"));
    gateway.stop(START).await;
}

#[tokio::test]
async fn the_command_line_shows_a_token_and_says_how_where_it_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (plant, token) = guarded(dir.path()).await;
    let (pipeline, words) = (dir.path().join("pass.yaml"), dir.path().join("words.txt"));
    fs::write(&pipeline, format!("version: v1\nnodes:\n  - {PASS}\n")).unwrap();
    fs::write(&words, "hello").unwrap();
    let (pipeline, words) = (pipeline.display().to_string(), words.display().to_string());
    let endpoint = format!("--endpoint=http://{}", plant.address());
    let token = format!("--token={}", token.secret());
    let check = async |arguments: &[&str], code: i32, expect: &str| {
        let cli = Process::start("cli", &program("remotemedia"), arguments);
        let ending = cli.ended(START).await;
        let said = [cli.printed(), cli.log()].concat().join("\n");
        assert_eq!(ending.status.code(), Some(code), "{said}");
        assert!(said.contains(expect), "{expect:?} is not in {said:?}");
        assert!(!said.contains("rmt_"), "a token was shown: {said}");
    };
    check(&["nodes", &endpoint, &token], 0, "PassThrough").await;
    check(&["nodes", &endpoint], 3, "pass --token or set REMOTEMEDIA_TOKEN").await;
    check(&["nodes", &endpoint, "--token=guess"], 3, "not known here").await;
    check(&["run", &pipeline, "-i", &words, &endpoint, &token], 0, "hello").await;
    check(&["run", &pipeline, "-i", &words, &endpoint], 3, "pass --token").await;
    check(&["run", &pipeline, "-i", &words, "--stream-ms=20", &endpoint, &token], 0, "hello").await;
    plant.finish().await;
}

/// A plant that asks for tokens, and the token that its own client shows.
async fn guarded(dir: &Path) -> (Plant, Token) {
    let file = dir.join("tokens");
    let token = new_token(&file, "plant").await;
    let arguments = vec![format!("--token-file={}", file.display())];
    let recipe = Recipe { arguments, token: Some(token.clone()), ..Recipe::default() };
    (Plant::of(recipe).await, token)
}

/// As an operator makes it.
async fn new_token(file: &Path, name: &str) -> Token {
    let file = file.display().to_string();
    let cli =
        Process::start("token", &program("remotemedia"), &["token", "new", "--name", name, "--file", &file]);
    let ending = cli.ended(START).await;
    assert!(ending.status.success(), "{:?}", cli.log());
    Token::shown(cli.printed().remove(0))
}

/// Any method takes an empty message.
async fn call(client: &Client, method: &'static str) -> Result<VersionResponse, Status> {
    let mut service = Grpc::new(client.channel());
    service.ready().await.expect("the connection stands");
    let codec = ProstCodec::<VersionRequest, VersionResponse>::default();
    let call =
        service.unary(Request::new(VersionRequest::default()), PathAndQuery::from_static(method), codec);
    within(PATIENCE, "the answer", call).await.map(tonic::Response::into_inner)
}
