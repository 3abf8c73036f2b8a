//! How a session goes on when a worker has died under it.
//!
//! ```text
//! death ─▶ judge ──┬▶ somebody is to be told of it: wait until it is known how the worker ended
//!          ▼ ◀─────┘
//!          decide ─┬▶ end, with what died and why
//!                  └▶ close the stages that depend on the dead, ask the hub for others
//!                     ─▶ placed ─▶ they stand, and feed those that stay ─▶ what is not answered goes in again
//!                     ─▶ senders go on
//! ```
//!
//! Whoever waits in `receive`, or in `send`, drives this; nothing else does. A death on the way begins it anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use remotemedia_core::fault::{Fault, Poison, StreamFault, Unavailability, WorkerLost};
use remotemedia_core::frame::StageId;
use remotemedia_core::node::NodeInfo;
use remotemedia_core::session::{End, Event};
use remotemedia_ipc::plane::Prepared;
use tokio::sync::oneshot;

use super::{Attempt, Inbound, Placing, RunningSession, State};
use crate::hub::{OpenOrder, unavailable};
use crate::poison::{Content, Evidence};
use crate::survival::{KeptInput, Loss, Pieces, Survival, may_run_again};
use crate::wiring::{Remains, Wiring};

/// How a session goes on.
#[derive(Debug, Default)]
struct Course {
    /// Stages that stay as they are.
    staying: BTreeSet<StageId>,
    /// Inputs that do not go in again, by sequence and entry.
    given_up: Vec<(u64, usize)>,
}

/// What a death means, before anything is done about it.
#[derive(Debug)]
struct Judgement {
    survival: Survival,
    /// Stages that stay as they are.
    staying: BTreeSet<StageId>,
    /// What it is counted against.
    content: Option<Content>,
    /// Whether it is one of the deaths at which no input was to blame.
    is_nobodys: bool,
    /// That it is the end, and how often the work had been given to another worker before.
    end: Option<u32>,
}

impl RunningSession {
    /// The death that ended the session, if one did.
    pub(crate) fn take_loss(&self) -> Option<Loss> {
        let mut state = self.lock();
        state.loss.take().or_else(|| state.mourning.pop_front())
    }

    /// What is known of its nodes' types, by their order in the graph.
    pub(crate) fn infos(&self) -> Vec<NodeInfo> {
        self.attempt().wiring.infos.clone()
    }

    /// A worker is dead. All its stages are gone with it: of the others nothing is heard.
    pub(super) fn on_loss(&self, stage: StageId, loss: Loss, inbound: &mut Inbound) {
        let mut state = self.lock();
        let stages = Arc::clone(&state.attempt.wiring);
        let member = |stage: &StageId| stages.stages.get(stage).map(|wires| wires.member);
        let dead = member(&stage);
        state.current.retain(|other| *other != stage && member(other) != dead);
        state.mourning.push_back(loss);
        self.look_after_mourned(&mut state, inbound);
    }

    /// It is known how a worker ended of whose death somebody is to be told.
    pub(super) fn on_told_ending(&self, inbound: &mut Inbound) {
        self.look_after_mourned(&mut self.lock(), inbound);
    }

    /// One death after the other. It stays where one is told of, until it is known how that worker ended.
    fn look_after_mourned(&self, state: &mut State, inbound: &mut Inbound) {
        while let Some(mut loss) = state.mourning.pop_front() {
            if state.end.is_some() {
                return;
            }
            // What is behind the node has had something of it from the stages before, if not from these.
            if let Some(call) = loss.call.as_mut().filter(|_| state.has_replayed) {
                call.earlier = call.earlier.max(1);
            }
            let is_known = loss.is_known();
            loss.learn();
            if !is_known && self.is_told(state, &loss) {
                return state.mourning.push_front(loss);
            }
            self.survive(state, loss, inbound);
        }
    }

    fn survive(&self, state: &mut State, mut loss: Loss, inbound: &mut Inbound) {
        let decided = self.decide(state, &loss);
        loss.is_counted = decided.is_ok();
        state.has_replayed |= state.has_begun && decided.is_ok();
        let (worker, goes_on) = (&loss.lost.worker, decided.is_ok());
        tracing::info!(session = %self.id, worker, goes_on, "session_lost_a_worker");
        state.loss = Some(loss);
        match decided {
            Ok(course) => self.reopen(state, inbound, course),
            Err(fault) => self.act(state, Event::Failed(fault)),
        }
    }

