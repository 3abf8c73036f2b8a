//! Every kind of data, as clients send it, through a node in another process and back: equal to the byte.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use bytes::Bytes;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use prost::Message as _;
use remotemedia_core::data::any::{any_metadata, any_of};
use remotemedia_core::{Fault, Kind, RuntimeData};
use remotemedia_protos::convert;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::{
    AudioBuffer, AudioFormat, BinaryBuffer, ControlMessage, DataBuffer, DeadlineWarning, ErrorType,
    ExecuteRequest, FileBuffer, JsonData, NumpyBuffer, PixelFormat, StreamRequest, TensorBuffer, TensorDtype,
    TextBuffer, VideoCodec, VideoFrame, control_message::MessageType,
};
use remotemedia_tests::client::{chunk, fault};
use remotemedia_tests::pipeline::{RESAMPLE, chain, text, words};
use remotemedia_tests::{Plant, Recipe};
use tonic::Code;

const PASS: &str = "{ id: pass, node_type: PassThrough }";
/// Of one message, as the gateway has it by default.
const LIMIT: usize = 16 << 20;
/// What is not payload fits in here: the manifest, field numbers and lengths.
const ENVELOPE: usize = 64 << 10;

#[tokio::test]
async fn every_kind_passes_through_another_process_byte_for_byte() {
    let plant = plant().await;
    let mut runner = TestRunner::deterministic();
    let mut draw = |kind| {
        let frame = (any_of(kind), any_metadata()).new_tree(&mut runner).unwrap().current();
        convert::data::to_wire(frame.0, frame.1).unwrap()
    };
    for kind in Kind::ALL {
        let drawn: Vec<DataBuffer> = (0..30).map(|_| draw(kind)).collect();
        for sent in &drawn[..10] {
            passes_in_a_call(&plant, sent).await;
        }
        pass_on_a_stream(&plant, drawn).await;
    }
    plant.finish().await;
}

#[tokio::test]
async fn payloads_of_no_byte_and_of_one_byte_are_data() {
    let plant = plant().await;
    let kinds = || Kind::ALL.into_iter();
    let none = kinds().filter_map(|kind| of_size(kind, 0));
    let one = kinds().filter_map(|kind| of_size(kind, 1));
    let small: Vec<DataBuffer> = none.chain(one).map(annotated).collect();
    assert_eq!(small.len(), 8 + 8, "audio has no payload of one byte, and JSON none of no byte");
    for sent in &small {
        passes_in_a_call(&plant, sent).await;
    }
    pass_on_a_stream(&plant, small).await;
    plant.finish().await;
}

#[tokio::test]
async fn pictures_of_every_format_pass_at_1080p_and_at_odd_sizes() {
    let plant = plant().await;
    let formats = [
        (PixelFormat::Rgb24, 6_220_800, 6_211_803),
        (PixelFormat::Rgba32, 8_294_400, 8_282_404),
        (PixelFormat::Yuv420p, 3_110_400, 3_107_401),
        (PixelFormat::I420, 3_110_400, 3_107_401),
        (PixelFormat::Nv12, 3_110_400, 3_107_401),
        (PixelFormat::Gray8, 2_073_600, 2_070_601),
    ];
    let picture = |width, height, format: PixelFormat, bytes| {
        let picture =
            VideoFrame { pixel_data: content(bytes), width, height, format: format.into(), ..still() };
        annotated(DataType::Video(picture))
    };
    let mut pictures = Vec::new();
    for (format, full, odd) in formats {
        pictures.push(picture(1_920, 1_080, format, full));
        pictures.push(picture(1_919, 1_079, format, odd));
    }
    for codec in [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Av1] {
        let (format, codec) = (PixelFormat::Encoded.into(), codec.into());
        let unit = VideoFrame { pixel_data: content(4_711), format, codec, is_keyframe: true, ..still() };
        pictures.push(annotated(DataType::Video(VideoFrame { width: 1_920, height: 1_080, ..unit })));
    }
    for sent in &pictures {
        passes_in_a_call(&plant, sent).await;
    }
    pass_on_a_stream(&plant, pictures).await;
    plant.finish().await;
}

