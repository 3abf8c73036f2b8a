//! What becomes of work when a worker dies under it.
//!
//! | the pipeline's nodes | a unary run | a stream |
//! | --- | --- | --- |
//! | none was called that is not repeatable | runs again, from the beginning | |
//! | those that died, and all before them, are repeatable | goes to other workers as far as them, and the rest stays as it is | the same, where they are stateless too |
//! | nothing was sent yet | runs again | begins again |
//! | any other | ends | ends, or begins anew with a gap, as the manifest says |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remotemedia_core::fault::{DeathCause, Fault, WorkerLost};
use remotemedia_core::graph::{Graph, NodeIndex};
use remotemedia_core::manifest::OnWorkerLoss;
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::calls::Call;
use remotemedia_ipc::plane::Prepared;
use tokio::sync::watch;

/// A worker of a session has died.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// How it ended is not in it before that is known: work goes on without, and who tells somebody waits for it.
    pub(crate) lost: WorkerLost,
    /// The kind of its pool.
    pub(crate) kind: String,
    /// The call of one of the session's nodes that it was in.
    pub(crate) call: Option<Call>,
    /// Whether it has been counted against the input of that call.
    pub(crate) is_counted: bool,
    /// How it ended, when that is known. When nobody is there any more who would tell, it stays unknown.
    pub(crate) ending: watch::Receiver<Option<Ending>>,
}

/// How a worker ended, as far as it is ever known.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) cause: DeathCause,
    pub(crate) restarts: u32,
    pub(crate) last_lines: Vec<String>,
}

/// What becomes of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Survival {
    /// It ends.
    End,
    /// What is not answered goes to other workers, and what does not depend on the dead stays as it is.
    Replay,
    /// Its nodes begin anew, and what was under way is lost.
    Restart,
}

/// What an input was sent as: for each edge of its entry a frame, or none for a mark.
pub(crate) type Pieces = Arc<Vec<Option<Prepared>>>;

/// Inputs of a stream that are not answered, by sequence and entry.
#[derive(Debug, Default)]
pub(crate) struct Kept(BTreeMap<(u64, usize), KeptInput>);

/// An input that is not answered.
#[derive(Clone, Debug)]
pub(crate) struct KeptInput {
    /// As it went in; none if it is not to go in again.
    pub(crate) pieces: Option<Pieces>,
    /// How often it went in again because a worker died of it, or nobody knows of what.
    pub(crate) replays: u32,
    /// Why it is not answered with outputs, if it is not.
    pub(crate) missed: Option<Fault>,
}

// === impl Loss ===

impl Loss {
    /// Whether more will not be known of how it ended.
    pub(crate) fn is_known(&self) -> bool {
        self.ending.borrow().is_some() || self.ending.has_changed().is_err()
    }

    /// Takes in how it ended, if that is known by now.
    pub(crate) fn learn(&mut self) {
        let told = self.ending.borrow().clone();
        if let Some(Ending { cause, restarts, last_lines }) = told {
            (self.lost.cause, self.lost.restarts, self.lost.last_lines) = (cause, restarts, last_lines);
        }
    }

    /// The same when it is known, which it is within the time that the host waits for it.
    pub(crate) async fn told(&mut self) {
        drop(self.ending.wait_for(Option::is_some).await);
        self.learn();
    }
}

// === impl Survival ===

impl Survival {
    /// Of a stream that may be replayed so often and has lost these nodes, with those before them.
    pub(crate) fn of_stream<'a>(
        mut lost: impl Iterator<Item = &'a NodeInfo>,
        asked: OnWorkerLoss,
        replays: u32,
    ) -> Self {
        match asked {
            _ if replays > 0 && lost.all(NodeInfo::is_replayable) => Self::Replay,
            OnWorkerLoss::End => Self::End,
            OnWorkerLoss::Restart => Self::Restart,
        }
    }
}

/// Whether a unary run may begin again: whoever may have been called gives the same again.
pub(crate) fn may_run_again(graph: &Graph, infos: &[NodeInfo], call: Option<&Call>) -> bool {
    // Outputs go on when a call is over: nobody behind a node in its first call has had anything from it.
    let barrier = call.filter(|call| call.earlier == 0).map(|call| call.node);
    reached(graph, infos, barrier).into_iter().all(|node| infos[node.index()].repeatable)
}

