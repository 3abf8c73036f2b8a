//! Running a pipeline on a stream: `StreamPipeline`. One call is one session.
//!
//! A call is one task, which the response body owns: when the client goes, the body is dropped, the task with it, and
//! the session is cancelled. In the task, requests are read, fed to the session, and its results delivered, all at
//! once; each waits for the next one down, so that a slow pipeline fills the HTTP/2 window of its own client only.
//! Reading begins before there is a session, so that a client may also cancel what it waits for:
//!
//! ```text
//! request stream ──read──▶ ahead (bounded) ──feed──▶ session ──deliver──▶ responses (bounded) ──▶ body
//! ```
//!
//! Where the client asks for it, what waits ahead is dropped instead, and told in its place among the answers.

mod ahead;
mod input;
mod responses;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remotemedia_core::fault::{Fault, StreamFault};
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::Manifest;
use remotemedia_core::starting::StartListener;
use remotemedia_core::transport::{self, Caller, PipelineTransport as _, StreamSession};
use remotemedia_protos::convert;
use remotemedia_protos::v1::streaming_pipeline_service_server::StreamingPipelineService;
use remotemedia_protos::v1::{StreamInit, StreamReady, StreamRequest};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use tracing::field::display;
use tracing::{Span, debug};

use self::ahead::{Ahead, Queue, WhenFull};
use self::input::Input;
use self::responses::{Body, LastWord, Responses};
use super::{Doors, execute, version};
use crate::backend::Backend;
use crate::deadline;
use crate::files::FileRoots;
use crate::guard::caller_of;
use crate::life::Phase;
use crate::measure::Call;
use crate::rescue::{self, Told};
use crate::times::Times;

/// Items a chunk where the client has no wish: at speech rates a quarter of a second, at 48 kHz a twelfth.
const CHUNK_ITEMS: u64 = 4_096;
/// A wish beyond is answered with this much: one second of 48 kHz stereo.
const MAX_CHUNK_ITEMS: u64 = 96_000;
/// Chunks are worked on as they come; nothing waits for others to come.
const BUFFER_LATENCY_MS: u64 = 0;
/// Chunks answered or dropped between two reports of metrics.
const METRICS_EVERY: u64 = 10;
/// For what came before a fault to be answered still, before the fault is told.
const LAST_RESULTS: Duration = Duration::from_millis(100);

/// Why a session ends before all its input is answered.
enum Halt {
    /// `COMMAND_CANCEL`.
    Cancelled,
    /// The rules, or the pipeline, broke. With the sequence of the chunk at fault, where it is known.
    Fault(Box<Fault>, Option<u64>),
    /// The session takes no more input, for this reason as far as it told.
    Refused(Box<Fault>),
    /// The requests broke off.
    Request(Status),
    /// Nobody reads the responses.
    Gone,
}

/// What the client says, and what it costs to understand it.
struct Requests {
    messages: Streaming<StreamRequest>,
    times: Times,
    caller: Caller,
}

/// The sequence of the chunk that was given to the session last.
#[derive(Default)]
struct Taken(Mutex<Option<u64>>);

/// A session that is cancelled when dropped, unless it has ended.
struct Open<S: StreamSession> {
    session: S,
    ended: bool,
}

#[tonic::async_trait]
impl<B: Backend> StreamingPipelineService for Doors<B> {
    type StreamPipelineStream = Body;

