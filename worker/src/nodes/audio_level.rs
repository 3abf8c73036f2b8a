//! Measures how loud audio is.

use remotemedia_core::data::{Audio, Kind};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError};
use remotemedia_core::{Frame, Json};
use serde::{Deserialize, Serialize};

use super::{expect_audio, expect_numbers};

/// Answers each input with a [`LevelReport`] on it. Inputs are measured apart from each other.
#[derive(Debug)]
pub struct AudioLevel;

/// How loud one input of [`AudioLevel`] is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LevelReport {
    /// Over all channels.
    #[serde(flatten)]
    pub level: Level,
    /// Of each channel, in order.
    pub channels: Vec<Level>,
    /// Sample frames per second.
    pub sample_rate: u32,
    /// Sample frames measured.
    pub frames: u64,
}

/// Root mean square and peak. Full scale is 1.0 and 0 dBFS, for both: a sine at full scale has a peak of 0 dBFS and a root
/// mean square of -3.01 dBFS. Silence, and an input without samples, has no decibels.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Level {
    /// Linear.
    pub rms: f64,
    /// In dBFS; none for silence.
    pub rms_dbfs: Option<f64>,
    /// The greatest absolute value, linear; above 1.0 for overloaded floats.
    pub peak: f64,
    /// In dBFS; none for silence.
    pub peak_dbfs: Option<f64>,
}

/// Squares and greatest value of some samples.
#[derive(Clone, Copy, Default)]
struct Sum {
    squares: f64,
    peak: f64,
    samples: u64,
}

// === impl AudioLevel ===

impl NodeType for AudioLevel {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "AudioLevel".to_owned(),
            summary: "Measures RMS and peak of audio, per channel and over all, linear and in dBFS, and gives them as JSON."
                .to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Json],
            repeatable: true,
            stateless: true,
            ..NodeInfo::default()
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for AudioLevel {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let report = measure(&expect_audio(input.data)?)?;
        out.emit(Output { data: Json::of(&report)?.into(), metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }
}

fn measure(audio: &Audio) -> Result<LevelReport, NodeError> {
    let samples = audio.to_f32();
    expect_numbers(&samples)?;
    let mut sums = vec![Sum::default(); audio.channels().as_usize()];
    for frame in samples.chunks_exact(sums.len()) {
        sums.iter_mut().zip(frame).for_each(|(sum, sample)| sum.add(f64::from(*sample)));
    }
    Ok(LevelReport {
        level: sums.iter().copied().fold(Sum::default(), Sum::join).level(),
        channels: sums.iter().map(Sum::level).collect(),
        sample_rate: audio.rate().get(),
        frames: audio.frame_count(),
    })
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, sample: f64) {
        self.squares += sample * sample;
        self.peak = self.peak.max(sample.abs());
        self.samples += 1;
    }

    fn join(self, other: Self) -> Self {
        Self {
            squares: self.squares + other.squares,
            peak: self.peak.max(other.peak),
            samples: self.samples + other.samples,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 samples")]
    fn level(&self) -> Level {
        let rms = (self.squares / self.samples.max(1) as f64).sqrt();
        Level { rms, rms_dbfs: dbfs(rms), peak: self.peak, peak_dbfs: dbfs(self.peak) }
    }
}

/// JSON has no minus infinity.
fn dbfs(linear: f64) -> Option<f64> {
    (linear > 0.0).then(|| 20.0 * linear.log10())
}

#[cfg(test)]
mod tests {
    use remotemedia_core::data::{ChannelCount, SampleFormat, SampleRate};

    use super::*;
    use crate::harness::Harness;

    fn run(audio: Audio) -> Result<String, NodeError> {
        let output = Harness::default().run(&mut AudioLevel, Frame::new(0, audio))?.remove(0);
        Ok(String::from_utf8(output.data.payload().to_vec()).unwrap())
    }

    fn report(samples: &[f32], channels: u32) -> LevelReport {
        let (rate, channels) = (SampleRate::new(48_000).unwrap(), ChannelCount::new(channels).unwrap());
        serde_json::from_str(&run(Audio::from_f32(samples, rate, channels).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn a_sine_at_full_scale_has_a_peak_of_0_dbfs_and_an_rms_of_3_less() {
        let sine = (0..48_000_u16).map(|at| (f32::from(at % 48) * std::f32::consts::TAU / 48.0).sin());
        let LevelReport { level, channels, frames, .. } = report(&sine.collect::<Vec<_>>(), 1);
        assert!((level.rms_dbfs.unwrap() + 3.010_3).abs() < 1e-4, "{level:?}");
        assert!(level.peak_dbfs.unwrap().abs() < 1e-6, "{level:?}");
        assert_eq!((channels, frames), (vec![level], 48_000));
    }

    #[test]
    fn channels_are_measured_apart_and_together() {
        let LevelReport { level, channels, frames, .. } = report(&[0.5, -1.0, -0.5, 1.0], 2);
        assert_eq!(
            channels.iter().map(|level| (level.rms, level.peak)).collect::<Vec<_>>(),
            [(0.5, 0.5), (1.0, 1.0)]
        );
        assert!((level.rms - (0.625_f64).sqrt()).abs() < 1e-12 && level.peak == 1.0, "{level:?}");
        assert_eq!(frames, 2);
    }

    #[test]
    fn silence_has_no_decibels_and_a_report_is_spelt_as_documented() {
        let (rate, format) = (SampleRate::new(16_000).unwrap(), SampleFormat::I16);
        let audio =
            |bytes: &'static [u8]| Audio::new(bytes.into(), format, rate, ChannelCount::MONO).unwrap();
        let silent = r#""rms":0.0,"rms_dbfs":null,"peak":0.0,"peak_dbfs":null"#;
        let expect = |frames| {
            format!(r#"{{{silent},"channels":[{{{silent}}}],"sample_rate":16000,"frames":{frames}}}"#)
        };
        assert_eq!(run(audio(&[0; 4])).unwrap(), expect(2));
        assert_eq!(run(audio(&[])).unwrap(), expect(0));
    }

    #[test]
    fn what_is_no_number_and_what_is_no_audio_is_refused() {
        let rate = SampleRate::new(16_000).unwrap();
        let error = run(Audio::from_f32(&[0.0, f32::NAN], rate, ChannelCount::MONO).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("sample 1 (of all channels) is NaN"), "{error}");
        let text = Frame::new(0, remotemedia_core::Text::from("hello"));
        let error = Harness::default().run(&mut AudioLevel, text).unwrap_err();
        assert_eq!(error.to_string(), "expects audio, got text");
    }
}
