//! A manifest that has been checked: names resolved to indices, edges known to form a forest.
//!
//! A node has at most one input here: every output of a session comes of exactly one entry, which is what lets a
//! session answer every input sequence in order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::manifest::{Connection, Manifest, NodeManifest, VERSION};
use crate::nearest::Meant;

/// A node's place in [`Graph::nodes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NodeIndex(pub u16);

/// A checked pipeline.
#[derive(Clone, PartialEq, Debug)]
pub struct Graph {
    nodes: Vec<NodeManifest>,
    next: Vec<Vec<NodeIndex>>,
    previous: Vec<Option<NodeIndex>>,
}

/// Why a manifest is not a pipeline.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum GraphError {
    /// A version that nobody here speaks.
    #[error("manifest version '{found}' is not supported: write '{VERSION}'")]
    Version {
        /// As written.
        found: String,
    },
    /// Nothing to do.
    #[error("the manifest has no nodes: list at least one under 'nodes'")]
    Empty,
    /// Too large.
    #[error("the manifest has {count} {what}, over the limit of {limit}: split the pipeline")]
    TooMany {
        /// Nodes or connections.
        what: String,
        /// As counted.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// A name that is empty or too long.
    #[error("{what} of node number {number} has {bytes} bytes: 1 to {limit} are allowed")]
    Name {
        /// The id or the node type.
        what: String,
        /// Place in the list of nodes, counted from 1.
        number: usize,
        /// As counted.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Parameters that are data.
    #[error("the params of node '{node}' take {bytes} bytes, over the limit of {limit}: send data as input")]
    Params {
        /// The node.
        node: String,
        /// As counted.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Two nodes of one name.
    #[error("node id '{id}' is used twice: ids are unique in a pipeline")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// An edge to nowhere.
    #[error(
        "connection '{from}' -> '{to}' names '{missing}', which is no node: there are {known}{}",
        Meant::among(missing, known)
    )]
    UnknownNode {
        /// As written.
        from: String,
        /// As written.
        to: String,
        /// The end that is not there.
        missing: String,
        /// The ids there are.
        known: String,
    },
    /// A port that the node does not have.
    #[error("connection names port '{port}' of node '{node}': nodes have one unnamed port at each end")]
    UnknownPort {
        /// The node.
        node: String,
        /// As written.
        port: String,
    },
    /// A node that feeds itself, directly or through others.
    #[error("the connections form a cycle through {through}: data must flow one way")]
    Cycle {
        /// The ids on the cycle.
        through: String,
    },
    /// The same edge again.
    #[error("connection '{from}' -> '{to}' is listed twice")]
    DuplicateConnection {
        /// As written.
        from: String,
        /// As written.
        to: String,
    },
    /// Two edges into one node.
    #[error("node '{node}' has two inputs, '{first}' and '{second}': a node takes one")]
    SecondInput {
        /// The node.
        node: String,
        /// Who feeds it first.
        first: String,
        /// Who feeds it too.
        second: String,
    },
}

// === impl NodeIndex ===

impl NodeIndex {
    /// For use as an array index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

// === impl Graph ===

impl Graph {
    /// Checks a manifest: everything that can be known without knowing which node types exist.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(manifest: &Manifest, limits: &Limits) -> Result<Self, GraphError> {
        match mistakes(manifest, limits).into_iter().next() {
            Some(mistake) => Err(mistake),
            None => Self::connected(manifest),
        }
    }

    /// All that is wrong with a manifest, as far as one thing does not hide the next. A graph of nodes that are all
    /// right ends with the first connection that is not.
    #[must_use]
    pub fn problems(manifest: &Manifest, limits: &Limits) -> Vec<GraphError> {
        let found = mistakes(manifest, limits);
        if found.is_empty() { Self::connected(manifest).err().into_iter().collect() } else { found }
    }

    /// The graph of nodes and ends of connections that are right.
    fn connected(manifest: &Manifest) -> Result<Self, GraphError> {
        let ids = index_ids(&manifest.nodes);
        let mut graph = Self {
            nodes: manifest.nodes.clone(),
            next: vec![Vec::new(); manifest.nodes.len()],
            previous: vec![None; manifest.nodes.len()],
        };
        for connection in &manifest.connections {
            graph.connect(connection, &ids)?;
        }
        graph.check_acyclic()?;
        Ok(graph)
    }

