//! The `remotemedia` command, as a library for its binary and for tests.
//!
//! `args` reads the command line, `up`, `run`, `validate`, `nodes`, `status`, `doctor`, `replay`, `release`, `restart`, `token` and
//! `new_node` are the commands, with `report_exit` for units of systemd;
//! [`launch`] starts and buries processes; [`transport`] runs pipelines over gRPC.

pub mod admin;
pub mod args;
pub mod config;
pub mod doctor;
pub mod error;
pub mod find;
pub mod input;
pub mod launch;
pub mod new_node;
pub mod nodes;
pub mod output;
pub mod pipeline;
pub mod release;
pub mod replay;
pub mod report_exit;
pub mod restart;
pub mod run;
pub mod signals;
pub mod status;
pub mod summary;
mod table;
pub mod token;
pub mod transport;
pub mod up;
pub mod validate;

use std::io::{self, Write as _};

use args::{Cli, Command};
use error::CommandError;
use output::OutputError;
use serde::Serialize;

/// Does what the command line says.
///
/// # Errors
/// It could not be done.
pub async fn execute(cli: Cli) -> Result<(), CommandError> {
    let (home, programs) = (cli.home(), cli.programs());
    let token = cli.token;
    match cli.command {
        Command::Up(args) => up::up(args, &home, &programs).await,
        Command::Run(args) => Box::pin(run::run(args, token, &home, &programs)).await,
        Command::Validate(args) => validate::validate(args, token, &home, &programs).await,
        Command::Nodes(args) => nodes::nodes(args, token, &home).await,
        Command::Status(args) => status::status(args, &home).await,
        Command::Doctor(args) => doctor::doctor(&args, &home, &programs).await,
        Command::Replay(args) => replay::replay(args, &home, &programs).await,
        Command::Release(args) => release::release(args, token.as_ref(), &home).await,
        Command::Restart(args) => restart::restart(args, token.as_ref(), &home).await,
        Command::Token(args) => token::token(&args),
        Command::Warden => {
            launch::watch();
            Ok(())
        }
        Command::ReportExit(args) => report_exit::report_exit(&args),
        Command::NewNode(args) => new_node::new_node(&args),
    }
}

/// Says something to the person at the terminal, on standard error.
pub fn say(line: &str) {
    // Where standard error is closed nobody listens.
    let _said = writeln!(io::stderr(), "{line}");
}

/// Prints a result as one line of JSON, on standard output.
fn print_json(value: &impl Serialize) -> Result<(), OutputError> {
    let line = serde_json::to_string(value)
        .map_err(|error| OutputError::Write { to: "standard output".to_owned(), source: error.into() })?;
    print_line(&line)
}

/// Prints a result, on standard output.
fn print_line(line: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|source| OutputError::Write { to: "standard output".to_owned(), source })
}
