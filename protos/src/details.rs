//! What a gRPC status of the service carries beside its code and message.

use prost::Message as _;

use crate::v1::ErrorResponse;

/// The message that `grpc-status-details-bin` holds by convention, `google.rpc.Status`, so that the tools of every
/// language read it.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`: clients and proxies of every language wait so long before they try again.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";
const ERROR_RESPONSE_URL: &str = "type.googleapis.com/remotemedia.v1.ErrorResponse";

/// The details of a status with this code and message: the error that a reply would have held, and when to try again
/// where that helps.
#[must_use]
pub fn encode(code: i32, message: &str, error: &ErrorResponse, retry_after_ms: Option<u64>) -> Vec<u8> {
    let error = Any { type_url: ERROR_RESPONSE_URL.to_owned(), value: error.encode_to_vec() };
    let details = [error].into_iter().chain(retry_after_ms.map(Any::retry_info)).collect();
    RpcStatus { code, message: message.to_owned(), details }.encode_to_vec()
}

/// The error in the details of a status of this service; none if they are something else's.
#[must_use]
pub fn error_in(details: &[u8]) -> Option<ErrorResponse> {
    let details = RpcStatus::decode(details).ok()?.details;
    let error = details.into_iter().find(|any| any.type_url == ERROR_RESPONSE_URL)?;
    ErrorResponse::decode(error.value.as_slice()).ok()
}

// === impl Any ===

impl Any {
    fn retry_info(after_ms: u64) -> Self {
        let delay = Delay {
            seconds: i64::try_from(after_ms / 1_000).unwrap_or(i64::MAX),
            nanos: i32::try_from(after_ms % 1_000 * 1_000_000).unwrap_or_default(),
        };
        let value = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        Self { type_url: RETRY_INFO_URL.to_owned(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_in_a_status_comes_back_and_what_is_none_is_none() {
        let error = ErrorResponse { message: "full".to_owned(), ..ErrorResponse::default() };
        for retry_after_ms in [None, Some(1_500)] {
            assert_eq!(error_in(&encode(14, "full", &error, retry_after_ms)), Some(error.clone()));
        }
        let of_another = RpcStatus { code: 14, message: "full".to_owned(), details: Vec::new() };
        assert_eq!(error_in(&of_another.encode_to_vec()), None);
        assert_eq!(error_in(b"no message"), None);
    }
}
