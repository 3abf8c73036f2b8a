//! Where this user's services keep their files, and which of them run.
//!
//! A launcher holds a lock on a record file for as long as it lives, so "does it run" is never a guess from a process
//! id. What a killed launcher leaves behind is removed by the next one.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{fmt, fs, hash};

use nix::unistd::geteuid;
use remotemedia_core::runtime_dir::{Found, Unfit, check_path, check_private};
use remotemedia_ipc::host::domains_in;
use serde::{Deserialize, Serialize};

/// The longest record: a path and a few words.
const MAX_RECORD_BYTES: u64 = 8 * 1_024;

/// Where POSIX shared memory is.
const SHARED_MEMORY: &str = "/dev/shm";

/// The directory with the records and the private runtime directories of one user.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// The runtime directory of one service. Dropping it removes what it made.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    made: bool,
    record_path: PathBuf,
    // Holds the lock.
    _record: File,
    home: PathBuf,
}

/// What a launcher says of itself in its record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Running {
    /// The launcher's process id.
    pub pid: u32,
    /// Which command it is.
    pub purpose: Purpose,
    /// Where its gateway can be found.
    pub runtime_dir: PathBuf,
}

/// Which command started a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A service for everybody.
    Up,
    /// A service for one run.
    Run,
}

/// Why there is no runtime directory.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
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
    /// Two services in one directory.
    #[error("runtime directory {path} is used by `remotemedia {purpose}` (pid {pid}): use another one")]
    Taken {
        /// The directory.
        path: PathBuf,
        /// The command that uses it.
        purpose: Purpose,
        /// Its process id.
        pid: u32,
    },
}

// === impl Home ===

impl Home {
    /// The home of the user who calls, on memory rather than disk where there is a choice: `user_dir` is the login's
    /// runtime directory (`XDG_RUNTIME_DIR`), if there is one. Nothing is made yet.
    #[must_use]
    pub fn of_user(user_dir: Option<&Path>) -> Self {
        let name = format!("remotemedia-{}", geteuid());
        let bases = user_dir.into_iter().chain([Path::new(SHARED_MEMORY)]);
        let base = bases.filter(|base| base.is_dir()).map(Path::to_owned).next();
        Self(base.unwrap_or_else(std::env::temp_dir).join(name))
    }

    /// A fresh runtime directory.
    ///
    /// # Errors
    /// The home is not private, or the system said no.
    pub fn private_dir(&self, purpose: Purpose) -> Result<RuntimeDir, HomeError> {
        self.dir_at(&self.0.join(launcher_name()), purpose)
    }

