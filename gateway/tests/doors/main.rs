//! The doors as their clients see them, over real sockets. Behind them is a transport that gives back what it gets:
//! what pipelines do is the business of the tests with real workers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod loopback;
mod plant;
mod statuses;
mod streams;
