//! The stock worker: the nodes that every worker has.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    remotemedia_worker::run(remotemedia_worker::nodes::stock())
}
