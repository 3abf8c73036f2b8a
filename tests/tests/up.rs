//! `remotemedia` as a person at a terminal runs it: `up`, `status`, `nodes`, `run`.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;
use remotemedia_tests::Plant;
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::plant::START;
use remotemedia_tests::up::{Home, SOON, Up};
use serde_json::Value;

#[tokio::test]
async fn up_says_one_line_when_it_is_ready_and_status_and_nodes_tell_the_rest() {
    let up = Up::start().await;
    assert_eq!(up.process.printed().len(), 1, "{:?}", up.process.printed());
    assert_eq!(up.ready["event"], "ready");
    for field in ["grpc", "admin"] {
        let (host, port) = up.ready[field].as_str().unwrap().rsplit_once(':').unwrap();
        assert!(host == "127.0.0.1" && port.parse::<u16>().unwrap() > 0, "{}", up.ready);
    }
    assert!(Path::new(up.ready["runtime_dir"].as_str().unwrap()).is_dir());

    let status = up.status().await;
    assert!(status["gateway"]["pid"].is_u64(), "{status}");
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    for worker in status["workers"].as_array().unwrap() {
        assert_eq!((&worker["kind"], &worker["state"]), (&"rust".into(), &"ready".into()), "{worker}");
        assert_eq!((&worker["sessions"], &worker["restarts"]), (&0.into(), &0.into()), "{worker}");
        assert!(worker["pid"].is_u64() && worker["name"].is_string(), "{worker}");
    }
    // The gateway's own, and one of each worker.
    assert_eq!(status["frame_pools"].as_array().unwrap().len(), 3);
    assert_eq!(status["sessions"], Value::Array(Vec::new()));

    let nodes = up.home.json(&["nodes", "--json"]).await;
    let names: Vec<&str> =
        nodes.as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["AudioLevel", "AudioResample", "Calculator", "PassThrough", "VAD"]);
    let resample = &nodes[1];
    assert_eq!(resample["aliases"], serde_json::json!(["RustResampleNode", "FastResampleNode"]));
    assert_eq!(
        resample["params_schema"]["properties"]["target_sample_rate"]["type"], "integer",
        "{resample}"
    );
    let table = up.home.run(&["nodes"]).await;
    assert!(table.stdout.join("\n").contains("AudioResample"), "{:?}", table.stdout);
    up.stop().await;
}

