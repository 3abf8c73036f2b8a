//! What workers are held to: their memory, by `remotemedia up` or by systemd, and that nothing of them is left.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_core::Fault;
use remotemedia_core::fault::DeathCause;
use remotemedia_ipc::memory::MemoryGroup;
use remotemedia_tests::cage::Cage;
use remotemedia_tests::client::fault;
use remotemedia_tests::deadline::until;
#[cfg(target_arch = "x86_64")]
use remotemedia_tests::other_kernel;
use remotemedia_tests::pipeline::{RESAMPLE, chain, text, words};
use remotemedia_tests::plant::{Process, START, program, python};
use remotemedia_tests::up::{Home, SOON};
use remotemedia_tests::{Client, Plant, Recipe, Up, audio};

/// Half a minute on a machine that does nothing else.
#[cfg(target_arch = "x86_64")]
const A_BOOT_AND_TWO_TESTS: Duration = Duration::from_secs(240);

const BROOD: &str = "{ id: brood, node_type: Brood }";

/// For a machine of 768 MiB, where a process that wants more than it may gives up its programs' pages first, and asks for
/// them again: that can go on for half a minute.
const SETTINGS: &str = "[limits]\ndefault_timeout_ms = 120000\nmax_timeout_ms = 120000\n\
                        [pools]\ngateway_bytes = 67108864\nworker_bytes = 50331648\n";

/// A stock worker, and one of Python whose memory is bounded.
async fn service() -> Up {
    let home = Home::fresh();
    let python = python();
    let command = [python.to_str().unwrap(), "-m", "remotemedia.worker", "brood"];
    let settings = home.file("gateway.toml");
    fs::write(&settings, SETTINGS).unwrap();
    let config = home.configuration(&format!(
        "[gateway]\nconfig = {settings:?}\n[[pool]]\nkind = 'rust'\nworkers = 1\n\
         [[pool]]\nkind = 'python'\nworkers = 1\nmemory = '128MiB'\ncommand = {command:?}\n"
    ));
    Up::ready(home, &["--config", &config]).await
}

#[tokio::test]
async fn a_worker_that_takes_more_memory_than_it_may_is_stopped_with_that_cause_and_no_other() {
    let up = service().await;
    let has_cgroup = !cells(up.process.pid()).is_empty();
    let client = up.client().await;
    let (mut beside, _session) = client.stream(&chain(&[RESAMPLE])).await;
    let manifest = chain(&[BROOD]);
    client.execute(&manifest, [("brood", text("take 8"))]).await.unwrap();
    let error = client.execute(&manifest, [("brood", text("take 200"))]).await.unwrap_err();
    if !has_cgroup {
        // Without a cgroup the process is refused the memory, which Python survives.
        let Fault::Node(failed) = fault(&error) else { panic!("{error:?}") };
        assert!(failed.message.contains("MemoryError"), "{error:?}");
        assert!(up.process.log().join("\n").contains("no memory cgroup can be made"));
        println!("no memory cgroup can be made here: shown is the limit of the process");
    } else {
        let Fault::Worker(lost) = fault(&error) else { panic!("{error:?}") };
        assert_eq!(lost.cause, DeathCause::OutOfMemory, "{error:?}");
    }
    beside.send(0, audio::mono(44_100, &[0.5; 441])).await;
    assert_eq!(beside.result().await.sequence, 0);
    let again = client.execute(&manifest, [("brood", text("fine"))]).await.unwrap();
    assert_eq!(words(&again.data_outputs["brood"]), "fine");
    beside.half_close();
    let _answers = beside.rest().await.closed();
    up.idle().await;
    drop(client);
    let launcher = up.process.pid();
    up.stop().await;
    assert!(cells(launcher).is_empty(), "cgroups are left: {:?}", cells(launcher));
}

