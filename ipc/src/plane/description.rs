//! What a descriptor says of each kind of data: the one match on [`RuntimeData`] of shared memory.

use bytes::Bytes;
use remotemedia_core::data::{
    Audio, Binary, ChannelCount, Control, ControlWord, FilePath, FileRange, FileReference, Json, Kind,
    MemoryOrder, MimeType, NumpyArray, NumpyDtype, PictureCoding, PictureSize, PixelFormat, RuntimeData,
    SampleFormat, SampleRate, Shape, Tensor, TensorDtype, Text, Video, VideoCodec, VideoPosition,
};
use remotemedia_core::frame::Metadata;
use serde::{Deserialize, Serialize};

use super::frames::FrameError;

/// All of a frame but its payload: what kind it is, numbers for the descriptor, and words for the metadata block.
#[derive(Debug)]
pub(super) struct Description {
    kind: Kind,
    fixed: [u64; FIXED],
    used: usize,
    extra: Extra,
}

/// What has no fixed length, in a block of its own.
#[derive(Serialize, Deserialize, Default, PartialEq, Debug)]
pub(super) struct Extra {
    metadata: Metadata,
    /// Strings that belong to the data, in an order that is its kind's.
    words: [String; 4],
    /// Numbers for which the descriptor has no room: the dimensions of very deep arrays.
    more: Vec<u64>,
}

/// Numbers that fit a descriptor.
const FIXED: usize = 16;

// === impl Description ===

impl Description {
    pub(super) fn of(data: &RuntimeData, metadata: &Metadata) -> Self {
        let extra = Extra { metadata: metadata.clone(), ..Extra::default() };
        let mut said = Self { kind: data.kind(), fixed: [0; FIXED], used: 0, extra };
        match data {
            RuntimeData::Audio(audio) => said.audio(audio),
            RuntimeData::Video(video) => said.video(video),
            RuntimeData::Tensor(tensor) => said.tensor(tensor),
            RuntimeData::Json(json) => said.words([json.schema(), "", "", ""]),
            RuntimeData::Text(text) => said.text(text),
            RuntimeData::Binary(binary) => said.words([written(binary.mime()), "", "", ""]),
            RuntimeData::Control(control) => said.control(control),
            RuntimeData::Numpy(array) => said.numpy(array),
            RuntimeData::File(file) => said.file(file),
        }
        said
    }

    /// What a descriptor of this kind said, with these numbers.
    pub(super) const fn read(kind: Kind, fixed: [u64; FIXED], extra: Extra) -> Self {
        Self { kind, fixed, used: FIXED, extra }
    }

    /// The data that has this payload, and the metadata of its frame.
    pub(super) fn into_data(self, payload: Bytes) -> Result<(RuntimeData, Metadata), FrameError> {
        let Extra { metadata, words, more } = self.extra;
        let said = Said { numbers: self.fixed.into_iter().chain(more), words };
        let data = match self.kind {
            Kind::Audio => said.audio(payload)?.into(),
            Kind::Video => said.video(payload)?.into(),
            Kind::Tensor => said.tensor(payload)?.into(),
            Kind::Json => Json::already_checked(payload, said.word()).into(),
            Kind::Text => said.text(payload)?.into(),
            Kind::Binary => Binary::new(payload, MimeType::known(said.word())?).into(),
            Kind::Control => said.control()?.into(),
            Kind::Numpy => said.numpy(payload)?.into(),
            Kind::File => said.file()?.into(),
        };
        Ok((data, metadata))
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn fixed(&self) -> [u64; FIXED] {
        self.fixed
    }

    /// Words for the metadata block; none if there is nothing to say.
    pub(super) fn extra(&self) -> Option<&Extra> {
        (self.extra != Extra::default()).then_some(&self.extra)
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            match self.fixed.get_mut(self.used) {
                Some(place) => *place = number,
                None => self.extra.more.push(number),
            }
            self.used += 1;
        }
    }

    fn words(&mut self, words: [&str; 4]) {
        self.extra.words = words.map(str::to_owned);
    }
}

/// What was said, number by number and word by word, in the order of saying.
struct Said<N> {
    numbers: N,
    words: [String; 4],
}

impl<N: Iterator<Item = u64>> Said<N> {
    fn number(&mut self) -> Result<u64, FrameError> {
        self.numbers.next().ok_or(FrameError::Short)
    }

    fn narrow(&mut self, what: &'static str) -> Result<u32, FrameError> {
        let value = self.number()?;
        u32::try_from(value).map_err(|_| FrameError::Range { what, value })
    }

    fn flag(&mut self) -> Result<bool, FrameError> {
        self.number().map(|number| number != 0)
    }

    /// A peer that lies about how many there are is noticed at the first that is missing.
    fn several<T>(&mut self, count: u64, next: impl Fn(u64) -> T) -> Result<Vec<T>, FrameError> {
        (0..count).map(|_| self.number().map(&next)).collect()
    }

    fn one_of<T: Copy>(&mut self, what: &'static str, all: &[T]) -> Result<T, FrameError> {
        let value = self.number()?;
        let found = usize::try_from(value).ok().and_then(|place| all.get(place));
        found.copied().ok_or(FrameError::Undefined { what, value })
    }

