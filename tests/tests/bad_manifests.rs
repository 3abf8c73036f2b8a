//! Manifests that cannot run, as clients send them: each has its typed answer, after which the next request is served
//! by the same gateway with the same files open and no more memory.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use remotemedia_core::Fault;
use remotemedia_core::fault::PlacementError;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{
    CapabilityRequirements, CpuRequirement, ErrorResponse, ErrorType, ExecuteRequest, GpuRequirement,
    NodeManifest, PipelineManifest, RuntimeHint, StreamInit,
};
use remotemedia_tests::client::{chunk, context, fault};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, connection, text, unconnected, words};
use remotemedia_tests::plant::{RELEASE, Recipe, START};
use remotemedia_tests::{Client, Plant};

const PASS: &str = "{ id: pass, node_type: PassThrough }";
/// Each manifest this often, so that what one of them leaks becomes visible.
const ROUNDS: usize = 5;

/// A manifest, and what it is answered with.
struct Case {
    name: &'static str,
    manifest: PipelineManifest,
    error: ErrorType,
    /// The node to blame.
    node: &'static str,
    /// What the message says.
    says: &'static [&'static str],
}

#[tokio::test]
async fn a_manifest_that_cannot_run_has_its_typed_answer_by_both_calls_and_the_next_request_is_served() {
    let plant = Plant::start().await;
    // What is built once is built by the first.
    all_are_answered(&plant).await;
    let before = plant.footprint().await;
    for _ in 0..ROUNDS {
        all_are_answered(&plant).await;
    }
    plant.is_as_before(&before).await;
    plant.finish().await;
}

async fn all_are_answered(plant: &Plant) {
    for case in shapes().into_iter().chain(graphs()).chain(params()).chain(demands()) {
        let Case { name, manifest, error, node, says } = case;
        for answer in [unary(plant.client(), &manifest).await, streamed(plant.client(), &manifest).await] {
            let said = &answer.message;
            assert_eq!(
                (answer.error_type(), answer.failing_node_id.as_str()),
                (error, node),
                "{name}: {said}"
            );
            says.iter().for_each(|word| assert!(said.contains(word), "{name}: {said:?} has no {word:?}"));
            assert!(said.len() < 4_096, "{name}: {} bytes", said.len());
        }
        let result = plant.client().execute(&chain(&[PASS]), [("pass", text(name))]).await.unwrap();
        assert_eq!(words(&result.data_outputs["pass"]), name);
    }
}

#[tokio::test]
async fn a_chunk_to_an_unknown_node_ends_its_stream_with_the_nodes_there_are() {
    let plant = Plant::start().await;
    let manifest = chain(&["{ id: microphone, node_type: PassThrough }"]);
    let stray = async || {
        let (call, _session) = plant.client().stream(&manifest).await;
        let Request::DataChunk(mut stray) = chunk(0, text("hello".repeat(200_000))) else {
            panic!("not a chunk")
        };
        stray.node_id = "mircophone".to_owned();
        call.say(Request::DataChunk(stray)).await;
        let error = call.rest().await.error.unwrap();
        let blamed = (error.error_type(), error.failing_node_id.as_str());
        assert_eq!(blamed, (ErrorType::Validation, "mircophone"));
        let expected = "entries are microphone; did you mean 'microphone'?";
        assert!(error.message.contains(expected), "{}", error.message);
        plant.client().execute(&chain(&[PASS]), [("pass", text("next"))]).await.unwrap();
    };
    stray().await;
    let before = plant.footprint().await;
    for _ in 0..30 {
        stray().await;
    }
    plant.is_as_before(&before).await;
    plant.finish().await;
}

