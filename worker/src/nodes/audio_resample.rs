//! Changes the sample rate of audio.

use remotemedia_core::Frame;
use remotemedia_core::data::{Audio, ChannelCount, Kind, SampleFormat, SampleRate};
use remotemedia_core::frame::Metadata;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Loan, Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;

use super::rate_converter::{ConversionError, Quality, RateConverter};
use super::{expect_audio, expect_numbers, quantize};

/// Changes the sample rate of a stream of audio, and its sample format if told so.
///
/// The output lags behind the input by some 20 ms, and [`Node::flush`] gives what is left: together they are
/// `round(input frames * target rate / source rate)` frames, in phase with the input, in the format that came. Integers are
/// rounded to the nearest, and what is beyond full scale saturates. Where neither rate nor format changes, audio is
/// forwarded by reference. Audio of another rate, format or number of channels ends the stream so far, as a flush does, and
/// begins a new one.
pub struct AudioResample {
    settings: Settings,
    stream: Option<Stream>,
}

#[derive(Clone, Copy, Deserialize)]
struct Settings {
    target_sample_rate: SampleRate,
    source_rate: Option<SampleRate>,
    channels: Option<ChannelCount>,
    quality: Quality,
    output_format: OutputFormat,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutputFormat {
    Input,
    F32,
    I16,
    I32,
}

/// What came so far in one rate, format and number of channels.
struct Stream {
    from: Shape,
    to: Shape,
    converter: RateConverter,
    anchor: Option<Anchor>,
}

/// All of audio but its samples.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    rate: SampleRate,
    format: SampleFormat,
    channels: ChannelCount,
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
            aliases: vec!["RustResampleNode".to_owned(), "FastResampleNode".to_owned()],
            summary: "Changes the sample rate of audio.".to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Audio],
            parameters: parameters(),
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        Ok(Self { settings: read_params(params)?, stream: None })
    }
}

