//! WAV files as audio.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hound::{SampleFormat as Coding, WavReader};
use remotemedia_core::data::{Audio, ChannelCount, DataError, SampleFormat, SampleRate};

use super::{Cut, InputError};

/// A WAV file that is read from begin to end.
pub struct Wav {
    path: PathBuf,
    reader: WavReader<BufReader<File>>,
    stored: Stored,
    rate: SampleRate,
    channels: ChannelCount,
    /// Sample frames.
    read: u64,
    ended: bool,
}

/// How the file stores samples, and so how they are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stored {
    /// Sent as 16-bit integers: shifted, nothing is lost.
    I8,
    I16,
    /// Sent as 32-bit integers: shifted, nothing is lost.
    I24,
    I32,
    F32,
}

// === impl Wav ===

impl Wav {
    /// # Errors
    /// It cannot be read, or has samples of a format that no pipeline takes.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        let reader = WavReader::open(path).map_err(|error| broken(path, error))?;
        let spec = reader.spec();
        let stored = Stored::of(spec).ok_or_else(|| InputError::Samples {
            path: path.to_owned(),
            bits: spec.bits_per_sample,
            coding: match spec.sample_format {
                Coding::Int => "integer",
                Coding::Float => "float",
            },
        })?;
        let data = |source| InputError::Data { path: path.to_owned(), line: None, source };
        let rate = SampleRate::new(spec.sample_rate).map_err(data)?;
        let channels = ChannelCount::new(spec.channels.into()).map_err(data)?;
        Ok(Self { path: path.to_owned(), reader, stored, rate, channels, read: 0, ended: false })
    }

    /// The next piece; none at the end. A file without samples is one empty piece.
    ///
    /// # Errors
    /// The file ends too early, or cannot be read on.
    pub fn next(&mut self, cut: Cut) -> Result<Option<Audio>, InputError> {
        let left = self.frames() - self.read;
        if self.ended || (left == 0 && self.read > 0) {
            return Ok(None);
        }
        let frames = match cut {
            Cut::Whole => left,
            Cut::Pieces(duration) => left.min(self.frames_in(duration)),
        };
        self.ended = frames == left;
        let samples = self.samples(frames)?;
        self.read += frames;
        let audio = Audio::new(samples, self.stored.sent_as(), self.rate, self.channels);
        audio.map(Some).map_err(|source| self.data_error(source))
    }

    /// Bytes of all samples as they are sent.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.frames() * u64::from(self.channels.get()) * self.stored.sent_as().bytes() as u64
    }

    /// Sample frames read, and all of them.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.read, self.frames())
    }

    /// Of what has been read.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.read) / self.rate.get()
    }

    /// Of the whole file.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.frames()) / self.rate.get()
    }

    fn frames(&self) -> u64 {
        self.reader.duration().into()
    }

    /// At least one, so that the file ends.
    fn frames_in(&self, duration: Duration) -> u64 {
        let frames = duration.as_micros() * u128::from(self.rate.get()) / 1_000_000;
        u64::try_from(frames).unwrap_or(u64::MAX).max(1)
    }

    fn samples(&mut self, frames: u64) -> Result<Bytes, InputError> {
        let count = usize::try_from(frames).unwrap_or(usize::MAX).saturating_mul(self.channels.as_usize());
        let result = match self.stored {
            Stored::I8 => gather(self.reader.samples::<i16>(), count, |sample| (sample << 8).to_le_bytes()),
            Stored::I16 => gather(self.reader.samples::<i16>(), count, i16::to_le_bytes),
            Stored::I24 => gather(self.reader.samples::<i32>(), count, |sample| (sample << 8).to_le_bytes()),
            Stored::I32 => gather(self.reader.samples::<i32>(), count, i32::to_le_bytes),
            Stored::F32 => gather(self.reader.samples::<f32>(), count, f32::to_le_bytes),
        };
        result.map_err(|error| broken(&self.path, error))
    }

    fn data_error(&self, source: DataError) -> InputError {
        InputError::Data { path: self.path.clone(), line: None, source }
    }
}

// === impl Stored ===

impl Stored {
    const fn of(spec: hound::WavSpec) -> Option<Self> {
        match (spec.sample_format, spec.bits_per_sample) {
            (Coding::Int, 8) => Some(Self::I8),
            (Coding::Int, 16) => Some(Self::I16),
            (Coding::Int, 24) => Some(Self::I24),
            (Coding::Int, 32) => Some(Self::I32),
            (Coding::Float, 32) => Some(Self::F32),
            (Coding::Int | Coding::Float, _) => None,
        }
    }

