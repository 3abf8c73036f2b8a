//! The edges that a placed pipeline needs: the gateway's ends of them, and what each worker is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remotemedia_core::frame::{SessionId, StageId};
use remotemedia_core::graph::{Edge, Graph, NodeIndex};
use remotemedia_core::limits::Limits;
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::control::messages::{
    StageFeed, StageFeeder, StageInput, StageNode, StageOutput, StagePlan,
};
use remotemedia_ipc::plane::{EdgeIn, EdgeOut, EdgeRef};
use remotemedia_ipc::slot::Member;

use crate::edges::{Edges, Lane};
use crate::placement::Placement;
use crate::stragglers::Due;

/// A session's ends at the gateway, once it is placed.
#[derive(Debug)]
pub(crate) struct Wiring {
    /// The nodes that the client feeds.
    pub(crate) entries: Vec<EntryWires>,
    /// For each sink of the graph, in its order.
    pub(crate) sinks: Vec<SinkWires>,
    /// The parts that workers run. Nodes of one part are fused, and live and die together.
    pub(crate) stages: BTreeMap<StageId, StageWires>,
    /// How many of the stages are new, or have new feeders: of each it is heard when it is ready.
    pub(crate) awaited: usize,
    /// By the nodes' order in the graph.
    pub(crate) infos: Vec<NodeInfo>,
}

/// The edges to a node that the client feeds: one for each of its ports that no other node feeds, or one without a name.
#[derive(Clone, Debug)]
pub(crate) struct EntryWires {
    pub(crate) node: NodeIndex,
    pub(crate) stage: StageId,
    pub(crate) ports: Vec<(String, Arc<EdgeOut>)>,
}

/// The edge from a node whose output the client gets.
#[derive(Clone, Debug)]
pub(crate) struct SinkWires {
    pub(crate) stage: StageId,
    pub(crate) edge: Arc<EdgeIn>,
}

/// A part of the pipeline at a worker.
#[derive(Clone, Debug)]
pub(crate) struct StageWires {
    pub(crate) member: Member,
    pub(crate) nodes: BTreeSet<NodeIndex>,
    inputs: Vec<StageInput>,
}

/// Stages of an earlier attempt that stay as they are.
#[derive(Clone, Debug)]
pub(crate) struct Remains {
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) stages: BTreeSet<StageId>,
    /// By when calls in the others are to be over.
    pub(crate) due: Due,
}

/// A whole session, wired.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(crate) wiring: Wiring,
    /// Of the stages that are new.
    pub(crate) plans: Vec<(Member, StagePlan)>,
    /// By stage that is new, and edge: which sink of the graph it comes from.
    pub(crate) sinks: BTreeMap<StageId, SinkEdges>,
    pub(crate) rewires: Rewires,
}

/// By stage that stays, who feeds its inputs from here on.
pub(crate) type Rewires = BTreeMap<StageId, Vec<StageFeeder>>;

/// By edge index: which sink of the graph it comes from.
pub(crate) type SinkEdges = BTreeMap<u32, usize>;

/// An edge, and the stages that hold it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Drawn {
    pub(crate) lane: Lane,
    pub(crate) stages: Vec<StageId>,
}

/// What a drawing is made of.
pub(crate) struct Draughtsman<'a> {
    pub(crate) session: SessionId,
    pub(crate) gateway: Member,
    pub(crate) graph: &'a Graph,
    pub(crate) placement: &'a Placement,
    pub(crate) remains: Option<&'a Remains>,
    pub(crate) limits: &'a Limits,
    /// What the session may take at a time.
    pub(crate) memory_bytes: u64,
    pub(crate) edges: &'a mut Edges,
    /// Edges taken: to be given back when the stages that hold them are gone, or nothing could be drawn.
    pub(crate) lanes: &'a mut Vec<Drawn>,
}

/// What a drawing has so far.
struct Sheet {
    /// By node.
    stage_of: Vec<StageId>,
    stages: BTreeMap<StageId, StageWires>,
    plans: BTreeMap<StageId, StagePlan>,
    rewires: Rewires,
}

// === impl Wiring ===

