//! A client that expects the worst: whatever comes of a call is told, and nothing of it is taken for granted.

use std::time::Duration;

use remotemedia_cli::transport::Bearer;
use remotemedia_core::Fault;
use remotemedia_protos::v1::execute_response::Outcome;
use remotemedia_protos::v1::pipeline_execution_service_client::PipelineExecutionServiceClient;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::streaming_pipeline_service_client::StreamingPipelineServiceClient;
use remotemedia_protos::v1::{
    DataBuffer, ExecuteRequest, ExecutionResult, PipelineManifest, ResourceLimits, StreamInit, StreamRequest,
};
use remotemedia_tests::Client;
use remotemedia_tests::client::{chunk, error_in, fault};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// A connection to the service. It comes back by itself when the gateway does.
#[derive(Clone)]
pub(crate) struct Asker(InterceptedService<Channel, Bearer>);

/// What came of a call instead of its answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// An error that says what happened.
    #[error(transparent)]
    Fault(Box<Fault>),
    /// A status without details: the connection broke, or the gateway was going.
    #[error("broken off with {0:?}: {1}")]
    Broken(Code, String),
    /// Nothing, long after the deadline.
    #[error("no answer, long after the deadline")]
    Silence,
    /// What no rule of a stream allows.
    #[error("nonsense: {0}")]
    Nonsense(String),
}

/// A stream that is open.
pub(crate) struct Stream {
    pub(crate) session: String,
    requests: Option<mpsc::Sender<StreamRequest>>,
    responses: Streaming<remotemedia_protos::v1::StreamResponse>,
    patience: Duration,
}

/// Larger than any answer here.
const MAX_BYTES: usize = 32 << 20;
/// What an answer may take beyond its deadline before it is given up as lost.
const SLACK: Duration = Duration::from_secs(10);

// === impl Asker ===

impl Asker {
    pub(crate) async fn connect(address: &str) -> Self {
        Self(Client::connect(address).await.channel())
    }

    pub(crate) async fn unary(
        &self,
        manifest: PipelineManifest,
        entry: &str,
        input: DataBuffer,
        limit_ms: u64,
    ) -> Result<ExecutionResult, Trouble> {
        let request = ExecuteRequest {
            manifest: Some(manifest),
            data_inputs: [(entry.to_owned(), input)].into(),
            resource_limits: Some(limits(limit_ms)),
            ..ExecuteRequest::default()
        };
        let mut service = PipelineExecutionServiceClient::new(self.0.clone())
            .max_decoding_message_size(MAX_BYTES)
            .max_encoding_message_size(MAX_BYTES);
        let reply = within(patience(limit_ms), service.execute_pipeline(request)).await?;
        match reply.into_inner().outcome {
            Some(Outcome::Result(result)) => Ok(result),
            Some(Outcome::Error(error)) => Err(Trouble::Fault(Box::new(fault(&error)))),
            None => Err(Trouble::Nonsense("a reply without an outcome".to_owned())),
        }
    }

    pub(crate) async fn stream(&self, manifest: PipelineManifest, limit_ms: u64) -> Result<Stream, Trouble> {
        let (requests, queue) = mpsc::channel(1);
        let mut service = StreamingPipelineServiceClient::new(self.0.clone())
            .max_decoding_message_size(MAX_BYTES)
            .max_encoding_message_size(MAX_BYTES);
        let patience = patience(limit_ms);
        let responses = within(patience, service.stream_pipeline(ReceiverStream::new(queue))).await?;
        let responses = responses.into_inner();
        let resource_limits = Some(limits(limit_ms));
        let init = StreamInit { manifest: Some(manifest), resource_limits, ..StreamInit::default() };
        let mut stream = Stream { session: String::new(), requests: Some(requests), responses, patience };
        stream.say(Request::Init(init)).await;
        loop {
            match stream.next().await? {
                Some(Response::Ready(ready)) => {
                    stream.session = ready.session_id;
                    return Ok(stream);
                }
                // It waits for workers.
                Some(Response::Status(_)) => {}
                Some(Response::Error(error)) => return Err(Trouble::Fault(Box::new(fault(&error)))),
                other => return Err(Trouble::Nonsense(format!("first of all came {other:?}"))),
            }
        }
    }
}

// === impl Stream ===

impl Stream {
    /// What is said to one who has gone is lost, and his last word tells.
    pub(crate) async fn send(&self, sequence: u64, input: DataBuffer) {
        self.say(chunk(sequence, input)).await;
    }

    /// The sequence and the outputs of the next answer; none when the stream has ended as it should.
    pub(crate) async fn answer(&mut self) -> Result<Option<(u64, Vec<DataBuffer>)>, Trouble> {
        loop {
            match self.next().await? {
                Some(Response::Result(result)) => {
                    return Ok(Some((result.sequence, result.data_outputs.into_values().collect())));
                }
                Some(Response::Error(error)) => return Err(Trouble::Fault(Box::new(fault(&error)))),
                Some(Response::Metrics(_) | Response::Status(_)) => {}
                Some(Response::Closed(_)) => return self.end().await,
                Some(Response::Ready(_)) => return Err(Trouble::Nonsense("ready twice".to_owned())),
                None => return Err(Trouble::Nonsense("a stream that just stops".to_owned())),
            }
        }
    }

    /// No more comes from here, and nothing more is due.
    pub(crate) async fn close(&mut self) -> Result<(), Trouble> {
        self.requests = None;
        match self.answer().await? {
            None => Ok(()),
            Some((sequence, _)) => Err(Trouble::Nonsense(format!("{sequence} is answered twice"))),
        }
    }

    async fn end(&mut self) -> Result<Option<(u64, Vec<DataBuffer>)>, Trouble> {
        match self.next().await? {
            None => Ok(None),
            Some(more) => Err(Trouble::Nonsense(format!("after the end came {more:?}"))),
        }
    }

    async fn say(&self, request: Request) {
        if let Some(requests) = &self.requests {
            let said = requests.send(StreamRequest { request: Some(request) });
            let _taken = timeout(self.patience, said).await;
        }
    }

    async fn next(&mut self) -> Result<Option<Response>, Trouble> {
        let Some(message) = within(self.patience, self.responses.message()).await? else { return Ok(None) };
        let response = message.response;
        Ok(Some(response.ok_or_else(|| Trouble::Nonsense("an empty response".to_owned()))?))
    }
}

/// What comes in time.
async fn within<T>(patience: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Trouble> {
    match timeout(patience, call).await {
        Err(_elapsed) => Err(Trouble::Silence),
        Ok(Err(status)) if status.details().is_empty() => {
            Err(Trouble::Broken(status.code(), status.message().to_owned()))
        }
        Ok(Err(status)) => Err(Trouble::Fault(Box::new(fault(&error_in(&status))))),
        Ok(Ok(answer)) => Ok(answer),
    }
}

const fn patience(limit_ms: u64) -> Duration {
    // It may wait for a worker first.
    Duration::from_millis(limit_ms).saturating_add(SLACK)
}

fn limits(limit_ms: u64) -> ResourceLimits {
    ResourceLimits { max_timeout_ms: limit_ms, max_start_ms: Some(limit_ms), ..ResourceLimits::default() }
}
