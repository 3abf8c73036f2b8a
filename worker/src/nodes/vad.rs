//! Finds speech in audio.

use std::collections::VecDeque;
use std::ops::Range;

use earshot::Detector;
use remotemedia_core::data::{Audio, Kind};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use remotemedia_core::{Frame, Json};
use serde::{Deserialize, Serialize};

use super::hiss::HissDetector;
use super::segmenter::{Position, Rules, Segmenter};
use super::{expect_audio, expect_numbers};

/// Finds speech in audio of 16 kHz; channels are mixed down.
///
/// Every input is answered with a [`SpeechReport`]: a stream learns at once that somebody speaks, and in its course where
/// segments began and ended. [`Node::flush`] gives one more, marked `final`, with all segments: who sends a whole
/// file in one piece needs to read that one only.
pub struct Vad {
    detector: Box<Detector>,
    hiss: HissDetector,
    segmenter: Segmenter,
    /// Samples of less than one frame of the detector.
    pending: Vec<f32>,
    /// Samples in whole frames so far.
    scored: Position,
    last_score: f32,
    highest_score: f32,
    segments: VecDeque<SpeechSegment>,
    omitted_segments: u64,
}

/// What [`Vad`] says of one input, or in the end of all.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpeechReport {
    /// Whether a segment went on at any time of this input; if `final`, whether there are segments at all.
    pub has_speech: bool,
    /// The highest score of any 16 ms of this input, 0 to 1, and 0 in hiss; if none was completed, that of the 16 ms before it.
    /// If `final`, the highest of all.
    pub confidence: f32,
    /// Segments that ended with this input, and last the one that goes on. If `final`, all of them.
    pub segments: Vec<SpeechSegment>,
    /// The end of this input, in seconds since the stream's begin.
    pub time_s: f64,
    /// Whether the stream has ended.
    pub r#final: bool,
    /// Older segments that a `final` report leaves out, as there are more than it may hold.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted_segments: u64,
}

/// A stretch of speech.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpeechSegment {
    /// Seconds since the stream's begin.
    pub start_s: f64,
    /// Seconds since the stream's begin; of an open segment, until when speech was heard.
    pub end_s: f64,
    /// Whether it goes on: a later report has its end.
    pub open: bool,
}

/// The parameters that have an effect.
#[derive(Deserialize)]
struct Settings {
    threshold: f32,
    min_speech_ms: u32,
    min_silence_ms: u32,
    pad_ms: u32,
}

const SAMPLE_RATE: u32 = 16_000;

/// What the detector takes at a time: 16 ms.
const FRAME_SAMPLES: usize = 256;

/// Segments of a final report: as many as a day of talk has, and half a megabyte of JSON.
const MAX_SEGMENTS: usize = 8_192;

/// A score is of the 48 ms that end with its frame, so the last one that is high comes after the end of speech.
const LAG_MS: u32 = 48;

/// A frame this much below the threshold continues speech that it could not begin.
const HYSTERESIS: f32 = 0.15;

// === impl Vad ===

impl NodeType for Vad {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "VAD".to_owned(),
            aliases: vec!["RustVADNode".to_owned()],
            summary: "Finds speech in audio of 16 kHz, and gives its segments as JSON.".to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Json],
            parameters: parameters(),
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        Ok(Self {
            detector: Detector::default_boxed(),
            hiss: HissDetector::new(FRAME_SAMPLES),
            segmenter: Segmenter::new(read_params::<Settings>(params)?.rules()?),
            pending: Vec::with_capacity(FRAME_SAMPLES),
            scored: 0,
            last_score: 0.0,
            highest_score: 0.0,
            segments: VecDeque::new(),
            omitted_segments: 0,
        })
    }
}

impl Node for Vad {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let audio = expect_audio(input.data)?;
        let report = self.listen(&mono(&audio)?);
        out.emit(Output { data: Json::of(&report)?.into(), metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }

    fn flush(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let report = self.conclude();
        out.emit(Json::of(&report)?.into())?;
        Ok(())
    }
}

impl Vad {
    fn listen(&mut self, samples: &[f32]) -> SpeechReport {
        let mut heard = Heard { has_speech: self.segmenter.open().is_some(), ..Heard::default() };
        let mut rest = samples;
        while self.pending.len() + rest.len() >= FRAME_SAMPLES {
            let (head, tail) = rest.split_at(FRAME_SAMPLES - self.pending.len());
            self.pending.extend_from_slice(head);
            rest = tail;
            self.score_pending(&mut heard);
        }
        self.pending.extend_from_slice(rest);
        heard.segments.extend(self.segmenter.open().map(|range| SpeechSegment::new(&range, true)));
        SpeechReport {
            has_speech: heard.has_speech,
            confidence: heard.confidence.unwrap_or(self.last_score),
            segments: heard.segments,
            time_s: seconds(self.position()),
            r#final: false,
            omitted_segments: 0,
        }
    }

    fn conclude(&mut self) -> SpeechReport {
        let position = self.position();
        if !self.pending.is_empty() {
            self.pending.resize(FRAME_SAMPLES, 0.0);
            self.score_pending(&mut Heard::default());
        }
        if let Some(segment) = self.segmenter.finish(position) {
            self.keep(SpeechSegment::new(&segment, false));
        }
        SpeechReport {
            has_speech: !self.segments.is_empty(),
            confidence: self.highest_score,
            segments: self.segments.drain(..).collect(),
            time_s: seconds(position),
            r#final: true,
            omitted_segments: self.omitted_segments,
        }
    }