    /// The only word of the kind.
    fn word(self) -> String {
        let [word, ..] = self.words;
        word
    }
}

/// How one of these is said as a number. One that is not among them is said so that no reader takes it for another.
fn place_of<T: PartialEq>(all: &[T], one: T) -> u64 {
    all.iter().position(|other| *other == one).map_or(u64::MAX, |place| place as u64)
}

// === Audio ===

impl Description {
    fn audio(&mut self, audio: &Audio) {
        let format = place_of(&SampleFormat::ALL, audio.format());
        self.numbers([format, audio.rate().get().into(), audio.channels().get().into()]);
    }
}

impl<N: Iterator<Item = u64>> Said<N> {
    fn audio(mut self, samples: Bytes) -> Result<Audio, FrameError> {
        let format = self.one_of("sample format", &SampleFormat::ALL)?;
        let rate = SampleRate::new(self.narrow("sample rate")?)?;
        let channels = ChannelCount::new(self.narrow("channel count")?)?;
        Ok(Audio::new(samples, format, rate, channels)?)
    }
}

// === Video ===

impl Description {
    fn video(&mut self, video: &Video) {
        let (is_encoded, coding) = match video.coding() {
            PictureCoding::Raw(format) => (false, place_of(&PixelFormat::ALL, format)),
            PictureCoding::Encoded(codec) => (true, place_of(&VideoCodec::ALL, codec)),
        };
        let (size, VideoPosition { frame_number, timestamp_us }) = (video.size(), video.position());
        self.numbers([is_encoded.into(), coding, size.width().into(), size.height().into()]);
        self.numbers([frame_number, timestamp_us, video.is_marked_keyframe().into()]);
    }
}

impl<N: Iterator<Item = u64>> Said<N> {
    fn video(mut self, picture: Bytes) -> Result<Video, FrameError> {
        let coding = if self.flag()? {
            PictureCoding::Encoded(self.one_of("video codec", &VideoCodec::ALL)?)
        } else {
            PictureCoding::Raw(self.one_of("pixel format", &PixelFormat::ALL)?)
        };
        let size = PictureSize::new(self.narrow("width")?, self.narrow("height")?)?;
        let position = VideoPosition { frame_number: self.number()?, timestamp_us: self.number()? };
        Ok(Video::new(picture, coding, size, position)?.marked_keyframe(self.flag()?))
    }
}

// === Arrays ===

impl Description {
    fn tensor(&mut self, tensor: &Tensor) {
        self.numbers([place_of(&TensorDtype::ALL, tensor.dtype()), tensor.shape().rank() as u64]);
        self.numbers(tensor.shape().dimensions().iter().copied());
        self.words([tensor.layout(), "", "", ""]);
    }

    fn numpy(&mut self, array: &NumpyArray) {
        let MemoryOrder { c_contiguous, f_contiguous } = array.order();
        let (shape, strides) = (array.shape(), array.given_strides());
        self.numbers([place_of(&NumpyDtype::ALL, array.dtype()), c_contiguous.into(), f_contiguous.into()]);
        self.numbers([shape.rank() as u64, strides.len() as u64]);
        self.numbers(shape.dimensions().iter().copied());
        self.numbers(strides.iter().map(|stride| stride.cast_unsigned()));
    }
}

impl<N: Iterator<Item = u64>> Said<N> {
    fn tensor(mut self, elements: Bytes) -> Result<Tensor, FrameError> {
        let dtype = self.one_of("tensor dtype", &TensorDtype::ALL)?;
        let rank = self.number()?;
        let shape = Shape::new(self.several(rank, |length| length)?)?;
        Ok(Tensor::new(elements, dtype, shape, self.word())?)
    }

    fn numpy(mut self, bytes: Bytes) -> Result<NumpyArray, FrameError> {
        let dtype = self.one_of("numpy dtype", &NumpyDtype::ALL)?;
        let order = MemoryOrder { c_contiguous: self.flag()?, f_contiguous: self.flag()? };
        let (rank, strides) = (self.number()?, self.number()?);
        let shape = Shape::new(self.several(rank, |length| length)?)?;
        let strides = self.several(strides, u64::cast_signed)?;
        Ok(NumpyArray::new(bytes, dtype, shape, strides, order)?)
    }
}

// === Text ===

impl Description {
    /// What is usual is not said: it would take a metadata block.
    fn text(&mut self, text: &Text) {
        let encoding = if text.has_usual_encoding() { "" } else { text.encoding() };
        self.numbers([text.has_usual_encoding().into()]);
        self.words([text.language(), text.channel(), encoding, ""]);
    }
}

impl<N: Iterator<Item = u64>> Said<N> {
    fn text(mut self, text: Bytes) -> Result<Text, FrameError> {
        let has_usual_encoding = self.flag()?;
        let [language, channel, encoding, _] = self.words;
        let text = Text::already_checked(text, language).on_channel(channel);
        if has_usual_encoding { Ok(text) } else { Ok(text.in_encoding(&encoding)?) }
    }
}

