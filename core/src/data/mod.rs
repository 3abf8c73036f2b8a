//! What flows through a pipeline: one enum, one validated type a kind.

#[cfg(any(test, feature = "proptest"))]
pub mod any;
mod audio;
mod binary;
mod control;
mod error;
mod file;
mod json;
mod listed;
mod mime;
mod numpy;
mod shape;
mod tensor;
mod text;
mod video;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use listed::listed;

pub use audio::{Audio, ChannelCount, SampleFormat, SampleRate};
pub use binary::Binary;
pub use control::{Control, ControlWord};
pub use error::{DataError, PathProblem};
pub use file::{FilePath, FileRange, FileReference};
pub use json::Json;
pub use mime::MimeType;
pub use numpy::{MemoryOrder, NumpyArray, NumpyDtype};
pub use shape::Shape;
pub use tensor::{Tensor, TensorDtype};
pub use text::Text;
pub use video::{PictureCoding, PictureSize, PixelFormat, Video, VideoCodec, VideoPosition};

/// One piece of data of one kind. Cloning is cheap: payloads are counted references.
#[derive(Clone, PartialEq, Debug)]
pub enum RuntimeData {
    /// Audio samples.
    Audio(Audio),
    /// A picture.
    Video(Video),
    /// A dense array of numbers.
    Tensor(Tensor),
    /// A JSON document.
    Json(Json),
    /// UTF-8 text.
    Text(Text),
    /// Bytes that nobody looks into.
    Binary(Binary),
    /// A word between nodes.
    Control(Control),
    /// An array with strides.
    Numpy(NumpyArray),
    /// A file, by reference.
    File(FileReference),
}

listed! {
    /// The kinds of [`RuntimeData`], without the data.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Kind {
        /// [`Audio`]
        Audio,
        /// [`Video`]
        Video,
        /// [`Tensor`]
        Tensor,
        /// [`Json`]
        Json,
        /// [`Text`]
        Text,
        /// [`Binary`]
        Binary,
        /// [`Control`]
        Control,
        /// [`NumpyArray`]
        Numpy,
        /// [`FileReference`]
        File,
    }
}

/// What kinds without a payload have for one.
static NO_PAYLOAD: Bytes = Bytes::new();

// === impl RuntimeData ===

impl RuntimeData {
    /// Which kind this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Audio(_) => Kind::Audio,
            Self::Video(_) => Kind::Video,
            Self::Tensor(_) => Kind::Tensor,
            Self::Json(_) => Kind::Json,
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
            Self::Control(_) => Kind::Control,
            Self::Numpy(_) => Kind::Numpy,
            Self::File(_) => Kind::File,
        }
    }

    /// The bytes that are worth not copying. Control messages and file references have none.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::Audio(audio) => audio.samples(),
            Self::Video(video) => video.picture(),
            Self::Tensor(tensor) => tensor.elements(),
            Self::Json(json) => json.bytes(),
            Self::Text(text) => text.bytes(),
            Self::Binary(binary) => binary.bytes(),
            Self::Numpy(array) => array.bytes(),
            Self::Control(_) | Self::File(_) => &NO_PAYLOAD,
        }
    }

    /// How many items metrics count for this piece: samples of all channels for audio, 1 otherwise.
    #[must_use]
    pub fn items(&self) -> u64 {
        match self {
            Self::Audio(audio) => audio.sample_count(),
            Self::Video(_)
            | Self::Tensor(_)
            | Self::Json(_)
            | Self::Text(_)
            | Self::Binary(_)
            | Self::Control(_)
            | Self::Numpy(_)
            | Self::File(_) => 1,
        }
    }
}

impl From<Audio> for RuntimeData {
    fn from(audio: Audio) -> Self {
        Self::Audio(audio)
    }
}

impl From<Video> for RuntimeData {
    fn from(video: Video) -> Self {
        Self::Video(video)
    }
}

impl From<Tensor> for RuntimeData {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
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

impl From<Binary> for RuntimeData {
    fn from(binary: Binary) -> Self {
        Self::Binary(binary)
    }
}

impl From<Control> for RuntimeData {
    fn from(control: Control) -> Self {
        Self::Control(control)
    }
}

impl From<NumpyArray> for RuntimeData {
    fn from(array: NumpyArray) -> Self {
        Self::Numpy(array)
    }
}

impl From<FileReference> for RuntimeData {
    fn from(file: FileReference) -> Self {
        Self::File(file)
    }
}

// === impl Kind ===

impl Kind {
    /// The name in messages, manifests and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Tensor => "tensor",
            Self::Json => "json",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Control => "control",
            Self::Numpy => "numpy",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
