//! What is counted of calls, and how it is shown to Prometheus.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use remotemedia_protos::v1::ErrorType;
use remotemedia_runtime::RuntimeStatus;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::rescue::code_name;

/// The counters of the process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

/// The counters do not fit together, which is a mistake in this file.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be registered: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// A call under way, as a door sees it: the request carries it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call(Arc<OnceLock<ErrorType>>);

/// Counts and times every call.
#[derive(Clone, Debug)]
pub(crate) struct Measure(Metrics);

/// See [`Measure`].
#[derive(Clone, Debug)]
pub(crate) struct Measured<S> {
    inner: S,
    metrics: Metrics,
}

/// A response that is counted when it has ended, or was dropped.
#[derive(Debug)]
pub(crate) struct MeasuredBody {
    inner: Body,
    running: Running,
}

#[derive(Debug)]
struct Families {
    registry: Registry,
    calls: IntCounterVec,
    call_seconds: HistogramVec,
    chunk_seconds: Histogram,
    sessions: IntGauge,
    workers: IntGauge,
}

/// Records a call when dropped.
#[derive(Debug)]
struct Running {
    metrics: Metrics,
    rpc: Rpc,
    began: Instant,
    call: Call,
    status: Option<Code>,
}

/// The methods of the contract.
#[derive(Clone, Copy, Debug)]
enum Rpc {
    ExecutePipeline,
    GetVersion,
    StreamPipeline,
    Attach,
    Signal,
    GetPeers,
    HealthCheck,
    /// Anything else that was asked for: one label, however many names are tried.
    Unknown,
}

/// From a tenth of the fastest pipeline's time to the longest deadline.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

// === impl Metrics ===

impl Metrics {
    /// All counters at 0.
    ///
    /// # Errors
    /// Two of them have one name.
    pub fn new() -> Result<Self, MetricsError> {
        let histogram = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let families = Families {
            registry: Registry::new(),
            calls: IntCounterVec::new(
                Opts::new("remotemedia_requests_total", "Calls that have ended, by method and outcome"),
                &["rpc", "outcome"],
            )?,
            call_seconds: HistogramVec::new(
                histogram(
                    "remotemedia_request_seconds",
                    "From a call's arrival to the end of its answer; for streams, their whole life",
                ),
                &["rpc"],
            )?,
            chunk_seconds: Histogram::with_opts(histogram(
                "remotemedia_chunk_seconds",
                "From the arrival of a stream's chunk to a result of it",
            ))?,
            sessions: IntGauge::new("remotemedia_sessions", "Sessions that are open")?,
            workers: IntGauge::new("remotemedia_workers", "Workers that are registered")?,
        };
        families.registry.register(Box::new(families.calls.clone()))?;
        families.registry.register(Box::new(families.call_seconds.clone()))?;
        families.registry.register(Box::new(families.chunk_seconds.clone()))?;
        families.registry.register(Box::new(families.sessions.clone()))?;
        families.registry.register(Box::new(families.workers.clone()))?;
        Ok(Self(Arc::new(families)))
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// The encoder refuses a family, which is a mistake in this file.
    pub(crate) fn text(&self, status: &RuntimeStatus) -> Result<Vec<u8>, MetricsError> {
        self.0.sessions.set(i64::try_from(status.sessions.len()).unwrap_or(i64::MAX));
        self.0.workers.set(i64::try_from(status.workers.len()).unwrap_or(i64::MAX));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// A chunk was answered.
    pub(crate) fn chunk(&self, latency: Duration) {
        self.0.chunk_seconds.observe(latency.as_secs_f64());
    }

    pub(crate) fn layer(&self) -> Measure {
        Measure(self.clone())
    }
}

// === impl Call ===

impl Call {
    /// The call that a request belongs to.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// The answer tells a fault: the status, which will be OK, does not. The first word counts.
    pub(crate) fn failed(&self, error: ErrorType) {
        let _first = self.0.set(error);
    }
}

// === impl Measure ===

impl<S> Layer<S> for Measure {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, metrics: self.0.clone() }
    }
}

impl<S, B> Service<Request<B>> for Measured<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let call = Call::default();
        request.extensions_mut().insert(call.clone());
        let mut running = Running {
            metrics: self.metrics.clone(),
            rpc: Rpc::of(request.uri().path()),
            began: Instant::now(),
            call,
            status: None,
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            running.look(response.headers());
            Ok(response.map(|inner| Body::new(MeasuredBody { inner, running })))
        })
    }
}

// === impl MeasuredBody ===

impl HttpBody for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.running.look(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl Running ===

impl Running {
    fn look(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.status = Some(Code::from_bytes(code.as_bytes()));
        }
    }

    fn outcome(&self) -> &'static str {
        match (self.status, self.call.0.get()) {
            // The client went before the end.
            (None, _) => code_name(Code::Cancelled),
            (Some(Code::Ok), Some(error)) => error.as_str_name(),
            (Some(code), _) => code_name(code),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Families { calls, call_seconds, .. } = &*self.metrics.0;
        calls.with_label_values(&[self.rpc.name(), self.outcome()]).inc();
        call_seconds.with_label_values(&[self.rpc.name()]).observe(self.began.elapsed().as_secs_f64());
    }
}

// === impl Rpc ===

impl Rpc {
    fn of(path: &str) -> Self {
        match path {
            "/remotemedia.v1.PipelineExecutionService/ExecutePipeline" => Self::ExecutePipeline,
            "/remotemedia.v1.PipelineExecutionService/GetVersion" => Self::GetVersion,
            "/remotemedia.v1.StreamingPipelineService/StreamPipeline" => Self::StreamPipeline,
            "/remotemedia.v1.PipelineControl/Attach" => Self::Attach,
            "/remotemedia.v1.webrtc.WebRtcSignaling/Signal" => Self::Signal,
            "/remotemedia.v1.webrtc.WebRtcSignaling/GetPeers" => Self::GetPeers,
            "/remotemedia.v1.webrtc.WebRtcSignaling/HealthCheck" => Self::HealthCheck,
            _ => Self::Unknown,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::ExecutePipeline => "ExecutePipeline",
            Self::GetVersion => "GetVersion",
            Self::StreamPipeline => "StreamPipeline",
            Self::Attach => "Attach",
            Self::Signal => "Signal",
            Self::GetPeers => "GetPeers",
            Self::HealthCheck => "HealthCheck",
            Self::Unknown => "unknown",
        }
    }
}
