//! A client of the service, as one is generated from the contract.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use remotemedia_cli::transport::Bearer;
use remotemedia_core::Fault;
use remotemedia_core::token::Token;
use remotemedia_protos::convert;
use remotemedia_protos::v1::execute_response::Outcome;
use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use remotemedia_protos::v1::stream_control::Command;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::streaming_pipeline_service_client::StreamingPipelineServiceClient;
use remotemedia_protos::v1::{
    ChunkResult, DataBuffer, DataChunk, ErrorResponse, ExecuteRequest, ExecutionResult, PipelineManifest,
    StreamControl, StreamInit, StreamMetrics, StreamRequest, StreamResponse, VersionRequest, VersionResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::deadline::within;

/// How long any one answer may take, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Larger than any answer of the tests.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One connection to a service.
#[derive(Clone, Debug)]
pub struct Client(InterceptedService<Channel, Bearer>);

/// One call of `StreamPipeline`. Dropped, the client is gone.
#[derive(Debug)]
pub struct Call {
    requests: Option<mpsc::Sender<StreamRequest>>,
    responses: Streaming<StreamResponse>,
}

/// All that came on a stream after its `StreamReady`.
#[derive(Debug, Default)]
pub struct Answers {
    /// The results, in order.
    pub results: Vec<ChunkResult>,
    /// What told of chunks that gave nothing, in order.
    pub missed: Vec<ErrorResponse>,
    /// The sequences of both, in order.
    pub answered: Vec<u64>,
    /// After how many results each report of metrics came.
    pub metrics_after: Vec<usize>,
    /// The reports of metrics, in order.
    pub metrics: Vec<StreamMetrics>,
    /// What `StreamClosed` said, if it came.
    pub closed: Option<remotemedia_protos::v1::StreamClosed>,
    /// The error that ended the stream, if one did.
    pub error: Option<ErrorResponse>,
}

// === impl Client ===

impl Client {
    /// Connects to `HOST:PORT`, or to `unix:PATH`.
    ///
    /// # Panics
    /// Nobody answers in time.
    pub async fn connect(address: &str) -> Self {
        Self::connect_as(address, None).await
    }

    /// Connects to `HOST:PORT` and shows this token with every call.
    ///
    /// # Panics
    /// Nobody answers in time.
    pub async fn connect_as(address: &str, token: Option<&Token>) -> Self {
        let is_path = address.starts_with("unix:");
        let uri = if is_path { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(uri).expect("an address");
        let channel = within(PATIENCE, "the connection", endpoint.tcp_nodelay(true).connect()).await;
        let bearer = Bearer::of(token.cloned()).expect("a token can stand in a header");
        Self(InterceptedService::new(channel.expect("the gateway takes connections"), bearer))
    }

    /// Over a connection that is there.
    ///
    /// # Panics
    /// Never: who shows no token has none to be wrong.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        Self(InterceptedService::new(channel, Bearer::of(None).expect("no token is none too long")))
    }

    /// The connection, for services that this client has no method for.
    #[must_use]
    pub fn channel(&self) -> InterceptedService<Channel, Bearer> {
        self.0.clone()
    }

    /// Runs a pipeline once. What goes wrong with it is the fault that travelled in the reply.
    ///
    /// # Errors
    /// The fault in the reply.
    ///
    /// # Panics
    /// There is no reply.
    pub async fn execute<const N: usize>(
        &self,
        manifest: &PipelineManifest,
        inputs: [(&str, DataBuffer); N],
    ) -> Result<ExecutionResult, ErrorResponse> {
        let inputs = inputs.map(|(node, buffer)| (node.to_owned(), buffer));
        let request = ExecuteRequest {
            manifest: Some(manifest.clone()),
            data_inputs: BTreeMap::from(inputs),
            ..ExecuteRequest::default()
        };
        self.execute_request(request).await.expect("the reply is no gRPC status")
    }

    /// Runs a pipeline once, with all that a request can say.
    ///
    /// # Errors
    /// A status instead of a reply.
    ///
    /// # Panics
    /// There is no answer in time, or it is empty.
    pub async fn execute_request(
        &self,
        request: ExecuteRequest,
    ) -> Result<Result<ExecutionResult, ErrorResponse>, Status> {
        let mut service = PipelineExecutionServiceClient::new(self.0.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES);
        let reply = within(PATIENCE, "the reply", service.execute_pipeline(request)).await?;
        match reply.into_inner().outcome.expect("a reply has an outcome") {
            Outcome::Result(result) => Ok(Ok(result)),
            Outcome::Error(error) => Ok(Err(error)),
        }
    }

    /// Asks for the version as a client of version `client`.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn version(&self, client: &str) -> VersionResponse {
        let request = VersionRequest { client_version: client.to_owned() };
        let mut service = PipelineExecutionServiceClient::new(self.0.clone());
        let reply = within(PATIENCE, "the version", service.get_version(request)).await;
        reply.expect("GetVersion always answers").into_inner()
    }

    /// Begins a stream, with nothing said on it.
    ///
    /// # Panics
    /// The call is refused.
    pub async fn call(&self) -> Call {
        // One: what waits here has left the test and not the process.
        let (requests, queue) = mpsc::channel(1);
        let mut service = StreamingPipelineServiceClient::new(self.0.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES);
        let call = service.stream_pipeline(ReceiverStream::new(queue));
        let responses = within(PATIENCE, "the call", call).await.expect("the call is taken").into_inner();
        Call { requests: Some(requests), responses }
    }

    /// Begins a stream and has its session set up. Gives the session's name too.
    ///
    /// # Panics
    /// `StreamReady` is not the first response, but for what it waits for.
    pub async fn stream(&self, manifest: &PipelineManifest) -> (Call, String) {
        self.stream_as(StreamInit { manifest: Some(manifest.clone()), ..StreamInit::default() }).await
    }

    /// The same, with all that a set-up can say.
    ///
    /// # Panics
    /// As [`Self::stream`].
    pub async fn stream_as(&self, init: StreamInit) -> (Call, String) {
        let mut call = self.call().await;
        call.say(Request::Init(init)).await;
        loop {
            match call.next().await {
                // It waits for workers.
                Some(Ok(Response::Status(_))) => {}
                Some(Ok(Response::Ready(ready))) => return (call, ready.session_id),
                other => panic!("the first response but for a status is StreamReady, got {other:?}"),
            }
        }
    }
}

