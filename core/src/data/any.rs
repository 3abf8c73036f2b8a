//! Any data of any kind, for property tests: what one of them draws, all of them draw.

use std::ops::RangeInclusive;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Audio, Binary, ChannelCount, Control, ControlWord, FilePath, FileRange, FileReference, Json, Kind,
    MemoryOrder, MimeType, NumpyArray, NumpyDtype, PictureCoding, PictureSize, PixelFormat, RuntimeData,
    SampleFormat, SampleRate, Shape, Tensor, TensorDtype, Text, Video, VideoCodec, VideoPosition,
};
use crate::frame::Metadata;

/// Lengths of a dimension: arrays of three of them stay small.
const LENGTHS: RangeInclusive<u64> = 0..=5;

/// Data of any kind.
pub fn any_data() -> impl Strategy<Value = RuntimeData> {
    select(Kind::ALL.as_slice()).prop_flat_map(any_of)
}

/// Data of this kind. A kind without a strategy does not compile.
pub fn any_of(kind: Kind) -> BoxedStrategy<RuntimeData> {
    match kind {
        Kind::Audio => any_audio().prop_map(RuntimeData::from).boxed(),
        Kind::Video => any_video().prop_map(RuntimeData::from).boxed(),
        Kind::Tensor => any_tensor().prop_map(RuntimeData::from).boxed(),
        Kind::Json => any_json().prop_map(RuntimeData::from).boxed(),
        Kind::Text => any_text().prop_map(RuntimeData::from).boxed(),
        Kind::Binary => any_binary().prop_map(RuntimeData::from).boxed(),
        Kind::Control => any_control().prop_map(RuntimeData::from).boxed(),
        Kind::Numpy => any_numpy().prop_map(RuntimeData::from).boxed(),
        Kind::File => any_file().prop_map(RuntimeData::from).boxed(),
    }
}

/// Few and short entries, in any words.
pub fn any_metadata() -> impl Strategy<Value = Metadata> {
    btree_map(".*", ".*", 0..4)
}

fn any_audio() -> impl Strategy<Value = Audio> {
    let format = select(SampleFormat::ALL.as_slice());
    (format, 1..=SampleRate::MAX_HZ, 1..=ChannelCount::MAX, 0..100_usize, any::<u8>()).prop_map(
        |(format, rate, channels, frames, fill)| {
            let rate = SampleRate::new(rate).expect("a rate in range");
            let channels = ChannelCount::new(channels).expect("a count in range");
            let samples = content(format.bytes() * channels.as_usize() * frames, fill);
            Audio::new(samples, format, rate, channels).expect("whole sample frames")
        },
    )
}

fn any_video() -> impl Strategy<Value = Video> {
    let coding = prop_oneof![
        select(PixelFormat::ALL.as_slice()).prop_map(PictureCoding::Raw),
        select(VideoCodec::ALL.as_slice()).prop_map(PictureCoding::Encoded),
    ];
    let position = (any::<u64>(), any::<u64>());
    let position =
        position.prop_map(|(frame_number, timestamp_us)| VideoPosition { frame_number, timestamp_us });
    (coding, 1..40_u32, 1..40_u32, position, any::<bool>(), 0..100_usize, any::<u8>()).prop_map(
        |(coding, width, height, position, keyframe, encoded_bytes, fill)| {
            let size = PictureSize::new(width, height).expect("a size in range");
            let bytes = match coding {
                PictureCoding::Raw(format) => usize::try_from(format.bytes(size)).expect("a small picture"),
                PictureCoding::Encoded(_) => encoded_bytes,
            };
            let video =
                Video::new(content(bytes, fill), coding, size, position).expect("as many bytes as it has");
            video.marked_keyframe(keyframe)
        },
    )
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    (select(TensorDtype::ALL.as_slice()), any_shape(), ".*", any::<u8>()).prop_map(
        |(dtype, shape, layout, fill)| {
            let bytes = elements(&shape) * dtype.bytes();
            Tensor::new(content(bytes, fill), dtype, shape, layout).expect("as many bytes as it has")
        },
    )
}

fn any_json() -> impl Strategy<Value = Json> {
    (any::<Vec<String>>(), ".*").prop_map(|(value, schema)| {
        let text = serde_json::to_vec(&value).expect("strings have a JSON form");
        Json::new(text.into(), schema).expect("what was written is JSON")
    })
}

fn any_text() -> impl Strategy<Value = Text> {
    let encoding = select(["", "utf-8", "UTF-8", "utf8", "us-ascii"].as_slice());
    (any::<String>(), "[a-z]{0,2}", ".*", encoding).prop_map(|(text, language, channel, encoding)| {
        let text = Text::new(text.into(), language).expect("a string is UTF-8");
        text.on_channel(channel).in_encoding(encoding).expect("a name of UTF-8")
    })
}

fn any_binary() -> impl Strategy<Value = Binary> {
    (vec(any::<u8>(), 0..300), any_mime()).prop_map(|(bytes, mime)| Binary::new(bytes.into(), mime))
}

