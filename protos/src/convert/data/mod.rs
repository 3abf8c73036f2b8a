//! `DataBuffer` ⇄ [`RuntimeData`] and its metadata.

mod audio;
mod control;
mod file;
mod numpy;
mod tensor;
mod video;

use bytes::Bytes;
use remotemedia_core::data::{Binary, DataError, Json, MimeType, RuntimeData, Text};
use remotemedia_core::frame::Metadata;

use crate::v1::data_buffer::DataType;
use crate::v1::{BinaryBuffer, DataBuffer, JsonData, TextBuffer};

pub use audio::AUDIO_METADATA_KEY;

/// # Errors
/// No data, or data that is not what it claims to be.
pub fn from_wire(buffer: DataBuffer) -> Result<(RuntimeData, Metadata), DataError> {
    let mut metadata = buffer.metadata;
    let data = match buffer.data_type.ok_or(DataError::Missing)? {
        DataType::Audio(buffer) => audio::from_wire(buffer, &mut metadata)?.into(),
        DataType::Video(frame) => video::from_wire(frame)?.into(),
        DataType::Tensor(buffer) => tensor::from_wire(buffer)?.into(),
        DataType::Json(json) => Json::new(json.json_payload.into(), json.schema_type)?.into(),
        DataType::Text(text) => text_from_wire(text)?.into(),
        DataType::Binary(BinaryBuffer { data, mime_type }) => {
            Binary::new(data, MimeType::known(mime_type)?).into()
        }
        DataType::Control(message) => control::from_wire(message)?.into(),
        DataType::Numpy(buffer) => numpy::from_wire(buffer)?.into(),
        DataType::File(buffer) => file::from_wire(buffer)?.into(),
    };
    Ok((data, metadata))
}

/// # Errors
/// A JSON document with bytes that are not UTF-8, which the contract's `string` cannot carry.
pub fn to_wire(data: RuntimeData, mut metadata: Metadata) -> Result<DataBuffer, DataError> {
    let data_type = match data {
        RuntimeData::Audio(audio) => DataType::Audio(audio::to_wire(&audio, &mut metadata)),
        RuntimeData::Video(video) => DataType::Video(video::to_wire(&video)),
        RuntimeData::Tensor(tensor) => DataType::Tensor(tensor::to_wire(&tensor)),
        RuntimeData::Json(json) => DataType::Json(json_to_wire(&json)?),
        RuntimeData::Text(text) => DataType::Text(text_to_wire(&text)),
        RuntimeData::Binary(binary) => DataType::Binary(BinaryBuffer {
            data: binary.bytes().clone(),
            mime_type: mime_to_wire(binary.mime()),
        }),
        RuntimeData::Control(control) => DataType::Control(control::to_wire(control)),
        RuntimeData::Numpy(array) => DataType::Numpy(numpy::to_wire(&array)),
        RuntimeData::File(reference) => DataType::File(file::to_wire(reference)),
    };
    Ok(DataBuffer { metadata, data_type: Some(data_type) })
}

fn json_to_wire(json: &Json) -> Result<JsonData, DataError> {
    Ok(JsonData { json_payload: utf8(json.bytes())?, schema_type: json.schema().to_owned() })
}

fn text_from_wire(buffer: TextBuffer) -> Result<Text, DataError> {
    let TextBuffer { text_data, encoding, language, channel } = buffer;
    // First, since text in another encoding is seldom UTF-8, and the name says why.
    let named = Text::from("").in_encoding(&encoding)?;
    Text::new(text_data, language)?.on_channel(channel).in_encoding(named.encoding())
}

fn text_to_wire(text: &Text) -> TextBuffer {
    TextBuffer {
        text_data: text.bytes().clone(),
        encoding: text.encoding().to_owned(),
        language: text.language().to_owned(),
        channel: text.channel().to_owned(),
    }
}

fn mime_to_wire(mime: Option<&MimeType>) -> String {
    mime.map_or_else(String::new, |mime| mime.as_str().to_owned())
}

