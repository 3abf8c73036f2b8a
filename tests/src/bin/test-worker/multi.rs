//! Gives more than it takes.

use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;

/// Forwards its input several times.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Multi {
    outputs: usize,
}

impl NodeType for Multi {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Multi".to_owned(),
            aliases: Vec::new(),
            summary: "Forwards its input several times.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: vec![Parameter::required(
                "outputs",
                Values::integer(0..=u32::MAX, ""),
                "How often it forwards one input.",
            )],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        read_params(params)
    }
}

impl Node for Multi {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        for _ in 0..self.outputs {
            let Frame { data, metadata, .. } = input.clone();
            out.emit(Output { data, metadata, timestamp_us: None })?;
        }
        Ok(())
    }
}