    async fn stream_pipeline(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Body>, Status> {
        let doors = self.clone();
        let call = Call::of(&request);
        let times = Times::of(&request);
        let patience = deadline::of(request.metadata());
        let caller = caller_of(&request);
        let body = Body::of(self.limits.idle_timeout(), |responses| async move {
            let requests = Requests { messages: request.into_inner(), times, caller };
            doors.serve(requests, responses, call, patience).await
        });
        Ok(Response::new(body))
    }
}

impl<B: Backend> Doors<B> {
    async fn serve(
        self,
        requests: Requests,
        responses: Responses,
        call: Call,
        patience: Option<Duration>,
    ) -> LastWord {
        let told = tokio::select! {
            biased;
            () = self.life.reached(Phase::Ending) => Some(Told::Status(rescue::of_closed_door())),
            status = past(patience) => Some(Told::Status(status)),
            result = self.run(requests, &responses) => match result {
                Err(Halt::Fault(fault, sequence)) => Some(rescue::of_stream(&fault, sequence)),
                Err(Halt::Refused(fault)) => Some(rescue::of_stream(&fault, None)),
                Err(Halt::Request(status)) => Some(Told::Status(self.rescue().of_request(status))),
                Ok(()) | Err(Halt::Cancelled | Halt::Gone) => None,
            },
        };
        match &told {
            Some(Told::Reply(error)) => call.failed(error.error_type()),
            Some(Told::Status(_)) | None => {}
        }
        responses.settle().await;
        told
    }

    async fn run(&self, mut requests: Requests, responses: &Responses) -> Result<(), Halt> {
        let init = self.first(&mut requests).await?;
        version::check(&init.client_version)?;
        let chunk_items = match init.expected_chunk_size {
            0 => CHUNK_ITEMS,
            wish => wish.min(MAX_CHUNK_ITEMS),
        };
        let when_full = WhenFull::asked(init.max_buffered_chunks)?;
        let limits: LimitRequest = convert::limits::from_wire(init.resource_limits);
        let times = requests.times.clone();
        let manifest = times.to_runtime(|| execute::manifest_from_wire(init.manifest))?;
        let first = times.to_runtime(|| self.inputs_from_wire(init.data_inputs))?;
        let first = input::first(first, &manifest);
        let caller = std::mem::take(&mut requests.caller);
        let (ahead, queue) = ahead::bounded(when_full);
        // What has been read and not taken goes when the session has ended, before the last words wait for a client that
        // does not read.
        let over = {
            let mut listening = std::pin::pin!(listen(&mut requests, &self.files, ahead));
            let opening = async {
                let session = self.open(manifest, limits, caller, responses).await?;
                let open = Open { session, ended: false };
                Span::current().record("session_id", display(open.session.id()));
                let ready = StreamReady {
                    session_id: open.session.id().to_string(),
                    recommended_chunk_size: chunk_items,
                    max_buffer_latency_ms: BUFFER_LATENCY_MS,
                };
                responses.ready(ready).await?;
                Ok(open)
            };
            match first_of(opening, listening.as_mut()).await {
                Ok((open, heard)) => {
                    let listening = async {
                        match heard {
                            Some(halt) => halt,
                            None => listening.await,
                        }
                    };
                    let ended = self.drive(&open.session, listening, (first, queue), &times, responses).await;
                    Ok((open, ended))
                }
                Err(halt) => Err(halt),
            }
        };
        match over {
            Ok((open, ended)) => open.end(ended, &times, responses).await,
            Err(Halt::Cancelled) => responses.never_opened(&times).await,
            Err(halt) => Err(halt),
        }
    }

