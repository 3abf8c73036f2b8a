//! The directory where workers and tools find the gateway: of this user alone, and of one gateway at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use remotemedia_core::runtime_dir::{self, ANNOUNCEMENT, Found, LOCK, Unfit};
use serde::{Deserialize, Serialize};
use tracing::debug;

/// A runtime directory that this process holds. Dropping it withdraws what was announced.
///
/// If the process dies here, the lock is gone with it and the announcement stays; the next gateway overwrites it, and
/// readers see a pid that is dead.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    // Holds the lock.
    _lock: File,
}

/// What the gateway announces when it serves: on standard output, and in `gateway.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Serving {
    /// Always `serving`.
    pub event: String,
    /// Where clients connect: `HOST:PORT` or `unix:PATH`.
    pub grpc: String,
    /// Where the admin door is.
    pub admin: String,
    /// The gateway's process id.
    pub pid: u32,
    /// How long it may take to stop when asked, in milliseconds, but for a second or two: so that nobody kills it before.
    pub drain_ms: u64,
}

/// Why a directory cannot be the runtime directory.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    /// The system said no.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not of this user alone, or its path is too long.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Two gateways in one directory would take each other's workers.
    #[error(
        "the runtime directory {path} is used by another gateway (pid {pid}): stop that one, or choose another with --runtime-dir"
    )]
    Taken {
        /// As asked.
        path: PathBuf,
        /// As the other says.
        pid: String,
    },
}

/// The lock holds a process id.
const MAX_LOCK_BYTES: u64 = 16;

// === impl RuntimeDir ===

impl RuntimeDir {
    /// Takes the directory for this process; makes it if it is not there.
    ///
    /// # Errors
    /// It is not private, or another gateway holds it.
    pub fn take(path: &Path) -> Result<Self, RuntimeDirError> {
        let path = std::path::absolute(path).map_err(io_error("resolve", path))?;
        runtime_dir::check_path(&path)?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("make", &path)(error));
            }
            Ok(()) | Err(_) => check_private(&path)?,
        }
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says in `gateway.json` where the gateway is. Readers see the old word, or the new one.
    ///
    /// # Errors
    /// The system said no.
    pub fn announce(&self, serving: &Serving) -> Result<(), RuntimeDirError> {
        let path = self.path.join(ANNOUNCEMENT);
        let draft = self.path.join(format!("{ANNOUNCEMENT}.new"));
        let text = serde_json::to_vec(serving).map_err(io::Error::from).map_err(io_error("write", &path))?;
        private(&draft).and_then(|mut file| file.write_all(&text)).map_err(io_error("write", &draft))?;
        std::fs::rename(&draft, &path).map_err(io_error("write", &path))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // The lock's file goes while it is locked: whoever opened it before finds out, see `lock`.
        for name in [ANNOUNCEMENT, LOCK] {
            if let Err(error) = std::fs::remove_file(self.path.join(name)) {
                debug!(%error, name, "file_not_removed");
            }
        }
    }
}

fn check_private(path: &Path) -> Result<(), RuntimeDirError> {
    // Not through a link, which somebody else may have laid.
    let found = std::fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    let found = Found { is_directory: found.is_dir(), owner: found.uid(), mode: found.mode() & 0o7777 };
    Ok(runtime_dir::check_private(path, found, geteuid().as_raw())?)
}

fn lock(dir: &Path) -> Result<File, RuntimeDirError> {
    let path = dir.join(LOCK);
    let failed = io_error("lock", &path);
    loop {
        let mut file = private_kept(&path).map_err(&failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.take(MAX_LOCK_BYTES).read_to_string(&mut pid).map_err(failed)?;
                return Err(RuntimeDirError::Taken { path: dir.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Between opening and locking, the last holder may have ended and taken its file away: then the lock is of a
        // file that nobody else will ever open.
        if is_at(&file, &path).map_err(&failed)? {
            file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
            return Ok(file);
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(found.ino() == file.metadata()?.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn private_kept(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> RuntimeDirError {
    let path = path.to_owned();
    move |source| RuntimeDirError::Io { action, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_fresh_directory_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::take(&parent.path().join("fresh")).unwrap();
        assert_eq!(std::fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_directory_that_others_reach_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(
            RuntimeDir::take(dir.path()),
            Err(RuntimeDirError::Unfit(Unfit::Mode { mode: 0o750, .. }))
        ));
    }

    #[test]
    fn a_link_to_a_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        assert!(matches!(RuntimeDir::take(&link), Err(RuntimeDirError::Unfit(Unfit::NotADirectory { .. }))));
    }

    #[test]
    fn a_directory_serves_one_gateway_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("one");
        let first = RuntimeDir::take(&path).unwrap();
        let Err(RuntimeDirError::Taken { pid, .. }) = RuntimeDir::take(&path) else { panic!("taken twice") };
        assert_eq!(pid, std::process::id().to_string());
        drop(first);
        RuntimeDir::take(&path).unwrap();
    }

    #[test]
    fn a_gateway_leaves_nothing_in_its_directory() {
        let parent = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::take(&parent.path().join("dir")).unwrap();
        let serving = Serving {
            event: "serving".to_owned(),
            grpc: "127.0.0.1:1".to_owned(),
            admin: "127.0.0.1:2".to_owned(),
            pid: 3,
            drain_ms: 4,
        };
        dir.announce(&serving).unwrap();
        let file = dir.path().join("gateway.json");
        assert_eq!(serde_json::from_slice::<Serving>(&std::fs::read(&file).unwrap()).unwrap(), serving);
        let path = dir.path().to_owned();
        drop(dir);
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    }
}
