//! How input goes into a session.

use std::sync::Arc;
use std::time::Instant;

use remotemedia_core::RuntimeData;
use remotemedia_core::fault::{EntryError, Fault};
use remotemedia_core::frame::{Frame, StageId};
use remotemedia_core::graph::NodeIndex;
use remotemedia_core::joined::ports_in_words;
use remotemedia_core::manifest::OnWorkerLoss;
use remotemedia_core::session::Event;
use remotemedia_core::transport::TransportData;
use remotemedia_ipc::plane::{EdgeOut, Header, NoBlock, Plane, Prepared, Together};
use tokio::time::timeout_at;

use super::{Attempt, RunningSession, State, exceeded};
use crate::line::{Line, Place};
use crate::placement;
use crate::poison::Content;
use crate::survival::Pieces;
use crate::wiring::Wiring;

/// Why a frame has to wait for its block.
enum NotNow {
    NoBlock(NoBlock),
    /// Somebody else of its connection was faster.
    OverPart,
}

/// An input on its way in.
struct Input {
    /// Place among the entries.
    entry: usize,
    sequence: u64,
    /// For each edge of the entry, or none if it has no part in this input.
    frames: Vec<Option<Frame>>,
}

impl Input {
    /// Bytes of its largest payload.
    fn largest(&self) -> usize {
        self.frames.iter().flatten().map(|frame| frame.data.payload().len()).max().unwrap_or_default()
    }
}