    /// The nodes in the manifest's order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeManifest] {
        &self.nodes
    }

    /// One node.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &NodeManifest {
        &self.nodes[index.index()]
    }

    /// The node of this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<NodeIndex> {
        self.indices().find(|index| self.node(*index).id == id)
    }

    /// Whom a node feeds.
    #[must_use]
    pub fn next(&self, index: NodeIndex) -> &[NodeIndex] {
        &self.next[index.index()]
    }

    /// Who feeds a node; an entry is fed by the client.
    #[must_use]
    pub fn previous(&self, index: NodeIndex) -> Option<NodeIndex> {
        self.previous[index.index()]
    }

    /// All nodes.
    pub fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u16::try_from(self.nodes.len()).unwrap_or(u16::MAX)).map(NodeIndex)
    }

    /// The nodes that the client feeds.
    pub fn entries(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.indices().filter(|index| self.previous(*index).is_none())
    }

    /// The nodes whose output the client gets.
    pub fn sinks(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.indices().filter(|index| self.next(*index).is_empty())
    }

    /// The entry from which a node's data comes.
    #[must_use]
    pub fn entry_of(&self, index: NodeIndex) -> NodeIndex {
        let mut at = index;
        while let Some(previous) = self.previous(at) {
            at = previous;
        }
        at
    }

    fn connect(
        &mut self,
        connection: &Connection,
        ids: &BTreeMap<&str, NodeIndex>,
    ) -> Result<(), GraphError> {
        let from = resolve(&connection.from, connection, ids)?;
        let to = resolve(&connection.to, connection, ids)?;
        if self.next[from.index()].contains(&to) {
            return Err(GraphError::DuplicateConnection {
                from: connection.from.clone(),
                to: connection.to.clone(),
            });
        }
        if let Some(first) = self.previous[to.index()] {
            return Err(GraphError::SecondInput {
                node: self.node(to).id.clone(),
                first: self.node(first).id.clone(),
                second: self.node(from).id.clone(),
            });
        }
        self.next[from.index()].push(to);
        self.previous[to.index()] = Some(from);
        Ok(())
    }

    /// With one input a node, a cycle is a walk upstream that comes back.
    fn check_acyclic(&self) -> Result<(), GraphError> {
        for start in self.indices() {
            let mut path = vec![start];
            let mut at = start;
            while let Some(previous) = self.previous(at) {
                if previous == start {
                    let ids: Vec<&str> =
                        path.iter().rev().map(|index| self.node(*index).id.as_str()).collect();
                    return Err(GraphError::Cycle { through: ids.join(", ") });
                }
                if path.len() > self.nodes.len() {
                    break;
                }
                path.push(previous);
                at = previous;
            }
        }
        Ok(())
    }
}

/// What is wrong with a manifest's lines, each looked at for itself.
fn mistakes(manifest: &Manifest, limits: &Limits) -> Vec<GraphError> {
    let mut found = Vec::new();
    if manifest.version != VERSION {
        found.push(GraphError::Version { found: shown(&manifest.version) });
    }
    if manifest.nodes.is_empty() {
        found.push(GraphError::Empty);
        return found;
    }
    let many = [
        ("nodes", manifest.nodes.len(), limits.max_nodes),
        ("connections", manifest.connections.len(), limits.max_connections),
    ];
    let many = many
        .into_iter()
        .filter(|(_, count, limit)| count > limit)
        .map(|(what, count, limit)| GraphError::TooMany { what: what.to_owned(), count, limit });
    found.extend(many);
    if found.iter().any(|mistake| matches!(mistake, GraphError::TooMany { .. })) {
        return found;
    }
    for (place, node) in manifest.nodes.iter().enumerate() {
        found.extend(names(place + 1, node, limits));
        found.extend(large_params(node, limits));
    }
    found.extend(duplicates(&manifest.nodes));
    let ids = index_ids(&manifest.nodes);
    for connection in &manifest.connections {
        let ends = [&connection.from, &connection.to];
        found.extend(ends.into_iter().filter_map(|end| resolve(end, connection, &ids).err()));
    }
    found
}

fn names(number: usize, node: &NodeManifest, limits: &Limits) -> impl Iterator<Item = GraphError> {
    let limit = limits.max_name_bytes;
    let names = [("the id", node.id.len()), ("the node_type", node.node_type.len())];
    names
        .into_iter()
        .filter(move |(_, bytes)| *bytes == 0 || *bytes > limit)
        .map(move |(what, bytes)| GraphError::Name { what: what.to_owned(), number, bytes, limit })
}

fn large_params(node: &NodeManifest, limits: &Limits) -> Option<GraphError> {
    let bytes = serde_json::to_string(&node.params).map_or(0, |text| text.len());
    let limit = limits.max_params_bytes;
    (bytes > limit).then(|| GraphError::Params { node: node.id.clone(), bytes, limit })
}

fn duplicates(nodes: &[NodeManifest]) -> Vec<GraphError> {
    let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
    let again = nodes.iter().map(|node| node.id.as_str()).filter(|id| !seen.insert(*id));
    again.filter(|id| told.insert(*id)).map(|id| GraphError::DuplicateId { id: id.to_owned() }).collect()
}

fn index_ids(nodes: &[NodeManifest]) -> BTreeMap<&str, NodeIndex> {
    nodes.iter().map(|node| node.id.as_str()).zip((0..=u16::MAX).map(NodeIndex)).collect()
}

