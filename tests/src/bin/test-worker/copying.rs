//! Copies what it could have forwarded.

use remotemedia_core::data::{Audio, Kind, RuntimeData};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError};

/// Gives a copy of its audio, in a block of its own: what tests of zero copies have to notice.
pub(crate) struct CopyingPassThrough;

impl NodeType for CopyingPassThrough {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "CopyingPassThrough".to_owned(),
            aliases: Vec::new(),
            summary: "Gives a copy of its audio.".to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Audio],
            parameters: Vec::new(),
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for CopyingPassThrough {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let received = input.data.kind();
        let RuntimeData::Audio(audio) = input.data else {
            return Err(NodeError::WrongKind { expected: Kind::Audio, received });
        };
        let mut loan = out.loan(audio.samples().len())?;
        loan.bytes_mut().copy_from_slice(audio.samples());
        let copy = Audio::new(loan.freeze(), audio.format(), audio.rate(), audio.channels())?;
        out.emit(Output { data: copy.into(), metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }
}
