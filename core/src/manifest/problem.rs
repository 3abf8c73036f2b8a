//! One thing that is wrong with a manifest, and where.

use std::fmt;

use serde::Serialize;

use crate::fault::PlacementError;
use crate::graph::{GraphError, shown};
use crate::nearest::Meant;
use crate::node::ParamError;

use super::document::Place;
use super::path::Path;
use super::{Connection, Manifest, NodeManifest};

/// One thing that is wrong with a manifest, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where in the manifest.
    pub path: Path,
    /// Where in the text; of what is missing, where it should be.
    pub place: Place,
    /// What.
    pub mistake: Mistake,
}

/// What can be wrong in the text of a manifest.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mistake {
    /// The text is neither JSON nor YAML, in the parser's words.
    #[error("{problem}")]
    Syntax {
        /// What is wrong there.
        problem: String,
    },
    /// A field that does not exist.
    #[error("unknown field '{field}': there are {known}{}", Meant::among(field, known))]
    UnknownField {
        /// As written.
        field: String,
        /// The fields there are.
        known: String,
    },
    /// A field that must be there.
    #[error("field '{field}' is missing")]
    MissingField {
        /// The field.
        field: String,
    },
    /// A field that is there already.
    #[error("field '{field}' is written twice")]
    RepeatedField {
        /// The field.
        field: String,
    },
    /// A value of another type than the field has.
    #[error("expected {expected}, got {value}")]
    WrongType {
        /// As written.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// A word that is none of those defined.
    #[error("'{value}' is not defined: there are {known}{}", Meant::among(value, known))]
    UnknownWord {
        /// As written.
        value: String,
        /// The words there are.
        known: String,
    },
    /// The manifest is no pipeline.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A node cannot be had as the manifest asks.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// A node's type does not take its parameters.
    #[error("node '{node}': {error}")]
    Params {
        /// The node.
        node: String,
        /// What is wrong.
        error: ParamError,
    },
}

/// What a program can do something with: each part where the mistake has one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Parts {
    /// The value, as written or counted.
    pub value: Option<String>,
    /// What is allowed.
    pub allowed: Option<String>,
    /// The nearest right name.
    pub nearest: Option<String>,
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mistake, .. } = self;
        match mistake {
            // Without a document there is nothing in it.
            Mistake::Syntax { problem } => f.write_str(problem),
            Mistake::UnknownField { .. }
            | Mistake::MissingField { .. }
            | Mistake::RepeatedField { .. }
            | Mistake::WrongType { .. }
            | Mistake::UnknownWord { .. }
            | Mistake::Graph(_)
            | Mistake::Placement(_)
            | Mistake::Params { .. } => write!(f, "{path}: {mistake}"),
        }
    }
}

// === impl Mistake ===

impl Mistake {
    /// Whether the name of a field is wrong, and not its value.
    pub(super) const fn is_of_the_name(&self) -> bool {
        match self {
            Self::UnknownField { .. }
            | Self::RepeatedField { .. }
            | Self::Params { error: ParamError::Unknown { .. } | ParamError::Twice { .. }, .. } => true,
            Self::Syntax { .. }
            | Self::MissingField { .. }
            | Self::WrongType { .. }
            | Self::UnknownWord { .. }
            | Self::Graph(_)
            | Self::Placement(_)
            | Self::Params {
                error: ParamError::Shape { .. } | ParamError::Missing { .. } | ParamError::Value { .. },
                ..
            } => false,
        }
    }

    /// The value, what is allowed, and the nearest right name.
    #[must_use]
    pub fn parts(&self) -> Parts {
        match self {
            Self::Syntax { .. } => Parts::default(),
            Self::UnknownField { field: value, known } | Self::UnknownWord { value, known } => {
                Parts::name(value, known)
            }
            Self::MissingField { field } | Self::RepeatedField { field } => {
                Parts { allowed: Some(format!("'{field}' once")), ..Parts::default() }
            }
            Self::WrongType { value, expected } => Parts::bound(value, expected),
            Self::Graph(error) => of_graph(error),
            Self::Placement(error) => of_placement(error),
            Self::Params { error, .. } => of_params(error),
        }
    }
}

fn of_graph(error: &GraphError) -> Parts {
    match error {
        GraphError::Version { found } => Parts::bound(found, super::VERSION),
        GraphError::Empty => Parts::bound(0, "1 or more"),
        GraphError::TooMany { count, limit, .. } => Parts::bound(count, format!("at most {limit}")),
        GraphError::Name { bytes, limit, .. } => Parts::bound(bytes, format!("1 to {limit} bytes")),
        GraphError::Params { bytes, limit, .. } => Parts::bound(bytes, format!("at most {limit} bytes")),
        GraphError::DuplicateId { id } => Parts::bound(id, "an id that no other node has"),
        GraphError::UnknownNode { missing, known, .. } => Parts::name(missing, known),
        GraphError::OutputPort { from, port, .. } => Parts::bound(format!("{from}.{port}"), from),
        GraphError::Cycle { through } => Parts::bound(through, "connections that lead back to no node"),
        GraphError::DuplicateConnection { from, to } => {
            Parts::bound(format!("{from} -> {to}"), "each connection once")
        }
    }
}

