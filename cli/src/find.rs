//! Which gateway a command is about.

use std::io;
use std::path::{Path, PathBuf};

use crate::admin::{GATEWAY_FILE, Serving};
use crate::launch::{Home, Purpose};

/// No gateway, or too many.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Nothing was named, and nothing runs.
    #[error(
        "no `remotemedia up` of this user runs, and no service of this machine: start one, or pass --runtime-dir DIR"
    )]
    NoneRuns,
    /// Nothing was named, and several run.
    #[error("several `remotemedia up` of this user run: pass --runtime-dir with one of {}", Paths(.dirs))]
    SeveralRun {
        /// Their runtime directories.
        dirs: Vec<PathBuf>,
    },
    /// The directory has no gateway.
    #[error("no gateway has served from runtime directory {dir}: cannot read {GATEWAY_FILE} there: {source}")]
    NoGateway {
        /// As given or found.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says something else.
    #[error("{GATEWAY_FILE} in {dir} is not of a gateway: {problem}")]
    Unreadable {
        /// As given or found.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Where the gateway of this runtime directory serves; of the only `remotemedia up` that runs, if none is given; and of
/// the machine's own service if none runs.
///
/// # Errors
/// There is no such gateway, or more than one.
pub fn gateway(home: &Home, runtime_dir: Option<&Path>) -> Result<Serving, FindError> {
    among(home, Path::new(OF_THE_MACHINE), runtime_dir)
}

/// Where systemd's units have their runtime directory.
const OF_THE_MACHINE: &str = "/run/remotemedia";

fn among(home: &Home, of_the_machine: &Path, runtime_dir: Option<&Path>) -> Result<Serving, FindError> {
    match runtime_dir {
        Some(dir) => serving_in(dir),
        None => {
            let running = home.running().into_iter().filter(|running| running.purpose == Purpose::Up);
            let mut dirs: Vec<PathBuf> = running.map(|running| running.runtime_dir).collect();
            match (dirs.pop(), dirs.is_empty()) {
                (None, _) if of_the_machine.join(GATEWAY_FILE).exists() => serving_in(of_the_machine),
                (None, _) => Err(FindError::NoneRuns),
                (Some(dir), true) => serving_in(&dir),
                (Some(dir), false) => {
                    dirs.push(dir);
                    Err(FindError::SeveralRun { dirs })
                }
            }
        }
    }
}

/// The gateway of this user that serves gRPC at `endpoint`, if it is one of those that `remotemedia` started.
#[must_use]
pub fn gateway_at(home: &Home, endpoint: &str) -> Option<Serving> {
    let address = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    let running = home.running().into_iter();
    running
        .filter_map(|running| serving_in(&running.runtime_dir).ok())
        .find(|serving| serving.grpc == address)
}

fn serving_in(dir: &Path) -> Result<Serving, FindError> {
    let text = std::fs::read(dir.join(GATEWAY_FILE))
        .map_err(|source| FindError::NoGateway { dir: dir.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|error| FindError::Unreadable { dir: dir.to_owned(), problem: error.to_string() })
}

struct Paths<'a>(&'a [PathBuf]);

impl std::fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, path) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{}", path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_service_is_found_and_several_are_listed() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::of_user(Some(base.path()));
        let machine = base.path().join("run");
        assert!(matches!(among(&home, &machine, None), Err(FindError::NoneRuns)));
        std::fs::create_dir(&machine).unwrap();
        std::fs::write(machine.join(GATEWAY_FILE), r#"{"grpc":"127.0.0.1:1","admin":"127.0.0.1:2","pid":3}"#)
            .unwrap();
        assert_eq!(among(&home, &machine, None).unwrap().pid, 3);

        let dir = home.private_dir(Purpose::Up).unwrap();
        let _not_meant = home.private_dir(Purpose::Run).unwrap();
        assert!(matches!(gateway(&home, None), Err(FindError::NoGateway { .. })));
        let file = dir.path().join(GATEWAY_FILE);
        std::fs::write(&file, r#"{"grpc":"127.0.0.1:5","admin":"127.0.0.1:6","pid":7}"#).unwrap();
        assert_eq!(gateway(&home, None).unwrap().admin, "127.0.0.1:6");
        assert_eq!(gateway_at(&home, "http://127.0.0.1:5/").unwrap().pid, 7);
        assert_eq!(gateway_at(&home, "127.0.0.1:6"), None);

        let second = home.private_dir(Purpose::Up).unwrap();
        let error = gateway(&home, None).unwrap_err().to_string();
        assert!(error.contains(&second.path().display().to_string()), "{error}");
        assert!(error.contains(", "), "{error}");
    }
}
