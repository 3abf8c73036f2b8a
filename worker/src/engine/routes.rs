//! A stage plan that has been checked: indices resolved to places, edges known to form no circle.

use std::collections::{BTreeMap, BTreeSet};

use remotemedia_core::graph::NodeIndex;
use remotemedia_ipc::control::messages::{StageFeed, StagePlan};

/// Where frames go within a stage and out of it. Nodes, inputs and outputs are named by their places in the plan.
#[derive(Debug)]
pub(super) struct Routes {
    /// By node.
    onward: Vec<Onward>,
    /// By input: what it feeds.
    entries: Vec<Doorway>,
    /// By node, by the numbers of its feeds: the port of each.
    feeds: Vec<Vec<Option<u16>>>,
}

/// One of the feeds of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Doorway {
    /// The node.
    pub(super) node: usize,
    /// The number of the feed.
    pub(super) feed: usize,
}

/// Where a node's outputs go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Onward {
    /// Nodes of this stage.
    pub(super) inner: Vec<Doorway>,
    /// Outputs of the plan.
    pub(super) outer: Vec<usize>,
}

/// The gateway sent a plan that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// A stage without nodes.
    #[error("the stage plan has no nodes")]
    Empty,
    /// Two nodes of one index or id.
    #[error("the stage plan has node '{id}' (number {}) twice", index.0)]
    Repeated {
        /// Its place in the pipeline.
        index: NodeIndex,
        /// Its id.
        id: String,
    },
    /// An edge of a node that is not in the stage.
    #[error("the stage plan has an edge of node number {}, but not the node", index.0)]
    UnknownNode {
        /// Its place in the pipeline.
        index: NodeIndex,
    },
    /// A node that nobody feeds, or whose feeds are not numbered from 0 on.
    #[error("the stage plan numbers the feeds of node '{id}' {numbers:?}: expected at least one, from 0 on")]
    Feeds {
        /// The node.
        id: String,
        /// As given, in ascending order.
        numbers: Vec<u16>,
    },
    /// A feed on a port that the node does not have, or on none where it has some.
    #[error("the stage plan feeds node '{id}' on port {port:?} of {ports}")]
    UnknownPort {
        /// The node.
        id: String,
        /// As given.
        port: Option<u16>,
        /// How many there are.
        ports: usize,
    },
    /// A node that feeds itself, directly or through others.
    #[error("the stage plan has a circle through node '{id}'")]
    Circle {
        /// One node of it.
        id: String,
    },
    /// One edge for two purposes.
    #[error("the stage plan uses edge {edge} twice")]
    RepeatedEdge {
        /// Its index.
        edge: u32,
    },
    /// Nothing could ever be sent.
    #[error("the stage plan has a window of 0 frames: at least 1 is needed")]
    NoWindow,
}

// === impl Routes ===

impl Routes {
    /// Checks a plan.
    pub(super) fn of(plan: &StagePlan) -> Result<Self, PlanError> {
        let places = places(plan)?;
        let find = |index: NodeIndex| places.get(&index).copied().ok_or(PlanError::UnknownNode { index });
        check_edges(plan)?;
        let mut onward = vec![Onward::default(); plan.nodes.len()];
        let mut ports: Vec<BTreeMap<u16, Option<u16>>> = vec![BTreeMap::new(); plan.nodes.len()];
        let mut repeated = None;
        let mut enter = |feed: &StageFeed| {
            let node = find(feed.to)?;
            check_port(plan, node, feed.port)?;
            if ports[node].insert(feed.number, feed.port).is_some() {
                repeated = repeated.or(Some((node, feed.number)));
            }
            Ok(Doorway { node, feed: usize::from(feed.number) })
        };
        let entries = plan.inputs.iter().map(|input| enter(&input.feed)).collect::<Result<_, _>>()?;
        for (from, feed) in &plan.inner {
            let door = enter(feed)?;
            onward[find(*from)?].inner.push(door);
        }
        for (place, output) in plan.outputs.iter().enumerate() {
            onward[find(output.from)?].outer.push(place);
        }
        let id = |node: usize| plan.nodes[node].id.clone();
        for (node, feeds) in ports.iter().enumerate() {
            let mut numbers: Vec<u16> = feeds.keys().copied().collect();
            numbers.extend(repeated.filter(|(other, _)| *other == node).map(|(_, number)| number));
            if numbers.is_empty() || !numbers.iter().copied().eq((0..).take(numbers.len())) {
                return Err(PlanError::Feeds { id: id(node), numbers });
            }
        }
        let feeds = ports.into_iter().map(|feeds| feeds.into_values().collect()).collect();
        let routes = Self { onward, entries, feeds };
        match routes.circle() {
            Some(node) => Err(PlanError::Circle { id: id(node) }),
            None => Ok(routes),
        }
    }

    /// Where a node's outputs go.
    pub(super) fn onward(&self, node: usize) -> &Onward {
        &self.onward[node]
    }

    /// What an input feeds.
    pub(super) fn entry(&self, input: usize) -> Doorway {
        self.entries[input]
    }

    /// How many inputs there are.
    pub(super) const fn inputs(&self) -> usize {
        self.entries.len()
    }

    /// The ports of a node's feeds, where what comes on them must be joined.
    pub(super) fn joint(&self, node: usize) -> Option<&[Option<u16>]> {
        let feeds = self.feeds[node].as_slice();
        (feeds.len() > 1 || feeds.iter().any(Option::is_some)).then_some(feeds)
    }

