//! Runs pipelines on a runtime's workers.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remotemedia_core::fault::{EntryError, Fault, Unavailability, WorkerLost};
use remotemedia_core::frame::Frame;
use remotemedia_core::graph::Graph;
use remotemedia_core::limits::{Granted, LimitExceeded, LimitRequest, Limits};
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{
    ExecuteRequest, Execution, ExecutionMetrics, PipelineTransport, StreamRequest, StreamSession as _,
    TransportData,
};
use remotemedia_ipc::plane::Prepared;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::display;

use crate::hub::{HubHandle, unavailable};
use crate::poison::{Content, Evidence, Poisons};
use crate::quotas::Quotas;
use crate::session::{Opening, RunningSession};
use crate::survival::{Loss, Pieces, may_run_again};

/// Runs pipelines on a runtime's workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PipelineRunner {
    hub: HubHandle,
    limits: Arc<Limits>,
    room: Arc<Semaphore>,
    poisons: Arc<Poisons>,
    quotas: Arc<Quotas>,
}

// === impl PipelineRunner ===

impl PipelineRunner {
    pub(crate) fn new(
        hub: HubHandle,
        limits: Arc<Limits>,
        room: Arc<Semaphore>,
        poisons: Arc<Poisons>,
        quotas: Arc<Quotas>,
    ) -> Self {
        Self { hub, limits, room, poisons, quotas }
    }

    /// What is allowed here.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Opens a session, unless its nodes have killed too many workers when they were made.
    async fn open(&self, opening: Opening) -> Result<RunningSession, Fault> {
        if !self.poisons.is_empty() {
            let content = self.poisons.content(&opening.graph, std::iter::empty());
            if let Some(poison) = self.poisons.refusal(content, None) {
                return Err(poison.into());
            }
        }
        RunningSession::open(self.hub.clone(), Arc::clone(&self.poisons), Arc::clone(&self.limits), opening)
            .await
    }

    fn refuse_if_closing(&self) -> Result<(), Fault> {
        if self.hub.is_closing() { Err(unavailable(Unavailability::ShuttingDown)) } else { Ok(()) }
    }

    /// Runs it, and again where a worker died under it and it may.
    async fn execute_in(
        &self,
        request: ExecuteRequest,
        room: OwnedSemaphorePermit,
        course: &Mutex<Course>,
    ) -> Result<Execution, Fault> {
        let graph = Arc::new(Graph::check(&request.manifest, &self.limits)?);
        let granted = self.limits.grant(&request.limits)?;
        let mut run = Run { inputs: request.inputs, pieces: BTreeMap::new(), suspect: None };
        let room = Arc::new(room);
        let quota = request.caller.connection.map(|connection| self.quotas.of(connection));
        loop {
            let before = lock(course).died.clone();
            let replays = before.as_ref().map_or(0, |loss| loss.lost.replays);
            let opening = Opening {
                graph: Arc::clone(&graph),
                manifest: Arc::clone(&request.manifest),
                granted: Granted { replays: granted.replays - replays, ..granted },
                private: request.caller.private,
                quota: quota.clone(),
                listener: None,
                stream: None,
                room: Arc::clone(&room),
            };
            let session = match (self.open(opening).await, before) {
                (Ok(session), _) => Arc::new(session),
                (Err(fault @ (Fault::Worker(_) | Fault::Poison(_))), _) | (Err(fault), None) => {
                    return Err(fault);
                }
                // That there is nobody else is no news: what died, and why, is.
                (Err(_), Some(mut loss)) => {
                    loss.told().await;
                    return Err(loss.lost.into());
                }
            };
            lock(course).session = Some(Arc::clone(&session));
            // Filled in where the caller's span has a field for it.
            Span::current().record("session_id", display(session.id()));
            let outcome = run.through(&session, |run| self.refuse_poison(&graph, run)).await;
            if let Some(content) = run.suspect.filter(|_| outcome.is_ok()) {
                self.poisons.absolve(content);
            }
            let Err(Fault::Worker(lost)) = outcome else { return outcome };
            let lost = WorkerLost { replays: replays + lost.replays, ..lost };
            let Some(mut loss) = session.take_loss().filter(|loss| loss.lost.pid == lost.pid) else {
                return Err(lost.into());
            };
            loss.lost = lost;
            let again =
                replays < granted.replays && may_run_again(&graph, &session.infos(), loss.call.as_ref());
            let content = Self::struck(&loss).then(|| self.poisons.content(session.graph(), run.pieces()));
            // Whoever is told of it hears how the worker ended; who is not needs not wait for that.
            lock(course).died = Some(loss.clone());
            if !again || content.is_some_and(|content| self.poisons.is_last(content, &loss)) {
                loss.told().await;
            }
            if let Some(content) = content {
                let manifest = (!request.caller.private).then_some(&request.manifest);
                self.strike(&run, &session, (content, &loss), manifest)?;
            }
            if !again {
                return Err(loss.lost.into());
            }
            self.hub.count_replay();
            tracing::info!(session = %session.id(), worker = loss.lost.worker, "run_begins_again");
            loss.lost.replays = replays + 1;
            lock(course).died = Some(loss);
        }
    }

