//! Orders at the admin door: what operators ask of the launcher of the workers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, ORIGIN};
use hyper::{Request, StatusCode};
use remotemedia_core::launching::{LaunchOrder, LaunchRefusal};
use serde::Serialize;
use tracing::info;

use crate::backend::Backend;
use crate::guard::Guard;

/// What became of an order, as it is answered.
#[derive(Serialize)]
pub(crate) struct Outcome {
    #[serde(skip)]
    pub(crate) status: StatusCode,
    /// In words; empty if it was done.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    /// Of the launcher, or for want of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<LaunchRefusal>,
}

/// An order is a name and a few words.
const MAX_ORDER_BYTES: usize = 4 * 1_024;

/// For the order to come, and for its answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Passes on what comes by POST: a [`LaunchOrder`] as JSON, from whoever may call.
pub(crate) async fn obey<B: Backend>(backend: &B, guard: &Guard, request: Request<Incoming>) -> Outcome {
    if let Some(outcome) = stranger(guard, request.headers()) {
        return outcome;
    }
    let body = tokio::time::timeout(TIMEOUT, Limited::new(request.into_body(), MAX_ORDER_BYTES).collect());
    let Ok(Ok(body)) = body.await else {
        return Outcome::no(StatusCode::BAD_REQUEST, format!("an order has at most {MAX_ORDER_BYTES} bytes"));
    };
    let order = match parse(&body.to_bytes()) {
        Ok(order) => order,
        Err(outcome) => return outcome,
    };
    info!(?order, "launcher_asked");
    match tokio::time::timeout(TIMEOUT, backend.order(order)).await {
        Ok(Ok(())) => Outcome { status: StatusCode::OK, message: String::new(), refusal: None },
        Ok(Err(refusal)) => Outcome::refused(refusal),
        Err(_elapsed) => Outcome::no(
            StatusCode::GATEWAY_TIMEOUT,
            format!("the launcher has not answered within {} s: it may do it yet", TIMEOUT.as_secs()),
        ),
    }
}

/// A page in a browser can reach every address of this machine, and says whose it is; nobody else has an origin.
fn stranger(guard: &Guard, headers: &HeaderMap) -> Option<Outcome> {
    if headers.contains_key(ORIGIN) {
        return Some(Outcome::no(
            StatusCode::FORBIDDEN,
            "orders are not taken from pages in a browser".into(),
        ));
    }
    let problem = guard.check(headers).err()?;
    Some(Outcome::no(StatusCode::UNAUTHORIZED, problem.to_owned()))
}

fn parse(body: &Bytes) -> Result<LaunchOrder, Outcome> {
    serde_json::from_slice(body).map_err(|error| {
        let problem = format!("no order: {error}; there is {{\"release\":{{\"worker\":\"NAME\"}}}} and {{\"restart\":{{\"pool\":\"KIND\"}}}}");
        Outcome::no(StatusCode::BAD_REQUEST, problem)
    })
}

// === impl Outcome ===

impl Outcome {
    fn no(status: StatusCode, message: String) -> Self {
        Self { status, message, refusal: None }
    }

    fn refused(refusal: LaunchRefusal) -> Self {
        let status = match &refusal {
            LaunchRefusal::NotQuarantined { .. } | LaunchRefusal::Restarting { .. } => StatusCode::CONFLICT,
            LaunchRefusal::NoPool { .. } => StatusCode::NOT_FOUND,
            LaunchRefusal::NoLauncher | LaunchRefusal::Busy { .. } | LaunchRefusal::Gone => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self { status, message: refusal.to_string(), refusal: Some(refusal) }
    }
}