#[tokio::test]
async fn a_message_at_the_limit_is_served_in_every_kind_and_one_byte_more_is_refused() {
    let plant = plant().await;
    for kind in Kind::ALL {
        let large = of_size(kind, LIMIT - ENVELOPE).unwrap_or_else(|| panic!("{kind} has no large payload"));
        let in_a_call = |buffer| call(&buffer).encoded_len();
        passes_in_a_call(&plant, &filled_up(&large, LIMIT, in_a_call)).await;
        let over = call(&filled_up(&large, LIMIT + 1, in_a_call));
        let status = plant.client().execute_request(over).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{kind}: {status}");
        assert!(status.message().contains("16777217 bytes, over the limit of 16777216"), "{status}");

        let on_a_stream = |buffer| StreamRequest { request: Some(chunk(0, buffer)) }.encoded_len();
        pass_on_a_stream(&plant, vec![filled_up(&large, LIMIT, on_a_stream)]).await;
        let (mut stream, _session) = plant.client().stream(&chain(&[PASS])).await;
        stream.send(0, filled_up(&large, LIMIT + 1, on_a_stream)).await;
        let status = stream.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{kind}: {status}");
        passes_in_a_call(&plant, &annotated(of_size(Kind::Text, 1).unwrap())).await;
    }
    plant.finish().await;
}

#[tokio::test]
async fn a_file_is_not_served_until_the_operator_says_where_files_are() {
    let plant = Plant::start().await;
    let file = annotated(of_size(Kind::File, 0).unwrap());
    let error = plant.client().execute(&chain(&[PASS]), [("pass", file.clone())]).await.unwrap_err();
    assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::Validation, "pass"));
    assert!(error.message.contains("file_roots"), "{}", error.message);
    assert!(matches!(fault(&error), Fault::Input { .. }));

    let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
    let answers = call.run([text("before"), file]).await;
    assert_eq!(words(&answers.results[0].data_outputs["pass"]), "before");
    let on_stream = answers.error.unwrap();
    assert!(on_stream.message.contains("file_roots"), "{}", on_stream.message);
    plant.client().execute(&chain(&[PASS]), [("pass", text("after"))]).await.unwrap();
    plant.finish().await;
}

#[tokio::test]
async fn what_is_not_what_it_claims_is_refused_and_the_next_call_served() {
    let plant = plant().await;
    let picture = VideoFrame { width: 3, height: 3, format: PixelFormat::I420.into(), ..still() };
    for (refused, words) in [
        (DataType::Video(VideoFrame { pixel_data: content(13), ..picture }), "has 17 bytes, got 13"),
        (DataType::Tensor(TensorBuffer { shape: vec![2, 3], ..tensor(5) }), "has 6 bytes, got 5"),
        (
            DataType::Numpy(NumpyBuffer { strides: vec![2], shape: vec![4], ..numpy(4) }),
            "spans 7 bytes, got 4",
        ),
        (DataType::Binary(BinaryBuffer { mime_type: "png".to_owned(), ..BinaryBuffer::default() }), "MIME"),
        (DataType::Control(ControlMessage::default()), "deadline_warning"),
    ] {
        let sent = annotated(refused);
        let error = plant.client().execute(&chain(&[PASS]), [("pass", sent.clone())]).await.unwrap_err();
        assert_eq!((error.error_type(), error.failing_node_id.as_str()), (ErrorType::Validation, "pass"));
        assert!(error.message.contains(words), "{}", error.message);
        let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
        let on_stream = call.run([sent]).await.error.unwrap();
        assert_eq!(on_stream.error_type(), ErrorType::Validation);
        assert!(on_stream.message.contains(words), "{}", on_stream.message);
        passes_in_a_call(&plant, &annotated(of_size(Kind::Text, 1).unwrap())).await;
    }
    plant.finish().await;
}

