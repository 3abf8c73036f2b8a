//! The doors as their clients see them, over real sockets. Behind them is a transport that gives back what it gets:
//! what pipelines do is the business of the tests with real workers.

mod admin;
mod loopback;
mod plant;
mod statuses;
mod streams;