impl Node for AudioResample {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let audio = expect_audio(input.data)?;
        let from = Shape::of(&audio);
        self.settings.expect(from)?;
        if self.stream.as_ref().is_some_and(|stream| stream.from != from) {
            self.flush(out)?;
        }
        let to = self.settings.output(from);
        if from.rate == to.rate {
            return reformat(audio, to, input.metadata, out);
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(Stream::begin(from, to, self.settings.quality)?),
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

fn parameters() -> Vec<Parameter> {
    let rate = || Values::integer(1..=SampleRate::MAX_HZ, "Hz");
    vec![
        Parameter::required("target_sample_rate", rate(), "Sample rate of the output.")
            .also_called(&["target_rate", "targetRate"]),
        Parameter::optional("source_rate", rate(), "Refuses input of another rate; without it any is taken.")
            .also_called(&["sourceRate"]),
        Parameter::optional(
            "channels",
            Values::integer(1..=ChannelCount::MAX, ""),
            "Refuses input of another number of channels; without it any is taken.",
        ),
        Parameter::with_default(
            "quality",
            Values::choice(&["low", "medium", "high"]),
            "high",
            "How much of the band is kept: low lags least behind, high keeps most.",
        ),
        Parameter::with_default(
            "output_format",
            Values::choice(&["input", "f32", "i16", "i32"]),
            "input",
            "Sample format of the output: that of the input, or this.",
        ),
    ]
}

// === impl Settings ===

impl Settings {
    fn expect(&self, from: Shape) -> Result<(), NodeError> {
        if let Some(expected) = self.source_rate.filter(|expected| *expected != from.rate) {
            return Err(NodeError::failed(format_args!(
                "expects audio of {} Hz, as its source_rate says, got {} Hz: leave source_rate out to take any rate",
                expected.get(),
                from.rate.get()
            )));
        }
        if let Some(expected) = self.channels.filter(|expected| *expected != from.channels) {
            return Err(NodeError::failed(format_args!(
                "expects audio of {} channels, as its channels say, got {}: leave channels out to take any number",
                expected.get(),
                from.channels.get()
            )));
        }
        Ok(())
    }

    fn output(&self, from: Shape) -> Shape {
        let format = match self.output_format {
            OutputFormat::Input => from.format,
            OutputFormat::F32 => SampleFormat::F32,
            OutputFormat::I16 => SampleFormat::I16,
            OutputFormat::I32 => SampleFormat::I32,
        };
        Shape { rate: self.target_sample_rate, format, channels: from.channels }
    }
}

// === impl Stream ===

impl Stream {
    fn begin(from: Shape, to: Shape, quality: Quality) -> Result<Self, NodeError> {
        let converter = RateConverter::new(from.rate, to.rate, from.channels, quality)?;
        Ok(Self { from, to, converter, anchor: None })
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
        let data = self.to.fill(room, out, |output| self.converter.push(&samples, output))?;
        if data.sample_count() > 0 {
            out.emit(Output { data: data.into(), metadata, timestamp_us: begins_us })?;
        }
        Ok(())
    }

    fn finish(self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let begins_us = self.output_begins_us();
        let room = self.converter.room_to_finish();
        if room == 0 {
            return Ok(());
        }
        let data = self.to.fill(room, out, |output| self.converter.finish(output))?;
        out.emit(Output { data: data.into(), metadata: Metadata::new(), timestamp_us: begins_us })?;
        Ok(())
    }

    /// Presentation time of the next output frame: it lags behind the input by what the filter holds.
    fn output_begins_us(&self) -> Option<u64> {
        let anchor = self.anchor?;
        let elapsed = |frames: u64, rate: SampleRate| i128::from(frames) * 1_000_000 / i128::from(rate.get());
        let ahead =
            elapsed(self.converter.frames_out(), self.to.rate) - elapsed(anchor.position, self.from.rate);
        u64::try_from(i128::from(anchor.timestamp_us) + ahead).ok()
    }
}

// === impl Shape ===

impl Shape {
    fn of(audio: &Audio) -> Self {
        Self { rate: audio.rate(), format: audio.format(), channels: audio.channels() }
    }

    /// Audio of this shape from `room` samples of memory, of which `convert` says how many it wrote. Floats are written
    /// where they are sent from; integers are rounded from heap memory.
    fn fill(
        self,
        room: usize,
        out: &mut dyn Outputs,
        convert: impl FnOnce(&mut [f32]) -> Result<usize, ConversionError>,
    ) -> Result<Audio, NodeError> {
        match self.format {
            SampleFormat::F32 => {
                let mut loan = out.loan(room * self.format.bytes())?;
                let written = convert(loan.floats_mut())?;
                self.seal(loan, written)
            }
            SampleFormat::I16 | SampleFormat::I32 => {
                let mut samples = vec![0.0; room];
                let written = convert(&mut samples)?;
                self.store(&samples[..written], out)
            }
        }
    }

    fn store(self, samples: &[f32], out: &mut dyn Outputs) -> Result<Audio, NodeError> {
        let mut loan = out.loan(samples.len() * self.format.bytes())?;
        quantize::write(samples, self.format, loan.bytes_mut());
        self.seal(loan, samples.len())
    }

    fn seal(self, loan: Loan, samples: usize) -> Result<Audio, NodeError> {
        let bytes = loan.freeze().slice(..samples * self.format.bytes());
        Ok(Audio::new(bytes, self.format, self.rate, self.channels)?)
    }
}

fn reformat(audio: Audio, to: Shape, metadata: Metadata, out: &mut dyn Outputs) -> Result<(), NodeError> {
    let data = if audio.format() == to.format {
        audio
    } else {
        let samples = audio.to_f32();
        expect_numbers(&samples)?;
        to.store(&samples, out)?
    };
    out.emit(Output { data: data.into(), metadata, timestamp_us: None })?;
    Ok(())
}

// === impl ConversionError ===

impl From<ConversionError> for NodeError {
    fn from(error: ConversionError) -> Self {
        Self::failed(error)
    }
}
