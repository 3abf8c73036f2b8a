//! Everything that can end a command, and the exit code that says so.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::signal::Signal;
use remotemedia_core::fault::Fault;
use remotemedia_core::manifest::Problem;
use remotemedia_ipc::launcher::LauncherError;

use crate::admin::AdminError;
use crate::config::ConfigError;
use crate::find::FindError;
use crate::input::InputError;
use crate::launch::{HomeError, LaunchError};
use crate::new_node::NewNodeError;
use crate::output::OutputError;
use crate::pipeline::Located;
use crate::replay::ReplayError;
use crate::token::TokenFileError;
use crate::transport::ConnectError;
use crate::validate::OfferError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no runtime directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The service did not start, or ended.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No gateway was found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The gateway's admin door did not answer.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Workers were not replaced.
    #[error("the restart is given up: {problem}; replaced: {}, left as they were: {}", .done.join(", "), .left.join(", "))]
    Restart {
        /// Why.
        problem: String,
        /// The names of those that were replaced.
        done: Vec<String>,
        /// The names of the others.
        left: Vec<String>,
    },
    /// The service could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No input was run once more, or it killed again.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// No token was made.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// The gateway was not told how a worker ended.
    #[error("the gateway was not told how {name} ended: {source}")]
    Report {
        /// The worker.
        name: String,
        /// Why.
        source: LauncherError,
    },
    /// No node was written.
    #[error(transparent)]
    NewNode(#[from] NewNodeError),
    /// The pipeline's file cannot be read.
    #[error("cannot read pipeline {path}: {source}")]
    ReadPipeline {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pipeline's file is no pipeline.
    #[error("{}", all(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        problems: Vec<Problem>,
    },
    /// `validate` has told what is wrong.
    #[error("{path} is no pipeline that can be run: it has {problems} problems")]
    NotValid {
        /// The file.
        path: PathBuf,
        /// As counted.
        problems: usize,
    },
    /// `doctor` has told what is in the way.
    #[error("{problems} of what a service needs is not as it should be: what to do stands at each `problem`")]
    Unwell {
        /// How many findings are problems.
        problems: usize,
    },
    /// The service does not take the manifest.
    #[error("{}", Located { path, problem })]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Box<Problem>,
        /// As the service says it.
        fault: Box<Fault>,
    },
    /// Nobody says which node types there are.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// More inputs than a command line gives.
    #[error("{path} has the entries {entries}: run feeds one file into a pipeline with one entry")]
    Entries {
        /// The file.
        path: PathBuf,
        /// Their ids.
        entries: String,
    },
    /// The input is of no use.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The pipeline ended with an error.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A signal came first.
    #[error("interrupted by {signal}")]
    Interrupted {
        /// Which.
        signal: Signal,
    },
    /// There is no event loop.
    #[error("cannot start: {source}")]
    Runtime {
        /// What the system said.
        source: io::Error,
    },
    /// Signals cannot be listened for.
    #[error("cannot listen for signals: {source}")]
    Signals {
        /// What the system said.
        source: io::Error,
    },
}

// === impl CommandError ===

impl CommandError {
    /// As `remotemedia --help` lists them.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Fault(_)
            | Self::Refused { .. }
            | Self::NotValid { .. }
            | Self::Unwell { .. }
            | Self::Restart { .. }
            | Self::Replay(ReplayError::Died { .. }) => 1,
            Self::Config(_)
            | Self::Home(_)
            | Self::Launch(LaunchError::Plan(_))
            | Self::ReadPipeline { .. }
            | Self::Invalid { .. }
            | Self::Entries { .. }
            | Self::Input(_)
            | Self::Token(_)
            | Self::Replay(
                ReplayError::Capture(_) | ReplayError::NoNode { .. } | ReplayError::NoWorker { .. },
            )
            | Self::NewNode(_) => 2,
            Self::Launch(
                LaunchError::Watch { .. }
                | LaunchError::GatewayFailed { .. }
                | LaunchError::NotReady { .. }
                | LaunchError::Stopped,
            )
            | Self::Find(_)
            | Self::Replay(
                ReplayError::Start { .. } | ReplayError::NoGateway | ReplayError::NotReady { .. },
            )
            | Self::Offer(_)
            | Self::Admin(_)
            | Self::Report { .. }
            | Self::Connect(_)
            | Self::Runtime { .. }
            | Self::Signals { .. } => 3,
            Self::Output(_) => 4,
            // As a shell says it of a program that the signal ended.
            Self::Interrupted { signal } => u8::try_from(*signal as i32).unwrap_or_default() + 128,
        })
    }
}

/// A line for each.
fn all(path: &Path, problems: &[Problem]) -> String {
    let lines = problems.iter().map(|problem| Located { path, problem }.to_string());
    lines.collect::<Vec<_>>().join("\n")
}
