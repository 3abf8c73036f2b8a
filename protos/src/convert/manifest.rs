//! `PipelineManifest` ⇄ [`Manifest`].

use remotemedia_core::data::Kind;
use remotemedia_core::fault::{Fault, PlacementError};
use remotemedia_core::manifest::{
    Capabilities, Connection, CpuRequirement, GpuRequirement, Manifest, ManifestMetadata, NodeManifest,
    OnWorkerLoss, Params, ParseError, RuntimeHint,
};
use remotemedia_core::node::ParamError;
use serde_json::Value;

use super::json::{Object, TWICE};
use crate::v1::{self, DataTypeHint, PipelineManifest, WorkerLossPolicy};

/// Takes the manifest over as written; `Graph::check` tells whether it is a pipeline.
///
/// # Errors
/// Parameters that are no JSON object, with node, line and column; kinds of data and runtime hints that are not defined.
pub fn from_wire(manifest: PipelineManifest) -> Result<Manifest, Fault> {
    Ok(Manifest {
        version: manifest.version,
        metadata: manifest.metadata.map(metadata_from_wire).unwrap_or_default(),
        nodes: manifest.nodes.into_iter().map(node_from_wire).collect::<Result<_, _>>()?,
        connections: manifest
            .connections
            .into_iter()
            .map(|connection| Connection { from: connection.from, to: connection.to })
            .collect(),
        on_worker_loss: loss_policy_from_wire(manifest.on_worker_loss)?,
    })
}

/// The manifest as clients send it.
#[must_use]
pub fn to_wire(manifest: Manifest) -> PipelineManifest {
    let ManifestMetadata { name, description, created_at } = manifest.metadata;
    PipelineManifest {
        version: manifest.version,
        metadata: Some(v1::ManifestMetadata { name, description, created_at }),
        nodes: manifest.nodes.into_iter().map(node_to_wire).collect(),
        connections: manifest
            .connections
            .into_iter()
            .map(|connection| v1::Connection { from: connection.from, to: connection.to })
            .collect(),
        on_worker_loss: loss_policy_to_wire(manifest.on_worker_loss).into(),
    }
}

fn loss_policy_from_wire(number: i32) -> Result<OnWorkerLoss, Fault> {
    match WorkerLossPolicy::try_from(number) {
        Ok(WorkerLossPolicy::End) => Ok(OnWorkerLoss::End),
        Ok(WorkerLossPolicy::Restart) => Ok(OnWorkerLoss::Restart),
        Err(_) => Err(Fault::Parse(ParseError::Undefined {
            field: "on_worker_loss".to_owned(),
            value: i64::from(number),
            allowed: "0 is WORKER_LOSS_POLICY_END, 1 is WORKER_LOSS_POLICY_RESTART".to_owned(),
        })),
    }
}

const fn loss_policy_to_wire(policy: OnWorkerLoss) -> WorkerLossPolicy {
    match policy {
        OnWorkerLoss::End => WorkerLossPolicy::End,
        OnWorkerLoss::Restart => WorkerLossPolicy::Restart,
    }
}

// === Nodes ===

fn metadata_from_wire(metadata: v1::ManifestMetadata) -> ManifestMetadata {
    let v1::ManifestMetadata { name, description, created_at } = metadata;
    ManifestMetadata { name, description, created_at }
}

fn node_from_wire(node: v1::NodeManifest) -> Result<NodeManifest, Fault> {
    Ok(NodeManifest {
        params: params_from_wire(&node.id, &node.params)?,
        runtime_hint: hint_from_wire(&node.id, node.runtime_hint)?,
        input_types: kinds_from_wire(&node.id, "input_types", &node.input_types)?,
        output_types: kinds_from_wire(&node.id, "output_types", &node.output_types)?,
        id: node.id,
        node_type: node.node_type,
        is_streaming: node.is_streaming,
        capabilities: node.capabilities.map(capabilities_from_wire),
        host: node.host,
        own_process: node.own_process,
    })
}

fn node_to_wire(node: NodeManifest) -> v1::NodeManifest {
    v1::NodeManifest {
        id: node.id,
        node_type: node.node_type,
        params: Value::Object(node.params).to_string(),
        is_streaming: node.is_streaming,
        capabilities: node.capabilities.map(capabilities_to_wire),
        host: node.host,
        runtime_hint: hint_to_wire(node.runtime_hint).into(),
        input_types: node.input_types.into_iter().map(|kind| kind_to_wire(kind).into()).collect(),
        output_types: node.output_types.into_iter().map(|kind| kind_to_wire(kind).into()).collect(),
        own_process: node.own_process,
    }
}

