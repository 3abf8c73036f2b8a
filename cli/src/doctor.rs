//! `remotemedia doctor`: what is in the way of a service on this machine, and what to do about it.
//!
//! Each module reads the facts of one matter, and judges them: reading cannot fail, and judging looks at nothing else.

mod cgroups;
mod finding;
mod kernel;
mod limits;
mod links;
mod memory;
mod place;
mod programs;
mod python;
mod service;
mod units;

use serde::Serialize;

use crate::args::DoctorArgs;
use crate::config::Programs;
use crate::error::CommandError;
use crate::launch::Home;

pub use finding::{Finding, Level};
pub use links::LINK_BYTES;

/// Prints what is found.
///
/// # Errors
/// There are problems, or it could not be printed.
pub async fn doctor(args: &DoctorArgs, home: &Home, programs: &Programs) -> Result<(), CommandError> {
    let findings = Facts::read(args, home, programs).await.judge();
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    if args.json {
        crate::print_json(&Report { version: env!("CARGO_PKG_VERSION"), problems, findings })?;
    } else {
        for finding in &findings {
            crate::print_line(&finding.to_string())?;
        }
    }
    if problems == 0 { Ok(()) } else { Err(CommandError::Unwell { problems }) }
}

/// All that the judgement rests on.
struct Facts {
    /// How many workers there shall be.
    workers: u16,
    kernel: kernel::Facts,
    cgroups: cgroups::Facts,
    limits: limits::Facts,
    memory: memory::Facts,
    links: links::Facts,
    home: place::HomeFacts,
    places: Vec<place::Facts>,
    programs: programs::Facts,
    python: python::Facts,
    units: units::Facts,
    services: Vec<service::Facts>,
}

// === impl Facts ===

impl Facts {
    async fn read(args: &DoctorArgs, home: &Home, programs: &Programs) -> Self {
        let dirs = place::candidates(args.runtime_dir.as_deref(), home);
        let mut services = Vec::new();
        for dir in &dirs {
            services.extend(service::read(home, dir).await);
        }
        Self {
            workers: args.workers,
            kernel: kernel::read(),
            cgroups: cgroups::read(),
            limits: limits::read(),
            memory: memory::read(),
            links: links::read(),
            home: place::read_home(home),
            places: dirs.into_iter().map(place::read).collect(),
            programs: programs::read(programs).await,
            python: python::read().await,
            units: units::read().await,
            services,
        }
    }

    fn judge(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(kernel::judge(&self.kernel));
        findings.extend(cgroups::judge(&self.cgroups));
        findings.extend(limits::judge(&self.limits, self.workers));
        findings.push(memory::judge(&self.memory, self.workers, !self.services.is_empty()));
        findings.push(links::judge(&self.links, self.workers, !self.services.is_empty()));
        findings.extend(place::judge_home(&self.home));
        findings.extend(self.places.iter().flat_map(place::judge));
        findings.extend(programs::judge(&self.programs));
        findings.push(python::judge(&self.python));
        findings.extend(units::judge(&self.units));
        findings.extend(service::judge(&self.services));
        findings
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    problems: usize,
    findings: Vec<Finding>,
}