    /// Whether the client, or who asks for the same later, hears of a death by what [`Self::decide`] makes of it. What ends
    /// a run is not told here: its runner may begin it again, and else waits itself.
    fn is_told(&self, state: &State, loss: &Loss) -> bool {
        let Judgement { survival, staying, content, end, .. } = self.judge(state, loss);
        let is_poison = content.is_some_and(|content| self.poisons.is_last(content, loss));
        let is_run = self.asked.is_none();
        is_poison
            || match survival {
                _ if !state.has_begun => end.is_some(),
                _ if is_run => false,
                Survival::End | Survival::Restart => true,
                Survival::Replay => {
                    let is_last = |place: &(u64, usize)| {
                        state.kept.get(*place).is_some_and(|input| input.replays >= self.granted.replays)
                    };
                    end.is_some() || self.struck(state, loss, &staying).iter().any(is_last)
                }
            }
    }

    fn judge(&self, state: &State, loss: &Loss) -> Judgement {
        let wiring = &state.attempt.wiring;
        let stays = |stage| state.current.contains(&stage) && state.standing.contains(&stage);
        let staying = wiring.independent(&self.graph, stays);
        let survival = self.survival(state, &staying, loss);
        let content = self.content_of(state, survival, loss);
        let making = loss.call.is_some_and(|call| call.sequence.is_none());
        let is_run = self.asked.is_none();
        let as_a_run = survival == Survival::Replay && is_run;
        let goes_again = |entry: usize| !staying.contains(&wiring.entries[entry].stage);
        let has_input = state.kept.places().into_iter().any(|(_, entry)| goes_again(entry));
        let of_no_input = !has_input && !state.machine.is_running();
        let is_lost = state.has_begun && survival == Survival::End;
        let (is_nobodys, end) = if making && !self.is_repeatable(state, loss) {
            (false, Some(state.losses))
        } else if !state.has_begun || making || of_no_input || as_a_run {
            (true, (state.losses >= self.granted.replays || is_lost).then_some(state.losses))
        } else {
            (false, is_lost.then_some(if is_run { state.losses } else { 0 }))
        };
        Judgement { survival, staying, content, is_nobodys, end }
    }

    /// How it goes on; an error is the end.
    fn decide(&self, state: &mut State, loss: &Loss) -> Result<Course, Fault> {
        let Judgement { survival, staying, content, is_nobodys, end } = self.judge(state, loss);
        let poison = content.and_then(|content| self.strike(state, content, loss));
        state.losses += u32::from(is_nobodys);
        if let Some(replays) = end {
            return Err(self.end_of(loss, poison, replays));
        }
        match survival {
            _ if !state.has_begun => Ok(Course::default()),
            Survival::End => Err(self.end_of(loss, poison, state.losses)),
            Survival::Replay if self.asked.is_none() => match poison {
                Some(poison) => Err(poison.into()),
                None => Ok(Course { staying, given_up: Vec::new() }),
            },
            Survival::Replay => {
                let given_up = self.give_up_killers(state, loss, poison.as_ref(), &staying);
                Ok(Course { staying, given_up })
            }
            Survival::Restart => Ok(Course { staying: BTreeSet::new(), given_up: give_up_all(state, loss) }),
        }
    }

    /// What becomes of it when all is lost but what stays.
    fn survival(&self, state: &State, staying: &BTreeSet<StageId>, loss: &Loss) -> Survival {
        let wiring = &state.attempt.wiring;
        let gone = wiring.stages.iter().filter(|(id, _)| !staying.contains(id));
        let mut gone = gone.flat_map(|(_, stage)| &stage.nodes).map(|node| &wiring.infos[node.index()]);
        if let Some(asked) = self.asked {
            return Survival::of_stream(gone, asked, self.granted.replays);
        }
        // A unary run that may begin again as a whole does. What of it is answered does not go in again.
        let may_begin_again = may_run_again(&self.graph, &wiring.infos, loss.call.as_ref());
        let is_answered = |entry: &usize| !staying.contains(&wiring.entries[*entry].stage);
        let again = !may_begin_again
            && state.losses < self.granted.replays
            && gone.all(|info| info.repeatable)
            && !state.answered.iter().any(is_answered);
        if again { Survival::Replay } else { Survival::End }
    }

