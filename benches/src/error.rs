//! Why a benchmark could not be run to its end.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use remotemedia_cli::transport::ConnectError;
use remotemedia_core::data::DataError;
use remotemedia_core::fault::{DeathCause, Fault};
use remotemedia_core::manifest::ParseError;
use remotemedia_core::node::NodeError;
use remotemedia_ipc::guest::GuestError;
use remotemedia_ipc::host::HostError;
use remotemedia_ipc::link::LinkError;
use remotemedia_ipc::memory::GeometryError;
use remotemedia_ipc::plane::{NoBlock, SendError};
use remotemedia_runtime::StartError;
use remotemedia_worker::registry::CreateError;

/// Not measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("{path} is not there: `scripts/bench` builds it")]
    NotBuilt { path: PathBuf },
    #[error("'{line}' is no answer of a baseline, expected {expected} numbers")]
    Baseline { line: String, expected: usize },
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    NoBlock(#[from] NoBlock),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("the other process died: {cause:?}")]
    PeerDied { cause: DeathCause },
    #[error("the other process said nothing in {waited:?}")]
    Silent { waited: Duration },
    #[error("page {page} of frame {sequence} bears the stamp {found:#x}, expected {expected:#x}")]
    Torn { sequence: u64, page: usize, found: u64, expected: u64 },
    #[error("a frame came back copied, expected the same block")]
    Copied,
    #[error("the other process sent something else than was asked of it")]
    Unexpected,
    #[error("the service said '{line}', expected that it is ready: its log is above")]
    NotReady { line: String },
    #[error("{reason}")]
    Refused { reason: String },
    #[error("{sessions} sessions are on {workers} workers, expected {expected} on each")]
    Placed { sessions: usize, workers: usize, expected: usize },
    #[error("the stuck node answered before its neighbour was measured: the machine is too busy")]
    NotStuck,
    #[error("the service did not end well: {ended}")]
    EndedBadly { ended: ExitStatus },
    #[error(transparent)]
    Runtime(#[from] StartError),
    #[error(transparent)]
    Manifest(#[from] ParseError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the service's answer is not what the same node gives in this process")]
    OtherAnswer,
    #[error("no call was answered; the first error was: {first}")]
    NothingAnswered { first: String },
}

/// For `map_err`: what was being done when the system refused.
pub(crate) fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> BenchError {
    move |source| BenchError::Io { doing, source }
}
