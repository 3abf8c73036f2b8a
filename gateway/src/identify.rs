//! A name for every call, in its answer and on every line that is logged about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Request;
use hyper::header::{HeaderName, HeaderValue};
use tracing::field::Empty;
use tracing::{Instrument as _, error_span};

use crate::rpc::Rpc;
use crate::step::{Answer, Step};

/// Names calls. What wraps the inner service is the span that all lines about the call stand in.
#[derive(Clone, Debug)]
pub(crate) struct Identify(Arc<Source>);

/// Makes names for calls that come without one.
#[derive(Debug)]
struct Source {
    /// So that names of one gateway are not those of the one before it.
    began: u128,
    next: AtomicU64,
}

/// What clients, proxies and this service call the name of a call.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A name, not a story: it stands on every line.
const MAX_ID_BYTES: usize = 128;

// === impl Identify ===

impl Identify {
    pub(crate) fn new() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        Self(Arc::new(Source { began, next: AtomicU64::new(1) }))
    }
}

impl Step for Identify {
    fn pass<B>(&self, request: Request<B>, next: impl FnOnce(Request<B>) -> Answer) -> Answer {
        let id = match request.headers().get(&REQUEST_ID).filter(|id| is_sane(id.as_bytes())) {
            Some(id) => id.clone(),
            None => self.0.make(),
        };
        let rpc = Rpc::of(request.uri().path()).name();
        // The level of an error, so that it stands on the lines of errors where the log is for nothing else.
        let span = error_span!(
            "request",
            request_id = id.to_str().unwrap_or_default(),
            rpc,
            client = Empty,
            session_id = Empty
        );
        let answer = span.in_scope(|| next(request));
        let named = async move {
            let mut response = answer.await?;
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        };
        Box::pin(named.instrument(span))
    }
}

// === impl Source ===

impl Source {
    fn make(&self) -> HeaderValue {
        let id = format!("{:x}-{:x}", self.began, self.next.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("unnamed"))
    }
}

/// Whether a client's name for its call can stand in a log: visible, without quotes and the like, and short.
fn is_sane(id: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    !id.is_empty() && id.len() <= MAX_ID_BYTES && id.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_for_its_call_is_taken_if_it_can_stand_in_a_log() {
        let long = "a".repeat(129);
        for (id, expect) in [
            ("7f3a-1", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("", false),
            ("a b", false),
            ("\"", false),
            ("\u{e4}", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_sane(id.as_bytes()), expect, "{id:?}");
        }
    }
}
