//! What a benchmark starts as a process: programs that were built beside this one, and Python.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{BenchError, while_doing};

/// A program with its first arguments.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    /// Where it is started.
    dir: Option<PathBuf>,
}

/// Where the Python programs of the benchmarks are, and the interpreter that has the SDK of this checkout.
const PYTHON_PROGRAMS: &str = "benches/python";
const INTERPRETER: &str = ".cache/voice/bin/python";

// === impl Program ===

impl Program {
    /// The stock worker.
    pub(crate) fn stock_worker() -> Result<Self, BenchError> {
        Self::beside_this("remotemedia-worker")
    }

    /// Another program of this workspace.
    pub(crate) fn beside_this(name: &str) -> Result<Self, BenchError> {
        let path = this()?.with_file_name(name);
        if !path.exists() {
            return Err(BenchError::NotBuilt { path });
        }
        Ok(Self { path, arguments: Vec::new(), dir: None })
    }

    /// A part of this program.
    pub(crate) fn part(name: &str) -> Result<Self, BenchError> {
        Ok(Self { path: this()?, arguments: vec![name.to_owned()], dir: None })
    }

    /// A worker of Python modules of the benchmarks.
    pub(crate) fn python_worker(target: &str) -> Result<Self, BenchError> {
        Self::python(&["-m", "remotemedia.worker", "--log", "warn", target])
    }

    /// An interpreter among the Python programs of the benchmarks.
    pub(crate) fn python(arguments: &[&str]) -> Result<Self, BenchError> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in a workspace");
        let path = root.join(INTERPRETER);
        if !path.exists() {
            return Err(BenchError::NotBuilt { path });
        }
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Ok(Self { path, arguments, dir: Some(root.join(PYTHON_PROGRAMS)) })
    }

    /// A command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }
}

fn this() -> Result<PathBuf, BenchError> {
    env::current_exe().map_err(while_doing("find this program"))
}