#[tokio::test]
async fn up_starts_a_killed_worker_again_and_it_serves() {
    let up = Up::start().await;
    let before = up.workers().await;
    let (victim, name) = before[0].clone();
    signal(victim, Signal::SIGKILL);
    until(SOON, async || {
        let status = up.status().await;
        let workers = status["workers"].as_array().unwrap();
        let again = workers.iter().find(|worker| worker["name"] == name && worker["pid"] != victim);
        match again {
            Some(worker) if worker["restarts"] == 1 && worker["state"] == "ready" => Ok(()),
            Some(_) | None => Err(status.clone()),
        }
    })
    .await;
    let (survivor, _) = &before[1];
    assert!(up.workers().await.iter().any(|(pid, _)| pid == survivor), "the other worker was restarted too");

    let client = up.client().await;
    let apart = ["{ id: a, node_type: PassThrough }", "{ id: b, node_type: PassThrough, own_process: true }"];
    let result = client.execute(&chain(&apart), [("a", text("both"))]).await.unwrap();
    assert_eq!(words(&result.data_outputs["b"]), "both");
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn up_that_is_killed_leaves_no_orphan_and_the_next_one_leaves_no_file() {
    let up = Up::start().await;
    let (pids, marks) = (up.pids().await, up.marks());
    assert_eq!(pids.len(), 3);
    up.process.signal(Signal::SIGKILL);
    gone(&pids).await;
    let next = Up::start_in(up.home).await;
    let marks = marks.into_iter().chain(next.marks()).collect();
    next.stop_without(marks).await;
}

#[tokio::test]
async fn what_up_leaves_that_was_killed_is_ended_also_if_it_hangs_and_is_removed_by_the_next() {
    let up = Up::with_settings("drain_ms = 2000", "[[pool]]\nkind = 'rust'\nworkers = 2\n").await;
    let (pids, marks) = (up.pids().await, up.marks());
    let gateway = up.status().await["gateway"]["pid"].as_u64().unwrap();
    // A call that says nothing: the gateway, which is asked to go when it loses its launcher, waits for it.
    let client = up.client().await;
    let call = client.call().await;
    up.process.signal(Signal::SIGKILL);
    up.process.ended(START).await;
    // Not before: the kernel continues what is stopped when nobody is left who could.
    signal(gateway, Signal::SIGSTOP);
    let begin = Instant::now();
    gone(&pids).await;
    println!("a gateway that hangs was ended {:?} after its launcher", begin.elapsed());
    drop((call, client));
    let next = Up::start_in(up.home).await;
    let marks = marks.into_iter().chain(next.marks()).collect();
    next.stop_without(marks).await;
}

#[tokio::test]
async fn up_with_a_setting_that_cannot_be_says_so() {
    let home = Home::fresh();
    let done = home.run(&["up", "--grpc", "0.0.0.0:0"]).await;
    assert_ne!(done.code, Some(0));
    assert!(done.stderr.contains("0.0.0.0") && done.stderr.contains("127.0.0.1"), "{}", done.stderr);
    assert_eq!(done.stdout, Vec::<String>::new());
    home.assert_empty();
}

#[tokio::test]
async fn run_without_a_service_brings_its_own_and_removes_it() {
    let home = Home::fresh();
    let (wav, output) = (home.wav(), home.file("speech.jsonl"));
    let run = ["run", &example("speech.yaml"), "-i", &wav, "-o", &output, "--json"];
    let summary = home.json(&run).await;
    assert_eq!(summary["mode"], "unary");
    assert!(summary["gateway_pid"].is_u64() && summary["startup_ms"].is_number(), "{summary}");
    let nodes: Vec<_> = summary["nodes"].as_array().unwrap().iter().map(|node| &node["node"]).collect();
    assert_eq!(nodes, ["resample", "vad"]);
    let lines = fs::read_to_string(&output).unwrap();
    let result: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(lines.contains("has_speech"), "{result}");
    home.assert_empty();

    let human = home.run(&["run", &example("speech.yaml"), "-i", &wav]).await;
    assert_eq!(human.code, Some(0), "{}", human.stderr);
    assert!(human.stderr.contains("vad") && human.stderr.contains("pid"), "{}", human.stderr);
    home.assert_empty();
}

#[tokio::test]
async fn run_streams_in_chunks_and_writes_audio() {
    let home = Home::fresh();
    let (wav, output, pipeline) = (home.wav(), home.file("out.wav"), home.file("resample.yaml"));
    let yaml = "
version: v1
nodes:
  - { id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }
";
    fs::write(&pipeline, yaml).unwrap();
    let summary =
        home.json(&["run", &pipeline, "-i", &wav, "-o", &output, "--stream-ms", "20", "--json"]).await;
    assert_eq!(summary["mode"], "stream");
    assert_eq!(summary["sequences"]["sent"], 100);
    assert_eq!(summary["sequences"]["answered"], 100);
    let written = hound::WavReader::open(&output).unwrap();
    assert_eq!((written.spec().sample_rate, written.duration()), (16_000, 32_000));
    home.assert_empty();
}

#[tokio::test]
async fn run_says_what_is_wrong_with_a_pipeline_and_by_its_exit_code_whose_fault_it_is() {
    let home = Home::fresh();
    let (wav, pipeline) = (home.wav(), home.file("broken.yaml"));
    let check = async |yaml: &str, code: i32, words: &[&str]| {
        fs::write(&pipeline, yaml).unwrap();
        let done = home.run(&["run", &pipeline, "-i", &wav]).await;
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        words.iter().for_each(|word| assert!(done.stderr.contains(word), "{word}: {}", done.stderr));
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    };
    check("version: v1\nknots: []", 2, &["broken.yaml", "knots", "nodes"]).await;
    let loose = "version: v1\nnodes: [{ id: a, node_type: VAD }]\nconnections: [{ from: a, to: b }]";
    check(loose, 2, &["broken.yaml", "'b'"]).await;
    let two = "version: v2\nnodes: [{ id: a, node_typ: VAD }]";
    check(two, 2, &["broken.yaml:1:10: version", "broken.yaml:2:18: nodes[0].node_typ", "'node_type'?"])
        .await;
    let unknown = "version: v1\nnodes: [{ id: a, node_type: Reverb }]";
    check(unknown, 1, &["broken.yaml:2:29: nodes[0].node_type", "Reverb", "AudioResample"]).await;
    let done = home.run(&["run", "absent.yaml", "-i", &wav]).await;
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("absent.yaml"), "{}", done.stderr);
    home.assert_empty();
}

