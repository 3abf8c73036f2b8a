//! Prints `docs/compatibility.md`.

use std::io::{self, Write as _};

use remotemedia_core::compatibility;

fn main() -> io::Result<()> {
    io::stdout().write_all(compatibility::document().as_bytes())
}
