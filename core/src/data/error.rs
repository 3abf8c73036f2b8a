//! Why bytes that claim to be of a kind are not.

use serde::{Deserialize, Serialize};

use super::file::FilePath;
use super::mime::MimeType;
use super::numpy::NumpyDtype;
use super::shape::Shape;
use super::tensor::TensorDtype;
use super::video::{PictureSize, PixelFormat, VideoCodec};
use super::{ChannelCount, SampleFormat, SampleRate};

/// Why bytes that claim to be of a kind are not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum DataError {
    /// Nothing was set.
    #[error(
        "the buffer has no data: set one of audio, video, tensor, json, text, binary, control, numpy, file"
    )]
    Missing,
    /// Metadata under a key that the contract has a field for.
    #[error("the metadata key '{key}' is kept for the field '{field}': set that")]
    ReservedKey {
        /// As given.
        key: String,
        /// Where it belongs.
        field: String,
    },
    /// A sample format number that the contract does not define.
    #[error("audio format {number} is not defined: 1 is F32, 2 is I16, 3 is I32")]
    SampleFormat {
        /// As given.
        number: i32,
    },
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
    /// A pixel format number that the contract does not define.
    #[error(
        "pixel format {number} is not defined: 1 is RGB24, 2 is RGBA32, 3 is YUV420P, 4 is GRAY8, 5 is I420, 6 is NV12, 255 is ENCODED"
    )]
    PixelFormat {
        /// As given.
        number: i32,
    },
    /// A codec number that the contract does not define.
    #[error("video codec {number} is not defined: 1 is VP8, 2 is H264, 3 is AV1")]
    VideoCodec {
        /// As given.
        number: i32,
    },
    /// Encoded, and nobody can tell how.
    #[error("an encoded picture names no codec: set one of VP8, H264, AV1")]
    NoCodec,
    /// Raw pixels, and yet a codec.
    #[error("raw pixels in {format} name the codec {codec}: set no codec, or the pixel format ENCODED")]
    CodecOfPixels {
        /// The pixel format declared.
        format: PixelFormat,
        /// The codec declared.
        codec: VideoCodec,
    },
    /// Zero, or beyond what any codec carries.
    #[error("a picture of {width} x {height} pixels: width and height are 1 to {max}", max = PictureSize::MAX)]
    PictureSize {
        /// As given.
        width: u32,
        /// As given.
        height: u32,
    },
    /// The pixels are not those of a picture of that size and format.
    #[error("a picture of {size} pixels in {format} has {expected} bytes, got {bytes}")]
    PictureBytes {
        /// Length of the pixels.
        bytes: usize,
        /// What size and format make.
        expected: u64,
        /// Size declared.
        size: PictureSize,
        /// Format declared.
        format: PixelFormat,
    },
    /// A tensor's element type that the contract does not define.
    #[error("tensor dtype {number} is not defined: 1 is F32, 2 is F16, 3 is I32, 4 is I8, 5 is U8")]
    TensorDtype {
        /// As given.
        number: i32,
    },
    /// More dimensions than arrays have.
    #[error("an array of {rank} dimensions: at most {max}", max = Shape::MAX_RANK)]
    Rank {
        /// As given.
        rank: usize,
    },
    /// More elements than can be counted, or more bytes than can be addressed.
    #[error("an array of shape {shape:?} has more bytes than can be addressed: at most {max}", max = Shape::MAX_BYTES)]
    Elements {
        /// As given.
        shape: Vec<u64>,
    },
    /// The elements are not as many as the shape says.
    #[error("a tensor of shape {shape} in {dtype} has {expected} bytes, got {bytes}")]
    TensorBytes {
        /// Length of the elements.
        bytes: usize,
        /// What shape and type make.
        expected: u64,
        /// Shape declared.
        shape: Shape,
        /// Element type declared.
        dtype: TensorDtype,
    },
    /// An element type that is not processed.
    #[error("numpy dtype '{dtype}' is not supported: one of {supported}", supported = NumpyDtype::list())]
    NumpyDtype {
        /// As given.
        dtype: String,
    },
    /// Not one stride for each dimension.
    #[error(
        "an array of shape {shape} has {strides} strides: one for each dimension, or none if it is C- or F-contiguous"
    )]
    StrideCount {
        /// How many were given.
        strides: usize,
        /// Shape declared.
        shape: Shape,
    },
    /// Neither strides nor an order.
    #[error(
        "an array of shape {shape} has neither strides nor an order: give strides, or set c_contiguous or f_contiguous"
    )]
    NoOrder {
        /// Shape declared.
        shape: Shape,
    },
    /// An order that the strides contradict.
    #[error(
        "an array of shape {shape} in {dtype} with strides {strides:?} is declared {order}-contiguous and is not: the strides would be {expected:?}"
    )]
    NotContiguous {
        /// `C` or `F`.
        order: char,
        /// Shape declared.
        shape: Shape,
        /// Element type declared.
        dtype: NumpyDtype,
        /// Strides declared.
        strides: Box<[i64]>,
        /// The strides of the order declared.
        expected: Box<[i64]>,
    },
    /// The bytes are not those that shape and strides reach.
    #[error(
        "an array of shape {shape} in {dtype} with strides {strides:?} spans {expected} bytes, got {bytes}"
    )]
    NumpyBytes {
        /// Length of the elements.
        bytes: usize,
        /// From the first byte of the lowest element to the last of the highest.
        expected: u64,
        /// Shape declared.
        shape: Shape,
        /// Element type declared.
        dtype: NumpyDtype,
        /// Strides declared, or those of the order.
        strides: Box<[i64]>,
    },
    /// Elements that overlap, or could.
    #[error(
        "the elements of an array of shape {shape} in {dtype} share bytes or interleave (strides {strides:?}): send a copy without gaps"
    )]
    SharedElements {
        /// Shape declared.
        shape: Shape,
        /// Element type declared.
        dtype: NumpyDtype,
        /// Strides declared.
        strides: Box<[i64]>,
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
    /// A field beside the data that holds JSON, and does not.
    #[error("{field} is not valid JSON at line {line}, column {column}: {problem}")]
    Annotations {
        /// As the contract names it.
        field: String,
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
    /// Not a media type.
    #[error(
        "'{mime}' is no MIME type: write TYPE/SUBTYPE, such as image/png, with parameters as in text/plain; charset=utf-8, in at most {max} bytes",
        max = MimeType::MAX_BYTES
    )]
    Mime {
        /// As given, or its begin.
        mime: String,
    },
    /// No action was set, or one that this version does not know.
    #[error("the control message says nothing: set one of cancel_speculation, batch_hint, deadline_warning")]
    NoControl,
    /// A segment that ends before it begins.
    #[error("the speculation to cancel begins at {from} and ends at {to}: it ends where it begins, or later")]
    Speculation {
        /// Its begin.
        from: u64,
        /// Its end.
        to: u64,
    },
    /// Batches of nothing.
    #[error("the suggested batch size is 0: it is 1 or more")]
    BatchSize,
    /// No path that could be meant.
    #[error("the path {path:?} {problem}")]
    Path {
        /// As given, or its begin.
        path: String,
        /// What is wrong.
        problem: PathProblem,
    },
    /// A piece that is not in the file.
    #[error("{length} bytes from byte {offset} on are not in a file of {size} bytes")]
    FileRange {
        /// First byte meant.
        offset: u64,
        /// How many; 0 is to the end.
        length: u64,
        /// Of the file, as declared.
        size: u64,
    },
    /// A file that this service does not hand to nodes.
    #[error("the file {path:?} is not served: {}", served_roots(roots))]
    FileNotServed {
        /// As given.
        path: String,
        /// The directories whose files are.
        roots: Vec<String>,
    },
}

/// What is wrong with a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum PathProblem {
    /// Nothing.
    #[error("is empty: name a file")]
    Empty,
    /// A byte at which the system would stop reading.
    #[error("contains a NUL: name the file without")]
    Nul,
    /// A way out of the directory that the path begins with.
    #[error("contains '..': name the file without")]
    Parent,
    /// More than the system takes.
    #[error("is too long: at most {max} bytes", max = FilePath::MAX_BYTES)]
    Long,
}

fn served_roots(roots: &[String]) -> String {
    if roots.is_empty() {
        "no files are, until the operator sets file_roots".to_owned()
    } else {
        format!("files are under {}", roots.join(", "))
    }
}
