//! Forwards what comes.

use remotemedia_core::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError};

/// Forwards its input untouched: the payload by reference, with its metadata.
#[derive(Debug)]
pub struct PassThrough;

impl NodeType for PassThrough {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "PassThrough".to_owned(),
            aliases: Vec::new(),
            summary: "Forwards its input untouched, without a copy.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: Vec::new(),
            repeatable: true,
            stateless: true,
            ..NodeInfo::default()
        }
    }

    fn new(_params: &Params) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

impl Node for PassThrough {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        out.emit(Output { data: input.data, metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::Text;

    use super::*;
    use crate::harness::Harness;

    #[test]
    fn the_payload_is_forwarded_by_reference_and_the_metadata_with_it() {
        let mut frame = Frame::new(7, Text::from("hello"));
        frame.metadata.insert("speaker".to_owned(), "a".to_owned());
        let sent = frame.clone();
        let output = Harness::default().run(&mut PassThrough, frame).unwrap().remove(0);
        assert_eq!(output.data.payload().as_ptr(), sent.data.payload().as_ptr());
        assert_eq!((output.data, output.metadata), (sent.data, sent.metadata));
    }

    #[test]
    fn a_parameter_is_one_too_many() {
        let params = Params::from_iter([("gain".to_owned(), 1.into())]);
        let error = PassThrough::info().check(&params).unwrap_err();
        assert_eq!(error.to_string(), "unknown parameter 'gain' = 1: the type has none");
    }
}
