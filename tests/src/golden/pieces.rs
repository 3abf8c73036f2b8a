//! The frames of the corpus: every kind, every format, and what lies at the edge of each.

use bytes::Bytes;
use remotemedia_core::data::{
    Audio, Binary, ChannelCount, Control, ControlWord, FilePath, FileRange, FileReference, Json, MemoryOrder,
    MimeType, NumpyArray, NumpyDtype, PictureCoding, PictureSize, PixelFormat, RuntimeData, SampleFormat,
    SampleRate, Shape, Tensor, TensorDtype, Text, Video, VideoCodec, VideoPosition,
};
use remotemedia_core::frame::Metadata;
use remotemedia_protos::convert::data::AUDIO_METADATA_KEY;

type Piece = (&'static str, RuntimeData, Metadata);

/// Declared, and without strides: the last dimension varies fastest.
const C: MemoryOrder = MemoryOrder { c_contiguous: true, f_contiguous: false };
/// The first does.
const F: MemoryOrder = MemoryOrder { c_contiguous: false, f_contiguous: true };
/// Not declared: strides say it.
const STRIDES: MemoryOrder = MemoryOrder { c_contiguous: false, f_contiguous: false };

/// Names, frames and their metadata.
pub(super) fn pieces() -> Vec<Piece> {
    let plain = [audios(), videos(), tensors(), numpys(), numpys_of_every_type(), words()].concat();
    let mut pieces: Vec<Piece> =
        plain.into_iter().map(|(name, data)| (name, data, Metadata::new())).collect();
    pieces.extend(annotated());
    pieces
}

fn audios() -> Vec<(&'static str, RuntimeData)> {
    let audio = |format, rate, channels, samples: Vec<u8>| -> RuntimeData {
        let (rate, channels) =
            (SampleRate::new(rate).expect("a rate"), ChannelCount::new(channels).expect("a count"));
        Audio::new(samples.into(), format, rate, channels).expect("whole sample frames").into()
    };
    let floats = [0.0, -0.0, 0.5, -1.0, 1.5, f32::MIN_POSITIVE].map(f32::to_le_bytes).concat();
    let shorts = [i16::MIN, -1, 0, i16::MAX].map(i16::to_le_bytes).concat();
    let longs = [i32::MIN, -1, 0, 1, i32::MAX, 7].map(i32::to_le_bytes).concat();
    vec![
        ("audio-f32-stereo", audio(SampleFormat::F32, 48_000, 2, floats)),
        ("audio-i16-mono", audio(SampleFormat::I16, 8_000, 1, shorts)),
        ("audio-i32-of-3-channels", audio(SampleFormat::I32, 44_100, 3, longs)),
        ("audio-without-samples", audio(SampleFormat::F32, 16_000, 2, Vec::new())),
    ]
}

fn videos() -> Vec<(&'static str, RuntimeData)> {
    let last = VideoPosition { frame_number: u64::MAX, timestamp_us: u64::MAX };
    let third = VideoPosition { frame_number: 3, timestamp_us: 99_999 };
    let raw = |format: PixelFormat, width, height, position| -> RuntimeData {
        let size = PictureSize::new(width, height).expect("a size");
        let bytes = usize::try_from(format.bytes(size)).expect("a small picture");
        Video::new(content(bytes), PictureCoding::Raw(format), size, position)
            .expect("as many bytes as it has")
            .into()
    };
    let encoded = |codec, bytes, keyframe| -> RuntimeData {
        let size = PictureSize::new(1_920, 1_080).expect("a size");
        let video =
            Video::new(content(bytes), PictureCoding::Encoded(codec), size, third).expect("any bytes");
        video.marked_keyframe(keyframe).into()
    };
    vec![
        ("video-rgb24-odd", raw(PixelFormat::Rgb24, 3, 5, third)),
        ("video-rgba32", raw(PixelFormat::Rgba32, 2, 3, last)),
        ("video-gray8-column", raw(PixelFormat::Gray8, 1, 7, third)),
        ("video-yuv420p-odd", raw(PixelFormat::Yuv420p, 3, 5, third)),
        ("video-i420-one-pixel", raw(PixelFormat::I420, 1, 1, third)),
        ("video-i420-even", raw(PixelFormat::I420, 4, 2, third)),
        ("video-nv12-odd", raw(PixelFormat::Nv12, 5, 3, third)),
        ("video-vp8-dropped", encoded(VideoCodec::Vp8, 0, false)),
        ("video-h264-keyframe", encoded(VideoCodec::H264, 9, true)),
        ("video-av1", encoded(VideoCodec::Av1, 4, false)),
    ]
}

fn tensors() -> Vec<(&'static str, RuntimeData)> {
    let tensor = |bytes: Bytes, dtype, shape: &[u64], layout| -> RuntimeData {
        Tensor::new(bytes, dtype, Shape::new(shape).expect("a small shape"), layout)
            .expect("as many bytes as it has")
            .into()
    };
    let floats = [1.0, -0.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0].map(f32::to_le_bytes).concat();
    // One, minus two, the largest, the smallest, infinity, none.
    let halves = [0x3c00_u16, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x7e00].map(u16::to_le_bytes).concat();
    vec![
        ("tensor-f32", tensor(floats.into(), TensorDtype::F32, &[2, 3], "NC")),
        ("tensor-f16", tensor(halves.into(), TensorDtype::F16, &[6], "")),
        ("tensor-i32-scalar", tensor(i32::MIN.to_le_bytes().to_vec().into(), TensorDtype::I32, &[], "")),
        ("tensor-i8-of-rank-8", tensor(content(8), TensorDtype::I8, &[2, 1, 2, 1, 1, 2, 1, 1], "ABCDEFGH")),
        ("tensor-u8-empty", tensor(Bytes::new(), TensorDtype::U8, &[2, 0, 3], "NHWC")),
        ("tensor-u8-of-rank-32", tensor(content(1), TensorDtype::U8, &[1; 32], "")),
    ]
}

fn numpys() -> Vec<(&'static str, RuntimeData)> {
    let sixths = [0_i16, 1, 2, 3, 4, 5].map(i16::to_le_bytes).concat();
    let array = |bytes: &[u8], shape: &[u64], strides: &[i64], order| {
        numpy(bytes.to_vec().into(), NumpyDtype::Int16, shape, strides, order)
    };
    vec![
        ("numpy-in-c-order", array(&sixths, &[2, 3], &[], C)),
        ("numpy-in-fortran-order", array(&sixths, &[2, 3], &[], F)),
        ("numpy-in-fortran-order-by-strides", array(&sixths, &[2, 3], &[2, 4], F)),
        ("numpy-every-second", array(&sixths[..10], &[3], &[4], STRIDES)),
        ("numpy-backwards", array(&sixths, &[6], &[-2], STRIDES)),
        ("numpy-upside-down", array(&sixths, &[2, 3], &[-6, 2], STRIDES)),
        ("numpy-empty", array(&[], &[0, 4], &[8, 2], STRIDES)),
        ("numpy-scalar", array(&sixths[2..4], &[], &[], C)),
        ("numpy-of-rank-9", array(&sixths, &[1, 2, 1, 1, 3, 1, 1, 1, 1], &[], C)),
    ]
}

fn numpys_of_every_type() -> Vec<(&'static str, RuntimeData)> {
    let row = |dtype: NumpyDtype, bytes: Vec<u8>| {
        let elements = (bytes.len() / dtype.bytes()) as u64;
        numpy(bytes.into(), dtype, &[elements], &[], C)
    };
    let floats = [1.5_f32, -2.25].map(f32::to_le_bytes).concat();
    let doubles = [0.1_f64, f64::NAN, f64::MAX, -0.0].map(f64::to_le_bytes).concat();
    vec![
        ("numpy-bool", row(NumpyDtype::Bool, vec![1, 0, 1])),
        ("numpy-int8", row(NumpyDtype::Int8, vec![0x80, 0xff, 0x7f])),
        ("numpy-int16", row(NumpyDtype::Int16, [i16::MIN, i16::MAX].map(i16::to_le_bytes).concat())),
        ("numpy-int32", row(NumpyDtype::Int32, [i32::MIN, i32::MAX].map(i32::to_le_bytes).concat())),
        ("numpy-int64", row(NumpyDtype::Int64, [i64::MIN, i64::MAX].map(i64::to_le_bytes).concat())),
        ("numpy-uint8", row(NumpyDtype::Uint8, vec![0, 255])),
        ("numpy-uint16", row(NumpyDtype::Uint16, [0, u16::MAX].map(u16::to_le_bytes).concat())),
        ("numpy-uint32", row(NumpyDtype::Uint32, [0, u32::MAX].map(u32::to_le_bytes).concat())),
        ("numpy-uint64", row(NumpyDtype::Uint64, [0, u64::MAX].map(u64::to_le_bytes).concat())),
        ("numpy-float16", row(NumpyDtype::Float16, [0x3555_u16, 0x8000].map(u16::to_le_bytes).concat())),
        ("numpy-float32", row(NumpyDtype::Float32, floats.clone())),
        ("numpy-float64", row(NumpyDtype::Float64, doubles.clone())),
        ("numpy-complex64", row(NumpyDtype::Complex64, floats)),
        ("numpy-complex128", row(NumpyDtype::Complex128, doubles)),
    ]
}

/// What has no array in it.
fn words() -> Vec<(&'static str, RuntimeData)> {
    let document = r#"{"deep": [[], {}, [1, -2.5, null, true]], "ü": "\u00fc \ud83c\udfb5", "large": 18446744073709551615}"#;
    let control = |word, annotations: &str| -> RuntimeData {
        let mut control =
            Control::new(word).and_then(|control| control.annotated(annotations)).expect("a sensible word");
        (control.segment_id, control.timestamp_ms) = ("ä-1".to_owned(), 1_700_000_000_123);
        control.into()
    };
    let mime = |written: &str| MimeType::known(written).expect("a media type");
    let file = |path: &str, range| {
        FileReference::new(FilePath::new(path).expect("a path"), range).expect("a range of it")
    };
    let mut part = file("/media/a song.wav", FileRange { offset: 44, length: 100, size: 4_096 });
    (part.filename, part.mime, part.stream_id) = ("söng.wav".to_owned(), mime("audio/wav"), "s".to_owned());
    vec![
        ("json", Json::new(document.into(), "golden/1").expect("JSON").into()),
        ("json-null", Json::new("null".into(), "").expect("JSON").into()),
        ("text", Text::new("grüß 𝄞\n\0".into(), "de").expect("UTF-8").on_channel("subtitles").into()),
        ("text-empty", Text::from("").into()),
        ("binary", Binary::new(content(300), mime("image/png; q=\"1\"")).into()),
        ("binary-empty", Binary::new(Bytes::new(), None).into()),
        ("control-cancel", control(ControlWord::CancelSpeculation { from: 1, to: u64::MAX }, "")),
        ("control-batch", control(ControlWord::BatchHint { pieces: u32::MAX }, "{\"why\":  1.50}")),
        ("control-deadline", control(ControlWord::DeadlineWarning { left_us: 0 }, "")),
        ("file", file("/media/whole.bin", FileRange { offset: 0, length: 0, size: 0 }).into()),
        ("file-part", part.into()),
    ]
}

/// With metadata.
fn annotated() -> Vec<Piece> {
    let said = |entries: &[(&str, &str)]| {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Metadata>()
    };
    let (rate, channels) = (SampleRate::new(16_000).expect("a rate"), ChannelCount::new(1).expect("a count"));
    let silence = Audio::new(content(4), SampleFormat::I16, rate, channels).expect("whole sample frames");
    vec![
        (
            "text-with-metadata",
            Text::from("x").into(),
            said(&[("speaker", "ä"), ("", "nameless"), ("void", "")]),
        ),
        (
            "audio-with-annotations",
            silence.into(),
            said(&[(AUDIO_METADATA_KEY, "{\"gain\":  1.0}"), ("k", "v")]),
        ),
    ]
}

fn numpy(bytes: Bytes, dtype: NumpyDtype, shape: &[u64], strides: &[i64], order: MemoryOrder) -> RuntimeData {
    let shape = Shape::new(shape).expect("a small shape");
    NumpyArray::new(bytes, dtype, shape, strides.to_vec(), order).expect("as many bytes as it spans").into()
}

/// Bytes of which no two neighbours are equal, so that a shifted payload is another.
fn content(bytes: usize) -> Bytes {
    (0..=u8::MAX).cycle().take(bytes).collect::<Vec<_>>().into()
}
