//! `AudioBuffer` ⇄ [`Audio`].

use bytes::Bytes;
use remotemedia_core::data::{Audio, ChannelCount, DataError, Json, SampleFormat, SampleRate};
use remotemedia_core::frame::Metadata;

use crate::v1::{AudioBuffer, AudioFormat};

/// The metadata key under which `AudioBuffer.metadata_json` travels inside. It leaves as that field again if audio
/// leaves with it, and as plain metadata otherwise.
pub const AUDIO_METADATA_KEY: &str = "audio.metadata_json";

pub(super) fn from_wire(buffer: AudioBuffer, metadata: &mut Metadata) -> Result<Audio, DataError> {
    let format = format_from_wire(buffer.format)?;
    let rate = SampleRate::new(buffer.sample_rate)?;
    let channels = ChannelCount::new(buffer.channels)?;
    let audio = Audio::new(buffer.samples, format, rate, channels)?;
    if buffer.num_samples != audio.sample_count() {
        return Err(DataError::SampleCount { declared: buffer.num_samples, carried: audio.sample_count() });
    }
    let annotations = buffer.metadata_json.as_ref().map(annotations).transpose()?;
    let taken = annotations.and_then(|json| metadata.insert(AUDIO_METADATA_KEY.to_owned(), json));
    // Left where it is, it would come back as the field.
    if taken.is_some() || (buffer.metadata_json.is_none() && metadata.contains_key(AUDIO_METADATA_KEY)) {
        let (key, field) = (AUDIO_METADATA_KEY.to_owned(), "AudioBuffer.metadata_json".to_owned());
        return Err(DataError::ReservedKey { key, field });
    }
    Ok(audio)
}

pub(super) fn to_wire(audio: &Audio, metadata: &mut Metadata) -> AudioBuffer {
    AudioBuffer {
        samples: audio.samples().clone(),
        sample_rate: audio.rate().get(),
        channels: audio.channels().get(),
        format: format_to_wire(audio.format()).into(),
        num_samples: audio.sample_count(),
        metadata_json: metadata.remove(AUDIO_METADATA_KEY).map(Bytes::from),
    }
}

/// Clients that set the field to nothing mean nothing by it.
fn annotations(json: &Bytes) -> Result<String, DataError> {
    let json = super::utf8(json)?;
    if !json.is_empty() {
        Json::check_annotations("AudioBuffer.metadata_json", &json)?;
    }
    Ok(json)
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
