//! A manifest as its author wrote it, with everything that is wrong with it.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fault::{Fault, PlacementError};
use crate::graph::{Graph, GraphError};
use crate::limits::Limits;
use crate::machine::{self, Machine};
use crate::node::NodeInfo;

use super::document::{Content, Document, Field, Format, SyntaxError};
use super::path::Path;
use super::problem::{Mistake, Problem, path_of, path_of_node, path_of_param, path_of_placement};
use super::{
    Capabilities, Connection, CpuRequirement, GpuRequirement, Manifest, ManifestMetadata, NodeManifest,
    Params,
};

/// A manifest as its author wrote it, with everything that is wrong with it.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// None where the text is neither JSON nor YAML.
    document: Option<Document>,
    /// What could be read, with nothing in the place of the rest.
    manifest: Manifest,
    problems: Vec<Problem>,
    /// Of these problems, the ones that were met when reading.
    unread: usize,
}

// === impl Draft ===

impl Draft {
    /// Reads a text. What is not as a manifest is written is a problem, and does not hide the next one.
    #[must_use]
    pub fn read(text: &str, format: Format) -> Self {
        match Document::read(text, format) {
            Ok(document) => {
                let mut reader = Reader { problems: Vec::new() };
                let manifest = reader.manifest(&document);
                let Reader { problems } = reader;
                Self { document: Some(document), manifest, unread: problems.len(), problems }
            }
            Err(SyntaxError { place, problem }) => {
                let mistake = Mistake::Syntax { problem };
                let problem = Problem { path: Path::root(), place, mistake };
                let (manifest, problems) = (Manifest::default(), vec![problem]);
                Self { document: None, manifest, unread: problems.len(), problems }
            }
        }
    }

    /// Holds it to the rules of pipelines.
    pub fn check(&mut self, limits: &Limits) {
        for error in Graph::problems(&self.manifest, limits) {
            self.add(path_of(&self.manifest, &error), error.into());
        }
    }

    /// Holds the names of its node types to those that can be run.
    pub fn check_names(&mut self, known: &BTreeSet<&str>) {
        let unknown = self.manifest.nodes.iter().filter(|node| !known.contains(node.node_type.as_str()));
        let known = known.iter().copied().collect::<Vec<_>>().join(", ");
        let unknown = unknown.map(|node| PlacementError::UnknownType {
            node: node.id.clone(),
            node_type: node.node_type.clone(),
            known: known.clone(),
            failing: String::new(),
        });
        let unknown: Vec<PlacementError> = unknown.collect();
        unknown.into_iter().for_each(|error| self.blame(&error.into()));
    }

    /// Holds its node types, and what flows between them, to those that can be run.
    pub fn check_types(&mut self, offered: &[NodeInfo]) {
        self.check_names(&offered.iter().flat_map(NodeInfo::names).collect());
        let end = |name: &str| {
            let (node, port) = self.manifest.find_input(name)?;
            Some(((node.id.as_str(), find(offered, &node.node_type)?), port.to_owned()))
        };
        let unfit = self.manifest.connections.iter().filter_map(|both| {
            let ((from, _), (to, port)) = (end(&both.from)?, end(&both.to)?);
            PlacementError::check_edge(from, to, &port).err()
        });
        let unfit: Vec<PlacementError> = unfit.collect();
        unfit.into_iter().for_each(|error| self.blame(&error.into()));
    }

    /// Holds what its nodes ask to what can be had: on this machine, if it is known on which they would run.
    pub fn check_demands(&mut self, machine: Option<&Machine>) {
        let asked = self.manifest.nodes.iter().flat_map(|node| machine::problems(node, machine));
        let asked: Vec<PlacementError> = asked.collect();
        asked.into_iter().for_each(|error| self.blame(&error.into()));
    }

    /// Holds the parameters to what the node types take.
    pub fn check_params(&mut self, offered: &[NodeInfo]) {
        let mut found = Vec::new();
        for (at, node) in self.manifest.nodes.iter().enumerate() {
            let Some(info) = find(offered, &node.node_type) else { continue };
            for error in info.problems(&node.params) {
                let path = path_of_param(&Path::root().field("nodes").element(at), &error);
                found.push((path, Mistake::Params { node: node.id.clone(), error }));
            }
        }
        found.into_iter().for_each(|(path, mistake)| self.add(path, mistake));
    }

