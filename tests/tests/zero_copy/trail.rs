//! Where each process says that a frame lay, from its trace.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::domain::Program;

/// One end of one hop of one frame.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Sighting {
    /// `sent` or `arrived`.
    pub(crate) step: String,
    /// The process at the other end.
    pub(crate) peer: String,
    /// The frame's number.
    pub(crate) sequence: u64,
    /// Where it lay.
    #[serde(flatten)]
    pub(crate) place: Place,
}

/// A place in shared memory at one time of its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
pub(crate) struct Place {
    /// The memfd.
    pub(crate) inode: u64,
    /// The block.
    pub(crate) block: u32,
    /// Which content of the block.
    pub(crate) generation: u64,
    /// Where in the block.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) len: u64,
}

/// The log filter under which processes tell.
pub(crate) const FILTER: &str = "info,remotemedia_ipc::trace=trace";

/// A receiver may be heard of before the sender has written its line.
const PATIENCE: Duration = Duration::from_secs(5);

/// All that a process has told of its only session, once it has told of the arrival and the sending of the last frame.
pub(crate) fn of(program: &Program, last: u64) -> Vec<Sighting> {
    let end = Instant::now() + PATIENCE;
    loop {
        let told = read(program);
        let count =
            |step: &str| told.iter().filter(|seen| seen.step == step && seen.sequence == last).count();
        if [count("sent"), count("arrived")] == [1, 1] {
            return told;
        }
        assert!(Instant::now() < end, "{} told of frame {last} only: {told:?}", program.name);
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// All that a process has told until now.
pub(crate) fn read(program: &Program) -> Vec<Sighting> {
    let log = fs::read_to_string(&program.log).expect("the log is there");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = lines.filter(|line| line["target"] == "remotemedia_ipc::trace");
    told.map(|mut line| serde_json::from_value(line["fields"].take()).expect("a sighting")).collect()
}