#[tokio::test]
async fn audio_of_every_format_is_read_as_what_it_is() {
    let plant = plant().await;
    // Of one wave, in steps that each format has.
    let steps = || (0..3_200_i16).map(|at| 100 * (at % 40 - 20));
    let encoded = |format: AudioFormat, bytes: Vec<u8>| AudioBuffer {
        samples: bytes.into(),
        sample_rate: 32_000,
        channels: 1,
        format: format.into(),
        num_samples: 3_200,
        metadata_json: None,
    };
    let forms = [
        encoded(AudioFormat::I16, steps().flat_map(i16::to_le_bytes).collect()),
        encoded(AudioFormat::I32, steps().flat_map(|step| (i32::from(step) << 16).to_le_bytes()).collect()),
        encoded(
            AudioFormat::F32,
            steps().flat_map(|step| (f32::from(step) / 32_768.0).to_le_bytes()).collect(),
        ),
    ];
    let mut heard = Vec::new();
    for form in forms {
        let input = [("resample", annotated(DataType::Audio(form)))];
        let mut result = plant.client().execute(&chain(&[RESAMPLE]), input).await.unwrap();
        let (data, _) = convert::data::from_wire(result.data_outputs.remove("resample").unwrap()).unwrap();
        let RuntimeData::Audio(audio) = data else { panic!("not audio") };
        heard.push(audio.to_f32().into_owned());
    }
    let [first, others @ ..] = heard.as_slice() else { panic!("nothing came") };
    assert!(first.len() == 1_600 && first.iter().any(|sample| *sample > 0.02), "{} samples", first.len());
    for other in others {
        assert!(first.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-4) && other.len() == first.len());
    }
    plant.finish().await;
}

/// One where clients may name any file.
async fn plant() -> Plant {
    Plant::of(Recipe { settings: "file_roots = ['/']", ..Recipe::default() }).await
}

async fn passes_in_a_call(plant: &Plant, sent: &DataBuffer) {
    let result = plant.client().execute_request(call(sent)).await.unwrap();
    let mut result = result.unwrap_or_else(|error| panic!("{}", error.message));
    let came = result.data_outputs.remove("pass").unwrap();
    assert!(came == *sent, "{} came back as {}", told(sent), told(&came));
}

async fn pass_on_a_stream(plant: &Plant, sent: Vec<DataBuffer>) {
    let (stream, _session) = plant.client().stream(&chain(&[PASS])).await;
    let answers = stream.run(sent.clone()).await.closed();
    assert_eq!(answers.results.len(), sent.len());
    let came: Vec<&DataBuffer> = answers.of("pass").collect();
    assert_eq!(came.len(), sent.len(), "a result has no output of the node");
    for (came, sent) in came.into_iter().zip(&sent) {
        assert!(came == sent, "{} came back as {}", told(sent), told(came));
    }
}

fn call(buffer: &DataBuffer) -> ExecuteRequest {
    ExecuteRequest {
        manifest: Some(chain(&[PASS])),
        data_inputs: [("pass".to_owned(), buffer.clone())].into(),
        ..ExecuteRequest::default()
    }
}

/// So much of a message as is worth reading.
fn told(buffer: &DataBuffer) -> String {
    format!("{buffer:?}").chars().take(1_000).collect()
}

