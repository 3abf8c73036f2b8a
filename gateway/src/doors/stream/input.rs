//! What a client says on a stream, as the core's words.

#![expect(deprecated, reason = "clients that send audio chunks are served without their changing anything")]

use std::collections::BTreeMap;

use remotemedia_core::fault::{EntryError, Fault, StreamFault};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::TransportData;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::stream_control::Command;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{AudioChunk, DataBuffer, DataChunk, StreamControl, StreamInit, StreamRequest};

use super::Halt;
use crate::files::FileRoots;

/// A message after the first.
#[derive(Debug)]
pub(super) enum Input {
    /// Data for an entry.
    Chunk(TransportData),
    /// No more comes.
    Close,
    /// Drop what is under way.
    Cancel,
}

/// The first message.
///
/// # Errors
/// It is another.
pub(super) fn init(message: StreamRequest) -> Result<StreamInit, StreamFault> {
    let received = match message.request.ok_or(StreamFault::EmptyMessage)? {
        Request::Init(init) => return Ok(init),
        Request::DataChunk(_) => "data_chunk",
        Request::AudioChunk(_) => "audio_chunk",
        Request::Control(_) => "control",
    };
    Err(StreamFault::InitRequired { received: received.to_owned() })
}

/// The inputs of the set-up. They are the first of their entries and have sequence 0, so that the client's chunks for
/// the same entries go on with 1.
pub(super) fn first(inputs: BTreeMap<String, Frame>, manifest: &Manifest) -> Vec<TransportData> {
    let mut by_node: BTreeMap<String, BTreeMap<String, Frame>> = BTreeMap::new();
    for (name, frame) in inputs {
        let (node, port) = match manifest.find_input(&name) {
            Some((node, port)) => (node.id.as_str(), port),
            // The session says which entries there are.
            None => (name.as_str(), ""),
        };
        by_node.entry(node.to_owned()).or_default().insert(port.to_owned(), frame);
    }
    by_node.into_iter().map(|(node, frames)| TransportData { node, sequence: 0, frames }).collect()
}

/// A message after the first.
///
/// # Errors
/// It breaks the stream's rules, or its data is not what it claims to be.
pub(super) fn next(message: StreamRequest, files: &FileRoots) -> Result<Input, Halt> {
    match message.request.ok_or(StreamFault::EmptyMessage)? {
        Request::Init(_) => Err(StreamFault::InitRepeated.into()),
        Request::DataChunk(chunk) => data_chunk(chunk, files),
        Request::AudioChunk(chunk) => data_chunk(from_audio(chunk), files),
        Request::Control(control) => Ok(command(control)?),
    }
}

fn from_audio(chunk: AudioChunk) -> DataChunk {
    DataChunk {
        node_id: chunk.node_id,
        buffer: chunk
            .buffer
            .map(|audio| DataBuffer { data_type: Some(DataType::Audio(audio)), ..DataBuffer::default() }),
        named_buffers: BTreeMap::new(),
        sequence: chunk.sequence,
        timestamp_ms: chunk.timestamp_ms,
    }
}

fn data_chunk(chunk: DataChunk, files: &FileRoots) -> Result<Input, Halt> {
    let DataChunk { node_id: node, buffer, named_buffers, sequence, timestamp_ms } = chunk;
    // A client that says no time says 0.
    let timestamp_us = timestamp_ms.checked_mul(1_000).filter(|time| *time != 0);
    let unnamed = buffer.map(|buffer| (String::new(), buffer));
    let mut frames = BTreeMap::new();
    for (port, buffer) in named_buffers.into_iter().chain(unnamed) {
        let (data, metadata) = files.data_from_wire(buffer).map_err(|error| {
            let node = if port.is_empty() { node.clone() } else { format!("{node}.{port}") };
            Halt::at_chunk(Fault::Input { node, error }, sequence)
        })?;
        let frame = Frame { sequence, timestamp_us, metadata, data };
        if frames.insert(port.clone(), frame).is_some() {
            return Err(Halt::at_chunk(EntryError::RepeatedPort { node, port }, sequence));
        }
    }
    if frames.is_empty() {
        return Err(Halt::at_chunk(EntryError::NoData { node }, sequence));
    }
    Ok(Input::Chunk(TransportData { node, sequence, frames }))
}

