//! How much of messages that are not whole a client may have here, and for how long; and which of its calls come by one
//! connection.
//!
//! A message is gathered in the gateway's heap until it is whole. Credit and frame pools know nothing of it yet, so a
//! client that begins many large messages, or begins one and goes quiet, has to meet a bound of its own.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use remotemedia_core::Limits;
use remotemedia_core::fault::Fault;
use remotemedia_core::limits::LimitExceeded;
use remotemedia_core::transport::ConnectionId;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::rescue;

/// What all clients together may have here.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    house: Arc<Pot>,
    next: Arc<AtomicU64>,
    of_connection: u64,
    times: Times,
}

/// A service of one connection, which is held to its part.
#[derive(Clone, Debug)]
pub(crate) struct Gauged<S> {
    inner: S,
    connection: ConnectionId,
    pots: [Arc<Pot>; 2],
    times: Times,
}

/// A request's body that is held to it.
#[derive(Debug)]
pub(crate) struct GaugedBody<B> {
    inner: B,
    framing: Framing,
    charge: Charge,
    times: Times,
    /// Since when nothing comes although it is asked for, in the middle of a message.
    since: Option<Instant>,
    /// How long that was so before, since the message began. Time in which nobody asks is not the client's.
    waited: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// How long a message may take.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Without another byte.
    stall: Duration,
    /// Altogether.
    whole: Duration,
}

/// Bytes that are here, and how many may be.
#[derive(Debug)]
struct Pot {
    what: &'static str,
    held: AtomicU64,
    most: u64,
}

/// What one body has in the pots. Given back when it is dropped.
#[derive(Debug)]
struct Charge {
    pots: [Arc<Pot>; 2],
    bytes: u64,
}

/// Where in gRPC's framing a body is: five bytes, the last four of which are the length, before each message.
#[derive(Default, Debug)]
struct Framing {
    prefix: [u8; 5],
    prefix_bytes: usize,
    left: u64,
    /// Bytes of a message that is not whole.
    partial: u64,
}

// === impl Gauge ===

impl Gauge {
    pub(crate) fn new(limits: &Limits) -> Self {
        let house = Pot {
            what: "what all clients have sent of messages that are not whole",
            held: AtomicU64::new(0),
            most: limits.max_incomplete_bytes,
        };
        let times = Times {
            stall: Duration::from_millis(limits.message_stall_ms),
            whole: Duration::from_millis(limits.message_ms),
        };
        let (house, next) = (Arc::new(house), Arc::default());
        Self { house, next, of_connection: limits.max_connection_incomplete_bytes, times }
    }

    /// Holds a connection to its part.
    pub(crate) fn hold<S>(&self, inner: S) -> Gauged<S> {
        let what = "what this connection has sent of messages that are not whole";
        let own = Pot { what, held: AtomicU64::new(0), most: self.of_connection };
        let connection = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        Gauged { inner, connection, pots: [Arc::new(own), Arc::clone(&self.house)], times: self.times }
    }
}

// === impl Gauged ===

impl<S, B> Service<Request<B>> for Gauged<S>
where
    S: Service<Request<GaugedBody<B>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let Self { inner, connection, pots, times } = self;
        request.extensions_mut().insert(*connection);
        inner.call(request.map(|inner| GaugedBody {
            inner,
            framing: Framing::default(),
            charge: Charge { pots: pots.clone(), bytes: 0 },
            times: *times,
            since: None,
            waited: Duration::ZERO,
            alarm: None,
        }))
    }
}

// === impl GaugedBody ===

impl<B> GaugedBody<B> {
    /// Takes note of bytes that came.
    fn look(&mut self, data: &[u8]) -> Result<(), Status> {
        self.framing.take(data);
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        if self.framing.partial == 0 {
            self.waited = Duration::ZERO;
        }
        self.charge.set(self.framing.partial).map_err(|limit| rescue::of_limit(&limit))
    }

