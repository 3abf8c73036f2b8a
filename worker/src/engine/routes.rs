//! A stage plan that has been checked: indices resolved to places, edges known to form a forest.

use std::collections::{BTreeMap, BTreeSet};

use remotemedia_core::graph::NodeIndex;
use remotemedia_ipc::control::messages::StagePlan;

/// Where frames go within a stage and out of it. Nodes, inputs and outputs are named by their places in the plan.
#[derive(Debug)]
pub(super) struct Routes {
    /// By node.
    onward: Vec<Onward>,
    /// By input: the node that it feeds.
    entries: Vec<usize>,
}

/// Where a node's outputs go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Onward {
    /// Nodes of this stage.
    pub(super) inner: Vec<usize>,
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
    /// A node that nobody or more than one feeds.
    #[error("the stage plan feeds node '{id}' {times} times: a node has one input")]
    Feeds {
        /// The node.
        id: String,
        /// By how many edges.
        times: usize,
    },
    /// A node that is fed only by itself.
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
        let mut feeds = vec![0_usize; plan.nodes.len()];
        let mut entries = Vec::with_capacity(plan.inputs.len());
        for input in &plan.inputs {
            let to = find(input.to)?;
            feeds[to] += 1;
            entries.push(to);
        }
        for (from, to) in &plan.inner {
            let (from, to) = (find(*from)?, find(*to)?);
            onward[from].inner.push(to);
            feeds[to] += 1;
        }
        for (place, output) in plan.outputs.iter().enumerate() {
            onward[find(output.from)?].outer.push(place);
        }
        let id = |node: usize| plan.nodes[node].id.clone();
        if let Some((node, times)) = feeds.into_iter().enumerate().find(|(_, times)| *times != 1) {
            return Err(PlanError::Feeds { id: id(node), times });
        }
        let routes = Self { onward, entries };
        match routes.unreached() {
            Some(node) => Err(PlanError::Circle { id: id(node) }),
            None => Ok(routes),
        }
    }

    /// Where a node's outputs go.
    pub(super) fn onward(&self, node: usize) -> &Onward {
        &self.onward[node]
    }

    /// The node that an input feeds.
    pub(super) fn entry(&self, input: usize) -> usize {
        self.entries[input]
    }

    /// How many inputs there are.
    pub(super) const fn inputs(&self) -> usize {
        self.entries.len()
    }

    /// A node to which no input leads. Each node is fed once, so it can only be on a circle or behind one.
    fn unreached(&self) -> Option<usize> {
        let mut reached = vec![false; self.onward.len()];
        let mut ahead = self.entries.clone();
        while let Some(node) = ahead.pop() {
            reached[node] = true;
            ahead.extend(&self.onward[node].inner);
        }
        reached.iter().position(|reached| !reached)
    }
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
        assert_eq!(routes.entry(0), 0);
        assert_eq!(*routes.onward(0), Onward { inner: vec![1, 2], outer: vec![] });
        assert_eq!(*routes.onward(2), Onward { inner: vec![], outer: vec![1] });
    }

    #[test]
    fn nonsense_is_named() {
        let mut no_window = Sketch::of("a").input("a").plan();
        no_window.window = 0;
        let mut repeated_edge = Sketch::of("a").input("a").output("a").plan();
        repeated_edge.outputs[0].edge = repeated_edge.inputs[0].edge;
        let mut unknown = Sketch::of("a").input("a").plan();
        unknown.inner.push((NodeIndex(0), NodeIndex(7)));
        let index = NodeIndex(7);
        let rows = [
            (Sketch::of("").plan(), PlanError::Empty),
            (Sketch::of("aa").plan(), PlanError::Repeated { index: NodeIndex(1), id: "a".to_owned() }),
            (Sketch::of("a").plan(), PlanError::Feeds { id: "a".to_owned(), times: 0 }),
            (
                Sketch::of("ab").input("a").input("b").inner("a", "b").plan(),
                PlanError::Feeds { id: "b".to_owned(), times: 2 },
            ),
            (
                Sketch::of("abc").input("a").inner("b", "c").inner("c", "b").plan(),
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
