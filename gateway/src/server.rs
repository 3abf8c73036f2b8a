//! The gRPC server: the layers that a call passes, and the connections under them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use remotemedia_core::Limits;
use tokio::sync::watch;
use tonic::body::Body;
use tower::{Service, ServiceBuilder};
use tracing::debug;

use crate::admit::Admit;
use crate::backend::Backend;
use crate::doors::Doors;
use crate::files::FileRoots;
use crate::gathered::Gathered;
use crate::gauge::Gauge;
use crate::guard::Guard;
use crate::health::{self, Health};
use crate::identify::Identify;
use crate::life::{LifeWatch, Phase};
use crate::listener::{Connection, Listener, Room, Seat};
use crate::measure::Metrics;
use crate::rescue::{self, Rescue};
use crate::step::Around;
use crate::times::Time;
use crate::tokens::TokenFile;

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
    /// Whose calls are taken; all, if there is none.
    pub tokens: Option<TokenFile>,
}

/// Connections at once: as many as there may be sessions and as many again for unary calls.
const CONNECTIONS_PER_SESSION: usize = 2;
/// Beyond, connections whose calls are answered that there is no room, or that the service goes away. Beyond these,
/// clients wait in the socket's queue.
const REFUSED_CONNECTIONS: usize = 64;
/// How long a refused connection is kept for its calls to be answered, and then again for the answers to be read.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// What one stream may have on its way to us unread. Less and a large frame comes in fits and starts; more and a slow
/// pipeline's client is told so late.
const STREAM_WINDOW: u32 = 2 * 1_024 * 1_024;
/// What all streams of one connection may have on their way: as much as 40 of them that are stopped, so that these do
/// not stop the others. And h2 cuts a connection whose small frames that wait lack more than half of this to 256 bytes
/// each: so 164 thousand chunks may wait however small they are, and one stream of the smallest (an empty text, of 13
/// bytes) meets its own window first.
const CONNECTION_WINDOW: u32 = 80 * 1_024 * 1_024;
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
        let seats = self.limits.max_sessions.saturating_mul(CONNECTIONS_PER_SESSION);
        let room = Room { seats, standing: REFUSED_CONNECTIONS };
        let http2 = http2_settings(&self.limits);
        let Self { backend, limits, files, metrics, life, tokens } = self;
        let (tell_health, health) = watch::channel(Health::unknown());
        let guard = Guard::of(tokens.as_ref());
        let identify = Identify::new();
        let gauge = Gauge::new(&limits);

        // What a call passes on its way in, from the outermost:
        let service = ServiceBuilder::new()
            // Every call has a name, in its answer and in the log.
            .layer(Around(identify.clone()))
            // Every call is counted and timed as its client sees it: refused, answered or abandoned.
            .layer(Around(metrics.clone()))
            // What tonic says of oversize and malformed messages is said in our words.
            .layer(Around(Rescue::new(limits.max_message_bytes)))
            // Strangers learn nothing.
            .layer(Around(guard))
            // Nothing new begins while the service goes away.
            .layer(Around(Admit { life: life.clone(), is_succeeded: listener.outlives_us() }))
            // What its messages cost is told with its measures.
            .layer(Time)
            // The methods of the contract.
            .service(
                Doors {
                    backend: Arc::clone(&backend),
                    limits,
                    files,
                    life: life.clone(),
                    metrics: metrics.clone(),
                    health,
                }
                .routes(),
            );
        // Where there is no room, a call comes this far:
        let refusal =
            ServiceBuilder::new().layer(Around(identify)).layer(Around(metrics.clone())).service_fn(refuse);

        let of_connection = |connection, seat: Option<Seat>| {
            let (http2, life, metrics) = (http2.clone(), life.clone(), metrics.clone());
            // Outermost of all, for each connection by itself: what it sends is held to a bound before it is a message.
            let (service, refusal) = (gauge.hold(service.clone()), refusal.clone());
            async move {
                match seat {
                    Some(_seat) => {
                        let _counted = metrics.connection();
                        serve_connection(connection, http2, service, life.reached(Phase::Draining)).await;
                    }
                    None => {
                        metrics.connection_refused();
                        let end = tokio::time::sleep(REFUSED_FOR);
                        let told = async {
                            match life.phase() {
                                Phase::Serving => serve_connection(connection, http2, refusal, end).await,
                                // Nothing is begun there, and probes are told why.
                                Phase::Draining | Phase::Ending | Phase::Over => {
                                    serve_connection(connection, http2, service, end).await;
                                }
                            }
                        };
                        let _cut = tokio::time::timeout(2 * REFUSED_FOR, told).await;
                    }
                }
            }
        };
        let doors = listener.serve(room, life.clone(), Phase::Draining, of_connection);
        tokio::select! {
            () = doors => {}
            () = health::follow(&*backend, &life, tell_health) => {}
            () = follow(tokens) => {}
        }
    }
}

/// Every call on a connection for which there is no room.
async fn refuse<B>(_request: hyper::Request<B>) -> Result<hyper::Response<Body>, Infallible> {
    Ok(rescue::of_full_house().into_http())
}

async fn follow(tokens: Option<TokenFile>) {
    match tokens {
        Some(tokens) => tokens.follow().await,
        None => std::future::pending().await,
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
    end: impl Future<Output = ()>,
) where
    S: Service<hyper::Request<hyper::body::Incoming>, Response = hyper::Response<Body>>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    let service = TowerToHyperService::new(service);
    let (connection, outlet) = Gathered::new(connection);
    let mut connection = std::pin::pin!(http2.serve_connection(TokioIo::new(connection), service));
    let ended = tokio::select! {
        ended = outlet.run(connection.as_mut()) => ended,
        () = end => {
            // The client is told to open no more streams; those that are open go on.
            connection.as_mut().graceful_shutdown();
            outlet.run(connection).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection_broke");
    }
}
