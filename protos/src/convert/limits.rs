//! `ResourceLimits` ⇄ [`LimitRequest`].

use remotemedia_core::limits::LimitRequest;

use crate::v1::ResourceLimits;

/// What is absent on the wire, or 0 where 0 makes no sense, asks for the service's default.
#[must_use]
pub fn from_wire(limits: Option<ResourceLimits>) -> LimitRequest {
    let ResourceLimits { max_memory_bytes, max_timeout_ms, max_audio_samples, max_start_ms, max_replays } =
        limits.unwrap_or_default();
    let asked = |number: u64| (number != 0).then_some(number);
    LimitRequest {
        memory_bytes: asked(max_memory_bytes),
        timeout_ms: asked(max_timeout_ms),
        audio_samples: asked(max_audio_samples),
        start_ms: max_start_ms,
        replays: max_replays,
    }
}

/// A request for 0 of something leaves as 0, and so asks for the default.
#[must_use]
pub fn to_wire(request: &LimitRequest) -> ResourceLimits {
    ResourceLimits {
        max_memory_bytes: request.memory_bytes.unwrap_or(0),
        max_timeout_ms: request.timeout_ms.unwrap_or(0),
        max_audio_samples: request.audio_samples.unwrap_or(0),
        max_start_ms: request.start_ms,
        max_replays: request.replays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_is_not_asked_on_the_wire_either() {
        assert_eq!(from_wire(None), LimitRequest::default());
        assert_eq!(from_wire(Some(ResourceLimits::default())), LimitRequest::default());

        let request = LimitRequest { timeout_ms: Some(7), start_ms: Some(0), ..LimitRequest::default() };
        assert_eq!(from_wire(Some(to_wire(&request))), request);
    }
}