/// `node` or `node.port`: an exact id wins, then the last dot splits.
fn resolve(
    end: &str,
    connection: &Connection,
    ids: &BTreeMap<&str, NodeIndex>,
) -> Result<NodeIndex, GraphError> {
    if let Some(index) = ids.get(end) {
        return Ok(*index);
    }
    if let Some((node, port)) = end.rsplit_once('.')
        && ids.contains_key(node)
    {
        return Err(GraphError::UnknownPort { node: node.to_owned(), port: shown(port) });
    }
    Err(GraphError::UnknownNode {
        from: shown(&connection.from),
        to: shown(&connection.to),
        missing: shown(end),
        known: ids.keys().copied().collect::<Vec<_>>().join(", "),
    })
}

/// A name as messages show it: whole, unless it is none that could be right.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 300;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(ids: &[&str], connections: &[(&str, &str)]) -> Manifest {
        let node = |id: &&str| NodeManifest {
            id: (*id).to_owned(),
            node_type: "PassThrough".to_owned(),
            ..NodeManifest::default()
        };
        let connection =
            |(from, to): &(&str, &str)| Connection { from: (*from).to_owned(), to: (*to).to_owned() };
        Manifest {
            version: VERSION.to_owned(),
            nodes: ids.iter().map(node).collect(),
            connections: connections.iter().map(connection).collect(),
            ..Manifest::default()
        }
    }

    #[test]
    fn a_wrong_manifest_is_answered_in_words() {
        let check = |manifest: &Manifest, expect: &str| {
            let error = Graph::check(manifest, &Limits::default()).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        check(&pipeline(&[], &[]), "the manifest has no nodes: list at least one under 'nodes'");
        check(&pipeline(&["a", "a"], &[]), "node id 'a' is used twice: ids are unique in a pipeline");
        check(
            &pipeline(&["a", "b"], &[("a", "c")]),
            "connection 'a' -> 'c' names 'c', which is no node: there are a, b",
        );
        check(
            &pipeline(&["mic", "filter"], &[("mic", "fliter")]),
            "connection 'mic' -> 'fliter' names 'fliter', which is no node: there are filter, mic; did you mean 'filter'?",
        );
        check(
            &pipeline(&["a", "b", "c"], &[("a", "b"), ("b", "c"), ("c", "a")]),
            "the connections form a cycle through b, c, a: data must flow one way",
        );
        check(
            &pipeline(&["a"], &[("a", "a")]),
            "the connections form a cycle through a: data must flow one way",
        );
        check(
            &pipeline(&["a", "b", "c"], &[("a", "c"), ("b", "c")]),
            "node 'c' has two inputs, 'a' and 'b': a node takes one",
        );
        check(
            &pipeline(&["a", "b"], &[("a.left", "b")]),
            "connection names port 'left' of node 'a': nodes have one unnamed port at each end",
        );
        check(&pipeline(&["a", "b"], &[("a", "b"), ("a", "b")]), "connection 'a' -> 'b' is listed twice");
    }

    #[test]
    fn one_mistake_does_not_hide_the_next() {
        let manifest = Manifest {
            version: "v7".to_owned(),
            ..pipeline(&["a", "a", "", "a"], &[("a", "x"), ("y", "a")])
        };
        let found = Graph::problems(&manifest, &Limits::default());
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "manifest version 'v7' is not supported: write 'v1'",
                "the id of node number 3 has 0 bytes: 1 to 128 are allowed",
                "node id 'a' is used twice: ids are unique in a pipeline",
                "connection 'a' -> 'x' names 'x', which is no node: there are , a",
                "connection 'y' -> 'a' names 'y', which is no node: there are , a",
            ]
        );
        assert_eq!(Graph::check(&manifest, &Limits::default()).unwrap_err(), found[0]);
        let cycle = pipeline(&["a", "b"], &[("a", "b"), ("b", "a")]);
        assert_eq!(Graph::problems(&cycle, &Limits::default()).len(), 1);
    }

    #[test]
    fn fan_out_is_a_forest_of_entries_and_sinks() {
        let manifest = pipeline(&["in", "x", "y", "lone"], &[("in", "x"), ("in", "y")]);
        let graph = Graph::check(&manifest, &Limits::default()).unwrap();
        let ids = |indices: Vec<NodeIndex>| {
            indices.iter().map(|index| graph.node(*index).id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(graph.entries().collect()), ["in", "lone"]);
        assert_eq!(ids(graph.sinks().collect()), ["x", "y", "lone"]);
        assert_eq!(graph.entry_of(graph.find("y").unwrap()), graph.find("in").unwrap());
    }

    #[test]
    fn an_id_with_a_dot_wins_over_a_port() {
        let manifest = pipeline(&["a", "a.b", "c"], &[("a.b", "c")]);
        let graph = Graph::check(&manifest, &Limits::default()).unwrap();
        assert_eq!(graph.previous(NodeIndex(2)), Some(NodeIndex(1)));
    }
}
