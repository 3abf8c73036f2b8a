//! Everything that an outsider can reach: the gRPC doors with their limits, faults as statuses, and the admin door.
//!
//! The process, from the outside in:
//!
//! ```text
//! listener    accepts, and owns the connections; those beyond the room are told so
//! server      HTTP/2 with windows that make a slow pipeline its own client's matter
//!   gathered  what a connection writes in one turn of its task leaves in one piece
//!   identify  names every call, in its answer and on the lines that are logged about it
//!   measure   counts every call as its client sees it
//!   rescue    the one place that turns errors into statuses
//!   guard     who may call: whoever shows a token, where tokens are asked for
//!   admit     nothing new begins while the service goes away
//!   time      what the messages of a call cost to decode and encode
//!   doors     ExecutePipeline, StreamPipeline, GetVersion, health, reflection; what is not served says so
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
mod gathered;
mod gauge;
mod guard;
mod health;
mod identify;
mod inherited;
mod life;
mod listener;
mod measure;
mod orders;
pub mod rescue;
mod rpc;
mod runtime_dir;
mod server;
mod step;
mod times;
mod tokens;
mod unit;

pub use address::{Address, AddressError};
pub use admin::Admin;
pub use backend::Backend;
pub use config::{Arguments, Config, ConfigError, LogFormat, Pools};
pub use files::{FileRootError, FileRoots};
pub use guard::Guard;
pub use inherited::{Bound, Inherited, InheritedError};
pub use life::{Life, LifeWatch, Phase};
pub use listener::{BindError, Listener};
pub use measure::{Metrics, MetricsError};
pub use runtime_dir::{RuntimeDir, RuntimeDirError, Serving};
pub use server::Server;
pub use tokens::{TokenFile, TokenFileError};
pub use unit::Unit;
