//! `remotemedia up`: a service in the foreground.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::admin::Serving;
use crate::args::UpArgs;
use crate::config::{Config, Programs};
use crate::error::CommandError;
use crate::launch::{Home, Logs, Purpose, Service};
use crate::output::OutputError;
use crate::signals::Signals;

/// How long gateway and workers may take to find each other: a Python worker imports its libraries meanwhile.
const READY: Duration = Duration::from_secs(60);

/// Starts the service, says when it is ready, and stops it at a signal.
///
/// # Errors
/// It did not become ready, or the gateway ended for good.
pub async fn up(args: UpArgs, home: &Home, programs: &Programs) -> Result<(), CommandError> {
    // First of all: a signal that comes while the processes start must not leave them behind.
    let mut signals = Signals::listen().map_err(|source| CommandError::Signals { source })?;
    let config = args.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let runtime_dir = args.runtime_dir.clone().or_else(|| config.gateway.runtime_dir.clone());
    let plan = config.plan(args.overrides(), programs)?;
    let dir = match runtime_dir {
        Some(path) => home.dir_at(&path, Purpose::Up)?,
        None => home.private_dir(Purpose::Up)?,
    };
    let mut service = Service::start(plan, dir, Logs::Shown)?;
    let served = tokio::select! {
        served = serve(&mut service) => served,
        _signal = signals.next() => Ok(()),
    };
    // An impatient user asks twice: dropping `stop` kills what is left.
    tokio::select! {
        () = service.stop() => {}
        _signal = signals.next() => {}
    }
    served
}

/// Runs for as long as the service does.
async fn serve(service: &mut Service) -> Result<(), CommandError> {
    let serving = service.ready(READY).await?;
    announce(&serving, service)?;
    Err(service.ended().await.into())
}

/// What `up` prints on standard output, once.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Word<'a> {
    Ready { grpc: &'a str, admin: &'a str, runtime_dir: &'a Path },
}

fn announce(serving: &Serving, service: &Service) -> Result<(), OutputError> {
    let Serving { grpc, admin, pid: _, drain_ms: _ } = serving;
    crate::print_json(&Word::Ready { grpc, admin, runtime_dir: service.dir().path() })
}