    /// Opens the session. A client that has said how long it waits for workers hears what it waits for; others could not
    /// read that.
    async fn open(
        &self,
        manifest: Arc<Manifest>,
        limits: LimitRequest,
        caller: Caller,
        responses: &Responses,
    ) -> Result<<B::Transport as transport::PipelineTransport>::Session, Halt> {
        let (teller, mut told) = mpsc::channel(1);
        let listener = limits.start_ms.map(|_| {
            // One that is not taken yet is as good as the next.
            StartListener::new(move |starting| drop(teller.try_send(starting)))
        });
        let runner = self.backend.runner();
        let request = transport::StreamRequest { manifest, limits, listener, caller };
        let mut opening = std::pin::pin!(runner.stream(request));
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => return Ok(opened?),
                Some(starting) = told.recv() => responses.starting(starting).await?,
            }
        }
    }

    /// The set-up, which has to come first, and soon.
    async fn first(&self, requests: &mut Requests) -> Result<StreamInit, Halt> {
        let limit = self.limits.idle_timeout();
        let idle = |_elapsed| StreamFault::Idle { idle_ms: self.limits.idle_timeout_ms };
        let message = tokio::time::timeout(limit, requests.next()).await.map_err(idle)?;
        match message.map_err(Halt::Request)? {
            Some(message) => Ok(input::init(message)?),
            None => Err(StreamFault::InitRequired { received: "the end of the stream".to_owned() }.into()),
        }
    }

    /// Runs the session until it ends by itself, or something ends it.
    async fn drive<S: StreamSession>(
        &self,
        session: &S,
        listening: impl Future<Output = Halt>,
        (first, queue): (Vec<transport::TransportData>, Queue),
        times: &Times,
        responses: &Responses,
    ) -> Result<(), Halt> {
        let taken = Taken::default();
        let feeding = async {
            match feed(session, first, queue, &taken).await {
                // All is said: what remains is to be delivered.
                Ok(()) => std::future::pending().await,
                Err(halt) => halt,
            }
        };
        let mut deliver = std::pin::pin!(self.deliver(session, times, responses));
        let halt = tokio::select! {
            biased;
            halt = listening => halt,
            halt = feeding => halt,
            ended = &mut deliver => return ended.map_err(|halt| halt.at(taken.last())),
        };
        match halt {
            Halt::Fault(..) | Halt::Refused(_) => {
                let last = finish(session, deliver).await;
                Err(last.unwrap_or(halt).at(taken.last()))
            }
            Halt::Cancelled | Halt::Request(_) | Halt::Gone => Err(halt),
        }
    }

    async fn deliver<S: StreamSession>(
        &self,
        session: &S,
        times: &Times,
        responses: &Responses,
    ) -> Result<(), Halt> {
        let mut told = 0;
        while let Some(output) = session.receive().await? {
            self.metrics.chunk(&output);
            let metrics = session.metrics();
            let sequence = output.sequence;
            let answer = times.to_proto(|| responses::answer(output, metrics.items))?;
            self.check_size(answer.encoded_len()).map_err(|fault| Halt::at_chunk(fault, sequence))?;
            responses.answer(answer).await?;
            let answered = metrics.chunks + metrics.dropped;
            if answered / METRICS_EVERY > told {
                told = answered / METRICS_EVERY;
                responses.metrics(session.id(), &metrics).await?;
            }
        }
        Ok(())
    }
}

/// Opens while it listens. What the client says meanwhile waits for the session, unless it ends all: what else is heard
/// comes with the session.
async fn first_of<T>(
    opening: impl Future<Output = Result<T, Halt>>,
    listening: impl Future<Output = Halt>,
) -> Result<(T, Option<Halt>), Halt> {
    let mut opening = std::pin::pin!(opening);
    tokio::select! {
        biased;
        opened = &mut opening => Ok((opened?, None)),
        halt = listening => match halt {
            Halt::Cancelled | Halt::Request(_) | Halt::Gone => Err(halt),
            Halt::Fault(..) | Halt::Refused(_) => Ok((opening.await?, Some(halt))),
        },
    }
}

/// Lets a session answer what came before a fault. A session that broke knows better than the fault what broke.
async fn finish<S: StreamSession>(
    session: &S,
    deliver: impl Future<Output = Result<(), Halt>>,
) -> Option<Halt> {
    let rest = async {
        // One that is over refuses, and `deliver` ends with its reason.
        let _over = session.close().await;
        deliver.await
    };
    tokio::time::timeout(LAST_RESULTS, rest).await.ok()?.err()
}

/// Reads requests for as long as the session lives, and ends only with what ends it.
async fn listen(requests: &mut Requests, files: &FileRoots, ahead: Ahead) -> Halt {
    match read(requests, files, ahead).await {
        Ok(()) => std::future::pending().await,
        Err(halt) => halt,
    }
}

