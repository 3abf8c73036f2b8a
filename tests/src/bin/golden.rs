//! Writes the golden corpus: `cargo run -p remotemedia-tests --bin golden -- tests/golden`.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    match std::env::args_os().nth(1) {
        // A question about this program is no directory.
        Some(dir) if !dir.as_encoded_bytes().starts_with(b"-") => {
            remotemedia_tests::golden::write(&PathBuf::from(dir))
        }
        Some(_) | None => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "which directory is missing: tests/golden"))
        }
    }
}
