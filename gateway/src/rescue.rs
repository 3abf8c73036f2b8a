//! The one place that decides how a fault is told: inside the reply, or as a gRPC status.
//!
//! Faults of the pipeline are part of an answer and travel in it. What keeps the service from answering is a status;
//! its details are a `google.rpc.Status` that holds the `ErrorResponse` which the reply would have held.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::HeaderMap;
use remotemedia_core::Fault;
use remotemedia_core::fault::Unavailability;
use remotemedia_core::limits::LimitExceeded;
use remotemedia_protos::v1::{ErrorResponse, ErrorType};
use remotemedia_protos::{convert, details};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::step::{Answer, Step};

/// How a fault is told.
#[derive(Debug)]
pub enum Told {
    /// Inside the reply, or on the stream.
    Reply(ErrorResponse),
    /// Instead of a reply.
    Status(Status),
}

/// Puts statuses that tonic makes of malformed and oversize requests into our words.
#[derive(Clone, Copy, Debug)]
pub struct Rescue {
    max_message_bytes: usize,
}

/// A response whose trailers are looked at on their way out.
#[derive(Debug)]
pub struct RescuedBody {
    inner: Body,
    rescue: Rescue,
}

/// Clients that retry by themselves wait so many milliseconds before they do.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// When to come back to a service with too many connections: they last longer than calls.
const RETRY_CONNECTION_MS: u64 = 1_000;

/// When to come back to a service that goes away: its successor serves by then.
const RESTART_MS: u64 = 1_000;

// === Faults ===

/// Tells the fault of a unary call.
#[must_use]
pub fn of_call(fault: &Fault) -> Told {
    let response = convert::fault::to_wire(fault);
    match call_code(fault) {
        Some(code) => Told::Status(status(code, fault, &response)),
        None => Told::Reply(response),
    }
}

/// Tells the fault of a stream. `sequence` is that of the chunk at fault, or of the last one taken.
#[must_use]
pub fn of_stream(fault: &Fault, sequence: Option<u64>) -> Told {
    let response = convert::fault::to_wire_on_stream(fault, sequence);
    match call_code(fault) {
        // Streams have a word of their own for time.
        Some(Code::DeadlineExceeded) | None => Told::Reply(response),
        Some(code) => Told::Status(status(code, fault, &response)),
    }
}

/// The deadline that the client set for the whole call has passed.
#[must_use]
pub fn of_client_deadline(fault: &Fault) -> Status {
    status(Code::DeadlineExceeded, fault, &convert::fault::to_wire(fault))
}

/// More than a client may have here before it is understood.
#[must_use]
pub fn of_limit(limit: &LimitExceeded) -> Status {
    let fault = Fault::Limit(limit.clone());
    status(Code::ResourceExhausted, &fault, &convert::fault::to_wire(&fault))
}

/// The service goes away: nothing more is begun, and what runs is cut.
#[must_use]
pub fn of_closed_door() -> Status {
    let fault = Fault::Unavailable { state: Unavailability::ShuttingDown, retry_after_ms: RESTART_MS };
    status(Code::Unavailable, &fault, &convert::fault::to_wire(&fault))
}

/// As many connections as there may be: whoever comes later may find room.
#[must_use]
pub fn of_full_house() -> Status {
    let fault = Fault::Unavailable { state: Unavailability::Full, retry_after_ms: RETRY_CONNECTION_MS };
    status(Code::Unavailable, &fault, &convert::fault::to_wire(&fault))
}

/// Nobody knows who calls.
#[must_use]
pub fn of_stranger(problem: &str) -> Status {
    let response = ErrorResponse {
        error_type: ErrorType::Authentication.into(),
        message: problem.to_owned(),
        ..ErrorResponse::default()
    };
    with_details(Code::Unauthenticated, problem.to_owned(), &response, None, MetadataMap::new())
}

/// What the contract defines and this service does not do.
#[must_use]
pub fn not_served(method: &str, reason: &str) -> Status {
    let message = format!("{method} is not served: {reason}");
    let response = ErrorResponse {
        error_type: ErrorType::Validation.into(),
        message: message.clone(),
        ..ErrorResponse::default()
    };
    with_details(Code::Unimplemented, message, &response, None, MetadataMap::new())
}

/// Health was asked of what is not here.
#[must_use]
pub fn of_unknown_service(service: &str) -> Status {
    let message = format!("there is no service '{service}' here: ask for '' or one that reflection lists");
    let response = ErrorResponse {
        error_type: ErrorType::Validation.into(),
        message: message.clone(),
        ..ErrorResponse::default()
    };
    with_details(Code::NotFound, message, &response, None, MetadataMap::new())
}

/// A door's own task is gone without a word.
#[must_use]
pub fn of_panic(door: &str) -> Status {
    let fault = Fault::Internal { place: door.to_owned(), problem: "it stopped unexpectedly".to_owned() };
    status(Code::Internal, &fault, &convert::fault::to_wire(&fault))
}

