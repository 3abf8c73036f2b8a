//! Gives nothing.

use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Outputs, ParamError};

/// Takes its input, and gives nothing for it.
pub(crate) struct Silent;

impl NodeType for Silent {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Silent".to_owned(),
            aliases: Vec::new(),
            summary: "Takes its input, and gives nothing for it.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: Vec::new(),
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for Silent {
    fn process(&mut self, _input: Frame, _out: &mut dyn Outputs) -> Result<(), NodeError> {
        Ok(())
    }
}
