//! The edges that a placed pipeline needs: the gateway's ends of them, and what each worker is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use remotemedia_core::frame::SessionId;
use remotemedia_core::graph::{Graph, NodeIndex};
use remotemedia_core::limits::Limits;
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::control::messages::{StageFeed, StageInput, StageNode, StageOutput, StagePlan};
use remotemedia_ipc::plane::{EdgeIn, EdgeOut, EdgeRef};
use remotemedia_ipc::slot::Member;

use crate::edges::{Edges, Lane};
use crate::placement::Placement;

/// A session's ends at the gateway, once it is placed.
#[derive(Debug)]
pub(crate) struct Wiring {
    /// The nodes that the client feeds.
    pub(crate) entries: Vec<EntryWires>,
    /// For each sink of the graph, in its order.
    pub(crate) sinks: Vec<EdgeIn>,
    /// Workers that run a part.
    pub(crate) members: Vec<Member>,
    /// By the nodes' order in the graph.
    pub(crate) infos: Vec<NodeInfo>,
}

/// The edges to a node that the client feeds: one for each of its ports that no other node feeds, or one without a name.
#[derive(Debug)]
pub(crate) struct EntryWires {
    pub(crate) node: NodeIndex,
    pub(crate) ports: Vec<(String, Arc<EdgeOut>)>,
}

/// A whole session, wired.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(crate) wiring: Wiring,
    pub(crate) plans: Vec<(Member, StagePlan)>,
    pub(crate) sinks: SinkEdges,
}

/// By edge index: which sink of the graph it comes from, and the worker that runs that.
pub(crate) type SinkEdges = BTreeMap<u32, (usize, Member)>;

/// What a drawing is made of.
pub(crate) struct Draughtsman<'a> {
    pub(crate) id: SessionId,
    pub(crate) gateway: Member,
    pub(crate) graph: &'a Graph,
    pub(crate) placement: &'a Placement,
    pub(crate) limits: &'a Limits,
    /// What the session may take at a time.
    pub(crate) memory_bytes: u64,
    pub(crate) edges: &'a mut Edges,
    /// Edges taken: to be given back when the session is over, or could not be drawn.
    pub(crate) lanes: &'a mut Vec<Lane>,
}

// === impl Draughtsman ===