impl Wiring {
    /// Those stages, of the ones that `stays` says are there, on which nothing depends that is not.
    pub(crate) fn independent(&self, graph: &Graph, stays: impl Fn(StageId) -> bool) -> BTreeSet<StageId> {
        let nodes = |(id, stage): (&StageId, &StageWires)| {
            let id = *id;
            stage.nodes.iter().map(move |node| (*node, id)).collect::<Vec<_>>()
        };
        let stage_of: BTreeMap<NodeIndex, StageId> = self.stages.iter().flat_map(nodes).collect();
        let mut independent: BTreeSet<StageId> =
            self.stages.keys().copied().filter(|stage| stays(*stage)).collect();
        loop {
            let feeds_gone = |edge: &Edge| {
                let is_gone = stage_of.get(&edge.to).is_none_or(|to| !independent.contains(to));
                stage_of.get(&edge.from).copied().filter(|from| is_gone && independent.contains(from))
            };
            let Some(gone) = graph.edges().iter().find_map(feeds_gone) else { return independent };
            independent.remove(&gone);
        }
    }
}

// === impl StageWires ===

impl StageWires {
    /// Whether an edge is that of one of its inputs.
    pub(crate) fn is_fed_by(&self, edge: EdgeRef) -> bool {
        self.inputs.iter().any(|input| input.edge == edge)
    }
}

// === impl Remains ===

impl Remains {
    /// The worker of a node that stays, and what is known of its type.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeIndex, Member, &NodeInfo)> {
        let stages = self.wiring.stages.iter().filter(|(id, _)| self.stages.contains(id));
        stages.flat_map(|(_, stage)| {
            stage.nodes.iter().map(|node| (*node, stage.member, &self.wiring.infos[node.index()]))
        })
    }
}

// === impl Draughtsman ===

