//! Stage plans for tests, drawn in a line.

use std::fmt::Write as _;

use remotemedia_core::frame::{SessionId, StageId};
use remotemedia_core::graph::NodeIndex;
use remotemedia_ipc::control::messages::{StageFeed, StageInput, StageNode, StageOutput, StagePlan};
use remotemedia_ipc::plane::EdgeRef;
use remotemedia_ipc::slot::{Incarnation, Member, Slot};

/// A plan under construction. Nodes are called by single letters; edges are numbered as they come.
pub(super) struct Sketch(StagePlan);

impl Sketch {
    /// A pass-through node for each letter.
    pub(super) fn of(ids: &str) -> Self {
        let node = |(index, id): (u16, char)| StageNode {
            index: NodeIndex(index),
            id: id.to_string(),
            node_type: "PassThrough".to_owned(),
            params: "{}".to_owned(),
            ports: Vec::new(),
        };
        Self(StagePlan {
            stage: StageId(7),
            session: SessionId(7),
            nodes: (0..).zip(ids.chars()).map(node).collect(),
            inputs: Vec::new(),
            inner: Vec::new(),
            outputs: Vec::new(),
            window: 2,
            max_outputs_per_call: 4,
            loan_timeout_ms: 100,
            memory_bytes: 1 << 20,
        })
    }

    pub(super) fn input(mut self, to: &str) -> Self {
        let edge = self.next_edge();
        let feed = self.feed(to);
        self.0.inputs.push(StageInput { edge, from: GATEWAY, feed });
        self
    }

    pub(super) fn inner(mut self, from: &str, to: &str) -> Self {
        let edge = (self.index(from), self.feed(to));
        self.0.inner.push(edge);
        self
    }

    pub(super) fn output(mut self, from: &str) -> Self {
        let edge = self.next_edge();
        let from = self.index(from);
        self.0.outputs.push(StageOutput { edge, from, to: GATEWAY, stage: StageId(7) });
        self
    }

    /// Gives a node ports; feeds that are drawn later name them as `id.port`.
    pub(super) fn ports(mut self, id: &str, ports: &[&str]) -> Self {
        let index = usize::from(self.index(id).0);
        self.0.nodes[index].ports = ports.iter().map(|port| (*port).to_owned()).collect();
        self
    }

    pub(super) fn plan(self) -> StagePlan {
        self.0
    }

    fn next_edge(&self) -> EdgeRef {
        let used = self.0.inputs.len() + self.0.outputs.len();
        EdgeRef { index: u32::try_from(used).expect("few edges"), epoch: 1 }
    }

    /// The next feed of a node.
    fn feed(&self, name: &str) -> StageFeed {
        let (id, port) = name.split_once('.').unwrap_or((name, ""));
        let to = self.index(id);
        let outer = self.0.inputs.iter().map(|input| input.feed);
        let feeds = outer.chain(self.0.inner.iter().map(|(_, feed)| *feed)).filter(|feed| feed.to == to);
        let ports = &self.0.nodes[usize::from(to.0)].ports;
        let port =
            ports.iter().position(|other| other == port).map(|place| place.try_into().expect("few ports"));
        StageFeed { to, number: feeds.count().try_into().expect("few feeds"), port }
    }

    fn index(&self, id: &str) -> NodeIndex {
        let mut known = String::new();
        for node in &self.0.nodes {
            if node.id == id {
                return node.index;
            }
            write!(known, "{} ", node.id).expect("a string grows");
        }
        panic!("node '{id}' is not in the sketch: there are {known}")
    }
}

const GATEWAY: Member = Member { slot: Slot::GATEWAY, incarnation: Incarnation::FIRST };
