//! Stages: placed, wired, linked, and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use remotemedia_core::fault::{Fault, PlacementError, Unavailability};
use remotemedia_core::frame::{SessionId, StageId};
use remotemedia_core::graph::Graph;
use remotemedia_core::node::NodeInfo;
use remotemedia_core::starting::{LoadingWorker, Starting};
use remotemedia_ipc::control::messages::{StageCommand, StagePlan};
use remotemedia_ipc::slot::Member;
use tokio::sync::mpsc;

use super::{Loop, OpenOrder, unavailable};
use crate::edges::Lane;
use crate::placement::{Placement, Unplaced, Wanted, place};
use crate::registry::Registry;
use crate::session::FromHub;
use crate::stragglers::Due;
use crate::wiring::{Draughtsman, Drawing, Drawn, Rewires, SinkEdges, Wiring};

/// A stage as the hub sees it: what one worker runs of a session.
pub(super) struct Entry {
    pub(super) session: Arc<Opened>,
    pub(super) member: Member,
    /// A node of it: what a death is reported with, if it was in no call.
    pub(super) node: String,
    pub(super) phase: Phase,
    /// Edges that it is an end of, shared with the stage at the other end.
    lanes: Vec<Arc<Lane>>,
    /// Edges to inputs that have others since, until it is heard that they are used no more.
    pub(super) former: Vec<Arc<Lane>>,
    /// The attempt that last gave it other feeders.
    pub(super) turn: u32,
    pub(super) sinks: SinkEdges,
}

/// What the stages of a session share.
pub(super) struct Opened {
    pub(super) session: SessionId,
    pub(super) pipeline: String,
    pub(super) graph: Arc<Graph>,
    pub(super) since: Instant,
    events: mpsc::Sender<(StageId, FromHub)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Links are being made; then the plan goes out. // => Planned
    Linking,
    /// The worker has its plan. // => Closing
    Planned,
    /// The worker drops what it has of it.
    Closing,
}

/// What goes out when links stand.
pub(super) struct Opening {
    missing: BTreeSet<(Member, Member)>,
    plans: Vec<(Member, StagePlan)>,
    /// To stages that stay.
    rewires: Rewires,
}

/// What stands for workers of which no name is known, and what they do.
const PREDECESSORS: &str = "the workers of the gateway before";
const JOINING: &str = "joining";

// === impl Loop ===

impl Loop {
    pub(super) fn on_open(&mut self, order: Box<OpenOrder>) {
        // The user of a session that has waited may have gone.
        if order.placed.is_closed() {
            return;
        }
        let outcome = match place(&order.graph, &self.registry, order.remains.as_ref()) {
            _ if self.shutdown.is_some() => Err(unavailable(Unavailability::ShuttingDown)),
            Ok(placement) => self.open(&order, &placement),
            Err(Unplaced { error, wanted }) => {
                let look = |wanted| starting(&self.registry, self.gathering(), &order, wanted);
                match wanted.map(look).filter(|starting| !starting.workers.is_empty()) {
                    Some(starting) => return self.waiting.admit(order, starting, Instant::now()),
                    None => Err(self.no_placement(*error)),
                }
            }
        };
        let (id, remains) = (order.session, order.remains.map(|remains| remains.stages));
        // Who asked has gone meanwhile, or asks for something else: what was opened is closed.
        if let Err(Ok(_wiring)) = order.placed.send(outcome) {
            let due = Instant::now() + self.limits.open_timeout();
            self.retire(id, &remains.unwrap_or_default(), Due { asked: due, allowed: due, longest: due });
        }
    }

    pub(super) fn on_link(&mut self, from: Member, to: Member) {
        for opening in &mut self.openings {
            opening.missing.remove(&(from, to));
        }
        let ready: Vec<Opening> =
            self.openings.extract_if(.., |opening| opening.missing.is_empty()).collect();
        ready.into_iter().for_each(|opening| self.send(opening));
    }

    fn open(&mut self, order: &OpenOrder, placement: &Placement) -> Result<Wiring, Fault> {
        check_params(&order.graph, &placement.infos)?;
        let mut lanes = Vec::new();
        let draughtsman = Draughtsman {
            session: order.session,
            gateway: self.host.plane().me(),
            graph: &order.graph,
            placement,
            remains: order.remains.as_ref(),
            limits: &self.limits,
            memory_bytes: order.memory_bytes,
            edges: &mut self.edges,
            lanes: &mut lanes,
        };
        // The first stage of a session is called as the session.
        let mut first = Some(order.session.0).filter(|_| order.number == 0);
        let shared = &self.shared;
        let next_id = || StageId(first.take().unwrap_or_else(|| shared.next_id()));
        let Some(Drawing { wiring, plans, sinks, rewires }) = draughtsman.draw(next_id) else {
            lanes.into_iter().for_each(|drawn| self.edges.give_back(drawn.lane));
            return Err(unavailable(Unavailability::Full));
        };
        self.enter(order, &plans, sinks);
        self.hold(order.number, &wiring, &lanes, &rewires);
        self.link(&lanes, plans, rewires);
        Ok(wiring)
    }

