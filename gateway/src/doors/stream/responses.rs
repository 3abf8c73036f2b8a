//! What a client hears on a stream, and the body that carries it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use remotemedia_core::fault::{Fault, StreamFault};
use remotemedia_core::frame::SessionId;
use remotemedia_core::starting::Starting;
use remotemedia_core::transport::{ChunkOutput, ExecutionMetrics};
use remotemedia_protos::convert;
use remotemedia_protos::convert::metrics::milliseconds;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{
    ChunkResult, LoadingWorker, StreamClosed, StreamReady, StreamResponse, StreamStatus,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::Status;
use tracing::Instrument as _;

use super::Halt;
use crate::rescue::{self, Told};
use crate::times::Times;

/// Responses that wait for the connection to take them: one on its way, and one ready behind it.
const MAX_WAITING: usize = 2;

/// Where the task of a stream puts its responses.
pub(super) struct Responses {
    queue: mpsc::Sender<Slot>,
    /// The slots that are in the queue, and perhaps one that was.
    waiting: Mutex<VecDeque<Slot>>,
    /// How long a client may read nothing.
    stall: Duration,
}

/// Holds a response until it is taken, or nobody is to have it any more: what waits in the queue of a client that reads
/// nothing is out of reach otherwise, and holds blocks of frame pools as long as that client keeps its call.
type Slot = Arc<Mutex<Option<Response>>>;

/// Why a call ends before its session does. The task returns it, so that no client that reads nothing keeps the task.
pub(super) type LastWord = Option<Told>;

/// The responses of one call. Owns the task that makes them.
pub(crate) struct Body {
    queue: mpsc::Receiver<Slot>,
    task: JoinSet<LastWord>,
}

/// What came of a chunk; or why nothing did, which ends nothing.
///
/// # Errors
/// An output that the contract cannot carry.
pub(super) fn answer(output: ChunkOutput, items: u64) -> Result<Response, Halt> {
    let ChunkOutput { sequence, outputs, missed, latency } = output;
    if let Some(fault) = missed {
        return Ok(Response::Error(convert::fault::to_wire_in_stream(&fault, Some(sequence))));
    }
    let buffers =
        outputs.into_iter().map(|(node, frame)| match convert::data::to_wire(frame.data, frame.metadata) {
            Ok(buffer) => Ok((node, buffer)),
            Err(error) => {
                let place = format!("the output of node '{node}'");
                Err(Halt::at_chunk(Fault::Internal { place, problem: error.to_string() }, sequence))
            }
        });
    Ok(Response::Result(ChunkResult {
        sequence,
        data_outputs: buffers.collect::<Result<_, _>>()?,
        processing_time_ms: milliseconds(latency),
        total_items_processed: items,
    }))
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

// === impl Responses ===

impl Responses {
    /// Before `ready`: what the session waits for.
    pub(super) async fn starting(&self, starting: Starting) -> Result<(), Halt> {
        let workers = starting.workers.into_iter().map(|worker| LoadingWorker {
            name: worker.name,
            step: worker.step,
            elapsed_ms: whole_ms(worker.elapsed),
        });
        self.put(Response::Status(StreamStatus {
            node_id: starting.node,
            node_type: starting.node_type,
            waited_ms: whole_ms(starting.waited),
            workers: workers.collect(),
        }))
        .await
    }

    pub(super) async fn ready(&self, ready: StreamReady) -> Result<(), Halt> {
        self.put(Response::Ready(ready)).await
    }

    pub(super) async fn answer(&self, answer: Response) -> Result<(), Halt> {
        self.put(answer).await
    }

    pub(super) async fn metrics(&self, session: SessionId, metrics: &ExecutionMetrics) -> Result<(), Halt> {
        let metrics = convert::metrics::to_wire_on_stream(session, metrics);
        self.put(Response::Metrics(metrics)).await
    }

    pub(super) async fn closed(
        &self,
        session: SessionId,
        metrics: &ExecutionMetrics,
        times: &Times,
        reason: &str,
    ) -> Result<(), Halt> {
        let closed = StreamClosed {
            session_id: session.to_string(),
            final_metrics: Some(convert::metrics::to_wire(metrics, times.so_far())),
            reason: reason.to_owned(),
        };
        self.put(Response::Closed(closed)).await
    }

    /// That the client no longer wants the session that it waited for, which has no id yet.
    pub(super) async fn never_opened(&self, times: &Times) -> Result<(), Halt> {
        let closed = StreamClosed {
            session_id: String::new(),
            final_metrics: Some(convert::metrics::to_wire(&ExecutionMetrics::default(), times.so_far())),
            reason: "the client cancelled the stream before it was ready".to_owned(),
        };
        self.put(Response::Closed(closed)).await
    }

    /// Waits until all is taken. What a client has not taken that reads nothing for too long is dropped.
    pub(super) async fn settle(&self) {
        let is_taken = || lock(&self.waiting).iter().all(|slot| lock(slot).is_none());
        if !is_taken() && timeout(self.stall, self.queue.reserve_many(MAX_WAITING)).await.is_err() {
            self.drop_waiting();
        }
    }

    async fn put(&self, response: Response) -> Result<(), Halt> {
        match timeout(self.stall, self.queue.reserve()).await {
            Ok(Ok(room)) => {
                let slot = Slot::new(Mutex::new(Some(response)));
                let mut waiting = lock(&self.waiting);
                waiting.push_back(Arc::clone(&slot));
                if waiting.len() > MAX_WAITING {
                    waiting.pop_front();
                }
                room.send(slot);
                Ok(())
            }
            Ok(Err(_closed)) => Err(Halt::Gone),
            Err(_elapsed) => {
                self.drop_waiting();
                let idle_ms = whole_ms(self.stall);
                Err(StreamFault::Unread { idle_ms }.into())
            }
        }
    }

    /// Nobody is to have results that have not been taken.
    pub(super) fn drop_results(&self) {
        for slot in lock(&self.waiting).iter() {
            let _dropped = lock(slot).take_if(|response| matches!(response, Response::Result(_)));
        }
    }

    fn drop_waiting(&self) {
        lock(&self.waiting).drain(..).for_each(|slot| drop(lock(&slot).take()));
    }
}

// === impl Body ===

impl Body {
    /// Starts the task. A client that reads nothing for as long as `stall` is served no further.
    pub(super) fn of<F>(stall: Duration, task: impl FnOnce(Responses) -> F) -> Self
    where
        F: Future<Output = LastWord> + Send + 'static,
    {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let mut owner = JoinSet::new();
        let responses = Responses { queue: sender, waiting: Mutex::default(), stall };
        owner.spawn(task(responses).in_current_span());
        Self { queue, task: owner }
    }
}

impl Stream for Body {
    type Item = Result<StreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Some(slot) = std::task::ready!(self.queue.poll_recv(cx)) {
            if let Some(response) = lock(&slot).take() {
                return Poll::Ready(Some(Ok(of(response))));
            }
        }
        // The task has let go of the queue: because it is done, or because it panicked.
        match std::task::ready!(self.task.poll_join_next(cx)) {
            Some(Ok(Some(Told::Reply(error)))) => Poll::Ready(Some(Ok(of(Response::Error(error))))),
            Some(Ok(Some(Told::Status(status)))) => Poll::Ready(Some(Err(status))),
            Some(Err(error)) => {
                tracing::error!(%error, "stream_task_failed");
                Poll::Ready(Some(Err(rescue::of_panic("StreamPipeline"))))
            }
            Some(Ok(None)) | None => Poll::Ready(None),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn of(response: Response) -> StreamResponse {
    StreamResponse { response: Some(response) }
}