impl Draughtsman<'_> {
    /// An edge wherever two processes meet. None if there are not enough.
    pub(crate) fn draw(mut self) -> Option<Drawing> {
        let mut plans: BTreeMap<Member, StagePlan> = BTreeMap::new();
        for node in self.graph.indices() {
            let plan = plans
                .entry(self.at(node))
                .or_insert_with(|| empty_plan(self.id, self.limits, self.memory_bytes));
            plan.nodes.push(self.stage_node(node));
        }
        let entries = self.draw_entries(&mut plans)?;
        self.draw_connections(&mut plans)?;
        let (sinks, sink_edges) = self.draw_sinks(&mut plans)?;
        let members = plans.keys().copied().collect();
        let wiring = Wiring { entries, sinks, members, infos: self.placement.infos.clone() };
        Some(Drawing { wiring, plans: plans.into_iter().collect(), sinks: sink_edges })
    }

    fn draw_entries(&mut self, plans: &mut BTreeMap<Member, StagePlan>) -> Option<Vec<EntryWires>> {
        let mut entries = Vec::new();
        for (node, names) in entry_ports(self.graph, &self.placement.infos) {
            let (member, connected) = (self.at(node), self.graph.edges_to(node).count());
            let mut ports = Vec::new();
            for (place, name) in names.into_iter().enumerate() {
                let edge = self.take(self.gateway, member)?;
                let feed = self.feed(node, connected + place, &name);
                plans.get_mut(&member)?.inputs.push(StageInput { edge, from: self.gateway, feed });
                ports.push((name, Arc::new(EdgeOut::new(edge, member, self.limits.credit_window))));
            }
            entries.push(EntryWires { node, ports });
        }
        Some(entries)
    }

    fn draw_connections(&mut self, plans: &mut BTreeMap<Member, StagePlan>) -> Option<()> {
        let graph = self.graph;
        for to in graph.indices() {
            for (number, connection) in graph.edges_to(to).enumerate() {
                let from = connection.from;
                let feed = self.feed(to, number, &connection.port);
                let (sender, receiver) = (self.at(from), self.at(to));
                if sender == receiver {
                    plans.get_mut(&sender)?.inner.push((from, feed));
                } else {
                    let edge = self.take(sender, receiver)?;
                    plans.get_mut(&sender)?.outputs.push(StageOutput { edge, from, to: receiver });
                    plans.get_mut(&receiver)?.inputs.push(StageInput { edge, from: sender, feed });
                }
            }
        }
        Some(())
    }

    fn draw_sinks(&mut self, plans: &mut BTreeMap<Member, StagePlan>) -> Option<(Vec<EdgeIn>, SinkEdges)> {
        let (mut sinks, mut by_edge) = (Vec::new(), BTreeMap::new());
        let (graph, gateway) = (self.graph, self.gateway);
        for (place, from) in graph.sinks().enumerate() {
            let member = self.at(from);
            let edge = self.take(member, gateway)?;
            plans.get_mut(&member)?.outputs.push(StageOutput { edge, from, to: gateway });
            sinks.push(EdgeIn::new(edge, member, self.limits.credit_window));
            by_edge.insert(edge.index, (place, member));
        }
        Some((sinks, by_edge))
    }

    fn at(&self, node: NodeIndex) -> Member {
        self.placement.workers[node.index()]
    }

    fn take(&mut self, from: Member, to: Member) -> Option<EdgeRef> {
        let lane = self.edges.take(from, to)?;
        self.lanes.push(lane);
        Some(lane.edge)
    }

    fn feed(&self, to: NodeIndex, number: usize, port: &str) -> StageFeed {
        let ports = &self.placement.infos[to.index()].ports;
        let place = ports.iter().position(|other| other.name == port);
        StageFeed {
            to,
            // A graph has fewer connections, and a type fewer ports.
            number: u16::try_from(number).unwrap_or(u16::MAX),
            port: place.map(|place| u16::try_from(place).unwrap_or(u16::MAX)),
        }
    }

    fn stage_node(&self, index: NodeIndex) -> StageNode {
        let node = self.graph.node(index);
        let ports = &self.placement.infos[index.index()].ports;
        StageNode {
            index,
            id: node.id.clone(),
            node_type: node.node_type.clone(),
            // A map of JSON values always has a text.
            params: serde_json::to_string(&node.params).unwrap_or_default(),
            ports: ports.iter().map(|port| port.name.clone()).collect(),
        }
    }
}

/// The nodes that the client feeds, each with the ports that no other node feeds.
fn entry_ports(graph: &Graph, infos: &[NodeInfo]) -> Vec<(NodeIndex, Vec<String>)> {
    let free = |index: NodeIndex| {
        let ports = &infos[index.index()].ports;
        let fed = |port: &str| graph.edges_to(index).any(|edge| edge.port == port);
        let names: Vec<String> = match ports.as_slice() {
            [] if graph.edges_to(index).next().is_none() => vec![String::new()],
            ports => ports.iter().map(|port| port.name.clone()).filter(|name| !fed(name)).collect(),
        };
        (index, names)
    };
    graph.indices().map(free).filter(|(_, names)| !names.is_empty()).collect()
}

fn empty_plan(session: SessionId, limits: &Limits, memory_bytes: u64) -> StagePlan {
    StagePlan {
        session,
        nodes: Vec::new(),
        inputs: Vec::new(),
        inner: Vec::new(),
        outputs: Vec::new(),
        window: limits.credit_window,
        max_outputs_per_call: u32::try_from(limits.max_outputs_per_call).unwrap_or(u32::MAX),
        loan_timeout_ms: limits.loan_timeout_ms,
        memory_bytes,
    }
}
