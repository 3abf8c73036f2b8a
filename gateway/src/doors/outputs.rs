//! What a unary run gave, as the one buffer for each sink that its answer has room for.

use std::collections::BTreeMap;

use bytes::{BufMut as _, BytesMut};
use remotemedia_core::Manifest;
use remotemedia_core::data::{Audio, Json, Kind, RuntimeData, Text};
use remotemedia_core::fault::{Fault, NodeFault};
use remotemedia_core::frame::{Frame, Metadata};
use remotemedia_protos::convert;
use remotemedia_protos::v1::DataBuffer;

/// One buffer for each sink that gave something. Of several pieces, audio of one format is joined end to end, text
/// is concatenated, and JSON documents become the elements of one array; other kinds have no such form. Where their
/// metadata differ, the later piece's word counts.
///
/// # Errors
/// A sink gave pieces that cannot be one: audio of different formats, several pictures, or different kinds.
pub(super) fn join(
    outputs: BTreeMap<String, Vec<Frame>>,
    manifest: &Manifest,
) -> Result<BTreeMap<String, DataBuffer>, Fault> {
    let mut joined = BTreeMap::new();
    for (sink, frames) in outputs {
        if let Some((data, metadata)) = join_sink(&sink, frames, manifest)? {
            let buffer = convert::data::to_wire(data, metadata)
                .map_err(|error| unanswerable(&sink, manifest, error.to_string()))?;
            joined.insert(sink, buffer);
        }
    }
    Ok(joined)
}

fn join_sink(
    sink: &str,
    frames: Vec<Frame>,
    manifest: &Manifest,
) -> Result<Option<(RuntimeData, Metadata)>, Fault> {
    let mut metadata = Metadata::new();
    let mut pieces = Vec::with_capacity(frames.len());
    for frame in frames {
        metadata.extend(frame.metadata);
        pieces.push(frame.data);
    }
    let Some(first) = pieces.first() else { return Ok(None) };
    if pieces.len() == 1 {
        return Ok(pieces.pop().map(|only| (only, metadata)));
    }
    let data = match first {
        RuntimeData::Audio(first) => join_audio(first, &pieces),
        RuntimeData::Json(_) => join_json(&pieces),
        RuntimeData::Text(first) => join_text(first, &pieces),
        RuntimeData::Video(_)
        | RuntimeData::Tensor(_)
        | RuntimeData::Binary(_)
        | RuntimeData::Control(_)
        | RuntimeData::Numpy(_)
        | RuntimeData::File(_) => None,
    };
    let data = data.ok_or_else(|| unanswerable(sink, manifest, differing(&pieces)))?;
    Ok(Some((data, metadata)))
}

fn join_audio(first: &Audio, pieces: &[RuntimeData]) -> Option<RuntimeData> {
    let form = |audio: &Audio| (audio.format(), audio.rate(), audio.channels());
    let mut samples = BytesMut::with_capacity(payload_bytes(pieces));
    for piece in pieces {
        let RuntimeData::Audio(audio) = piece else { return None };
        if form(audio) != form(first) {
            return None;
        }
        samples.put_slice(audio.samples());
    }
    // Whole sample frames end to end are whole sample frames.
    Audio::new(samples.freeze(), first.format(), first.rate(), first.channels()).ok().map(RuntimeData::from)
}

fn join_json(pieces: &[RuntimeData]) -> Option<RuntimeData> {
    let mut array = BytesMut::with_capacity(payload_bytes(pieces) + pieces.len() + 1);
    for piece in pieces {
        let RuntimeData::Json(json) = piece else { return None };
        array.put_u8(if array.is_empty() { b'[' } else { b',' });
        array.put_slice(json.bytes());
    }
    array.put_u8(b']');
    // The schema that the documents name is not that of an array of them.
    Some(Json::already_checked(array.freeze(), String::new()).into())
}

fn join_text(first: &Text, pieces: &[RuntimeData]) -> Option<RuntimeData> {
    let mut text = BytesMut::with_capacity(payload_bytes(pieces));
    let (mut language, mut channel) = (first.language(), first.channel());
    for piece in pieces {
        let RuntimeData::Text(piece) = piece else { return None };
        text.put_slice(piece.bytes());
        language = if piece.language() == language { language } else { "" };
        channel = if piece.channel() == channel { channel } else { "" };
    }
    Some(Text::already_checked(text.freeze(), language.to_owned()).on_channel(channel).into())
}

fn payload_bytes(pieces: &[RuntimeData]) -> usize {
    pieces.iter().map(|piece| piece.payload().len()).sum()
}