impl RunningSession {
    /// Which entry a name means, and which port of it, empty where none is named. An empty name means the only entry.
    pub(crate) fn entry<'a>(&self, name: &'a str) -> Result<(usize, &'a str), Fault> {
        let attempt = self.attempt();
        let wired = &attempt.wiring.entries;
        if name.is_empty() && wired.len() == 1 {
            return Ok((0, ""));
        }
        let entries = || self.entries().join(", ");
        let Some((node, port)) = self.graph.find_input(name) else {
            return Err(EntryError::UnknownNode { node: name.to_owned(), entries: entries() }.into());
        };
        match wired.iter().position(|entry| entry.node == node) {
            Some(place) => Ok((place, port)),
            None => Err(EntryError::NotAnEntry { node: name.to_owned(), entries: entries() }.into()),
        }
    }

    /// What an input goes in as that is one of those of a run, which have so many frames, and so many to follow it.
    pub(crate) async fn prepare_input(
        &self,
        input: &TransportData,
        all: usize,
        to_follow: usize,
    ) -> Result<Pieces, Fault> {
        let input = self.sorted(input.clone())?;
        self.prepare_all(&input.frames, all, to_follow).await
    }

    /// Sends an input; as what it goes in, where that is prepared.
    pub(crate) async fn take_in(&self, input: TransportData, prepared: Option<Pieces>) -> Result<(), Fault> {
        let input = self.sorted(input)?;
        let _turn = self.sending.lock().await;
        let mut prepared = prepared;
        loop {
            let attempt = self.standing().await?;
            // Credit first: who waits for it holds no blocks of its own for that.
            if !self.has_credit_for_all(&attempt, input.entry).await? {
                continue;
            }
            if prepared.is_none() {
                self.until_room(&input).await?;
            }
            let pieces = match &prepared {
                Some(pieces) => Arc::clone(pieces),
                None => Arc::clone(prepared.insert(self.prepare_beside_others(&attempt, &input).await?)),
            };
            if self.commit(&attempt, &input, pieces)? {
                return Ok(());
            }
        }
    }

    fn sorted(&self, input: TransportData) -> Result<Input, Fault> {
        let (entry, port) = self.entry(&input.node)?;
        let (sequence, port) = (input.sequence, port.to_owned());
        let frames = self.sort_by_port(&self.attempt(), entry, input, &port)?;
        Ok(Input { entry, sequence, frames })
    }

    /// What goes on each edge of an entry: the frame for its port, or none if it has no part in this input, as none
    /// has in one that was dropped.
    fn sort_by_port(
        &self,
        attempt: &Attempt,
        entry: usize,
        input: TransportData,
        port: &str,
    ) -> Result<Vec<Option<Frame>>, Fault> {
        let entry = &attempt.wiring.entries[entry];
        let node = || self.graph.node(entry.node).id.clone();
        let mut frames: Vec<Option<Frame>> = entry.ports.iter().map(|_| None).collect();
        for (name, frame) in input.frames {
            let name = if name.is_empty() { port } else { name.as_str() };
            let Some(place) = entry.ports.iter().position(|(other, _)| other == name) else {
                let fed = self.graph.edges_to(entry.node).any(|edge| edge.port == name);
                let known = || ports_in_words(&attempt.wiring.infos[entry.node.index()].ports);
                let ports = if fed { "another node feeds it".to_owned() } else { known() };
                return Err(EntryError::UnknownPort { node: node(), port: name.to_owned(), ports }.into());
            };
            self.check_input(attempt, entry.node, name, &frame.data)?;
            let frame = Frame { sequence: input.sequence, ..frame };
            if frames[place].replace(frame).is_some() {
                return Err(EntryError::RepeatedPort { node: node(), port: name.to_owned() }.into());
            }
        }
        Ok(frames)
    }

    fn check_input(
        &self,
        attempt: &Attempt,
        node: NodeIndex,
        port: &str,
        data: &RuntimeData,
    ) -> Result<(), Fault> {
        let id = &self.graph.node(node).id;
        let accepts = attempt.wiring.infos[node.index()].accepted(port).unwrap_or_default();
        if !accepts.is_empty() && !accepts.contains(&data.kind()) {
            return Err(Fault::TypeMismatch {
                node: id.clone(),
                expected: placement::names(accepts),
                received: data.kind(),
            });
        }
        if let RuntimeData::Audio(audio) = data
            && audio.sample_count() > self.granted.audio_samples
        {
            let advice = format!("send the audio for node '{id}' in smaller pieces");
            let (samples, limit) = (audio.sample_count(), self.granted.audio_samples);
            return Err(exceeded("audio", samples, limit, "samples", advice).into());
        }
        let bytes = data.payload().len() as u64;
        if bytes > self.granted.memory_bytes {
            let advice = "ask for a higher max_memory_bytes, or send smaller pieces".to_owned();
            return Err(exceeded("the input", bytes, self.granted.memory_bytes, "bytes", advice).into());
        }
        Ok(())
    }

    /// The attempt, once it takes input.
    async fn standing(&self) -> Result<Arc<Attempt>, Fault> {
        loop {
            let told = self.fed.notified();
            {
                let state = self.lock();
                state.check_open()?;
                if state.stands {
                    return Ok(Arc::clone(&state.attempt));
                }
            }
            tokio::select! {
                () = told => {}
                // Who sends and does not receive at the same time brings about himself what he waits for.
                mut inbound = self.inbound.lock() => {
                    if !self.lock().stands {
                        self.next_event(&mut inbound).await;
                    }
                }
            }
        }
    }

    /// Waits until all edges of an entry have credit. False if there is another attempt meanwhile.
    async fn has_credit_for_all(&self, attempt: &Attempt, entry: usize) -> Result<bool, Fault> {
        for (_, edge) in &attempt.wiring.entries[entry].ports {
            while !edge.has_credit(self.hub.plane()) {
                let fed = self.fed.notified();
                if !self.is_current(attempt)? {
                    return Ok(false);
                }
                self.hub.starve(edge, &self.fed);
                fed.await;
            }
        }
        self.is_current(attempt)
    }

    fn is_current(&self, attempt: &Attempt) -> Result<bool, Fault> {
        let state = self.lock();
        state.check_open()?;
        Ok(state.stands && state.attempt.number == attempt.number)
    }

    /// Waits until the input may have blocks beside those that are held of earlier ones of its entry. As for credit, the
    /// bound of this is that of the results which hold them.
    async fn until_room(&self, input: &Input) -> Result<(), Fault> {
        while !self.lock().outstanding_of(input.entry).has_room(self.hub.plane(), input.largest()) {
            self.check_open()?;
            self.lock().machine.hears(Instant::now());
            self.hub.turned().await;
        }
        Ok(())
    }

    /// An input of a stream, which may meet those of other entries.
    async fn prepare_beside_others(&self, attempt: &Attempt, input: &Input) -> Result<Pieces, Fault> {
        let frames_of = |entry: usize| attempt.wiring.entries[entry].ports.len();
        let (others, to_follow): (usize, usize) = {
            let machine = &self.lock().machine;
            let awaited = machine.awaited_with(input.entry, input.sequence);
            (machine.meeting(input.entry).map(frames_of).sum(), awaited.map(frames_of).sum())
        };
        let all = others + input.frames.iter().flatten().count();
        self.prepare_all(&input.frames, all, to_follow).await
    }

    /// Of `all` frames that meet, so many follow these.
    async fn prepare_all(
        &self,
        frames: &[Option<Frame>],
        all: usize,
        to_follow: usize,
    ) -> Result<Pieces, Fault> {
        let mut prepared = Vec::with_capacity(frames.len());
        let mut to_follow = to_follow + frames.iter().flatten().count();
        for frame in frames {
            prepared.push(match frame {
                Some(frame) => {
                    to_follow -= 1;
                    Some(self.prepare(frame, Together::new(all, to_follow)).await?)
                }
                None => None,
            });
        }
        Ok(Arc::new(prepared))
    }

    /// Waits for free blocks in turn: among those of its connection, which has a part of them, then among all. What
    /// holds them may be results that nobody reads: so it is over when for as long as that is borne nobody has had a turn.
    async fn prepare(&self, frame: &Frame, together: Together) -> Result<Prepared, Fault> {
        let (plane, quota, bytes) = (self.hub.plane(), self.quota.as_deref(), frame.data.payload().len());
        let (class, begins) = (plane.size_class(bytes), together.begins());
        let (mut own, mut common): (Option<Place<'_>>, Option<Place<'_>>) = (None, None);
        let may_go = |line: &Line, place: &Option<Place<'_>>| match place {
            Some(place) => place.is_next(),
            // Who finds nobody waiting does not wait for those who are about to be served.
            None => line.is_open(class, begins),
        };
        let began = Instant::now();
        loop {
            let turned = self.hub.turned();
            let checked = quota.map_or(Ok(()), |quota| quota.check(plane, bytes, together));
            let is_first = checked.is_ok() && quota.is_none_or(|quota| may_go(quota.line(), &own));
            if is_first
                && may_go(self.hub.line(), &common)
                && let Some(prepared) = self.prepare_now(frame, together)?
            {
                let waited = own.is_some() || common.is_some();
                own.into_iter().chain(common).for_each(Place::served);
                if waited {
                    self.hub.wake_waiting();
                }
                return Ok(prepared);
            }
            own = own.or_else(|| quota.map(|quota| quota.line().join(class, begins)));
            // One that may not go keeps nobody of another connection waiting.
            common = match common {
                None if is_first => Some(self.hub.line().join(class, begins)),
                place => place.filter(|_| is_first),
            };
            self.check_open()?;
            self.lock().machine.hears(Instant::now());
            let patience =
                if self.asked.is_some() { self.limits.idle_timeout() } else { self.granted.timeout };
            let served = own.iter().chain(&common).filter_map(Place::last_served);
            let deadline = served.fold(began, Instant::max) + patience;
            if timeout_at(deadline.into(), turned).await.is_err() {
                checked?;
                return Err(Fault::Deadline {
                    limit_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
                    waiting_for: "a free block of the gateway's frame pool".to_owned(),
                });
            }
        }
    }

    /// None if there are not enough blocks now.
    fn prepare_now(&self, frame: &Frame, together: Together) -> Result<Option<Prepared>, Fault> {
        let loan = |plane: &Plane, bytes: usize| {
            let block = plane.loan_together(bytes, together).map_err(NotNow::NoBlock)?;
            let taken =
                self.quota.as_ref().map_or(Ok(()), |quota| quota.take(plane, &block, bytes, together));
            taken.map(|()| block).map_err(|_over_part| NotNow::OverPart)
        };
        match self.hub.plane().prepare(&frame.data, &frame.metadata, frame.timestamp_us, loan) {
            Ok(prepared) => Ok(Some(prepared)),
            Err(NotNow::NoBlock(NoBlock::TooLarge { bytes, largest })) => {
                let advice = "send smaller pieces, or have the gateway's frame pool enlarged".to_owned();
                Err(exceeded("the input", bytes as u64, largest, "bytes", advice).into())
            }
            Err(NotNow::NoBlock(NoBlock::AllHeld { .. }) | NotNow::OverPart) => Ok(None),
        }
    }

    /// Counts an input and sends it, without waiting: whole, or the future was dropped before. False if the attempt is
    /// not the one it was to go to.
    fn commit(&self, attempt: &Attempt, input: &Input, pieces: Pieces) -> Result<bool, Fault> {
        let Input { entry, sequence, ref frames } = *input;
        let mut state = self.lock();
        state.check_open()?;
        if !state.stands || state.attempt.number != attempt.number {
            return Ok(false);
        }
        let content = self.content_if_suspect(&state, input, &pieces);
        let missed = match self.why_not(attempt, input, content) {
            Some(Fault::Poison(poison)) if !self.is_kept(attempt, entry) => return Err(poison.into()),
            missed => missed,
        };
        let pieces = if missed.is_some() { Arc::new(frames.iter().map(|_| None).collect()) } else { pieces };
        let goes_in = missed.is_none();
        state.has_begun = true;
        for piece in pieces.iter().flatten() {
            state.outstanding_of(entry).note(self.hub.plane(), piece);
        }
        if self.asked.is_none() {
            state.run.push(Arc::clone(&pieces));
        }
        if self.is_kept(attempt, entry) {
            let held = self.may_go_again(attempt, entry).then(|| Arc::clone(&pieces));
            state.kept.put(sequence, entry, held, missed);
        }
        if goes_in {
            state.suspects.extend(content.map(|content| (sequence, content)));
            let places = frames.iter().zip(pieces.iter()).filter_map(|(frame, piece)| {
                Some((&frame.as_ref()?.data, piece.as_ref()?.payload_in_pool()))
            });
            state.measures.take_in(sequence, places);
            self.act(&mut state, Event::Input { entry, sequence });
        } else {
            self.act(&mut state, Event::Dropped { entry, sequence });
        }
        self.changed.notify_one();
        state.check_open()?;
        drop(state);
        self.push_all(attempt, entry, sequence, &pieces)?;
        Ok(true)
    }

    /// Whether an input of an entry may go in once more, if workers die.
    fn may_go_again(&self, attempt: &Attempt, entry: usize) -> bool {
        let Wiring { entries, infos, .. } = &*attempt.wiring;
        let info = &infos[entries[entry].node.index()];
        let may = if self.asked.is_some() { info.is_replayable() } else { info.repeatable };
        self.granted.replays > 0 && may
    }

    /// Whether it is remembered until it is answered, so that it goes in again or is told to be lost.
    fn is_kept(&self, attempt: &Attempt, entry: usize) -> bool {
        self.asked == Some(OnWorkerLoss::Restart) || self.may_go_again(attempt, entry)
    }

    /// Why an input does not go in but for a mark: its sender dropped it, or it has killed too many workers.
    fn why_not(&self, attempt: &Attempt, input: &Input, content: Option<Content>) -> Option<Fault> {
        if input.frames.iter().all(Option::is_none) {
            return Some(self.dropped(attempt, input.sequence, input.entry));
        }
        self.poisons.refusal(content?, Some(input.sequence)).map(Fault::from)
    }

    /// What stands for an input of a stream that workers have died of lately.
    fn content_if_suspect(&self, state: &State, input: &Input, pieces: &Pieces) -> Option<Content> {
        if self.poisons.is_empty() || self.asked.is_none() {
            return None;
        }
        // It may be the last of several that meet.
        let together = state.kept.of_sequence(input.sequence).chain(pieces.iter().flatten());
        let content = self.poisons.content(&self.graph, together);
        self.poisons.is_suspect(content).then_some(content)
    }

    /// Sends what an input has for each edge of its entry, all of which have credit.
    pub(super) fn push_all(
        &self,
        attempt: &Attempt,
        entry: usize,
        sequence: u64,
        pieces: &[Option<Prepared>],
    ) -> Result<(), Fault> {
        for ((_, edge), piece) in attempt.wiring.entries[entry].ports.iter().zip(pieces) {
            self.push(attempt.wiring.entries[entry].stage, edge, sequence, piece.as_ref())?;
        }
        Ok(())
    }

    /// Sends what an input has for an edge that has credit, or a mark if that is nothing.
    fn push(
        &self,
        stage: StageId,
        edge: &EdgeOut,
        sequence: u64,
        piece: Option<&Prepared>,
    ) -> Result<(), Fault> {
        let header = Header { session: stage.0, edge: edge.edge().index, sequence, last: true };
        edge.spend();
        let plane = self.hub.plane();
        let sent = match piece {
            Some(prepared) => plane.send(edge.to(), &header, prepared),
            None => plane.send_mark(edge.to(), &header),
        };
        match sent {
            Ok(()) => Ok(()),
            // The worker is dead: the hub is about to say of what.
            Err(error) if error.is_death() => {
                tracing::debug!(session = %self.id, %error, "input_not_sent");
                Ok(())
            }
            Err(error) => {
                self.on(Event::Failed(Fault::Internal {
                    place: "the data plane".to_owned(),
                    problem: error.to_string(),
                }));
                self.changed.notify_one();
                self.check_open()
            }
        }
    }
}