    /// Whether the node that it died in may be called again.
    fn is_repeatable(&self, state: &State, loss: &Loss) -> bool {
        let node = loss.call.map(|call| call.node.index());
        node.and_then(|node| state.attempt.wiring.infos.get(node)).is_some_and(|info| info.repeatable)
    }

    /// How a session ends: one that was late because a worker had died ends of that.
    pub(super) fn cause_of(&self, state: &State, end: End) -> End {
        let loss = state.mourning.front().or_else(|| state.loss.as_ref().filter(|_| !state.stands));
        match (end, loss) {
            (End::Failed(Fault::Deadline { .. }), Some(loss)) => {
                End::Failed(self.end_of(loss, None, state.losses.saturating_sub(1)))
            }
            (end, _) => end,
        }
    }

    fn end_of(&self, loss: &Loss, poison: Option<Poison>, replays: u32) -> Fault {
        match poison {
            Some(poison) => poison.into(),
            None => {
                let mut loss = loss.clone();
                loss.learn();
                WorkerLost { replays, ..loss.lost }.into()
            }
        }
    }

    /// The input that the worker was in a call with, if that is known and may be given to another.
    fn content_of(&self, state: &State, survival: Survival, loss: &Loss) -> Option<Content> {
        match loss.call?.sequence {
            None => Some(self.poisons.content(&self.graph, std::iter::empty())),
            Some(_) if survival != Survival::Replay => None,
            Some(_) if self.asked.is_none() => {
                let all = state.run.iter().flat_map(|pieces| pieces.iter().flatten());
                Some(self.poisons.content(&self.graph, all))
            }
            Some(sequence) => {
                state.kept.of_sequence(sequence).next()?;
                Some(self.poisons.content(&self.graph, state.kept.of_sequence(sequence)))
            }
        }
    }

    /// Counts the death against it.
    fn strike(&self, state: &State, content: Content, loss: &Loss) -> Option<Poison> {
        let call = loss.call?;
        let frames = || call.sequence.map_or_else(Vec::new, |sequence| self.frames_of(state, sequence));
        let evidence = || Evidence { manifest: Arc::clone(&self.manifest), frames: frames() };
        let kept = || (!self.private).then(evidence);
        let sequence = call.sequence.filter(|_| self.asked.is_some());
        let poison = self.poisons.blame(content, loss, sequence, kept)?;
        self.hub.count_poison();
        Some(poison)
    }

    /// All its stages stand, so each of its nodes was made, now or before: making them does not kill.
    pub(super) fn absolve_pipeline(&self) {
        if !self.poisons.is_empty() {
            self.poisons.absolve(self.poisons.content(&self.graph, std::iter::empty()));
        }
    }

    /// Something of a sequence of a stream is over, and is served if all of it was answered.
    pub(super) fn absolve(&self, state: &mut State, sequence: u64, is_answered: bool) {
        let is_over = state.kept.of_sequence(sequence).next().is_none();
        let suspect = if is_over { state.suspects.remove(&sequence) } else { None };
        if let Some(content) = suspect.filter(|_| is_answered) {
            self.poisons.absolve(content);
        }
    }

    /// The frames of a sequence, by entry and port.
    fn frames_of(&self, state: &State, sequence: u64) -> Vec<(String, String, Prepared)> {
        let inputs = state.kept.places().into_iter().filter(|(other, _)| *other == sequence);
        let pieces = inputs.filter_map(|place| Some((place.1, state.kept.get(place)?.pieces.clone()?)));
        pieces.flat_map(|(entry, pieces)| self.named(&state.attempt, entry, &pieces)).collect()
    }

    /// What an input of an entry went in as, by entry and port.
    pub(crate) fn frames_named(&self, entry: &str, pieces: &Pieces) -> Vec<(String, String, Prepared)> {
        let place = self.entry(entry).map(|(place, _)| place);
        place.map_or_else(|_unknown| Vec::new(), |place| self.named(&self.attempt(), place, pieces))
    }

    fn named(&self, attempt: &Attempt, entry: usize, pieces: &Pieces) -> Vec<(String, String, Prepared)> {
        let wires = &attempt.wiring.entries[entry];
        let id = &self.graph.node(wires.node).id;
        let ports = wires.ports.iter().zip(pieces.iter());
        ports.filter_map(|((port, _), piece)| Some((id.clone(), port.clone(), piece.clone()?))).collect()
    }

