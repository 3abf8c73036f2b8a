//! A worker with a node that does what no node here should: it copies its input, so that a test can see itself see it.

use std::process::ExitCode;

use remotemedia_core::data::{Audio, RuntimeData};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Outputs, ParamError};
use remotemedia_worker::nodes::stock;

fn main() -> ExitCode {
    let registry = stock().register::<CopyingPassThrough>().expect("no stock node has that name");
    remotemedia_worker::run(registry)
}

/// Passes audio on as a copy of itself.
struct CopyingPassThrough;

impl NodeType for CopyingPassThrough {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "CopyingPassThrough".to_owned(),
            summary: "Passes audio on as a copy of itself: for tests that look for copies.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: Vec::new(),
            repeatable: true,
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for CopyingPassThrough {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let RuntimeData::Audio(audio) = &input.data else { return Err(NodeError::failed("not audio")) };
        let mut loan = out.loan(audio.samples().len())?;
        loan.bytes_mut().copy_from_slice(audio.samples());
        let copy = Audio::new(loan.freeze(), audio.format(), audio.rate(), audio.channels())?;
        Ok(out.emit(copy.into())?)
    }
}
