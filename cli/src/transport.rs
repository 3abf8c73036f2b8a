//! Pipelines on a service elsewhere, over gRPC.

mod whole;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remotemedia_core::fault::{EntryError, Fault, StreamFault, Unavailability};
use remotemedia_core::frame::{Frame, SessionId};
use remotemedia_core::limits::{LimitRequest, Limits};
use remotemedia_core::manifest::VERSION;
use remotemedia_core::starting::{LoadingWorker, Starting};
use remotemedia_core::token::Token;
use remotemedia_core::transport::{
    ChunkOutput, ExecuteRequest, Execution, ExecutionMetrics, PipelineTransport, StreamRequest,
    StreamSession, TransportData,
};
use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use remotemedia_protos::v1::stream_control::Command;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::streaming_pipeline_service_client::StreamingPipelineServiceClient;
use remotemedia_protos::v1::{self, execute_response::Outcome};
use remotemedia_protos::{convert, details};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use whole::Whole;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// Beyond the service's own deadline, so that its answer, which says more, comes first.
const MARGIN: Duration = Duration::from_secs(10);
/// The longest answer: a full message that a pipeline widened fourfold, as 8-bit audio becomes float.
const MAX_ANSWER_BYTES: usize = 64 * 1_024 * 1_024 + 64 * 1_024;
/// What one answer may have on its way unread, and all answers together; large ones come without stops.
const STREAM_WINDOW: u32 = 4 * 1_024 * 1_024;
const CONNECTION_WINDOW: u32 = 16 * 1_024 * 1_024;
/// As large as the gateway takes them: fewer frames, fewer wake-ups.
const MAX_FRAME: u32 = 256 * 1_024;
/// Requests between `send` and the connection. What waits here has left the caller and not the process.
const QUEUED_REQUESTS: usize = 1;

/// A service that speaks the `remotemedia.v1` contract.
#[derive(Clone, Debug)]
pub struct GrpcTransport {
    endpoint: Arc<str>,
    channel: InterceptedService<Whole<Channel>, Bearer>,
}

/// Shows a token with every call, if there is one.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

/// A streaming session on a service. Dropping it cancels the session.
pub struct GrpcSession {
    id: SessionId,
    endpoint: Arc<str>,
    requests: mpsc::Sender<v1::StreamRequest>,
    responses: tokio::sync::Mutex<Responses>,
    metrics: Mutex<ExecutionMetrics>,
    state: watch::Sender<SessionState>,
    deadline: Duration,
}

/// What the service is, by its own account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceVersion {
    /// Of the runtime.
    pub runtime: String,
    /// The node types that can be run now.
    pub node_types: Vec<String>,
}

/// No connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not an address.
    #[error("'{endpoint}' is no endpoint: write http://HOST:PORT or unix:PATH")]
    Endpoint {
        /// As given.
        endpoint: String,
    },
    /// Nobody answers.
    #[error("no service answers at {endpoint}: {problem}")]
    Unreachable {
        /// As given.
        endpoint: String,
        /// What the system said.
        problem: String,
    },
    /// Not visible ASCII.
    #[error("the token is none: one of `remotemedia token new` is rmt_ and 64 hexadecimal digits")]
    Token,
    /// The service does not know who calls.
    #[error("the service at {endpoint} refuses the caller: {problem}; pass --token or set REMOTEMEDIA_TOKEN")]
    Stranger {
        /// As given.
        endpoint: String,
        /// What it said.
        problem: String,
    },
    /// Somebody answers, but not so.
    #[error("the service at {endpoint} does not serve protocol {VERSION}: {problem}")]
    Version {
        /// As given.
        endpoint: String,
        /// What it said.
        problem: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SessionState {
    // Open => (Closing | Cancelled)
    Open,
    // Closing => Cancelled
    Closing,
    Cancelled,
}

struct Responses {
    stream: Streaming<v1::StreamResponse>,
    closed: bool,
}

/// When a service may be there again that was killed: its successor has its workers within a second.
const RETRY_AFTER_MS: u64 = 1_000;

// === impl GrpcTransport ===

impl GrpcTransport {
    /// Connects to `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`, shows the token, and asks whether our version is
    /// served.
    ///
    /// # Errors
    /// Nobody answers, or not in our words, or the token is not taken.
    pub async fn connect(
        endpoint: &str,
        token: Option<Token>,
    ) -> Result<(Self, ServiceVersion), ConnectError> {
        let bad = || ConnectError::Endpoint { endpoint: endpoint.to_owned() };
        let address = if endpoint.starts_with("unix:") || endpoint.contains("://") {
            endpoint.to_owned()
        } else {
            format!("http://{endpoint}")
        };
        let target = Endpoint::from_shared(address).map_err(|_invalid| bad())?;
        let target = target
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME);
        let channel = target.connect().await.map_err(|error| ConnectError::Unreachable {
            endpoint: endpoint.to_owned(),
            problem: root_cause(&error),
        })?;
        let channel = InterceptedService::new(Whole::new(channel), Bearer::of(token)?);
        let transport = Self { endpoint: endpoint.into(), channel };
        let version = transport.version().await?;
        Ok((transport, version))
    }

    /// What the service is now.
    ///
    /// # Errors
    /// It does not answer, or does not serve our version any more.
    pub async fn version(&self) -> Result<ServiceVersion, ConnectError> {
        let request = v1::VersionRequest { client_version: VERSION.to_owned() };
        let mut client = PipelineExecutionServiceClient::new(self.channel.clone());
        let unreachable =
            |problem| ConnectError::Unreachable { endpoint: self.endpoint.to_string(), problem };
        let answer = tokio::time::timeout(CONNECT, client.get_version(request))
            .await
            .map_err(|_elapsed| unreachable(format!("no answer within {} s", CONNECT.as_secs())))?
            .map_err(|status| {
                let problem = status_words(&status);
                if status.code() == Code::Unauthenticated {
                    return ConnectError::Stranger { endpoint: self.endpoint.to_string(), problem };
                }
                unreachable(problem)
            })?
            .into_inner();
        if !answer.compatible {
            let problem = answer.compatibility_message;
            return Err(ConnectError::Version { endpoint: self.endpoint.to_string(), problem });
        }
        let info = answer.version_info.unwrap_or_default();
        Ok(ServiceVersion { runtime: info.runtime_version, node_types: info.supported_node_types })
    }

    fn deadline(limits: &LimitRequest) -> Duration {
        let service = limits.timeout_ms.unwrap_or(Limits::default().max_timeout_ms);
        Duration::from_millis(service) + MARGIN
    }

    fn fault(&self, status: &Status) -> Fault {
        fault_in(&self.endpoint, status)
    }
}

