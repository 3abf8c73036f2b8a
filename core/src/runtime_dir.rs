//! What a directory must be to be the place where gateway, workers and tools meet: the rule, for whoever has looked.

use std::path::{Path, PathBuf};

/// The longest path, in bytes: that of a unix socket has at most 107, and some lie in here.
pub const MAX_PATH_BYTES: usize = 80;
/// The file in it that a gateway holds locked for as long as it lives, with its process id.
pub const LOCK: &str = "gateway.lock";
/// The file in it that says where its gateway serves.
pub const ANNOUNCEMENT: &str = "gateway.json";

/// What is found at a path, looked at without following a link: somebody else may have laid it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The user id of its owner.
    pub owner: u32,
    /// Its permissions, the lowest twelve bits of its mode.
    pub mode: u32,
}

/// Why a directory cannot be the runtime directory.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// Not a directory.
    #[error("the runtime directory {path} is no directory: choose another with --runtime-dir")]
    NotADirectory {
        /// As asked.
        path: PathBuf,
    },
    /// Another user could replace what is in it.
    #[error(
        "the runtime directory {path} belongs to user {owner}, not to {user}: choose another with --runtime-dir"
    )]
    Owner {
        /// As asked.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Other users could reach what is in it.
    #[error(
        "the runtime directory {path} has mode {mode:04o}: make it private (chmod 0700), or choose another with --runtime-dir"
    )]
    Mode {
        /// As asked.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Sockets could not be bound in it.
    #[error(
        "the path of the runtime directory {path} has {bytes} bytes, over the limit of {MAX_PATH_BYTES}: choose a shorter one"
    )]
    Long {
        /// As asked.
        path: PathBuf,
        /// As counted.
        bytes: usize,
    },
}

/// Whether sockets can be bound in a directory of this absolute path.
///
/// # Errors
/// It is too long.
pub fn check_path(path: &Path) -> Result<(), Unfit> {
    let bytes = path.as_os_str().len();
    if bytes > MAX_PATH_BYTES { Err(Unfit::Long { path: path.to_owned(), bytes }) } else { Ok(()) }
}

/// Whether what is at the path is a directory of this user alone.
///
/// # Errors
/// It is not.
pub fn check_private(path: &Path, found: Found, user: u32) -> Result<(), Unfit> {
    let (path, Found { is_directory, owner, mode }) = (path.to_owned(), found);
    if !is_directory {
        return Err(Unfit::NotADirectory { path });
    }
    if owner != user {
        return Err(Unfit::Owner { path, owner, user });
    }
    if mode & 0o077 != 0 {
        return Err(Unfit::Mode { path, mode });
    }
    Ok(())
}

/// Where a gateway or worker is that nobody tells: in the login's own directory (`XDG_RUNTIME_DIR`), in the system's
/// where there is one, or in one of the user's in shared memory.
#[must_use]
pub fn default_path(of_login: Option<&Path>, is_system_wide: bool, user: u32) -> PathBuf {
    match of_login {
        Some(of_login) if of_login.is_absolute() => of_login.join("remotemedia"),
        Some(_) | None if is_system_wide => PathBuf::from(SYSTEM_WIDE),
        Some(_) | None => PathBuf::from(format!("/dev/shm/remotemedia-{user}")),
    }
}

/// The system's own.
pub const SYSTEM_WIDE: &str = "/run/remotemedia";

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: Found = Found { is_directory: true, owner: 7, mode: 0o700 };

    #[test]
    fn only_a_directory_of_its_user_alone_is_fit() {
        let check = |found| check_private(Path::new("/run/x"), found, 7);
        assert_eq!(check(PRIVATE), Ok(()));
        assert!(matches!(check(Found { is_directory: false, ..PRIVATE }), Err(Unfit::NotADirectory { .. })));
        assert!(matches!(check(Found { owner: 8, ..PRIVATE }), Err(Unfit::Owner { owner: 8, user: 7, .. })));
        assert!(matches!(check(Found { mode: 0o750, ..PRIVATE }), Err(Unfit::Mode { mode: 0o750, .. })));
        assert!(matches!(check(Found { mode: 0o701, ..PRIVATE }), Err(Unfit::Mode { .. })));
    }

    #[test]
    fn a_path_that_leaves_no_room_for_sockets_is_unfit() {
        let path = |bytes: usize| PathBuf::from(format!("/{}", "x".repeat(bytes - 1)));
        assert_eq!(check_path(&path(MAX_PATH_BYTES)), Ok(()));
        assert!(matches!(check_path(&path(MAX_PATH_BYTES + 1)), Err(Unfit::Long { bytes: 81, .. })));
    }

    #[test]
    fn who_is_not_told_goes_where_the_others_go() {
        let at = |of_login: Option<&str>, is_system_wide| {
            default_path(of_login.map(Path::new), is_system_wide, 7).display().to_string()
        };
        assert_eq!(at(Some("/run/user/7"), true), "/run/user/7/remotemedia");
        assert_eq!(at(Some("relative"), true), "/run/remotemedia");
        assert_eq!(at(None, false), "/dev/shm/remotemedia-7");
    }
}
