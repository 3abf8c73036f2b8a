//! The methods that can be called, by one name each: for labels and log lines.

/// A method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rpc {
    ExecutePipeline,
    GetVersion,
    StreamPipeline,
    Attach,
    Signal,
    GetPeers,
    HealthCheck,
    /// `grpc.health.v1`
    HealthV1Check,
    HealthV1Watch,
    /// `grpc.reflection`, of either version.
    Reflection,
    /// Anything else that was asked for: one name, however many are tried.
    Unknown,
}

// === impl Rpc ===

impl Rpc {
    /// The method at a path.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/remotemedia.v1.PipelineExecutionService/ExecutePipeline" => Self::ExecutePipeline,
            "/remotemedia.v1.PipelineExecutionService/GetVersion" => Self::GetVersion,
            "/remotemedia.v1.StreamingPipelineService/StreamPipeline" => Self::StreamPipeline,
            "/remotemedia.v1.PipelineControl/Attach" => Self::Attach,
            "/remotemedia.v1.webrtc.WebRtcSignaling/Signal" => Self::Signal,
            "/remotemedia.v1.webrtc.WebRtcSignaling/GetPeers" => Self::GetPeers,
            "/remotemedia.v1.webrtc.WebRtcSignaling/HealthCheck" => Self::HealthCheck,
            "/grpc.health.v1.Health/Check" => Self::HealthV1Check,
            "/grpc.health.v1.Health/Watch" => Self::HealthV1Watch,
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Self::Reflection,
            _ => Self::Unknown,
        }
    }

    /// As labels and log lines have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ExecutePipeline => "ExecutePipeline",
            Self::GetVersion => "GetVersion",
            Self::StreamPipeline => "StreamPipeline",
            Self::Attach => "Attach",
            Self::Signal => "Signal",
            Self::GetPeers => "GetPeers",
            Self::HealthCheck => "HealthCheck",
            Self::HealthV1Check => "Health.Check",
            Self::HealthV1Watch => "Health.Watch",
            Self::Reflection => "ServerReflectionInfo",
            Self::Unknown => "unknown",
        }
    }
}