impl PipelineTransport for GrpcTransport {
    type Session = GrpcSession;

    async fn execute(&self, request: ExecuteRequest) -> Result<Execution, Fault> {
        let start = Duration::from_millis(request.limits.start_ms.unwrap_or(0));
        let deadline = Self::deadline(&request.limits) + start;
        let inputs = request.inputs.into_iter().map(|(node, frame)| {
            let buffer = convert::data::to_wire(frame.data, frame.metadata);
            buffer.map(|buffer| (node.clone(), buffer)).map_err(|error| Fault::Input { node, error })
        });
        let message = v1::ExecuteRequest {
            manifest: Some(convert::manifest::to_wire(Arc::unwrap_or_clone(request.manifest))),
            data_inputs: inputs.collect::<Result<_, _>>()?,
            resource_limits: Some(convert::limits::to_wire(&request.limits)),
            client_version: VERSION.to_owned(),
        };
        let mut client = PipelineExecutionServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(usize::MAX);
        let answer = tokio::time::timeout(deadline, client.execute_pipeline(message))
            .await
            .map_err(|_elapsed| late(deadline, "the service's answer"))?
            .map_err(|status| self.fault(&status))?;
        match answer.into_inner().outcome {
            Some(Outcome::Result(result)) => execution(result),
            Some(Outcome::Error(error)) => Err(convert::fault::from_wire(error)),
            None => Err(broken(&self.endpoint, "an answer without an outcome".to_owned())),
        }
    }

    async fn stream(&self, request: StreamRequest) -> Result<GrpcSession, Fault> {
        let deadline = Self::deadline(&request.limits);
        let init = v1::StreamInit {
            manifest: Some(convert::manifest::to_wire(Arc::unwrap_or_clone(request.manifest))),
            data_inputs: BTreeMap::new(),
            resource_limits: Some(convert::limits::to_wire(&request.limits)),
            client_version: VERSION.to_owned(),
            expected_chunk_size: 0,
            max_buffered_chunks: 0,
        };
        let (requests, queue) = mpsc::channel(QUEUED_REQUESTS);
        requests.try_send(message(Request::Init(init))).expect("an empty queue takes one message");
        let mut client = StreamingPipelineServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(usize::MAX);
        let open = async {
            let response = client.stream_pipeline(ReceiverStream::new(queue)).await;
            let mut stream = response.map_err(|status| self.fault(&status))?.into_inner();
            let id = loop {
                let first = stream.message().await.map_err(|status| self.fault(&status))?;
                match (first.and_then(|message| message.response), &request.listener) {
                    (Some(Response::Status(status)), Some(listener)) => listener.tell(starting(status)),
                    (Some(Response::Status(_)), None) => {}
                    (first, _) => break ready(&self.endpoint, first)?,
                }
            };
            Ok::<_, Fault>((id, stream))
        };
        let start = request.limits.start_ms.unwrap_or(Limits::default().default_start_ms);
        let patience = deadline + Duration::from_millis(start);
        let (id, stream) = tokio::time::timeout(patience, open)
            .await
            .map_err(|_elapsed| late(patience, "the session's opening"))??;
        Ok(GrpcSession {
            id,
            endpoint: Arc::clone(&self.endpoint),
            requests,
            responses: tokio::sync::Mutex::new(Responses { stream, closed: false }),
            metrics: Mutex::default(),
            state: watch::Sender::new(SessionState::Open),
            deadline,
        })
    }
}

