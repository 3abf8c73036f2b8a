//! A worker with a node of its own beside the stock ones; docs/writing-nodes.md goes through it.

use std::process::ExitCode;

use remotemedia_core::data::{Audio, Kind, RuntimeData, SampleFormat};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use remotemedia_worker::nodes::stock;
use serde::Deserialize;

fn main() -> ExitCode {
    let registry = stock().register::<Gain>().expect("no stock node is called Gain");
    remotemedia_worker::run(registry)
}

/// Makes audio louder or softer.
struct Gain {
    factor: f32,
}

#[derive(Deserialize)]
struct GainParams {
    decibels: f32,
}

impl NodeType for Gain {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Gain".to_owned(),
            aliases: Vec::new(),
            summary: "Makes audio louder or softer, and gives 32-bit floats.".to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Audio],
            parameters: vec![Parameter::required(
                "decibels",
                Values::number(-60.0..=24.0, "dB"),
                "How much louder.",
            )],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        let GainParams { decibels } = read_params(params)?;
        Ok(Self { factor: 10.0_f32.powf(decibels / 20.0) })
    }
}

impl Node for Gain {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let received = input.data.kind();
        let RuntimeData::Audio(audio) = input.data else {
            return Err(NodeError::WrongKind { expected: Kind::Audio, received });
        };
        let samples = audio.to_f32();
        let mut loan = out.loan(size_of_val(samples.as_ref()))?;
        for (louder, sample) in loan.floats_mut().iter_mut().zip(samples.iter()) {
            *louder = sample * self.factor;
        }
        let louder = Audio::new(loan.freeze(), SampleFormat::F32, audio.rate(), audio.channels())?;
        out.emit(Output { data: louder.into(), metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::data::{ChannelCount, SampleRate};
    use remotemedia_worker::Harness;

    use super::*;

    #[test]
    fn six_decibels_nearly_double() {
        let params = Params::from_iter([("decibels".to_owned(), 6.into())]);
        let mut gain = Gain::new(&params).unwrap();
        let half = 0.5_f32.to_le_bytes().to_vec();
        let rate = SampleRate::new(16_000).unwrap();
        let input = Audio::new(half.into(), SampleFormat::F32, rate, ChannelCount::MONO).unwrap();
        let outputs = Harness::default().run(&mut gain, Frame::new(0, input)).unwrap();
        let RuntimeData::Audio(output) = &outputs[0].data else { panic!("Gain gives audio") };
        assert!((output.to_f32()[0] - 0.997_6).abs() < 1e-4);
    }

    #[test]
    fn too_much_is_refused_by_name() {
        let params = Params::from_iter([("decibels".to_owned(), 90.into())]);
        let error = Gain::info().check(&params).unwrap_err();
        assert_eq!(error.to_string(), "parameter 'decibels' is 90: allowed is number, -60 to 24 (dB)");
    }
}
