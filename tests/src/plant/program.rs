//! Where the programs are that this workspace builds.

use std::path::{Path, PathBuf};

/// A program of this workspace, in the build that the test belongs to.
///
/// # Panics
/// It is not built: cargo builds no programs of other packages for a test.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the test knows its own program");
    // A test is target/PROFILE/deps/TEST, and a program is target/PROFILE/PROGRAM.
    let dir = this.parent().expect("a program lies in a directory");
    let builds = if dir.ends_with("deps") { dir.parent().expect("target/PROFILE is above it") } else { dir };
    let program = builds.join(name);
    assert!(
        program.is_file(),
        "no program {}: run scripts/test, or `cargo build --workspace --bins` first",
        program.display()
    );
    program
}

/// The Python interpreter that has the SDK of this checkout.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in a workspace");
    let python = root.join(".cache/python/bin/python");
    assert!(
        python.is_file(),
        "no interpreter {}: run scripts/test, or scripts/python first",
        python.display()
    );
    python
}
