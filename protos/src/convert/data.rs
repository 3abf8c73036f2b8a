//! `DataBuffer` ⇄ [`RuntimeData`] and its metadata.

use bytes::Bytes;
use remotemedia_core::data::{
    Audio, ChannelCount, DataError, Json, RuntimeData, SampleFormat, SampleRate, Text,
};
use remotemedia_core::frame::Metadata;

use crate::v1::data_buffer::DataType;
use crate::v1::{AudioBuffer, AudioFormat, DataBuffer, JsonData, TextBuffer};

/// The metadata key under which `AudioBuffer.metadata_json` travels inside. It leaves as that field again if audio
/// leaves with it, and as plain metadata otherwise.
pub const AUDIO_METADATA_KEY: &str = "audio.metadata_json";

/// # Errors
/// No data; a kind that is not processed; or data that is not what it claims to be.
pub fn from_wire(buffer: DataBuffer) -> Result<(RuntimeData, Metadata), DataError> {
    let mut metadata = buffer.metadata;
    let unsupported = |kind: &str| Err(DataError::UnsupportedKind { kind: kind.to_owned() });
    let data = match buffer.data_type.ok_or(DataError::Missing)? {
        DataType::Audio(audio) => {
            if let Some(json) = audio_metadata(audio.metadata_json.as_ref())? {
                metadata.insert(AUDIO_METADATA_KEY.to_owned(), json);
            }
            audio_from_wire(audio)?.into()
        }
        DataType::Json(json) => Json::new(json.json_payload.into(), json.schema_type)?.into(),
        DataType::Text(text) => text_from_wire(text)?.into(),
        DataType::Video(_) => return unsupported("video"),
        DataType::Tensor(_) => return unsupported("tensor"),
        DataType::Binary(_) => return unsupported("binary"),
        DataType::Control(_) => return unsupported("control"),
        DataType::Numpy(_) => return unsupported("numpy"),
        DataType::File(_) => return unsupported("file"),
    };
    Ok((data, metadata))
}

/// # Errors
/// A JSON document with bytes that are not UTF-8, which the contract's `string` cannot carry.
pub fn to_wire(data: RuntimeData, mut metadata: Metadata) -> Result<DataBuffer, DataError> {
    let data_type = match data {
        RuntimeData::Audio(audio) => {
            let annotations = metadata.remove(AUDIO_METADATA_KEY).map(Bytes::from);
            DataType::Audio(audio_to_wire(&audio, annotations))
        }
        RuntimeData::Json(json) => DataType::Json(json_to_wire(&json)?),
        RuntimeData::Text(text) => DataType::Text(text_to_wire(&text)),
    };
    Ok(DataBuffer { metadata, data_type: Some(data_type) })
}

// === Audio ===

fn audio_from_wire(buffer: AudioBuffer) -> Result<Audio, DataError> {
    let format = format_from_wire(buffer.format)?;
    let rate = SampleRate::new(buffer.sample_rate)?;
    let channels = ChannelCount::new(buffer.channels)?;
    let audio = Audio::new(buffer.samples, format, rate, channels)?;
    if buffer.num_samples != audio.sample_count() {
        return Err(DataError::SampleCount { declared: buffer.num_samples, carried: audio.sample_count() });
    }
    Ok(audio)
}

fn audio_to_wire(audio: &Audio, metadata_json: Option<Bytes>) -> AudioBuffer {
    AudioBuffer {
        samples: audio.samples().clone(),
        sample_rate: audio.rate().get(),
        channels: audio.channels().get(),
        format: format_to_wire(audio.format()).into(),
        num_samples: audio.sample_count(),
        metadata_json,
    }
}

/// Clients that set the field to nothing mean nothing by it.
fn audio_metadata(json: Option<&Bytes>) -> Result<Option<String>, DataError> {
    let Some(json) = json.filter(|json| !json.is_empty()) else { return Ok(None) };
    Json::new(json.clone(), "")?;
    utf8(json).map(Some)
}

fn format_from_wire(number: i32) -> Result<SampleFormat, DataError> {
    match AudioFormat::try_from(number) {
        Ok(AudioFormat::F32) => Ok(SampleFormat::F32),
        Ok(AudioFormat::I16) => Ok(SampleFormat::I16),
        Ok(AudioFormat::I32) => Ok(SampleFormat::I32),
        Ok(AudioFormat::Unspecified) | Err(_) => Err(DataError::SampleFormat { number }),
    }
}

