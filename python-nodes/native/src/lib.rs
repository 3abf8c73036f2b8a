//! The native module of the Python SDK: the engine of a worker, with nodes that are Python objects.
//!
//! The engine's threads take the interpreter's lock when they call a node and let go of it when they wait. Payloads
//! are looked at where they lie.

mod arrays;
mod block;
mod convert;
mod kept;
mod lender;
mod node;
mod raised;
mod trial;
mod worker;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::block::{Block, Lent};
    #[pymodule_export]
    use super::node::Context;
    #[pymodule_export]
    use super::trial::Trial;
    #[pymodule_export]
    use super::worker::{VersionError, Worker, default_runtime_dir, end_with, log_to_stderr};
}
