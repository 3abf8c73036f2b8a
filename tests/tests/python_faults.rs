//! What goes wrong in a Python process stays there, is told with its cause and the last words, and is over soon: under
//! `remotemedia up`, which starts again what dies.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::fs;
use std::time::{Duration, Instant};

use remotemedia_cli::admin::Status;
use remotemedia_core::Fault;
use remotemedia_core::fault::{DeathCause, WorkerLost};
use remotemedia_protos::v1::{DataBuffer, ErrorResponse, ErrorType, ResourceLimits, StreamInit};
use remotemedia_tests::cage::Cage;
use remotemedia_tests::client::{Call, context, fault};
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{RESAMPLE, chain, text, words};
use remotemedia_tests::plant::{START, program, python};
use remotemedia_tests::up::{Home, SOON};
use remotemedia_tests::{Client, Plant, Recipe, Up, audio};
use serde_json::json;

const DOOMED: &str = "{ id: doomed, node_type: Doomed }";
const PYPASS: &str = "{ id: pass, node_type: PyPass }";

/// From the end of a process to the error at the client: the launcher has its last words by then.
const AT_ONCE: Duration = Duration::from_millis(500);

/// One stock worker, and Python workers that run a module of `tests/python`.
fn pools(workers: usize, module: &str) -> String {
    pools_by(workers, &[], module)
}

/// The same, with something in front of the interpreter.
fn pools_by(workers: usize, before: &[&str], module: &str) -> String {
    let python = python();
    let command = before.iter().copied().chain([python.to_str().unwrap(), "-m", "remotemedia.worker"]);
    let command: Vec<&str> = command.chain(["passing", module]).collect();
    format!(
        "[[pool]]\nkind = 'rust'\nworkers = 1\n[[pool]]\nkind = 'python'\nworkers = {workers}\ncommand = {command:?}\n"
    )
}

