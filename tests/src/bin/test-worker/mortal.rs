//! Dies of what it is given, as often as it is told.

use std::fs;
use std::path::PathBuf;

use remotemedia_core::data::Text;
use remotemedia_core::frame::Frame;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Outputs, ParamError, Parameter, Values, read_params,
};
use serde::Deserialize;

/// Gives its text in pieces, each with its number; dies of one text.
pub(crate) struct Mortal(Body);

/// The same, but it counts its inputs: it has a state.
pub(crate) struct CountingMortal(Body);

/// The same, but it must not be called twice for an input.
pub(crate) struct OnceMortal(Body);

struct Body {
    settings: Settings,
    /// Of the input that is under way.
    text: String,
    given: u32,
    inputs: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    kills: String,
    times: u32,
    after: u32,
    pieces: u32,
    graves: PathBuf,
}

impl Body {
    fn new(params: &Params) -> Result<Self, ParamError> {
        Ok(Self { settings: read_params(params)?, text: String::new(), given: u32::MAX, inputs: 0 })
    }

    /// Takes an input, and says that it has come: a file for each call.
    fn begin(&mut self, input: &Frame) -> Result<(), NodeError> {
        self.text = String::from_utf8_lossy(input.data.payload()).into_owned();
        self.given = 0;
        self.inputs += 1;
        self.note("call")?;
        Ok(())
    }

    /// Gives one piece, or dies of the text.
    fn go_on(&mut self, out: &mut dyn Outputs, counts: bool) -> Result<(), NodeError> {
        let Settings { kills, times, after, pieces, .. } = &self.settings;
        if *kills == self.text && self.given == *after && self.count("grave")? < *times {
            self.note("grave")?;
            std::process::abort();
        }
        if self.given < *pieces {
            let number = if counts { self.inputs } else { u64::from(self.given) };
            out.emit(Text::from(format!("{} {number}", self.text).as_str()).into())?;
        }
        self.given += 1;
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.given < self.settings.pieces
    }

    fn note(&self, what: &str) -> Result<(), NodeError> {
        let name = format!("{what}-{}-{}", std::process::id(), self.count(what)?);
        fs::write(self.settings.graves.join(name), &self.text).map_err(NodeError::failed)
    }

    fn count(&self, what: &str) -> Result<u32, NodeError> {
        let files = fs::read_dir(&self.settings.graves).map_err(NodeError::failed)?;
        let of_it = files.filter(|file| {
            file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().starts_with(what))
        });
        u32::try_from(of_it.count()).map_err(NodeError::failed)
    }
}

fn info(name: &str, repeatable: bool, stateless: bool) -> NodeInfo {
    NodeInfo {
        name: name.to_owned(),
        summary: "Gives its text in pieces, and dies of one text.".to_owned(),
        parameters: vec![
            Parameter::required("kills", Values::Text { max_bytes: 100 }, "The text that it dies of."),
            Parameter::with_default(
                "times",
                Values::integer(0..=u32::MAX, ""),
                1_000_000,
                "How often it does.",
            ),
            Parameter::with_default("after", Values::integer(0..=u32::MAX, ""), 0, "After how many pieces."),
            Parameter::with_default("pieces", Values::integer(0..=u32::MAX, ""), 1, "Pieces of an input."),
            Parameter::required(
                "graves",
                Values::Text { max_bytes: 4_096 },
                "Where it leaves a file for each call and death.",
            ),
        ],
        repeatable,
        stateless,
        ..NodeInfo::default()
    }
}

macro_rules! mortal {
    ($name:ident, $repeatable:expr, $stateless:expr, $counts:expr) => {
        impl NodeType for $name {
            fn info() -> NodeInfo {
                info(stringify!($name), $repeatable, $stateless)
            }

            fn new(params: &Params) -> Result<Self, ParamError> {
                Body::new(params).map(Self)
            }
        }

        impl Node for $name {
            fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
                self.0.begin(&input)?;
                self.0.go_on(out, $counts)
            }

            fn has_more(&self) -> bool {
                self.0.has_more()
            }

            fn resume(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
                self.0.go_on(out, $counts)
            }
        }
    };
}

mortal!(Mortal, true, true, false);
mortal!(CountingMortal, true, false, true);
mortal!(OnceMortal, false, true, false);