/// With metadata.
fn annotated(data: DataType) -> DataBuffer {
    let metadata =
        [("speaker", "ä"), ("", "nameless")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    DataBuffer { metadata: metadata.into(), data_type: Some(data) }
}

/// With as much metadata as makes the message `bytes` long.
fn filled_up(data: &DataType, bytes: usize, length: impl Fn(DataBuffer) -> usize) -> DataBuffer {
    let mut buffer = annotated(data.clone());
    let mut filling = 0;
    loop {
        buffer.metadata.insert("filling".to_owned(), "x".repeat(filling));
        match length(buffer.clone()) {
            there if there == bytes => return buffer,
            // Lengths of lengths: a step may overshoot by a byte or two.
            there if there < bytes => filling += bytes - there,
            there => filling -= there - bytes,
        }
    }
}

/// Data of this kind whose payload has so many bytes, if there is such: audio takes two at once. Kinds without payload
/// are all there is of them.
fn of_size(kind: Kind, bytes: usize) -> Option<DataType> {
    Some(match kind {
        Kind::Audio => DataType::Audio(bytes.is_multiple_of(2).then(|| audio(bytes))?),
        Kind::Video if bytes == 0 => DataType::Video(VideoFrame { width: 1, height: 1, ..dropped() }),
        Kind::Video => DataType::Video(gray(bytes)?),
        Kind::Tensor => DataType::Tensor(tensor(bytes)),
        Kind::Json => DataType::Json(JsonData { json_payload: digits(bytes)?, schema_type: "x".to_owned() }),
        Kind::Text => {
            let text_data = "x".repeat(bytes).into();
            DataType::Text(TextBuffer { text_data, language: "en".to_owned(), ..TextBuffer::default() })
        }
        Kind::Binary => DataType::Binary(BinaryBuffer {
            data: content(bytes),
            mime_type: "image/png; q=\"1\"".to_owned(),
        }),
        Kind::Control => {
            let warning = MessageType::DeadlineWarning(DeadlineWarning { deadline_us: 1 });
            let metadata = "{\"why\":  \"late\"}".to_owned();
            DataType::Control(ControlMessage {
                message_type: Some(warning),
                metadata,
                ..ControlMessage::default()
            })
        }
        Kind::Numpy => DataType::Numpy(numpy(bytes)),
        Kind::File => DataType::File(FileBuffer {
            path: "/srv/a.wav".to_owned(),
            size: 9,
            length: 4,
            ..FileBuffer::default()
        }),
    })
}

fn audio(bytes: usize) -> AudioBuffer {
    AudioBuffer {
        samples: content(bytes),
        sample_rate: 48_000,
        channels: 1,
        format: AudioFormat::I16.into(),
        num_samples: bytes as u64 / 2,
        metadata_json: Some("{\"speaker\": 1}".into()),
    }
}

/// What is said of every picture.
fn still() -> VideoFrame {
    VideoFrame { frame_number: 7, timestamp_us: u64::MAX, ..VideoFrame::default() }
}

/// What an encoder gives for a picture that it leaves out.
fn dropped() -> VideoFrame {
    VideoFrame { format: PixelFormat::Encoded.into(), codec: VideoCodec::Vp8.into(), ..still() }
}

/// As wide as high in rows of 4096 pixels, or one row.
fn gray(bytes: usize) -> Option<VideoFrame> {
    let (width, height) = if bytes < 4_096 { (bytes, 1) } else { (4_096, bytes / 4_096) };
    let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    let pixel_data = (u64::from(width) * u64::from(height) == bytes as u64).then(|| content(bytes))?;
    Some(VideoFrame { pixel_data, width, height, format: PixelFormat::Gray8.into(), ..still() })
}

/// A scalar, or a row.
fn tensor(bytes: usize) -> TensorBuffer {
    let shape = if bytes == 1 { Vec::new() } else { vec![bytes as u64] };
    TensorBuffer { data: content(bytes), shape, dtype: TensorDtype::U8.into(), layout: "N".to_owned() }
}

/// A scalar, or a row that is read backwards.
fn numpy(bytes: usize) -> NumpyBuffer {
    let (shape, strides) = if bytes == 1 { (vec![], vec![]) } else { (vec![bytes as u64], vec![-1]) };
    let dtype = "uint8".to_owned();
    NumpyBuffer { data: content(bytes), shape, strides, dtype, ..NumpyBuffer::default() }
}

/// A number, which JSON lets be long.
fn digits(bytes: usize) -> Option<String> {
    (bytes > 0).then(|| "7".repeat(bytes))
}

/// Bytes of which no two neighbours are equal, so that a shifted payload is another.
fn content(bytes: usize) -> Bytes {
    (0..=u8::MAX).cycle().take(bytes).collect::<Vec<_>>().into()
}
