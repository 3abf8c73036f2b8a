//! Goes wrong on command.

use remotemedia_core::data::Text;
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;

/// Forwards its input, and goes wrong at one sequence.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    how: How,
    at: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    /// Says no.
    Fail,
    /// Panics, which ends the session and not the process.
    Panic,
    /// Ends the process as a failed check of a C library does.
    Abort,
    /// Ends the process as if all were well.
    Exit,
    /// Gives text, whatever came.
    WrongKind,
    /// Panics when its input has ended, whatever the sequence.
    PanicInFlush,
    /// Panics before there is any input.
    PanicInNew,
}

impl NodeType for Fault {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Fault".to_owned(),
            aliases: Vec::new(),
            summary: "Forwards its input, and goes wrong at one sequence.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: vec![
                Parameter::required(
                    "how",
                    Values::choice(&[
                        "fail",
                        "panic",
                        "abort",
                        "exit",
                        "wrong_kind",
                        "panic_in_flush",
                        "panic_in_new",
                    ]),
                    "What it does then.",
                ),
                Parameter::required(
                    "at",
                    Values::integer(0..=u32::MAX, ""),
                    "The sequence of the input at which it does it.",
                ),
            ],
            repeatable: false,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        let made: Self = read_params(params)?;
        assert!(!matches!(made.how, How::PanicInNew), "told to panic when made");
        Ok(made)
    }
}

impl Node for Fault {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let Frame { sequence, metadata, mut data, .. } = input;
        if sequence == self.at {
            match self.how {
                How::Fail => return Err(NodeError::failed(format_args!("told to fail at {sequence}"))),
                How::Panic => panic!("told to panic at {sequence}"),
                How::Abort => std::process::abort(),
                How::Exit => std::process::exit(0),
                How::WrongKind => data = Text::from("not what came").into(),
                How::PanicInFlush | How::PanicInNew => {}
            }
        }
        out.emit(Output { data, metadata, timestamp_us: None })?;
        Ok(())
    }

    fn flush(&mut self, _out: &mut dyn Outputs) -> Result<(), NodeError> {
        assert!(!matches!(self.how, How::PanicInFlush), "told to panic in flush");
        Ok(())
    }
}