fn of_placement(error: &PlacementError) -> Parts {
    match error {
        PlacementError::UnknownType { node_type, known, .. } => Parts::name(node_type, known),
        PlacementError::Unsatisfied { value, have, .. } => Parts::bound(value, have),
        PlacementError::NoOwnProcess { workers, .. } => Parts::bound(workers, "more workers"),
        PlacementError::UnknownPort { to, ports, .. } => Parts::bound(to, ports),
        PlacementError::Incompatible { produces, expects, .. } => Parts::bound(produces, expects),
    }
}

fn of_params(error: &ParamError) -> Parts {
    match error {
        ParamError::Shape { .. } => Parts::default(),
        ParamError::Unknown { name, nearest, known, .. } => {
            Parts { nearest: nearest.as_deref().map(str::to_owned), ..Parts::bound(name, known.join(", ")) }
        }
        ParamError::Missing { allowed, .. } => Parts { allowed: Some(allowed.clone()), ..Parts::default() },
        ParamError::Twice { name, alias } => Parts::bound(format!("{name}, {alias}"), "one of them"),
        ParamError::Value { value, allowed, .. } => Parts::bound(value, allowed),
    }
}

/// Where in a manifest a rule of graphs is broken.
pub(super) fn path_of(manifest: &Manifest, error: &GraphError) -> Path {
    let (nodes, connections) = (Path::root().field("nodes"), Path::root().field("connections"));
    let id = |id: &str| manifest.nodes.iter().rposition(|node| node.id == *id);
    let connection = |is: &dyn Fn(&Connection) -> bool| manifest.connections.iter().rposition(is);
    match error {
        GraphError::Version { .. } => Path::root().field("version"),
        GraphError::Empty => nodes,
        GraphError::TooMany { what, .. } => Path::root().field(what),
        GraphError::Name { what, number, .. } => {
            let field = if what.contains("type") { "node_type" } else { "id" };
            nodes.element(number.saturating_sub(1)).field(field)
        }
        GraphError::Params { node, .. } => {
            id(node).map_or(nodes.clone(), |at| nodes.element(at).field("params"))
        }
        GraphError::DuplicateId { id: twice } => {
            id(twice).map_or(nodes.clone(), |at| nodes.element(at).field("id"))
        }
        GraphError::UnknownNode { from, to, missing, .. } => {
            let at = connection(&|listed| shown(&listed.from) == *from && shown(&listed.to) == *to);
            let end = if from == missing { "from" } else { "to" };
            at.map_or(connections.clone(), |at| connections.element(at).field(end))
        }
        GraphError::OutputPort { from, port, .. } => {
            let end = format!("{from}.{port}");
            let at = connection(&|listed| listed.from == end);
            at.map_or(connections.clone(), |at| connections.element(at).field("from"))
        }
        GraphError::Cycle { through } => {
            let on_cycle = |end: &str| through.split(", ").any(|id| id == end);
            let at = connection(&|listed| on_cycle(&listed.from) && on_cycle(&listed.to));
            at.map_or(connections.clone(), |at| connections.element(at))
        }
        GraphError::DuplicateConnection { from, to } => {
            let at = connection(&|listed| listed.from == *from && listed.to == *to);
            at.map_or(connections.clone(), |at| connections.element(at))
        }
    }
}

/// Where in a manifest something is asked that cannot be had.
pub(super) fn path_of_placement(manifest: &Manifest, error: &PlacementError) -> Path {
    match error {
        PlacementError::UnknownType { node: id, node_type, .. } => {
            path_of_first(manifest, |node| node.id == *id && node.node_type == *node_type).field("node_type")
        }
        PlacementError::Unsatisfied { node, what, .. } => {
            what.split('.').fold(path_of_node(manifest, node), |path, field| path.field(field))
        }
        PlacementError::NoOwnProcess { node, .. } => path_of_node(manifest, node).field("own_process"),
        PlacementError::UnknownPort { from, to, .. } | PlacementError::Incompatible { from, to, .. } => {
            let is = |listed: &Connection| listed.from == *from && listed.to == *to;
            let at = manifest.connections.iter().position(is);
            at.map_or_else(Path::root, |at| Path::root().field("connections").element(at))
        }
    }
}

/// Where in a node it is told what it does not take.
pub(super) fn path_of_param(node: &Path, error: &ParamError) -> Path {
    let params = node.field("params");
    match error {
        ParamError::Shape { .. } => params,
        ParamError::Unknown { name, .. }
        | ParamError::Missing { name, .. }
        | ParamError::Twice { alias: name, .. }
        | ParamError::Value { name, .. } => params.field(name),
    }
}

/// Where the node of this id stands; the first of several.
pub(super) fn path_of_node(manifest: &Manifest, id: &str) -> Path {
    path_of_first(manifest, |node| node.id == id)
}

fn path_of_first(manifest: &Manifest, is: impl Fn(&NodeManifest) -> bool) -> Path {
    let nodes = Path::root().field("nodes");
    manifest.nodes.iter().position(is).map_or(nodes.clone(), |at| nodes.element(at))
}

// === impl Parts ===

impl Parts {
    fn bound(value: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self { value: Some(value.to_string()), allowed: Some(allowed.to_string()), nearest: None }
    }

    fn name(value: &str, known: &str) -> Self {
        let nearest = Meant::among(value, known).name().map(str::to_owned);
        Self { nearest, ..Self::bound(value, known) }
    }
}
