//! `remotemedia` as a person at a terminal runs it, at a place of its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remotemedia_cli::admin::{AdminDoor, Status};
use serde_json::Value;
use tempfile::TempDir;

use crate::audio;
use crate::client::Client;
use crate::deadline::until;
use crate::plant::{Process, RELEASE, START, program};

/// For a process that was killed to be gone, or to be there again: the launcher's first pause is far below.
pub const SOON: Duration = Duration::from_secs(10);

/// `remotemedia up`, ready.
#[derive(Debug)]
pub struct Up {
    /// The launcher.
    pub process: Process,
    /// What it printed when it was ready.
    pub ready: Value,
    /// Where it was started.
    pub home: Home,
}

/// A place where nobody else's services are.
#[derive(Debug)]
pub struct Home(TempDir);

/// What a command left behind when it had ended.
#[derive(Debug)]
pub struct Done {
    /// Its exit code, unless a signal killed it.
    pub code: Option<i32>,
    /// Lines.
    pub stdout: Vec<String>,
    /// All of it.
    pub stderr: String,
}

// === impl Up ===

impl Up {
    /// Two stock workers.
    ///
    /// # Panics
    /// As [`Self::configured`].
    pub async fn start() -> Self {
        Self::start_in(Home::fresh()).await
    }

    /// The same at a place where another one was.
    ///
    /// # Panics
    /// As [`Self::configured`].
    pub async fn start_in(home: Home) -> Self {
        Self::ready(home, &["--workers", "2"]).await
    }

    /// With the pools of a configuration file.
    ///
    /// # Panics
    /// It does not become ready, or does not say so.
    pub async fn configured(pools: &str) -> Self {
        Self::with_settings("", pools).await
    }

    /// With the settings of a gateway's file, too.
    ///
    /// # Panics
    /// As [`Self::configured`].
    pub async fn with_settings(settings: &str, pools: &str) -> Self {
        let home = Home::fresh();
        let path = home.file("gateway.toml");
        fs::write(&path, settings).expect("the settings are written");
        let config = home.configuration(&format!("[gateway]\nconfig = {path:?}\n{pools}"));
        Self::ready(home, &["--config", &config]).await
    }

    /// At this place, with these words on its command line.
    ///
    /// # Panics
    /// As [`Self::configured`].
    pub async fn ready(home: Home, words: &[&str]) -> Self {
        let process = home.up(words);
        let ready = process.first_line(START).await;
        let ready = serde_json::from_str(&ready).expect("the ready line is JSON");
        Self { process, ready, home }
    }

    /// A client of its gateway.
    ///
    /// # Panics
    /// It does not take connections.
    pub async fn client(&self) -> Client {
        Client::connect(self.ready["grpc"].as_str().expect("it says where")).await
    }

    /// What `remotemedia status` says.
    ///
    /// # Panics
    /// It fails.
    pub async fn status(&self) -> Value {
        self.home.json(&["status", "--json"]).await
    }

    /// The same, without a process for it.
    ///
    /// # Panics
    /// The gateway does not answer.
    pub async fn look(&self) -> Status {
        let door = AdminDoor::at(self.ready["admin"].as_str().expect("it says where"));
        door.status().await.expect("the gateway tells its status")
    }

    /// Waits until the service is as `look` wants it. Gives the time that it took.
    ///
    /// # Panics
    /// It still is not when the time is over.
    pub async fn until(&self, limit: Duration, is_so: impl Fn(&Status) -> bool) -> Duration {
        until(limit, async || {
            let status = self.look().await;
            if is_so(&status) { Ok(()) } else { Err(status) }
        })
        .await
    }

    /// Waits until no session is there and no block in use.
    ///
    /// # Panics
    /// Something is left.
    pub async fn idle(&self) {
        let idle = |status: &Status| {
            let free =
                status.frame_pools.iter().all(|pool| pool.blocks_in_use == 0 && pool.state == "active");
            free && status.sessions.is_empty() && status.workers.iter().all(|worker| worker.sessions == 0)
        };
        self.until(RELEASE, idle).await;
    }

    /// Pid and name of each worker.
    pub async fn workers(&self) -> Vec<(u64, String)> {
        let workers = self.look().await.workers.into_iter();
        workers.map(|one| (u64::from(one.pid), one.name)).collect()
    }

    /// Of the gateway and the workers.
    pub async fn pids(&self) -> BTreeSet<u64> {
        let status = self.look().await;
        let workers = status.workers.iter().map(|worker| worker.pid);
        workers.chain([status.gateway.pid]).map(u64::from).collect()
    }

