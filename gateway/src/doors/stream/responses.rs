//! What a client hears on a stream, and the body that carries it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use remotemedia_core::fault::{Fault, StreamFault};
use remotemedia_core::frame::SessionId;
use remotemedia_core::transport::{ChunkOutput, ExecutionMetrics};
use remotemedia_protos::convert;
use remotemedia_protos::convert::metrics::milliseconds;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{ChunkResult, ErrorResponse, StreamClosed, StreamReady, StreamResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tonic::Status;
use tracing::Instrument as _;

use super::Halt;
use crate::rescue;

/// Responses that wait for the connection to take them: one on its way, and one ready behind it.
const MAX_WAITING: usize = 2;

/// Where the task of a stream puts its responses.
pub(super) struct Responses {
    queue: mpsc::Sender<Result<StreamResponse, Status>>,
    /// How long a client may read nothing before it counts as gone.
    stall: Duration,
}

/// The responses of one call. Owns the task that makes them.
pub(crate) struct Body {
    queue: mpsc::Receiver<Result<StreamResponse, Status>>,
    task: JoinSet<()>,
}

/// What came of a chunk; or that it was dropped, which ends nothing.
///
/// # Errors
/// An output that the contract cannot carry.
pub(super) fn answer(output: ChunkOutput, items: u64) -> Result<Response, Halt> {
    let ChunkOutput { sequence, outputs, dropped, latency } = output;
    if let Some(node) = dropped {
        let fault = StreamFault::Dropped { node, sequence }.into();
        return Ok(Response::Error(convert::fault::to_wire_on_stream(&fault, None)));
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

// === impl Responses ===

impl Responses {
    pub(super) async fn ready(&self, ready: StreamReady) -> Result<(), Halt> {
        self.put(Ok(Response::Ready(ready))).await
    }

    pub(super) async fn answer(&self, answer: Response) -> Result<(), Halt> {
        self.put(Ok(answer)).await
    }

    pub(super) async fn metrics(&self, session: SessionId, metrics: &ExecutionMetrics) -> Result<(), Halt> {
        let metrics = convert::metrics::to_wire_on_stream(session, metrics);
        self.put(Ok(Response::Metrics(metrics))).await
    }

    pub(super) async fn closed(
        &self,
        session: SessionId,
        metrics: &ExecutionMetrics,
        reason: &str,
    ) -> Result<(), Halt> {
        let closed = StreamClosed {
            session_id: session.to_string(),
            final_metrics: Some(convert::metrics::to_wire(metrics)),
            reason: reason.to_owned(),
        };
        self.put(Ok(Response::Closed(closed))).await
    }

    pub(super) async fn error(&self, error: ErrorResponse) -> Result<(), Halt> {
        self.put(Ok(Response::Error(error))).await
    }

    pub(super) async fn status(&self, status: Status) -> Result<(), Halt> {
        self.put(Err(status)).await
    }

    async fn put(&self, response: Result<Response, Status>) -> Result<(), Halt> {
        let response = response.map(|response| StreamResponse { response: Some(response) });
        match self.queue.send_timeout(response, self.stall).await {
            Ok(()) => Ok(()),
            Err(_stalled_or_dropped) => Err(Halt::Gone),
        }
    }
}

// === impl Body ===

impl Body {
    /// Starts the task. A client that reads nothing for as long as `stall` counts as gone.
    pub(super) fn of<F>(stall: Duration, task: impl FnOnce(Responses) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let mut owner = JoinSet::new();
        owner.spawn(task(Responses { queue: sender, stall }).in_current_span());
        Self { queue, task: owner }
    }
}

impl Stream for Body {
    type Item = Result<StreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(response) = std::task::ready!(self.queue.poll_recv(cx)) {
            return Poll::Ready(Some(response));
        }
        // The task has let go of the queue: because it is done, or because it panicked.
        match std::task::ready!(self.task.poll_join_next(cx)) {
            Some(Err(error)) => {
                tracing::error!(%error, "stream_task_failed");
                Poll::Ready(Some(Err(rescue::of_panic("StreamPipeline"))))
            }
            Some(Ok(())) | None => Poll::Ready(None),
        }
    }
}
