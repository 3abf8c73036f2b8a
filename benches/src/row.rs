//! What a benchmark found: one line.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints what it measured")]

use std::fs;
use std::thread;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::BenchError;

/// One result.
#[derive(Serialize, Debug)]
pub(crate) struct Row {
    name: &'static str,
    compared_to: &'static str,
    /// The machine's load average of the last minute, when the measuring was over.
    load: Option<f64>,
    cores: usize,
    samples: usize,
    #[serde(flatten)]
    values: Map<String, Value>,
    /// Whether the numbers keep what is promised of them; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<bool>,
}

/// Says why a benchmark could not be run.
pub(crate) fn complain(error: &BenchError) {
    eprintln!("remotemedia-benches: {error}");
}

// === impl Row ===

impl Row {
    pub(crate) fn new(name: &'static str, compared_to: &'static str, samples: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { name, compared_to, load: load(), cores, samples, values: Map::new(), holds: None }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.values.insert(key.to_owned(), value.into());
        self
    }

    /// A promise of this row: all of them must hold.
    pub(crate) fn promising(mut self, holds: bool) -> Self {
        self.holds = Some(self.holds.unwrap_or(true) && holds);
        self
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("names and numbers are always JSON"));
            return;
        }
        let verdict = match self.holds {
            None => "",
            Some(true) => ": holds",
            Some(false) => ": DOES NOT HOLD",
        };
        println!("{}{verdict}", self.name);
        println!("    compared to   {}", self.compared_to);
        let load = self.load.map_or_else(|| "unknown".to_owned(), |load| load.to_string());
        println!("    measured      {} samples, load {load} on {} cores", self.samples, self.cores);
        for (key, value) in &self.values {
            println!("    {key:<32}  {value}");
        }
    }
}

/// Absent where `/proc` is not mounted.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
