//! [`Fault`] ⇄ `ErrorResponse`.
//!
//! The context is a JSON object. Under `fault` it holds the fault whole, in the core's own words, so that a client in
//! Rust gets back the very fault that the service met; those words are part of what is promised to clients. On a
//! stream it also holds `stream_error_type`, and `failing_sequence` where one chunk is to blame.

use remotemedia_core::fault::{Fault, NodeFault, PlacementError, Poison, StreamFault};
use remotemedia_core::graph::GraphError;
use serde::{Deserialize, Serialize};

use crate::v1::{ErrorResponse, ErrorType, StreamErrorType};

/// A fault of a unary call, or of a stream before it began.
#[must_use]
pub fn to_wire(fault: &Fault) -> ErrorResponse {
    response(fault, None, None, true)
}

/// A fault of a stream, which ends it unless it is [`StreamFault::Dropped`]. `sequence` is that of the last chunk taken, if the fault names none itself.
#[must_use]
pub fn to_wire_on_stream(fault: &Fault, sequence: Option<u64>) -> ErrorResponse {
    response(fault, Some(stream_error_type(fault)), failing_sequence(fault, sequence), true)
}

/// What a client is told of a chunk that gives nothing, on a stream that goes on.
#[must_use]
pub fn to_wire_in_stream(fault: &Fault, sequence: Option<u64>) -> ErrorResponse {
    response(fault, Some(stream_error_type(fault)), failing_sequence(fault, sequence), false)
}

/// Whether an error on a stream is its end. It is unless it says otherwise.
#[must_use]
pub fn ends_stream(response: &ErrorResponse) -> bool {
    read(response).is_none_or(|context| context.ends_stream)
}

/// The sequence of the chunk that an error on a stream is about, if it is about one.
#[must_use]
pub fn sequence_of(response: &ErrorResponse) -> Option<u64> {
    read(response)?.failing_sequence
}

fn read(response: &ErrorResponse) -> Option<Context> {
    serde_json::from_str(&response.context).ok()
}

/// The fault that the service met; from a service that does not tell, an internal error in its words.
#[must_use]
pub fn from_wire(response: ErrorResponse) -> Fault {
    let error_type = response.error_type().as_str_name();
    match read(&response) {
        Some(Context { fault: Fault::Node(fault), .. }) => {
            Fault::Node(NodeFault { backtrace: response.stack_trace, ..fault })
        }
        Some(Context { fault, .. }) => fault,
        None => Fault::Internal {
            place: "the service".to_owned(),
            problem: format!("{error_type}: {}", response.message),
        },
    }
}

/// What a client can do about a fault.
#[must_use]
pub const fn error_type(fault: &Fault) -> ErrorType {
    match fault {
        Fault::Graph(GraphError::Version { .. }) | Fault::Version { .. } => ErrorType::VersionMismatch,
        Fault::TypeMismatch { .. } | Fault::Placement(PlacementError::Incompatible { .. }) => {
            ErrorType::TypeValidation
        }
        Fault::Limit(_)
        | Fault::Deadline { .. }
        | Fault::Stream(
            StreamFault::Idle { .. } | StreamFault::Unread { .. } | StreamFault::Dropped { .. },
        )
        | Fault::Placement(PlacementError::NoOwnProcess { .. }) => ErrorType::ResourceLimit,
        Fault::Parse(_)
        | Fault::Graph(_)
        | Fault::Placement(
            PlacementError::UnknownType { .. }
            | PlacementError::Unsatisfied { .. }
            | PlacementError::UnknownPort { .. },
        )
        | Fault::Params { .. }
        | Fault::Input { .. }
        | Fault::Entry(_)
        | Fault::Stream(
            StreamFault::InitRequired { .. }
            | StreamFault::InitRepeated
            | StreamFault::EmptyMessage
            | StreamFault::InvalidSequence { .. }
            | StreamFault::Closed
            | StreamFault::UnknownCommand { .. },
        ) => ErrorType::Validation,
        Fault::Node(_) | Fault::Worker(_) | Fault::Poison(_) | Fault::Stream(StreamFault::Gap { .. }) => {
            ErrorType::NodeExecution
        }
        Fault::Unavailable { .. }
        | Fault::Starting { .. }
        | Fault::Quarantined { .. }
        | Fault::Internal { .. } => ErrorType::Internal,
    }
}