/// Reads requests as fast as there is room ahead of the session, to the end of the stream: so a cancellation is heard
/// while the session is busy, and something after the close as well. What is wrong waits its turn behind what is not.
async fn read(requests: &mut Requests, files: &FileRoots, ahead: Ahead) -> Result<(), Halt> {
    let mut ahead = Some(ahead);
    while let Some(message) = requests.next().await.map_err(Halt::Request)? {
        match (requests.times.to_runtime(|| input::next(message, files)), ahead.take()) {
            (Ok(Input::Chunk(input)), Some(open)) => {
                open.push(input).await;
                ahead = Some(open);
            }
            (Ok(Input::Chunk(input)), None) => {
                return Err(Halt::at_chunk(StreamFault::Closed, input.sequence));
            }
            (Ok(Input::Close), _ends) => {}
            (Ok(Input::Cancel), _) => return Err(Halt::Cancelled),
            (Err(halt), Some(open)) => {
                open.fail(halt);
                return Ok(());
            }
            (Err(halt), None) => return Err(halt),
        }
    }
    Ok(())
}

/// Gives the session the inputs of the set-up, which are not dropped, and one input after the other; then closes it.
async fn feed<S: StreamSession>(
    session: &S,
    first: Vec<transport::TransportData>,
    mut queue: Queue,
    taken: &Taken,
) -> Result<(), Halt> {
    let give = async |input: transport::TransportData| {
        taken.remember(input.sequence);
        session.send(input).await.map_err(Halt::refused)
    };
    for input in first {
        give(input).await?;
    }
    while let Some(input) = queue.next().await {
        give(input?).await?;
    }
    session.close().await.map_err(Halt::refused)
}

/// Waits until a client's patience is over; for ever if it has no end.
async fn past(patience: Option<Duration>) -> Status {
    let Some(patience) = patience else { return std::future::pending().await };
    tokio::time::sleep(patience).await;
    rescue::of_client_deadline(&execute::late(patience))
}

// === impl Requests ===

impl Requests {
    async fn next(&mut self) -> Result<Option<StreamRequest>, Status> {
        self.times.decode(self.messages.message()).await
    }
}

// === impl Open ===

impl<S: StreamSession> Open<S> {
    /// Says the last words of a session that was closed or cancelled, which holds nothing any more while they wait for a
    /// client that does not read.
    async fn end(
        mut self,
        ended: Result<(), Halt>,
        times: &Times,
        responses: &Responses,
    ) -> Result<(), Halt> {
        let reason = match ended {
            Ok(()) => "the client closed the stream, and all of it is answered",
            Err(Halt::Cancelled) => {
                self.session.cancel();
                responses.drop_results();
                "the client cancelled the stream"
            }
            Err(halt @ (Halt::Fault(..) | Halt::Refused(_) | Halt::Request(_) | Halt::Gone)) => {
                return Err(halt);
            }
        };
        self.ended = true;
        debug!(reason, "session_ended");
        let (id, metrics) = (self.session.id(), self.session.metrics());
        drop(self);
        responses.metrics(id, &metrics).await?;
        responses.closed(id, &metrics, times, reason).await
    }
}

impl<S: StreamSession> Drop for Open<S> {
    fn drop(&mut self) {
        if !self.ended {
            self.session.cancel();
        }
    }
}

// === impl Taken ===

impl Taken {
    fn remember(&self, sequence: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sequence);
    }

    fn last(&self) -> Option<u64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Halt ===

impl Halt {
    fn at_chunk(fault: impl Into<Fault>, sequence: u64) -> Self {
        Self::Fault(Box::new(fault.into()), Some(sequence))
    }

    fn refused(fault: Fault) -> Self {
        Self::Refused(Box::new(fault))
    }

    /// With a sequence, where a fault has none yet.
    fn at(self, sequence: Option<u64>) -> Self {
        match self {
            Self::Fault(fault, None) | Self::Refused(fault) => Self::Fault(fault, sequence),
            Self::Fault(_, Some(_)) | Self::Cancelled | Self::Request(_) | Self::Gone => self,
        }
    }
}

impl<F: Into<Fault>> From<F> for Halt {
    fn from(fault: F) -> Self {
        Self::Fault(Box::new(fault.into()), None)
    }
}