    /// How the names of the domain's files begin.
    ///
    /// # Panics
    /// There is not one domain.
    #[must_use]
    pub fn marks(&self) -> Vec<String> {
        let dir = self.ready["runtime_dir"].as_str().expect("it says where");
        let marks: Vec<String> =
            names_in(Path::new(dir)).into_iter().filter(|name| name.starts_with("remotemedia")).collect();
        assert_eq!(marks.len(), 1, "a gateway has one domain");
        marks
    }

    /// SIGTERM leaves no process and no file.
    ///
    /// # Panics
    /// It does.
    pub async fn stop(self) {
        let marks = self.marks();
        self.stop_without(marks).await;
    }

    /// The same, and of these domains no file either.
    ///
    /// # Panics
    /// It does.
    pub async fn stop_without(self, marks: Vec<String>) {
        let pids = self.pids().await;
        self.process.stop(START).await;
        assert_eq!(self.process.printed().len(), 1, "{:?}", self.process.printed());
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
        }
        let of_us = |name: &String| marks.iter().any(|mark| name.contains(mark.as_str()));
        let left: Vec<_> = names_in(Path::new("/dev/shm")).into_iter().filter(of_us).collect();
        assert!(left.is_empty(), "left in /dev/shm: {left:?}");
        self.home.assert_empty();
    }
}

// === impl Home ===

impl Home {
    /// # Panics
    /// There is no shared memory to be had.
    #[must_use]
    pub fn fresh() -> Self {
        let dir = tempfile::Builder::new().prefix("up-").tempdir_in("/dev/shm").expect("tmpfs takes it");
        fs::create_dir(dir.path().join("services")).expect("it is ours");
        Self(dir)
    }

    /// The path of a file of the test's own.
    ///
    /// # Panics
    /// The place has a name that is no text.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("the path is text").to_owned()
    }

    /// A configuration of `up` with these pools.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn configuration(&self, pools: &str) -> String {
        let path = self.file("up.toml");
        fs::write(&path, pools).expect("the configuration is written");
        path
    }

    /// Starts `up` on free ports.
    #[must_use]
    pub fn up(&self, words: &[&str]) -> Process {
        let free = ["up", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        self.start(&[&free, words].concat())
    }

    /// Starts a command.
    #[must_use]
    pub fn start(&self, words: &[&str]) -> Process {
        let place = format!("--user-dir={}", self.services().display());
        let arguments: Vec<&str> = [place.as_str()].into_iter().chain(words.iter().copied()).collect();
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let environment: [(&str, &OsStr); 2] =
            [("PYTHONPATH", modules.as_os_str()), ("PYTHONDONTWRITEBYTECODE", "1".as_ref())];
        Process::start_with("remotemedia", &program("remotemedia"), &arguments, &environment)
    }

    /// Runs a command to its end.
    pub async fn run(&self, words: &[&str]) -> Done {
        let process = self.start(words);
        let code = process.ended(START * 2).await.status.code();
        Done { code, stdout: process.printed(), stderr: process.log().join("\n") }
    }

    /// The one JSON document that a command prints.
    ///
    /// # Panics
    /// It fails, or prints something else.
    pub async fn json(&self, words: &[&str]) -> Value {
        let done = self.run(words).await;
        assert_eq!(done.code, Some(0), "{words:?}: {}", done.stderr);
        serde_json::from_str(&done.stdout.join("\n")).expect("--json prints JSON")
    }

    /// Two seconds of a tone at 44.1 kHz, as 16-bit integers.
    ///
    /// # Panics
    /// It cannot be written.
    #[expect(clippy::cast_possible_truncation, reason = "the tone stays below full scale")]
    #[must_use]
    pub fn wav(&self) -> String {
        let path = self.file("tone.wav");
        let (channels, sample_rate, bits_per_sample) = (1, 44_100, 16);
        let sample_format = hound::SampleFormat::Int;
        let spec = hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        let mut writer = hound::WavWriter::create(&path, spec).expect("the file is made");
        for sample in audio::tone(44_100, 88_200) {
            writer.write_sample((sample * 32_767.0) as i16).expect("it is written");
        }
        writer.finalize().expect("it is written");
        path
    }

    /// Nothing of a service is left.
    ///
    /// # Panics
    /// Something is.
    pub fn assert_empty(&self) {
        let left = names_in(&self.services());
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    fn services(&self) -> PathBuf {
        self.0.path().join("services")
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory is listed");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
