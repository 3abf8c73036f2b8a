//! Audio: interleaved little-endian samples.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::listed::listed;

/// Interleaved little-endian PCM: whole sample frames, each one sample of every channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audio {
    samples: Bytes,
    format: SampleFormat,
    rate: SampleRate,
    channels: ChannelCount,
}

listed! {
    /// How one sample is stored.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum SampleFormat {
        /// 32-bit float, full scale at ±1.0.
        F32,
        /// 16-bit signed integer.
        I16,
        /// 32-bit signed integer.
        I32,
    }
}

/// Sample frames per second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SampleRate(u32);

/// Channels of one stream of audio.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ChannelCount(u32);

// === impl Audio ===

impl Audio {
    /// # Errors
    /// The samples are not whole sample frames.
    pub fn new(
        samples: Bytes,
        format: SampleFormat,
        rate: SampleRate,
        channels: ChannelCount,
    ) -> Result<Self, DataError> {
        let frame_bytes = format.bytes() * channels.as_usize();
        if !samples.len().is_multiple_of(frame_bytes) {
            return Err(DataError::SampleBytes {
                bytes: samples.len(),
                frame_bytes,
                channels: channels.get(),
                format,
            });
        }
        Ok(Self { samples, format, rate, channels })
    }

    /// 32-bit float audio from samples in memory.
    ///
    /// # Errors
    /// The samples are not whole sample frames.
    pub fn from_f32(samples: &[f32], rate: SampleRate, channels: ChannelCount) -> Result<Self, DataError> {
        Self::new(Bytes::copy_from_slice(bytemuck::cast_slice(samples)), SampleFormat::F32, rate, channels)
    }

    /// The stored bytes.
    #[must_use]
    pub const fn samples(&self) -> &Bytes {
        &self.samples
    }

    /// How samples are stored.
    #[must_use]
    pub const fn format(&self) -> SampleFormat {
        self.format
    }

    /// Sample frames per second.
    #[must_use]
    pub const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Channels.
    #[must_use]
    pub const fn channels(&self) -> ChannelCount {
        self.channels
    }

    /// Samples of all channels.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        (self.samples.len() / self.format.bytes()) as u64
    }

    /// Sample frames: samples of one channel.
    #[must_use]
    pub fn frame_count(&self) -> u64 {
        self.sample_count() / u64::from(self.channels.get())
    }

    /// Duration in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "frame counts stay far below 2^52")]
    pub fn seconds(&self) -> f64 {
        self.frame_count() as f64 / f64::from(self.rate.get())
    }

    /// The samples as floats with full scale at ±1.0; borrowed where they are stored so and aligned.
    #[must_use]
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self.format {
            SampleFormat::F32 => match bytemuck::try_cast_slice(&self.samples) {
                Ok(samples) if cfg!(target_endian = "little") => Cow::Borrowed(samples),
                Ok(_) | Err(_) => self.decode(f32::from_le_bytes),
            },
            SampleFormat::I16 => self.decode(|bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0),
            SampleFormat::I32 => self.decode(|bytes| {
                #[expect(clippy::cast_precision_loss, reason = "a 32-bit float keeps the upper 24 bits")]
                let value = i32::from_le_bytes(bytes) as f32;
                value / 2_147_483_648.0
            }),
        }
    }

    fn decode<const N: usize>(&self, sample: impl Fn([u8; N]) -> f32) -> Cow<'_, [f32]> {
        let (samples, _whole) = self.samples.as_chunks::<N>();
        Cow::Owned(samples.iter().copied().map(sample).collect())
    }
}

// === impl SampleFormat ===

impl SampleFormat {
    /// Bytes of one sample.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::I16 => 2,
        }
    }
}

impl fmt::Display for SampleFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I16 => "i16",
            Self::I32 => "i32",
        })
    }
}

// === impl SampleRate ===

impl SampleRate {
    /// Beyond every converter in use (DXD is at 352.8 kHz, ultrasound recorders at 500 kHz).
    pub const MAX_HZ: u32 = 768_000;

    /// # Errors
    /// Zero, or above [`Self::MAX_HZ`].
    pub const fn new(hz: u32) -> Result<Self, DataError> {
        if hz == 0 || hz > Self::MAX_HZ { Err(DataError::SampleRate { hz }) } else { Ok(Self(hz)) }
    }

    /// In Hz.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for SampleRate {
    type Error = DataError;

    fn try_from(hz: u32) -> Result<Self, DataError> {
        Self::new(hz)
    }
}

impl From<SampleRate> for u32 {
    fn from(rate: SampleRate) -> Self {
        rate.0
    }
}

// === impl ChannelCount ===

impl ChannelCount {
    /// Third-order ambisonics with head-locked stereo is 18; 32 leaves room and bounds per-channel state.
    pub const MAX: u32 = 32;

    /// One channel.
    pub const MONO: Self = Self(1);

    /// # Errors
    /// Zero, or above [`Self::MAX`].
    pub const fn new(count: u32) -> Result<Self, DataError> {
        if count == 0 || count > Self::MAX { Err(DataError::Channels { count }) } else { Ok(Self(count)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// For arithmetic with lengths.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u32> for ChannelCount {
    type Error = DataError;

    fn try_from(count: u32) -> Result<Self, DataError> {
        Self::new(count)
    }
}

impl From<ChannelCount> for u32 {
    fn from(count: ChannelCount) -> Self {
        count.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_sample_frame_is_refused() {
        let rate = SampleRate::new(48_000).unwrap();
        let stereo = ChannelCount::new(2).unwrap();
        let error = Audio::new(Bytes::from_static(&[0; 6]), SampleFormat::I16, rate, stereo).unwrap_err();
        assert_eq!(
            error.to_string(),
            "6 bytes of audio are not whole sample frames of 4 bytes (2 channels of i16)"
        );
    }

    #[test]
    fn every_format_reads_as_floats_at_full_scale() {
        let rate = SampleRate::new(8_000).unwrap();
        let check = |bytes: &'static [u8], format, expect: &[f32]| {
            let audio = Audio::new(Bytes::from_static(bytes), format, rate, ChannelCount::MONO).unwrap();
            assert_eq!(audio.to_f32().as_ref(), expect, "{format}");
        };
        check(&[0, 0x80, 0, 0x40], SampleFormat::I16, &[-1.0, 0.5]);
        check(&[0, 0, 0, 0x80, 0, 0, 0, 0x40], SampleFormat::I32, &[-1.0, 0.5]);
        check(&[0, 0, 0x80, 0xbf, 0, 0, 0, 0x3f], SampleFormat::F32, &[-1.0, 0.5]);
    }

    #[test]
    fn floats_that_lie_unaligned_are_read_too() {
        let mut shifted = vec![9_u8];
        shifted.extend_from_slice(&0.25_f32.to_le_bytes());
        let bytes = Bytes::from(shifted).slice(1..);
        let audio =
            Audio::new(bytes, SampleFormat::F32, SampleRate::new(1).unwrap(), ChannelCount::MONO).unwrap();
        assert_eq!(audio.to_f32().as_ref(), [0.25]);
    }
}
