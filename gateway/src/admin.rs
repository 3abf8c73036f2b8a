//! The admin door: HTTP for operators, probes and Prometheus, on this machine only. It tells, and passes orders on to the
//! launcher of the workers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use remotemedia_runtime::RuntimeStatus;
use serde::Serialize;
use tracing::debug;

use crate::address::Address;
use crate::backend::Backend;
use crate::guard::Guard;
use crate::health::{self, Health};
use crate::life::{LifeWatch, Phase};
use crate::listener::{Connection, Listener, Room};
use crate::measure::Metrics;
use crate::orders;

/// What the admin door tells of.
pub struct Admin<B> {
    /// Runs the pipelines.
    pub backend: Arc<B>,
    /// What is counted.
    pub metrics: Metrics,
    /// Who may give orders.
    pub guard: Guard,
    /// How far the process is.
    pub life: LifeWatch,
    /// Where clients reach the gateway.
    pub grpc: Address,
    /// When the process began.
    pub began: Instant,
}

/// The answer to `/status`.
#[derive(Serialize)]
struct Status<'a> {
    gateway: GatewayStatus<'a>,
    #[serde(flatten)]
    runtime: RuntimeStatus,
}

#[derive(Serialize)]
struct GatewayStatus<'a> {
    pid: u32,
    version: &'a str,
    uptime_s: f64,
    grpc: String,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug)]
enum Page {
    /// As `grpc.health.v1` has it, with the reason.
    Health,
    /// Whether the process answers at all: one that does not is to be started again, which helps nobody whose
    /// workers are gone.
    Liveness,
    /// Whether calls should be sent here.
    Readiness,
    Metrics,
    Nodes,
    Status,
    /// Where orders are given.
    Launcher,
}

type Answer = Response<Full<Bytes>>;

/// Probes and a person or two.
const ROOM: Room = Room { seats: 64, standing: 0 };
/// Of a request's line and headers, which is all that is read of it.
const MAX_REQUEST_BYTES: usize = 16 * 1_024;
/// For a request's headers to come.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// For the runtime to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

// === impl Admin ===

impl<B: Backend> Admin<B> {
    /// Answers at `listener` until life is over.
    pub async fn serve(self, listener: Listener) {
        let life = self.life.clone();
        let admin = Arc::new(self);
        let of_connection = |connection, _seat| Arc::clone(&admin).serve_connection(connection);
        // To the last: whoever asks in between is told that the service drains.
        listener.serve(ROOM, life, Phase::Ending, of_connection).await;
    }

    async fn serve_connection(self: Arc<Self>, connection: Connection) {
        let service = service_fn(|request| self.answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_buf_size(MAX_REQUEST_BYTES)
            .serve_connection(TokioIo::new(connection), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.life.reached(Phase::Ending) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "admin_connection_broke");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let Some(page) = Page::at(request.uri().path()) else {
            let text =
                "there is /health, /healthz, /readyz, /metrics, /status, /nodes and, for POST, /launcher\n";
            return Ok(answer(StatusCode::NOT_FOUND, TEXT, text));
        };
        let (methods, allow) = page.methods();
        if !methods.contains(request.method()) {
            let text = format!("only {allow} is answered here\n");
            let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            return Ok(refusal);
        }
        Ok(match page {
            Page::Health => self.health().await,
            Page::Liveness => answer(StatusCode::OK, TEXT, "ok"),
            Page::Readiness => self.readiness().await,
            Page::Metrics => match self.metrics.text(&self.runtime().await) {
                Ok(text) => answer(StatusCode::OK, PROMETHEUS, text),
                Err(error) => broken(&error),
            },
            Page::Nodes => json(&self.backend.node_infos()),
            Page::Status => json(&self.status().await),
            Page::Launcher => {
                let outcome = orders::obey(&*self.backend, &self.guard, request).await;
                let mut answer = json(&outcome);
                *answer.status_mut() = outcome.status;
                answer
            }
        })
    }

    async fn readiness(&self) -> Answer {
        match health::of(&*self.backend, &self.life).await {
            Health::Serving { quarantined } if quarantined.is_empty() => {
                answer(StatusCode::OK, TEXT, "ready")
            }
            Health::Serving { quarantined } => {
                answer(StatusCode::OK, TEXT, format!("ready, but {quarantined}"))
            }
            Health::NotServing { reason } => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason),
        }
    }

    async fn health(&self) -> Answer {
        let health = health::of(&*self.backend, &self.life).await;
        let mut answer = json(&health);
        match health {
            Health::Serving { .. } => {}
            Health::NotServing { .. } => *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        }
        answer
    }

    async fn status(&self) -> Status<'_> {
        Status {
            gateway: GatewayStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION"),
                uptime_s: self.began.elapsed().as_secs_f64(),
                grpc: self.grpc.to_string(),
            },
            runtime: self.runtime().await,
        }
    }

    /// A runtime that goes away, or is too busy to say, has nothing to show.
    async fn runtime(&self) -> RuntimeStatus {
        let status = tokio::time::timeout(STATUS_TIMEOUT, self.backend.status()).await;
        status.ok().flatten().unwrap_or_default()
    }
}

// === impl Page ===

impl Page {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/health" => Self::Health,
            "/healthz" => Self::Liveness,
            "/readyz" => Self::Readiness,
            "/metrics" => Self::Metrics,
            "/nodes" => Self::Nodes,
            "/status" => Self::Status,
            "/launcher" => Self::Launcher,
            _ => return None,
        })
    }

    /// By which it is asked for, and the same as a header says it.
    const fn methods(self) -> (&'static [Method], &'static str) {
        match self {
            Self::Health | Self::Liveness | Self::Readiness | Self::Metrics | Self::Nodes | Self::Status => {
                (&[Method::GET, Method::HEAD], "GET, HEAD")
            }
            Self::Launcher => (&[Method::POST], "POST"),
        }
    }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => answer(StatusCode::OK, JSON, text),
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::error::Error) -> Answer {
    answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n"))
}

fn answer(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Whatever is told here was true a moment ago only.
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
