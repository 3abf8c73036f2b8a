//! Where inputs that killed are kept.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use remotemedia_core::fault::Poison;
use remotemedia_core::manifest::Manifest;
use remotemedia_ipc::capture::CaptureHead;
use remotemedia_ipc::plane::Prepared;

/// Where inputs that killed are kept, and how many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureConfig {
    /// A directory of this user alone, made when it is needed.
    pub dir: PathBuf,
    /// Captures: beyond it the oldest goes.
    pub most: usize,
    /// Bytes of all captures: beyond it the oldest go.
    pub most_bytes: u64,
}

/// Keeps inputs that killed.
#[derive(Debug)]
pub(crate) struct Captures {
    config: CaptureConfig,
    /// One is being written: another that comes meanwhile is not kept, so that writers do not pile up.
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What is kept of an input.
pub(crate) struct Kill {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) poison: Poison,
    pub(crate) worker_kind: String,
    /// By entry and port.
    pub(crate) frames: Vec<(String, String, Prepared)>,
}

/// How the names of captures end.
const EXTENSION: &str = "capture";

// === impl CaptureConfig ===

impl CaptureConfig {
    /// Sixteen captures of at most 256 MiB together, in this directory.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir, most: 16, most_bytes: 256 << 20 }
    }
}

// === impl Captures ===

impl Captures {
    pub(crate) fn new(config: CaptureConfig) -> Self {
        Self { config, writer: Mutex::default() }
    }

    /// Begins to keep an input, and says where it will be. None if it is not kept.
    pub(crate) fn keep(&self, kill: Kill) -> Option<PathBuf> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.as_ref().is_some_and(|writer| !writer.is_finished()) {
            return None;
        }
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let node: String =
            kill.poison.node.chars().filter(|letter| letter.is_ascii_alphanumeric()).take(32).collect();
        let path = self.config.dir.join(format!("{unix_ms}-{node}.{EXTENSION}"));
        let (config, written) = (self.config.clone(), path.clone());
        let started = thread::Builder::new().name("capture".to_owned()).spawn(move || {
            match config.write(&written, kill, u64::try_from(unix_ms).unwrap_or(u64::MAX)) {
                Ok(()) => tracing::info!(path = %written.display(), "input_captured"),
                Err(error) => tracing::warn!(path = %written.display(), %error, "input_not_captured"),
            }
        });
        *writer = started.ok();
        writer.is_some().then_some(path)
    }
}

impl Drop for Captures {
    /// What is being written is written whole.
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A panic there has been printed; there is nobody else to tell.
        drop(writer.map(JoinHandle::join));
    }
}

impl CaptureConfig {
    fn write(&self, path: &Path, kill: Kill, unix_ms: u64) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let head = CaptureHead {
            manifest: (*kill.manifest).clone(),
            poison: kill.poison,
            worker_kind: kill.worker_kind,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unix_ms,
        };
        head.write(path, &kill.frames)?;
        drop(kill.frames);
        self.make_room(path)
    }

    /// Removes the oldest beyond the bounds. Their names begin with their time.
    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let mut kept = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                kept.push((fs::metadata(&path)?.len(), path));
            }
        }
        kept.sort_by(|(_, one), (_, other)| other.cmp(one));
        let (mut count, mut bytes) = (0, 0_u64);
        for (size, path) in kept {
            (count, bytes) = (count + 1, bytes.saturating_add(size));
            if (count > self.most || bytes > self.most_bytes) && path != newest {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::fault::DeathCause;

    use super::*;

    fn kill(node: &str) -> Kill {
        let poison = Poison {
            node: node.to_owned(),
            sequence: None,
            made: false,
            deaths: 3,
            worker: "w".to_owned(),
            pid: 7,
            cause: DeathCause::Signal(11),
            refused_ms: 1,
            capture: None,
        };
        Kill { manifest: Arc::default(), poison, worker_kind: "rust".to_owned(), frames: Vec::new() }
    }

    #[test]
    fn the_oldest_captures_make_room_and_other_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let config = CaptureConfig { most: 2, ..CaptureConfig::new(dir.path().join("captures")) };
        fs::create_dir(&config.dir).unwrap();
        fs::write(config.dir.join("notes.txt"), "mine").unwrap();
        for number in 1..=4 {
            let path = config.dir.join(format!("{number}-a.{EXTENSION}"));
            config.write(&path, kill("a"), number).unwrap();
        }
        let mut left: Vec<_> =
            fs::read_dir(&config.dir).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["3-a.capture", "4-a.capture", "notes.txt"]);
    }

    #[test]
    fn what_is_kept_is_whole_when_its_keeper_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let captures = Captures::new(CaptureConfig::new(dir.path().join("captures")));
        let path = captures.keep(kill("../../etc")).unwrap();
        assert_eq!(path.parent(), Some(captures.config.dir.as_path()), "a node's id is no path");
        drop(captures);
        assert!(remotemedia_ipc::capture::Capture::read(&path).unwrap().inputs.is_empty());
    }
}