/// Characters of a parser's complaint that a message shows.
const SHOWN: usize = 200;

/// Nothing means no parameters: most clients leave the field out then.
fn params_from_wire(node: &str, text: &str) -> Result<Params, Fault> {
    if text.trim().is_empty() {
        return Ok(Params::new());
    }
    serde_json::from_str(text).map(|Object(params)| params).map_err(|error| {
        let problem = error.to_string();
        let (problem, _place) = problem.rsplit_once(" at line ").unwrap_or((&problem, ""));
        let wanted = if problem.ends_with(TWICE) { "" } else { ", where a JSON object is wanted" };
        // It quotes what it got, however long that is.
        let problem: String = problem.chars().take(SHOWN).collect();
        let problem = format!("line {}, column {}: {problem}{wanted}", error.line(), error.column());
        Fault::Params { node: node.to_owned(), error: ParamError::Shape { problem } }
    })
}

// === Capabilities ===

fn capabilities_from_wire(wire: v1::CapabilityRequirements) -> Capabilities {
    Capabilities {
        gpu: wire.gpu.map(|gpu| GpuRequirement {
            kind: gpu.r#type,
            min_memory_gb: gpu.min_memory_gb,
            required: gpu.required,
        }),
        cpu: wire.cpu.map(|cpu| CpuRequirement { cores: cpu.cores, arch: cpu.arch }),
        memory_gb: (wire.memory_gb != 0.0).then_some(wire.memory_gb),
    }
}

fn capabilities_to_wire(capabilities: Capabilities) -> v1::CapabilityRequirements {
    v1::CapabilityRequirements {
        gpu: capabilities.gpu.map(|gpu| v1::GpuRequirement {
            r#type: gpu.kind,
            min_memory_gb: gpu.min_memory_gb,
            required: gpu.required,
        }),
        cpu: capabilities.cpu.map(|cpu| v1::CpuRequirement { cores: cpu.cores, arch: cpu.arch }),
        memory_gb: capabilities.memory_gb.unwrap_or(0.0),
    }
}

// === Kinds and hints ===

/// Declaring anything is declaring nothing: both are the empty list.
fn kinds_from_wire(node: &str, field: &str, numbers: &[i32]) -> Result<Vec<Kind>, Fault> {
    let kinds = numbers.iter().map(|number| kind_from_wire(node, field, *number));
    Ok(kinds.collect::<Result<Option<_>, _>>()?.unwrap_or_default())
}

/// None is any kind.
fn kind_from_wire(node: &str, field: &str, number: i32) -> Result<Option<Kind>, Fault> {
    match DataTypeHint::try_from(number) {
        Ok(DataTypeHint::Any | DataTypeHint::Unspecified) => Ok(None),
        Ok(DataTypeHint::Audio) => Ok(Some(Kind::Audio)),
        Ok(DataTypeHint::Video) => Ok(Some(Kind::Video)),
        Ok(DataTypeHint::Tensor) => Ok(Some(Kind::Tensor)),
        Ok(DataTypeHint::Json) => Ok(Some(Kind::Json)),
        Ok(DataTypeHint::Text) => Ok(Some(Kind::Text)),
        Ok(DataTypeHint::Binary) => Ok(Some(Kind::Binary)),
        Ok(DataTypeHint::Control) => Ok(Some(Kind::Control)),
        Ok(DataTypeHint::Numpy) => Ok(Some(Kind::Numpy)),
        Ok(DataTypeHint::File) => Ok(Some(Kind::File)),
        Err(_) => {
            Err(unsatisfied(node, field, number.to_string(), "the contract defines 0 to 8, 100 and 101"))
        }
    }
}

const fn kind_to_wire(kind: Kind) -> DataTypeHint {
    match kind {
        Kind::Audio => DataTypeHint::Audio,
        Kind::Video => DataTypeHint::Video,
        Kind::Tensor => DataTypeHint::Tensor,
        Kind::Json => DataTypeHint::Json,
        Kind::Text => DataTypeHint::Text,
        Kind::Binary => DataTypeHint::Binary,
        Kind::Control => DataTypeHint::Control,
        Kind::Numpy => DataTypeHint::Numpy,
        Kind::File => DataTypeHint::File,
    }
}

fn hint_from_wire(node: &str, number: i32) -> Result<RuntimeHint, Fault> {
    match v1::RuntimeHint::try_from(number) {
        Ok(v1::RuntimeHint::Unspecified) => Ok(RuntimeHint::Unspecified),
        Ok(v1::RuntimeHint::Rustpython) => Ok(RuntimeHint::Rustpython),
        Ok(v1::RuntimeHint::Cpython) => Ok(RuntimeHint::Cpython),
        Ok(v1::RuntimeHint::CpythonWasm) => Ok(RuntimeHint::CpythonWasm),
        Ok(v1::RuntimeHint::Auto) => Ok(RuntimeHint::Auto),
        Err(_) => Err(unsatisfied(node, "runtime_hint", number.to_string(), "the contract defines 0 to 4")),
    }
}

