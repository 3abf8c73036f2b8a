//! Says what it sees.

use remotemedia_core::data::{Json, Kind};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError};
use remotemedia_tests::golden::told;

/// Gives what its input says, as the golden corpus has it.
pub(crate) struct Tell;

impl NodeType for Tell {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Tell".to_owned(),
            summary: "Gives what its input says, as the golden corpus has it.".to_owned(),
            produces: vec![Kind::Json],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for Tell {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let said = Json::of(&told(&input.data, &input.metadata))?;
        Ok(out.emit(Output::from(said))?)
    }
}