/// The nodes that data may have come to, if `barrier` let nothing through.
fn reached(graph: &Graph, infos: &[NodeInfo], barrier: Option<NodeIndex>) -> BTreeSet<NodeIndex> {
    let is_entry = |node: &NodeIndex| {
        let fed: BTreeSet<&str> = graph.edges_to(*node).map(|edge| edge.port.as_str()).collect();
        fed.is_empty() || infos[node.index()].ports.iter().any(|port| !fed.contains(port.name.as_str()))
    };
    let mut reached: BTreeSet<NodeIndex> = graph.indices().filter(is_entry).collect();
    for node in graph.downstream_order() {
        let passes = |from: &NodeIndex| reached.contains(from) && Some(*from) != barrier;
        if graph.edges_to(node).any(|edge| passes(&edge.from)) {
            reached.insert(node);
        }
    }
    reached
}

// === impl Kept ===

impl Kept {
    pub(crate) fn put(&mut self, sequence: u64, entry: usize, pieces: Option<Pieces>, missed: Option<Fault>) {
        self.0.insert((sequence, entry), KeptInput { pieces, replays: 0, missed });
    }

    pub(crate) fn forget(&mut self, sequence: u64, entry: usize) -> Option<KeptInput> {
        self.0.remove(&(sequence, entry))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in the order in which they go in again.
    pub(crate) fn places(&self) -> Vec<(u64, usize)> {
        self.0.keys().copied().collect()
    }

    pub(crate) fn get(&self, place: (u64, usize)) -> Option<&KeptInput> {
        self.0.get(&place)
    }

    pub(crate) fn get_mut(&mut self, place: (u64, usize)) -> Option<&mut KeptInput> {
        self.0.get_mut(&place)
    }

    /// The frames of all inputs of a sequence.
    pub(crate) fn of_sequence(&self, sequence: u64) -> impl Iterator<Item = &Prepared> {
        let inputs = self.0.range((sequence, 0)..=(sequence, usize::MAX));
        inputs.filter_map(|(_, input)| input.pieces.as_ref()).flat_map(|pieces| pieces.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::frame::StageId;
    use remotemedia_core::limits::Limits;
    use remotemedia_core::manifest::{Connection, Manifest, NodeManifest, VERSION};

    use super::*;

    /// Nodes in upper case are not repeatable.
    fn pipeline(ids: &str, connections: &[&str]) -> (Graph, Vec<NodeInfo>) {
        let node = |id: char| NodeManifest {
            id: id.to_string(),
            node_type: "T".to_owned(),
            ..NodeManifest::default()
        };
        let connection = |ends: &&str| Connection { from: ends[..1].to_owned(), to: ends[1..].to_owned() };
        let manifest = Manifest {
            version: VERSION.to_owned(),
            nodes: ids.chars().map(node).collect(),
            connections: connections.iter().map(connection).collect(),
            ..Manifest::default()
        };
        let info = |id: char| NodeInfo { repeatable: id.is_lowercase(), ..NodeInfo::default() };
        (Graph::check(&manifest, &Limits::default()).unwrap(), ids.chars().map(info).collect())
    }

    fn call(node: u16, earlier: u64) -> Call {
        Call { stage: StageId(1), node: NodeIndex(node), sequence: Some(0), earlier }
    }

    #[test]
    fn a_run_begins_again_only_where_nobody_was_called_who_must_not_be_called_twice() {
        let (graph, infos) = pipeline("abC", &["ab", "bC"]);
        assert!(may_run_again(&graph, &infos, Some(&call(1, 0))), "nothing has come to C");
        assert!(!may_run_again(&graph, &infos, Some(&call(1, 1))), "b has been called before");
        assert!(!may_run_again(&graph, &infos, Some(&call(2, 0))), "C itself was called");
        assert!(!may_run_again(&graph, &infos, None), "nobody knows who was called");
        let (graph, infos) = pipeline("abC", &["ab", "aC"]);
        assert!(!may_run_again(&graph, &infos, Some(&call(1, 0))), "C is on another branch");
        let (graph, infos) = pipeline("abc", &["ab", "bc"]);
        assert!(may_run_again(&graph, &infos, None));
    }

    #[test]
    fn a_stream_goes_on_unnoticed_where_no_node_has_a_state() {
        let info = |repeatable, stateless| NodeInfo { repeatable, stateless, ..NodeInfo::default() };
        let of =
            |infos: &[NodeInfo], replays| Survival::of_stream(infos.iter(), OnWorkerLoss::Restart, replays);
        assert_eq!(of(&[info(true, true), info(true, true)], 2), Survival::Replay);
        assert_eq!(of(&[info(true, true), info(true, false)], 2), Survival::Restart);
        assert_eq!(
            of(&[info(false, true)], 2),
            Survival::Restart,
            "it must not be called twice for an input"
        );
        assert_eq!(of(&[info(true, true)], 0), Survival::Restart, "the client wants no replay");
        let with_a_state = [info(true, false)];
        assert_eq!(Survival::of_stream(with_a_state.iter(), OnWorkerLoss::End, 2), Survival::End);
    }
}
