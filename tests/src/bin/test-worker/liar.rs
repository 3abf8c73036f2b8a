//! Gives another kind of data than it declares.

use remotemedia_core::data::{Kind, Text};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Outputs, ParamError};

/// Says that it gives audio, and gives text.
pub(crate) struct Liar;

impl NodeType for Liar {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Liar".to_owned(),
            summary: "Says that it gives audio, and gives text.".to_owned(),
            produces: vec![Kind::Audio],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for Liar {
    fn process(&mut self, _input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        Ok(out.emit(Text::from("a lie").into())?)
    }
}
