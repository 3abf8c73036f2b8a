//! `RuntimeData` ⇄ the classes of `remotemedia.data`.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{intern, types::PyString};
use remotemedia_core::RuntimeData;
use remotemedia_core::data::{
    Audio, Binary, ChannelCount, Control, ControlWord, DataError, FilePath, FileRange, FileReference, Json,
    MemoryOrder, MimeType, NumpyArray, NumpyDtype, PictureCoding, PictureSize, PixelFormat, SampleFormat,
    SampleRate, Shape, Tensor, TensorDtype, Text, Video, VideoCodec, VideoPosition,
};
use remotemedia_core::node::Outputs;

use crate::arrays;
use crate::kept::Kept;

/// One of the classes that data is in Python.
fn class<'py>(
    py: Python<'py>,
    name: &'static str,
    cell: &'static PyOnceLock<Py<PyAny>>,
) -> PyResult<&'py Bound<'py, PyAny>> {
    cell.import(py, "remotemedia.data", name)
}

macro_rules! classes {
    ($($function:ident => $name:literal),* $(,)?) => {
        $(fn $function<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
            static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            class(py, $name, &CLASS)
        })*
    };
}

classes! {
    audio_class => "Audio",
    video_class => "Video",
    encoded_class => "EncodedVideo",
    tensor_class => "Tensor",
    json_class => "Json",
    text_class => "Text",
    binary_class => "Binary",
    control_class => "Control",
    numpy_class => "Numpy",
    file_class => "File",
}

/// What a node gets. What looks into it counts among what is `kept`.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    data: &RuntimeData,
    kept: &Arc<Kept>,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    let class = match data {
        RuntimeData::Audio(audio) => {
            let frames = audio.sample_count() / u64::from(audio.channels().get());
            let shape = [frames, u64::from(audio.channels().get())];
            let samples =
                arrays::view(py, kept, audio.samples(), sample_dtype(audio.format()), &shape, None)?;
            fields.set_item(intern!(py, "samples"), samples)?;
            fields.set_item(intern!(py, "sample_rate"), audio.rate().get())?;
            audio_class(py)?
        }
        RuntimeData::Video(video) => video_fields(&fields, video, kept)?,
        RuntimeData::Tensor(tensor) => {
            let dtype = tensor_dtype(tensor.dtype());
            let array = arrays::view(py, kept, tensor.elements(), dtype, tensor.shape().dimensions(), None)?;
            fields.set_item(intern!(py, "array"), array)?;
            fields.set_item(intern!(py, "layout"), tensor.layout())?;
            tensor_class(py)?
        }
        RuntimeData::Json(json) => {
            let text = std::str::from_utf8(json.bytes())
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
            fields.set_item(intern!(py, "value"), py.import("json")?.call_method1("loads", (text,))?)?;
            fields.set_item(intern!(py, "schema"), json.schema())?;
            json_class(py)?
        }
        RuntimeData::Text(text) => {
            fields.set_item(intern!(py, "text"), text.as_str())?;
            fields.set_item(intern!(py, "language"), text.language())?;
            fields.set_item(intern!(py, "channel"), text.channel())?;
            text_class(py)?
        }
        RuntimeData::Binary(binary) => {
            let len = binary.bytes().len() as u64;
            fields
                .set_item(intern!(py, "data"), arrays::view(py, kept, binary.bytes(), "u1", &[len], None)?)?;
            fields.set_item(intern!(py, "mime_type"), binary.mime().map_or("", MimeType::as_str))?;
            binary_class(py)?
        }
        RuntimeData::Control(control) => control_fields(&fields, control)?,
        RuntimeData::Numpy(array) => {
            let (shape, strides) = (array.shape().dimensions(), array.strides());
            let view =
                arrays::view(py, kept, array.bytes(), numpy_dtype(array.dtype()), shape, Some(&strides))?;
            fields.set_item(intern!(py, "array"), view)?;
            numpy_class(py)?
        }
        RuntimeData::File(file) => {
            let FileRange { offset, length, size } = file.range();
            fields.set_item(intern!(py, "path"), file.path().as_str())?;
            fields.set_item(intern!(py, "offset"), offset)?;
            fields.set_item(intern!(py, "length"), length)?;
            fields.set_item(intern!(py, "size"), size)?;
            fields.set_item(intern!(py, "filename"), &file.filename)?;
            fields.set_item(intern!(py, "mime_type"), file.mime.as_ref().map_or("", MimeType::as_str))?;
            fields.set_item(intern!(py, "stream_id"), &file.stream_id)?;
            file_class(py)?
        }
    };
    class.call((), Some(&fields))
}

