//! The golden corpus: frames as clients send them, in files, and beside each what it says.
//!
//! Nodes in every language are held to it. `cargo run -p remotemedia-tests --bin golden -- tests/golden` writes it again.

mod arrays;
mod pieces;
mod told;

use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use prost::Message as _;
use remotemedia_core::data::RuntimeData;
use remotemedia_core::frame::Metadata;
use remotemedia_protos::convert;
use remotemedia_protos::v1::DataBuffer;
use serde_json::Value;

pub use told::told;

/// A frame of the corpus.
#[derive(Clone, PartialEq, Debug)]
pub struct Golden {
    /// The name of its files.
    pub name: String,
    /// As a client sends it.
    pub buffer: DataBuffer,
    /// What it says, as [`told()`] has it.
    pub says: Value,
}

/// Files of frames: a `DataBuffer` of the contract, encoded.
const FRAME: &str = "pb";
/// Files of what they say.
const SAYS: &str = "json";

// === impl Golden ===

impl Golden {
    /// The frames that are kept, in order of names.
    ///
    /// # Panics
    /// A file is missing, or no frame.
    #[must_use]
    pub fn kept() -> Vec<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let entries = fs::read_dir(dir).expect("the corpus is there");
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.expect("the corpus is listed").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == FRAME));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// The frame itself, by the only conversion that there is.
    ///
    /// # Panics
    /// It is no frame.
    #[must_use]
    pub fn frame(&self) -> (RuntimeData, Metadata) {
        convert::data::from_wire(self.buffer.clone()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn read(path: &Path) -> Self {
        let frame = fs::read(path).expect("a frame of the corpus is read");
        let says = fs::read(path.with_extension(SAYS)).expect("what a frame says stands beside it");
        Self {
            name: path.file_stem().expect("a file has a name").to_string_lossy().into_owned(),
            buffer: DataBuffer::decode(Bytes::from(frame)).expect("a frame of the corpus decodes"),
            says: serde_json::from_slice(&says).expect("what a frame says is JSON"),
        }
    }
}

/// Writes the corpus anew into a directory.
///
/// # Errors
/// A file cannot be written.
///
/// # Panics
/// A frame of the table has no form on the wire.
pub fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, data, metadata) in pieces::pieces() {
        let says = told(&data, &metadata);
        let buffer = convert::data::to_wire(data, metadata).expect("the corpus can be sent");
        let path = dir.join(name).with_extension(FRAME);
        fs::write(&path, buffer.encode_to_vec())?;
        fs::write(path.with_extension(SAYS), told::in_lines(&says))?;
    }
    Ok(())
}
