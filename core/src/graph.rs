//! A manifest that has been checked: names resolved to indices, edges known to form no cycle.
//!
//! Which inputs a node has, its type alone knows: ports are names here.

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
    edges: Vec<Edge>,
}

/// A connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// Whose output it takes.
    pub from: NodeIndex,
    /// Whom it feeds.
    pub to: NodeIndex,
    /// On which input; empty where none was named.
    pub port: String,
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
    /// Outputs have no names.
    #[error("connection '{from}.{port}' -> '{to}' names an output: nodes have one, without a name")]
    OutputPort {
        /// The node.
        from: String,
        /// As written.
        port: String,
        /// As written.
        to: String,
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
        let mut graph = Self { nodes: manifest.nodes.clone(), edges: Vec::new() };
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

    /// All connections, in the manifest's order.
    #[must_use]
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The connections out of a node.
    pub fn edges_from(&self, index: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == index)
    }

    /// The connections into a node: none if only the client feeds it.
    pub fn edges_to(&self, index: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == index)
    }

    /// All nodes.
    pub fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u16::try_from(self.nodes.len()).unwrap_or(u16::MAX)).map(NodeIndex)
    }

    /// The nodes that no other feeds.
    pub fn entries(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.indices().filter(|index| self.edges_to(*index).next().is_none())
    }

    /// The nodes whose output the client gets.
    pub fn sinks(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.indices().filter(|index| self.edges_from(*index).next().is_none())
    }

    /// A node and all from which its data comes.
    #[must_use]
    pub fn upstream(&self, index: NodeIndex) -> BTreeSet<NodeIndex> {
        let mut found = BTreeSet::from([index]);
        let mut ahead = vec![index];
        while let Some(at) = ahead.pop() {
            ahead.extend(self.edges_to(at).map(|edge| edge.from).filter(|from| found.insert(*from)));
        }
        found
    }

    /// All nodes, each after those that feed it.
    #[must_use]
    pub fn downstream_order(&self) -> Vec<NodeIndex> {
        let mut unmet: Vec<usize> = self.indices().map(|index| self.edges_to(index).count()).collect();
        let mut order: Vec<NodeIndex> = self.entries().collect();
        let mut done = 0;
        while let Some(index) = order.get(done).copied() {
            done += 1;
            for edge in self.edges_from(index) {
                unmet[edge.to.index()] -= 1;
                if unmet[edge.to.index()] == 0 {
                    order.push(edge.to);
                }
            }
        }
        order
    }

    /// A node's id and, where it has a name, its input: an exact id wins, then the last dot splits.
    #[must_use]
    pub fn find_input<'a>(&self, name: &'a str) -> Option<(NodeIndex, &'a str)> {
        if let Some(index) = self.find(name) {
            return Some((index, ""));
        }
        let (node, port) = name.rsplit_once('.')?;
        Some((self.find(node)?, port))
    }

    fn connect(
        &mut self,
        connection: &Connection,
        ids: &BTreeMap<&str, NodeIndex>,
    ) -> Result<(), GraphError> {
        let (from, output) = resolve(&connection.from, connection, ids)?;
        let (to, port) = resolve(&connection.to, connection, ids)?;
        if !output.is_empty() {
            return Err(GraphError::OutputPort {
                from: self.node(from).id.clone(),
                port: output.to_owned(),
                to: connection.to.clone(),
            });
        }
        let edge = Edge { from, to, port: port.to_owned() };
        if self.edges.contains(&edge) {
            return Err(GraphError::DuplicateConnection {
                from: connection.from.clone(),
                to: connection.to.clone(),
            });
        }
        self.edges.push(edge);
        Ok(())
    }

    /// What has no place in the order is on a cycle, or behind one; walking upstream among those comes back.
    fn check_acyclic(&self) -> Result<(), GraphError> {
        let order = self.downstream_order();
        let Some(start) = self.indices().find(|index| !order.contains(index)) else { return Ok(()) };
        let mut path = vec![start];
        loop {
            let at = path[path.len() - 1];
            let mut before = self.edges_to(at).map(|edge| edge.from).filter(|from| !order.contains(from));
            let Some(previous) = before.next() else {
                unreachable!("a node without a place in the order is fed by another such")
            };
            if let Some(first) = path.iter().position(|index| *index == previous) {
                let ids = path[first..].iter().rev().map(|index| self.node(*index).id.as_str());
                return Err(GraphError::Cycle { through: ids.collect::<Vec<_>>().join(", ") });
            }
            path.push(previous);
        }
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
fn resolve<'a>(
    end: &'a str,
    connection: &Connection,
    ids: &BTreeMap<&str, NodeIndex>,
) -> Result<(NodeIndex, &'a str), GraphError> {
    if let Some(index) = ids.get(end) {
        return Ok((*index, ""));
    }
    if let Some((node, port)) = end.rsplit_once('.')
        && let Some(index) = ids.get(node)
    {
        return Ok((*index, port));
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
            &pipeline(&["in", "a", "b", "out"], &[("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")]),
            "the connections form a cycle through b, a: data must flow one way",
        );
        check(
            &pipeline(&["a", "b"], &[("a.left", "b")]),
            "connection 'a.left' -> 'b' names an output: nodes have one, without a name",
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
    fn a_diamond_has_an_order_and_knows_where_its_data_comes_from() {
        let manifest = pipeline(
            &["out", "x", "y", "in", "lone"],
            &[("in", "x"), ("in", "y"), ("x", "out.left"), ("y", "out.right")],
        );
        let graph = Graph::check(&manifest, &Limits::default()).unwrap();
        let ids = |indices: Vec<NodeIndex>| {
            indices.iter().map(|index| graph.node(*index).id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(graph.entries().collect()), ["in", "lone"]);
        assert_eq!(ids(graph.sinks().collect()), ["out", "lone"]);
        assert_eq!(ids(graph.downstream_order()), ["in", "lone", "x", "y", "out"]);
        let out = graph.find("out").unwrap();
        assert_eq!(ids(graph.upstream(out).into_iter().collect()), ["out", "x", "y", "in"]);
        assert_eq!(graph.find_input("out.left"), Some((out, "left")));
    }

    #[test]
    fn an_id_with_a_dot_wins_over_a_port() {
        let manifest = pipeline(&["a", "a.b", "c"], &[("a.b", "c"), ("c", "a.b.x")]);
        let graph = Graph::check(&pipeline(&["a", "a.b", "c"], &[("a.b", "c")]), &Limits::default()).unwrap();
        assert_eq!(graph.edges()[0].from, NodeIndex(1));
        assert!(matches!(Graph::check(&manifest, &Limits::default()), Err(GraphError::Cycle { .. })));
    }
}
