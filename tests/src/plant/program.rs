//! Where the programs are that this workspace builds.

use std::path::{Path, PathBuf};

/// A program of this workspace, in the build that the test belongs to.
///
/// # Panics
/// It is not built: cargo builds no programs of other packages for a test.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own program");
    // target/PROFILE/deps/TEST
    let builds = test.parent().and_then(|deps| deps.parent()).expect("a test lies in target/PROFILE/deps");
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
