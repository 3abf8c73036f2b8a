//! What a door spends on messages, call by call: decoding, encoding, and the conversions between.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Request, Response};
use remotemedia_protos::convert::metrics::DoorTimes;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// What is spent on the messages of one call. The request carries it; cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Arc<Spent>);

/// Nanoseconds, which only grow.
#[derive(Debug, Default)]
struct Spent {
    /// Between a piece of the request's being given and the next one's being asked for.
    between_pieces: AtomicU64,
    decoding: AtomicU64,
    encoding: AtomicU64,
    to_runtime: AtomicU64,
    to_proto: AtomicU64,
}

/// Has every call carry its [`Times`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time;

/// See [`Time`].
#[derive(Clone, Debug)]
pub(crate) struct Timed<S>(S);

/// A request's body, seen from below.
#[derive(Debug)]
pub(crate) struct Received<B> {
    inner: B,
    times: Times,
    given: Option<Instant>,
}

/// A response's body. What is asked for is encoded there and then.
#[derive(Debug)]
struct Sent {
    inner: Body,
    times: Times,
}

// === impl Times ===

impl Times {
    /// Those of the call that a request belongs to.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Tells that the request was one message and has been decoded: nothing else was done between its pieces. Gives the
    /// time that it took.
    pub(crate) fn request_decoded(&self) -> Duration {
        let took = self.0.between_pieces.swap(0, Ordering::Relaxed);
        self.0.decoding.fetch_add(took, Ordering::Relaxed);
        Duration::from_nanos(took)
    }

    /// Waits for a message of many. The thread's time in it is spent on decoding.
    pub(crate) async fn decode<F: Future>(&self, message: F) -> F::Output {
        let mut message = pin!(message);
        poll_fn(|cx| clocked(&self.0.decoding, || message.as_mut().poll(cx))).await
    }

    /// Turns messages into the runtime's data.
    pub(crate) fn to_runtime<T>(&self, convert: impl FnOnce() -> T) -> T {
        clocked(&self.0.to_runtime, convert)
    }

    /// Turns the runtime's data into messages.
    pub(crate) fn to_proto<T>(&self, convert: impl FnOnce() -> T) -> T {
        clocked(&self.0.to_proto, convert)
    }

    /// All that is over.
    pub(crate) fn so_far(&self) -> DoorTimes {
        let of = |time: &AtomicU64| Duration::from_nanos(time.load(Ordering::Relaxed));
        let Spent { between_pieces: _, decoding, encoding, to_runtime, to_proto } = &*self.0;
        DoorTimes {
            serialization: of(decoding) + of(encoding),
            proto_to_runtime: of(to_runtime),
            runtime_to_proto: of(to_proto),
        }
    }
}

fn clocked<T>(time: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    add(time, began);
    done
}

fn add(time: &AtomicU64, since: Instant) {
    let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    time.fetch_add(nanoseconds, Ordering::Relaxed);
}

// === impl Time ===

impl<S> Layer<S> for Time {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed(inner)
    }
}

impl<S, B> Service<Request<B>> for Timed<S>
where
    S: Service<Request<Received<B>>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let times = Times::default();
        request.extensions_mut().insert(times.clone());
        let received = request.map(|inner| Received { inner, times: times.clone(), given: None });
        let answer = self.0.call(received);
        Box::pin(async move { Ok(answer.await?.map(|inner| Body::new(Sent { inner, times }))) })
    }
}

// === impl Received ===

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(given) = self.given.take() {
            add(&self.times.0.between_pieces, given);
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = polled {
            self.given = Some(Instant::now());
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

// === impl Sent ===

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, times } = &mut *self;
        clocked(&times.0.encoding, || Pin::new(inner).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use http_body_util::Full;

    use super::*;

    #[test]
    fn what_is_done_between_the_pieces_of_a_request_is_its_decoding_once() {
        let times = Times::default();
        let inner: Full<Bytes> = Full::new("message".into());
        let mut received = Received { inner, times: times.clone(), given: None };
        let mut cx = Context::from_waker(Waker::noop());
        let frame = Pin::new(&mut received).poll_frame(&mut cx);
        assert!(matches!(frame, Poll::Ready(Some(Ok::<_, Infallible>(_)))));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(3) {}
        assert_eq!(times.request_decoded(), Duration::ZERO, "not before the next is asked for");
        assert!(matches!(Pin::new(&mut received).poll_frame(&mut cx), Poll::Ready(None)));
        let took = times.request_decoded();
        assert!(took >= Duration::from_millis(3), "{took:?}");
        assert_eq!(times.so_far(), DoorTimes { serialization: took, ..DoorTimes::default() });
        assert_eq!(times.request_decoded(), Duration::ZERO);
    }
}