    /// How many nodes have a joint.
    pub(super) fn joints(&self) -> usize {
        (0..self.feeds.len()).filter(|node| self.joint(*node).is_some()).count()
    }

    /// A node on a circle, or behind one: it has a feed that is never worked off.
    fn circle(&self) -> Option<usize> {
        let mut unmet: Vec<usize> = self.feeds.iter().map(Vec::len).collect();
        let mut ahead = self.entries.clone();
        while let Some(Doorway { node, .. }) = ahead.pop() {
            unmet[node] -= 1;
            if unmet[node] == 0 {
                ahead.extend(&self.onward[node].inner);
            }
        }
        unmet.iter().position(|unmet| *unmet > 0)
    }
}

fn check_port(plan: &StagePlan, node: usize, port: Option<u16>) -> Result<(), PlanError> {
    let ports = plan.nodes[node].ports.len();
    let fits = match port {
        Some(port) => usize::from(port) < ports,
        None => ports == 0,
    };
    let unknown = || PlanError::UnknownPort { id: plan.nodes[node].id.clone(), port, ports };
    fits.then_some(()).ok_or_else(unknown)
}

fn places(plan: &StagePlan) -> Result<BTreeMap<NodeIndex, usize>, PlanError> {
    if plan.nodes.is_empty() {
        return Err(PlanError::Empty);
    }
    let mut places = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (place, node) in plan.nodes.iter().enumerate() {
        if places.insert(node.index, place).is_some() || !ids.insert(&node.id) {
            return Err(PlanError::Repeated { index: node.index, id: node.id.clone() });
        }
    }
    Ok(places)
}

fn check_edges(plan: &StagePlan) -> Result<(), PlanError> {
    if plan.window == 0 {
        return Err(PlanError::NoWindow);
    }
    let mut edges = BTreeSet::new();
    let inputs = plan.inputs.iter().map(|input| input.edge.index);
    let mut all = inputs.chain(plan.outputs.iter().map(|output| output.edge.index));
    match all.find(|edge| !edges.insert(*edge)) {
        Some(edge) => Err(PlanError::RepeatedEdge { edge }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sketch::Sketch;

    #[test]
    fn a_tree_resolves_to_places() {
        let plan =
            Sketch::of("abc").input("a").inner("a", "b").inner("a", "c").output("b").output("c").plan();
        let routes = Routes::of(&plan).unwrap();
        let first = |node| Doorway { node, feed: 0 };
        assert_eq!(routes.entry(0), first(0));
        assert_eq!(*routes.onward(0), Onward { inner: vec![first(1), first(2)], outer: vec![] });
        assert_eq!(routes.joints(), 0);
        assert_eq!(*routes.onward(2), Onward { inner: vec![], outer: vec![1] });
    }

    #[test]
    fn a_node_with_several_feeds_or_with_ports_has_a_joint() {
        let sketch = Sketch::of("abc").ports("c", &["l", "r"]).input("a").input("b").inner("a", "b");
        let routes = Routes::of(&sketch.inner("b", "c.r").plan()).unwrap();
        assert_eq!(routes.joint(0), None);
        assert_eq!(routes.joint(1), Some([None, None].as_slice()));
        assert_eq!(routes.joint(2), Some([Some(1)].as_slice()));
        assert_eq!(routes.joints(), 2);
    }

    #[test]
    fn nonsense_is_named() {
        let mut no_window = Sketch::of("a").input("a").plan();
        no_window.window = 0;
        let mut repeated_edge = Sketch::of("a").input("a").output("a").plan();
        repeated_edge.outputs[0].edge = repeated_edge.inputs[0].edge;
        let mut unknown = Sketch::of("a").input("a").plan();
        let index = NodeIndex(7);
        unknown.inner.push((NodeIndex(0), StageFeed { to: index, number: 0, port: None }));
        let mut twice = Sketch::of("ab").input("a").input("b").inner("a", "b").plan();
        twice.inner[0].1.number = 0;
        let mut no_port = Sketch::of("a").input("a").plan();
        no_port.inputs[0].feed.port = Some(0);
        let rows = [
            (Sketch::of("").plan(), PlanError::Empty),
            (Sketch::of("aa").plan(), PlanError::Repeated { index: NodeIndex(1), id: "a".to_owned() }),
            (Sketch::of("a").plan(), PlanError::Feeds { id: "a".to_owned(), numbers: vec![] }),
            (twice, PlanError::Feeds { id: "b".to_owned(), numbers: vec![0, 0] }),
            (no_port, PlanError::UnknownPort { id: "a".to_owned(), port: Some(0), ports: 0 }),
            (
                Sketch::of("abc").input("a").inner("b", "c").inner("c", "b").plan(),
                PlanError::Circle { id: "b".to_owned() },
            ),
            (
                Sketch::of("abc").input("a").inner("a", "b").inner("b", "c").inner("c", "b").plan(),
                PlanError::Circle { id: "b".to_owned() },
            ),
            (unknown, PlanError::UnknownNode { index }),
            (no_window, PlanError::NoWindow),
            (repeated_edge, PlanError::RepeatedEdge { edge: 0 }),
        ];
        for (plan, expected) in rows {
            assert_eq!(Routes::of(&plan).err(), Some(expected));
        }
    }
}
