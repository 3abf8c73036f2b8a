//! An input that killed, kept in a file: what `remotemedia replay` reads.
//!
//! A line that says what the file is, a line of JSON for people and their tools, and then the bytes of the frames one
//! behind the other, payload before metadata.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use remotemedia_core::fault::Poison;
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Manifest;
use serde::{Deserialize, Serialize};

use crate::plane::{FrameError, Prepared};

/// What is known of an input that killed, without its frames.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CaptureHead {
    /// The pipeline that it was for.
    pub manifest: Manifest,
    /// How it killed.
    pub poison: Poison,
    /// The kind of the workers that it killed: `rust`, `python`.
    pub worker_kind: String,
    /// The version of the service.
    pub version: String,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// An input that killed.
#[derive(Clone, PartialEq, Debug)]
pub struct Capture {
    /// What is known of it.
    pub head: CaptureHead,
    /// What went in.
    pub inputs: Vec<CapturedInput>,
}

/// A frame that went in.
#[derive(Clone, PartialEq, Debug)]
pub struct CapturedInput {
    /// The entry's id.
    pub entry: String,
    /// Its port; empty where it has none.
    pub port: String,
    /// The frame.
    pub frame: Frame,
}

/// A file that is no capture, or not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It begins with something else.
    #[error("{path} is no capture: its first line is not '{MAGIC}'")]
    Magic {
        /// The file.
        path: PathBuf,
    },
    /// Its second line is not what it should be.
    #[error("the capture {path} cannot be read: {problem}")]
    Head {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It ends early.
    #[error("the capture {path} ends before its frames do: it was not written whole")]
    Short {
        /// The file.
        path: PathBuf,
    },
    /// A frame is none.
    #[error("the capture {path}: {source}")]
    Frame {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FrameError,
    },
}

/// The second line.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    head: CaptureHead,
    inputs: Vec<Piece>,
}

/// What the second line says of a frame.
#[derive(Serialize, Deserialize)]
struct Piece {
    entry: String,
    port: String,
    kind: u16,
    fixed: [u64; 16],
    timestamp_us: Option<u64>,
    payload_bytes: u64,
    metadata_bytes: u64,
}

const MAGIC: &str = "remotemedia capture 1";
/// The longest second line: a manifest has at most as many bytes, and an input is named in a few hundred.
const MAX_LINE_BYTES: u64 = 32 << 20;
/// The most bytes of a frame: more than a message may have.
const MAX_FRAME_BYTES: u64 = 2 << 30;

impl CaptureHead {
    /// Writes a capture of these frames, by entry and port, for this user's eyes alone. It appears under its name when it
    /// is whole.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path, frames: &[(String, String, Prepared)]) -> io::Result<()> {
        let piece = |(entry, port, frame): &(String, String, Prepared)| {
            let (kind, fixed, timestamp_us, [payload, metadata]) = frame.parts();
            Piece {
                entry: entry.clone(),
                port: port.clone(),
                kind,
                fixed,
                timestamp_us,
                payload_bytes: payload.len() as u64,
                metadata_bytes: metadata.len() as u64,
            }
        };
        let line = Line { head: self.clone(), inputs: frames.iter().map(piece).collect() };
        let partial = path.with_extension("partial");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let write = |file: &mut std::fs::File| {
            writeln!(file, "{MAGIC}")?;
            serde_json::to_writer(&mut *file, &line)?;
            writeln!(file)?;
            for (_, _, frame) in frames {
                let (.., blocks) = frame.parts();
                blocks.into_iter().try_for_each(|block| file.write_all(block))?;
            }
            std::fs::rename(&partial, path)
        };
        let written = write(&mut file);
        if written.is_err() {
            // What is not whole is of no use, and may be what has filled the disk.
            std::fs::remove_file(&partial).unwrap_or_default();
        }
        written
    }
}

impl Capture {
    /// Reads a capture.
    ///
    /// # Errors
    /// The file is none.
    pub fn read(path: &Path) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::Read { path: path.to_owned(), source };
        let mut file = BufReader::new(std::fs::File::open(path).map_err(failed)?);
        let mut magic = String::new();
        let is_text = file.by_ref().take(MAGIC.len() as u64 + 1).read_line(&mut magic);
        if is_text.is_err() || magic.trim_end() != MAGIC {
            return Err(CaptureError::Magic { path: path.to_owned() });
        }
        let mut line = Vec::new();
        file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        let Line { head, inputs } = serde_json::from_slice(&line)
            .map_err(|error| CaptureError::Head { path: path.to_owned(), problem: error.to_string() })?;
        let inputs = inputs.into_iter().map(|piece| piece.read(path, &mut file));
        Ok(Self { head, inputs: inputs.collect::<Result<_, _>>()? })
    }
}

impl Piece {
    fn read(self, path: &Path, file: &mut impl io::Read) -> Result<CapturedInput, CaptureError> {
        let [payload, metadata] = [self.payload_bytes, self.metadata_bytes].map(|bytes| {
            let mut block = Vec::new();
            let read = file.take(bytes.min(MAX_FRAME_BYTES)).read_to_end(&mut block);
            let whole = read.is_ok_and(|read| u64::try_from(read) == Ok(bytes));
            whole.then(|| Bytes::from(block)).ok_or_else(|| CaptureError::Short { path: path.to_owned() })
        });
        let frame = Prepared::frame_of(self.kind, self.fixed, self.timestamp_us, [payload?, metadata?])
            .map_err(|source| CaptureError::Frame { path: path.to_owned(), source })?;
        Ok(CapturedInput { entry: self.entry, port: self.port, frame })
    }
}
