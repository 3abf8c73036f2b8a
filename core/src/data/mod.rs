//! What flows through a pipeline: one enum, one validated type a kind.

mod audio;
mod json;
mod text;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use audio::{Audio, ChannelCount, SampleFormat, SampleRate};
pub use json::Json;
pub use text::Text;

/// One piece of data of one kind. Cloning is cheap: payloads are counted references.
#[derive(Clone, PartialEq, Debug)]
pub enum RuntimeData {
    /// Audio samples.
    Audio(Audio),
    /// A JSON document.
    Json(Json),
    /// UTF-8 text.
    Text(Text),
}

/// The kinds of [`RuntimeData`], without the data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`Audio`]
    Audio,
    /// [`Json`]
    Json,
    /// [`Text`]
    Text,
}

/// Why bytes that claim to be of a kind are not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum DataError {
    /// Zero, or beyond what any converter makes.
    #[error("sample rate {hz} Hz is out of range: 1 to {max} Hz", max = SampleRate::MAX_HZ)]
    SampleRate {
        /// As given.
        hz: u32,
    },
    /// Zero, or more than a node can be expected to handle.
    #[error("{count} channels are out of range: 1 to {max}", max = ChannelCount::MAX)]
    Channels {
        /// As given.
        count: u32,
    },
    /// The samples do not divide into whole sample frames (one sample of every channel).
    #[error(
        "{bytes} bytes of audio are not whole sample frames of {frame_bytes} bytes ({channels} channels of {format})"
    )]
    SampleBytes {
        /// Length of the samples.
        bytes: usize,
        /// Length of one sample frame.
        frame_bytes: usize,
        /// Channels declared.
        channels: u32,
        /// Format declared.
        format: SampleFormat,
    },
    /// The declared number of samples is not the number there is.
    #[error("audio declares {declared} samples (of all channels) but carries {carried}")]
    SampleCount {
        /// As declared.
        declared: u64,
        /// As counted.
        carried: u64,
    },
    /// Not JSON.
    #[error("not valid JSON at line {line}, column {column}: {problem}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What the parser expected.
        problem: String,
    },
    /// Not UTF-8.
    #[error("text is not valid UTF-8 from byte {valid_up_to} on")]
    Utf8 {
        /// Bytes that are fine.
        valid_up_to: usize,
    },
    /// An encoding that nobody decodes here.
    #[error("text encoding '{encoding}' is not supported: send utf-8")]
    Encoding {
        /// As declared.
        encoding: String,
    },
    /// Nothing was set.
    #[error("the buffer has no data: set one of audio, json, text")]
    Missing,
    /// A kind of the wire contract that this version does not process.
    #[error("data of kind '{kind}' is not processed by this version: it takes audio, json and text")]
    UnsupportedKind {
        /// The kind's name on the wire.
        kind: String,
    },
    /// A sample format number that the contract does not define.
    #[error("audio format {number} is not defined: 1 is F32, 2 is I16, 3 is I32")]
    SampleFormat {
        /// As given.
        number: i32,
    },
}

// === impl RuntimeData ===

impl RuntimeData {
    /// Which kind this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Audio(_) => Kind::Audio,
            Self::Json(_) => Kind::Json,
            Self::Text(_) => Kind::Text,
        }
    }

    /// The bytes that are worth not copying.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::Audio(audio) => audio.samples(),
            Self::Json(json) => json.bytes(),
            Self::Text(text) => text.bytes(),
        }
    }

    /// How many items metrics count for this piece: samples of all channels for audio, 1 otherwise.
    #[must_use]
    pub fn items(&self) -> u64 {
        match self {
            Self::Audio(audio) => audio.sample_count(),
            Self::Json(_) | Self::Text(_) => 1,
        }
    }
}

impl From<Audio> for RuntimeData {
    fn from(audio: Audio) -> Self {
        Self::Audio(audio)
    }
}

impl From<Json> for RuntimeData {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

impl From<Text> for RuntimeData {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

// === impl Kind ===

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 3] = [Self::Audio, Self::Json, Self::Text];

    /// The name in messages, manifests and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
