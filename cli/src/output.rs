//! Where `run` puts what a pipeline gave: a WAV file, or JSON lines.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use hound::{WavSpec, WavWriter};
use remotemedia_core::data::{Audio, Control, ControlWord, Kind, MimeType, RuntimeData, SampleFormat};
use remotemedia_core::frame::Frame;
use serde_json::{Map, Value, json};

/// Takes the outputs of a run.
pub enum Sink {
    /// The audio of one sink node, as a WAV file.
    Wav(WavSink),
    /// Everything, a JSON object a line.
    Lines(LineSink),
    /// Both: in the lines, audio is described.
    WavAndLines(WavSink, LineSink),
    /// Everything, kept as JSON: for the one object that `--json` prints.
    Kept(Vec<Value>),
}

/// A WAV file that has its name only when it is complete.
pub struct WavSink {
    path: PathBuf,
    draft: PathBuf,
    /// Begun with the first audio, which says the format.
    begun: Option<Begun>,
}

/// JSON lines, to a file or to standard output.
pub struct LineSink {
    to: Box<dyn Write>,
    name: String,
}

/// An output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The system said no.
    #[error("cannot write {to}: {source}")]
    Write {
        /// The file, or standard output.
        to: String,
        /// What the system said.
        source: io::Error,
    },
    /// The WAV writer said no.
    #[error("cannot write {path}: {source}")]
    Wav {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: hound::Error,
    },
    /// Several files, of which it is not clear what each is for.
    #[error("outputs are one .wav file for audio, one file for JSON lines, or one of each: got {}", listed(.paths))]
    Several {
        /// As given.
        paths: Vec<PathBuf>,
    },
    /// A WAV file holds audio.
    #[error("node '{node}' gave {kind}, and {path} can only hold audio: write to a .jsonl file")]
    NotAudio {
        /// The sink.
        node: String,
        /// What it gave.
        kind: Kind,
        /// The file.
        path: PathBuf,
    },
    /// A WAV file holds one stream of audio.
    #[error(
        "nodes '{first}' and '{second}' both gave audio, and {path} holds that of one: write to a .jsonl file, or give the pipeline one sink"
    )]
    SecondNode {
        /// The sink that came first.
        first: String,
        /// The other.
        second: String,
        /// The file.
        path: PathBuf,
    },
    /// A WAV file has one format.
    #[error("the audio of node '{node}' became {now}, and {path} was begun with {before}")]
    Changed {
        /// The sink.
        node: String,
        /// The format that came.
        now: String,
        /// The format of the file.
        before: String,
        /// The file.
        path: PathBuf,
    },
}

struct Begun {
    node: String,
    spec: WavSpec,
    writer: WavWriter<BufWriter<File>>,
}

// === impl Sink ===

impl Sink {
    /// A WAV file if the name says so, else JSON lines; one of each if there are two names; standard output if there is
    /// none.
    ///
    /// # Errors
    /// A file cannot be made, or there are several of a sort.
    pub fn open(paths: &[PathBuf], keep: bool) -> Result<Self, OutputError> {
        let (wavs, lines): (Vec<_>, Vec<_>) = paths.iter().partition(|path| is_wav(path));
        match (&wavs[..], &lines[..]) {
            ([], []) if keep => Ok(Self::Kept(Vec::new())),
            ([], []) => Ok(Self::Lines(LineSink::stdout())),
            ([wav], []) => Ok(Self::Wav(WavSink::new(wav))),
            ([], [lines]) => LineSink::file(lines).map(Self::Lines),
            ([wav], [lines]) => Ok(Self::WavAndLines(WavSink::new(wav), LineSink::file(lines)?)),
            (_, _) => Err(OutputError::Several { paths: paths.to_vec() }),
        }
    }

    /// Takes one output of a sink node.
    ///
    /// # Errors
    /// It cannot be written, or not in this format.
    pub fn take(&mut self, node: &str, frame: &Frame) -> Result<(), OutputError> {
        match self {
            Self::Wav(wav) => wav.take(node, frame),
            Self::Lines(lines) => lines.take(&line(node, frame)),
            Self::WavAndLines(wav, lines) => {
                if let RuntimeData::Audio(audio) = &frame.data {
                    wav.write(node, audio)?;
                }
                lines.take(&line(node, frame))
            }
            Self::Kept(kept) => {
                kept.push(line(node, frame));
                Ok(())
            }
        }
    }

