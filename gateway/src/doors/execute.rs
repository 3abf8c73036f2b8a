//! Running a pipeline once: `ExecutePipeline`, and `GetVersion`, which lives in the same service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use remotemedia_core::fault::Fault;
use remotemedia_core::frame::Frame;
use remotemedia_core::limits::{LimitExceeded, LimitRequest};
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{self, Caller, ExecutionMetrics, PipelineTransport as _};
use remotemedia_protos::convert;
use remotemedia_protos::v1::execute_response::Outcome;
use remotemedia_protos::v1::pipeline_execution_service_server::PipelineExecutionService;
use remotemedia_protos::v1::{
    DataBuffer, ExecuteRequest, ExecuteResponse, ExecutionResult, ExecutionStatus, NodeResult, NodeStatus,
    PipelineManifest, VersionRequest, VersionResponse,
};
use tonic::{Request, Response, Status};

use super::{Doors, outputs, version};
use crate::backend::Backend;
use crate::deadline;
use crate::guard::caller_of;
use crate::life::Phase;
use crate::measure::Call;
use crate::rescue::{self, Told};
use crate::times::Times;

#[tonic::async_trait]
impl<B: Backend> PipelineExecutionService for Doors<B> {
    async fn execute_pipeline(
        &self,
        request: Request<ExecuteRequest>,
    ) -> Result<Response<ExecuteResponse>, Status> {
        let call = Call::of(&request);
        let times = Times::of(&request);
        let patience = deadline::of(request.metadata());
        let caller = caller_of(&request);
        let result = tokio::select! {
            biased;
            () = self.life.reached(Phase::Ending) => return Err(rescue::of_closed_door()),
            result = self.execute(request.into_inner(), patience, caller, &times) => result,
        };
        let outcome = match result.map_err(|fault| rescue::of_call(&fault)) {
            Ok(result) => Outcome::Result(result),
            Err(Told::Status(status)) => return Err(status),
            Err(Told::Reply(error)) => {
                call.failed(error.error_type());
                Outcome::Error(error)
            }
        };
        Ok(Response::new(ExecuteResponse { outcome: Some(outcome) }))
    }

    async fn get_version(
        &self,
        request: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(self.version(&request.get_ref().client_version)))
    }
}

impl<B: Backend> Doors<B> {
    async fn execute(
        &self,
        request: ExecuteRequest,
        patience: Option<Duration>,
        caller: Caller,
        times: &Times,
    ) -> Result<ExecutionResult, Fault> {
        let (decoded, decoding) = (Instant::now(), times.request_decoded());
        let request = times.to_runtime(|| self.request_from_wire(request, patience, caller))?;
        let manifest = Arc::clone(&request.manifest);

        let runner = self.backend.runner();
        let run = runner.execute(request);
        let execution = match patience {
            None => run.await?,
            // The runtime keeps its own deadlines; this one is of a client that will not hear the answer anyway.
            Some(patience) => {
                tokio::time::timeout(patience, run).await.map_err(|_elapsed| late(patience))??
            }
        };

        let data_outputs = times.to_proto(|| outputs::join(execution.outputs, &manifest))?;
        let (node_results, status) = results(&manifest, &execution.metrics);
        let metrics = ExecutionMetrics { wall: decoding + decoded.elapsed(), ..execution.metrics };
        let metrics = Some(convert::metrics::to_wire(&metrics, times.so_far()));
        let result = ExecutionResult { data_outputs, metrics, node_results, status: status.into() };
        self.check_size(result.encoded_len())?;
        Ok(result)
    }

    fn request_from_wire(
        &self,
        request: ExecuteRequest,
        patience: Option<Duration>,
        caller: Caller,
    ) -> Result<transport::ExecuteRequest, Fault> {
        version::check(&request.client_version)?;
        let limits = convert::limits::from_wire(request.resource_limits);
        Ok(transport::ExecuteRequest {
            manifest: manifest_from_wire(request.manifest)?,
            inputs: self.inputs_from_wire(request.data_inputs)?,
            limits: self.within(limits, patience),
            caller,
        })
    }

    /// A client that waits shorter than its limits, or the defaults, say is not worked for longer; one that waits
    /// longer gets what the service allows at most.
    fn within(&self, limits: LimitRequest, patience: Option<Duration>) -> LimitRequest {
        let Some(patience) = patience else { return limits };
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
        let asked = limits.timeout_ms.unwrap_or(self.limits.max_timeout_ms);
        // Over a little before the client's patience is, so that it hears what was waited for.
        let start_ms = limits.start_ms.map(|start| start.min(patience_ms - patience_ms / 10));
        LimitRequest { timeout_ms: Some(asked.min(patience_ms)), start_ms, ..limits }
    }

    /// # Errors
    /// An input is not what it claims to be, or may not be sent: with its node.
    pub(super) fn inputs_from_wire(
        &self,
        inputs: BTreeMap<String, DataBuffer>,
    ) -> Result<BTreeMap<String, Frame>, Fault> {
        let input = |(node, buffer)| match self.files.data_from_wire(buffer) {
            Ok((data, metadata)) => Ok((node, Frame { metadata, ..Frame::new(0, data) })),
            Err(error) => Err(Fault::Input { node, error }),
        };
        inputs.into_iter().map(input).collect()
    }

    /// # Errors
    /// The answer is larger than clients take.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), Fault> {
        let limit = self.max_answer_bytes();
        if bytes <= limit {
            return Ok(());
        }
        Err(Fault::Limit(LimitExceeded {
            what: "the answer".to_owned(),
            value: bytes as u64,
            limit: limit as u64,
            unit: "bytes".to_owned(),
            advice: "send less at once, or use StreamPipeline with smaller chunks".to_owned(),
        }))
    }
}

/// # Errors
/// As [`convert::manifest::from_wire`]. No manifest is one without nodes.
pub(super) fn manifest_from_wire(manifest: Option<PipelineManifest>) -> Result<Arc<Manifest>, Fault> {
    let manifest = manifest.ok_or(remotemedia_core::graph::GraphError::Empty)?;
    convert::manifest::from_wire(manifest).map(Arc::new)
}

/// A node that no input reached was skipped, which a filter before it can bring about. None has failed: a node's fault
/// is the answer instead of these.
fn results(manifest: &Manifest, metrics: &ExecutionMetrics) -> (Vec<NodeResult>, ExecutionStatus) {
    let reached = |id: &str| metrics.nodes.get(id).filter(|report| report.inputs > 0);
    let result = |id: &String| NodeResult {
        node_id: id.clone(),
        status: if reached(id).is_some() { NodeStatus::Success } else { NodeStatus::Skipped }.into(),
        error: None,
        output_metadata: metrics.nodes.get(id).map(convert::metrics::output_metadata).unwrap_or_default(),
    };
    let all_ran = manifest.nodes.iter().all(|node| reached(&node.id).is_some());
    let status = if all_ran { ExecutionStatus::Success } else { ExecutionStatus::PartialSuccess };
    (manifest.nodes.iter().map(|node| result(&node.id)).collect(), status)
}

pub(super) fn late(patience: Duration) -> Fault {
    Fault::Deadline {
        limit_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        waiting_for: "the results, by the deadline of the call itself".to_owned(),
    }
}
