//! What `run` feeds into a pipeline: a file as pieces of data.

mod lines;
mod wav;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use remotemedia_core::data::{DataError, RuntimeData};

use lines::{Document, Lines};
use wav::Wav;

/// How a file is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum InputKind {
    /// A WAV file: audio.
    Wav,
    /// One JSON document.
    Json,
    /// A JSON document a line.
    Jsonl,
    /// UTF-8 text: one piece, or in a stream one piece a line.
    Text,
}

/// An open input file.
pub enum Source {
    /// Audio.
    Wav(Wav),
    /// One piece, whole.
    Document(Document),
    /// One piece a line.
    Lines(Lines),
}

/// Why a file is no input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Its name does not say what it is.
    #[error("cannot tell from its name what {path} is: pass --input-kind wav, json, jsonl or text")]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read input {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no WAV file, or a broken one.
    #[error("input {path} is not a WAV file that can be read: {source}")]
    Wav {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: hound::Error,
    },
    /// A WAV file of samples that no pipeline takes.
    #[error(
        "input {path} has {bits}-bit {coding} samples: 8, 16, 24 and 32-bit integer and 32-bit float can be read"
    )]
    Samples {
        /// The file.
        path: PathBuf,
        /// Bits of one sample.
        bits: u16,
        /// Integer or float.
        coding: &'static str,
    },
    /// The content is not what it should be.
    #[error("input {path}{}: {source}", .line.map_or_else(String::new, |line| format!(", line {line}")))]
    Data {
        /// The file.
        path: PathBuf,
        /// Counted from 1, in files of lines.
        line: Option<u64>,
        /// What is wrong.
        source: DataError,
    },
    /// One piece of it would not fit into a message.
    #[error("input {path}{} has {bytes} bytes or more, over the limit of {limit} for one piece", .line.map_or_else(String::new, |line| format!(", line {line},")))]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Counted from 1, in files of lines.
        line: Option<u64>,
        /// As counted.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
}

/// How the content is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Not at all: one piece, if it fits.
    Whole,
    /// Audio into chunks of this duration, the rest line by line.
    Pieces(Duration),
}

// === impl Source ===

impl Source {
    /// Opens a file. `kind` none means: as the end of its name says. No piece may be longer than `max_piece_bytes`.
    ///
    /// # Errors
    /// The file cannot be read, or is not of that kind.
    pub fn open(
        path: &Path,
        kind: Option<InputKind>,
        wish: Option<Duration>,
        max_piece_bytes: u64,
    ) -> Result<(Self, Cut), InputError> {
        let kind = match kind {
            Some(kind) => kind,
            None => InputKind::of(path).ok_or_else(|| InputError::Kind { path: path.to_owned() })?,
        };
        let cut = |fits| match wish {
            Some(duration) => Cut::Pieces(duration),
            None if fits => Cut::Whole,
            None => Cut::Pieces(Self::DEFAULT_CHUNK),
        };
        Ok(match kind {
            InputKind::Wav => {
                let wav = Wav::open(path)?;
                let cut = cut(wav.bytes() <= max_piece_bytes);
                (Self::Wav(wav), cut)
            }
            InputKind::Jsonl => {
                let chunk = Cut::Pieces(wish.unwrap_or(Self::DEFAULT_CHUNK));
                (Self::Lines(Lines::open(path, InputKind::Jsonl, max_piece_bytes)?), chunk)
            }
            InputKind::Json => {
                (Self::Document(Document::open(path, InputKind::Json, max_piece_bytes)?), cut(true))
            }
            InputKind::Text => match wish {
                Some(_) => (Self::Lines(Lines::open(path, InputKind::Text, max_piece_bytes)?), cut(false)),
                None => (Self::Document(Document::open(path, InputKind::Text, max_piece_bytes)?), Cut::Whole),
            },
        })
    }

    /// The duration of chunks of audio that is too long for one message.
    pub const DEFAULT_CHUNK: Duration = Duration::from_millis(200);

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The file cannot be read on, or is broken here.
    pub fn next(&mut self, cut: Cut) -> Result<Option<RuntimeData>, InputError> {
        match self {
            Self::Wav(wav) => Ok(wav.next(cut)?.map(RuntimeData::from)),
            Self::Document(document) => document.next(),
            Self::Lines(lines) => lines.next(),
        }
    }

    /// How much of the file has been read, and how much there is, in the same unit.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        match self {
            Self::Wav(wav) => wav.progress(),
            Self::Document(document) => document.progress(),
            Self::Lines(lines) => lines.progress(),
        }
    }

    /// The time of the next piece since the begin, of audio.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        match self {
            Self::Wav(wav) => Some(wav.time()),
            Self::Document(_) | Self::Lines(_) => None,
        }
    }

    /// The duration, of audio.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match self {
            Self::Wav(wav) => Some(wav.duration()),
            Self::Document(_) | Self::Lines(_) => None,
        }
    }
}

// === impl InputKind ===

impl InputKind {
    fn of(path: &Path) -> Option<Self> {
        let end = path.extension()?.to_str()?.to_ascii_lowercase();
        match end.as_str() {
            "wav" | "wave" => Some(Self::Wav),
            "json" => Some(Self::Json),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "txt" | "text" | "md" => Some(Self::Text),
            _ => None,
        }
    }
}
