//! What somebody types who follows a guide.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use remotemedia_tests::deadline::until;
use remotemedia_tests::page::Command;
use remotemedia_tests::plant::{Process, START, program, python};
use tempfile::TempDir;

/// A place of one's own, with the programs of this workspace and the interpreter that has its SDK.
pub(crate) struct Terminal {
    services: Vec<Process>,
    at: PathBuf,
    path: OsString,
    // After the processes, which use it.
    dir: TempDir,
}

// === impl Terminal ===

impl Terminal {
    pub(crate) fn open() -> Self {
        // Short: the names of sockets in it have to be.
        let dir = tempfile::Builder::new().prefix("guide-").tempdir_in("/dev/shm").unwrap();
        let at = dir.path().join("here");
        fs::create_dir(&at).unwrap();
        fs::create_dir(dir.path().join("user")).unwrap();
        let programs = [program("remotemedia"), python()].map(|program| program.parent().unwrap().to_owned());
        let known = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&known))).unwrap();
        Self { services: Vec::new(), at, path, dir }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.at.join(name), text).unwrap();
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&mut self, command: &Command) {
        if let Some(place) = command.line.strip_prefix("cd ") {
            self.at.push(place);
            return;
        }
        let process = self.launch(&command.line);
        let ending = process.ended(START * 2).await;
        assert!(
            ending.status.success() != command.fails,
            "`{}` ended with {}: {:#?}",
            command.line,
            ending.status,
            said(&process)
        );
        assert!(
            command.is_shown_by(&said(&process)),
            "`{}` does not show what the page says: {:#?}",
            command.line,
            said(&process)
        );
    }

    /// Starts a command that goes on, and waits until it is there.
    pub(crate) async fn start(&mut self, command: &Command) {
        let process = self.launch(&command.line);
        until(START, async || {
            assert!(process.ending().is_none(), "`{}` ended: {:#?}", command.line, said(&process));
            if command.is_shown_by(&said(&process)) { Ok(()) } else { Err(said(&process)) }
        })
        .await;
        self.services.push(process);
    }

    /// Stops what still runs, the last first, and leaves nothing.
    pub(crate) async fn close(mut self) {
        while let Some(service) = self.services.pop() {
            service.stop(START).await;
        }
        let left: Vec<_> = fs::read_dir(self.dir.path().join("user")).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    fn launch(&self, line: &str) -> Process {
        let user = self.dir.path().join("user");
        // Replaces the shell, so that a signal reaches the command.
        let script =
            format!("export XDG_RUNTIME_DIR={}; cd {}; exec {line}", user.display(), self.at.display());
        let environment = [("PATH", self.path.as_os_str()), ("PYTHONDONTWRITEBYTECODE", "1".as_ref())];
        Process::start_with(line, Path::new("/bin/bash"), &["-ec", &script], &environment)
    }
}

/// Results, then logs.
fn said(process: &Process) -> Vec<String> {
    [process.printed(), process.log()].concat()
}