/// What went wrong with the stream, unspecified where the contract has no word for it.
#[must_use]
pub const fn stream_error_type(fault: &Fault) -> StreamErrorType {
    match fault {
        Fault::Stream(StreamFault::InitRequired { .. }) => StreamErrorType::StreamErrorInitRequired,
        Fault::Stream(StreamFault::InvalidSequence { .. }) => StreamErrorType::StreamErrorInvalidSequence,
        Fault::Stream(StreamFault::Idle { .. } | StreamFault::Unread { .. }) | Fault::Deadline { .. } => {
            StreamErrorType::StreamErrorTimeout
        }
        Fault::Limit(_) | Fault::Stream(StreamFault::Dropped { .. }) => {
            StreamErrorType::StreamErrorBufferOverflow
        }
        Fault::Node(_) | Fault::Worker(_) | Fault::Poison(_) | Fault::Stream(StreamFault::Gap { .. }) => {
            StreamErrorType::StreamErrorExecution
        }
        Fault::Stream(
            StreamFault::InitRepeated
            | StreamFault::EmptyMessage
            | StreamFault::Closed
            | StreamFault::UnknownCommand { .. },
        )
        | Fault::Parse(_)
        | Fault::Graph(_)
        | Fault::Placement(_)
        | Fault::Params { .. }
        | Fault::Input { .. }
        | Fault::TypeMismatch { .. }
        | Fault::Entry(_)
        | Fault::Version { .. }
        | Fault::Unavailable { .. }
        | Fault::Starting { .. }
        | Fault::Quarantined { .. }
        | Fault::Internal { .. } => StreamErrorType::StreamErrorUnspecified,
    }
}

