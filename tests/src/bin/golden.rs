//! Writes the golden corpus: `cargo run -p remotemedia-tests --bin golden -- tests/golden`.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    match std::env::args_os().nth(1) {
        Some(dir) => remotemedia_tests::golden::write(&PathBuf::from(dir)),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "which directory is missing: tests/golden")),
    }
}
