//! The numbers in SPECIFICATION.md, each measured beside what it is compared to. `scripts/bench` builds and runs this.
#![forbid(unsafe_code)]

mod baseline;
mod ends;
mod error;
mod execute;
mod gil;
mod hop;
mod library;
mod local;
mod peer;
mod processors;
mod producer;
mod program;
mod python_hop;
mod row;
mod service;
mod stamp;
mod stream;
mod times;

use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use error::{BenchError, while_doing};
use row::Row;
use tokio::runtime::Runtime;

/// Measures what SPECIFICATION.md promises in numbers.
///
/// A promise that does not hold is printed as such and is no failure: the machine may be busy. The exit code tells
/// only whether everything could be measured.
#[derive(Parser, Debug)]
#[command(name = "remotemedia-benches", version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Only this one.
    name: Option<Bench>,

    /// Print one JSON object a line also to a terminal, which otherwise gets a text for people.
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Bench {
    /// A frame to another process and back, against its size and against plain iceoryx2.
    Hop,
    /// A second of audio through a whole service, by one client and by a hundred.
    Execute,
    /// The same pipelines in a library and through a service.
    Local,
    /// Chunks of 20 ms through a whole service.
    Stream,
    /// A frame to a Python process and back, against its size, a Rust node and Python's own ways.
    PythonHop,
    /// Python nodes that compute: on two processes against one, and beside one that is stuck.
    Gil,
}

/// What a benchmark starts as a process of its own.
#[derive(Subcommand, Debug)]
enum Part {
    /// The other process of `hop`.
    #[command(hide = true)]
    HopPeer {
        /// Where the domain is.
        runtime_dir: PathBuf,
    },
    /// The worker at both ends of `python-hop`.
    #[command(hide = true)]
    HopEnds {
        /// Where the domain is.
        #[arg(long)]
        runtime_dir: PathBuf,
        /// What the worker is called.
        #[arg(long)]
        name: String,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            row::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), BenchError> {
    match cli.part {
        Some(Part::HopPeer { runtime_dir }) => return peer::serve(&runtime_dir),
        Some(Part::HopEnds { runtime_dir, name }) => return ends::serve(runtime_dir, name),
        None => {}
    }
    let json = cli.json || !stdout().is_terminal();
    for bench in Bench::value_variants().iter().filter(|bench| cli.name.is_none_or(|name| name == **bench)) {
        let rows = match bench {
            Bench::Hop => hop::run()?,
            Bench::Execute => reactor()?.block_on(execute::run())?,
            Bench::Local => reactor()?.block_on(local::run())?,
            Bench::Stream => reactor()?.block_on(stream::run())?,
            Bench::PythonHop => reactor()?.block_on(python_hop::run())?,
            Bench::Gil => reactor()?.block_on(gil::run())?,
        };
        rows.iter().for_each(|row: &Row| row.print(json));
    }
    Ok(())
}

/// One thread: the work that is measured is done by other processes.
fn reactor() -> Result<Runtime, BenchError> {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    reactor.map_err(while_doing("start the reactor"))
}