/// What a node gives. Its payload may be an array over shared memory, which is sent as it is.
pub(crate) fn from_python(value: &Bound<'_, PyAny>, out: &mut dyn Outputs) -> PyResult<RuntimeData> {
    let py = value.py();
    let class = value.get_type();
    let is = |candidate: PyResult<&Bound<'_, PyAny>>| candidate.map(|candidate| class.is(candidate));
    if is(audio_class(py))? {
        return audio(value, out);
    }
    if is(text_class(py))? {
        let (text, language, channel): (String, String, String) = (
            value.getattr(intern!(py, "text"))?.extract()?,
            value.getattr(intern!(py, "language"))?.extract()?,
            value.getattr(intern!(py, "channel"))?.extract()?,
        );
        return Ok(Text::already_checked(Bytes::from(text), language).on_channel(channel).into());
    }
    if is(json_class(py))? {
        let text = json_text(&value.getattr(intern!(py, "value"))?)?;
        let schema: String = value.getattr(intern!(py, "schema"))?.extract()?;
        return Ok(Json::already_checked(Bytes::from(text), schema).into());
    }
    if is(tensor_class(py))? {
        return tensor(value, out);
    }
    if is(video_class(py))? || is(encoded_class(py))? {
        return video(value, out);
    }
    if is(binary_class(py))? {
        let bytes = arrays::payload(&value.getattr(intern!(py, "data"))?, out)?;
        return Ok(Binary::new(bytes, mime(value)?).into());
    }
    if is(numpy_class(py))? {
        return numpy(value, out);
    }
    if is(control_class(py))? {
        return control(value);
    }
    if is(file_class(py))? {
        return file(value);
    }
    if value.is_instance_of::<PyString>() {
        return Ok(Text::from(value.extract::<&str>()?).into());
    }
    Err(PyTypeError::new_err(format!(
        "a node gives Audio, Video, EncodedVideo, Tensor, Json, Text, Binary, Control, Numpy, File or str of remotemedia, got {}",
        class.fully_qualified_name()?
    )))
}

fn audio(value: &Bound<'_, PyAny>, out: &mut dyn Outputs) -> PyResult<RuntimeData> {
    let py = value.py();
    let samples = value.getattr(intern!(py, "samples"))?;
    let dtype = arrays::dtype(&samples)?;
    let formats = [SampleFormat::F32, SampleFormat::I16, SampleFormat::I32];
    let format = formats.into_iter().find(|format| sample_dtype(*format) == dtype).ok_or_else(|| {
        PyTypeError::new_err(format!("audio samples are float32, int16 or int32, got dtype '{dtype}'"))
    })?;
    let channels = match arrays::shape(&samples)?[..] {
        [_] => 1,
        [_, channels] => channels,
        ref other => {
            return Err(PyValueError::new_err(format!(
                "audio samples are an array of (frames, channels) or (frames,), got {} dimensions",
                other.len()
            )));
        }
    };
    let channels = ChannelCount::new(u32::try_from(channels).unwrap_or(u32::MAX)).map_err(invalid)?;
    let rate: u32 = value.getattr(intern!(py, "sample_rate"))?.extract()?;
    let rate = SampleRate::new(rate).map_err(invalid)?;
    let bytes = arrays::payload(&samples, out)?;
    Ok(Audio::new(bytes, format, rate, channels).map_err(invalid)?.into())
}

fn tensor(value: &Bound<'_, PyAny>, out: &mut dyn Outputs) -> PyResult<RuntimeData> {
    let py = value.py();
    let array = value.getattr(intern!(py, "array"))?;
    let name = arrays::dtype(&array)?;
    let dtype = TensorDtype::ALL.into_iter().find(|dtype| tensor_dtype(*dtype) == name).ok_or_else(|| {
        PyTypeError::new_err(format!(
            "a tensor is float32, float16, int32, int8 or uint8, got dtype '{name}'"
        ))
    })?;
    let shape = Shape::new(arrays::shape(&array)?).map_err(invalid)?;
    let layout: String = value.getattr(intern!(py, "layout"))?.extract()?;
    Ok(Tensor::new(arrays::payload(&array, out)?, dtype, shape, layout).map_err(invalid)?.into())
}

fn numpy(value: &Bound<'_, PyAny>, out: &mut dyn Outputs) -> PyResult<RuntimeData> {
    let py = value.py();
    let array = value.getattr(intern!(py, "array"))?;
    let name = arrays::dtype(&array)?;
    let dtype = NumpyDtype::ALL.into_iter().find(|dtype| numpy_dtype(*dtype) == name).ok_or_else(|| {
        PyTypeError::new_err(format!("arrays of dtype '{name}' are not sent: convert it by astype"))
    })?;
    let shape = Shape::new(arrays::shape(&array)?).map_err(invalid)?;
    let bytes = arrays::payload(&array, out)?;
    let order = MemoryOrder { c_contiguous: true, f_contiguous: shape.rank() <= 1 };
    Ok(NumpyArray::new(bytes, dtype, shape, Vec::new(), order).map_err(invalid)?.into())
}