/// The error that a status of this service carries.
#[must_use]
pub fn error_in(status: &Status) -> Option<ErrorResponse> {
    details::error_in(status.details())
}

/// The status code's name in the gRPC specification.
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The code of a fault that keeps the service from answering; none if the fault is an answer.
const fn call_code(fault: &Fault) -> Option<Code> {
    match fault {
        Fault::Unavailable {
            state:
                Unavailability::Full
                | Unavailability::NoWorkers
                | Unavailability::ShuttingDown
                | Unavailability::Gone,
            ..
        }
        | Fault::Starting { .. }
        | Fault::Quarantined { .. } => Some(Code::Unavailable),
        Fault::Deadline { .. } => Some(Code::DeadlineExceeded),
        Fault::Parse(_)
        | Fault::Graph(_)
        | Fault::Placement(_)
        | Fault::Params { .. }
        | Fault::Input { .. }
        | Fault::TypeMismatch { .. }
        | Fault::Entry(_)
        | Fault::Node(_)
        | Fault::Worker(_)
        | Fault::Poison(_)
        | Fault::Limit(_)
        | Fault::Stream(_)
        | Fault::Version { .. }
        | Fault::Internal { .. } => None,
    }
}

fn status(code: Code, fault: &Fault, response: &ErrorResponse) -> Status {
    let mut metadata = MetadataMap::new();
    let mut retry = None;
    if let Fault::Unavailable { retry_after_ms, .. }
    | Fault::Starting { retry_after_ms, .. }
    | Fault::Quarantined { retry_after_ms, .. } = fault
    {
        metadata.insert(RETRY_PUSHBACK, (*retry_after_ms).into());
        retry = Some(*retry_after_ms);
    }
    with_details(code, response.message.clone(), response, retry, metadata)
}

fn with_details(
    code: Code,
    message: String,
    response: &ErrorResponse,
    retry_after_ms: Option<u64>,
    metadata: MetadataMap,
) -> Status {
    let details = details::encode(code.into(), &message, response, retry_after_ms);
    Status::with_details_and_metadata(code, message, details.into(), metadata)
}

// === impl Rescue ===

impl Rescue {
    /// For a service whose messages have at most `max_message_bytes` bytes.
    #[must_use]
    pub const fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes }
    }

    /// Tells what tonic found wrong with a request. Statuses that are ours already stay as they are.
    #[must_use]
    pub fn of_request(self, status: Status) -> Status {
        if !status.details().is_empty() {
            return status;
        }
        let (code, message) = (status.code(), status.message());
        if code == Code::OutOfRange {
            self.oversize(message)
        } else if code == Code::Internal {
            malformed(message)
        } else if code == Code::Unimplemented && message.is_empty() {
            not_served("the method", "it is not in the contract remotemedia.v1")
        } else {
            status
        }
    }

    fn oversize(self, message: &str) -> Status {
        let limit = self.max_message_bytes as u64;
        let fault = Fault::Limit(LimitExceeded {
            what: "the message".to_owned(),
            value: length_in(message).unwrap_or_else(|| limit.saturating_add(1)),
            limit,
            unit: "bytes".to_owned(),
            advice: "send less at once, or have the operator raise max_message_bytes".to_owned(),
        });
        self::status(Code::ResourceExhausted, &fault, &convert::fault::to_wire(&fault))
    }

    fn headers(self, headers: &mut HeaderMap) {
        /// Success, which is most of what passes.
        const OK: &[u8] = b"0";
        let status = headers.get(Status::GRPC_STATUS).map(|code| code.as_bytes() != OK);
        if status != Some(true) {
            return;
        }
        let Some(said) = Status::from_header_map(headers) else { return };
        if !said.details().is_empty() {
            return;
        }
        let told = self.of_request(said);
        if let Err(status) = told.add_header(headers) {
            tracing::error!(%status, "status_not_encodable");
        }
    }
}

/// Tonic says the length only in words.
fn length_in(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once("found ")?;
    rest.split_once(' ')?.0.parse().ok()
}

fn malformed(problem: &str) -> Status {
    let message = format!("the request is no message of the contract: {problem}");
    let response = ErrorResponse {
        error_type: ErrorType::Validation.into(),
        message: message.clone(),
        ..ErrorResponse::default()
    };
    with_details(Code::InvalidArgument, message, &response, None, MetadataMap::new())
}

impl Step for Rescue {
    fn pass<B>(&self, request: Request<B>, next: impl FnOnce(Request<B>) -> Answer) -> Answer {
        let rescue = *self;
        let answer = next(request);
        Box::pin(async move {
            let mut response = answer.await?;
            rescue.headers(response.headers_mut());
            Ok(response.map(|inner| Body::new(RescuedBody { inner, rescue })))
        })
    }
}

// === impl RescuedBody ===

impl HttpBody for RescuedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let rescue = self.rescue;
        Pin::new(&mut self.inner).poll_frame(cx).map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                rescue.headers(trailers);
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