    /// Finds the place of what a service refused the manifest for. Of a fault that is not the manifest's, nothing comes.
    pub fn blame(&mut self, fault: &Fault) {
        let found = match fault {
            Fault::Graph(error) => Some((path_of(&self.manifest, error), error.clone().into())),
            Fault::Placement(error) => Some((path_of_placement(&self.manifest, error), error.clone().into())),
            Fault::Params { node, error } => {
                let mistake = Mistake::Params { node: node.clone(), error: error.clone() };
                Some((path_of_param(&path_of_node(&self.manifest, node), error), mistake))
            }
            Fault::Parse(_)
            | Fault::Input { .. }
            | Fault::TypeMismatch { .. }
            | Fault::Entry(_)
            | Fault::Node(_)
            | Fault::Worker(_)
            | Fault::Poison(_)
            | Fault::Limit(_)
            | Fault::Deadline { .. }
            | Fault::Stream(_)
            | Fault::Version { .. }
            | Fault::Unavailable { .. }
            | Fault::Starting { .. }
            | Fault::Quarantined { .. }
            | Fault::Internal { .. } => None,
        };
        if let Some((path, mistake)) = found {
            self.add(path, mistake);
        }
    }

    /// What is wrong, in the order of the text.
    #[must_use]
    pub fn problems(&self) -> Vec<&Problem> {
        let mut problems: Vec<&Problem> = self.problems.iter().collect();
        problems.sort_by_key(|problem| problem.place);
        problems
    }

    /// The manifest, as far as it could be read.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest.
    ///
    /// # Errors
    /// Something is wrong: the first in the order of the text.
    pub fn into_manifest(self) -> Result<Manifest, Box<Problem>> {
        match self.problems().first() {
            Some(problem) => Err(Box::new((*problem).clone())),
            None => Ok(self.manifest),
        }
    }

    /// Notes what a rule found, unless it only follows from what could not be read.
    fn add(&mut self, path: Path, mistake: Mistake) {
        let Some(document) = &self.document else { return };
        let unread = |of: &Path| self.problems[..self.unread].iter().any(|problem| problem.path.holds(of));
        let ids = |at| Path::root().field("nodes").element(at).field("id");
        let names_a_node = matches!(mistake, Mistake::Graph(GraphError::UnknownNode { .. }));
        if unread(&path) || names_a_node && (0..self.manifest.nodes.len()).any(|at| unread(&ids(at))) {
            return;
        }
        let place = if mistake.is_of_the_name() { document.name_of(&path) } else { document.place_of(&path) };
        self.problems.push(Problem { path, place, mistake });
    }
}

fn find<'a>(offered: &'a [NodeInfo], node_type: &str) -> Option<&'a NodeInfo> {
    offered.iter().find(|info| info.answers_to(node_type))
}

/// Turns a document into a manifest, and notes what does not fit.
struct Reader {
    problems: Vec<Problem>,
}

/// The fields of a mapping, whose names are right.
struct Fields<'a> {
    path: Path,
    fields: &'a [Field],
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<(&'a Document, Path)> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        // Nothing written is as good as nothing there.
        (field.value.content != Content::Nothing).then(|| (&field.value, self.path.field(name)))
    }
}

impl Reader {
    fn manifest(&mut self, document: &Document) -> Manifest {
        let known = ["version", "metadata", "nodes", "connections", "on_worker_loss"];
        let Some(fields) = self.fields(document, Path::root(), &known, &["version", "nodes"]) else {
            return Manifest::default();
        };
        Manifest {
            version: self.text(&fields, "version"),
            metadata: self.nested(&fields, "metadata", Self::metadata).unwrap_or_default(),
            nodes: self.list(&fields, "nodes", Self::node),
            connections: self.list(&fields, "connections", Self::connection),
            on_worker_loss: self.nested(&fields, "on_worker_loss", Self::word).unwrap_or_default(),
        }
    }

    fn metadata(&mut self, document: &Document, path: Path) -> Option<ManifestMetadata> {
        let fields = self.fields(document, path, &["name", "description", "created_at"], &[])?;
        Some(ManifestMetadata {
            name: self.text(&fields, "name"),
            description: self.text(&fields, "description"),
            created_at: self.text(&fields, "created_at"),
        })
    }