fn command(control: StreamControl) -> Result<Input, StreamFault> {
    match Command::try_from(control.command) {
        Ok(Command::Close) => Ok(Input::Close),
        Ok(Command::Cancel) => Ok(Input::Cancel),
        Ok(Command::Unspecified) | Err(_) => Err(StreamFault::UnknownCommand { number: control.command }),
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_protos::v1::TextBuffer;

    use super::*;

    #[test]
    fn what_breaks_the_rules_is_answered_in_words_and_with_its_sequence() {
        let check = |request: Option<Request>, expect: &str, expect_sequence: Option<u64>| match next(
            StreamRequest { request },
            &FileRoots::default(),
        ) {
            Err(Halt::Fault(fault, sequence)) => {
                assert_eq!((fault.to_string().as_str(), sequence), (expect, expect_sequence));
            }
            Ok(_) | Err(_) => panic!("not a fault: {expect}"),
        };
        let text =
            DataBuffer { data_type: Some(DataType::Text(TextBuffer::default())), ..DataBuffer::default() };
        check(
            None,
            "a stream message has no request: set one of init, data_chunk, audio_chunk, control",
            None,
        );
        check(
            Some(Request::Init(StreamInit::default())),
            "'init' came twice: a stream runs one session",
            None,
        );
        check(
            Some(Request::Control(StreamControl { command: 9 })),
            "control command 9 is not defined: 1 is COMMAND_CLOSE, 2 is COMMAND_CANCEL",
            None,
        );
        check(
            Some(Request::DataChunk(DataChunk {
                node_id: "a".into(),
                buffer: Some(DataBuffer::default()),
                sequence: 7,
                ..Default::default()
            })),
            "input for node 'a': the buffer has no data: set one of audio, video, tensor, json, text, binary, control, numpy, file",
            Some(7),
        );
        check(
            Some(Request::DataChunk(DataChunk {
                node_id: "a".into(),
                named_buffers: BTreeMap::from([("left".to_owned(), DataBuffer::default())]),
                sequence: 8,
                ..Default::default()
            })),
            "input for node 'a.left': the buffer has no data: set one of audio, video, tensor, json, text, binary, control, numpy, file",
            Some(8),
        );
        check(
            Some(Request::DataChunk(DataChunk {
                node_id: "a".into(),
                buffer: Some(text.clone()),
                named_buffers: BTreeMap::from([(String::new(), text)]),
                sequence: 9,
                ..Default::default()
            })),
            "input for port '' of entry 'a' is given twice",
            Some(9),
        );
        check(
            Some(Request::DataChunk(DataChunk { node_id: "a".into(), sequence: 10, ..Default::default() })),
            "a chunk for entry 'a' has no data: set buffer, or named_buffers for an entry with ports",
            Some(10),
        );
    }

    #[test]
    fn a_stream_begins_with_its_set_up() {
        let control = StreamRequest { request: Some(Request::Control(StreamControl { command: 1 })) };
        assert_eq!(init(control), Err(StreamFault::InitRequired { received: "control".to_owned() }));
    }

    #[test]
    fn a_chunk_keeps_its_place_in_time() {
        let text = TextBuffer { text_data: "word".into(), ..TextBuffer::default() };
        let chunk = DataChunk {
            node_id: "a".into(),
            buffer: Some(DataBuffer { data_type: Some(DataType::Text(text)), ..DataBuffer::default() }),
            sequence: 3,
            timestamp_ms: 40,
            ..DataChunk::default()
        };
        let message = StreamRequest { request: Some(Request::DataChunk(chunk)) };
        let Ok(Input::Chunk(input)) = next(message, &FileRoots::default()) else { panic!("not a chunk") };
        let times: Vec<_> = input.frames.values().map(|frame| frame.timestamp_us).collect();
        assert_eq!((input.node.as_str(), input.sequence, times), ("a", 3, vec![Some(40_000)]));
    }

    #[test]
    fn inputs_of_the_set_up_for_ports_of_one_node_go_together() {
        let manifest =
            Manifest::from_yaml("version: v1\nnodes: [{ id: a, node_type: A }, { id: b.c, node_type: B }]");
        let frame = || Frame::new(0, remotemedia_core::Text::from("x"));
        let names = ["a.left", "a.right", "b.c", "other"].map(|name| (name.to_owned(), frame()));
        let inputs = first(BTreeMap::from(names), &manifest.unwrap());
        let ports = |input: &TransportData| {
            (input.node.clone(), input.frames.keys().cloned().collect::<Vec<_>>().join(","))
        };
        let expected = [("a", "left,right"), ("b.c", ""), ("other", "")];
        let expected = expected.map(|(node, ports)| (node.to_owned(), ports.to_owned()));
        assert_eq!(inputs.iter().map(ports).collect::<Vec<_>>(), expected);
    }
}