    /// Completes the file. Gives what was kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> Result<Vec<Value>, OutputError> {
        match self {
            Self::Wav(wav) => wav.finish().map(|()| Vec::new()),
            Self::Lines(lines) => lines.finish().map(|()| Vec::new()),
            Self::WavAndLines(wav, lines) => wav.finish().and_then(|()| lines.finish()).map(|()| Vec::new()),
            Self::Kept(kept) => Ok(kept),
        }
    }
}

// === impl WavSink ===

impl WavSink {
    fn new(path: &Path) -> Self {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".part");
        Self { path: path.to_owned(), draft: draft.into(), begun: None }
    }

    fn take(&mut self, node: &str, frame: &Frame) -> Result<(), OutputError> {
        let RuntimeData::Audio(audio) = &frame.data else {
            let (node, kind, path) = (node.to_owned(), frame.data.kind(), self.path.clone());
            return Err(OutputError::NotAudio { node, kind, path });
        };
        self.write(node, audio)
    }

    fn write(&mut self, node: &str, audio: &Audio) -> Result<(), OutputError> {
        let spec = spec(audio);
        let begun = match self.begun.take() {
            Some(begun) => self.begun.insert(begun),
            None => {
                let writer = WavWriter::create(&self.draft, spec).map_err(|error| self.failed(error))?;
                self.begun.insert(Begun { node: node.to_owned(), spec, writer })
            }
        };
        let path = || self.path.clone();
        if begun.node != node {
            let (first, second) = (begun.node.clone(), node.to_owned());
            return Err(OutputError::SecondNode { first, second, path: path() });
        }
        if begun.spec != spec {
            let (now, before) = (spec_words(spec), spec_words(begun.spec));
            return Err(OutputError::Changed { node: node.to_owned(), now, before, path: path() });
        }
        let written = match audio.format() {
            SampleFormat::I16 => write_all(&mut begun.writer, audio, i16::from_le_bytes),
            SampleFormat::I32 => write_all(&mut begun.writer, audio, i32::from_le_bytes),
            SampleFormat::F32 => write_all(&mut begun.writer, audio, f32::from_le_bytes),
        };
        written.map_err(|error| self.failed(error))
    }

    fn finish(mut self) -> Result<(), OutputError> {
        if let Some(begun) = self.begun.take() {
            begun.writer.finalize().map_err(|error| self.failed(error))?;
            fs::rename(&self.draft, &self.path).map_err(|error| self.failed(error.into()))?;
        }
        Ok(())
    }

    fn failed(&self, source: hound::Error) -> OutputError {
        OutputError::Wav { path: self.path.clone(), source }
    }
}

impl Drop for WavSink {
    fn drop(&mut self) {
        if self.begun.take().is_some() {
            // The run did not end well: half a file is worse than none.
            let _removed = fs::remove_file(&self.draft);
        }
    }
}

// === impl LineSink ===

impl LineSink {
    fn stdout() -> Self {
        Self { to: Box::new(io::stdout()), name: "standard output".to_owned() }
    }

    fn file(path: &Path) -> Result<Self, OutputError> {
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Self { to: Box::new(BufWriter::new(file)), name }),
            Err(source) => Err(OutputError::Write { to: name, source }),
        }
    }

    fn take(&mut self, line: &Value) -> Result<(), OutputError> {
        writeln!(self.to, "{line}").map_err(|source| self.failed(source))
    }

    fn finish(mut self) -> Result<(), OutputError> {
        self.to.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write { to: self.name.clone(), source }
    }
}

fn is_wav(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| end.eq_ignore_ascii_case("wav") || end.eq_ignore_ascii_case("wave"))
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// One output as a JSON object. Documents and text are contained; media are described.
fn line(node: &str, frame: &Frame) -> Value {
    let kind = frame.data.kind();
    let mut line = Map::from_iter([
        ("node".to_owned(), json!(node)),
        ("sequence".to_owned(), json!(frame.sequence)),
        ("kind".to_owned(), json!(kind)),
        (kind.name().to_owned(), content(&frame.data)),
    ]);
    if !frame.metadata.is_empty() {
        line.insert("metadata".to_owned(), json!(frame.metadata));
    }
    Value::Object(line)
}