    const fn sent_as(self) -> SampleFormat {
        match self {
            Self::I8 | Self::I16 => SampleFormat::I16,
            Self::I24 | Self::I32 => SampleFormat::I32,
            Self::F32 => SampleFormat::F32,
        }
    }
}

fn gather<S, const N: usize>(
    samples: impl Iterator<Item = hound::Result<S>>,
    count: usize,
    encode: impl Fn(S) -> [u8; N],
) -> hound::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(count.saturating_mul(N));
    for sample in samples.take(count) {
        bytes.extend_from_slice(&encode(sample?));
    }
    Ok(bytes.freeze())
}

fn broken(path: &Path, error: hound::Error) -> InputError {
    let path = path.to_owned();
    match error {
        hound::Error::IoError(source) => InputError::Read { path, source },
        source @ (hound::Error::FormatError(_)
        | hound::Error::TooWide
        | hound::Error::UnfinishedSample
        | hound::Error::Unsupported
        | hound::Error::InvalidSampleFormat) => InputError::Wav { path, source },
    }
}

#[cfg(test)]
mod tests {
    use hound::{WavSpec, WavWriter};

    use super::*;

    const CHUNK: Cut = Cut::Pieces(Duration::from_millis(2));

    fn write<S: hound::Sample + Copy>(bits: u16, coding: Coding, samples: &[S]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let spec = WavSpec { channels: 1, sample_rate: 1_000, bits_per_sample: bits, sample_format: coding };
        let mut writer = WavWriter::create(file.path(), spec).unwrap();
        samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
        file
    }

    fn read(file: &tempfile::NamedTempFile, cut: Cut) -> Vec<Audio> {
        let mut wav = Wav::open(file.path()).unwrap();
        std::iter::from_fn(|| wav.next(cut).unwrap()).collect()
    }

    #[test]
    fn every_format_keeps_its_full_scale() {
        let check = |file: &tempfile::NamedTempFile, sent: SampleFormat, expect: [f32; 3]| {
            let audio = read(file, Cut::Whole);
            assert_eq!((audio.len(), audio[0].format()), (1, sent));
            assert_eq!(audio[0].to_f32().as_ref(), expect, "{sent}");
        };
        let half = [-1.0, 0.5, 0.0];
        check(&write(8, Coding::Int, &[-128_i8, 64, 0]), SampleFormat::I16, half);
        check(&write(16, Coding::Int, &[i16::MIN, 1 << 14, 0]), SampleFormat::I16, half);
        check(&write(24, Coding::Int, &[-(1 << 23), 1 << 22, 0]), SampleFormat::I32, half);
        check(&write(32, Coding::Int, &[i32::MIN, 1 << 30, 0]), SampleFormat::I32, half);
        check(&write(32, Coding::Float, &[-1.0_f32, 0.5, 0.0]), SampleFormat::F32, half);
    }

    #[test]
    fn chunks_are_the_file_cut_and_the_last_may_be_short() {
        let file = write(16, Coding::Int, &[1_i16, 2, 3, 4, 5]);
        let chunks = read(&file, CHUNK);
        let counts: Vec<u64> = chunks.iter().map(Audio::frame_count).collect();
        assert_eq!(counts, [2, 2, 1]);
        let joined: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.samples().to_vec()).collect();
        assert_eq!(joined, read(&file, Cut::Whole)[0].samples().as_ref());
    }

    #[test]
    fn a_file_that_divides_evenly_has_no_empty_last_chunk() {
        assert_eq!(read(&write(16, Coding::Int, &[1_i16, 2, 3, 4]), CHUNK).len(), 2);
    }

    #[test]
    fn a_file_without_samples_is_one_empty_piece() {
        for cut in [Cut::Whole, CHUNK] {
            let pieces = read(&write::<i16>(16, Coding::Int, &[]), cut);
            assert_eq!((pieces.len(), pieces[0].frame_count()), (1, 0));
        }
    }

    #[test]
    fn sizes_and_durations_are_those_of_what_is_sent() {
        let wav = Wav::open(write(8, Coding::Int, &[0_i8; 500]).path()).unwrap();
        assert_eq!((wav.bytes(), wav.duration()), (1_000, Duration::from_millis(500)));
    }

    #[test]
    fn a_file_that_is_cut_short_and_one_that_is_no_wav_are_told_apart() {
        let file = write(16, Coding::Int, &[1_i16; 100]);
        file.as_file().set_len(100).unwrap();
        let mut wav = Wav::open(file.path()).unwrap();
        assert!(matches!(wav.next(Cut::Whole), Err(InputError::Read { .. })));

        let text = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(text.path(), "this is not a recording").unwrap();
        assert!(matches!(Wav::open(text.path()), Err(InputError::Wav { .. })));
    }
}
