//! Which worker runs which node. Neighbours share a process where they may; else the least busy worker is taken.

use std::collections::BTreeMap;

use remotemedia_core::data::Kind;
use remotemedia_core::fault::PlacementError;
use remotemedia_core::graph::{Graph, NodeIndex};
use remotemedia_core::manifest::{Capabilities, NodeManifest, RuntimeHint};
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::slot::Member;

use crate::registry::{Registry, WorkerEntry};

/// A worker for each node.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Placement {
    /// By the nodes' order in the graph.
    pub(crate) workers: Vec<Member>,
    /// What is known of each node's type, in the same order.
    pub(crate) infos: Vec<NodeInfo>,
}

/// Finds a worker for every node.
pub(crate) fn place(graph: &Graph, registry: &Registry) -> Result<Placement, PlacementError> {
    let mut workers: BTreeMap<NodeIndex, Member> = BTreeMap::new();
    let mut infos: BTreeMap<NodeIndex, NodeInfo> = BTreeMap::new();
    for index in downstream(graph) {
        let (member, info) = place_one(graph, index, &workers, registry)?;
        workers.insert(index, member);
        infos.insert(index, info);
    }
    for (from, produces) in &infos {
        for to in graph.next(*from) {
            check_kinds(graph, (*from, produces), (*to, &infos[to]))?;
        }
    }
    Ok(Placement { workers: workers.into_values().collect(), infos: infos.into_values().collect() })
}

/// All nodes, each after the one that feeds it.
fn downstream(graph: &Graph) -> Vec<NodeIndex> {
    let mut order: Vec<NodeIndex> = graph.entries().collect();
    let mut done = 0;
    while let Some(index) = order.get(done).copied() {
        order.extend(graph.next(index));
        done += 1;
    }
    order
}

fn place_one(
    graph: &Graph,
    index: NodeIndex,
    placed: &BTreeMap<NodeIndex, Member>,
    registry: &Registry,
) -> Result<(Member, NodeInfo), PlacementError> {
    let node = graph.node(index);
    check_host(node)?;
    let offering: Vec<(Member, &WorkerEntry, &NodeInfo)> = registry
        .ready()
        .filter_map(|(member, worker)| Some((member, worker, worker.offers(&node.node_type)?)))
        .collect();
    if offering.is_empty() {
        let known: Vec<&str> = registry.node_types().into_keys().collect();
        return Err(PlacementError::UnknownType {
            node: node.id.clone(),
            node_type: node.node_type.clone(),
            known: if known.is_empty() {
                "none, for no worker has joined".to_owned()
            } else {
                known.join(", ")
            },
        });
    }
    let suited: Vec<_> =
        offering.into_iter().filter(|(_, worker, _)| suits(node.runtime_hint, worker)).collect();
    if suited.is_empty() {
        return Err(unsatisfied(
            node,
            "runtime_hint",
            format!("{:?}", node.runtime_hint),
            "no worker of that kind offers the type",
        ));
    }
    let previous =
        graph.previous(index).and_then(|previous| Some((graph.node(previous), *placed.get(&previous)?)));
    let apart = |neighbour: &NodeManifest| node.own_process || neighbour.own_process;
    if let Some((neighbour, member)) = previous
        && !apart(neighbour)
        && let Some((member, _, info)) = suited.iter().find(|(offered, ..)| *offered == member)
    {
        return Ok((*member, (*info).clone()));
    }
    let taken = previous.filter(|(neighbour, _)| apart(neighbour)).map(|(_, member)| member);
    let workers = suited.len();
    let load = |member: Member, worker: &WorkerEntry| {
        (worker.sessions + placed.values().filter(|other| **other == member).count(), member)
    };
    let free = suited.into_iter().filter(|(member, ..)| Some(*member) != taken);
    let chosen = free.min_by_key(|(member, worker, _)| load(*member, worker));
    let (member, _, info) =
        chosen.ok_or_else(|| PlacementError::NoOwnProcess { node: node.id.clone(), workers })?;
    Ok((member, info.clone()))
}

/// This service is one machine, and has what its workers have.
fn check_host(node: &NodeManifest) -> Result<(), PlacementError> {
    if !matches!(node.host.as_str(), "" | "localhost" | "127.0.0.1" | "::1") {
        return Err(unsatisfied(
            node,
            "host",
            node.host.clone(),
            "nodes run on this machine: leave it empty",
        ));
    }
    let Some(Capabilities { gpu, cpu, memory_gb: _ }) = &node.capabilities else { return Ok(()) };
    if let Some(gpu) = gpu.as_ref().filter(|gpu| gpu.required) {
        return Err(unsatisfied(node, "capabilities.gpu", gpu.kind.clone(), "no worker has announced a gpu"));
    }
    let Some(cpu) = cpu else { return Ok(()) };
    if !cpu.arch.is_empty() && cpu.arch != std::env::consts::ARCH {
        return Err(unsatisfied(node, "capabilities.cpu.arch", cpu.arch.clone(), std::env::consts::ARCH));
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if usize::try_from(cpu.cores).is_ok_and(|asked| asked > cores) {
        let have = format!("this machine has {cores}");
        return Err(unsatisfied(node, "capabilities.cpu.cores", cpu.cores.to_string(), &have));
    }
    Ok(())
}

fn suits(hint: RuntimeHint, worker: &WorkerEntry) -> bool {
    match hint {
        RuntimeHint::Unspecified | RuntimeHint::Auto => true,
        RuntimeHint::Cpython => worker.hello.kind == "python",
        RuntimeHint::Rustpython | RuntimeHint::CpythonWasm => false,
    }
}

fn check_kinds(
    graph: &Graph,
    (from, producer): (NodeIndex, &NodeInfo),
    (to, consumer): (NodeIndex, &NodeInfo),
) -> Result<(), PlacementError> {
    let any = producer.produces.is_empty() || consumer.accepts.is_empty();
    if any || producer.produces.iter().any(|kind| consumer.accepts.contains(kind)) {
        return Ok(());
    }
    Err(PlacementError::Incompatible {
        from: graph.node(from).id.clone(),
        to: graph.node(to).id.clone(),
        produces: names(&producer.produces),
        expects: names(&consumer.accepts),
    })
}

/// Kinds in words.
pub(crate) fn names(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or ")
}

fn unsatisfied(node: &NodeManifest, what: &str, value: String, have: &str) -> PlacementError {
    PlacementError::Unsatisfied { node: node.id.clone(), what: what.to_owned(), value, have: have.to_owned() }
}

#[cfg(test)]
mod tests {
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
            let hello =
                Hello { protocol: PROTOCOL, name: format!("w{slot}"), kind: "rust".to_owned(), nodes };
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
        let placed = |nodes: &[(&str, bool)]| slots(&place(&chain(nodes), &registry(3)).unwrap());
        assert_eq!(placed(&[("Any", false), ("Any", false)]), [1, 1]);
        assert_eq!(placed(&[("Any", false), ("Any", true), ("Any", false)]), [1, 2, 3]);
    }

    #[test]
    fn the_least_busy_worker_is_taken() {
        let mut registry = registry(2);
        let first = registry.iter().next().unwrap().0;
        registry.session_opened(first);
        assert_eq!(slots(&place(&chain(&[("Any", false)]), &registry).unwrap()), [2]);
    }

    #[test]
    fn what_cannot_be_placed_is_answered_in_words() {
        let check = |nodes: &[(&str, bool)], workers, expect: &str| {
            assert_eq!(place(&chain(nodes), &registry(workers)).unwrap_err().to_string(), expect);
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
}