    fn node(&mut self, document: &Document, path: Path) -> Option<NodeManifest> {
        const FIELDS: [&str; 10] = [
            "id",
            "node_type",
            "params",
            "is_streaming",
            "capabilities",
            "host",
            "runtime_hint",
            "input_types",
            "output_types",
            "own_process",
        ];
        let fields = self.fields(document, path, &FIELDS, &["id", "node_type"]);
        // A node that cannot be read keeps its place, for those behind it are counted.
        let Some(fields) = fields else { return Some(NodeManifest::default()) };
        Some(NodeManifest {
            id: self.text(&fields, "id"),
            node_type: self.text(&fields, "node_type"),
            params: self.nested(&fields, "params", Self::params).unwrap_or_default(),
            is_streaming: self.truth(&fields, "is_streaming"),
            capabilities: self.nested(&fields, "capabilities", Self::capabilities),
            host: self.text(&fields, "host"),
            runtime_hint: self.nested(&fields, "runtime_hint", Self::word).unwrap_or_default(),
            input_types: self.list(&fields, "input_types", Self::word),
            output_types: self.list(&fields, "output_types", Self::word),
            own_process: self.truth(&fields, "own_process"),
        })
    }

    fn connection(&mut self, document: &Document, path: Path) -> Option<Connection> {
        let fields = self.fields(document, path, &["from", "to"], &["from", "to"]);
        let Some(fields) = fields else { return Some(Connection::default()) };
        Some(Connection { from: self.text(&fields, "from"), to: self.text(&fields, "to") })
    }

    fn capabilities(&mut self, document: &Document, path: Path) -> Option<Capabilities> {
        let fields = self.fields(document, path, &["gpu", "cpu", "memory_gb"], &[])?;
        Some(Capabilities {
            gpu: self.nested(&fields, "gpu", Self::gpu),
            cpu: self.nested(&fields, "cpu", Self::cpu),
            memory_gb: self.nested(&fields, "memory_gb", Self::gigabytes),
        })
    }

    fn gpu(&mut self, document: &Document, path: Path) -> Option<GpuRequirement> {
        let fields = self.fields(document, path, &["type", "min_memory_gb", "required"], &[])?;
        Some(GpuRequirement {
            kind: self.text(&fields, "type"),
            min_memory_gb: self.nested(&fields, "min_memory_gb", Self::gigabytes).unwrap_or_default(),
            required: self.truth(&fields, "required"),
        })
    }

    fn cpu(&mut self, document: &Document, path: Path) -> Option<CpuRequirement> {
        let fields = self.fields(document, path, &["cores", "arch"], &[])?;
        let cores = self.nested(&fields, "cores", Self::count).unwrap_or_default();
        Some(CpuRequirement { cores, arch: self.text(&fields, "arch") })
    }