#[tokio::test]
async fn a_client_version_that_is_not_served_is_refused_by_every_method_with_those_that_are() {
    let plant = Plant::start().await;
    for version in ["v2", "v0.9", "1", "v1-beta"] {
        let manifest = Some(chain(&[PASS]));
        let request = ExecuteRequest {
            manifest: manifest.clone(),
            client_version: version.to_owned(),
            ..ExecuteRequest::default()
        };
        let unary = plant.client().execute_request(request).await.unwrap().unwrap_err();
        let init = StreamInit { manifest, client_version: version.to_owned(), ..StreamInit::default() };
        let streamed = begun(plant.client(), init).await.unwrap_err();
        let told = plant.client().version(version).await;
        assert!(!told.compatible, "{version}");
        for error in [unary, streamed] {
            assert_eq!(error.error_type(), ErrorType::VersionMismatch, "{}", error.message);
            assert_eq!(error.message, told.compatibility_message);
            assert!(
                error.message.contains(version) && error.message.contains("v1, v1.N"),
                "{}",
                error.message
            );
        }
    }
    for version in ["", "v1", "v1.7", "v1.2.3"] {
        assert!(plant.client().version(version).await.compatible, "{version}");
        let manifest = Some(chain(&[PASS]));
        let init = StreamInit { manifest, client_version: version.to_owned(), ..StreamInit::default() };
        begun(plant.client(), init).await.unwrap();
    }
    plant.finish().await;
}