    /// Whether a death is to be counted against the input that the worker was in a call with.
    fn struck(loss: &Loss) -> bool {
        !loss.is_counted && loss.call.is_some_and(|call| call.sequence.is_some())
    }

    /// Counts a death against what goes in. An error if that was once too often; then it is kept, where there is a manifest
    /// to keep it with.
    fn strike(
        &self,
        run: &Run,
        session: &RunningSession,
        (content, loss): (Content, &Loss),
        manifest: Option<&Arc<Manifest>>,
    ) -> Result<(), Fault> {
        let named = |(entry, pieces): (&String, &Pieces)| session.frames_named(entry, pieces);
        let frames = || run.pieces.iter().flat_map(named).collect();
        let evidence =
            || manifest.map(|manifest| Evidence { manifest: Arc::clone(manifest), frames: frames() });
        match self.poisons.blame(content, loss, None, evidence) {
            Some(poison) => {
                self.hub.count_poison();
                Err(poison.into())
            }
            None => Ok(()),
        }
    }

    /// What has killed too many workers is not given to another. Gives what stands for it, if it has killed any lately.
    fn refuse_poison(&self, graph: &Graph, run: &Run) -> Result<Option<Content>, Fault> {
        if self.poisons.is_empty() {
            return Ok(None);
        }
        let content = self.poisons.content(graph, run.pieces());
        match self.poisons.refusal(content, None) {
            Some(poison) => Err(poison.into()),
            None => Ok(Some(content).filter(|content| self.poisons.is_suspect(*content))),
        }
    }
}

impl PipelineTransport for PipelineRunner {
    type Session = RunningSession;

    /// Waits for room as long as the run may take; then there is none.
    async fn execute(&self, request: ExecuteRequest) -> Result<Execution, Fault> {
        let began = Instant::now();
        self.refuse_if_closing()?;
        let Granted { timeout, longest, start, .. } = self.limits.grant(&request.limits)?;
        let (start, deadline) = match request.limits.start_ms {
            // Who says how long to wait does not mean it to be taken from the run's time.
            Some(_) => (start, began + timeout + start),
            // Over before the run's deadline, so that the answer says what was waited for.
            None => (start.min(timeout - timeout / 10), began + timeout),
        };
        let start_ms = u64::try_from(start.as_millis()).ok();
        let request = ExecuteRequest { limits: LimitRequest { start_ms, ..request.limits }, ..request };
        let room = tokio::time::timeout_at(deadline, Arc::clone(&self.room).acquire_owned()).await;
        let room = room.map_err(|_elapsed| unavailable(Unavailability::Full))?;
        let room = room.map_err(|_closed| unavailable(Unavailability::ShuttingDown))?;
        let course = Mutex::default();
        let mut run = pin!(self.execute_in(request, room, &course));
        let (mut due, at_most) = (deadline, deadline + longest.saturating_sub(timeout));
        loop {
            if let Ok(outcome) = tokio::time::timeout_at(due, run.as_mut()).await {
                return outcome.map(|Execution { outputs, metrics }| {
                    // The wait for room is part of it.
                    Execution { outputs, metrics: ExecutionMetrics { wall: began.elapsed(), ..metrics } }
                });
            }
            let course = lock(&course);
            due = match course.last_work().map(|at| (at + timeout).min(at_most)) {
                Some(later) if later > due => later,
                Some(_) | None => return Err(course.expire(if due < at_most { timeout } else { longest })),
            };
        }
    }

    /// Refuses at once where there is no room: a stream would take it for long.
    async fn stream(&self, request: StreamRequest) -> Result<RunningSession, Fault> {
        self.refuse_if_closing()?;
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| unavailable(Unavailability::Full))?;
        let manifest = &request.manifest;
        self.open(Opening {
            graph: Arc::new(Graph::check(manifest, &self.limits)?),
            manifest: Arc::clone(manifest),
            granted: self.limits.grant(&request.limits)?,
            private: request.caller.private,
            quota: request.caller.connection.map(|connection| self.quotas.of(connection)),
            listener: request.listener,
            stream: Some(manifest.on_worker_loss),
            room: Arc::new(room),
        })
        .await
    }
}

/// How far a unary run is, for who waits for it.
#[derive(Debug, Default)]
struct Course {
    /// The latest death under it.
    died: Option<Loss>,
    session: Option<Arc<RunningSession>>,
}

/// A unary run, whose input stays until it is answered.
struct Run {
    inputs: BTreeMap<String, Frame>,
    /// By entry: what its input was sent as.
    pieces: BTreeMap<String, Pieces>,
    /// What stands for all of it, if workers have died of that lately.
    suspect: Option<Content>,
}

// === impl Course ===

impl Course {
    /// When a node last said that it is at work on it.
    fn last_work(&self) -> Option<Instant> {
        self.session.as_ref()?.last_work().map(Instant::from_std)
    }