impl Draughtsman<'_> {
    /// An edge wherever two stages meet. None if there are not enough. `next_id` names stages.
    pub(crate) fn draw(mut self, next_id: impl FnMut() -> StageId) -> Option<Drawing> {
        let mut sheet = self.lay_out(next_id);
        let entries = self.draw_entries(&mut sheet)?;
        self.draw_connections(&mut sheet)?;
        let (sinks, sink_edges) = self.draw_sinks(&mut sheet)?;
        let Sheet { mut stages, plans, rewires, .. } = sheet;
        for (id, plan) in &plans {
            stages.get_mut(id)?.inputs.clone_from(&plan.inputs);
        }
        let awaited = plans.len() + rewires.len();
        let infos = self.placement.infos.clone();
        let plans =
            plans.into_iter().filter_map(|(id, plan)| Some((stages.get(&id)?.member, plan))).collect();
        let wiring = Wiring { entries, sinks, stages, awaited, infos };
        Some(Drawing { wiring, plans, sinks: sink_edges, rewires })
    }

    /// The stages: those that stay, and of the other nodes those together that are connected within one worker.
    fn lay_out(&self, mut next_id: impl FnMut() -> StageId) -> Sheet {
        let mut stages: BTreeMap<StageId, StageWires> = BTreeMap::new();
        if let Some(Remains { wiring, stages: kept, .. }) = self.remains {
            let kept = wiring.stages.iter().filter(|(id, _)| kept.contains(id));
            stages.extend(kept.map(|(id, stage)| (*id, stage.clone())));
        }
        let mut stage_of: BTreeMap<NodeIndex, StageId> =
            stages.iter().flat_map(|(id, stage)| stage.nodes.iter().map(|node| (*node, *id))).collect();
        let mut plans = BTreeMap::new();
        for first in self.graph.indices() {
            if stage_of.contains_key(&first) {
                continue;
            }
            let (id, member) = (next_id(), self.at(first));
            let mut nodes = BTreeSet::from([first]);
            let mut ahead = vec![first];
            while let Some(node) = ahead.pop() {
                let next = self.graph.edges_from(node).map(|edge| edge.to);
                let next = next.chain(self.graph.edges_to(node).map(|edge| edge.from));
                let near = next.filter(|node| self.at(*node) == member && !stage_of.contains_key(node));
                ahead.extend(near.filter(|node| nodes.insert(*node)));
            }
            stage_of.extend(nodes.iter().map(|node| (*node, id)));
            let mut plan = empty_plan(id, self.session, self.limits, self.memory_bytes);
            plan.nodes.extend(nodes.iter().map(|node| self.stage_node(*node)));
            plans.insert(id, plan);
            stages.insert(id, StageWires { member, nodes, inputs: Vec::new() });
        }
        Sheet { stage_of: stage_of.into_values().collect(), stages, plans, rewires: BTreeMap::new() }
    }

    fn draw_entries(&mut self, sheet: &mut Sheet) -> Option<Vec<EntryWires>> {
        let mut entries = Vec::new();
        for (node, names) in entry_ports(self.graph, &self.placement.infos) {
            let (member, stage) = (self.at(node), sheet.stage(node));
            let Some(plan) = sheet.plans.get_mut(&stage) else {
                let wires = self.remains?.wiring.entries.iter().find(|entry| entry.node == node)?;
                entries.push(wires.clone());
                continue;
            };
            let connected = self.graph.edges_to(node).count();
            let mut ports = Vec::new();
            for (place, name) in names.into_iter().enumerate() {
                let edge = self.take(self.gateway, member, vec![stage])?;
                let feed = self.feed(node, connected + place, &name);
                plan.inputs.push(StageInput { edge, from: self.gateway, feed });
                ports.push((name, Arc::new(EdgeOut::new(edge, member, self.limits.credit_window))));
            }
            entries.push(EntryWires { node, stage, ports });
        }
        Some(entries)
    }

    fn draw_connections(&mut self, sheet: &mut Sheet) -> Option<()> {
        let graph = self.graph;
        for to in graph.indices() {
            for (number, connection) in graph.edges_to(to).enumerate() {
                let from = connection.from;
                let (sending, receiving) = (sheet.stage(from), sheet.stage(to));
                // On what stays nothing depends that does not.
                if !sheet.plans.contains_key(&sending) {
                    continue;
                }
                let feed = self.feed(to, number, &connection.port);
                if sending == receiving {
                    sheet.plans.get_mut(&sending)?.inner.push((from, feed));
                    continue;
                }
                let (sender, receiver) = (self.at(from), self.at(to));
                let edge = self.take(sender, receiver, vec![sending, receiving])?;
                let output = StageOutput { edge, from, to: receiver, stage: receiving };
                sheet.plans.get_mut(&sending)?.outputs.push(output);
                match sheet.plans.get_mut(&receiving) {
                    Some(plan) => plan.inputs.push(StageInput { edge, from: sender, feed }),
                    None => sheet.feed_anew(receiving, &feed, edge, sender)?,
                }
            }
        }
        Some(())
    }

    fn draw_sinks(&mut self, sheet: &mut Sheet) -> Option<(Vec<SinkWires>, BTreeMap<StageId, SinkEdges>)> {
        let (mut sinks, mut by_stage) = (Vec::new(), BTreeMap::<StageId, SinkEdges>::new());
        let (graph, gateway) = (self.graph, self.gateway);
        for (place, from) in graph.sinks().enumerate() {
            let (member, stage) = (self.at(from), sheet.stage(from));
            let Some(plan) = sheet.plans.get_mut(&stage) else {
                sinks.push(self.remains?.wiring.sinks.get(place)?.clone());
                continue;
            };
            let edge = self.take(member, gateway, vec![stage])?;
            plan.outputs.push(StageOutput { edge, from, to: gateway, stage });
            let end = Arc::new(EdgeIn::new(edge, member, self.limits.credit_window));
            sinks.push(SinkWires { stage, edge: end });
            by_stage.entry(stage).or_default().insert(edge.index, place);
        }
        Some((sinks, by_stage))
    }

    fn at(&self, node: NodeIndex) -> Member {
        self.placement.workers[node.index()]
    }

    fn take(&mut self, from: Member, to: Member, stages: Vec<StageId>) -> Option<EdgeRef> {
        let lane = self.edges.take(from, to)?;
        self.lanes.push(Drawn { lane, stages });
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

// === impl Sheet ===

impl Sheet {
    fn stage(&self, node: NodeIndex) -> StageId {
        self.stage_of[node.index()]
    }

    /// Has another feed an input of a stage that stays.
    fn feed_anew(&mut self, stage: StageId, feed: &StageFeed, edge: EdgeRef, from: Member) -> Option<()> {
        let inputs = &mut self.stages.get_mut(&stage)?.inputs;
        let is_it = |input: &StageInput| (input.feed.to, input.feed.number) == (feed.to, feed.number);
        let place = inputs.iter().position(is_it)?;
        inputs[place] = StageInput { edge, from, feed: *feed };
        let feeder = StageFeeder { input: u16::try_from(place).ok()?, edge, from };
        self.rewires.entry(stage).or_default().push(feeder);
        Some(())
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

fn empty_plan(stage: StageId, session: SessionId, limits: &Limits, memory_bytes: u64) -> StagePlan {
    StagePlan {
        stage,
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
