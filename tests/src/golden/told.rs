//! What a frame says, in the words of Python's classes, where every element of an array is written out.

use remotemedia_core::data::{
    Audio, Control, ControlWord, FileReference, MimeType, NumpyDtype, PictureCoding, PixelFormat,
    RuntimeData, SampleFormat, Tensor, TensorDtype, Video,
};
use remotemedia_core::frame::Metadata;
use serde_json::{Map, Value, json};

use super::arrays::{Array, gapless};

/// What a frame says: its class and fields as in the Python SDK, and its metadata. Read apart by nodes in both
/// languages, it comes out the same.
///
/// # Panics
/// JSON data is no JSON.
#[must_use]
pub fn told(data: &RuntimeData, metadata: &Metadata) -> Value {
    let (class, fields) = match data {
        RuntimeData::Audio(audio) => ("Audio", audio_fields(audio)),
        RuntimeData::Video(video) => video_fields(video),
        RuntimeData::Tensor(tensor) => ("Tensor", tensor_fields(tensor)),
        RuntimeData::Json(document) => {
            let value: Value = serde_json::from_slice(document.bytes()).expect("a JSON document parses");
            ("Json", json!({ "value": value, "schema": document.schema() }))
        }
        RuntimeData::Text(text) => {
            let (language, channel) = (text.language(), text.channel());
            ("Text", json!({ "text": text.as_str(), "language": language, "channel": channel }))
        }
        RuntimeData::Binary(binary) => {
            ("Binary", json!({ "data": bytes(binary.bytes()), "mime_type": mime(binary.mime()) }))
        }
        RuntimeData::Control(control) => ("Control", control_fields(control)),
        RuntimeData::Numpy(array) => {
            let (shape, strides) = (array.shape().dimensions(), array.strides());
            let array = Array { dtype: array.dtype(), shape, strides, bytes: array.bytes() };
            ("Numpy", json!({ "array": array.told() }))
        }
        RuntimeData::File(file) => ("File", file_fields(file)),
    };
    json!({ "class": class, "fields": fields, "metadata": metadata })
}

/// One field a line: a change is seen where it is.
pub(super) fn in_lines(told: &Value) -> String {
    let lines = |object: &Map<String, Value>, indent: &str| {
        let lines =
            object.iter().map(|(key, value)| format!("{indent}{}: {value}", Value::from(key.as_str())));
        lines.collect::<Vec<_>>().join(",\n")
    };
    let fields = told["fields"].as_object().expect("fields have names");
    let (class, metadata) = (&told["class"], &told["metadata"]);
    let fields = lines(fields, "    ");
    format!("{{\n  \"class\": {class},\n  \"fields\": {{\n{fields}\n  }},\n  \"metadata\": {metadata}\n}}\n")
}

fn audio_fields(audio: &Audio) -> Value {
    let dtype = match audio.format() {
        SampleFormat::F32 => NumpyDtype::Float32,
        SampleFormat::I16 => NumpyDtype::Int16,
        SampleFormat::I32 => NumpyDtype::Int32,
    };
    let shape = [audio.frame_count(), audio.channels().get().into()];
    json!({ "samples": gapless(dtype, &shape, audio.samples()), "sample_rate": audio.rate().get() })
}

fn video_fields(video: &Video) -> (&'static str, Value) {
    let (size, position) = (video.size(), video.position());
    let (class, mut fields) = match video.coding() {
        PictureCoding::Raw(format) => {
            let (height, width) = (size.height().into(), size.width().into());
            let pixels = match format {
                PixelFormat::Rgb24 => gapless(NumpyDtype::Uint8, &[height, width, 3], video.picture()),
                PixelFormat::Rgba32 => gapless(NumpyDtype::Uint8, &[height, width, 4], video.picture()),
                PixelFormat::Gray8 => gapless(NumpyDtype::Uint8, &[height, width], video.picture()),
                PixelFormat::Yuv420p | PixelFormat::I420 | PixelFormat::Nv12 => bytes(video.picture()),
            };
            ("Video", json!({ "pixels": pixels, "format": format.to_string() }))
        }
        PictureCoding::Encoded(codec) => {
            let (data, keyframe) = (bytes(video.picture()), video.is_marked_keyframe());
            ("EncodedVideo", json!({ "data": data, "codec": codec.to_string(), "keyframe": keyframe }))
        }
    };
    fields["width"] = size.width().into();
    fields["height"] = size.height().into();
    fields["frame_number"] = position.frame_number.into();
    fields["timestamp_us"] = position.timestamp_us.into();
    (class, fields)
}

fn tensor_fields(tensor: &Tensor) -> Value {
    let dtype = match tensor.dtype() {
        TensorDtype::F32 => NumpyDtype::Float32,
        TensorDtype::F16 => NumpyDtype::Float16,
        TensorDtype::I32 => NumpyDtype::Int32,
        TensorDtype::I8 => NumpyDtype::Int8,
        TensorDtype::U8 => NumpyDtype::Uint8,
    };
    let array = gapless(dtype, tensor.shape().dimensions(), tensor.elements());
    json!({ "array": array, "layout": tensor.layout() })
}

fn control_fields(control: &Control) -> Value {
    let (word, numbers) = match control.word() {
        ControlWord::CancelSpeculation { from, to } => ("cancel_speculation", vec![from, to]),
        ControlWord::BatchHint { pieces } => ("batch_hint", vec![pieces.into()]),
        ControlWord::DeadlineWarning { left_us } => ("deadline_warning", vec![left_us]),
    };
    json!({
        "word": word,
        "numbers": numbers,
        "segment_id": control.segment_id,
        "timestamp_ms": control.timestamp_ms,
        "annotations": control.annotations(),
    })
}

fn file_fields(file: &FileReference) -> Value {
    let range = file.range();
    json!({
        "path": file.path().as_str(),
        "offset": range.offset,
        "length": range.length,
        "size": range.size,
        "filename": file.filename,
        "mime_type": mime(file.mime.as_ref()),
        "stream_id": file.stream_id,
    })
}

fn bytes(bytes: &[u8]) -> Value {
    gapless(NumpyDtype::Uint8, &[bytes.len() as u64], bytes)
}

fn mime(mime: Option<&MimeType>) -> &str {
    mime.map_or("", MimeType::as_str)
}
