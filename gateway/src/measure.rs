//! What is counted of calls, and how it is shown to Prometheus.

mod snapshot;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::HeaderMap;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};
use remotemedia_core::transport::ChunkOutput;
use remotemedia_protos::v1::ErrorType;
use remotemedia_runtime::RuntimeStatus;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Span, debug, info};

use crate::rescue::{self, code_name};
use crate::rpc::Rpc;
use crate::step::{Answer, Step};

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

/// A connection that is counted as served.
#[derive(Debug)]
pub(crate) struct Connected(IntGauge);

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
    errors: IntCounterVec,
    call_seconds: HistogramVec,
    chunk_seconds: Histogram,
    dropped_chunks: IntCounter,
    connections: IntGauge,
    refused_connections: IntCounter,
}

/// Records a call when dropped.
#[derive(Debug)]
struct Running {
    metrics: Metrics,
    rpc: Rpc,
    began: Instant,
    call: Call,
    /// The status, and the error in its details.
    status: Option<(Code, Option<ErrorType>)>,
    /// In which the end is logged.
    span: Span,
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
            errors: IntCounterVec::new(
                Opts::new(
                    "remotemedia_errors_total",
                    "Calls that ended with an error, by method and error type",
                ),
                &["rpc", "type"],
            )?,
            call_seconds: HistogramVec::new(
                histogram(
                    "remotemedia_request_duration_seconds",
                    "From a call's arrival to the end of its answer; for streams, their whole life",
                ),
                &["rpc"],
            )?,
            chunk_seconds: Histogram::with_opts(histogram(
                "remotemedia_chunk_duration_seconds",
                "From the arrival of a stream's chunk to a result of it",
            ))?,
            dropped_chunks: IntCounter::new(
                "remotemedia_chunks_dropped_total",
                "Chunks of streams that made way for later ones, as their clients asked",
            )?,
            connections: IntGauge::new("remotemedia_connections", "Connections that are served")?,
            refused_connections: IntCounter::new(
                "remotemedia_connections_refused_total",
                "Connections for which there was no room",
            )?,
        };
        let build = IntGauge::with_opts(
            Opts::new("remotemedia_build_info", "Always 1; the label tells the version")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        families.registry.register(Box::new(build))?;
        families.registry.register(Box::new(families.calls.clone()))?;
        families.registry.register(Box::new(families.errors.clone()))?;
        families.registry.register(Box::new(families.call_seconds.clone()))?;
        families.registry.register(Box::new(families.chunk_seconds.clone()))?;
        families.registry.register(Box::new(families.dropped_chunks.clone()))?;
        families.registry.register(Box::new(families.connections.clone()))?;
        families.registry.register(Box::new(families.refused_connections.clone()))?;
        Ok(Self(Arc::new(families)))
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// The encoder refuses a family, which is a mistake in this file.
    pub(crate) fn text(&self, status: &RuntimeStatus) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.registry.gather(), &mut text)?;
        TextEncoder::new().encode(&snapshot::of(status)?.gather(), &mut text)?;
        Ok(text)
    }

    /// A chunk was answered, or gave nothing.
    pub(crate) fn chunk(&self, output: &ChunkOutput) {
        match output.missed {
            Some(_) => self.0.dropped_chunks.inc(),
            None => self.0.chunk_seconds.observe(output.latency.as_secs_f64()),
        }
    }

    /// A connection is served until this is dropped.
    pub(crate) fn connection(&self) -> Connected {
        self.0.connections.inc();
        Connected(self.0.connections.clone())
    }

    /// There was no room for a connection.
    pub(crate) fn connection_refused(&self) {
        self.0.refused_connections.inc();
    }
}

/// Counts and times every call.
impl Step for Metrics {
    fn pass<B>(&self, mut request: Request<B>, next: impl FnOnce(Request<B>) -> Answer) -> Answer {
        let call = Call::default();
        request.extensions_mut().insert(call.clone());
        let mut running = Running {
            metrics: self.clone(),
            rpc: Rpc::of(request.uri().path()),
            began: Instant::now(),
            call,
            status: None,
            span: Span::current(),
        };
        let answer = next(request);
        Box::pin(async move {
            let response = answer.await?;
            running.look(response.headers());
            Ok(response.map(|inner| Body::new(MeasuredBody { inner, running })))
        })
    }
}

// === impl Connected ===

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
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
        let Some(code) = headers.get(Status::GRPC_STATUS) else { return };
        let code = Code::from_bytes(code.as_bytes());
        let said = (code != Code::Ok).then(|| Status::from_header_map(headers)).flatten();
        let error = said.and_then(|status| rescue::error_in(&status)).map(|error| error.error_type());
        self.status = Some((code, error));
    }

    fn error(&self) -> Option<ErrorType> {
        match (self.status, self.call.0.get()) {
            (Some((Code::Ok, _)), Some(error)) => Some(*error),
            (Some((_, error)), _) => error,
            (None, _) => None,
        }
    }

    fn outcome(&self) -> &'static str {
        match (self.status, self.call.0.get()) {
            // The client went before the end.
            (None, _) => code_name(Code::Cancelled),
            (Some((Code::Ok, _)), Some(error)) => error.as_str_name(),
            (Some((code, _)), _) => code_name(code),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Families { calls, errors, call_seconds, .. } = &*self.metrics.0;
        let (rpc, outcome, took) = (self.rpc.name(), self.outcome(), self.began.elapsed());
        calls.with_label_values(&[rpc, outcome]).inc();
        call_seconds.with_label_values(&[rpc]).observe(took.as_secs_f64());
        if let Some(error) = self.error() {
            errors.with_label_values(&[rpc, error.as_str_name()]).inc();
        }
        let took_ms = took.as_secs_f64() * 1e3;
        // What went well is for whoever looks closer: at full load these would be thousands of lines a second.
        self.span.in_scope(|| match outcome {
            "OK" => debug!(outcome, took_ms, "request_ended"),
            _ => info!(outcome, took_ms, "request_ended"),
        });
    }
}