fn video_fields<'py>(
    fields: &Bound<'py, PyDict>,
    video: &Video,
    kept: &Arc<Kept>,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let py = fields.py();
    let (size, position) = (video.size(), video.position());
    let (width, height) = (u64::from(size.width()), u64::from(size.height()));
    let len = video.picture().len() as u64;
    let flat = [len];
    let packed = [height, width, 3];
    let with_alpha = [height, width, 4];
    let gray = [height, width];
    fields.set_item(intern!(py, "width"), width)?;
    fields.set_item(intern!(py, "height"), height)?;
    fields.set_item(intern!(py, "frame_number"), position.frame_number)?;
    fields.set_item(intern!(py, "timestamp_us"), position.timestamp_us)?;
    match video.coding() {
        PictureCoding::Raw(format) => {
            let shape: &[u64] = match format {
                PixelFormat::Rgb24 => &packed,
                PixelFormat::Rgba32 => &with_alpha,
                PixelFormat::Gray8 => &gray,
                PixelFormat::Yuv420p | PixelFormat::I420 | PixelFormat::Nv12 => &flat,
            };
            fields.set_item(
                intern!(py, "pixels"),
                arrays::view(py, kept, video.picture(), "u1", shape, None)?,
            )?;
            fields.set_item(intern!(py, "format"), format.to_string())?;
            video_class(py)
        }
        PictureCoding::Encoded(codec) => {
            fields
                .set_item(intern!(py, "data"), arrays::view(py, kept, video.picture(), "u1", &flat, None)?)?;
            fields.set_item(intern!(py, "codec"), codec.to_string())?;
            fields.set_item(intern!(py, "keyframe"), video.is_marked_keyframe())?;
            encoded_class(py)
        }
    }
}

fn video(value: &Bound<'_, PyAny>, out: &mut dyn Outputs) -> PyResult<RuntimeData> {
    let py = value.py();
    let number = |name| -> PyResult<u64> { value.getattr(name)?.extract() };
    let size = |name| -> PyResult<u32> { value.getattr(name)?.extract() };
    let extent =
        PictureSize::new(size(intern!(py, "width"))?, size(intern!(py, "height"))?).map_err(invalid)?;
    let position = VideoPosition {
        frame_number: number(intern!(py, "frame_number"))?,
        timestamp_us: number(intern!(py, "timestamp_us"))?,
    };
    if value.get_type().is(encoded_class(py)?) {
        let name: String = value.getattr(intern!(py, "codec"))?.extract()?;
        let codec = VideoCodec::ALL.into_iter().find(|codec| codec.to_string() == name);
        let codec = codec
            .ok_or_else(|| PyValueError::new_err(format!("codec '{name}' is none of VP8, H264, AV1")))?;
        let bytes = arrays::payload(&value.getattr(intern!(py, "data"))?, out)?;
        let keyframe = value.getattr(intern!(py, "keyframe"))?.extract()?;
        let video = Video::new(bytes, PictureCoding::Encoded(codec), extent, position).map_err(invalid)?;
        return Ok(video.marked_keyframe(keyframe).into());
    }
    let name: String = value.getattr(intern!(py, "format"))?.extract()?;
    let format = PixelFormat::ALL.into_iter().find(|format| format.to_string() == name).ok_or_else(|| {
        PyValueError::new_err(format!(
            "pixel format '{name}' is none of {}",
            PixelFormat::ALL.map(|format| format.to_string()).join(", ")
        ))
    })?;
    let pixels = value.getattr(intern!(py, "pixels"))?;
    if arrays::dtype(&pixels)? != "u1" {
        return Err(PyTypeError::new_err("pixels are an array of uint8"));
    }
    let bytes = arrays::payload(&pixels, out)?;
    Ok(Video::new(bytes, PictureCoding::Raw(format), extent, position).map_err(invalid)?.into())
}

