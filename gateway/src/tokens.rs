//! The tokens that clients may show, as their file has them at the moment.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remotemedia_core::token::{FORBIDDEN_TOKEN_FILE_MODE, MAX_TOKEN_FILE_BYTES, TokenError, Tokens};
use tokio::sync::watch;
use tracing::{error, info};

/// A token file that was read, and is read again when it changes.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    text: String,
    tokens: watch::Sender<Arc<Tokens>>,
}

/// Sees the tokens.
#[derive(Clone, Debug)]
pub(crate) struct TokenWatch(watch::Receiver<Arc<Tokens>>);

/// A token file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// No file, or not for us.
    #[error("cannot read the token file {path}: {source}; `remotemedia token new --file {path}` makes one")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner and the group's readers get at it.
    #[error("the token file {path} has mode {mode:03o}, which lets others in: chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Something else.
    #[error(
        "the token file {path} has over {MAX_TOKEN_FILE_BYTES} bytes, which is no list of tokens: is it the right file?"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("the token file {path}: {source}")]
    Tokens {
        /// The file.
        path: PathBuf,
        /// Which, and how.
        source: TokenError,
    },
    /// At the start, nobody could ever come in.
    #[error("the token file {path} has no token: `remotemedia token new --file {path}` adds one")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// How often the file is looked at: a revoked token is refused so soon.
const LOOK_EVERY: Duration = Duration::from_secs(1);

// === impl TokenFile ===

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// It is of no use, or has no token.
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let text = read(path)?;
        let tokens = parse(path, &text)?;
        if tokens.is_empty() {
            return Err(TokenFileError::Empty { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), text, tokens: watch::Sender::new(Arc::new(tokens)) })
    }

    pub(crate) fn watch(&self) -> TokenWatch {
        TokenWatch(self.tokens.subscribe())
    }

    /// Reads the file again whenever it changes, for ever. While it is of no use, the tokens that were read last
    /// count: an editor that is half done must not lock everybody out. A file that says of itself that it has no
    /// token locks out everybody.
    pub(crate) async fn follow(mut self) {
        let mut was_well = true;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.path.clone();
            let Ok(looked) = tokio::task::spawn_blocking(move || read(&path)).await else { continue };
            let known = &self.text;
            let told = looked.and_then(|text| match text == *known {
                true => Ok(None),
                false => parse(&self.path, &text).map(|tokens| Some((text, tokens))),
            });
            match told {
                Ok(None) => was_well = true,
                Ok(Some((text, tokens))) => {
                    info!(path = %self.path.display(), tokens = tokens.len(), "tokens_read");
                    self.text = text;
                    self.tokens.send_replace(Arc::new(tokens));
                    was_well = true;
                }
                Err(problem) => {
                    if was_well {
                        error!(error = %problem, "tokens_not_read");
                    }
                    was_well = false;
                }
            }
        }
    }
}

// === impl TokenWatch ===

impl TokenWatch {
    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.0.borrow())
    }
}

fn read(path: &Path) -> Result<String, TokenFileError> {
    let failed = |source| TokenFileError::Read { path: path.to_owned(), source };
    // Of the open file, so that nobody puts another in its place between the look and the reading.
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & FORBIDDEN_TOKEN_FILE_MODE != 0 {
        return Err(TokenFileError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_TOKEN_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_TOKEN_FILE_BYTES {
        return Err(TokenFileError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Tokens, TokenFileError> {
    Tokens::parse(text).map_err(|source| TokenFileError::Tokens { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_others_read_or_write_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, format!("a {}\n", "0".repeat(64))).unwrap();
        for (mode, is_taken) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false), (0o602, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match TokenFile::read(&path) {
                Ok(_) => assert!(is_taken, "{mode:o}"),
                Err(error) => {
                    assert!(!is_taken && error.to_string().contains("chmod 600"), "{mode:o}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_file_without_a_token_is_answered_with_the_way_to_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let error = TokenFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("remotemedia token new --file"), "{error}");
        fs::write(&path, "# nobody\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(TokenFile::read(&path), Err(TokenFileError::Empty { .. })));
    }
}