fn content(data: &RuntimeData) -> Value {
    let bytes = data.payload().len();
    match data {
        RuntimeData::Audio(audio) => json!({
            "sample_rate": audio.rate().get(),
            "channels": audio.channels().get(),
            "format": audio.format(),
            "samples": audio.sample_count(),
            "seconds": audio.seconds(),
            "bytes": bytes,
        }),
        RuntimeData::Video(video) => json!({
            "width": video.size().width(),
            "height": video.size().height(),
            "format": video.coding().to_string(),
            "keyframe": video.is_marked_keyframe(),
            "frame_number": video.position().frame_number,
            "timestamp_us": video.position().timestamp_us,
            "bytes": bytes,
        }),
        RuntimeData::Tensor(tensor) => json!({
            "dtype": tensor.dtype(), "shape": tensor.shape(), "layout": tensor.layout(), "bytes": bytes,
        }),
        // It was checked to be JSON when it came.
        RuntimeData::Json(json) => json.parse().unwrap_or_default(),
        RuntimeData::Text(text) => json!(text.as_str()),
        RuntimeData::Binary(binary) => {
            json!({ "mime_type": binary.mime().map(MimeType::as_str), "bytes": bytes })
        }
        RuntimeData::Control(control) => of_control(control),
        RuntimeData::Numpy(array) => json!({
            "dtype": array.dtype(), "shape": array.shape(), "strides": array.strides(), "bytes": bytes,
        }),
        RuntimeData::File(file) => json!({
            "path": file.path().as_str(),
            "mime_type": file.mime.as_ref().map(MimeType::as_str),
            "offset": file.range().offset,
            "length": file.range().length,
            "size": file.range().size,
        }),
    }
}

fn of_control(control: &Control) -> Value {
    let (said, about) = match control.word() {
        ControlWord::CancelSpeculation { from, to } => {
            ("cancel_speculation", json!({ "from": from, "to": to }))
        }
        ControlWord::BatchHint { pieces } => ("batch_hint", json!({ "pieces": pieces })),
        ControlWord::DeadlineWarning { left_us } => ("deadline_warning", json!({ "left_us": left_us })),
    };
    json!({ said: about, "segment_id": control.segment_id, "timestamp_ms": control.timestamp_ms })
}

fn spec(audio: &Audio) -> WavSpec {
    let (bits_per_sample, sample_format) = match audio.format() {
        SampleFormat::I16 => (16, hound::SampleFormat::Int),
        SampleFormat::I32 => (32, hound::SampleFormat::Int),
        SampleFormat::F32 => (32, hound::SampleFormat::Float),
    };
    let channels = u16::try_from(audio.channels().get()).expect("core allows fewer channels than 2^16");
    WavSpec { channels, sample_rate: audio.rate().get(), bits_per_sample, sample_format }
}

fn spec_words(spec: WavSpec) -> String {
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = spec;
    let coding = match sample_format {
        hound::SampleFormat::Int => "integer",
        hound::SampleFormat::Float => "float",
    };
    format!("{sample_rate} Hz, {channels} channels, {bits_per_sample}-bit {coding}")
}

fn write_all<S: hound::Sample, const N: usize>(
    writer: &mut WavWriter<BufWriter<File>>,
    audio: &Audio,
    decode: impl Fn([u8; N]) -> S,
) -> hound::Result<()> {
    let (samples, _whole) = audio.samples().as_chunks::<N>();
    samples.iter().try_for_each(|bytes| writer.write_sample(decode(*bytes)))
}

#[cfg(test)]
mod tests {
    use remotemedia_core::data::{
        Binary, ChannelCount, Json, PictureCoding, PictureSize, PixelFormat, SampleRate, Text, Video,
        VideoPosition,
    };

    use super::*;