fn utf8(bytes: &Bytes) -> Result<String, DataError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| DataError::Utf8 { valid_up_to: error.utf8_error().valid_up_to() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use remotemedia_core::data::any::{any_data, any_metadata};

    use super::*;
    use crate::v1::control_message::MessageType;
    use crate::v1::{
        AudioBuffer, AudioFormat, BatchHint, CancelSpeculation, ControlMessage, FileBuffer, NumpyBuffer,
        PixelFormat, TensorBuffer, TensorDtype, VideoCodec, VideoFrame,
    };

    proptest! {
        #[test]
        fn data_comes_back_as_it_went_out(data in any_data(), metadata in any_metadata()) {
            let buffer = to_wire(data.clone(), metadata.clone()).unwrap();
            let back = from_wire(buffer.clone()).unwrap();
            prop_assert_eq!(&back, &(data, metadata));
            prop_assert_eq!(to_wire(back.0, back.1).unwrap(), buffer);
        }

        #[test]
        fn payloads_are_not_copied_except_json_on_its_way_out(data in any_data()) {
            let address = data.payload().as_ptr();
            let json = data.kind() == remotemedia_core::Kind::Json || data.payload().is_empty();
            let buffer = to_wire(data, Metadata::new()).unwrap();
            let on_wire = payload(buffer.data_type.as_ref().unwrap());
            prop_assert!(json || on_wire == Some(address));
            let back = from_wire(buffer).unwrap().0;
            prop_assert!(json || back.payload().as_ptr() == address);
        }
    }

    #[test]
    fn spellings_come_back_as_they_went_out() {
        let text = |encoding: &str| TextBuffer { encoding: encoding.to_owned(), ..TextBuffer::default() };
        for sent in [
            DataType::Text(text("")),
            DataType::Text(text("UTF8")),
            DataType::Json(JsonData {
                json_payload: " {\"a\" : 1.50} ".to_owned(),
                schema_type: "x".to_owned(),
            }),
            DataType::Binary(BinaryBuffer::default()),
            DataType::Audio(AudioBuffer { metadata_json: Some(Bytes::new()), ..audio(&[0; 8]) }),
            DataType::Audio(AudioBuffer { metadata_json: Some("{\"speaker\": 1}".into()), ..audio(&[0; 8]) }),
            DataType::Video(VideoFrame { is_keyframe: true, ..gray(2, 2) }),
        ] {
            let sent = buffer(sent);
            let (data, metadata) = from_wire(sent.clone()).unwrap();
            assert_eq!(to_wire(data, metadata).unwrap(), sent);
        }
    }

    #[test]
    fn empty_payloads_are_data_except_empty_json() {
        let empty = [
            DataType::Audio(audio(&[])),
            DataType::Text(TextBuffer::default()),
            DataType::Binary(BinaryBuffer::default()),
            DataType::Video(VideoFrame {
                codec: VideoCodec::Av1.into(),
                ..video(2, 2, PixelFormat::Encoded)
            }),
            DataType::Tensor(TensorBuffer { shape: vec![0], ..tensor(0) }),
            DataType::Numpy(NumpyBuffer { shape: vec![4, 0], ..numpy(0) }),
        ];
        for data in empty {
            assert!(from_wire(buffer(data)).unwrap().0.payload().is_empty());
        }
        check(
            DataType::Json(JsonData::default()),
            "not valid JSON at line 1, column 0: EOF while parsing a value",
        );
        assert_eq!(from_wire(DataBuffer::default()).unwrap_err(), DataError::Missing);
    }

    #[test]
    fn audio_that_is_not_what_it_claims_is_refused() {
        let refused = |change: fn(&mut AudioBuffer), message: &str| {
            let mut buffer = audio(&[0; 8]);
            change(&mut buffer);
            check(DataType::Audio(buffer), message);
        };
        refused(|audio| audio.format = 0, "audio format 0 is not defined: 1 is F32, 2 is I16, 3 is I32");
        refused(|audio| audio.format = 9, "audio format 9 is not defined: 1 is F32, 2 is I16, 3 is I32");
        refused(|audio| audio.sample_rate = 0, "sample rate 0 Hz is out of range: 1 to 768000 Hz");
        refused(|audio| audio.channels = 0, "0 channels are out of range: 1 to 32");
        refused(|audio| audio.channels = u32::MAX, "4294967295 channels are out of range: 1 to 32");
        refused(
            |audio| audio.samples = audio.samples.slice(1..),
            "7 bytes of audio are not whole sample frames of 4 bytes (2 channels of i16)",
        );
        refused(|audio| audio.num_samples = 5, "audio declares 5 samples (of all channels) but carries 4");
        refused(|audio| audio.num_samples = 0, "audio declares 0 samples (of all channels) but carries 4");
        refused(
            |audio| audio.metadata_json = Some(Bytes::from_static(b"{\"speaker\":}")),
            "AudioBuffer.metadata_json is not valid JSON at line 1, column 12: expected value",
        );
        let metadata = Metadata::from([(AUDIO_METADATA_KEY.to_owned(), "{}".to_owned())]);
        let twice = DataBuffer { metadata, data_type: Some(DataType::Audio(audio(&[]))) };
        assert_eq!(
            from_wire(twice).unwrap_err().to_string(),
            "the metadata key 'audio.metadata_json' is kept for the field 'AudioBuffer.metadata_json': set that"
        );
    }

    #[test]
    fn pictures_that_are_not_what_they_claim_are_refused() {
        let refused = |frame: VideoFrame, message: &str| check(DataType::Video(frame), message);
        refused(
            VideoFrame { pixel_data: vec![0; 13].into(), ..video(3, 3, PixelFormat::I420) },
            "a picture of 3 x 3 pixels in I420 has 17 bytes, got 13",
        );
        refused(
            video(0, 3, PixelFormat::Rgb24),
            "a picture of 0 x 3 pixels: width and height are 1 to 65536",
        );
        refused(
            video(1, 1, PixelFormat::Encoded),
            "an encoded picture names no codec: set one of VP8, H264, AV1",
        );
        refused(
            VideoFrame { codec: VideoCodec::Vp8.into(), ..gray(1, 1) },
            "raw pixels in GRAY8 name the codec VP8: set no codec, or the pixel format ENCODED",
        );
        refused(
            VideoFrame { codec: 9, ..gray(1, 1) },
            "video codec 9 is not defined: 1 is VP8, 2 is H264, 3 is AV1",
        );
        let error = from_wire(buffer(DataType::Video(video(1, 1, PixelFormat::Unspecified)))).unwrap_err();
        assert_eq!(error, DataError::PixelFormat { number: 0 });
        let error = from_wire(buffer(DataType::Video(VideoFrame { format: 7, ..gray(1, 1) }))).unwrap_err();
        assert_eq!(error, DataError::PixelFormat { number: 7 });
    }

    #[test]
    fn arrays_that_are_not_what_they_claim_are_refused() {
        check(DataType::Tensor(tensor(23)), "a tensor of shape [2, 3] in f32 has 24 bytes, got 23");
        check(
            DataType::Tensor(TensorBuffer { dtype: 0, ..tensor(24) }),
            "tensor dtype 0 is not defined: 1 is F32, 2 is F16, 3 is I32, 4 is I8, 5 is U8",
        );
        check(
            DataType::Tensor(TensorBuffer { shape: vec![1 << 33, 1 << 33], ..tensor(0) }),
            "an array of shape [8589934592, 8589934592] has more bytes than can be addressed: at most 9223372036854775807",
        );
        check(
            DataType::Tensor(TensorBuffer { shape: vec![1; 33], ..tensor(4) }),
            "an array of 33 dimensions: at most 32",
        );
        check(
            DataType::Numpy(numpy(11)),
            "an array of shape [2, 3] in int16 with strides [6, 2] spans 12 bytes, got 11",
        );
        let error = from_wire(buffer(DataType::Numpy(NumpyBuffer { dtype: ">f4".to_owned(), ..numpy(12) })));
        assert_eq!(error.unwrap_err(), DataError::NumpyDtype { dtype: ">f4".to_owned() });
    }

    #[test]
    fn text_json_and_mime_types_that_are_none_are_refused() {
        let text = |bytes: &'static [u8], encoding: &str| {
            DataType::Text(TextBuffer {
                text_data: Bytes::from_static(bytes),
                encoding: encoding.to_owned(),
                ..TextBuffer::default()
            })
        };
        check(text(b"ab\xff", "UTF-8"), "text is not valid UTF-8 from byte 2 on");
        check(text(b"\xff\xfeb\0", "utf-16"), "text encoding 'utf-16' is not supported: send utf-8");
        let json = JsonData { json_payload: "{\n  \"a\": ,\n}".to_owned(), ..JsonData::default() };
        check(DataType::Json(json), "not valid JSON at line 2, column 8: expected value");
        let binary = BinaryBuffer { mime_type: "png".to_owned(), ..BinaryBuffer::default() };
        let error = from_wire(buffer(DataType::Binary(binary))).unwrap_err();
        assert_eq!(error, DataError::Mime { mime: "png".to_owned() });
    }

    #[test]
    fn references_and_words_that_mean_nothing_are_refused() {
        let file = |path: &str| FileBuffer { path: path.to_owned(), ..FileBuffer::default() };
        check(DataType::File(FileBuffer::default()), "the path \"\" is empty: name a file");
        check(DataType::File(file("/a/../b")), "the path \"/a/../b\" contains '..': name the file without");
        check(
            DataType::File(FileBuffer { size: 4, offset: 2, length: 3, ..file("/a") }),
            "3 bytes from byte 2 on are not in a file of 4 bytes",
        );
        let control =
            |word| DataType::Control(ControlMessage { message_type: word, ..ControlMessage::default() });
        check(
            control(None),
            "the control message says nothing: set one of cancel_speculation, batch_hint, deadline_warning",
        );
        check(
            control(Some(MessageType::BatchHint(BatchHint::default()))),
            "the suggested batch size is 0: it is 1 or more",
        );
        let backwards = CancelSpeculation { from_timestamp: 2, to_timestamp: 1 };
        check(
            control(Some(MessageType::CancelSpeculation(backwards))),
            "the speculation to cancel begins at 2 and ends at 1: it ends where it begins, or later",
        );
        check(
            DataType::Control(ControlMessage {
                message_type: Some(MessageType::CancelSpeculation(CancelSpeculation::default())),
                metadata: "[]".to_owned(),
                ..ControlMessage::default()
            }),
            "the control message's metadata is not valid JSON at line 1, column 0: invalid type: sequence, expected a map",
        );
    }

    #[test]
    fn annotations_of_audio_leave_as_they_came() {
        let annotations = Bytes::from_static(b"{\"speaker\":\"a\"}");
        let came = AudioBuffer { metadata_json: Some(annotations.clone()), ..audio(&[0; 8]) };
        let (data, metadata) = from_wire(buffer(DataType::Audio(came.clone()))).unwrap();
        assert_eq!(metadata[AUDIO_METADATA_KEY], "{\"speaker\":\"a\"}");
        assert_eq!(to_wire(data, metadata.clone()).unwrap(), buffer(DataType::Audio(came)));

        let said = to_wire(Text::from("said by a").into(), metadata).unwrap();
        assert_eq!(said.metadata[AUDIO_METADATA_KEY].as_bytes(), annotations);
    }

    fn check(data: DataType, message: &str) {
        assert_eq!(from_wire(buffer(data)).unwrap_err().to_string(), message);
    }

    fn buffer(data: DataType) -> DataBuffer {
        DataBuffer { metadata: Metadata::new(), data_type: Some(data) }
    }

    /// Where the bytes lie that are worth not copying.
    fn payload(data: &DataType) -> Option<*const u8> {
        match data {
            DataType::Audio(audio) => Some(audio.samples.as_ptr()),
            DataType::Video(video) => Some(video.pixel_data.as_ptr()),
            DataType::Tensor(tensor) => Some(tensor.data.as_ptr()),
            DataType::Text(text) => Some(text.text_data.as_ptr()),
            DataType::Binary(binary) => Some(binary.data.as_ptr()),
            DataType::Numpy(array) => Some(array.data.as_ptr()),
            DataType::Json(_) | DataType::Control(_) | DataType::File(_) => None,
        }
    }

    /// Stereo of 16-bit samples.
    fn audio(samples: &'static [u8]) -> AudioBuffer {
        AudioBuffer {
            samples: Bytes::from_static(samples),
            sample_rate: 48_000,
            channels: 2,
            format: AudioFormat::I16.into(),
            num_samples: samples.len() as u64 / 2,
            metadata_json: None,
        }
    }

    fn video(width: u32, height: u32, format: PixelFormat) -> VideoFrame {
        VideoFrame { width, height, format: format.into(), ..VideoFrame::default() }
    }

    /// As large as it should be.
    fn gray(width: u32, height: u32) -> VideoFrame {
        let pixel_data = vec![0; (width * height) as usize].into();
        VideoFrame { pixel_data, ..video(width, height, PixelFormat::Gray8) }
    }

    /// Two rows of three floats.
    fn tensor(bytes: usize) -> TensorBuffer {
        let (data, dtype) = (vec![0; bytes].into(), TensorDtype::F32.into());
        TensorBuffer { data, shape: vec![2, 3], dtype, layout: "HW".to_owned() }
    }

    /// Two rows of three integers.
    fn numpy(bytes: usize) -> NumpyBuffer {
        NumpyBuffer {
            data: vec![0; bytes].into(),
            shape: vec![2, 3],
            dtype: "int16".to_owned(),
            strides: vec![6, 2],
            c_contiguous: true,
            f_contiguous: false,
        }
    }
}
