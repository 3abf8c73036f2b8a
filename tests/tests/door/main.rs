//! The gateway's door: who may call, how much, what operators see, and what comes of bad input.

mod abuse;
mod exposition;
mod health;
mod http;
mod limits;
mod logs;
mod metrics;
mod quotas;
mod raw;
mod room;
mod tokens;
mod unix;

const PASS: &str = "{ id: pass, node_type: PassThrough }";
