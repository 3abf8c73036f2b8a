//! Changes the sample rate of audio.

use remotemedia_core::Frame;
use remotemedia_core::data::{Audio, ChannelCount, Kind, SampleFormat, SampleRate};
use remotemedia_core::frame::Metadata;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Loan, Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter,
};

use super::rate_converter::{ConversionError, RateConverter};
use super::settings::Settings;
use super::{expect_audio, expect_numbers};

/// Changes the sample rate of a stream of audio; gives 32-bit floats, with as many channels as came.
///
/// The output lags behind the input by some 20 ms, and [`Node::flush`] gives what is left: together they are
/// `round(input frames * target rate / source rate)` frames, in phase with the input. Where the rates are equal, floats
/// are forwarded by reference. Audio of another rate or number of channels ends the stream so far, as a flush does, and
/// begins a new one.
pub struct AudioResample {
    target: SampleRate,
    stream: Option<Stream>,
}

/// What came so far in one rate and number of channels.
struct Stream {
    from: SampleRate,
    target: SampleRate,
    channels: ChannelCount,
    converter: RateConverter,
    anchor: Option<Anchor>,
}

/// A known time: that of the input frame at `position`.
#[derive(Clone, Copy)]
struct Anchor {
    timestamp_us: u64,
    position: u64,
}

// === impl AudioResample ===

impl NodeType for AudioResample {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "AudioResample".to_owned(),
            summary: "Changes the sample rate of audio, and gives 32-bit floats.".to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Audio],
            parameters: vec![Parameter {
                name: "target_sample_rate".to_owned(),
                allowed: format!("integer, 1 to {} (Hz)", SampleRate::MAX_HZ),
                default: None,
                summary: "Sample rate of the output.".to_owned(),
            }],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        let settings = Settings::read(params, Self::info().parameters)?;
        let hz = settings.integer("target_sample_rate", 1..=SampleRate::MAX_HZ)?;
        let target = SampleRate::new(hz).expect("the range of the parameter is that of the type");
        Ok(Self { target, stream: None })
    }
}

impl Node for AudioResample {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let audio = expect_audio(input.data)?;
        if self.stream.as_ref().is_some_and(|stream| !stream.continues_with(&audio)) {
            self.flush(out)?;
        }
        if audio.rate() == self.target {
            return forward(audio, input.metadata, out);
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(Stream::begin(&audio, self.target)?),
        };
        stream.push(&audio, input.timestamp_us, input.metadata, out)
    }

    fn flush(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        match self.stream.take() {
            Some(stream) => stream.finish(out),
            None => Ok(()),
        }
    }
}

// === impl Stream ===

impl Stream {
    fn begin(audio: &Audio, target: SampleRate) -> Result<Self, NodeError> {
        let converter = RateConverter::new(audio.rate(), target, audio.channels())?;
        Ok(Self { from: audio.rate(), target, channels: audio.channels(), converter, anchor: None })
    }

    fn continues_with(&self, audio: &Audio) -> bool {
        (self.from, self.channels) == (audio.rate(), audio.channels())
    }

    fn push(
        &mut self,
        audio: &Audio,
        timestamp_us: Option<u64>,
        metadata: Metadata,
        out: &mut dyn Outputs,
    ) -> Result<(), NodeError> {
        let position = self.converter.frames_in();
        self.anchor = timestamp_us.map(|timestamp_us| Anchor { timestamp_us, position });
        let begins_us = self.output_begins_us();
        let samples = audio.to_f32();
        expect_numbers(&samples)?;
        let room = self.converter.room_to_push(samples.len());
        if room == 0 {
            self.converter.push(&samples, &mut [])?;
            return Ok(());
        }
        let mut loan = out.loan(room * size_of::<f32>())?;
        let written = self.converter.push(&samples, loan.floats_mut())?;
        if written == 0 {
            return Ok(());
        }
        let data = sealed(loan, written, self.target, self.channels)?.into();
        out.emit(Output { data, metadata, timestamp_us: begins_us })?;
        Ok(())
    }

    fn finish(self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let begins_us = self.output_begins_us();
        let room = self.converter.room_to_finish();
        if room == 0 {
            return Ok(());
        }
        let mut loan = out.loan(room * size_of::<f32>())?;
        let written = self.converter.finish(loan.floats_mut())?;
        let data = sealed(loan, written, self.target, self.channels)?.into();
        out.emit(Output { data, metadata: Metadata::new(), timestamp_us: begins_us })?;
        Ok(())
    }

    /// Presentation time of the next output frame: it lags behind the input by what the filter holds.
    fn output_begins_us(&self) -> Option<u64> {
        let anchor = self.anchor?;
        let elapsed = |frames: u64, rate: SampleRate| i128::from(frames) * 1_000_000 / i128::from(rate.get());
        let ahead = elapsed(self.converter.frames_out(), self.target) - elapsed(anchor.position, self.from);
        u64::try_from(i128::from(anchor.timestamp_us) + ahead).ok()
    }
}

fn forward(audio: Audio, metadata: Metadata, out: &mut dyn Outputs) -> Result<(), NodeError> {
    let data = match audio.format() {
        SampleFormat::F32 => audio,
        SampleFormat::I16 | SampleFormat::I32 => as_floats(&audio, out)?,
    };
    out.emit(Output { data: data.into(), metadata, timestamp_us: None })?;
    Ok(())
}

fn as_floats(audio: &Audio, out: &mut dyn Outputs) -> Result<Audio, NodeError> {
    let samples = audio.to_f32();
    let mut loan = out.loan(samples.len() * size_of::<f32>())?;
    loan.floats_mut()[..samples.len()].copy_from_slice(&samples);
    sealed(loan, samples.len(), audio.rate(), audio.channels())
}

fn sealed(loan: Loan, samples: usize, rate: SampleRate, channels: ChannelCount) -> Result<Audio, NodeError> {
    let bytes = loan.freeze().slice(..samples * size_of::<f32>());
    Ok(Audio::new(bytes, SampleFormat::F32, rate, channels)?)
}

// === impl ConversionError ===

impl From<ConversionError> for NodeError {
    fn from(error: ConversionError) -> Self {
        Self::failed(error)
    }
}