#[derive(Serialize, Deserialize)]
struct Context {
    fault: Fault,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream_error_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing_sequence: Option<u64>,
    /// Said only where it is not so.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    ends_stream: bool,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the derive gives it so")]
const fn is_yes(value: &bool) -> bool {
    *value
}

fn response(
    fault: &Fault,
    stream: Option<StreamErrorType>,
    failing_sequence: Option<u64>,
    ends_stream: bool,
) -> ErrorResponse {
    let (told, stack_trace) = without_backtrace(fault.clone());
    let context = Context {
        fault: told,
        stream_error_type: stream.map(|stream| stream.as_str_name().to_owned()),
        failing_sequence,
        ends_stream,
    };
    ErrorResponse {
        error_type: error_type(fault).into(),
        message: fault.to_string(),
        failing_node_id: fault.node().unwrap_or_default().to_owned(),
        // Nothing in a fault lacks a JSON form: its fields are strings, numbers and such enums.
        context: serde_json::to_string(&context).unwrap_or_default(),
        stack_trace,
    }
}

/// The contract has a field of its own for the backtrace, so that a service can withhold it.
fn without_backtrace(fault: Fault) -> (Fault, String) {
    match fault {
        Fault::Node(mut fault) => {
            let backtrace = std::mem::take(&mut fault.backtrace);
            (Fault::Node(fault), backtrace)
        }
        Fault::Parse(_)
        | Fault::Graph(_)
        | Fault::Placement(_)
        | Fault::Params { .. }
        | Fault::Input { .. }
        | Fault::TypeMismatch { .. }
        | Fault::Entry(_)
        | Fault::Worker(_)
        | Fault::Poison(_)
        | Fault::Limit(_)
        | Fault::Deadline { .. }
        | Fault::Stream(_)
        | Fault::Version { .. }
        | Fault::Unavailable { .. }
        | Fault::Starting { .. }
        | Fault::Quarantined { .. }
        | Fault::Internal { .. } => (fault, String::new()),
    }
}

/// As the fault says, or else the last one taken.
fn failing_sequence(fault: &Fault, last: Option<u64>) -> Option<u64> {
    if let Fault::Node(NodeFault { sequence, .. }) = fault {
        return Some(*sequence);
    }
    if let Fault::Poison(Poison { sequence: Some(sequence), .. }) = fault {
        return Some(*sequence);
    }
    let Fault::Stream(fault) = fault else { return last };
    match fault {
        StreamFault::Gap { sequence, .. } => *sequence,
        StreamFault::InvalidSequence { received: sequence, .. } | StreamFault::Dropped { sequence, .. } => {
            Some(*sequence)
        }
        // What is missing is a chunk, or somebody who reads.
        StreamFault::Idle { .. } | StreamFault::Unread { .. } => None,
        StreamFault::InitRequired { .. }
        | StreamFault::InitRepeated
        | StreamFault::EmptyMessage
        | StreamFault::Closed
        | StreamFault::UnknownCommand { .. } => last,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use remotemedia_core::Kind;
    use remotemedia_core::data::DataError;
    use remotemedia_core::fault::{DeathCause, EntryError, Poison, Unavailability, WorkerLost};
    use remotemedia_core::launching::Quarantine;
    use remotemedia_core::limits::LimitExceeded;
    use remotemedia_core::manifest::ParseError;
    use remotemedia_core::node::ParamError;
    use remotemedia_core::starting::{LoadingWorker, Starting};

    use super::*;

    #[test]
    fn faults_come_back_as_they_went_out() {
        for (fault, error_type, stream_error_type) in refusals().into_iter().chain(ends()) {
            let response = to_wire_on_stream(&fault, None);
            assert_eq!(response.error_type(), error_type, "{fault}");
            assert_eq!(response.message, fault.to_string());
            assert_eq!(response.failing_node_id, fault.node().unwrap_or_default());
            assert_eq!(context(&response)["stream_error_type"], stream_error_type, "{fault}");
            assert_eq!(from_wire(response), fault);
            assert_eq!(from_wire(to_wire(&fault)), fault);
        }
    }

    #[test]
    fn a_death_is_told_with_node_worker_and_cause() {
        let response = to_wire_on_stream(&Fault::Worker(worker_lost()), Some(41));
        assert_eq!(response.message, "node 'vad' is gone: worker 'rust-1' (pid 77) was killed by SIGSEGV");
        assert_eq!(response.failing_node_id, "vad");
        assert_eq!(
            response.context,
            r#"{"fault":{"Worker":{"node":"vad","worker":"rust-1","pid":77,"cause":{"Signal":11},"restarts":2,"last_lines":["loading","Segmentation fault"],"replays":1}},"stream_error_type":"STREAM_ERROR_EXECUTION","failing_sequence":41}"#
        );
    }

    #[test]
    fn the_fault_knows_the_failing_sequence_better_than_the_door() {
        let response = to_wire_on_stream(&Fault::Node(node_fault()), Some(9));
        assert_eq!(context(&response)["failing_sequence"], 4);
        let idle = Fault::Stream(StreamFault::Idle { idle_ms: 1 });
        for (fault, last) in [(Fault::Stream(StreamFault::InitRepeated), None), (idle, Some(9))] {
            let response = to_wire_on_stream(&fault, last);
            assert_eq!(context(&response).get("failing_sequence"), None, "{fault}");
        }
    }

    #[test]
    fn an_error_that_does_not_end_its_stream_says_so() {
        let fault = Fault::Poison(poison());
        let beside = to_wire_in_stream(&fault, None);
        assert!(!ends_stream(&beside), "{}", beside.context);
        assert_eq!(context(&beside)["failing_sequence"], 7);
        for response in [to_wire_on_stream(&fault, None), to_wire(&fault), ErrorResponse::default()] {
            assert!(ends_stream(&response), "{}", response.context);
        }
        let lost = Box::new(worker_lost());
        let gap = to_wire_in_stream(&StreamFault::Gap { sequence: None, lost }.into(), Some(9));
        assert_eq!(context(&gap).get("failing_sequence"), None, "nothing was under way");
    }

    #[test]
    fn a_backtrace_travels_in_its_own_field_only() {
        let response = to_wire(&Fault::Node(node_fault()));
        assert_eq!(response.stack_trace, "at vad.rs:7");
        assert!(!response.context.contains("vad.rs"), "{}", response.context);
    }

    #[test]
    fn an_error_of_a_service_that_does_not_tell_keeps_its_words() {
        let response = ErrorResponse {
            error_type: ErrorType::Validation.into(),
            message: "no such node".to_owned(),
            context: "{\"pid\":1}".to_owned(),
            ..ErrorResponse::default()
        };
        let fault = from_wire(response);
        assert_eq!(fault.to_string(), "internal error in the service: ERROR_TYPE_VALIDATION: no such node");
    }

    fn context(response: &ErrorResponse) -> serde_json::Value {
        serde_json::from_str(&response.context).unwrap()
    }

    fn worker_lost() -> WorkerLost {
        WorkerLost {
            node: "vad".to_owned(),
            worker: "rust-1".to_owned(),
            pid: 77,
            cause: DeathCause::Signal(11),
            restarts: 2,
            last_lines: vec!["loading".to_owned(), "Segmentation fault".to_owned()],
            replays: 1,
        }
    }

    fn poison() -> Poison {
        Poison {
            node: "vad".to_owned(),
            sequence: Some(7),
            made: false,
            deaths: 3,
            worker: "rust-1".to_owned(),
            pid: 77,
            cause: DeathCause::Signal(11),
            refused_ms: 60_000,
            capture: Some("/var/lib/remotemedia/captures/1.capture".to_owned()),
        }
    }

    fn node_fault() -> NodeFault {
        NodeFault {
            node: "vad".to_owned(),
            node_type: "VAD".to_owned(),
            sequence: 4,
            message: "no".to_owned(),
            backtrace: "at vad.rs:7".to_owned(),
        }
    }

    type Row = (Fault, ErrorType, &'static str);

    const NONE: &str = "STREAM_ERROR_UNSPECIFIED";

    fn node() -> String {
        "vad".to_owned()
    }

    fn text() -> String {
        "x".to_owned()
    }

    /// Faults that keep a pipeline from running.
    fn refusals() -> Vec<Row> {
        vec![
            (
                Fault::Parse(ParseError::Json { line: 1, column: 2, problem: text() }),
                ErrorType::Validation,
                NONE,
            ),
            (Fault::Graph(GraphError::Empty), ErrorType::Validation, NONE),
            (Fault::Graph(GraphError::Version { found: text() }), ErrorType::VersionMismatch, NONE),
            (
                Fault::Placement(PlacementError::UnknownType {
                    node: node(),
                    node_type: text(),
                    known: text(),
                    failing: text(),
                }),
                ErrorType::Validation,
                NONE,
            ),
            (
                Fault::Placement(PlacementError::Incompatible {
                    node: node(),
                    from: text(),
                    to: node(),
                    produces: text(),
                    expects: text(),
                }),
                ErrorType::TypeValidation,
                NONE,
            ),
            (
                Fault::Placement(PlacementError::UnknownPort {
                    node: node(),
                    from: text(),
                    to: text(),
                    ports: text(),
                }),
                ErrorType::Validation,
                NONE,
            ),
            (
                Fault::Placement(PlacementError::NoOwnProcess { node: node(), workers: 1 }),
                ErrorType::ResourceLimit,
                NONE,
            ),
            (
                Fault::Params { node: node(), error: ParamError::Shape { problem: text() } },
                ErrorType::Validation,
                NONE,
            ),
            (Fault::Input { node: node(), error: DataError::Missing }, ErrorType::Validation, NONE),
            (
                Fault::TypeMismatch { node: node(), expected: text(), received: Kind::Json },
                ErrorType::TypeValidation,
                NONE,
            ),
            (Fault::Entry(EntryError::NoInput { node: node() }), ErrorType::Validation, NONE),
        ]
    }

    /// Faults that end a pipeline.
    fn ends() -> Vec<Row> {
        vec![
            (Fault::Node(node_fault()), ErrorType::NodeExecution, "STREAM_ERROR_EXECUTION"),
            (Fault::Worker(worker_lost()), ErrorType::NodeExecution, "STREAM_ERROR_EXECUTION"),
            (Fault::Poison(poison()), ErrorType::NodeExecution, "STREAM_ERROR_EXECUTION"),
            (
                Fault::Stream(StreamFault::Gap { sequence: Some(7), lost: Box::new(worker_lost()) }),
                ErrorType::NodeExecution,
                "STREAM_ERROR_EXECUTION",
            ),
            (
                Fault::Limit(LimitExceeded {
                    what: text(),
                    value: 2,
                    limit: 1,
                    unit: text(),
                    advice: text(),
                }),
                ErrorType::ResourceLimit,
                "STREAM_ERROR_BUFFER_OVERFLOW",
            ),
            (
                Fault::Deadline { limit_ms: 1, waiting_for: text() },
                ErrorType::ResourceLimit,
                "STREAM_ERROR_TIMEOUT",
            ),
            (
                Fault::Stream(StreamFault::Idle { idle_ms: 1 }),
                ErrorType::ResourceLimit,
                "STREAM_ERROR_TIMEOUT",
            ),
            (
                Fault::Stream(StreamFault::Unread { idle_ms: 1 }),
                ErrorType::ResourceLimit,
                "STREAM_ERROR_TIMEOUT",
            ),
            (
                Fault::Stream(StreamFault::InitRequired { received: text() }),
                ErrorType::Validation,
                "STREAM_ERROR_INIT_REQUIRED",
            ),
            (
                Fault::Stream(StreamFault::InvalidSequence {
                    node: node(),
                    received: 5,
                    previous: 3,
                    expected: 4,
                }),
                ErrorType::Validation,
                "STREAM_ERROR_INVALID_SEQUENCE",
            ),
            (
                Fault::Stream(StreamFault::Dropped { node: node(), sequence: 5 }),
                ErrorType::ResourceLimit,
                "STREAM_ERROR_BUFFER_OVERFLOW",
            ),
            (Fault::Stream(StreamFault::Closed), ErrorType::Validation, NONE),
            (
                Fault::Unavailable { state: Unavailability::Full, retry_after_ms: 1 },
                ErrorType::Internal,
                NONE,
            ),
            (Fault::Starting { starting: starting(), retry_after_ms: 1 }, ErrorType::Internal, NONE),
            (quarantined(), ErrorType::Internal, NONE),
            (Fault::Internal { place: text(), problem: text() }, ErrorType::Internal, NONE),
        ]
    }

    fn quarantined() -> Fault {
        let (node, node_type) = ("stt".to_owned(), "Whisper".to_owned());
        let quarantine = Quarantine {
            worker: "python-1".to_owned(),
            deaths: 5,
            cause: DeathCause::Exit(1),
            last_line: "ImportError: no model".to_owned(),
            since: Duration::from_secs(18),
            left: Duration::from_millis(41_200),
        };
        Fault::Quarantined { node, node_type, quarantines: vec![quarantine], retry_after_ms: 41_200 }
    }

    fn starting() -> Starting {
        let elapsed = Duration::from_millis(1_500);
        let worker =
            LoadingWorker { name: "python-1".to_owned(), step: "importing models".to_owned(), elapsed };
        let (node, node_type) = ("stt".to_owned(), "Whisper".to_owned());
        Starting { node, node_type, waited: elapsed, workers: vec![worker] }
    }
}