    fn params(&mut self, document: &Document, path: Path) -> Option<Params> {
        match self.json(document, &path)? {
            Value::Object(params) => Some(params),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.wrong_type(document, path, "a mapping from parameters to values");
                None
            }
        }
    }

    /// A value of any type, as JSON.
    fn json(&mut self, document: &Document, path: &Path) -> Option<Value> {
        Some(match &document.content {
            Content::Nothing => Value::Null,
            Content::Truth(truth) => Value::Bool(*truth),
            Content::Number(number) => Value::Number(number.clone()),
            Content::NoNumber(_) => {
                self.wrong_type(document, path.clone(), "a number");
                return None;
            }
            Content::Text(text) => Value::String(text.clone()),
            Content::List(elements) => {
                let values = elements.iter().enumerate();
                let values = values.map(|(at, element)| self.json(element, &path.element(at)));
                Value::Array(values.collect::<Option<_>>()?)
            }
            Content::Mapping(fields) => {
                let mut object = Params::new();
                for Field { place, name, value } in fields {
                    let value = self.json(value, &path.field(name))?;
                    if object.insert(name.clone(), value).is_some() {
                        let mistake = Mistake::RepeatedField { field: name.clone() };
                        self.problems.push(Problem { path: path.field(name), place: *place, mistake });
                    }
                }
                Value::Object(object)
            }
        })
    }

    // --- Fields by their types. Nothing written, and what does not fit, is the type's default.

    fn fields<'a>(
        &mut self,
        document: &'a Document,
        path: Path,
        known: &[&str],
        required: &[&str],
    ) -> Option<Fields<'a>> {
        let Content::Mapping(fields) = &document.content else {
            self.wrong_type(document, path, &format!("a mapping with {}", known.join(", ")));
            return None;
        };
        for (at, Field { place, name, .. }) in fields.iter().enumerate() {
            let field = name.clone();
            let mistake = if !known.contains(&name.as_str()) {
                Mistake::UnknownField { field, known: known.join(", ") }
            } else if fields[..at].iter().any(|before| before.name == *name) {
                Mistake::RepeatedField { field }
            } else {
                continue;
            };
            self.problems.push(Problem { path: path.field(name), place: *place, mistake });
        }
        let fields = Fields { path, fields };
        for name in required.iter().filter(|name| fields.get(name).is_none()) {
            let mistake = Mistake::MissingField { field: (*name).to_owned() };
            let path = fields.path.field(name);
            self.problems.push(Problem { path, place: document.place, mistake });
        }
        Some(fields)
    }

    fn nested<T>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        read: fn(&mut Self, &Document, Path) -> Option<T>,
    ) -> Option<T> {
        let (document, path) = fields.get(name)?;
        read(self, document, path)
    }

    fn list<T>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        read: fn(&mut Self, &Document, Path) -> Option<T>,
    ) -> Vec<T> {
        let Some((document, path)) = fields.get(name) else { return Vec::new() };
        let Content::List(elements) = &document.content else {
            self.wrong_type(document, path, "a list");
            return Vec::new();
        };
        let elements = elements.iter().enumerate();
        elements.filter_map(|(at, element)| read(self, element, path.element(at))).collect()
    }

    fn text(&mut self, fields: &Fields<'_>, name: &str) -> String {
        let Some((document, path)) = fields.get(name) else { return String::new() };
        if let Content::Text(text) = &document.content {
            return text.clone();
        }
        self.wrong_type(document, path, "text: what looks like a number or a truth is text in quotes");
        String::new()
    }

    fn truth(&mut self, fields: &Fields<'_>, name: &str) -> bool {
        let Some((document, path)) = fields.get(name) else { return false };
        if let Content::Truth(truth) = document.content {
            return truth;
        }
        self.wrong_type(document, path, "true or false");
        false
    }

    fn gigabytes(&mut self, document: &Document, path: Path) -> Option<f64> {
        let number = if let Content::Number(number) = &document.content { number.as_f64() } else { None };
        let number = number.filter(|number| *number >= 0.0);
        if number.is_none() {
            self.wrong_type(document, path, "a number of GB, 0 or more");
        }
        number
    }

    fn count(&mut self, document: &Document, path: Path) -> Option<u32> {
        let number = if let Content::Number(number) = &document.content { number.as_u64() } else { None };
        let number = number.and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            self.wrong_type(document, path, "an integer, 0 or more");
        }
        number
    }

    /// One of the words that an enum is written with.
    fn word<T: DeserializeOwned>(&mut self, document: &Document, path: Path) -> Option<T> {
        let known = words::<T>();
        let Content::Text(text) = &document.content else {
            self.wrong_type(document, path, &format!("one of {known}"));
            return None;
        };
        let word = serde_json::from_value(Value::String(text.clone())).ok();
        if word.is_none() {
            let mistake = Mistake::UnknownWord { value: text.clone(), known };
            self.problems.push(Problem { path, place: document.place, mistake });
        }
        word
    }

    fn wrong_type(&mut self, document: &Document, path: Path, expected: &str) {
        let mistake =
            Mistake::WrongType { value: document.content.to_string(), expected: expected.to_owned() };
        self.problems.push(Problem { path, place: document.place, mistake });
    }
}