    fn audio(samples: &[f32], hz: u32) -> Frame {
        let rate = SampleRate::new(hz).unwrap();
        Frame::new(0, Audio::from_f32(samples, rate, ChannelCount::MONO).unwrap())
    }

    #[test]
    fn audio_is_one_wav_file_that_appears_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.wav");
        let mut sink = Sink::open(std::slice::from_ref(&path), false).unwrap();
        sink.take("resample", &audio(&[0.5, -0.5], 8_000)).unwrap();
        sink.take("resample", &audio(&[0.25], 8_000)).unwrap();
        assert!(!path.exists());
        sink.finish().unwrap();
        let mut reader = hound::WavReader::open(&path).unwrap();
        assert_eq!(reader.spec().sample_rate, 8_000);
        let samples: Vec<f32> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples, [0.5, -0.5, 0.25]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_wav_file_cannot_hold_is_refused_and_no_half_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.wav");
        let check = |node: &str, frame: &Frame, expect: &str| {
            let mut sink = Sink::open(std::slice::from_ref(&path), false).unwrap();
            sink.take("a", &audio(&[0.0], 8_000)).unwrap();
            let error = sink.take(node, frame).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("a", &Frame::new(1, Text::from("hi")), "node 'a' gave text");
        check("b", &audio(&[0.0], 8_000), "nodes 'a' and 'b' both gave audio");
        check("a", &audio(&[0.0], 16_000), "became 16000 Hz, 1 channels, 32-bit float");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn audio_and_all_that_is_said_of_it_go_to_a_file_each_and_two_of_a_sort_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [wav, lines] = ["out.wav", "out.jsonl"].map(|name| dir.path().join(name));
        let mut sink = Sink::open(&[lines.clone(), wav.clone()], false).unwrap();
        sink.take("transcript", &Frame::new(0, Text::from("hi"))).unwrap();
        sink.take("speech", &audio(&[0.5], 8_000)).unwrap();
        sink.finish().unwrap();
        assert_eq!(hound::WavReader::open(&wav).unwrap().len(), 1);
        assert_eq!(fs::read_to_string(&lines).unwrap().lines().count(), 2);
        let error = Sink::open(&["a.wav".into(), "b.WAV".into()], false).err().unwrap().to_string();
        assert!(error.ends_with("or one of each: got a.wav, b.WAV"), "{error}");
    }

    #[test]
    fn every_kind_has_a_line() {
        let check = |frame: Frame, expect: &str| assert_eq!(line("n", &frame).to_string(), expect);
        check(Frame::new(3, Text::from("hi")), r#"{"kind":"text","node":"n","sequence":3,"text":"hi"}"#);
        let json = Json::new(r#"{"has_speech":true}"#.into(), "").unwrap();
        check(Frame::new(4, json), r#"{"json":{"has_speech":true},"kind":"json","node":"n","sequence":4}"#);
        check(
            audio(&[0.0; 4], 8),
            r#"{"audio":{"bytes":16,"channels":1,"format":"f32","sample_rate":8,"samples":4,"seconds":0.5},"kind":"audio","node":"n","sequence":0}"#,
        );
        let (size, coding) = (PictureSize::new(2, 1).unwrap(), PictureCoding::Raw(PixelFormat::Nv12));
        let video = Video::new(vec![0; 4].into(), coding, size, VideoPosition::default()).unwrap();
        check(
            Frame::new(5, video),
            r#"{"kind":"video","node":"n","sequence":5,"video":{"bytes":4,"format":"NV12","frame_number":0,"height":1,"keyframe":false,"timestamp_us":0,"width":2}}"#,
        );
        let hint = Control::new(ControlWord::BatchHint { pieces: 8 }).unwrap();
        check(
            Frame::new(6, hint),
            r#"{"control":{"batch_hint":{"pieces":8},"segment_id":"","timestamp_ms":0},"kind":"control","node":"n","sequence":6}"#,
        );
        let png = Binary::new(vec![0; 3].into(), Some(MimeType::new("image/png").unwrap()));
        check(
            Frame::new(7, png),
            r#"{"binary":{"bytes":3,"mime_type":"image/png"},"kind":"binary","node":"n","sequence":7}"#,
        );
    }
}