    /// The inputs that a death counts for: that of the call which the worker was in. Of a death without a call nobody knows
    /// whose fault it was, so it counts for all that go in again.
    fn struck(&self, state: &State, loss: &Loss, staying: &BTreeSet<StageId>) -> Vec<(u64, usize)> {
        let entries = &state.attempt.wiring.entries;
        let goes_again = |place: &(u64, usize)| !staying.contains(&entries[place.1].stage);
        let is_meant = |place: &(u64, usize)| loss.call.is_none_or(|call| call.sequence == Some(place.0));
        let is_wanted =
            |place: &(u64, usize)| state.kept.get(*place).is_some_and(|input| input.missed.is_none());
        let places = state.kept.places().into_iter();
        places.filter(|place| goes_again(place) && is_meant(place) && is_wanted(place)).collect()
    }

    /// What has killed its worker as often as it may goes in no more.
    fn give_up_killers(
        &self,
        state: &mut State,
        loss: &Loss,
        poison: Option<&Poison>,
        staying: &BTreeSet<StageId>,
    ) -> Vec<(u64, usize)> {
        let mut given_up = Vec::new();
        let is_killer = loss.call.is_some();
        for place in self.struck(state, loss, staying) {
            let Some(input) = state.kept.get_mut(place) else { continue };
            input.replays += 1;
            if input.replays > self.granted.replays || (is_killer && poison.is_some()) {
                let poison = poison.filter(|_| is_killer).cloned();
                input.give_up(self.end_of(loss, poison, input.replays - 1));
                given_up.push(place);
            }
        }
        given_up
    }

    /// Why an input is not answered with outputs: it was given up, or its sender dropped it.
    pub(super) fn why_missed(&self, state: &State, sequence: u64, entry: usize) -> Fault {
        let known = state.kept.get((sequence, entry)).and_then(|input| input.missed.clone());
        known.unwrap_or_else(|| self.dropped(&state.attempt, sequence, entry))
    }

    pub(super) fn dropped(&self, attempt: &Attempt, sequence: u64, entry: usize) -> Fault {
        let node = self.graph.node(attempt.wiring.entries[entry].node).id.clone();
        StreamFault::Dropped { node, sequence }.into()
    }

    /// Lets go of what does not stay and asks for another attempt.
    fn reopen(&self, state: &mut State, inbound: &mut Inbound, Course { staying, given_up }: Course) {
        let now = Instant::now();
        let (placed, placing) = oneshot::channel();
        state.asked += 1;
        (state.stands, state.is_resending) = (false, false);
        let wiring = Arc::clone(&state.attempt.wiring);
        state.resend.retain(|(_, entry)| staying.contains(&wiring.entries[*entry].stage));
        inbound.placing = Some(Placing { answer: placing, refusal: None });
        state.current.clone_from(&staying);
        state.standing.retain(|stage| staying.contains(stage));
        state.reported.retain(|stage| staying.contains(stage));
        let sinks = wiring.sinks.iter().enumerate().filter(|(_, sink)| staying.contains(&sink.stage));
        let kept = sinks.map(|(place, _)| place).collect();
        let reported = state.reported.len();
        self.act(state, Event::Resuming { kept, reported });
        for (sequence, entry) in given_up {
            state.measures.give_up(sequence);
            self.act(state, Event::GivenUp { entry, sequence });
        }
        let order = OpenOrder {
            session: self.id,
            number: state.asked,
            remains: Some(Remains { wiring, stages: staying, due: self.calls.due(now, &End::Cancelled) }),
            pipeline: self.manifest.metadata.name.clone(),
            graph: Arc::clone(&self.graph),
            memory_bytes: self.granted.memory_bytes,
            began: self.began,
            since: now,
            until: now + self.granted.start,
            listener: None,
            events: self.events.clone(),
            placed,
        };
        if state.end.is_some() {
            return;
        }
        self.hub.count_replay();
        if !self.hub.open(order) {
            self.act(state, Event::Failed(unavailable(Unavailability::ShuttingDown)));
        }
        self.wake_senders();
    }

