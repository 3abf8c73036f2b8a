//! Says what came together.

use remotemedia_core::data::Json;
use remotemedia_core::frame::Frame;
use remotemedia_core::joined::{Joined, Port};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Outputs, ParamError};
use serde_json::{Value, json};

/// Has ports `left`, which it cannot do without, and `right`; gives the texts that came on them as a JSON document.
pub(crate) struct Join;

impl NodeType for Join {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Join".to_owned(),
            summary: "Says what came on its ports together.".to_owned(),
            ports: vec![Port::new("left", &[]), Port::new("right", &[])],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for Join {
    fn process(&mut self, input: Frame, _out: &mut dyn Outputs) -> Result<(), NodeError> {
        let sequence = input.sequence;
        Err(NodeError::failed(format!("sequence {sequence} came without a port")))
    }

    fn process_joined(&mut self, mut inputs: Joined, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let words = |frame: Frame| String::from_utf8_lossy(frame.data.payload()).into_owned();
        let left = words(inputs.need("left")?);
        let right = inputs.take("right").map_or(Value::Null, |frame| words(frame).into());
        Ok(out.emit(Json::of(&json!({ "left": left, "right": right }))?.into())?)
    }
}