    fn score_pending(&mut self, heard: &mut Heard) {
        let score = self.detector.predict_f32(&self.pending).clamp(0.0, 1.0);
        // Loud white noise would be taken for speech.
        let score = if self.hiss.hears_only_hiss(&self.pending) { 0.0 } else { score };
        self.pending.clear();
        let frame = self.scored..self.scored + FRAME_SAMPLES as u64;
        self.scored = frame.end;
        self.last_score = score;
        self.highest_score = self.highest_score.max(score);
        heard.confidence = Some(heard.confidence.map_or(score, |highest| highest.max(score)));
        if let Some(segment) = self.segmenter.frame(frame, score) {
            let segment = SpeechSegment::new(&segment, false);
            heard.segments.push(segment);
            self.keep(segment);
        }
        heard.has_speech |= self.segmenter.open().is_some();
    }

    fn keep(&mut self, segment: SpeechSegment) {
        if self.segments.len() == MAX_SEGMENTS {
            self.segments.pop_front();
            self.omitted_segments += 1;
        }
        self.segments.push_back(segment);
    }

    /// Samples that came so far.
    fn position(&self) -> Position {
        self.scored + self.pending.len() as u64
    }
}

/// What one input brought.
#[derive(Default)]
struct Heard {
    has_speech: bool,
    confidence: Option<f32>,
    segments: Vec<SpeechSegment>,
}

// === impl SpeechSegment ===

impl SpeechSegment {
    fn new(range: &Range<Position>, open: bool) -> Self {
        Self { start_s: seconds(range.start), end_s: seconds(range.end), open }
    }
}

fn parameters() -> Vec<Parameter> {
    let ms = || Values::integer(0..=10_000, "ms");
    vec![
        Parameter::with_default(
            "threshold",
            Values::number(0.0..=1.0, ""),
            0.6,
            "Score from which 16 ms begin speech: less misses less of it, more hears less in noise.",
        ),
        Parameter::with_default("min_speech_ms", ms(), 100, "What is shorter is no speech.")
            .also_called(&["min_speech_duration_ms"]),
        Parameter::with_default("min_silence_ms", ms(), 300, "A shorter pause does not end a segment.")
            .also_called(&["min_silence_duration_ms"]),
        Parameter::with_default(
            "pad_ms",
            ms(),
            50,
            "What a segment gets before and after; at most min_silence_ms.",
        )
        .also_called(&["speech_pad_ms"]),
        Parameter::optional(
            "sample_rate",
            Values::integer(SAMPLE_RATE..=SAMPLE_RATE, "Hz"),
            "What is sent: taken from manifests of RustVADNode, as VAD hears this rate only.",
        ),
        Parameter::optional(
            "frame_duration_ms",
            Values::integer(1..=1_000, "ms"),
            "Without effect: taken from manifests of RustVADNode, where VAD always scores 16 ms.",
        ),
        Parameter::optional(
            "energy_threshold",
            Values::number(0.0..=1e9, ""),
            "Without effect: taken from manifests of RustVADNode, where VAD has its threshold.",
        ),
    ]
}

// === impl Settings ===

impl Settings {
    fn rules(&self) -> Result<Rules, ParamError> {
        if self.pad_ms > self.min_silence_ms {
            return Err(ParamError::Value {
                name: "pad_ms".to_owned(),
                value: self.pad_ms.to_string(),
                allowed: format!("integer, 0 to min_silence_ms, {} (ms)", self.min_silence_ms),
            });
        }
        Ok(Rules {
            begin: self.threshold,
            hold: (self.threshold - HYSTERESIS).max(self.threshold / 2.0),
            min_speech: samples_of(self.min_speech_ms),
            min_silence: samples_of(self.min_silence_ms),
            lag: samples_of(LAG_MS),
            pad: samples_of(self.pad_ms),
        })
    }
}

/// The mean of all channels, within full scale: the detector is not made for more.
fn mono(audio: &Audio) -> Result<Vec<f32>, NodeError> {
    let hz = audio.rate().get();
    if hz != SAMPLE_RATE {
        return Err(NodeError::failed(format_args!(
            "expects audio of {SAMPLE_RATE} Hz, got {hz} Hz: put an AudioResample with target_sample_rate {SAMPLE_RATE} in front"
        )));
    }
    let channels = audio.channels().as_usize();
    #[expect(clippy::cast_precision_loss, reason = "there are 32 channels at most")]
    let share = 1.0 / channels as f32;
    let samples = audio.to_f32();
    expect_numbers(&samples)?;
    let mix = |frame: &[f32]| (frame.iter().sum::<f32>() * share).clamp(-1.0, 1.0);
    Ok(samples.chunks_exact(channels).map(mix).collect())
}

fn samples_of(ms: u32) -> u64 {
    u64::from(ms) * u64::from(SAMPLE_RATE) / 1_000
}

#[expect(clippy::cast_precision_loss, reason = "positions stay far below 2^52")]
fn seconds(position: Position) -> f64 {
    position as f64 / f64::from(SAMPLE_RATE)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