#[tokio::test]
async fn validate_tells_all_that_is_wrong_with_a_pipeline_and_where() {
    let home = Home::fresh();
    let (yaml, json) = (home.file("broken.yaml"), home.file("broken.json"));
    fs::write(
        &yaml,
        "version: v1
nodes:
  - { id: resample, node_type: AudioResampel, params: { target_sample_rate: 16000 } }
  - { id: vad, node_type: VAD, params: { treshold: 0.5 } }
connections:
  - { from: resample, to: vda }
",
    )
    .unwrap();
    let done = home.run(&["validate", &yaml]).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("3 problems"), "{}", done.stderr);
    let expected = [
        ("broken.yaml:3:32: nodes[0].node_type: ", "did you mean 'AudioResample'?"),
        ("broken.yaml:4:42: nodes[1].params.treshold: ", "did you mean 'threshold'?"),
        ("broken.yaml:6:27: connections[0].to: ", "did you mean 'vad'?"),
    ];
    assert_eq!(done.stdout.len(), expected.len(), "{:#?}", done.stdout);
    for (line, (place, meant)) in done.stdout.iter().zip(expected) {
        assert!(line.contains(place) && line.contains(meant), "{line}");
    }

    fs::write(&json, "{\"version\": \"v1\",\n \"nodes\": [{\"id\": \"a\", \"node_type\": \"VDA\"}]}")
        .unwrap();
    let done = home.run(&["validate", &json, "--json"]).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let report: Value = serde_json::from_str(&done.stdout.join("\n")).unwrap();
    assert_eq!((&report["valid"], report["problems"].as_array().unwrap().len()), (&false.into(), 1));
    let problem = &report["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&2.into(), &37.into()), "{problem}");
    assert_eq!((&problem["path"], &problem["value"]), (&"nodes[0].node_type".into(), &"VDA".into()));
    assert_eq!(problem["nearest"], "VAD");

    fs::write(
        &yaml,
        "version: v1
nodes:
  - { id: a, node_type: VAD, host: mars }
  - { id: b, node_type: VAD, runtime_hint: rustpython }
  - id: c
    node_type: VAD
    capabilities:
      gpu: { type: cuda, required: true }
      cpu: { cores: 100000 }
",
    )
    .unwrap();
    let done = home.run(&["validate", &yaml]).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let expected = [
        ("broken.yaml:3:36: nodes[0].host: ", "host = mars: nodes run on this machine, '"),
        ("broken.yaml:4:44: nodes[1].runtime_hint: ", "runtime_hint = rustpython: no pool runs that"),
        ("broken.yaml:8:12: nodes[2].capabilities.gpu: ", "gpu = cuda: no pool declares a gpu"),
        ("broken.yaml:9:21: nodes[2].capabilities.cpu.cores: ", "cores = 100000: this machine has "),
    ];
    assert_eq!(done.stdout.len(), expected.len(), "{:#?}", done.stdout);
    for (line, (place, said)) in done.stdout.iter().zip(expected) {
        assert!(line.contains(place) && line.contains(said), "{line}");
    }

    for name in ["speech.yaml", "fanout.yaml", "passthrough.yaml"] {
        let done = home.run(&["validate", &example(name)]).await;
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
    }
    for usage in [vec!["validate"], vec!["validate", "absent.yaml"], vec!["validate", &yaml, "--quick"]] {
        assert_eq!(home.run(&usage).await.code, Some(2), "{usage:?}");
    }
    let nobody = home.run(&["validate", &yaml, "--endpoint", "http://127.0.0.1:9"]).await;
    assert_eq!(nobody.code, Some(3), "{}", nobody.stderr);
    home.assert_empty();
}

#[tokio::test]
async fn validate_holds_a_pipeline_to_what_a_service_can_run() {
    let plant = Plant::start().await;
    let home = Home::fresh();
    let pipeline = home.file("multi.yaml");
    fs::write(&pipeline, "version: v1\nnodes: [{ id: a, node_type: Multi, params: { outputs: 2 } }]")
        .unwrap();
    let endpoint = format!("http://{}", plant.address());
    let dir = plant.runtime_dir().to_str().unwrap().to_owned();
    for (service, code) in [(["--endpoint", &endpoint], 0), (["--runtime-dir", &dir], 0)] {
        let words = [&["validate", &pipeline], service.as_slice()].concat();
        let done = home.run(&words).await;
        assert_eq!(done.code, Some(code), "{words:?}: {} {:?}", done.stderr, done.stdout);
    }
    // The stock worker does not have it.
    assert_eq!(home.run(&["validate", &pipeline]).await.code, Some(1));
    plant.finish().await;
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    path.to_str().unwrap().to_owned()
}

/// To a grandchild, whose number is its own until `up`, or its heir, has seen its death.
fn signal(pid: u64, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// Waits until none of them runs. Whoever inherits a dead orphan may take his time to reap it.
async fn gone(pids: &BTreeSet<u64>) {
    until(SOON, async || {
        let runs = |pid: &&u64| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
        };
        let left: Vec<_> = pids.iter().filter(runs).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}