// === impl Bearer ===

impl Bearer {
    /// # Errors
    /// The token cannot stand in a header.
    pub fn of(token: Option<Token>) -> Result<Self, ConnectError> {
        let header = |token: Token| {
            let mut header = MetadataValue::try_from(format!("Bearer {}", token.secret()))
                .map_err(|_invalid| ConnectError::Token)?;
            header.set_sensitive(true);
            Ok(header)
        };
        token.map(header).transpose().map(Self)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

// === impl GrpcSession ===

impl StreamSession for GrpcSession {
    fn id(&self) -> SessionId {
        self.id
    }

    async fn send(&self, input: TransportData) -> Result<(), Fault> {
        match *self.state.borrow() {
            SessionState::Open => {}
            SessionState::Closing | SessionState::Cancelled => return Err(StreamFault::Closed.into()),
        }
        let TransportData { node, sequence, frames } = input;
        if frames.is_empty() {
            // The contract has no word with which a client could say that it dropped something.
            return Err(EntryError::NoData { node }.into());
        }
        let timestamp_us = frames.values().find_map(|frame| frame.timestamp_us).unwrap_or(0);
        let mut named_buffers = BTreeMap::new();
        for (port, frame) in frames {
            let buffer = convert::data::to_wire(frame.data, frame.metadata)
                .map_err(|error| Fault::Input { node: node.clone(), error })?;
            named_buffers.insert(port, buffer);
        }
        let buffer = named_buffers.remove("");
        let timestamp_ms = timestamp_us / 1_000;
        let chunk = v1::DataChunk { node_id: node, buffer, named_buffers, sequence, timestamp_ms };
        self.request(Request::DataChunk(chunk)).await
    }

    async fn receive(&self) -> Result<Option<ChunkOutput>, Fault> {
        let mut state = self.state.subscribe();
        let next = async {
            let mut responses = self.responses.lock().await;
            self.next_output(&mut responses).await
        };
        tokio::select! {
            biased;
            _cancelled = state.wait_for(|state| *state == SessionState::Cancelled) => Ok(None),
            output = tokio::time::timeout(self.deadline, next) => {
                output.unwrap_or_else(|_elapsed| Err(late(self.deadline, "the next result")))
            }
        }
    }

    async fn close(&self) -> Result<(), Fault> {
        self.state.send_if_modified(|state| {
            let open = *state == SessionState::Open;
            if open {
                *state = SessionState::Closing;
            }
            open
        });
        self.request(control(Command::Close)).await
    }

    fn cancel(&self) {
        self.state.send_replace(SessionState::Cancelled);
        // If the queue is full, dropping the session says the same: the service sees its client vanish.
        let _queued = self.requests.try_send(message(control(Command::Cancel)));
    }

    fn metrics(&self) -> ExecutionMetrics {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl GrpcSession {
    /// Waits while the service takes nothing. That is not bounded here: results that do not come are.
    async fn request(&self, request: Request) -> Result<(), Fault> {
        let sent = self.requests.send(message(request)).await;
        sent.map_err(|_closed| broken(&self.endpoint, "the service takes no more input".to_owned()))
    }

    async fn next_output(&self, responses: &mut Responses) -> Result<Option<ChunkOutput>, Fault> {
        while !responses.closed {
            let message = responses.stream.message().await;
            let message = message.map_err(|status| fault_in(&self.endpoint, &status))?;
            let Some(message) = message else {
                return Err(broken(&self.endpoint, "the stream ended before it was closed".to_owned()));
            };
            match message.response {
                Some(Response::Result(result)) => return chunk(result).map(Some),
                Some(Response::Error(error)) if !convert::fault::ends_stream(&error) => {
                    return Ok(Some(ChunkOutput {
                        sequence: convert::fault::sequence_of(&error).unwrap_or_default(),
                        outputs: BTreeMap::new(),
                        missed: Some(convert::fault::from_wire(error)),
                        latency: Duration::ZERO,
                    }));
                }
                Some(Response::Error(error)) => {
                    responses.closed = true;
                    return Err(convert::fault::from_wire(error));
                }
                Some(Response::Metrics(metrics)) => {
                    *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) =
                        convert::metrics::from_wire_on_stream(metrics);
                }
                Some(Response::Closed(closed)) => {
                    responses.closed = true;
                    if let Some(last) = closed.final_metrics {
                        self.finish_metrics(convert::metrics::from_wire(last));
                    }
                }
                Some(Response::Ready(_) | Response::Status(_)) => {
                    return Err(broken(&self.endpoint, "the session was opened twice".to_owned()));
                }
                None => return Err(broken(&self.endpoint, "a response without content".to_owned())),
            }
        }
        Ok(None)
    }

    /// The last measures name the nodes; only those on the way count chunks.
    fn finish_metrics(&self, last: ExecutionMetrics) {
        let mut known = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        *known = ExecutionMetrics {
            chunks: known.chunks,
            dropped: known.dropped,
            items: known.items,
            average_latency: known.average_latency,
            buffered_items: 0,
            ..last
        };
    }
}

fn message(request: Request) -> v1::StreamRequest {
    v1::StreamRequest { request: Some(request) }
}

fn control(command: Command) -> Request {
    Request::Control(v1::StreamControl { command: command.into() })
}

fn starting(status: v1::StreamStatus) -> Starting {
    let workers = status.workers.into_iter().map(|worker| LoadingWorker {
        name: worker.name,
        step: worker.step,
        elapsed: Duration::from_millis(worker.elapsed_ms),
    });
    Starting {
        node: status.node_id,
        node_type: status.node_type,
        waited: Duration::from_millis(status.waited_ms),
        workers: workers.collect(),
    }
}

fn ready(endpoint: &str, first: Option<Response>) -> Result<SessionId, Fault> {
    match first {
        Some(Response::Ready(ready)) => match u64::from_str_radix(&ready.session_id, 16) {
            Ok(number) => Ok(SessionId(number)),
            Err(_) => Err(broken(
                endpoint,
                format!("session id '{}' is not hexadecimal digits, at most 16", ready.session_id),
            )),
        },
        Some(Response::Error(error)) => Err(convert::fault::from_wire(error)),
        Some(Response::Result(_) | Response::Metrics(_) | Response::Closed(_) | Response::Status(_))
        | None => Err(broken(endpoint, "the stream did not begin with 'ready'".to_owned())),
    }
}

fn chunk(result: v1::ChunkResult) -> Result<ChunkOutput, Fault> {
    let outputs = result.data_outputs.into_iter().map(|(node, buffer)| {
        let frame = frame(&node, result.sequence, buffer)?;
        Ok((node, frame))
    });
    Ok(ChunkOutput {
        sequence: result.sequence,
        outputs: outputs.collect::<Result<_, Fault>>()?,
        missed: None,
        latency: Duration::try_from_secs_f64(result.processing_time_ms / 1e3).unwrap_or_default(),
    })
}

fn execution(result: v1::ExecutionResult) -> Result<Execution, Fault> {
    let outputs = result.data_outputs.into_iter().map(|(node, buffer)| {
        let frames = match buffer.data_type {
            Some(_) => vec![frame(&node, 0, buffer)?],
            None => Vec::new(),
        };
        Ok((node, frames))
    });
    Ok(Execution {
        outputs: outputs.collect::<Result<_, Fault>>()?,
        metrics: result.metrics.map(convert::metrics::from_wire).unwrap_or_default(),
    })
}

fn frame(node: &str, sequence: u64, buffer: v1::DataBuffer) -> Result<Frame, Fault> {
    let (data, metadata) =
        convert::data::from_wire(buffer).map_err(|error| Fault::Input { node: node.to_owned(), error })?;
    Ok(Frame { metadata, ..Frame::new(sequence, data) })
}

fn late(limit: Duration, waiting_for: &str) -> Fault {
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Fault::Deadline { limit_ms, waiting_for: waiting_for.to_owned() }
}

/// What a status says. One that the service has not written comes of a connection that broke, however that is called.
fn fault_in(endpoint: &str, status: &Status) -> Fault {
    let told = details::error_in(status.details()).map(convert::fault::from_wire);
    let is_cut = status.code() == Code::Unavailable || status.source().is_some();
    told.unwrap_or_else(|| match is_cut {
        true => Fault::Unavailable { state: Unavailability::Gone, retry_after_ms: RETRY_AFTER_MS },
        false => broken(endpoint, status_words(status)),
    })
}

fn broken(endpoint: &str, problem: String) -> Fault {
    Fault::Internal { place: format!("the connection to {endpoint}"), problem }
}

fn status_words(status: &Status) -> String {
    let code = status.code().description();
    if status.message().is_empty() { code.to_owned() } else { format!("{} ({code})", status.message()) }
}

/// The last of the causes: what the system said, without the layers that passed it on.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