const fn format_to_wire(format: SampleFormat) -> AudioFormat {
    match format {
        SampleFormat::F32 => AudioFormat::F32,
        SampleFormat::I16 => AudioFormat::I16,
        SampleFormat::I32 => AudioFormat::I32,
    }
}

// === JSON and text ===

fn json_to_wire(json: &Json) -> Result<JsonData, DataError> {
    Ok(JsonData { json_payload: utf8(json.bytes())?, schema_type: json.schema().to_owned() })
}

fn text_from_wire(buffer: TextBuffer) -> Result<Text, DataError> {
    // ASCII is UTF-8 already.
    const UTF_8: [&str; 5] = ["", "utf-8", "utf8", "ascii", "us-ascii"];
    if !UTF_8.iter().any(|name| buffer.encoding.eq_ignore_ascii_case(name)) {
        return Err(DataError::Encoding { encoding: buffer.encoding });
    }
    Ok(Text::new(buffer.text_data, buffer.language)?.on_channel(buffer.channel))
}

fn text_to_wire(text: &Text) -> TextBuffer {
    TextBuffer {
        text_data: text.bytes().clone(),
        encoding: "utf-8".to_owned(),
        language: text.language().to_owned(),
        channel: text.channel().to_owned(),
    }
}

fn utf8(bytes: &Bytes) -> Result<String, DataError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| DataError::Utf8 { valid_up_to: error.utf8_error().valid_up_to() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use remotemedia_core::Kind;

    use super::*;
    use crate::v1::{BinaryBuffer, ControlMessage, FileBuffer, NumpyBuffer, TensorBuffer, VideoFrame};

    proptest! {
        #[test]
        fn data_comes_back_as_it_went_out(data in any_data(), metadata in any_metadata()) {
            let buffer = to_wire(data.clone(), metadata.clone()).unwrap();
            prop_assert_eq!(from_wire(buffer).unwrap(), (data, metadata));
        }
    }

    #[test]
    fn audio_and_text_are_not_copied() {
        let audio = audio_buffer(&[0; 8]);
        let (address, text) = (
            audio.samples.as_ptr(),
            TextBuffer { text_data: Bytes::from("said".to_owned()), ..TextBuffer::default() },
        );
        let text_address = text.text_data.as_ptr();
        let (data, metadata) = from_wire(buffer(DataType::Audio(audio))).unwrap();
        assert_eq!(data.payload().as_ptr(), address);
        let Some(DataType::Audio(back)) = to_wire(data, metadata).unwrap().data_type else {
            panic!("not audio")
        };
        assert_eq!(back.samples.as_ptr(), address);
        assert_eq!(from_wire(buffer(DataType::Text(text))).unwrap().0.payload().as_ptr(), text_address);
    }

    #[test]
    fn empty_payloads_are_data_except_empty_json() {
        let empty = [DataType::Audio(audio_buffer(&[])), DataType::Text(TextBuffer::default())];
        for data in empty {
            assert!(from_wire(buffer(data)).unwrap().0.payload().is_empty());
        }
        check(
            DataType::Json(JsonData::default()),
            "not valid JSON at line 1, column 0: EOF while parsing a value",
        );
    }

    #[test]
    fn audio_that_is_not_what_it_claims_is_refused() {
        let audio = |change: fn(&mut AudioBuffer)| {
            let mut buffer = audio_buffer(&[0; 8]);
            change(&mut buffer);
            DataType::Audio(buffer)
        };
        check(audio(|audio| audio.format = 0), "audio format 0 is not defined: 1 is F32, 2 is I16, 3 is I32");
        check(audio(|audio| audio.format = 9), "audio format 9 is not defined: 1 is F32, 2 is I16, 3 is I32");
        check(audio(|audio| audio.sample_rate = 0), "sample rate 0 Hz is out of range: 1 to 768000 Hz");
        check(audio(|audio| audio.channels = 0), "0 channels are out of range: 1 to 32");
        check(audio(|audio| audio.channels = u32::MAX), "4294967295 channels are out of range: 1 to 32");
        check(
            audio(|audio| audio.samples = audio.samples.slice(1..)),
            "7 bytes of audio are not whole sample frames of 4 bytes (2 channels of i16)",
        );
        check(
            audio(|audio| audio.num_samples = 5),
            "audio declares 5 samples (of all channels) but carries 4",
        );
        check(
            audio(|audio| audio.num_samples = 0),
            "audio declares 0 samples (of all channels) but carries 4",
        );
        check(
            audio(|audio| audio.metadata_json = Some(Bytes::from_static(b"{\"speaker\":}"))),
            "not valid JSON at line 1, column 12: expected value",
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let text = |bytes: &'static [u8], encoding: &str| {
            DataType::Text(TextBuffer {
                text_data: Bytes::from_static(bytes),
                encoding: encoding.to_owned(),
                ..TextBuffer::default()
            })
        };
        check(text(b"ab\xff", "UTF-8"), "text is not valid UTF-8 from byte 2 on");
        check(text(b"a\0b\0", "utf-16"), "text encoding 'utf-16' is not supported: send utf-8");
    }

    #[test]
    fn kinds_that_are_not_processed_are_named() {
        for (kind, data) in [
            ("video", DataType::Video(VideoFrame::default())),
            ("tensor", DataType::Tensor(TensorBuffer::default())),
            ("binary", DataType::Binary(BinaryBuffer::default())),
            ("control", DataType::Control(ControlMessage::default())),
            ("numpy", DataType::Numpy(NumpyBuffer::default())),
            ("file", DataType::File(FileBuffer::default())),
        ] {
            let error = from_wire(buffer(data)).unwrap_err();
            assert_eq!(error, DataError::UnsupportedKind { kind: kind.to_owned() });
        }
        assert_eq!(from_wire(DataBuffer::default()).unwrap_err(), DataError::Missing);
    }

    #[test]
    fn annotations_of_audio_leave_as_they_came() {
        let annotations = Bytes::from_static(b"{\"speaker\":\"a\"}");
        let came = AudioBuffer { metadata_json: Some(annotations.clone()), ..audio_buffer(&[0; 8]) };
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

    /// Stereo of 16-bit samples.
    fn audio_buffer(samples: &'static [u8]) -> AudioBuffer {
        AudioBuffer {
            samples: Bytes::from_static(samples),
            sample_rate: 48_000,
            channels: 2,
            format: AudioFormat::I16.into(),
            num_samples: samples.len() as u64 / 2,
            metadata_json: None,
        }
    }

    /// Some data of every kind: a kind without a strategy does not compile.
    fn any_data() -> impl Strategy<Value = RuntimeData> {
        proptest::sample::select(Kind::ALL.as_slice()).prop_flat_map(|kind| match kind {
            Kind::Audio => any_audio().prop_map(RuntimeData::from).boxed(),
            Kind::Json => (any::<Vec<String>>(), ".*")
                .prop_map(|(value, schema)| {
                    let text = serde_json::to_vec(&value).unwrap();
                    Json::new(text.into(), schema).unwrap().into()
                })
                .boxed(),
            Kind::Text => (any::<String>(), "[a-z]{0,2}", ".*")
                .prop_map(|(text, language, channel)| {
                    Text::new(text.into(), language).unwrap().on_channel(channel).into()
                })
                .boxed(),
        })
    }

    fn any_audio() -> impl Strategy<Value = Audio> {
        let format = prop_oneof![Just(SampleFormat::F32), Just(SampleFormat::I16), Just(SampleFormat::I32)];
        (format, 1..=SampleRate::MAX_HZ, 1..=ChannelCount::MAX, 0..100_usize, any::<u8>()).prop_map(
            |(format, rate, channels, frames, fill)| {
                let rate = SampleRate::new(rate).unwrap();
                let channels = ChannelCount::new(channels).unwrap();
                let samples = vec![fill; format.bytes() * channels.as_usize() * frames];
                Audio::new(samples.into(), format, rate, channels).unwrap()
            },
        )
    }

    fn any_metadata() -> impl Strategy<Value = Metadata> {
        proptest::collection::btree_map(".*", ".*", 0..4)
    }
}
