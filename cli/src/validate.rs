//! `remotemedia validate`: what is wrong with a pipeline, all of it, without running anything.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use remotemedia_core::manifest::{Draft, Parts, Problem};
use remotemedia_core::node::NodeInfo;
use remotemedia_core::token::Token;
use remotemedia_ipc::machine::THIS;
use serde::Serialize;

use crate::admin::AdminDoor;
use crate::args::ValidateArgs;
use crate::config::Programs;
use crate::error::CommandError;
use crate::find;
use crate::launch::Home;
use crate::pipeline::{self, Located};
use crate::transport::GrpcTransport;

/// How long a worker may take to say what it can run.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints every problem of a pipeline with its place.
///
/// # Errors
/// There is a problem, the file cannot be read, or nobody tells which node types there are.
pub async fn validate(
    args: ValidateArgs,
    token: Option<Token>,
    home: &Home,
    programs: &Programs,
) -> Result<(), CommandError> {
    let mut draft = pipeline::draft(&args.pipeline)?;
    match offer(&args, token, home, programs).await? {
        Offer::Infos(infos) => {
            draft.check_demands(Some(&THIS));
            draft.check_types(&infos);
            draft.check_params(&infos);
        }
        Offer::Names { names, endpoint } => {
            // It may run on another machine.
            draft.check_demands(None);
            draft.check_names(&names.iter().map(String::as_str).collect());
            crate::say(&format!(
                "parameters, ports and kinds of data are not checked: {endpoint} tells only the names of its node types"
            ));
        }
    }
    report(&args.pipeline, &draft, args.json)
}

/// What the pipeline is held to.
enum Offer {
    /// Node types with all that is known of them.
    Infos(Vec<NodeInfo>),
    /// Node types of which nothing but the names is known, and who told them.
    Names { names: Vec<String>, endpoint: String },
}

/// Nobody says which node types there are.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The stock worker cannot be asked.
    #[error("cannot ask {program} which node types it has: {problem}")]
    Worker {
        /// The program.
        program: PathBuf,
        /// What went wrong.
        problem: String,
    },
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    valid: bool,
    problems: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    line: u64,
    column: u64,
    path: String,
    problem: String,
    #[serde(flatten)]
    parts: Parts,
}

async fn offer(
    args: &ValidateArgs,
    token: Option<Token>,
    home: &Home,
    programs: &Programs,
) -> Result<Offer, CommandError> {
    let serving = match (&args.endpoint, &args.runtime_dir) {
        (Some(endpoint), _) => find::gateway_at(home, endpoint),
        (None, Some(dir)) => Some(find::gateway(home, Some(dir))?),
        (None, None) => return Ok(Offer::Infos(stock(&programs.worker).await?)),
    };
    if let Some(serving) = serving {
        return Ok(Offer::Infos(AdminDoor::at(&serving.admin).get_json("/nodes").await?));
    }
    let endpoint = args.endpoint.clone().unwrap_or_default();
    let (_transport, version) = GrpcTransport::connect(&endpoint, token).await?;
    Ok(Offer::Names { names: version.node_types, endpoint })
}

/// The node types of the stock worker, which nobody has to have started.
async fn stock(program: &Path) -> Result<Vec<NodeInfo>, OfferError> {
    let failed = |problem: String| OfferError::Worker { program: program.to_owned(), problem };
    let mut command = tokio::process::Command::new(program);
    command.arg("--nodes").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_elapsed| failed(format!("no answer within {} s", PATIENCE.as_secs())))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

fn report(path: &Path, draft: &Draft, json: bool) -> Result<(), CommandError> {
    let problems = draft.problems();
    if json {
        let file = path.display().to_string();
        let rows = problems.iter().map(|problem| Row::of(problem)).collect();
        crate::print_json(&Report { file, valid: problems.is_empty(), problems: rows })?;
    } else if problems.is_empty() {
        crate::print_line(&format!(
            "{}: a pipeline of {} nodes",
            path.display(),
            draft.manifest().nodes.len()
        ))?;
    } else {
        for problem in &problems {
            crate::print_line(&Located { path, problem }.to_string())?;
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(CommandError::NotValid { path: path.to_owned(), problems: problems.len() })
}

impl Row {
    fn of(problem: &Problem) -> Self {
        let Problem { path, place, mistake } = problem;
        Self {
            line: place.line,
            column: place.column,
            path: path.to_string(),
            problem: mistake.to_string(),
            parts: mistake.parts(),
        }
    }
}
