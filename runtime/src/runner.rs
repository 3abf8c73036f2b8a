//! Runs pipelines on a runtime's workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remotemedia_core::fault::{EntryError, Fault, Unavailability};
use remotemedia_core::frame::Frame;
use remotemedia_core::graph::Graph;
use remotemedia_core::limits::{Granted, LimitExceeded, LimitRequest, Limits};
use remotemedia_core::transport::{
    ExecuteRequest, Execution, ExecutionMetrics, PipelineTransport, StreamRequest, StreamSession as _,
    TransportData,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::display;

use crate::hub::{HubHandle, unavailable};
use crate::session::RunningSession;

/// Runs pipelines on a runtime's workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PipelineRunner {
    hub: HubHandle,
    limits: Arc<Limits>,
    room: Arc<Semaphore>,
}

// === impl PipelineRunner ===

impl PipelineRunner {
    pub(crate) fn new(hub: HubHandle, limits: Arc<Limits>, room: Arc<Semaphore>) -> Self {
        Self { hub, limits, room }
    }

    /// What is allowed here.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn open(
        &self,
        request: StreamRequest,
        room: OwnedSemaphorePermit,
    ) -> Result<RunningSession, Fault> {
        let graph = Arc::new(Graph::check(&request.manifest, &self.limits)?);
        let granted = self.limits.grant(&request.limits)?;
        let name = request.manifest.metadata.name.clone();
        RunningSession::open(self.hub.clone(), &self.limits, graph, name, granted, request.listener, room)
            .await
    }

    fn refuse_if_closing(&self) -> Result<(), Fault> {
        if self.hub.is_closing() { Err(unavailable(Unavailability::ShuttingDown)) } else { Ok(()) }
    }

    async fn execute_in(
        &self,
        request: ExecuteRequest,
        room: OwnedSemaphorePermit,
    ) -> Result<Execution, Fault> {
        let stream = StreamRequest { manifest: request.manifest, limits: request.limits, listener: None };
        let session = self.open(stream, room).await?;
        // Filled in where the caller's span has a field for it.
        Span::current().record("session_id", display(session.id()));
        let mut held = Held::of(&request.inputs, session.granted().memory_bytes)?;
        let inputs = by_entry(&session, request.inputs)?;
        let mut outputs: BTreeMap<String, Vec<Frame>> =
            session.sinks().map(|sink| (sink.to_owned(), Vec::new())).collect();
        let send = async {
            for input in inputs {
                session.send(input).await?;
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
}

impl PipelineTransport for PipelineRunner {
    type Session = RunningSession;

    /// Waits for room as long as the run may take; then there is none.
    async fn execute(&self, request: ExecuteRequest) -> Result<Execution, Fault> {
        let began = Instant::now();
        self.refuse_if_closing()?;
        let Granted { timeout, start, .. } = self.limits.grant(&request.limits)?;
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
        let run = async { self.execute_in(request, room).await };
        match tokio::time::timeout_at(deadline, run).await {
            Ok(outcome) => outcome.map(|Execution { outputs, metrics }| {
                // The wait for room is part of it.
                Execution { outputs, metrics: ExecutionMetrics { wall: began.elapsed(), ..metrics } }
            }),
            Err(_elapsed) => Err(Fault::Deadline {
                limit_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                waiting_for: "the whole run".to_owned(),
            }),
        }
    }

    /// Refuses at once where there is no room: a stream would take it for long.
    async fn stream(&self, request: StreamRequest) -> Result<RunningSession, Fault> {
        self.refuse_if_closing()?;
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| unavailable(Unavailability::Full))?;
        self.open(request, room).await
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
    let ids: Vec<String> = session.entries().map(str::to_owned).collect();
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
