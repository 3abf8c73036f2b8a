//! Which worker runs which node. Neighbours share a process where they may; else the least busy worker is taken.

use std::collections::{BTreeMap, BTreeSet};

use remotemedia_core::fault::PlacementError;
use remotemedia_core::graph::{Graph, NodeIndex};
use remotemedia_core::machine;
use remotemedia_core::manifest::{NodeManifest, RuntimeHint};
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::machine::THIS;
use remotemedia_ipc::slot::Member;

use crate::registry::{Registry, WorkerEntry};
use crate::wiring::Remains;

pub(crate) use remotemedia_core::fault::in_words as names;

/// A worker for each node.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Placement {
    /// By the nodes' order in the graph.
    pub(crate) workers: Vec<Member>,
    /// What is known of each node's type, in the same order.
    pub(crate) infos: Vec<NodeInfo>,
}

/// Why there is no worker for some node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unplaced {
    pub(crate) error: Box<PlacementError>,
    /// What another worker would help; none if none would.
    pub(crate) wanted: Option<Wanted>,
}

/// A node, and the type of which there are too few workers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) node: String,
    pub(crate) node_type: String,
}

/// Finds a worker for every node but those that stay where they are.
pub(crate) fn place(
    graph: &Graph,
    registry: &Registry,
    remains: Option<&Remains>,
) -> Result<Placement, Unplaced> {
    let mut workers: BTreeMap<NodeIndex, Member> = BTreeMap::new();
    let mut infos: BTreeMap<NodeIndex, NodeInfo> = BTreeMap::new();
    for (node, member, info) in remains.into_iter().flat_map(Remains::nodes) {
        workers.insert(node, member);
        infos.insert(node, info.clone());
    }
    for index in graph.downstream_order() {
        if workers.contains_key(&index) {
            continue;
        }
        let (member, info) = place_one(graph, index, &workers, registry)?;
        workers.insert(index, member);
        infos.insert(index, info);
    }
    for edge in graph.edges() {
        let (producer, consumer) = (&graph.node(edge.from).id, &graph.node(edge.to).id);
        let (gives, takes) = (&infos[&edge.from], &infos[&edge.to]);
        PlacementError::check_edge((producer, gives), (consumer, takes), &edge.port)?;
    }
    Ok(Placement { workers: workers.into_values().collect(), infos: infos.into_values().collect() })
}

fn place_one(
    graph: &Graph,
    index: NodeIndex,
    placed: &BTreeMap<NodeIndex, Member>,
    registry: &Registry,
) -> Result<(Member, NodeInfo), Unplaced> {
    let node = graph.node(index);
    if let Some(error) = machine::problems(node, Some(&THIS)).into_iter().next() {
        return Err(error.into());
    }
    let offering: Vec<(Member, &WorkerEntry, &NodeInfo)> = registry
        .ready()
        .filter_map(|(member, worker)| Some((member, worker, worker.offers(&node.node_type)?)))
        .collect();
    if offering.is_empty() {
        let known: BTreeSet<&str> = registry.node_types().into_values().flat_map(NodeInfo::names).collect();
        let known: Vec<&str> = known.into_iter().collect();
        let error = PlacementError::UnknownType {
            node: node.id.clone(),
            node_type: node.node_type.clone(),
            known: if known.is_empty() {
                "none, for no worker has joined".to_owned()
            } else {
                known.join(", ")
            },
            failing: registry.failing(),
        };
        return Err(Unplaced::for_want_of(node, error));
    }
    let (suited, others): (Vec<_>, Vec<_>) =
        offering.into_iter().partition(|(_, worker, _)| suits(node.runtime_hint, &worker.hello.kind));
    if suited.is_empty() {
        let kinds: BTreeSet<&str> = others.iter().map(|(_, worker, _)| worker.hello.kind.as_str()).collect();
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
        let have = format!("'{}' is offered by pools of kind {kinds}", node.node_type);
        let (node_id, what, value) =
            (node.id.clone(), "runtime_hint".to_owned(), node.runtime_hint.name().to_owned());
        let error = PlacementError::Unsatisfied { node: node_id, what, value, have };
        return Err(Unplaced::for_want_of(node, error));
    }
    let apart = |neighbour: &NodeManifest| node.own_process || neighbour.own_process;
    let before = graph.edges_to(index).filter_map(|edge| {
        let neighbour = graph.node(edge.from);
        Some((apart(neighbour), *placed.get(&edge.from)?))
    });
    let (taken, near): (Vec<_>, Vec<_>) = before.partition(|(apart, _)| *apart);
    // Nodes behind this one that have a place already stay as they are: another process feeds them.
    let behind: BTreeSet<Member> =
        graph.edges_from(index).filter_map(|edge| placed.get(&edge.to).copied()).collect();
    let is_taken =
        |member: Member| behind.contains(&member) || taken.iter().any(|(_, other)| *other == member);
    let shared = near
        .iter()
        .filter(|(_, member)| !is_taken(*member))
        .find_map(|(_, member)| suited.iter().find(|(offered, ..)| offered == member));
    if let Some((member, _, info)) = shared {
        return Ok((*member, (*info).clone()));
    }
    let workers = suited.len();
    let load = |member: Member, worker: &WorkerEntry| {
        let sessions = worker.sessions + placed.values().filter(|other| **other == member).count();
        (worker.lateness.is_some(), sessions, member)
    };
    let free = suited.into_iter().filter(|(member, ..)| !is_taken(*member));
    let chosen = free.min_by_key(|(member, worker, _)| load(*member, worker));
    let (member, _, info) = chosen.ok_or_else(|| {
        Unplaced::for_want_of(node, PlacementError::NoOwnProcess { node: node.id.clone(), workers })
    })?;
    Ok((member, info.clone()))
}

