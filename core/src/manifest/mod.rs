//! A pipeline as its author wrote it: from protobuf, JSON or YAML. [`crate::graph`] checks it.

mod document;
mod draft;
mod path;
mod problem;

use serde::{Deserialize, Serialize};

use crate::data::Kind;

pub use document::{Format, Place};
pub use draft::Draft;
pub use path::{Path, Step};
pub use problem::{Mistake, Parts, Problem};

/// The manifest version that this service speaks.
pub const VERSION: &str = "v1";

/// A pipeline as written, not yet checked.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: String,
    /// What people call the pipeline.
    #[serde(default)]
    pub metadata: ManifestMetadata,
    /// The processing elements.
    pub nodes: Vec<NodeManifest>,
    /// Who feeds whom.
    #[serde(default)]
    pub connections: Vec<Connection>,
    /// What becomes of a stream when a worker dies and its nodes' state with it.
    #[serde(default, skip_serializing_if = "OnWorkerLoss::is_end")]
    pub on_worker_loss: OnWorkerLoss,
}

/// What becomes of a stream when a worker dies and the state of its nodes with it. Where nodes have no state, the stream
/// goes on without anybody's noticing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnWorkerLoss {
    /// It ends with the error.
    #[default]
    End,
    /// All nodes begin anew, and the client is told what was lost.
    Restart,
}

/// What people call a pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManifestMetadata {
    /// Used in logs.
    pub name: String,
    /// For people.
    pub description: String,
    /// ISO 8601.
    pub created_at: String,
}

/// One processing element.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeManifest {
    /// Unique in the pipeline.
    pub id: String,
    /// The registered type to run.
    pub node_type: String,
    /// The type's parameters: a JSON object.
    #[serde(default)]
    pub params: Params,
    /// Whether one input may yield several outputs over time. True of every node type here, so there is nothing to
    /// refuse; false, which the wire cannot tell from nothing said, asks for nothing.
    #[serde(default)]
    pub is_streaming: bool,
    /// What the node needs of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// The machine to run on; empty means any. Refused unless it is this one.
    #[serde(default)]
    pub host: String,
    /// The language runtime to run in. Refused if no pool of that kind offers the type.
    #[serde(default)]
    pub runtime_hint: RuntimeHint,
    /// The kinds the author expects to send; empty means any.
    #[serde(default)]
    pub input_types: Vec<Kind>,
    /// The kinds the author expects to get; empty means any.
    #[serde(default)]
    pub output_types: Vec<Kind>,
    /// Run this node in a process apart from its neighbours.
    #[serde(default)]
    pub own_process: bool,
}

/// A node's parameters: a JSON object.
pub type Params = serde_json::Map<String, serde_json::Value>;

/// A directed edge: `node` or `node.port` at both ends.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The producer.
    pub from: String,
    /// The consumer.
    pub to: String,
}

/// What a node needs of its machine.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// A graphics processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuRequirement>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuRequirement>,
    /// Main memory in GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gb: Option<f64>,
}

/// A graphics processor.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GpuRequirement {
    /// `cuda`, `rocm` or `metal`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its memory in GB.
    pub min_memory_gb: f64,
    /// Whether the node cannot do without.
    pub required: bool,
}

/// Processors.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuRequirement {
    /// At least so many.
    pub cores: u32,
    /// `x86_64` or `aarch64`; empty means any.
    pub arch: String,
}

/// The language runtime that a node is meant for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeHint {
    /// Nothing was said.
    #[default]
    Unspecified,
    /// A Python interpreter in Rust.
    Rustpython,
    /// CPython.
    Cpython,
    /// CPython in WebAssembly.
    CpythonWasm,
    /// Whatever offers the type.
    Auto,
}

/// Why a text is not a manifest: the first thing that is wrong. A [`Draft`] knows the others.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum ParseError {
    /// Not the JSON of a manifest.
    #[error("manifest JSON, line {line}, column {column}: {problem}")]
    Json {
        /// Counted from 1.
        line: u64,
        /// Counted from 1, in characters.
        column: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Not the YAML of a manifest.
    #[error("manifest YAML, line {line}, column {column}: {problem}")]
    Yaml {
        /// Counted from 1.
        line: u64,
        /// Counted from 1, in characters.
        column: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A number that stands for nothing.
    #[error("manifest: {field} = {value} is not defined: {allowed}")]
    Undefined {
        /// The field.
        field: String,
        /// As sent.
        value: i64,
        /// What there is.
        allowed: String,
    },
}

// === impl OnWorkerLoss ===

impl OnWorkerLoss {
    const fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }
}

// === impl RuntimeHint ===

impl RuntimeHint {
    /// As manifests write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Rustpython => "rustpython",
            Self::Cpython => "cpython",
            Self::CpythonWasm => "cpython_wasm",
            Self::Auto => "auto",
        }
    }
}

// === impl Manifest ===

impl Manifest {
    /// # Errors
    /// Not the JSON of a manifest: the first thing that is wrong.
    pub fn from_json(text: &str) -> Result<Self, ParseError> {
        Draft::read(text, Format::Json).into_manifest().map_err(|problem| {
            let (Place { line, column }, problem) = (problem.place, problem.to_string());
            ParseError::Json { line, column, problem }
        })
    }

    /// # Errors
    /// Not the YAML of a manifest: the first thing that is wrong.
    pub fn from_yaml(text: &str) -> Result<Self, ParseError> {
        Draft::read(text, Format::Yaml).into_manifest().map_err(|problem| {
            let (Place { line, column }, problem) = (problem.place, problem.to_string());
            ParseError::Yaml { line, column, problem }
        })
    }

    /// The node that a name means and, where it has one, the name of its input: an exact id wins, then the last dot
    /// splits. A name whose node is not there means none.
    #[must_use]
    pub fn find_input<'a>(&self, name: &'a str) -> Option<(&NodeManifest, &'a str)> {
        let find = |id: &str| self.nodes.iter().find(|node| node.id == id);
        match find(name) {
            Some(node) => Some((node, "")),
            None => name.rsplit_once('.').and_then(|(id, port)| Some((find(id)?, port))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
version: v1
metadata: { name: speech }
nodes:
  - id: resample
    node_type: AudioResample
    params: { target_sample_rate: 16000 }
  - id: vad
    node_type: VAD
connections:
  - { from: resample, to: vad }
";

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = Manifest::from_yaml(YAML).unwrap();
        let json = Manifest::from_json(&serde_json::to_string(&yaml).unwrap()).unwrap();
        assert_eq!(yaml, json);
        assert_eq!(yaml.nodes[0].params["target_sample_rate"], 16_000);
    }

    #[test]
    fn an_unknown_key_is_answered_with_its_place() {
        let error = Manifest::from_json("{\n \"version\": \"v1\",\n \"knots\": []\n}").unwrap_err();
        assert_eq!(error.to_string(), "manifest JSON, line 1, column 1: nodes: field 'nodes' is missing");
        let error =
            Manifest::from_json("{\"nodes\": [],\n \"version\": \"v1\",\n \"knots\": []\n}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "manifest JSON, line 3, column 2: knots: unknown field 'knots': there are version, metadata, nodes, connections, on_worker_loss"
        );
        let error = Manifest::from_yaml("version: v1\nnodes: []\nconections: []\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "manifest YAML, line 3, column 1: conections: unknown field 'conections': there are version, metadata, nodes, connections, on_worker_loss; did you mean 'connections'?"
        );
    }
}