const fn hint_to_wire(hint: RuntimeHint) -> v1::RuntimeHint {
    match hint {
        RuntimeHint::Unspecified => v1::RuntimeHint::Unspecified,
        RuntimeHint::Rustpython => v1::RuntimeHint::Rustpython,
        RuntimeHint::Cpython => v1::RuntimeHint::Cpython,
        RuntimeHint::CpythonWasm => v1::RuntimeHint::CpythonWasm,
        RuntimeHint::Auto => v1::RuntimeHint::Auto,
    }
}

fn unsatisfied(node: &str, what: &str, value: String, have: &str) -> Fault {
    Fault::Placement(PlacementError::Unsatisfied {
        node: node.to_owned(),
        what: what.to_owned(),
        value,
        have: have.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_as_it_went_out() {
        let manifest = Manifest::from_yaml(
            "
version: v1
metadata: { name: speech, description: words, created_at: 2025-10-28T10:30:00Z }
nodes:
  - id: resample
    node_type: AudioResample
    params: { target_sample_rate: 16000, nested: { list: [1, null, \"a\"] } }
    is_streaming: true
    own_process: true
    host: here
    runtime_hint: cpython_wasm
    input_types: [audio]
    output_types: [audio, video, tensor, json, text, binary, control, numpy, file]
    capabilities:
      gpu: { type: cuda, min_memory_gb: 8.5, required: true }
      cpu: { cores: 4, arch: x86_64 }
      memory_gb: 2.5
  - id: vad
    node_type: VAD
connections:
  - { from: resample, to: vad }
",
        )
        .unwrap();
        assert_eq!(from_wire(to_wire(manifest.clone())).unwrap(), manifest);
        assert_eq!(from_wire(PipelineManifest::default()).unwrap(), Manifest::default());
    }

    #[test]
    fn params_that_are_no_object_are_answered_with_node_line_and_column() {
        let check = |params: &str, message: &str| {
            let node = v1::NodeManifest { params: params.to_owned(), ..vad() };
            let fault = node_from_wire(node).unwrap_err();
            assert_eq!(fault.to_string(), message);
            assert_eq!(fault.node(), Some("vad"));
        };
        check(
            "{\n  \"threshold\": ,\n}",
            "node 'vad': params: line 2, column 16: expected value, where a JSON object is wanted",
        );
        check(
            "[1]",
            "node 'vad': params: line 1, column 0: invalid type: sequence, expected a map, where a JSON object is wanted",
        );
        check(
            "{} {}",
            "node 'vad': params: line 1, column 4: trailing characters, where a JSON object is wanted",
        );
    }

    #[test]
    fn no_params_are_an_empty_object() {
        for params in ["", " \n", "{}"] {
            let node = v1::NodeManifest { params: params.to_owned(), ..vad() };
            assert!(node_from_wire(node).unwrap().params.is_empty(), "{params:?}");
        }
    }

    #[test]
    fn a_declaration_of_any_kind_declares_nothing() {
        let types = |hints: &[DataTypeHint]| {
            let input_types = hints.iter().map(|hint| (*hint).into()).collect();
            node_from_wire(v1::NodeManifest { input_types, ..vad() }).map(|node| node.input_types)
        };
        assert_eq!(types(&[DataTypeHint::Audio, DataTypeHint::Any]).unwrap(), []);
        assert_eq!(types(&[DataTypeHint::Audio, DataTypeHint::Json]).unwrap(), [Kind::Audio, Kind::Json]);
        assert_eq!(
            node_from_wire(v1::NodeManifest { input_types: vec![9], ..vad() }).unwrap_err().to_string(),
            "node 'vad' asks for input_types = 9: the contract defines 0 to 8, 100 and 101"
        );
    }

    #[test]
    fn a_runtime_hint_that_is_not_defined_is_named() {
        let fault = node_from_wire(v1::NodeManifest { runtime_hint: 17, ..vad() }).unwrap_err();
        assert_eq!(fault.to_string(), "node 'vad' asks for runtime_hint = 17: the contract defines 0 to 4");
    }

    fn vad() -> v1::NodeManifest {
        v1::NodeManifest { id: "vad".to_owned(), node_type: "VAD".to_owned(), ..Default::default() }
    }
}