    /// A runtime directory at a place of the user's choice; made if it is not there.
    ///
    /// # Errors
    /// Another launcher uses it, it is not private, its path is too long, or the system said no.
    pub fn dir_at(&self, path: &Path, purpose: Purpose) -> Result<RuntimeDir, HomeError> {
        self.make()?;
        self.sweep();
        let path = std::path::absolute(path).map_err(io_error("resolve", path))?;
        check_path(&path)?;
        if let Some(taken) = self.running().into_iter().find(|running| running.runtime_dir == path) {
            return Err(HomeError::Taken { path, purpose: taken.purpose, pid: taken.pid });
        }
        let running = Running { pid: std::process::id(), purpose, runtime_dir: path.clone() };
        let (record, record_path) = match self.record(&running) {
            // The last service of this user ended just now, and took the home with it.
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.make()?;
                self.record(&running)?
            }
            result => result?,
        };
        let mut dir = RuntimeDir { path, made: false, record_path, _record: record, home: self.0.clone() };
        dir.made = make_private(&dir.path)?;
        Ok(dir)
    }

    /// The launchers that run now.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        let records = self.records();
        let mut running: Vec<Running> =
            records.filter(|record| is_locked(record)).filter_map(|record| read(&record)).collect();
        running.sort_by_key(|running| running.pid);
        running
    }

    /// The launchers that were killed, and whose files the next one removes.
    #[must_use]
    pub fn killed(&self) -> Vec<Running> {
        self.records_of_dead().filter_map(|(record, _lock)| read(&record)).collect()
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn make(&self) -> Result<(), HomeError> {
        make_private(&self.0).map(|_made| ())
    }

    /// Removes the records of launchers that were killed, and the private directories that they made.
    fn sweep(&self) {
        for (record, _lock) in self.records_of_dead() {
            if let Some(dead) = read(&record)
                && dead.runtime_dir.parent() == Some(&self.0)
            {
                remove_runtime_dir(&dead.runtime_dir);
            }
            let _removed = fs::remove_file(&record);
        }
    }

    /// Each with its lock, so that nobody else looks at it meanwhile.
    fn records_of_dead(&self) -> impl Iterator<Item = (PathBuf, File)> + use<> {
        self.records().filter_map(|record| {
            let file = File::open(&record).ok()?;
            file.try_lock().ok()?;
            Some((record, file))
        })
    }

    fn records(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"))
    }

    /// Writes a record and locks it. It gets its name last: nobody ever sees one that is not locked.
    fn record(&self, running: &Running) -> Result<(File, PathBuf), HomeError> {
        let path = self.0.join(launcher_name()).with_extension("json");
        let draft = path.with_extension("draft");
        let publish = || {
            let mut file = File::create_new(&draft)?;
            file.lock()?;
            file.write_all(&serde_json::to_vec(running)?)?;
            fs::rename(&draft, &path)?;
            Ok(file)
        };
        match publish() {
            Ok(file) => Ok((file, path)),
            Err(error) => {
                let _removed = fs::remove_file(&draft);
                Err(io_error("write", &path)(error))
            }
        }
    }
}

// === impl RuntimeDir ===

impl RuntimeDir {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        if self.made {
            // Should it fail, the next launcher's sweep tries again, for private directories.
            remove_runtime_dir(&self.path);
        }
        let _removed = fs::remove_file(&self.record_path);
        // Fails while another service of this user runs, as it should.
        let _removed = fs::remove_dir(&self.home);
    }
}

// === impl Purpose ===

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Run => "run",
        })
    }
}