    /// Its time is over.
    fn expire(&self, limit: Duration) -> Fault {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let fault = Fault::Deadline { limit_ms, waiting_for: "the whole run".to_owned() };
        self.session.iter().for_each(|session| session.expire(fault.clone()));
        // What died, and why, is the reason.
        self.died.clone().map_or(fault, |mut loss| {
            loss.learn();
            loss.lost.into()
        })
    }
}

fn lock(course: &Mutex<Course>) -> MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Run ===

impl Run {
    /// Runs it through a session; before anything goes in, `check` sees what will, and says whether it is suspect.
    async fn through(
        &mut self,
        session: &RunningSession,
        check: impl Fn(&Self) -> Result<Option<Content>, Fault>,
    ) -> Result<Execution, Fault> {
        let mut held = Held::of(&self.inputs, session.granted().memory_bytes)?;
        let inputs = by_entry(session, self.inputs.clone())?;
        let mut outputs: BTreeMap<String, Vec<Frame>> =
            session.sinks().map(|sink| (sink.to_owned(), Vec::new())).collect();
        let is_first = self.pieces.is_empty();
        let all: usize = inputs.iter().map(|input| input.frames.len()).sum();
        let mut to_follow = all;
        for input in inputs.iter().filter(|_| is_first) {
            to_follow -= input.frames.len();
            let pieces = session.prepare_input(input, all, to_follow).await?;
            self.pieces.insert(input.node.clone(), pieces);
        }
        self.suspect = check(self)?;
        let pieces = &self.pieces;
        let send = async {
            for input in inputs {
                let before = pieces.get(&input.node).cloned();
                session.take_in(input, before).await?;
            }
            session.close().await
        };
        let receive = async {
            while let Some(chunk) = session.receive().await? {
                for (node, frame) in chunk.outputs {
                    held.take(&frame)?;
                    outputs.entry(node).or_default().push(frame);
                }
            }
            Ok(())
        };
        tokio::try_join!(send, receive)?;
        let metrics = session.metrics();
        // All outputs are held to the end; the session only knows of those that nobody had taken.
        let peak_memory_bytes = metrics.peak_memory_bytes.max(held.outputs);
        Ok(Execution { outputs, metrics: ExecutionMetrics { peak_memory_bytes, ..metrics } })
    }

    /// All that goes in, in order of entries.
    fn pieces(&self) -> impl Iterator<Item = &Prepared> {
        self.pieces.values().flat_map(|pieces| pieces.iter().flatten())
    }
}

/// What a unary run holds of pool memory, as far as it passes here: all its inputs, and all outputs until its end.
struct Held {
    bytes: u64,
    /// The outputs' part.
    outputs: u64,
    limit: u64,
    /// Where payloads lie: one that was forwarded several times is held once.
    places: BTreeSet<usize>,
}

// === impl Held ===

impl Held {
    fn of(inputs: &BTreeMap<String, Frame>, limit: u64) -> Result<Self, Fault> {
        let mut held = Self { bytes: 0, outputs: 0, limit, places: BTreeSet::new() };
        inputs.values().try_for_each(|frame| held.add(frame))?;
        Ok(held)
    }

    /// An output.
    fn take(&mut self, frame: &Frame) -> Result<(), Fault> {
        let before = self.bytes;
        let taken = self.add(frame);
        self.outputs += self.bytes - before;
        taken
    }

    fn add(&mut self, frame: &Frame) -> Result<(), Fault> {
        let payload = frame.data.payload();
        if self.places.insert(payload.as_ptr().addr()) {
            self.bytes = self.bytes.saturating_add(payload.len() as u64);
        }
        if self.bytes <= self.limit {
            return Ok(());
        }
        Err(Fault::Limit(LimitExceeded {
            what: "what the execution holds of inputs and outputs".to_owned(),
            value: self.bytes,
            limit: self.limit,
            unit: "bytes".to_owned(),
            advice: "ask for a higher max_memory_bytes, or use StreamPipeline with smaller chunks".to_owned(),
        }))
    }
}

/// A unary run has one input for each entry, given as a whole or port by port.
fn by_entry(session: &RunningSession, inputs: BTreeMap<String, Frame>) -> Result<Vec<TransportData>, Fault> {
    let ids: Vec<String> = session.entries();
    let mut by_entry: Vec<BTreeMap<String, Frame>> = ids.iter().map(|_| BTreeMap::new()).collect();
    for (name, frame) in inputs {
        let (place, port) = session.entry(&name)?;
        if by_entry[place].insert(port.to_owned(), frame).is_some() {
            let (node, port) = (ids[place].clone(), port.to_owned());
            return Err(EntryError::RepeatedPort { node, port }.into());
        }
    }
    let inputs = ids.into_iter().zip(by_entry).map(|(node, frames)| match frames.values().next() {
        Some(frame) => Ok(TransportData { sequence: frame.sequence, node, frames }),
        None => Err(EntryError::NoInput { node }.into()),
    });
    inputs.collect()
}