#[tokio::test]
async fn get_version_lists_what_can_be_run_at_that_moment() {
    let mut plant = Plant::of(Recipe { workers: 1, ..Recipe::default() }).await;
    plant.expect("worker_died");
    let types =
        async |plant: &Plant| plant.client().version("v1").await.version_info.unwrap().supported_node_types;
    let all = types(&plant).await;
    for name in ["Multi", "VAD", "RustVADNode"] {
        assert!(all.iter().any(|offered| offered == name), "{name}: {all:?}");
    }
    assert!(all.is_sorted(), "{all:?}");

    plant.workers()[0].signal(nix::sys::signal::Signal::SIGKILL);
    until(RELEASE, async || {
        let left = types(&plant).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    plant.workers()[0].ended(START).await;
    plant.start_worker().await;
    assert_eq!(types(&plant).await, all);
    plant.finish().await;
}

#[tokio::test]
async fn a_node_gives_all_its_outputs_by_both_calls_whether_it_says_that_it_is_streaming_or_not() {
    let plant = Plant::start().await;
    for says_so in [true, false] {
        let node =
            format!("{{ id: m, node_type: Multi, params: {{ outputs: 3 }}, is_streaming: {says_so} }}");
        let manifest = chain(&[&node]);
        let result = plant.client().execute(&manifest, [("m", text("ab"))]).await.unwrap();
        assert_eq!(words(&result.data_outputs["m"]), "ababab", "{says_so}");
        let (call, _session) = plant.client().stream(&manifest).await;
        let answers = call.run([text("ab")]).await.closed();
        assert_eq!(answers.of("m").map(words).collect::<String>(), "ababab", "{says_so}");
    }
    plant.finish().await;
}

/// Manifests that are of no shape.
fn shapes() -> Vec<Case> {
    use ErrorType::{Validation, VersionMismatch};
    let nobody = PipelineManifest { version: "v1".to_owned(), ..PipelineManifest::default() };
    let mut version = chain(&[PASS]);
    version.version = "v2".to_owned();
    let case = |name, manifest, says| Case { name, manifest, error: Validation, node: "", says };
    vec![
        case("no nodes", nobody, &["has no nodes", "at least one"]),
        case("ten thousand nodes", crowd(10_000), &["10000 nodes", "limit of 64"]),
        case("too many connections", tangle(), &["257 connections", "limit of 256"]),
        case("an empty id", altered(|node| node.id.clear()), &["the id of node number 1", "1 to 128"]),
        case(
            "a long id",
            altered(|node| node.id = "x".repeat(1_000_000)),
            &["the id of node number 1", "1000000 bytes", "1 to 128"],
        ),
        case("no type", altered(|node| node.node_type.clear()), &["the node_type of node number 1"]),
        Case {
            name: "duplicate ids",
            node: "pass",
            ..case("", unconnected(&[PASS, PASS]), &["node id 'pass' is used twice"])
        },
        Case { error: VersionMismatch, ..case("another version", version, &["'v2'", "write 'v1'"]) },
    ]
}

/// Manifests that are no graphs, or of nodes that nobody runs.
fn graphs() -> Vec<Case> {
    let nodes = ["{ id: mic, node_type: PassThrough }", "{ id: filter, node_type: PassThrough }"];
    let wired = |edges: &[(&str, &str)]| {
        let connections = edges.iter().map(|(from, to)| connection(from, to)).collect();
        PipelineManifest { connections, ..unconnected(&nodes) }
    };
    let case = |name, manifest, says| Case { name, manifest, error: ErrorType::Validation, node: "", says };
    vec![
        case("a cycle", wired(&[("mic", "filter"), ("filter", "mic")]), &["cycle through", "mic", "filter"]),
        case("a self-loop", wired(&[("mic", "mic")]), &["cycle through mic"]),
        case(
            "a dangling connection",
            wired(&[("mic", "fliter")]),
            &["'fliter', which is no node: there are filter, mic; did you mean 'filter'?"],
        ),
        case("a long end", wired(&[("mic", &"x".repeat(1_000_000))]), &["xxx…', which is no node"]),
        case("a connection twice", wired(&[("mic", "filter"), ("mic", "filter")]), &["listed twice"]),
        Case {
            name: "an unknown type",
            node: "echo",
            ..case(
                "",
                chain(&["{ id: echo, node_type: PassThru }"]),
                &[
                    "'PassThru', which no worker offers",
                    "AudioResample",
                    "VAD",
                    "did you mean 'PassThrough'?",
                ],
            )
        },
        Case {
            error: ErrorType::TypeValidation,
            node: "next",
            ..case(
                "kinds that do not meet",
                chain(&["{ id: vad, node_type: VAD }", "{ id: next, node_type: VAD }"]),
                &["'vad' produces json", "'next' expects audio"],
            )
        },
    ]
}

/// Parameters that are none.
fn params() -> Vec<Case> {
    let case = |name, params: &str, says| {
        let node = NodeManifest {
            id: "r".to_owned(),
            node_type: "AudioResample".to_owned(),
            params: params.to_owned(),
            ..NodeManifest::default()
        };
        let manifest = PipelineManifest { nodes: vec![node], ..chain(&[PASS]) };
        Case { name, manifest, error: ErrorType::Validation, node: "r", says }
    };
    let large = format!("{{\"target_sample_rate\": \"{}\"}}", "x".repeat(300_000));
    vec![
        case("a list", "[16000]", &["node 'r'", "line 1", "expected a map"]),
        case("a number", "16000", &["node 'r'", "line 1"]),
        case("null", "null", &["node 'r'", "line 1"]),
        case("text", "rate=16000", &["node 'r'", "line 1, column 1"]),
        case("cut off", "{\"target_sample_rate\": 160", &["node 'r'", "line 1, column 26"]),
        case("not a number", "{\n \"target_sample_rate\": NaN}", &["node 'r'", "line 2, column 24"]),
        case("an infinite number", "{\"target_sample_rate\": 1e999}", &["node 'r'", "line 1"]),
        case(
            "an unknown key",
            "{\"target_sample_rat\": 1}",
            &["'target_sample_rat' = 1", "did you mean 'target_sample_rate'?"],
        ),
        case(
            "another type",
            "{\"target_sample_rate\": \"16000\"}",
            &["target_sample_rate", "\"16000\"", "integer"],
        ),
        case("out of range", "{\"target_sample_rate\": 0}", &["target_sample_rate", "is 0", "1 to"]),
        case("a fraction", "{\"target_sample_rate\": 16000.5}", &["target_sample_rate", "16000.5"]),
        case("nothing", "", &["target_sample_rate"]),
        case(
            "a key twice",
            "{\"target_sample_rate\": 8000,\n \"target_sample_rate\": 16000}",
            &["node 'r'", "line 2, column 21", "key 'target_sample_rate' is written twice"],
        ),
        case("data", &large, &["params of node 'r' take", "limit of 262144"]),
        case("much text", &format!("\"{}\"", "x".repeat(300_000)), &["node 'r'", "invalid type: string"]),
        case("depth", &"[".repeat(200_000), &["node 'r'", "line 1"]),
    ]
}

/// What no pool has.
fn demands() -> Vec<Case> {
    let case = |name, alter: fn(&mut NodeManifest), says| Case {
        name,
        manifest: altered(alter),
        error: ErrorType::Validation,
        node: "pass",
        says,
    };
    vec![
        case("another host", |node| node.host = "mars".to_owned(), &["host = mars", "this machine"]),
        case("a long host", |node| node.host = "m".repeat(1_000_000), &["host = mmm", "this machine"]),
        case(
            "another interpreter",
            |node| node.runtime_hint = RuntimeHint::Cpython.into(),
            &["runtime_hint = cpython", "pools of kind rust"],
        ),
        case("no interpreter", |node| node.runtime_hint = 17, &["runtime_hint = 17", "0 to 4"]),
        case(
            "a gpu",
            |node| {
                let gpu = GpuRequirement { r#type: "cuda".to_owned(), required: true, ..Default::default() };
                node.capabilities = Some(CapabilityRequirements { gpu: Some(gpu), ..Default::default() });
            },
            &["capabilities.gpu = cuda", "no pool declares"],
        ),
        case(
            "a thousand processors",
            |node| {
                let cpu = CpuRequirement { cores: 100_000, arch: String::new() };
                node.capabilities = Some(CapabilityRequirements { cpu: Some(cpu), ..Default::default() });
            },
            &["capabilities.cpu.cores = 100000", "this machine has"],
        ),
        case(
            "all the memory in the world",
            |node| node.capabilities = Some(CapabilityRequirements { memory_gb: 1e12, ..Default::default() }),
            &["capabilities.memory_gb", "this machine has"],
        ),
        case(
            "memory that is no number",
            |node| {
                node.capabilities =
                    Some(CapabilityRequirements { memory_gb: f64::NAN, ..Default::default() });
            },
            &["capabilities.memory_gb = NaN", "0 or more"],
        ),
    ]
}

#[tokio::test]
async fn an_error_of_a_manifest_is_told_to_programs_too() {
    let plant = Plant::start().await;
    let error = unary(plant.client(), &chain(&["{ id: echo, node_type: Reverb }"])).await;
    let Fault::Placement(PlacementError::UnknownType { node_type, known, .. }) = fault(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((node_type.as_str(), known.split(", ").any(|name| name == "VAD")), ("Reverb", true));
    assert_eq!(context(&error)["fault"]["Placement"]["UnknownType"]["node"], "echo");
    plant.finish().await;
}

async fn unary(client: &Client, manifest: &PipelineManifest) -> ErrorResponse {
    client.execute(manifest, [("pass", text("hello"))]).await.unwrap_err()
}

async fn streamed(client: &Client, manifest: &PipelineManifest) -> ErrorResponse {
    let init = StreamInit { manifest: Some(manifest.clone()), ..StreamInit::default() };
    begun(client, init).await.unwrap_err()
}

/// Begins a session, and ends it if it could be begun.
async fn begun(client: &Client, init: StreamInit) -> Result<(), ErrorResponse> {
    let mut call = client.call().await;
    call.say(Request::Init(init)).await;
    match call.next().await {
        Some(Ok(Response::Error(error))) => {
            assert!(call.next().await.is_none(), "something follows the error");
            Err(error)
        }
        Some(Ok(Response::Ready(_))) => {
            call.close().await;
            let _answers = call.rest().await.closed();
            Ok(())
        }
        other => panic!("expected an error, got {other:?}"),
    }
}

fn altered(alter: impl FnOnce(&mut NodeManifest)) -> PipelineManifest {
    let mut manifest = chain(&[PASS]);
    alter(&mut manifest.nodes[0]);
    manifest
}

fn crowd(size: usize) -> PipelineManifest {
    let manifest = chain(&[PASS]);
    let node = |number| NodeManifest { id: format!("n{number}"), ..manifest.nodes[0].clone() };
    let connections = (1..size).map(|number| connection(&format!("n{}", number - 1), &format!("n{number}")));
    PipelineManifest {
        nodes: (0..size).map(node).collect(),
        connections: connections.collect(),
        ..chain(&[PASS])
    }
}

fn tangle() -> PipelineManifest {
    PipelineManifest { connections: vec![connection("pass", "pass"); 257], ..chain(&[PASS]) }
}
