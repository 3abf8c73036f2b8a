//! Keeps a diary of its life, in a file that outlives it.

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;

use remotemedia_core::data::{Json, Kind, RuntimeData};
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;
use serde_json::json;

/// Counts its inputs and says what it was told of each; gives the last word when its input has ended. What is called is
/// a line in a file.
pub(crate) struct Diary {
    file: File,
    inputs: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    path: String,
}

impl NodeType for Diary {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Diary".to_owned(),
            summary: "Counts its inputs and says what it was told of each.".to_owned(),
            accepts: vec![Kind::Text],
            parameters: vec![Parameter::required(
                "path",
                Values::Text { max_bytes: 65_536 },
                "Where its diary is.",
            )],
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        let Settings { path } = read_params(params)?;
        let file = File::options().append(true).create(true).open(&path);
        let file = file.expect("a test names a file that can be written");
        let diary = Self { file, inputs: 0 };
        diary.write("open");
        Ok(diary)
    }
}

impl Node for Diary {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let Frame { sequence, timestamp_us, metadata, data } = input;
        let received = data.kind();
        let RuntimeData::Text(text) = data else {
            return Err(NodeError::WrongKind { expected: Kind::Text, received });
        };
        self.write(format_args!("process {}", text.as_str()));
        self.inputs += 1;
        let said = json!({
            "inputs": self.inputs,
            "sequence": sequence,
            "timestamp_us": timestamp_us,
            "metadata": metadata,
        });
        out.emit(Output { data: Json::of(&said)?.into(), metadata, timestamp_us: None })?;
        Ok(())
    }

    fn flush(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
        self.write("flush");
        Ok(out.emit(Json::of(&json!({ "inputs": self.inputs, "over": true }))?.into())?)
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        self.write("close");
    }
}

impl Diary {
    fn write(&self, line: impl Display) {
        // One call, so that lines of sessions that write at once stay whole.
        (&self.file).write_all(format!("{line}\n").as_bytes()).expect("a diary can be written");
    }
}
