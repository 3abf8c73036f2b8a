//! Audio as clients send and get it.

use bytes::Bytes;
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::{AudioBuffer, AudioFormat, DataBuffer};

/// A tone of 440 Hz with a slow tremolo, so that no two pieces of it are equal.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sample counts stay far below 2^23")]
pub fn tone(rate: u32, samples: usize) -> Vec<f32> {
    let second = |sample: usize| sample as f32 / rate as f32;
    let turn = |second: f32, hertz: f32| (second * hertz * std::f32::consts::TAU).sin();
    (0..samples).map(second).map(|at| 0.4 * turn(at, 440.0) * (1.0 + 0.5 * turn(at, 3.0))).collect()
}

/// Mono 32-bit float samples as a buffer of the contract.
#[must_use]
pub fn mono(rate: u32, samples: &[f32]) -> DataBuffer {
    let bytes = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>();
    let audio = AudioBuffer {
        samples: Bytes::from(bytes),
        sample_rate: rate,
        channels: 1,
        format: AudioFormat::F32.into(),
        num_samples: samples.len() as u64,
        metadata_json: None,
    };
    DataBuffer { data_type: Some(DataType::Audio(audio)), ..DataBuffer::default() }
}

/// The audio in a buffer.
///
/// # Panics
/// It holds something else.
#[must_use]
pub fn of(buffer: &DataBuffer) -> &AudioBuffer {
    match &buffer.data_type {
        Some(DataType::Audio(audio)) => audio,
        other => panic!("expected audio, got {other:?}"),
    }
}

/// The 32-bit float samples in a buffer.
///
/// # Panics
/// It holds something else.
#[must_use]
pub fn samples(buffer: &DataBuffer) -> Vec<f32> {
    let audio = of(buffer);
    assert_eq!(audio.format(), AudioFormat::F32);
    let (samples, rest) = audio.samples.as_chunks::<4>();
    assert!(rest.is_empty(), "half a sample");
    samples.iter().copied().map(f32::from_le_bytes).collect()
}