/// The words of an enum, from what its own reader says of one that is none: ``expected one of `a`, `b` ``.
fn words<T: DeserializeOwned>() -> String {
    let refused = serde_json::from_value::<T>(Value::String(String::new()));
    let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
    let quoted: Vec<&str> = said.split('`').skip(1).step_by(2).filter(|word| !word.is_empty()).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use crate::data::Kind;
    use crate::manifest::Place;
    use crate::node::{Parameter, Values};

    use super::*;

    fn told(text: &str, format: Format) -> Vec<String> {
        let mut draft = Draft::read(text, format);
        draft.check(&Limits::default());
        let offered = [info("Hear", &[Kind::Audio], &[Kind::Json]), info("Say", &[Kind::Text], &[])];
        draft.check_types(&offered);
        draft.check_params(&offered);
        let problems = draft.problems();
        let told = problems.iter().map(|problem| {
            let Place { line, column } = problem.place;
            format!("{line}:{column}: {problem}")
        });
        told.collect()
    }

    fn info(name: &str, accepts: &[Kind], produces: &[Kind]) -> NodeInfo {
        NodeInfo {
            name: name.to_owned(),
            aliases: Vec::new(),
            summary: String::new(),
            accepts: accepts.to_vec(),
            produces: produces.to_vec(),
            parameters: vec![Parameter::optional("loudness", Values::number(0.0..=1.0, ""), "How loud.")],
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place_and_what_would_be_right() {
        let yaml = "
version: v2
nodes:
  - id: hear
    node_typ: Hear
    node_type: Haer
    params: [1]
    runtime_hint: cpyton
    capabilities: { memory_gb: .nan, cpu: { cores: -1 } }
  - id: say
    node_type: Say
    input_types: [text, pictures]
    is_streaming: 1
  - id: say
    node_type: Dance
connections:
  - { from: hear, to: sai }
  - { from: hear }
";
        assert_eq!(
            told(yaml, Format::Yaml),
            [
                "2:10: version: manifest version 'v2' is not supported: write 'v1'",
                "5:5: nodes[0].node_typ: unknown field 'node_typ': there are id, node_type, params, is_streaming, capabilities, host, runtime_hint, input_types, output_types, own_process; did you mean 'node_type'?",
                "6:16: nodes[0].node_type: node 'hear' is of type 'Haer', which no worker offers: there are Hear, Say; did you mean 'Hear'?",
                "7:13: nodes[0].params: expected a mapping from parameters to values, got a list of 1",
                "8:19: nodes[0].runtime_hint: 'cpyton' is not defined: there are unspecified, rustpython, cpython, cpython_wasm, auto; did you mean 'cpython'?",
                "9:32: nodes[0].capabilities.memory_gb: expected a number of GB, 0 or more, got NaN",
                "9:52: nodes[0].capabilities.cpu.cores: expected an integer, 0 or more, got -1",
                &format!(
                    "12:25: nodes[1].input_types[1]: 'pictures' is not defined: there are {}",
                    words::<Kind>()
                ),
                "13:19: nodes[1].is_streaming: expected true or false, got 1",
                "14:9: nodes[2].id: node id 'say' is used twice: ids are unique in a pipeline",
                "15:16: nodes[2].node_type: node 'say' is of type 'Dance', which no worker offers: there are Hear, Say",
                "17:23: connections[0].to: connection 'hear' -> 'sai' names 'sai', which is no node: there are hear, say; did you mean 'say'?",
                "18:5: connections[1].to: field 'to' is missing",
            ]
        );
    }

    #[test]
    fn parameters_are_told_each_at_its_own_place() {
        let yaml = "
version: v1
nodes:
  - { id: a, node_type: Say, params: { loudnes: 1 } }
  - id: b
    node_type: Hear
    params: { loudness: 1.5, pitch: 2 }
";
        assert_eq!(
            told(yaml, Format::Yaml),
            [
                "4:40: nodes[0].params.loudnes: node 'a': unknown parameter 'loudnes' = 1: there are loudness; did you mean 'loudness'?",
                "7:25: nodes[1].params.loudness: node 'b': parameter 'loudness' is 1.5: allowed is number, 0 to 1",
                "7:30: nodes[1].params.pitch: node 'b': unknown parameter 'pitch' = 2: there are loudness",
            ]
        );
    }

    #[test]
    fn rules_between_lines_are_told_at_their_line() {
        let check = |json: &str, expect: &str| assert_eq!(told(json, Format::Json), [expect]);
        let nodes = r#""nodes": [{"id": "a", "node_type": "Hear"}, {"id": "b", "node_type": "Say"}]"#;
        check(
            &format!(
                "{{\"version\": \"v1\",\n {nodes},\n \"connections\": [{{\"from\": \"a\", \"to\": \"b\"}}]}}"
            ),
            "3:18: connections[0]: connection 'a' -> 'b': 'a' produces json, 'b' expects text",
        );
        check(
            &format!(
                "{{\"version\": \"v1\",\n {nodes},\n \"connections\": [{{\"from\": \"b\", \"to\": \"b\"}}]}}"
            ),
            "3:18: connections[0]: the connections form a cycle through b: data must flow one way",
        );
    }

    #[test]
    fn what_follows_from_what_could_not_be_read_is_not_told_again() {
        assert_eq!(told("[]", Format::Json).len(), 1);
        assert_eq!(told("{", Format::Json), ["1:1: EOF while parsing an object"]);
        assert_eq!(told("version: v1\nnodes: 7\n", Format::Yaml), ["2:8: nodes: expected a list, got 7"]);
        let dangling = "version: v1\nnodes: [{ id: 5, node_type: Say }]\nconnections: [{ from: a, to: a }]";
        assert_eq!(told(dangling, Format::Yaml).len(), 1);
    }

    #[test]
    fn a_field_that_is_written_twice_is_told() {
        let json = r#"{"version": "v1", "version": "v1", "nodes": [{"id": "a", "node_type": "Say", "params": {"b": 1, "b": 2}}]}"#;
        let told = told(json, Format::Json);
        assert_eq!(told[0], "1:19: version: field 'version' is written twice");
        assert_eq!(told[1], "1:97: nodes[0].params.b: field 'b' is written twice");
    }
}