/// Removes a directory of which all processes are dead, and the files of links that a killed gateway left: those lie in
/// [`SHARED_MEMORY`], named after the gateway's own directory in this one, and nobody else could tell later whose they
/// were. A file of another user, or none at all: neither stops the next service.
fn remove_runtime_dir(path: &Path) {
    for domain in domains_in(path) {
        let mark = format!("{domain}_");
        for link in names_in(Path::new(SHARED_MEMORY)).filter(|name| name.starts_with(&mark)) {
            let _removed = fs::remove_file(Path::new(SHARED_MEMORY).join(link));
        }
    }
    let _removed = fs::remove_dir_all(path);
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Makes a directory of mode 0700, and says whether it was not there before.
fn make_private(path: &Path) -> Result<bool, HomeError> {
    match DirBuilder::new().mode(0o700).create(path) {
        // The mode asked for is cut down by the umask, and a mask of 0o777 would lock us out.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700))
            .map(|()| true)
            .map_err(io_error("set the mode of", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Not followed if it is a link: in a directory that all users write to, somebody else may have put it.
            let found = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
            let found =
                Found { is_directory: found.is_dir(), owner: found.uid(), mode: found.mode() & 0o7777 };
            check_private(path, found, geteuid().as_raw())?;
            Ok(false)
        }
        Err(error) => Err(io_error("make", path)(error)),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    move |source| HomeError::Io { action, path: path.to_owned(), source }
}

/// Differs between launchers, also between those of two pid namespaces that share a home, and of one process.
fn launcher_name() -> String {
    format!("{}-{:08x}", std::process::id(), random_bits() >> 32)
}

/// 64 bits that differ from call to call: the standard library seeds its hash maps with them.
pub(super) fn random_bits() -> u64 {
    use hash::{BuildHasher as _, Hasher as _};
    hash::RandomState::new().build_hasher().finish()
}

/// Whether a living process holds a lock on the file.
pub(crate) fn is_locked(record: &Path) -> bool {
    match File::open(record) {
        Ok(file) => matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)),
        Err(_gone) => false,
    }
}

/// The record in a file; none if it went away meanwhile, or is no record of ours.
fn read(record: &Path) -> Option<Running> {
    let mut text = Vec::new();
    File::open(record).ok()?.take(MAX_RECORD_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let base = tempfile::tempdir().unwrap();
        let home = Home::of_user(Some(base.path()));
        (base, home)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_private_directory_is_of_its_user_alone_and_leaves_nothing() {
        let (base, home) = home();
        let dir = home.private_dir(Purpose::Up).unwrap();
        assert_eq!((mode(dir.path()), mode(&home.0)), (0o700, 0o700));
        fs::write(dir.path().join("gateway.json"), "{}").unwrap();
        drop(dir);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_runs_is_found_until_it_ends() {
        let (_base, home) = home();
        let first = home.private_dir(Purpose::Up).unwrap();
        let second = home.private_dir(Purpose::Run).unwrap();
        let found = home.running();
        assert_eq!(found.len(), 2);
        assert!(found.iter().any(|one| one.runtime_dir == first.path() && one.purpose == Purpose::Up));
        drop(first);
        assert_eq!(home.running().len(), 1);
        drop(second);
        assert!(home.running().is_empty());
    }

    #[test]
    fn the_links_of_a_killed_gateway_go_with_its_directory_and_no_others() {
        let (_base, home) = home();
        let dir = home.private_dir(Purpose::Run).unwrap();
        let [ours, others] = [random_bits(), random_bits()].map(|boot| format!("remotemedia{boot:016x}"));
        fs::create_dir(dir.path().join(&ours)).unwrap();
        let [ours, others] = [ours, others].map(|domain| Path::new(SHARED_MEMORY).join(domain + "_x.data"));
        File::create_new(&ours).unwrap();
        File::create_new(&others).unwrap();
        drop(dir);
        let left = (ours.exists(), others.exists());
        fs::remove_file(&others).unwrap();
        assert_eq!(left, (false, true));
    }

    #[test]
    fn what_a_killed_launcher_left_is_removed_by_the_next() {
        let (_base, home) = home();
        let killed = home.private_dir(Purpose::Run).unwrap();
        let (left_dir, left_record) = (killed.path.clone(), killed.record_path.clone());
        abandon(killed);
        assert!(home.running().is_empty());
        assert_eq!(home.killed()[0].runtime_dir, left_dir);
        let next = home.private_dir(Purpose::Run).unwrap();
        assert!(!left_dir.exists() && !left_record.exists() && next.path().exists());
    }

    #[test]
    fn a_directory_that_was_there_stays() {
        let (base, home) = home();
        let path = base.path().join("mine");
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        drop(home.dir_at(&path, Purpose::Up).unwrap());
        assert!(path.exists());
    }

    #[test]
    fn a_directory_in_use_or_open_to_others_or_too_long_is_refused() {
        let (base, home) = home();
        let taken = home.dir_at(&base.path().join("a"), Purpose::Up).unwrap();
        let error = home.dir_at(taken.path(), Purpose::Up).unwrap_err();
        assert!(error.to_string().contains("is used by `remotemedia up` (pid "), "{error}");

        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(home.dir_at(&open, Purpose::Up), Err(HomeError::Unfit(Unfit::Mode { .. }))));

        let long = base.path().join("x".repeat(80));
        assert!(matches!(home.dir_at(&long, Purpose::Up), Err(HomeError::Unfit(Unfit::Long { .. }))));
        assert_eq!(home.running().len(), 1);
    }

    /// Lets go of the lock as a killed process would, and cleans nothing.
    fn abandon(dir: RuntimeDir) {
        let dir = std::mem::ManuallyDrop::new(dir);
        dir._record.unlock().unwrap();
    }
}