fn control_fields<'py>(fields: &Bound<'py, PyDict>, control: &Control) -> PyResult<&'py Bound<'py, PyAny>> {
    let py = fields.py();
    let (word, numbers) = match control.word() {
        ControlWord::CancelSpeculation { from, to } => ("cancel_speculation", vec![from, to]),
        ControlWord::BatchHint { pieces } => ("batch_hint", vec![u64::from(pieces)]),
        ControlWord::DeadlineWarning { left_us } => ("deadline_warning", vec![left_us]),
    };
    fields.set_item(intern!(py, "word"), word)?;
    fields.set_item(intern!(py, "numbers"), pyo3::types::PyTuple::new(py, numbers)?)?;
    fields.set_item(intern!(py, "segment_id"), &control.segment_id)?;
    fields.set_item(intern!(py, "timestamp_ms"), control.timestamp_ms)?;
    fields.set_item(intern!(py, "annotations"), control.annotations())?;
    control_class(py)
}

fn control(value: &Bound<'_, PyAny>) -> PyResult<RuntimeData> {
    let py = value.py();
    let word: String = value.getattr(intern!(py, "word"))?.extract()?;
    let numbers: Vec<u64> = value.getattr(intern!(py, "numbers"))?.extract()?;
    let word = match (word.as_str(), &numbers[..]) {
        ("cancel_speculation", [from, to]) => ControlWord::CancelSpeculation { from: *from, to: *to },
        ("batch_hint", [pieces]) => {
            ControlWord::BatchHint { pieces: u32::try_from(*pieces).unwrap_or(u32::MAX) }
        }
        ("deadline_warning", [left_us]) => ControlWord::DeadlineWarning { left_us: *left_us },
        (word, numbers) => {
            return Err(PyValueError::new_err(format!(
                "control word '{word}' with {} numbers is none of cancel_speculation (2), batch_hint (1), deadline_warning (1)",
                numbers.len()
            )));
        }
    };
    let annotations: String = value.getattr(intern!(py, "annotations"))?.extract()?;
    let mut control =
        Control::new(word).and_then(|control| control.annotated(annotations)).map_err(invalid)?;
    control.segment_id = value.getattr(intern!(py, "segment_id"))?.extract()?;
    control.timestamp_ms = value.getattr(intern!(py, "timestamp_ms"))?.extract()?;
    Ok(control.into())
}

fn file(value: &Bound<'_, PyAny>) -> PyResult<RuntimeData> {
    let py = value.py();
    let number = |name| -> PyResult<u64> { value.getattr(name)?.extract() };
    let path: String = value.getattr(intern!(py, "path"))?.extract()?;
    let range = FileRange {
        offset: number(intern!(py, "offset"))?,
        length: number(intern!(py, "length"))?,
        size: number(intern!(py, "size"))?,
    };
    let mut file = FilePath::new(path).and_then(|path| FileReference::new(path, range)).map_err(invalid)?;
    file.filename = value.getattr(intern!(py, "filename"))?.extract()?;
    file.stream_id = value.getattr(intern!(py, "stream_id"))?.extract()?;
    file.mime = mime(value)?;
    Ok(file.into())
}

fn mime(value: &Bound<'_, PyAny>) -> PyResult<Option<MimeType>> {
    let written: String = value.getattr(intern!(value.py(), "mime_type"))?.extract()?;
    if written.is_empty() { Ok(None) } else { MimeType::new(written).map(Some).map_err(invalid) }
}

/// Strict JSON: Python's own NaN and Infinity are refused, by the parameter that says so.
fn json_text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = value.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "allow_nan"), false)?;
    options.set_item(intern!(py, "ensure_ascii"), false)?;
    py.import("json")?.call_method("dumps", (value,), Some(&options))?.extract()
}

fn invalid(error: DataError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

const fn sample_dtype(format: SampleFormat) -> &'static str {
    match format {
        SampleFormat::F32 => "f4",
        SampleFormat::I16 => "i2",
        SampleFormat::I32 => "i4",
    }
}

const fn tensor_dtype(dtype: TensorDtype) -> &'static str {
    match dtype {
        TensorDtype::F32 => "f4",
        TensorDtype::F16 => "f2",
        TensorDtype::I32 => "i4",
        TensorDtype::I8 => "i1",
        TensorDtype::U8 => "u1",
    }
}

const fn numpy_dtype(dtype: NumpyDtype) -> &'static str {
    match dtype {
        NumpyDtype::Bool => "b1",
        NumpyDtype::Int8 => "i1",
        NumpyDtype::Int16 => "i2",
        NumpyDtype::Int32 => "i4",
        NumpyDtype::Int64 => "i8",
        NumpyDtype::Uint8 => "u1",
        NumpyDtype::Uint16 => "u2",
        NumpyDtype::Uint32 => "u4",
        NumpyDtype::Uint64 => "u8",
        NumpyDtype::Float16 => "f2",
        NumpyDtype::Float32 => "f4",
        NumpyDtype::Float64 => "f8",
        NumpyDtype::Complex64 => "c8",
        NumpyDtype::Complex128 => "c16",
    }
}