#[tokio::test]
async fn what_a_worker_has_started_dies_with_the_worker_and_with_up() {
    let up = service().await;
    let client = up.client().await;
    let worker = worker_pid(&up).await;
    let brood = brood(&up, &client).await;
    signal(worker, Signal::SIGKILL);
    gone(&brood).await;

    up.until(START, |status| {
        let ready = |worker: &&remotemedia_cli::admin::WorkerStatus| worker.state == "ready";
        status.workers.iter().filter(ready).count() == 2
    })
    .await;
    let again = worker_pid(&up).await;
    assert_ne!(worker, again);
    let brood = self::brood(&up, &client).await;
    up.process.signal(Signal::SIGKILL);
    gone(&brood).await;
    gone(&[again]).await;
    until(SOON, async || {
        let left = cells(up.process.pid());
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn want_of_memory_is_read_from_the_cgroup_of_a_unit_and_reported() {
    const INVOCATION: &str = "0123456789abcdef0123456789abcdef";
    let Some(cage) = Cage::of(128 << 20) else {
        println!("not shown: no memory cgroup can be made here");
        return;
    };
    let mut plant = Plant::of(Recipe { workers: 1, settings: SETTINGS, ..Recipe::default() }).await;
    plant.expect("worker_died");
    let dir = plant.runtime_dir().display().to_string();
    // As systemd starts a unit.
    let unit = format!(
        "{} && cd {} && export PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1 SYSTEMD_EXEC_PID=$$ INVOCATION_ID={INVOCATION} && \
         exec {} -m remotemedia.worker brood --runtime-dir {dir} --name unit --log-format json",
        cage.enter(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("python").display(),
        python().display(),
    );
    let worker = Process::start("unit", Path::new("/bin/sh"), &["-c", &unit]);
    until(START, async || {
        let workers = plant.status().await.workers;
        if workers.iter().any(|one| one.name == "unit" && one.state == "ready") {
            Ok(())
        } else {
            Err(workers)
        }
    })
    .await;
    let client = plant.client().clone();
    let taking =
        tokio::spawn(async move { client.execute(&chain(&[BROOD]), [("brood", text("take 200"))]).await });
    worker.ended(START).await;
    // As systemd runs what follows the end of a unit, in its cgroup.
    let report = format!(
        "{} && exec {} report-exit --runtime-dir {dir} --name unit --invocation {INVOCATION} \
         --result signal --code killed --status KILL",
        cage.enter(),
        program("remotemedia").display(),
    );
    let reported = Process::start("report", Path::new("/bin/sh"), &["-c", &report]).ended(START).await;
    assert_eq!(reported.status.code(), Some(0));
    let error = taking.await.unwrap().unwrap_err();
    let Fault::Worker(lost) = fault(&error) else { panic!("{error:?}") };
    assert_eq!((lost.worker.as_str(), lost.cause), ("unit", DeathCause::OutOfMemory), "{error:?}");
    plant.finish().await;
}

/// With the second version of cgroups, on a kernel that has the memory controller there.
#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn the_same_holds_on_a_kernel_with_cgroups_of_version_2() {
    let tests = [
        "a_worker_that_takes_more_memory_than_it_may_is_stopped_with_that_cause_and_no_other",
        "want_of_memory_is_read_from_the_cgroup_of_a_unit_and_reported",
    ];
    let words = [&["--exact", "--nocapture", "--test-threads=1"], &tests[..]].concat();
    let ran = other_kernel::run(&std::env::current_exe().unwrap(), &words, A_BOOT_AND_TWO_TESTS).await;
    let said = ran.said.join("\n");
    assert_eq!(ran.code, 0, "{said}");
    assert!(said.contains("test result: ok. 2 passed"), "{said}");
    assert!(!said.contains("no memory cgroup can be made"), "{said}");
}

/// Processes that the worker has started: one in its process group, and, where it has a cgroup, one that left the group.
async fn brood(up: &Up, client: &Client) -> Vec<u32> {
    let words_of = if cells(up.process.pid()).is_empty() { vec!["child"] } else { vec!["child", "away"] };
    let mut brood = Vec::new();
    for word in words_of {
        let result = client.execute(&chain(&[BROOD]), [("brood", text(word))]).await.unwrap();
        brood.push(words(&result.data_outputs["brood"]).parse().unwrap());
    }
    assert!(brood.iter().all(|pid| runs(*pid)));
    brood
}

async fn worker_pid(up: &Up) -> u32 {
    up.look().await.workers.into_iter().find(|worker| worker.name == "python-1").unwrap().pid
}

async fn gone(pids: &[u32]) {
    until(Duration::from_secs(5), async || {
        let left: Vec<_> = pids.iter().filter(|pid| runs(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// Whoever inherits a dead orphan may take his time to reap it.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
}

/// The cgroups that a launcher has made for workers, below ours or beside it.
fn cells(launcher: u32) -> Vec<String> {
    let Some(ours) = MemoryGroup::of(std::process::id().cast_signed()) else { return Vec::new() };
    let dirs = [Some(ours.directory()), ours.directory().parent()];
    let entries =
        dirs.into_iter().flatten().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("remotemedia-{launcher}-"))).collect()
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}