    /// There are workers for another attempt, or none could be had: then what died is still the reason.
    pub(super) fn on_placed(&self, placed: Result<Wiring, Fault>, inbound: &mut Inbound) {
        let mut state = self.lock();
        match placed {
            Ok(wiring) => {
                let (number, stages, awaited) = (state.asked, wiring.stages.len(), wiring.awaited);
                tracing::info!(session = %self.id, attempt = number, stages, awaited, "session_goes_on");
                let is_new = |place: &usize| !state.current.contains(&wiring.entries[*place].stage);
                let renewed: BTreeSet<usize> = (0..wiring.entries.len()).filter(is_new).collect();
                state.flushed.retain(|entry| !renewed.contains(entry));
                state.renewed.extend(renewed);
                state.current = wiring.stages.keys().copied().collect();
                state.attempt = Arc::new(Attempt { number, wiring: Arc::new(wiring) });
                self.act(&mut state, Event::Placed { stages, awaited });
            }
            // There is room for the whole, perhaps, where there is none beside what stays.
            Err(_) if !state.current.is_empty() && self.may_all_go_again(&state) => {
                self.reopen(&mut state, inbound, Course::default());
            }
            Err(fault) => {
                let lost = state.loss.as_ref().map(|loss| self.end_of(loss, None, state.losses));
                self.act(&mut state, Event::Failed(lost.unwrap_or(fault)));
            }
        }
    }

    fn may_all_go_again(&self, state: &State) -> bool {
        let replayable = state.attempt.wiring.infos.iter().all(NodeInfo::is_replayable);
        self.asked.is_some() && self.granted.replays > 0 && replayable
    }

    pub(super) fn begin_resending(&self, state: &mut State, flush: bool) {
        let renewed = std::mem::take(&mut state.renewed);
        let left: BTreeSet<(u64, usize)> = state.resend.drain(..).collect();
        let places = state.kept.places().into_iter();
        state.resend = places.filter(|place| renewed.contains(&place.1) || left.contains(place)).collect();
        (state.flush_behind, state.is_resending) = (flush, true);
        self.stand_if_all_is_sent(state);
    }

    /// Sends the next of what is to go in again, when there is credit for it. Dropping the future sends nothing or all.
    pub(super) async fn resend_next(&self) {
        let Some((attempt, sequence, entry, pieces)) = self.next_to_resend() else {
            return std::future::pending().await;
        };
        for (_, edge) in &attempt.wiring.entries[entry].ports {
            while !edge.has_credit(self.hub.plane()) {
                let fed = self.refed.notified();
                self.hub.starve(edge, &self.refed);
                fed.await;
            }
        }
        {
            let mut state = self.lock();
            if state.attempt.number != attempt.number || state.resend.front() != Some(&(sequence, entry)) {
                return;
            }
            state.resend.pop_front();
        }
        let marks: Vec<_> = attempt.wiring.entries[entry].ports.iter().map(|_| None).collect();
        let sent = self.push_all(&attempt, entry, sequence, pieces.as_deref().unwrap_or(&marks));
        let mut state = self.lock();
        if sent.is_ok() && state.attempt.number == attempt.number {
            self.stand_if_all_is_sent(&mut state);
        }
    }

    fn next_to_resend(&self) -> Option<(Arc<Attempt>, u64, usize, Option<Pieces>)> {
        let state = self.lock();
        let (sequence, entry) = *state.resend.front().filter(|_| state.is_resending)?;
        // On a stream one that was answered meanwhile cannot be: it was not sent.
        let pieces = state.kept.get((sequence, entry)).and_then(|input| input.pieces.clone());
        Some((Arc::clone(&state.attempt), sequence, entry, pieces))
    }

    fn stand_if_all_is_sent(&self, state: &mut State) {
        if !state.resend.is_empty() || !state.is_resending {
            return;
        }
        (state.stands, state.is_resending) = (true, false);
        if std::mem::take(&mut state.flush_behind) {
            self.flush(state);
        }
        self.wake_senders();
    }
}

/// All nodes begin anew: what was under way is lost, and the client is told so at least once.
fn give_up_all(state: &mut State, loss: &Loss) -> Vec<(u64, usize)> {
    let lost = || Box::new(loss.lost.clone());
    if state.kept.is_empty() && state.has_begun {
        let (sequence, gap) = (0, StreamFault::Gap { sequence: None, lost: lost() });
        state.put(sequence, Vec::new(), Some(gap.into()), std::time::Duration::ZERO);
    }
    let mut given_up = Vec::new();
    for place in state.kept.places() {
        if let Some(input) = state.kept.get_mut(place).filter(|input| input.missed.is_none()) {
            input.give_up(StreamFault::Gap { sequence: Some(place.0), lost: lost() }.into());
            given_up.push(place);
        }
    }
    given_up
}

// === impl KeptInput ===

impl KeptInput {
    fn give_up(&mut self, fault: Fault) {
        self.missed = Some(fault);
        self.pieces = None;
    }
}