// === What has no payload ===

const CANCEL_SPECULATION: u64 = 0;
const BATCH_HINT: u64 = 1;
const DEADLINE_WARNING: u64 = 2;

impl Description {
    fn control(&mut self, control: &Control) {
        self.numbers([control.timestamp_ms]);
        match control.word() {
            ControlWord::CancelSpeculation { from, to } => self.numbers([CANCEL_SPECULATION, from, to]),
            ControlWord::BatchHint { pieces } => self.numbers([BATCH_HINT, pieces.into()]),
            ControlWord::DeadlineWarning { left_us } => self.numbers([DEADLINE_WARNING, left_us]),
        }
        self.words([&control.segment_id, control.annotations(), "", ""]);
    }

    fn file(&mut self, file: &FileReference) {
        let FileRange { offset, length, size } = file.range();
        self.numbers([offset, length, size]);
        self.words([file.path().as_str(), &file.filename, written(file.mime.as_ref()), &file.stream_id]);
    }
}

impl<N: Iterator<Item = u64>> Said<N> {
    fn control(mut self) -> Result<Control, FrameError> {
        let timestamp_ms = self.number()?;
        let word = match self.number()? {
            CANCEL_SPECULATION => ControlWord::CancelSpeculation { from: self.number()?, to: self.number()? },
            BATCH_HINT => ControlWord::BatchHint { pieces: self.narrow("batch size")? },
            DEADLINE_WARNING => ControlWord::DeadlineWarning { left_us: self.number()? },
            value => return Err(FrameError::Undefined { what: "control word", value }),
        };
        let [segment_id, annotations, ..] = self.words;
        let mut control = Control::new(word)?.annotated(annotations)?;
        (control.segment_id, control.timestamp_ms) = (segment_id, timestamp_ms);
        Ok(control)
    }

    fn file(mut self) -> Result<FileReference, FrameError> {
        let range = FileRange { offset: self.number()?, length: self.number()?, size: self.number()? };
        let [path, filename, mime, stream_id] = self.words;
        let mut file = FileReference::new(FilePath::new(path)?, range)?;
        (file.filename, file.mime, file.stream_id) = (filename, MimeType::known(mime)?, stream_id);
        Ok(file)
    }
}

fn written(mime: Option<&MimeType>) -> &str {
    mime.map_or("", MimeType::as_str)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use remotemedia_core::data::any::{any_data, any_metadata};

    use super::*;
    use crate::control::codec;

    proptest! {
        #[test]
        fn what_a_descriptor_says_of_data_is_all_there_is_to_say(data in any_data(), metadata in any_metadata()) {
            let said = Description::of(&data, &metadata);
            let extra = said.extra().map(|extra| codec::encode_for_block(extra).unwrap());
            let extra = extra.map(|extra| codec::decode_from_block(&extra).unwrap()).unwrap_or_default();
            let read = Description::read(said.kind(), said.fixed(), extra);
            prop_assert_eq!(read.into_data(data.payload().clone()).unwrap(), (data, metadata));
        }
    }

    #[test]
    fn data_of_which_little_is_said_needs_no_metadata_block() {
        let audio = Audio::from_f32(&[0.5], SampleRate::new(8_000).unwrap(), ChannelCount::MONO).unwrap();
        let size = PictureSize::new(1, 1).unwrap();
        let coding = PictureCoding::Raw(PixelFormat::Gray8);
        let video = Video::new(vec![0].into(), coding, size, VideoPosition::default()).unwrap();
        let tensor =
            Tensor::new(vec![0; 8].into(), TensorDtype::U8, Shape::new([1, 2, 4]).unwrap(), "").unwrap();
        let short: [RuntimeData; 4] = [audio.into(), video.into(), tensor.into(), Text::from("said").into()];
        for data in short {
            assert_eq!(Description::of(&data, &Metadata::new()).extra(), None, "{data:?}");
        }
    }

    #[test]
    fn numbers_that_lie_are_refused() {
        let check = |kind: Kind, numbers: &[u64], expect: &str| {
            let mut fixed = [0; FIXED];
            fixed[..numbers.len()].copy_from_slice(numbers);
            let error = Description::read(kind, fixed, Extra::default()).into_data(Bytes::new()).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        check(Kind::Audio, &[7], "sample format 7 is not defined");
        check(Kind::Audio, &[0, 1 << 40], "sample rate is 1099511627776");
        check(Kind::Video, &[1, u64::MAX], "video codec 18446744073709551615 is not defined");
        check(Kind::Video, &[0, 0], "a picture of 0 x 0 pixels: width and height are 1 to 65536");
        check(Kind::Tensor, &[0, u64::MAX], "the descriptor has fewer numbers than it says");
        check(Kind::Tensor, &[0, 0], "a tensor of shape [] in f32 has 4 bytes, got 0");
        check(Kind::Numpy, &[0, 0, 0, 0, 90], "the descriptor has fewer numbers than it says");
        check(Kind::Control, &[0, 3], "control word 3 is not defined");
        check(Kind::File, &[], "the path \"\" is empty: name a file");
    }
}
