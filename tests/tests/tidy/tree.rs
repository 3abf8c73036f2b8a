//! The project's files, as git sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One tracked text file.
pub(crate) struct SourceFile {
    /// From the project's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every file of the project that is text, in order of paths.
pub(crate) fn files() -> Vec<SourceFile> {
    let listing =
        output(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]));
    let mut paths: Vec<&str> = listing.lines().filter(|path| root().join(path).is_file()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert!(paths.contains(&"Cargo.toml"), "git names no Cargo.toml under {}", root().display());
    paths.into_iter().filter_map(read).collect()
}

/// Every Rust file of the project.
pub(crate) fn rust_files() -> Vec<SourceFile> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// The project's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in a workspace").to_path_buf()
}

/// What cargo prints for these arguments, without reaching for the network.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    output(Command::new(env!("CARGO")).args(arguments).args(["--offline", "--locked"]))
}

impl SourceFile {
    /// Lines with their numbers, counted from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn read(path: &str) -> Option<SourceFile> {
    let bytes = std::fs::read(root().join(path)).expect("git listed the file");
    Some(SourceFile { path: path.to_owned(), text: String::from_utf8(bytes).ok()? })
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().expect("the program is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("paths and names of this project are UTF-8")
}