#[tokio::test]
async fn what_ends_a_python_process_is_told_with_its_last_lines_and_the_pool_is_whole_again() {
    let up = Up::configured(&pools(1, "doomed")).await;
    let client = up.client().await;
    let gateway = up.look().await.gateway.pid;
    let undisturbed =
        resampled(client.stream(&chain(&[RESAMPLE])).await.0.run(pieces()).await.closed().of("resample"));
    for (restarts, (word, cause, said)) in (0..).zip([
        ("exit", DeathCause::Exit(3), "these are my last words"),
        ("segv", DeathCause::Signal(11), "doomed.py"),
        ("kill", DeathCause::Signal(9), "killed by my own hand"),
    ]) {
        let (mut other, _session) = client.stream(&chain(&[RESAMPLE])).await;
        let mut outputs = halved(&mut other, 0..50).await;
        let victim = pid_of(&up, "python-1").await;

        let (error, took) = doom(&client, word).await;
        assert!(took < AT_ONCE, "{word}: told only after {took:?}");
        println!("{word}: told {took:?} after it was asked for");
        let lost = lost(&error);
        assert_eq!((lost.node.as_str(), lost.worker.as_str(), lost.pid), ("doomed", "python-1", victim));
        assert_eq!((lost.cause, lost.restarts), (cause, restarts), "{word}");
        assert!(lost.last_lines.iter().any(|line| line.contains(said)), "{word}: {:#?}", lost.last_lines);
        let told = &context(&error)["fault"]["Worker"];
        assert_eq!((&told["worker"], &told["pid"]), (&json!("python-1"), &json!(victim)));
        assert_eq!(told["last_lines"], json!(lost.last_lines));

        // Python takes longer to start than this takes to ask: who asks waits for it.
        let result = client.execute(&chain(&[DOOMED]), [("doomed", text("fine"))]).await.unwrap();
        assert_eq!(words(&result.data_outputs["doomed"]), "fine");
        serves_again(&up, &client, victim).await;
        let loss = up.look().await.losses.into_iter().find(|loss| loss.worker == "python-1").unwrap();
        assert_eq!((loss.pid.cast_signed(), loss.ready), (victim, true));
        assert_eq!(loss.last_lines, lost.last_lines);
        outputs.extend(halved(&mut other, 50..100).await);
        other.half_close();
        outputs.extend(other.rest().await.closed().of("resample").cloned());
        assert_eq!(
            resampled(&outputs),
            undisturbed,
            "{word}: the other session is not what it was undisturbed"
        );
        up.idle().await;
    }
    assert_eq!(up.look().await.gateway.pid, gateway);
    run_shows_the_last_lines(&up).await;
    let status = up.home.run(&["status"]).await.stdout.join("\n");
    assert!(status.contains("python-1") && status.contains("exited with code 3, death 4"), "{status}");
    assert!(status.contains("it wrote last: these are my last words"), "{status}");
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn an_oom_kill_is_told_as_one_where_the_worker_has_a_cgroup_of_its_own() {
    // More than a worker needs to start, and little to use up.
    let Some(cage) = Cage::of(256 << 20) else {
        println!(
            "not shown: no memory cgroup can be made here, so no worker can be killed for want of memory"
        );
        return;
    };
    let script = format!("{} && exec \"$0\" \"$@\"", cage.enter());
    let up = Up::configured(&pools_by(1, &["/bin/sh", "-c", &script], "doomed")).await;
    let client = up.client().await;
    let victim = pid_of(&up, "python-1").await;
    let (error, _took) = doom(&client, "kill").await;
    assert_eq!(lost(&error).cause, DeathCause::Signal(9), "a kill by hand is none for want of memory");
    serves_again(&up, &client, victim).await;
    let victim = pid_of(&up, "python-1").await;
    let (error, took) = doom(&client, "memory").await;
    let lost = lost(&error);
    println!("told {took:?} after it was asked for");
    assert_eq!((lost.pid, lost.cause), (victim, DeathCause::OutOfMemory), "{:#?}", lost.last_lines);
    assert!(lost.last_lines.iter().any(|line| line == "taking all there is"), "{:#?}", lost.last_lines);
    assert!(error.message.contains("for want of memory"), "{}", error.message);
    serves_again(&up, &client, victim).await;
    up.idle().await;
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn a_call_that_holds_the_interpreter_past_its_deadline_has_its_worker_killed_and_replaced() {
    let up = Up::with_settings("[limits]\ndefault_timeout_ms = 500\n", &pools(2, "doomed")).await;
    let client = up.client().await;
    let (mut beside, _session) = client.stream(&chain(&[DOOMED])).await;
    beside.send(0, text("fine")).await;
    beside.result().await;
    let (held, session) = client.stream_as(limited(DOOMED, 300)).await;
    let status = up.look().await;
    let name = status.sessions.iter().find(|one| one.id == session).unwrap().workers[0].clone();
    let victim = pid_of(&up, &name).await;
    // Two sessions, two workers: a third meets the one that hangs.
    let (met, session) = client.stream(&chain(&[DOOMED])).await;
    let with = up.look().await.sessions.into_iter().find(|one| one.id == session).unwrap().workers;

    let begin = Instant::now();
    held.send(0, text("hold")).await;
    let error = held.rest().await.error.unwrap();
    let took = begin.elapsed();
    assert!(matches!(fault(&error), Fault::Deadline { limit_ms: 300, .. }), "{error:?}");
    assert!(took < Duration::from_millis(800), "told only after {took:?}");
    let is = |state: &'static str| {
        let name = name.clone();
        move |status: &Status| status.workers.iter().any(|one| one.name == name && one.state == state)
    };
    up.until(SOON, is("stuck")).await;
    for number in 0..20 {
        let served = client.execute(&chain(&[PYPASS]), [("pass", text(number.to_string()))]).await.unwrap();
        assert_eq!(
            words(&served.data_outputs["pass"]),
            number.to_string(),
            "another worker serves meanwhile"
        );
    }
    if with == [name.clone()] {
        let error = met.run([text("fine")]).await.error.unwrap();
        assert_eq!(lost(&error).cause, DeathCause::Hang);
    } else {
        drop(met);
    }
    up.until(SOON, |status| pid_in(status, &name).is_some_and(|pid| pid != victim)).await;
    println!("replaced {:?} after the call began", begin.elapsed());
    let loss = up.look().await.losses.into_iter().find(|loss| loss.worker == name).unwrap();
    assert_eq!((loss.pid.cast_signed(), loss.cause.as_str()), (victim, "hung, and was killed"));
    assert!(loss.last_lines.iter().any(|line| line == "counting"), "{loss:#?}");
    beside.half_close();
    let _untouched = beside.rest().await.closed();
    up.idle().await;
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn other_sessions_of_a_worker_that_is_stuck_may_end_within_the_grace_and_are_told_if_they_do_not() {
    const GRACE_MS: u64 = 3_000;
    let settings = format!("[limits]\ndefault_timeout_ms = 300\nhang_grace_ms = {GRACE_MS}\n");
    let worker = program("test-worker");
    let command = [worker.to_str().unwrap(), "--threads", "2"];
    let pools = format!("[[pool]]\nkind = 'rust'\nworkers = 1\ncommand = {command:?}\n");
    let up = Up::with_settings(&settings, &pools).await;
    let client = up.client().await;
    let victim = pid_of(&up, "rust-1").await;
    let pass = "{ id: pass, node_type: PassThrough, params: {} }";
    // One of the node that is not called twice, so that it is told of the death.
    let kept = "{ id: kept, node_type: Doom, params: { fault: none, when: drop } }";
    let (mut ends, _session) = client.stream(&chain(&[pass])).await;
    let (mut stays, _session) = client.stream(&chain(&[kept])).await;
    stays.send(0, text("before")).await;
    stays.result().await;
    let spins = "{ id: spins, node_type: Doom, params: { fault: spin, when: input, at: 0 } }";
    let (hangs, _session) = client.stream(&chain(&[spins])).await;
    let error = hangs.run([text("spin")]).await.error.unwrap();
    assert!(matches!(fault(&error), Fault::Deadline { limit_ms: 300, .. }), "{error:?}");
    let stuck = |status: &Status| status.workers.iter().any(|one| one.state == "stuck");
    up.until(SOON, stuck).await;
    let begin = Instant::now();
    for number in 0..10 {
        ends.send(number, text(number.to_string())).await;
        assert_eq!(words(&ends.result().await.data_outputs["pass"]), number.to_string());
    }
    ends.close().await;
    assert!(ends.rest().await.closed().missed.is_empty());
    assert!(begin.elapsed() < Duration::from_millis(GRACE_MS), "it took {:?}", begin.elapsed());
    assert!(up.look().await.workers.iter().any(|one| one.pid.cast_signed() == victim), "it lives until then");
    let error = stays.rest().await.error.unwrap();
    assert_eq!((lost(&error).cause, lost(&error).pid), (DeathCause::Hang, victim));
    up.until(SOON, |status| pid_in(status, "rust-1").is_some_and(|pid| pid != victim)).await;
    up.idle().await;
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn a_stuck_worker_that_nobody_would_start_again_is_left_and_given_work_when_it_comes_back() {
    let settings = "[limits]\ndefault_timeout_ms = 500\n";
    let recipe = Recipe { workers: 1, python: &["doomed"], settings, ..Recipe::default() };
    let mut plant = Plant::of(recipe).await;
    plant.expect("worker_stuck");
    let (call, _session) = plant.client().stream_as(limited(DOOMED, 200)).await;
    let error = call.run([text("sleep 3.5")]).await.error.unwrap();
    assert!(matches!(fault(&error), Fault::Deadline { .. }), "{error:?}");
    let is = async |state: &str| {
        until(SOON, async || {
            let status = plant.status().await;
            let found =
                status.workers.iter().find(|worker| worker.name.starts_with("python")).unwrap().state.clone();
            if found == state { Ok(()) } else { Err(found) }
        })
        .await
    };
    is("stuck").await;
    // It waits for the worker to come back, for no other has what it asks for.
    let (waiting, _session) = plant.client().stream(&chain(&[DOOMED])).await;
    let answers = waiting.run([text("x")]).await.closed();
    assert_eq!(answers.of("doomed").map(words).collect::<Vec<_>>(), ["x"]);
    is("ready").await;
    plant.client().execute(&chain(&[PYPASS]), [("pass", text("again"))]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn a_worker_whose_threads_are_all_busy_is_not_taken_for_one_that_hangs() {
    let pools = pools(1, "doomed").replace("\"passing\"", "\"--threads\", \"1\", \"passing\"");
    let up = Up::with_settings("[limits]\ndefault_timeout_ms = 300\n", &pools).await;
    let client = up.client().await;
    let pid = pid_of(&up, "python-1").await;
    let (waiting, _session) = client.stream(&chain(&[DOOMED])).await;
    let (busy, _session) = client.stream_as(limited(DOOMED, 20_000)).await;
    busy.send(0, text("sleep 4")).await;
    up.until(SOON, |status| status.sessions.len() == 2).await;
    let error = waiting.run([text("fine")]).await.error.unwrap();
    assert!(matches!(fault(&error), Fault::Deadline { limit_ms: 300, .. }), "{error:?}");
    let mut busy = busy;
    let result = busy.result().await;
    assert_eq!(words(&result.data_outputs["doomed"]), "sleep 4", "it is slow, and nobody hangs");
    busy.half_close();
    let _answers = busy.rest().await.closed();
    assert_eq!(pid_of(&up, "python-1").await, pid);
    up.idle().await;
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn the_successor_of_a_gateway_is_told_of_deaths_too() {
    let up = Up::configured(&pools(1, "doomed")).await;
    let gateway = up.look().await.gateway.pid;
    let victim = pid_of(&up, "python-1").await;
    let number = nix::unistd::Pid::from_raw(gateway.cast_signed());
    nix::sys::signal::kill(number, nix::sys::signal::Signal::SIGKILL).unwrap();
    until(SOON, async || {
        let status = up.home.run(&["status", "--json"]).await.stdout.join("\n");
        let status: Status = serde_json::from_str(&status).map_err(|_| status)?;
        let is_back = status.gateway.pid != gateway && pid_in(&status, "python-1") == Some(victim);
        if is_back { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let client = up.client().await;
    let (error, _took) = doom(&client, "exit").await;
    let lost = lost(&error);
    assert_eq!((lost.pid, lost.cause), (victim, DeathCause::Exit(3)));
    assert_eq!(lost.last_lines.last().map(String::as_str), Some("these are my last words"));
    serves_again(&up, &client, victim).await;
    up.idle().await;
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn a_module_that_cannot_be_imported_is_told_to_who_asks_for_a_node_type_that_is_not_there() {
    let home = Home::fresh();
    let config = home.configuration(&pools(1, "unimportable"));
    let up = home.up(&["--config", &config]);
    until(START, async || {
        let status = home.run(&["status"]).await.stdout.join("\n");
        let told = status.contains("python-1") && status.contains("before it was ready");
        if told && status.contains("rust-1") { Ok(()) } else { Err(status) }
    })
    .await;
    let status = home.json(&["status", "--json"]).await;
    let loss = &status["losses"][0];
    let lines = loss["last_lines"].as_array().unwrap();
    let missing = "ModuleNotFoundError: No module named 'a_library_that_is_not_installed'";
    assert!(lines.iter().any(|line| line == missing), "{loss:#}");
    assert!(lines.iter().any(|line| line.as_str().unwrap().contains("unimportable.py")), "{loss:#}");
    let client = Client::connect(status["gateway"]["grpc"].as_str().unwrap()).await;
    let error = client.execute(&chain(&[DOOMED]), [("doomed", text("x"))]).await.unwrap_err();
    let says = format!(", and wrote '{missing}'");
    assert!(
        error.message.contains("worker 'python-1' does not start: it exited with code"),
        "{}",
        error.message
    );
    assert!(error.message.contains(&says), "{}", error.message);
    client.execute(&chain(&[RESAMPLE]), [("resample", pieces().remove(0))]).await.unwrap();
    drop(client);
    up.stop(START).await;
    home.assert_empty();
}

#[tokio::test]
async fn a_node_that_floods_its_outputs_is_neither_blocked_nor_gathered() {
    let up = Up::configured(&pools(1, "doomed")).await;
    let client = up.client().await;
    let before = up.process.private_bytes();
    let begin = Instant::now();
    let result = client.execute(&chain(&[DOOMED]), [("doomed", text("flood 8"))]).await.unwrap();
    assert_eq!(words(&result.data_outputs["doomed"]), "flood 8");
    let grown = up.process.private_bytes().saturating_sub(before);
    println!("16 MiB in {:?}, by which the launcher grew {grown} bytes", begin.elapsed());
    assert!(grown < 8 << 20, "the launcher grew by {grown} bytes");
    let victim = pid_of(&up, "python-1").await;
    let (call, _session) = client.stream(&chain(&[DOOMED])).await;
    let answers = call.run([text("flood 4"), text("exit")]).await;
    let lost = lost(&answers.error.unwrap());
    assert_eq!(
        lost.last_lines.last().map(String::as_str),
        Some("these are my last words"),
        "behind the flood"
    );
    serves_again(&up, &client, victim).await;
    up.idle().await;
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn a_forked_child_that_ends_leaves_what_its_parent_holds() {
    let mut plant = Plant::of(Recipe { workers: 1, python: &["doomed"], ..Recipe::default() }).await;
    plant.expect("a forked child came back");
    for (ending, code) in [("_exit", 0), ("multiprocessing", 0), ("exit", 70), ("return", 70)] {
        let node = format!("{{ id: forking, node_type: Forking, params: {{ ending: '{ending}' }} }}");
        let (call, _session) = plant.client().stream(&chain(&[&node])).await;
        let chunks = (1_u8..=20).map(|value| audio::mono(16_000, &[f32::from(value); 4_000]));
        let answers = call.run(chunks).await.closed();
        let said: Vec<&str> = answers.of("forking").map(words).collect();
        let expected: Vec<String> =
            (1..=20).map(|count| format!("{code} {}.0", count * (count + 1) / 2 * 4_000)).collect();
        assert_eq!(said, expected, "{ending}");
        plant.idle_within(remotemedia_tests::plant::RELEASE).await;
    }
    plant.finish().await;
}

/// Has the node come to its end, and gives what the client is told, and how long after it was asked for.
async fn doom(client: &Client, word: &str) -> (ErrorResponse, Duration) {
    let (mut call, _session) = client.stream(&chain(&[DOOMED])).await;
    call.send(0, text("fine")).await;
    call.result().await;
    call.send(1, text(word)).await;
    let begin = Instant::now();
    call.half_close();
    let error = call.rest().await.error.expect(word);
    assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::NodeExecution, "doomed"));
    (error, begin.elapsed())
}

/// For a person at a terminal.
async fn run_shows_the_last_lines(up: &Up) {
    let [pipeline, input] = ["doomed.yaml", "words.txt"].map(|name| up.home.file(name));
    fs::write(&pipeline, format!("version: v1\nnodes:\n  - {DOOMED}\n")).unwrap();
    fs::write(&input, "exit").unwrap();
    let dir = up.ready["runtime_dir"].as_str().unwrap();
    let done = up.home.run(&["run", &pipeline, "-i", &input, "--runtime-dir", dir]).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let told = "the last lines of worker 'python-1' were:";
    assert!(
        done.stderr.contains(told) && done.stderr.contains("  these are my last words"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("exited with code 3"), "{}", done.stderr);
}

fn lost(error: &ErrorResponse) -> WorkerLost {
    let Fault::Worker(lost) = fault(error) else { panic!("{error:?}") };
    lost
}

fn limited(node: &str, timeout_ms: u64) -> StreamInit {
    let limits = ResourceLimits { max_timeout_ms: timeout_ms, ..ResourceLimits::default() };
    StreamInit { manifest: Some(chain(&[node])), resource_limits: Some(limits), ..StreamInit::default() }
}

fn pid_in(status: &Status, name: &str) -> Option<i32> {
    let worker = status.workers.iter().find(|worker| worker.name == name && worker.state == "ready")?;
    Some(worker.pid.cast_signed())
}

/// As soon as it has loaded.
async fn pid_of(up: &Up, name: &str) -> i32 {
    up.until(START, |status| pid_in(status, name).is_some()).await;
    pid_in(&up.look().await, name).expect("the worker is ready")
}

/// The worker's successor is there, and serves the same node.
async fn serves_again(up: &Up, client: &Client, dead: i32) {
    up.until(SOON, |status| pid_in(status, "python-1").is_some_and(|pid| pid != dead)).await;
    let result = client.execute(&chain(&[DOOMED]), [("doomed", text("fine"))]).await.unwrap();
    assert_eq!(words(&result.data_outputs["doomed"]), "fine");
}

/// A second in pieces of 10 ms at 44.1 kHz.
fn pieces() -> Vec<DataBuffer> {
    audio::tone(44_100, 44_100).chunks(441).map(|piece| audio::mono(44_100, piece)).collect()
}

async fn halved(call: &mut Call, which: std::ops::Range<usize>) -> Vec<DataBuffer> {
    let mut outputs = Vec::new();
    for (sequence, piece) in which.clone().zip(pieces().drain(which)) {
        call.send(sequence as u64, piece).await;
        outputs.extend(call.result().await.data_outputs.remove("resample"));
    }
    outputs
}

fn resampled<'a>(buffers: impl IntoIterator<Item = &'a DataBuffer>) -> Vec<u32> {
    buffers.into_iter().flat_map(audio::samples).map(f32::to_bits).collect()
}
