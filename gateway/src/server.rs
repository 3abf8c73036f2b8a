//! The gRPC server: the layers that a call passes, and the connections under them.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use remotemedia_core::Limits;
use tonic::body::Body;
use tower::{Service, ServiceBuilder};
use tracing::debug;

use crate::admit::Admit;
use crate::backend::Backend;
use crate::doors::Doors;
use crate::files::FileRoots;
use crate::life::{LifeWatch, Phase};
use crate::listener::{Connection, Listener};
use crate::measure::Metrics;
use crate::rescue::Rescue;

/// What the server stands on, and by what rules.
pub struct Server<B> {
    /// Runs the pipelines.
    pub backend: Arc<B>,
    /// What may be asked.
    pub limits: Limits,
    /// Which files may be named.
    pub files: FileRoots,
    /// What is counted.
    pub metrics: Metrics,
    /// When to stop.
    pub life: LifeWatch,
}

/// Connections at once: as many as there may be sessions and as many again for unary calls. Beyond, clients wait in
/// the socket's queue.
const CONNECTIONS_PER_SESSION: usize = 2;
/// What one stream may have on its way to us unread. Less and a large frame comes in fits and starts; more and a slow
/// pipeline's client is told so late.
const STREAM_WINDOW: u32 = 2 * 1_024 * 1_024;
/// What all streams of one connection may have on their way.
const CONNECTION_WINDOW: u32 = 8 * 1_024 * 1_024;
/// Large frames cut the processor's work for a gigabyte by a third and more.
const MAX_FRAME: u32 = 256 * 1_024;
/// Of a request's headers: tokens are long, nothing else is.
const MAX_HEADERS: u32 = 16 * 1_024;
/// A peer that vanished without a word is noticed by a ping that it does not answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

// === impl Server ===

impl<B: Backend> Server<B> {
    /// Serves clients at `listener` until life is over.
    pub async fn serve(self, listener: Listener) {
        let most = self.limits.max_sessions.saturating_mul(CONNECTIONS_PER_SESSION);
        let http2 = http2_settings(&self.limits);
        let Self { backend, limits, files, metrics, life } = self;

        // What a call passes on its way in, from the outermost:
        let service = ServiceBuilder::new()
            // Every call is counted and timed as its client sees it: refused, answered or abandoned.
            .layer(metrics.layer())
            // What tonic says of oversize and malformed messages is said in our words.
            .layer(Rescue::new(limits.max_message_bytes))
            // Nothing new begins while the service goes away.
            .layer(Admit::new(life.clone()))
            // The methods of the contract.
            .service(Doors { backend, limits, files, life: life.clone(), metrics }.routes());

        let of_connection =
            |connection| serve_connection(connection, http2.clone(), service.clone(), life.clone());
        listener.serve(most, life.clone(), Phase::Draining, of_connection).await;
    }
}

fn http2_settings(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .adaptive_window(false)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(u32::try_from(limits.max_sessions).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    http2
}

async fn serve_connection<S>(
    connection: Connection,
    http2: http2::Builder<TokioExecutor>,
    service: S,
    life: LifeWatch,
) where
    S: Service<hyper::Request<hyper::body::Incoming>, Response = hyper::Response<Body>>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    let service = TowerToHyperService::new(service);
    let mut connection = std::pin::pin!(http2.serve_connection(TokioIo::new(connection), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = life.reached(Phase::Draining) => {
            // The client is told to open no more streams; those that are open go on.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection_broke");
    }
}
