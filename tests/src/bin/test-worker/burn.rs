//! Uses the processor.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;

/// Forwards its input when it has used so much processor time over it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Burn {
    cpu_ms: u64,
}

impl NodeType for Burn {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Burn".to_owned(),
            aliases: Vec::new(),
            summary: "Forwards its input when it has used so much processor time over it.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: vec![Parameter::required(
                "cpu_ms",
                Values::integer(0..=u32::MAX, "ms"),
                "How much processor time it uses over one input.",
            )],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        read_params(params)
    }
}

impl Node for Burn {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let enough = used() + Duration::from_millis(self.cpu_ms);
        while used() < enough {}
        out.emit(Output { data: input.data, metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }
}

/// By this thread.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a clock").into()
}