// === impl Call ===

impl Call {
    /// Says something. Waits while the connection takes no more.
    ///
    /// # Panics
    /// The service ended the call, or takes nothing for long.
    pub async fn say(&self, request: Request) {
        let requests = self.requests.as_ref().expect("this half is not closed");
        let said = requests.send(StreamRequest { request: Some(request) });
        within(PATIENCE, "the service's taking a request", said).await.expect("the call lives");
    }

    /// Sends a chunk for the pipeline's only entry.
    ///
    /// # Panics
    /// As [`Self::say`].
    pub async fn send(&self, sequence: u64, buffer: DataBuffer) {
        self.say(chunk(sequence, buffer)).await;
    }

    /// Something to send with from another task.
    ///
    /// # Panics
    /// This half is closed.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<StreamRequest> {
        self.requests.clone().expect("this half is not closed")
    }

    /// `COMMAND_CLOSE`, with the request half left open.
    ///
    /// # Panics
    /// As [`Self::say`].
    pub async fn close(&self) {
        self.say(Request::Control(StreamControl { command: Command::Close.into() })).await;
    }

    /// `COMMAND_CANCEL`.
    ///
    /// # Panics
    /// As [`Self::say`].
    pub async fn cancel(&self) {
        self.say(Request::Control(StreamControl { command: Command::Cancel.into() })).await;
    }

    /// Ends the request half, without a word.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response; none at the end of the stream.
    ///
    /// # Panics
    /// It does not come in time, or is empty.
    pub async fn next(&mut self) -> Option<Result<Response, Status>> {
        let message = within(PATIENCE, "the next response", self.responses.message()).await;
        let response = |message: StreamResponse| message.response.expect("a response is not empty");
        message.transpose().map(|message| message.map(response))
    }

    /// The next result; reports of metrics are passed over.
    ///
    /// # Panics
    /// Something else comes.
    pub async fn result(&mut self) -> ChunkResult {
        loop {
            match self.next().await {
                Some(Ok(Response::Result(result))) => return result,
                Some(Ok(Response::Metrics(_))) => {}
                other => panic!("expected a result, got {other:?}"),
            }
        }
    }

    /// All that comes, to the end of the stream.
    ///
    /// # Panics
    /// Something follows the end of the session, or the call ends with a gRPC status.
    pub async fn rest(mut self) -> Answers {
        let mut answers = Answers::default();
        while let Some(response) = self.next().await {
            assert!(answers.closed.is_none() && answers.error.is_none(), "after the end came {response:?}");
            match response.expect("the stream ends without a status") {
                Response::Ready(ready) => panic!("ready twice: {ready:?}"),
                Response::Status(status) => panic!("a status of an open session: {status:?}"),
                Response::Result(result) => {
                    answers.answered.push(result.sequence);
                    answers.results.push(result);
                }
                Response::Metrics(metrics) => {
                    answers.metrics_after.push(answers.results.len());
                    answers.metrics.push(metrics);
                }
                Response::Closed(closed) => answers.closed = Some(closed),
                Response::Error(error) => {
                    if !remotemedia_protos::convert::fault::ends_stream(&error) {
                        answers.answered.extend(remotemedia_protos::convert::fault::sequence_of(&error));
                        answers.missed.push(error);
                    } else {
                        answers.error = Some(error);
                    }
                }
            }
        }
        answers
    }

    /// Sends these chunks from sequence 0 on and closes, while all that comes is taken.
    ///
    /// # Panics
    /// As [`Self::rest`].
    pub async fn run(mut self, chunks: impl IntoIterator<Item = DataBuffer>) -> Answers {
        let sender = self.sender();
        self.half_close();
        let send = async move {
            for (sequence, buffer) in (0..).zip(chunks) {
                let request = StreamRequest { request: Some(chunk(sequence, buffer)) };
                // A session that failed takes no more, and its answers tell why.
                if sender.send(request).await.is_err() {
                    return;
                }
            }
            let close = Request::Control(StreamControl { command: Command::Close.into() });
            let _ended = sender.send(StreamRequest { request: Some(close) }).await;
        };
        let ((), answers) = tokio::join!(send, self.rest());
        answers
    }
}

