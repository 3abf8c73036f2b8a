//! `remotemedia`: starts services, runs pipelines on files, says what runs.

use std::process::ExitCode;

use clap::Parser as _;
use remotemedia_cli::args::Cli;
use remotemedia_cli::error::CommandError;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            remotemedia_cli::say(&format!("remotemedia: {error}"));
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), CommandError> {
    // One thread: the work is done by other processes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| CommandError::Runtime { source })?.block_on(remotemedia_cli::execute(cli))
}