fn differing(pieces: &[RuntimeData]) -> String {
    let mut kinds: Vec<&str> = pieces.iter().map(|piece| piece.kind().name()).collect();
    kinds.dedup();
    match kinds.as_slice() {
        [kind] if *kind == Kind::Audio.name() => {
            "its pieces of audio differ in format, rate or channels, and a unary answer holds one buffer: use StreamPipeline".to_owned()
        }
        [kind] => format!(
            "it gave {} pieces of {kind}, and a unary answer holds one: use StreamPipeline",
            pieces.len()
        ),
        kinds => format!(
            "it gave {}, and a unary answer holds one buffer of one kind: use StreamPipeline",
            kinds.join(" then ")
        ),
    }
}

fn unanswerable(sink: &str, manifest: &Manifest, message: String) -> Fault {
    let node_type = manifest.nodes.iter().find(|node| node.id == sink).map(|node| node.node_type.clone());
    NodeFault {
        node: sink.to_owned(),
        node_type: node_type.unwrap_or_default(),
        sequence: 0,
        message,
        backtrace: String::new(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use remotemedia_core::data::{Binary, ChannelCount, SampleRate};
    use remotemedia_protos::v1::data_buffer::DataType;

    use super::*;

    #[test]
    fn audio_pieces_are_joined_end_to_end() {
        let DataType::Audio(audio) = of_sink(vec![audio(8_000, &[0.1, 0.2]), audio(8_000, &[0.3])]).unwrap()
        else {
            panic!("not audio")
        };
        assert_eq!((audio.num_samples, audio.sample_rate), (3, 8_000));
    }

    #[test]
    fn several_documents_become_an_array_and_one_stays_itself() {
        let check = |documents: &[&'static str], expect: &str| {
            let pieces = documents.iter().map(|text| Json::new((*text).into(), "s").unwrap().into());
            let DataType::Json(json) = of_sink(pieces.collect()).unwrap() else { panic!("not JSON") };
            assert_eq!(json.json_payload, expect);
        };
        check(&["{\"a\":1}"], "{\"a\":1}");
        check(&["{\"a\":1}", " 2 ", "[]"], "[{\"a\":1}, 2 ,[]]");
    }

    #[test]
    fn text_is_concatenated_and_keeps_what_its_pieces_agree_on() {
        let text = |text: &'static str, language: &str| Text::new(text.into(), language).unwrap().into();
        let DataType::Text(same) = of_sink(vec![text("ein", "de"), text("fach", "de")]).unwrap() else {
            panic!("not text")
        };
        assert_eq!((same.text_data.as_ref(), same.language.as_str()), (b"einfach".as_slice(), "de"));
        let DataType::Text(mixed) = of_sink(vec![text("un", "de"), text("deux", "fr")]).unwrap() else {
            panic!("not text")
        };
        assert_eq!(mixed.language, "");
    }

    #[test]
    fn pieces_that_cannot_be_one_are_refused_by_name() {
        let check = |pieces: Vec<RuntimeData>, expect: &str| {
            let fault = of_sink(pieces).unwrap_err();
            assert_eq!(fault.to_string(), format!("node 'sink' failed at sequence 0: {expect}"));
        };
        check(
            vec![audio(8_000, &[0.0]), audio(16_000, &[0.0])],
            "its pieces of audio differ in format, rate or channels, and a unary answer holds one buffer: use StreamPipeline",
        );
        check(
            vec![audio(8_000, &[0.0]), Text::from("and").into()],
            "it gave audio then text, and a unary answer holds one buffer of one kind: use StreamPipeline",
        );
        let bytes = || Binary::new("ab".into(), None).into();
        check(
            vec![bytes(), bytes()],
            "it gave 2 pieces of binary, and a unary answer holds one: use StreamPipeline",
        );
    }

    #[test]
    fn a_sink_that_gave_nothing_is_not_in_the_answer() {
        let outputs = BTreeMap::from([("sink".to_owned(), Vec::new())]);
        assert!(join(outputs, &Manifest::default()).unwrap().is_empty());
    }

    fn of_sink(pieces: Vec<RuntimeData>) -> Result<DataType, Fault> {
        let frames = pieces.into_iter().map(|data| Frame::new(0, data)).collect();
        let outputs = BTreeMap::from([("sink".to_owned(), frames)]);
        let mut joined = join(outputs, &Manifest::default())?;
        Ok(joined.remove("sink").unwrap().data_type.unwrap())
    }

    fn audio(rate: u32, samples: &[f32]) -> RuntimeData {
        Audio::from_f32(samples, SampleRate::new(rate).unwrap(), ChannelCount::MONO).unwrap().into()
    }
}
