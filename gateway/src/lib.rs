//! Everything that an outsider can reach: the gRPC doors with their limits, faults as statuses, and the admin door.
//!
//! The process, from the outside in:
//!
//! ```text
//! listener    accepts at loopback addresses and unix sockets, and nowhere else; owns the connections
//! server      HTTP/2 with windows that make a slow pipeline its own client's matter
//!   measure   counts every call as its client sees it
//!   rescue    the one place that turns errors into statuses
//!   admit     nothing new begins while the service goes away
//!   doors     ExecutePipeline, StreamPipeline, GetVersion; what is not served says so
//! backend     runs the pipelines: the runtime, with workers behind it
//! ```
//!
//! No node code runs here, and nothing that a client or a worker sends ends this process.

#![forbid(unsafe_code)]

mod address;
mod admin;
mod admit;
mod backend;
mod config;
mod deadline;
mod doors;
mod files;
mod life;
mod listener;
mod measure;
pub mod rescue;
mod runtime_dir;
mod server;

pub use address::{AddressError, LocalAddress};
pub use admin::Admin;
pub use backend::Backend;
pub use config::{Arguments, Config, ConfigError, LogFormat, Pools};
pub use files::{FileRootError, FileRoots};
pub use life::{Life, LifeWatch, Phase};
pub use listener::{BindError, Listener};
pub use measure::{Metrics, MetricsError};
pub use runtime_dir::{RuntimeDir, RuntimeDirError, Serving};
pub use server::Server;
