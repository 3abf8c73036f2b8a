//! The nodes that come with the Python SDK, each in a process of its own, on real data.

use std::path::Path;

use remotemedia_protos::v1::DataBuffer;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_tests::pipeline::{chain, connection, document, text, unconnected, words};
use remotemedia_tests::{Plant, Recipe, audio};

const RATE: usize = 48_000;
const RESAMPLE: &str = "{ id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }";

async fn plant(python: &'static [&'static str]) -> Plant {
    Plant::of(Recipe { workers: 1, python, ..Recipe::default() }).await
}

/// A second of silence, the name of a loudspeaker as a person says it, and a second of silence, at 48 kHz.
fn spoken(name: &str) -> Vec<f32> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in a workspace");
    let path = root.join(".cache/speech/alsa/usr/share/sounds/alsa").join(name);
    let mut file = hound::WavReader::open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: scripts/recordings fetches it", path.display()));
    assert_eq!((file.spec().sample_rate as usize, file.spec().channels), (RATE, 1));
    let samples =
        file.samples::<i16>().map(|sample| f32::from(sample.expect("the file is whole")) / 32_768.0);
    let silence = || std::iter::repeat_n(0.0, RATE);
    silence().chain(samples).chain(silence()).collect()
}

#[tokio::test]
async fn speech_is_resampled_found_written_down_and_spoken_in_four_processes() {
    let mut plant = plant(&[
        "remotemedia.nodes.silero_vad",
        "remotemedia.nodes.speech_to_text",
        "remotemedia.nodes.text_to_speech",
    ])
    .await;
    let mut manifest = unconnected(&[
        RESAMPLE,
        "{ id: vad, node_type: SileroVAD, params: { output: speech, min_silence_ms: 500 } }",
        "{ id: text, node_type: SpeechToText, params: { output: text, phrases: 'front center, rear left' } }",
        "{ id: transcript, node_type: PassThrough }",
        "{ id: speech, node_type: TextToSpeech }",
    ]);
    let connections = [("resample", "vad"), ("vad", "text"), ("text", "transcript"), ("text", "speech")];
    manifest.connections = connections.map(|(from, to)| connection(from, to)).into();
    plant.warm(&manifest, ("resample", audio::mono(48_000, &[0.0; RATE]))).await;
    let samples = [spoken("Front_Center.wav"), spoken("Rear_Left.wav")].concat();
    let chunks = samples.chunks(RATE / 10).map(|chunk| audio::mono(48_000, chunk));
    let (call, _session) = plant.client().stream(&manifest).await;
    let answers = call.run(chunks).await.closed();
    let transcript: Vec<&str> = answers.of("transcript").map(words).collect();
    assert_eq!(transcript, ["front center", "rear left"]);
    let pieces: Vec<_> = answers.of("speech").map(audio::of).collect();
    let bytes: usize = pieces.iter().map(|piece| piece.samples.len()).sum();
    assert!(pieces.iter().all(|piece| piece.sample_rate == 22_050), "{pieces:?}");
    assert!(bytes > 2 * 22_050, "more than a second is spoken, in 16 bits: {bytes} bytes");
    plant.finish().await;
}

/// As manifests of others write it.
#[tokio::test]
async fn a_manifest_that_names_silero_vad_node_with_its_own_parameters_runs() {
    let mut plant = plant(&["remotemedia.nodes.silero_vad"]).await;
    let vad = "{ id: vad, node_type: SileroVADNode, params: { threshold: 0.5, sample_rate: 16000, \
               min_speech_duration_ms: 250, min_silence_duration_ms: 500, speech_pad_ms: 0 } }";
    let manifest = chain(&[RESAMPLE, vad]);
    plant.warm(&manifest, ("resample", audio::mono(48_000, &[0.0; RATE]))).await;
    let input = [("resample", audio::mono(48_000, &spoken("Front_Center.wav")))];
    let result = plant.client().execute(&manifest, input).await.unwrap();
    let reports = document(&result.data_outputs["vad"]);
    let last = reports.as_array().and_then(|reports| reports.last()).cloned().unwrap_or(reports);
    assert_eq!(last["segments"].as_array().map(Vec::len), Some(1), "{last}");

    let both = "{ id: vad, node_type: SileroVADNode, params: { pad_ms: 1, speech_pad_ms: 2 } }";
    let error = plant.client().execute(&chain(&[both]), [("vad", audio::mono(16_000, &[0.0]))]).await;
    let said = error.unwrap_err().message;
    assert!(said.contains("'pad_ms' and 'speech_pad_ms' mean the same"), "{said}");
    plant.finish().await;
}

#[tokio::test]
async fn a_recording_is_understood_in_one_call_and_what_is_wrong_is_told_at_the_opening() {
    let plant = plant(&["remotemedia.nodes.speech_to_text"]).await;
    let understood = async |phrases: &str| {
        let node = format!(
            "{{ id: text, node_type: SpeechToText, params: {{ phrases: '{phrases}', partials: false }} }}"
        );
        let input = [("resample", audio::mono(48_000, &spoken("Side_Right.wav")))];
        plant.client().execute(&chain(&[RESAMPLE, &node]), input).await
    };
    let result = understood("side left, side right").await.unwrap();
    let said = document(&result.data_outputs["text"]);
    assert_eq!((&said["text"], &said["final"]), (&"side right".into(), &true.into()), "{said}");
    let error = understood("plugh").await.unwrap_err();
    assert_eq!(error.failing_node_id, "text");
    assert!(error.message.contains("no pronunciation is known of 'plugh'"), "{}", error.message);
    plant.finish().await;
}

#[tokio::test]
async fn texts_that_mean_alike_come_back_as_tensors_that_point_alike() {
    let plant = plant(&["remotemedia.nodes.text_embedding"]).await;
    let manifest = chain(&["{ id: embedding, node_type: TextEmbedding }"]);
    let mut directions = Vec::new();
    for sentence in ["a man is eating food", "someone has a meal", "the bank raised its rates"] {
        let result = plant.client().execute(&manifest, [("embedding", text(sentence))]).await.unwrap();
        directions.push(floats(&result.data_outputs["embedding"]));
    }
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let [this, alike, other] = &directions[..] else { panic!("three were asked for") };
    assert_eq!(this.len(), 384);
    assert!(near(this, alike) > near(this, other) + 0.2);
    plant.finish().await;
}

fn floats(buffer: &DataBuffer) -> Vec<f32> {
    let Some(DataType::Tensor(tensor)) = &buffer.data_type else { panic!("expected a tensor: {buffer:?}") };
    let (floats, rest) = tensor.data.as_chunks::<4>();
    assert!(rest.is_empty(), "half a float");
    floats.iter().copied().map(f32::from_le_bytes).collect()
}
