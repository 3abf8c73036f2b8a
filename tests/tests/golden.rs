//! The golden corpus, as nodes in both languages read it.

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use remotemedia_core::Kind;
use remotemedia_core::data::{
    NumpyDtype, PictureCoding, PixelFormat, RuntimeData, SampleFormat, TensorDtype, VideoCodec,
};
use remotemedia_protos::v1::DataBuffer;
use remotemedia_tests::golden::{Golden, told};
use remotemedia_tests::pipeline::{chain, document};
use remotemedia_tests::plant::{Process, START, program};
use remotemedia_tests::{Plant, Recipe};

#[tokio::test]
async fn golden_frames_are_read_alike_by_a_rust_node_and_a_python_node() {
    let plant = plant().await;
    for frame in Golden::kept() {
        for node_type in ["Tell", "PyTell"] {
            let node = format!("{{ id: node, node_type: {node_type} }}");
            let came = through(&plant, &[&node], &frame).await;
            assert_eq!(document(&came), frame.says, "{} read by {node_type}", frame.name);
        }
    }
    plant.finish().await;
}

#[tokio::test]
async fn golden_frames_pass_nodes_of_both_languages_unchanged_and_made_anew_say_the_same() {
    let plant = plant().await;
    let both = ["{ id: a, node_type: PassThrough }", "{ id: node, node_type: PyPass }"];
    let anew = ["{ id: anew, node_type: PyAgain }", "{ id: node, node_type: Tell }"];
    for frame in Golden::kept() {
        assert_eq!(through(&plant, &both, &frame).await, frame.buffer, "{}", frame.name);
        let says = document(&through(&plant, &anew, &frame).await);
        assert_eq!(says, frame.says, "{} made anew in Python", frame.name);
    }
    plant.finish().await;
}

#[tokio::test]
async fn the_golden_corpus_is_what_its_program_writes() {
    let dir = tempfile::tempdir().unwrap();
    let written = Process::start("golden", &program("golden"), &[dir.path().to_str().unwrap()]);
    assert!(written.ended(START).await.status.success(), "{:?}", written.log());
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (kept, written) = (files(&kept), files(dir.path()));
    assert_eq!(kept.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    for (name, bytes) in kept {
        assert!(
            bytes == written[&name],
            "{name} differs: cargo run -p remotemedia-tests --bin golden -- tests/golden"
        );
    }
}

#[test]
fn the_golden_corpus_has_every_kind_and_every_format() {
    let corpus = Golden::kept();
    let forms: BTreeSet<String> = corpus.iter().map(|frame| form(&frame.frame().0)).collect();
    let kinds: BTreeSet<Kind> = corpus.iter().map(|frame| frame.frame().0.kind()).collect();
    assert_eq!(kinds, Kind::ALL.into());
    let every = SampleFormat::ALL.map(|format| format!("audio {format:?}")).into_iter();
    let every = every.chain(PixelFormat::ALL.map(|format| format!("video {format:?}")));
    let every = every.chain(VideoCodec::ALL.map(|codec| format!("video {codec:?}")));
    let every = every.chain(TensorDtype::ALL.map(|dtype| format!("tensor {dtype:?}")));
    let every = every.chain(NumpyDtype::ALL.map(|dtype| format!("numpy {dtype:?}")));
    let missing: Vec<String> = every.filter(|form| !forms.contains(form)).collect();
    assert!(missing.is_empty(), "add to tests/src/golden/pieces.rs: {missing:?}");
    for frame in corpus {
        let (data, metadata) = frame.frame();
        // Through text, as it came from the file: numbers are those that are written.
        let says = told(&data, &metadata).to_string();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&says).unwrap(), frame.says, "{}", frame.name);
    }
}

/// What tells pieces of one kind apart that are coded by different lines.
fn form(data: &RuntimeData) -> String {
    match data {
        RuntimeData::Audio(audio) => format!("audio {:?}", audio.format()),
        RuntimeData::Video(video) => match video.coding() {
            PictureCoding::Raw(format) => format!("video {format:?}"),
            PictureCoding::Encoded(codec) => format!("video {codec:?}"),
        },
        RuntimeData::Tensor(tensor) => format!("tensor {:?}", tensor.dtype()),
        RuntimeData::Numpy(array) => format!("numpy {:?}", array.dtype()),
        RuntimeData::Json(_)
        | RuntimeData::Text(_)
        | RuntimeData::Binary(_)
        | RuntimeData::Control(_)
        | RuntimeData::File(_) => data.kind().to_string(),
    }
}

/// One where clients may name any file.
async fn plant() -> Plant {
    let settings = "file_roots = ['/']";
    Plant::of(Recipe { workers: 1, python: &["corpus"], settings, ..Recipe::default() }).await
}

async fn through(plant: &Plant, nodes: &[&str], frame: &Golden) -> DataBuffer {
    let input = [("", frame.buffer.clone())];
    let result = plant.client().execute(&chain(nodes), input).await;
    let mut result = result.unwrap_or_else(|error| panic!("{}: {}", frame.name, error.message));
    result.data_outputs.remove("node").unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect()
}
