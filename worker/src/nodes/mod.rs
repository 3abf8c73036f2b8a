//! The nodes that every worker has.

mod audio_level;
mod audio_resample;
mod calculator;
mod hiss;
mod pass_through;
mod quantize;
mod rate_converter;
mod segmenter;
mod vad;

use remotemedia_core::data::{Audio, Kind, RuntimeData};
use remotemedia_core::node::NodeError;

use crate::registry::{DuplicateType, Registry};

pub use audio_level::{AudioLevel, Level, LevelReport};
pub use audio_resample::AudioResample;
pub use calculator::{CalculationError, Calculator};
pub use pass_through::PassThrough;
pub use vad::{SpeechReport, SpeechSegment, Vad};

/// All of them, registered.
#[must_use]
pub fn stock() -> Registry {
    registered().expect("the stock nodes have different names")
}

fn registered() -> Result<Registry, DuplicateType> {
    Registry::new()
        .register::<AudioLevel>()?
        .register::<AudioResample>()?
        .register::<Calculator>()?
        .register::<PassThrough>()?
        .register::<Vad>()
}

/// A Fourier transform panics over what is no number or becomes none by adding up, and the detector of speech never
/// recovers from it.
fn expect_numbers(samples: &[f32]) -> Result<(), NodeError> {
    const LOUDEST: f32 = 1e9;
    match samples.iter().position(|sample| sample.is_nan() || sample.abs() > LOUDEST) {
        None => Ok(()),
        Some(at) => Err(NodeError::failed(format_args!(
            "sample {at} (of all channels) is {}: float samples are numbers with full scale at ±1.0, and at most ±{LOUDEST:e}",
            samples[at]
        ))),
    }
}

fn expect_audio(data: RuntimeData) -> Result<Audio, NodeError> {
    let received = data.kind();
    let RuntimeData::Audio(audio) = data else {
        return Err(NodeError::WrongKind { expected: Kind::Audio, received });
    };
    Ok(audio)
}