    /// Makes entries for stages that are new.
    fn enter(
        &mut self,
        order: &OpenOrder,
        plans: &[(Member, StagePlan)],
        mut sinks: BTreeMap<StageId, SinkEdges>,
    ) {
        let session = Arc::new(Opened {
            session: order.session,
            pipeline: order.pipeline.clone(),
            graph: Arc::clone(&order.graph),
            since: order.began,
            events: order.events.clone(),
        });
        for (member, plan) in plans {
            if !self.is_at(order.session, *member) {
                self.registry.session_opened(*member);
            }
            let entry = Entry {
                session: Arc::clone(&session),
                member: *member,
                node: plan.nodes.first().map_or_else(String::new, |node| node.id.clone()),
                phase: Phase::Linking,
                lanes: Vec::new(),
                former: Vec::new(),
                turn: order.number,
                sinks: sinks.remove(&plan.stage).unwrap_or_default(),
            };
            self.stages.insert(plan.stage, entry);
            self.sessions.entry(order.session).or_default().insert(plan.stage);
        }
    }

    /// Has edges held by the stages at their ends. Those that their inputs had before are let go when they say so.
    fn hold(&mut self, turn: u32, wiring: &Wiring, lanes: &[Drawn], rewires: &Rewires) {
        for stage in rewires.keys() {
            let (Some(entry), Some(wires)) = (self.stages.get_mut(stage), wiring.stages.get(stage)) else {
                continue;
            };
            entry.turn = turn;
            let is_former = |lane: &Lane| lane.to == wires.member && !wires.is_fed_by(lane.edge);
            let former: Vec<Arc<Lane>> = entry.lanes.extract_if(.., |lane| is_former(lane)).collect();
            entry.former.extend(former);
        }
        for Drawn { lane, stages } in lanes {
            let lane = Arc::new(*lane);
            for stage in stages {
                self.stages.get_mut(stage).into_iter().for_each(|entry| entry.lanes.push(Arc::clone(&lane)));
            }
            // The stage that it was drawn for may have died meanwhile.
            self.let_go(vec![lane]);
        }
    }

    /// Whether a worker runs a part of a session.
    fn is_at(&self, session: SessionId, member: Member) -> bool {
        let stages = self.sessions.get(&session).into_iter().flatten();
        stages.filter_map(|id| self.stages.get(id)).any(|entry| entry.member == member)
    }

    /// Gives back the edges that nobody else holds.
    pub(super) fn let_go(&mut self, lanes: Vec<Arc<Lane>>) {
        lanes.into_iter().filter_map(Arc::into_inner).for_each(|lane| self.edges.give_back(lane));
    }

    /// Who may be on the way from a gateway that was here before, as one whom a session waits for.
    pub(super) fn gathering(&self) -> Option<LoadingWorker> {
        let (name, step, elapsed) = (PREDECESSORS.to_owned(), JOINING.to_owned(), self.began.elapsed());
        self.gathering.then_some(LoadingWorker { name, step, elapsed })
    }

    /// A client that comes while the pool is restarting, or on its way from a dead gateway to this one, is asked to try
    /// again; what no worker will ever offer is said so.
    fn no_placement(&self, error: PlacementError) -> Fault {
        let PlacementError::UnknownType { node, node_type, failing, .. } = &error else {
            return error.into();
        };
        let quarantines = self.registry.isolated(node_type);
        if let Some(first) = quarantines.first() {
            let retry_after_ms = u64::try_from(first.left.as_millis()).unwrap_or(u64::MAX);
            let (node, node_type) = (node.clone(), node_type.clone());
            return Fault::Quarantined { node, node_type, quarantines, retry_after_ms };
        }
        // That none starts is no news, and why they do not is.
        let is_empty = self.registry.ready().next().is_none();
        if is_empty && failing.is_empty() { unavailable(Unavailability::NoWorkers) } else { error.into() }
    }