// === impl Answers ===

impl Answers {
    /// The sequences of the results, in order.
    #[must_use]
    pub fn sequences(&self) -> Vec<u64> {
        self.results.iter().map(|result| result.sequence).collect()
    }

    /// What a sink gave, in order.
    pub fn of<'a>(&'a self, sink: &'a str) -> impl Iterator<Item = &'a DataBuffer> {
        self.results.iter().filter_map(move |result| result.data_outputs.get(sink))
    }

    /// The same, if the session ended as it should.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    pub fn closed(self) -> Self {
        assert!(self.error.is_none() && self.closed.is_some(), "not closed: {:?}", self.error);
        self
    }
}

/// A chunk for the pipeline's only entry.
#[must_use]
pub fn chunk(sequence: u64, buffer: DataBuffer) -> Request {
    Request::DataChunk(DataChunk { buffer: Some(buffer), sequence, ..DataChunk::default() })
}

/// The fault that the service met.
#[must_use]
pub fn fault(error: &ErrorResponse) -> Fault {
    convert::fault::from_wire(error.clone())
}

/// The error that a status carries in its details, as any client in any language finds it.
///
/// # Panics
/// There is none.
#[must_use]
pub fn error_in(status: &Status) -> ErrorResponse {
    let details = tonic_types::pb::Status::decode(status.details()).expect("details are a google.rpc.Status");
    assert_eq!((details.code, details.message.as_str()), (status.code() as i32, status.message()));
    let mut details = details.details.iter();
    let error = details.find(|any| any.type_url == "type.googleapis.com/remotemedia.v1.ErrorResponse");
    let error = error.unwrap_or_else(|| panic!("no ErrorResponse in {status:?}"));
    ErrorResponse::decode(error.value.as_slice()).expect("an ErrorResponse decodes")
}

/// The context of an error, which is JSON.
///
/// # Panics
/// It is not.
#[must_use]
pub fn context(error: &ErrorResponse) -> serde_json::Value {
    serde_json::from_str(&error.context).expect("the context of an error is JSON")
}