impl Unplaced {
    fn for_want_of(node: &NodeManifest, error: PlacementError) -> Self {
        let wanted = Wanted { node: node.id.clone(), node_type: node.node_type.clone() };
        Self { error: Box::new(error), wanted: Some(wanted) }
    }
}

impl From<PlacementError> for Unplaced {
    fn from(error: PlacementError) -> Self {
        Self { error: Box::new(error), wanted: None }
    }
}

/// A pool says of what kind it is; the hint is the contract's word for the interpreter that a node is written for.
fn suits(hint: RuntimeHint, kind: &str) -> bool {
    match hint {
        RuntimeHint::Unspecified | RuntimeHint::Auto => true,
        RuntimeHint::Cpython => matches!(kind, "python" | "cpython"),
        RuntimeHint::Rustpython | RuntimeHint::CpythonWasm => false,
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::data::Kind;
    use remotemedia_core::limits::Limits;
    use remotemedia_core::manifest::{Connection, Manifest, VERSION};
    use remotemedia_ipc::control::messages::{Hello, PROTOCOL};
    use remotemedia_ipc::slot::{Incarnation, Slot};

    use super::*;

    fn info(name: &str, accepts: &[Kind], produces: &[Kind]) -> NodeInfo {
        NodeInfo {
            name: name.to_owned(),
            aliases: Vec::new(),
            summary: String::new(),
            accepts: accepts.to_vec(),
            produces: produces.to_vec(),
            parameters: Vec::new(),
            repeatable: true,
            ..NodeInfo::default()
        }
    }

    fn registry(workers: u8) -> Registry {
        let mut registry = Registry::default();
        for slot in 1..=workers {
            let member = Member { slot: Slot::new(slot).unwrap(), incarnation: Incarnation::FIRST };
            let nodes = vec![
                info("Any", &[], &[]),
                info("Hear", &[Kind::Audio], &[Kind::Json]),
                info("Say", &[Kind::Text], &[Kind::Audio]),
            ];
            let hello = Hello {
                protocol: PROTOCOL,
                name: format!("w{slot}"),
                kind: "rust".to_owned(),
                nodes,
                loading: None,
                invocation: None,
            };
            registry.join(member, 100 + i32::from(slot), hello);
        }
        registry
    }

    /// Nodes `a`, `b`, ... of these types, in a chain.
    fn chain(nodes: &[(&str, bool)]) -> Graph {
        let ids = ["a", "b", "c", "d"];
        let node = |(id, (node_type, own_process)): (&&str, &(&str, bool))| NodeManifest {
            id: (*id).to_owned(),
            node_type: (*node_type).to_owned(),
            own_process: *own_process,
            ..NodeManifest::default()
        };
        let edge = |pair: &[&str]| Connection { from: pair[0].to_owned(), to: pair[1].to_owned() };
        let manifest = Manifest {
            version: VERSION.to_owned(),
            nodes: ids.iter().zip(nodes).map(node).collect(),
            connections: ids[..nodes.len()].windows(2).map(edge).collect(),
            ..Manifest::default()
        };
        Graph::check(&manifest, &Limits::default()).unwrap()
    }

    fn slots(placement: &Placement) -> Vec<u8> {
        placement.workers.iter().map(|member| member.slot.number()).collect()
    }

    #[test]
    fn neighbours_share_a_process_unless_one_asks_not_to() {
        let placed = |nodes: &[(&str, bool)]| slots(&place(&chain(nodes), &registry(3), None).unwrap());
        assert_eq!(placed(&[("Any", false), ("Any", false)]), [1, 1]);
        assert_eq!(placed(&[("Any", false), ("Any", true), ("Any", false)]), [1, 2, 3]);
    }

    #[test]
    fn the_least_busy_worker_is_taken() {
        let mut registry = registry(2);
        let first = registry.iter().next().unwrap().0;
        registry.session_opened(first);
        assert_eq!(slots(&place(&chain(&[("Any", false)]), &registry, None).unwrap()), [2]);
    }

    #[test]
    fn what_cannot_be_placed_is_answered_in_words() {
        let check = |nodes: &[(&str, bool)], workers, expect: &str| {
            assert_eq!(place(&chain(nodes), &registry(workers), None).unwrap_err().error.to_string(), expect);
        };
        check(
            &[("Dance", false)],
            1,
            "node 'a' is of type 'Dance', which no worker offers: there are Any, Hear, Say",
        );
        check(
            &[("Any", false)],
            0,
            "node 'a' is of type 'Any', which no worker offers: there are none, for no worker has joined",
        );
        check(
            &[("Hear", false), ("Say", false)],
            1,
            "connection 'a' -> 'b': 'a' produces json, 'b' expects text",
        );
        check(
            &[("Any", true), ("Any", false)],
            1,
            "node 'b' asks for own_process, but only 1 workers offer its type and all are taken by its neighbours: start more",
        );
    }

    #[test]
    fn host_hint_and_capabilities_are_honoured_or_refused() {
        let ask = |text: &str| {
            let manifest = format!("version: v1\nnodes: [{{ id: a, node_type: Any, {text} }}]");
            let manifest = Manifest::from_yaml(&manifest).unwrap();
            let graph = Graph::check(&manifest, &Limits::default()).unwrap();
            place(&graph, &registry(1), None).map(|_placed| ()).map_err(|unplaced| unplaced.error.to_string())
        };
        let refused = |text: &str, expect: &str| {
            let said = ask(text).unwrap_err();
            assert!(said.starts_with(expect), "{said:?} for {text}");
        };
        let (name, cores) = (&THIS.name, THIS.cores);
        for fine in [
            "host: localhost".to_owned(),
            format!("host: '{name}'"),
            "is_streaming: true".to_owned(),
            "runtime_hint: auto".to_owned(),
            format!("capabilities: {{ cpu: {{ cores: {cores}, arch: {} }} }}", std::env::consts::ARCH),
            "capabilities: { memory_gb: 0.1, gpu: { type: cuda, required: false } }".to_owned(),
        ] {
            assert_eq!(ask(&fine), Ok(()), "{fine}");
        }
        refused("host: mars", "node 'a' asks for host = mars: nodes run on this machine, '");
        let offered = "'Any' is offered by pools of kind rust";
        let unknown = "no pool runs that: write auto, or cpython for nodes in Python";
        for (hint, have) in [("cpython", offered), ("rustpython", unknown), ("cpython_wasm", unknown)] {
            let expect = format!("node 'a' asks for runtime_hint = {hint}: {have}");
            refused(&format!("runtime_hint: {hint}"), &expect);
        }
        let capability = |text: &str, expect: &str| {
            refused(
                &format!("capabilities: {{ {text} }}"),
                &format!("node 'a' asks for capabilities.{expect}"),
            );
        };
        capability("gpu: { type: cuda, required: true }", "gpu = cuda: no pool declares a gpu");
        capability("cpu: { arch: mips }", "cpu.arch = mips: this machine is ");
        capability("cpu: { cores: 100000 }", &format!("cpu.cores = 100000: this machine has {cores}"));
        capability("memory_gb: 1e9", "memory_gb = 1000000000: this machine has ");
    }

    #[test]
    fn a_hint_takes_a_node_to_a_pool_of_that_kind() {
        let mut registry = registry(1);
        let member = Member { slot: Slot::new(9).unwrap(), incarnation: Incarnation::FIRST };
        let (kind, nodes) = ("python".to_owned(), vec![info("Any", &[], &[])]);
        registry.join(
            member,
            109,
            Hello { protocol: PROTOCOL, name: "p1".to_owned(), kind, nodes, loading: None, invocation: None },
        );
        let manifest = "version: v1\nnodes: [{ id: a, node_type: Any, runtime_hint: cpython }]";
        let graph = Graph::check(&Manifest::from_yaml(manifest).unwrap(), &Limits::default()).unwrap();
        assert_eq!(slots(&place(&graph, &registry, None).unwrap()), [9]);
    }
}
