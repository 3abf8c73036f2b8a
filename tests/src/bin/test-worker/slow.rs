//! Takes its time.

use std::time::{Duration, Instant};

use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;

/// Forwards its input after a while.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slow {
    ms: u64,
    #[serde(default)]
    tells_every_ms: Option<u64>,
}

impl NodeType for Slow {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Slow".to_owned(),
            aliases: Vec::new(),
            summary: "Forwards its input after a while.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: vec![
                Parameter::required(
                    "ms",
                    Values::integer(0..=u32::MAX, "ms"),
                    "How long it takes over one input.",
                ),
                Parameter::optional(
                    "tells_every_ms",
                    Values::integer(1..=u32::MAX, "ms"),
                    "How often it says that it is at work.",
                ),
            ],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        read_params(params)
    }
}

impl Node for Slow {
    #[expect(clippy::disallowed_methods, reason = "to be slow is what this node is for")]
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let whole = Duration::from_millis(self.ms);
        let pause = self.tells_every_ms.map_or(whole, Duration::from_millis);
        let began = Instant::now();
        while let Some(left) = whole.checked_sub(began.elapsed()) {
            std::thread::sleep(left.min(pause));
            if self.tells_every_ms.is_some() {
                out.working();
            }
        }
        out.emit(Output { data: input.data, metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }
}
