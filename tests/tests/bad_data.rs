//! Data that is not what it claims, or that its node cannot work with: each has its typed answer by both calls, after
//! which the next request is served by the same gateway with the same files open and no more memory.

use bytes::Bytes;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{AudioBuffer, AudioFormat, DataBuffer, DataChunk, ErrorResponse, ErrorType};
use remotemedia_tests::Plant;
use remotemedia_tests::client::context;
use remotemedia_tests::pipeline::{RESAMPLE, chain, document, json, text};

const CALCULATOR: &str = "{ id: calculator, node_type: Calculator }";
/// Each of them this often, so that what one of them leaks becomes visible.
const ROUNDS: usize = 10;

/// A piece of data, and what it is answered with.
struct Case {
    name: &'static str,
    node: &'static str,
    data: DataBuffer,
    error: ErrorType,
    /// What the message says.
    says: &'static [&'static str],
}

#[tokio::test]
async fn data_that_is_wrong_has_its_typed_answer_by_both_calls_and_the_next_request_is_served() {
    let plant = Plant::start().await;
    works(&plant).await;
    let before = plant.footprint().await;
    for _ in 0..ROUNDS {
        for case in audio().into_iter().chain(documents()) {
            let Case { name, error, says, .. } = &case;
            for answer in [unary(&plant, &case).await, streamed(&plant, &case).await] {
                let said = &answer.message;
                assert_eq!(answer.error_type(), *error, "{name}: {said}");
                assert_eq!(answer.failing_node_id, case.id(), "{name}: {said}");
                says.iter().for_each(|word| assert!(said.contains(word), "{name}: {said:?} has no {word:?}"));
            }
            works(&plant).await;
        }
    }
    plant.is_as_before(&before).await;
    plant.finish().await;
}

/// Audio that is none.
fn audio() -> Vec<Case> {
    let case = |name, alter: fn(&mut AudioBuffer), says| {
        let mut audio = AudioBuffer {
            samples: Bytes::from(vec![0; 400]),
            sample_rate: 16_000,
            channels: 2,
            format: AudioFormat::I16.into(),
            num_samples: 200,
            metadata_json: None,
        };
        alter(&mut audio);
        let data = DataBuffer { data_type: Some(DataType::Audio(audio)), ..DataBuffer::default() };
        Case { name, node: RESAMPLE, data, error: ErrorType::Validation, says }
    };
    vec![
        case("no channels", |audio| audio.channels = 0, &["0 channels", "1 to"]),
        case("many channels", |audio| audio.channels = 1_000_000, &["1000000 channels", "1 to"]),
        case("no rate", |audio| audio.sample_rate = 0, &["sample rate 0 Hz", "1 to 768000 Hz"]),
        case("a rate of 4 GHz", |audio| audio.sample_rate = u32::MAX, &["sample rate 4294967295 Hz", "1 to"]),
        case("half a sample", |audio| audio.samples.truncate(399), &["399"]),
        case("samples cut off", |audio| audio.samples.truncate(200), &["declares", "200", "100"]),
        case("another number of samples", |audio| audio.num_samples = 199, &["declares", "199", "200"]),
        case(
            "a number beyond memory",
            |audio| audio.num_samples = u64::MAX,
            &["declares", "of all channels"],
        ),
        case("no format", |audio| audio.format = 0, &["format 0", "1 is F32"]),
        case("a format that is none", |audio| audio.format = 77, &["format 77", "1 is F32"]),
        case(
            "another format",
            |audio| audio.format = AudioFormat::F32.into(),
            &["declares", "of all channels"],
        ),
    ]
}

/// JSON that is none, and what the calculator cannot work with.
fn documents() -> Vec<Case> {
    let case = |name, data, error, says| Case { name, node: CALCULATOR, data, error, says };
    let divide = json(r#"{"operation": "divide", "operands": [1, 0]}"#);
    vec![
        case("cut off", json("{\n  \"operation\":"), ErrorType::Validation, &["line 2, column 14"]),
        case("not a number", json("[NaN]"), ErrorType::Validation, &["line 1, column"]),
        case("depth", json("[".repeat(200_000)), ErrorType::Validation, &["line 1"]),
        case("a division by zero", divide, ErrorType::NodeExecution, &["zero"]),
        case("another kind", text("1 + 1"), ErrorType::TypeValidation, &["json", "text"]),
        Case {
            node: RESAMPLE,
            ..case("json for audio", json("{}"), ErrorType::TypeValidation, &["audio", "json"])
        },
        case(
            "audio for json",
            remotemedia_tests::audio::mono(16_000, &[0.0; 16]),
            ErrorType::TypeValidation,
            &["json", "audio"],
        ),
    ]
}

impl Case {
    fn id(&self) -> &'static str {
        if self.node == RESAMPLE { "resample" } else { "calculator" }
    }
}

async fn unary(plant: &Plant, case: &Case) -> ErrorResponse {
    plant.client().execute(&chain(&[case.node]), [(case.id(), case.data.clone())]).await.expect_err(case.name)
}

async fn streamed(plant: &Plant, case: &Case) -> ErrorResponse {
    let (call, _session) = plant.client().stream(&chain(&[case.node])).await;
    let node_id = case.id().to_owned();
    let chunk = DataChunk { node_id, buffer: Some(case.data.clone()), ..DataChunk::default() };
    call.say(Request::DataChunk(chunk)).await;
    let error = call.rest().await.error.expect(case.name);
    assert_eq!(context(&error)["failing_sequence"], 0, "{}: {}", case.name, error.message);
    error
}

async fn works(plant: &Plant) {
    let sum = json(r#"{"operation": "add", "operands": [20, 22]}"#);
    let result =
        plant.client().execute(&chain(&[CALCULATOR]), [("", sum)]).await.expect("the next call works");
    assert_eq!(document(&result.data_outputs["calculator"])["result"], 42);
}