    /// The plans go out when all links stand; those with the gateway always do.
    fn link(&mut self, lanes: &[Drawn], plans: Vec<(Member, StagePlan)>, rewires: Rewires) {
        let mut events = Vec::new();
        let pairs: BTreeSet<(Member, Member)> =
            lanes.iter().map(|Drawn { lane, .. }| (lane.from, lane.to)).collect();
        let missing: BTreeSet<_> = pairs
            .into_iter()
            .filter(|(from, to)| !self.host.connect(*from, *to, &mut |event| events.push(event)))
            .collect();
        let opening = Opening { missing, plans, rewires };
        if opening.missing.is_empty() {
            self.send(opening);
        } else {
            self.openings.push(opening);
        }
        events.into_iter().for_each(|event| self.on_event(event));
    }

    // Linking => Planned
    fn send(&mut self, opening: Opening) {
        for (member, plan) in opening.plans {
            let id = plan.stage;
            let Some(entry) = self.stages.get_mut(&id) else { continue };
            entry.phase = Phase::Planned;
            // Not told: the worker is dead or condemned, and the session hears of its death.
            if let Err(error) = self.host.tell(member, StageCommand::Open(plan)) {
                tracing::warn!(stage = %id, %member, %error, "plan_not_sent");
            }
        }
        for (stage, feeders) in opening.rewires {
            let Some(Entry { member, turn, .. }) = self.stages.get(&stage) else { continue };
            let command = StageCommand::Rewire { stage, turn: *turn, feeders };
            if let Err(error) = self.host.tell(*member, command) {
                tracing::warn!(%stage, %member, %error, "rewiring_not_sent");
            }
        }
    }

    pub(super) fn close_session(&mut self, session: SessionId, due: Due) {
        self.waiting.forget(session);
        self.retire(session, &BTreeSet::new(), due);
    }

    /// Closes the stages of a session but those that stay.
    pub(super) fn retire(&mut self, session: SessionId, staying: &BTreeSet<StageId>, due: Due) {
        let stages = self.sessions.get(&session).cloned().unwrap_or_default();
        stages.difference(staying).for_each(|stage| self.close(*stage, due));
    }

    // any => Closing
    fn close(&mut self, id: StageId, due: Due) {
        let Some(entry) = self.stages.get_mut(&id) else { return };
        match entry.phase {
            Phase::Closing => {}
            // The worker has heard nothing of it.
            Phase::Linking => self.remove(id),
            Phase::Planned => {
                entry.phase = Phase::Closing;
                let member = entry.member;
                if let Err(error) = self.host.tell(member, StageCommand::Close { stage: id }) {
                    tracing::debug!(stage = %id, %member, %error, "close_not_sent");
                }
                self.stragglers.expect(member, id, due);
            }
        }
    }

    /// The worker has dropped what it had of a stage, or has heard nothing of it, or is dead.
    pub(super) fn remove(&mut self, id: StageId) {
        let Some(Entry { session, member, phase, lanes, former, .. }) = self.stages.remove(&id) else {
            return;
        };
        self.stragglers.forgive(member, id);
        if phase == Phase::Linking {
            let is_there = |(_, plan): &(Member, StagePlan)| self.stages.contains_key(&plan.stage);
            self.openings.retain(|opening| opening.plans.iter().any(is_there));
        }
        if let Some(stages) = self.sessions.get_mut(&session.session) {
            stages.remove(&id);
            if stages.is_empty() {
                self.sessions.remove(&session.session);
            }
        }
        if !self.is_at(session.session, member) {
            self.registry.session_closed(member);
            self.dismiss_if_idle(member);
        }
        self.let_go(lanes);
        self.let_go(former);
    }
}

// === impl Entry ===

impl Entry {
    /// Credit bounds what can be under way, so a full channel is a peer that sends without credit.
    pub(super) fn tell(&self, id: StageId, event: FromHub) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.session.events.try_send((id, event)) {
            tracing::error!(stage = %id, "session_overrun");
        }
    }
}

/// What a session waits for; no workers if there is nothing to wait for.
pub(super) fn starting(
    registry: &Registry,
    gathering: Option<LoadingWorker>,
    order: &OpenOrder,
    wanted: Wanted,
) -> Starting {
    let Wanted { node, node_type } = wanted;
    let workers = registry.loading(&node_type).into_iter().chain(gathering).collect();
    Starting { node, node_type, waited: order.since.elapsed(), workers }
}

/// Before any worker is asked: each node's type has said what parameters it takes.
fn check_params(graph: &Graph, infos: &[NodeInfo]) -> Result<(), Fault> {
    for (node, info) in graph.nodes().iter().zip(infos) {
        info.check(&node.params).map_err(|error| Fault::Params { node: node.id.clone(), error })?;
    }
    Ok(())
}
