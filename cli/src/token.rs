//! `remotemedia token`: who may call a service.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use remotemedia_core::token::{
    FORBIDDEN_TOKEN_FILE_MODE, MAX_TOKEN_FILE_BYTES, Token, TokenEntry, TokenError, TokenHash, TokenName,
    Tokens,
};

use crate::args::{TokenArgs, TokenCommand, TokenNewArgs};
use crate::error::CommandError;

/// No token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file cannot be read or written.
    #[error("cannot add a token to {path}: {source}")]
    Io {
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
    /// It is something else, or has the name already.
    #[error("the token file {path}: {source}")]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TokenError,
    },
    /// A token of this name is there.
    #[error("the token file {path} has a token named '{name}': choose another name, or take its line out")]
    Taken {
        /// The file.
        path: PathBuf,
        /// As asked.
        name: TokenName,
    },
    /// A name that cannot stand in the file.
    #[error(transparent)]
    Name(TokenError),
    /// The system has no random bits.
    #[error("cannot make a token: {0}")]
    Random(getrandom::Error),
}

/// Makes a token, prints it, and keeps its hash.
///
/// # Errors
/// The name or the file is of no use.
pub fn token(args: &TokenArgs) -> Result<(), CommandError> {
    let TokenCommand::New(TokenNewArgs { name, file, private }) = &args.command;
    let name = name.parse().map_err(TokenFileError::Name)?;
    let token = new(name, file, *private)?;
    crate::print_line(token.secret())?;
    crate::say(&format!("kept as its hash in {}: the token itself is not shown again", file.display()));
    Ok(())
}

fn new(name: TokenName, path: &Path, private: bool) -> Result<Token, TokenFileError> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(TokenFileError::Random)?;
    let token = Token::of_random(bits);
    let failed = |source| TokenFileError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    // Two that write at once must not both find a name free.
    file.lock().map_err(failed)?;
    let text = private_text(path, &file)?;
    let known =
        Tokens::parse(&text).map_err(|source| TokenFileError::Tokens { path: path.to_owned(), source })?;
    if known.has(&name) {
        return Err(TokenFileError::Taken { path: path.to_owned(), name });
    }
    let entry = TokenEntry { name, hash: TokenHash::of(&token), private };
    let line_end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    // One write: a gateway that reads meanwhile sees the line whole or not at all.
    file.write_all(format!("{line_end}{entry}\n").as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(token)
}

fn private_text(path: &Path, file: &File) -> Result<String, TokenFileError> {
    let failed = |source| TokenFileError::Io { path: path.to_owned(), source };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & FORBIDDEN_TOKEN_FILE_MODE != 0 {
        return Err(TokenFileError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_new_token_is_known_by_its_line_and_its_name_is_taken_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let (first, second) = (
            new("a".parse().unwrap(), &path, false).unwrap(),
            new("b".parse().unwrap(), &path, false).unwrap(),
        );
        assert_ne!(first, second);
        let tokens = Tokens::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(tokens.owner(&second).map(|entry| entry.name.to_string()).as_deref(), Some("b"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(new("a".parse().unwrap(), &path, false), Err(TokenFileError::Taken { .. })));
    }

    #[test]
    fn a_file_that_others_read_is_refused_with_advice_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = new("a".parse().unwrap(), &path, false).unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
