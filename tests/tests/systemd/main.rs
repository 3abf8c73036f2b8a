//! The service as its operator has it: units of a real systemd, in a machine of its own.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

mod deaths;
mod doors;
mod operations;
mod operator;
mod units;

const PASS: &str = "{ id: pass, node_type: PassThrough }";
const GATEWAY: &str = "remotemedia-gateway.service";
const WORKERS: [&str; 2] = ["remotemedia-worker@1.service", "remotemedia-worker@2.service"];
