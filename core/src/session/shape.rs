//! Where a session's data comes in and goes out, and what meets where.

use std::collections::BTreeSet;

use crate::graph::{Graph, NodeIndex};

/// Where data comes in and goes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The nodes that the client feeds, by id.
    pub(super) entries: Vec<String>,
    /// The nodes whose output the client gets, and the entries from which that comes.
    pub(super) sinks: Vec<(NodeIndex, BTreeSet<usize>)>,
}

// === impl Shape ===

impl Shape {
    /// The shape of a graph of which the client feeds these nodes.
    #[must_use]
    pub fn of(graph: &Graph, entries: &[NodeIndex]) -> Self {
        let sinks = graph.sinks().map(|sink| {
            let upstream = graph.upstream(sink);
            let before = |place: &usize| upstream.contains(&entries[*place]);
            (sink, (0..entries.len()).filter(before).collect())
        });
        Self {
            entries: entries.iter().map(|entry| graph.node(*entry).id.clone()).collect(),
            sinks: sinks.collect(),
        }
    }

    pub(super) fn sinks_behind(&self, entry: usize) -> BTreeSet<usize> {
        let behind = |(place, (_, entries)): (usize, &(NodeIndex, BTreeSet<usize>))| {
            entries.contains(&entry).then_some(place)
        };
        self.sinks.iter().enumerate().filter_map(behind).collect()
    }

    /// For each entry the first one of its group.
    pub(super) fn groups(&self) -> Vec<usize> {
        let mut groups: Vec<usize> = (0..self.entries.len()).collect();
        for (_, entries) in &self.sinks {
            let met: BTreeSet<usize> = entries.iter().map(|entry| groups[*entry]).collect();
            let Some(first) = met.first() else { continue };
            for group in groups.iter_mut().filter(|group| met.contains(group)) {
                *group = *first;
            }
        }
        groups
    }
}