fn any_control() -> impl Strategy<Value = Control> {
    let word = prop_oneof![
        (any::<u64>(), any::<u64>())
            .prop_map(|(a, b)| ControlWord::CancelSpeculation { from: a.min(b), to: a.max(b) }),
        (1..=u32::MAX).prop_map(|pieces| ControlWord::BatchHint { pieces }),
        any::<u64>().prop_map(|left_us| ControlWord::DeadlineWarning { left_us }),
    ];
    let annotations = select(["", "{}", " { \"speaker\": [1.50, null] }"].as_slice());
    (word, annotations, ".*", any::<u64>()).prop_map(|(word, annotations, segment_id, timestamp_ms)| {
        let control = Control::new(word).and_then(|control| control.annotated(annotations));
        let mut control = control.expect("a sensible word");
        (control.segment_id, control.timestamp_ms) = (segment_id, timestamp_ms);
        control
    })
}

/// Dimensions in any order in memory, in steps of one or more elements, forwards and backwards.
fn any_numpy() -> impl Strategy<Value = NumpyArray> {
    let dimension = || (any_length(), 1..=2_i64, any::<bool>());
    let layout = vec(dimension(), 0..=4).prop_flat_map(|dimensions| {
        let order = Just((0..dimensions.len()).collect::<Vec<_>>()).prop_shuffle();
        (Just(dimensions), order)
    });
    let strided = (select(NumpyDtype::ALL.as_slice()), layout, any::<u8>())
        .prop_map(|(dtype, (dimensions, order), fill)| strided(dtype, &dimensions, &order, fill));
    let declared = (select(NumpyDtype::ALL.as_slice()), any_shape(), any::<bool>(), any::<u8>());
    let contiguous = declared.prop_map(|(dtype, shape, c_contiguous, fill)| {
        let order = MemoryOrder { c_contiguous, f_contiguous: !c_contiguous };
        let bytes = content(elements(&shape) * dtype.bytes(), fill);
        NumpyArray::new(bytes, dtype, shape, Vec::new(), order).expect("as many bytes as it has")
    });
    prop_oneof![3 => strided, 1 => contiguous]
}

/// `order` names the dimensions from the fastest on; each is a length, the elements of a step, and whether backwards.
fn strided(dtype: NumpyDtype, dimensions: &[(u64, i64, bool)], order: &[usize], fill: u8) -> NumpyArray {
    let mut strides = vec![0; dimensions.len()];
    let mut next = i64::try_from(dtype.bytes()).expect("a small element");
    for &place in order {
        let (length, step, is_backwards) = dimensions[place];
        let stride = next * step;
        strides[place] = if is_backwards { -stride } else { stride };
        next = stride * i64::try_from(length.max(1)).expect("a small dimension");
    }
    let lengths = dimensions.iter().map(|(length, ..)| *length);
    let shape = Shape::new(lengths.clone().collect::<Vec<_>>()).expect("a small shape");
    let reach =
        lengths.zip(&strides).map(|(length, stride)| length.saturating_sub(1) * stride.unsigned_abs());
    let reach: u64 = reach.sum();
    let bytes =
        if shape.elements() == 0 { 0 } else { usize::try_from(reach).expect("small") + dtype.bytes() };
    NumpyArray::new(content(bytes, fill), dtype, shape, strides, MemoryOrder::default())
        .expect("as many bytes as it spans")
}

fn any_file() -> impl Strategy<Value = FileReference> {
    let range = (0..1_000_u64, 0..1_000_u64, any::<bool>(), 1..1_000_u64);
    let range = range.prop_map(|(offset, length, is_known, rest)| {
        let size = if is_known { offset + length + rest } else { 0 };
        FileRange { offset, length, size }
    });
    ("(/[a-zä .]{0,3}[a-z])+", range, ".*", any_mime(), ".*").prop_map(
        |(path, range, filename, mime, stream_id)| {
            let path = FilePath::new(path).expect("a path without ..");
            let mut file = FileReference::new(path, range).expect("a range in the file");
            (file.filename, file.mime, file.stream_id) = (filename, mime, stream_id);
            file
        },
    )
}

fn any_mime() -> impl Strategy<Value = Option<MimeType>> {
    let written =
        prop_oneof![Just(String::new()), "[a-z]{1,9}/[a-z+.-]{1,9}(; ?[a-z]{1,5}=[a-zA-Z0-9]{1,5}){0,2}"];
    written.prop_map(|written| MimeType::known(written).expect("a media type"))
}

/// From a scalar to rank 8, and beyond the numbers that a descriptor holds itself.
fn any_shape() -> impl Strategy<Value = Shape> {
    let small = vec(any_length(), 0..=3);
    let of_rank_8 = vec(1..=2_u64, 8..=8);
    let deep = vec(Just(1_u64), 9..=Shape::MAX_RANK);
    prop_oneof![4 => small, 1 => of_rank_8, 1 => deep]
        .prop_map(|dimensions| Shape::new(dimensions).expect("a small shape"))
}

fn any_length() -> impl Strategy<Value = u64> {
    LENGTHS
}

fn elements(shape: &Shape) -> usize {
    usize::try_from(shape.elements()).expect("a small shape")
}

/// Bytes of which no two neighbours are equal, so that a shifted payload is another.
fn content(bytes: usize, first: u8) -> Bytes {
    (0..=u8::MAX).cycle().skip(first.into()).take(bytes).collect::<Vec<_>>().into()
}