    /// Nothing comes. Says so when that has lasted too long in the middle of a message.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.framing.partial == 0 {
            return Poll::Pending;
        }
        let left = self.times.whole.saturating_sub(self.waited);
        if self.since.is_none() {
            let now = Instant::now();
            let until = now + left.min(self.times.stall);
            self.since = Some(now);
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(until),
                None => self.alarm = Some(Box::pin(sleep_until(until))),
            }
        }
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().poll(cx).map(|()| self.late(left < self.times.stall)),
            None => Poll::Pending,
        }
    }

    fn late(&self, is_too_slow: bool) -> Status {
        let limit = if is_too_slow { self.times.whole } else { self.times.stall };
        let Framing { partial, left, .. } = self.framing;
        rescue::of_client_deadline(&Fault::Deadline {
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            waiting_for: format!(
                "the rest of a message, of which {partial} of {} bytes came",
                partial + left
            ),
        })
    }
}

impl<B> HttpBody for GaugedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let looked = frame.data_ref().map_or(Ok(()), |data| self.look(data));
                Poll::Ready(Some(looked.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Status::from_error(Box::new(error))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.wait(cx).map(|late| Some(Err(late))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl Charge ===

impl Charge {
    fn set(&mut self, bytes: u64) -> Result<(), LimitExceeded> {
        for pot in &self.pots {
            pot.held.fetch_add(bytes, Ordering::Relaxed);
            pot.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        let grows = bytes > self.bytes;
        self.bytes = bytes;
        let over = |pot: &&Arc<Pot>| pot.held.load(Ordering::Relaxed) > pot.most;
        match self.pots.iter().find(over).filter(|_| grows) {
            Some(pot) => Err(LimitExceeded {
                what: pot.what.to_owned(),
                value: pot.held.load(Ordering::Relaxed),
                limit: pot.most,
                unit: "bytes".to_owned(),
                advice: "send fewer large messages at once, and each without a pause".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        for pot in &self.pots {
            pot.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

// === impl Framing ===

impl Framing {
    fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.left == 0 {
                let missing = self.prefix.len() - self.prefix_bytes;
                let (part, rest) = data.split_at(missing.min(data.len()));
                self.prefix[self.prefix_bytes..self.prefix_bytes + part.len()].copy_from_slice(part);
                (self.prefix_bytes, data) = (self.prefix_bytes + part.len(), rest);
                self.partial += part.len() as u64;
                if self.prefix_bytes < self.prefix.len() {
                    return;
                }
                let [_compressed, a, b, c, d] = self.prefix;
                (self.prefix_bytes, self.left) = (0, u32::from_be_bytes([a, b, c, d]).into());
            } else {
                let part = self.left.min(data.len() as u64);
                data = &data[usize::try_from(part).unwrap_or(data.len())..];
                (self.left, self.partial) = (self.left - part, self.partial + part);
            }
            if self.left == 0 {
                self.partial = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: u32) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(bytes.to_be_bytes());
        message.resize(5 + bytes as usize, 7);
        message
    }

    #[test]
    fn however_a_stream_is_cut_what_is_not_whole_is_counted() {
        let stream = [message(3), message(0), message(1_000), message(5)].concat();
        let ends = [8, 13, 1_018, 1_028];
        for step in [1, 2, 3, 7, 500, 5_000] {
            let mut framing = Framing::default();
            let mut came = 0;
            for piece in stream.chunks(step) {
                framing.take(piece);
                came += piece.len();
                let whole = ends.iter().rev().find(|end| **end <= came).copied().unwrap_or(0);
                assert_eq!(framing.partial, (came - whole) as u64, "{came} bytes in steps of {step}");
            }
        }
    }

    #[test]
    fn what_is_held_is_bounded_for_one_and_for_all_and_given_back() {
        let limits =
            Limits { max_incomplete_bytes: 25, max_connection_incomplete_bytes: 20, ..Limits::default() };
        let gauge = Gauge::new(&limits);
        let pots = || gauge.hold(()).pots;
        let (one, other) = (pots(), pots());
        let charge = |pots: &[Arc<Pot>; 2]| Charge { pots: pots.clone(), bytes: 0 };
        let (mut a, mut b, mut c) = (charge(&one), charge(&one), charge(&other));
        a.set(15).unwrap();
        let error = b.set(6).unwrap_err();
        assert_eq!((error.value, error.limit), (21, 20));
        assert!(error.to_string().contains("what this connection has sent"), "{error}");
        drop(b);
        let error = c.set(11).unwrap_err();
        assert_eq!((error.value, error.limit), (26, 25));
        a.set(0).unwrap();
        c.set(12).unwrap();
        drop((a, c));
        assert_eq!(gauge.house.held.load(Ordering::Relaxed), 0);
    }
}
