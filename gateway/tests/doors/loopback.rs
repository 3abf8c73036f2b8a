//! A transport that gives back what it gets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use remotemedia_core::fault::Fault;
use remotemedia_core::frame::SessionId;
use remotemedia_core::launching::{LaunchOrder, LaunchRefusal};
use remotemedia_core::node::NodeInfo;
use remotemedia_core::transport::{
    ChunkOutput, ExecuteRequest, Execution, ExecutionMetrics, PipelineTransport, StreamRequest,
    StreamSession, TransportData,
};
use remotemedia_gateway::Backend;
use remotemedia_runtime::{RuntimeStatus, WorkerState, WorkerStatus};
use tokio::sync::{mpsc, watch};

/// What it does with pipelines.
#[derive(Clone, Debug, Default)]
pub(crate) enum Manner {
    /// Gives back what it gets.
    #[default]
    Echo,
    /// Takes what there is room for, and gives nothing.
    Stuck,
    /// Has no worker that has loaded.
    Loading,
    /// Refuses all.
    Refuse(Fault),
    /// Gives back what comes before this sequence, then breaks.
    BreakAt(u64, Fault),
}

#[derive(Clone, Debug)]
pub(crate) struct Loopback {
    manner: Manner,
    workers: usize,
    sessions: watch::Sender<Ends>,
}

/// How sessions have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) opened: u64,
    pub(crate) cancelled: u64,
    /// Before they were opened.
    pub(crate) given_up: u64,
}

pub(crate) struct EchoSession {
    manner: Manner,
    sessions: watch::Sender<Ends>,
    answered: AtomicU64,
    outputs: Mutex<Option<mpsc::Sender<ChunkOutput>>>,
    results: tokio::sync::Mutex<mpsc::Receiver<ChunkOutput>>,
}

/// Chunks under way in a session.
pub(crate) const WINDOW: usize = 4;

/// Notes that nobody waits for a session any more.
struct Farewell<'a>(&'a watch::Sender<Ends>);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|ends| ends.given_up += 1);
    }
}

// === impl Loopback ===

impl Loopback {
    pub(crate) fn new(manner: Manner) -> Self {
        Self { manner, workers: 1, sessions: watch::Sender::default() }
    }

    pub(crate) fn without_workers() -> Self {
        Self { workers: 0, ..Self::new(Manner::Echo) }
    }

    pub(crate) fn ends(&self) -> watch::Receiver<Ends> {
        self.sessions.subscribe()
    }
}

impl Backend for Loopback {
    type Transport = Self;

    fn runner(&self) -> Self {
        self.clone()
    }

    fn node_infos(&self) -> Vec<NodeInfo> {
        vec![NodeInfo {
            name: "PassThrough".to_owned(),
            aliases: Vec::new(),
            summary: "Gives what it gets.".to_owned(),
            accepts: Vec::new(),
            produces: Vec::new(),
            parameters: Vec::new(),
            repeatable: true,
            ..NodeInfo::default()
        }]
    }

    async fn status(&self) -> Option<RuntimeStatus> {
        let worker = WorkerStatus {
            pid: 7,
            name: "rust-1".to_owned(),
            kind: "rust".to_owned(),
            state: WorkerState::Ready,
            step: None,
            sessions: 0,
            restarts: 0,
            nodes: vec!["PassThrough".to_owned()],
        };
        Some(RuntimeStatus { workers: vec![worker; self.workers], ..RuntimeStatus::default() })
    }

    async fn order(&self, _order: LaunchOrder) -> Result<(), LaunchRefusal> {
        Err(LaunchRefusal::NoLauncher)
    }
}

impl PipelineTransport for Loopback {
    type Session = EchoSession;

    async fn execute(&self, request: ExecuteRequest) -> Result<Execution, Fault> {
        match &self.manner {
            Manner::Refuse(fault) => return Err(fault.clone()),
            Manner::Stuck | Manner::Loading => std::future::pending().await,
            Manner::Echo | Manner::BreakAt(..) => {}
        }
        let outputs = request.inputs.into_iter().map(|(node, frame)| (node, vec![frame])).collect();
        Ok(Execution { outputs, metrics: ExecutionMetrics::default() })
    }

    async fn stream(&self, _request: StreamRequest) -> Result<EchoSession, Fault> {
        if let Manner::Refuse(fault) = &self.manner {
            return Err(fault.clone());
        }
        if matches!(self.manner, Manner::Loading) {
            let _given_up = Farewell(&self.sessions);
            std::future::pending::<()>().await;
        }
        self.sessions.send_modify(|ends| ends.opened += 1);
        let (outputs, results) = mpsc::channel(WINDOW);
        Ok(EchoSession {
            manner: self.manner.clone(),
            sessions: self.sessions.clone(),
            answered: AtomicU64::new(0),
            outputs: Mutex::new(Some(outputs)),
            results: tokio::sync::Mutex::new(results),
        })
    }
}

// === impl EchoSession ===

impl StreamSession for EchoSession {
    fn id(&self) -> SessionId {
        SessionId(0xab)
    }

    async fn send(&self, input: TransportData) -> Result<(), Fault> {
        let TransportData { node, sequence, mut frames } = input;
        let frame = frames.pop_first().expect("a chunk has data").1;
        let output = ChunkOutput {
            sequence,
            outputs: BTreeMap::from([(node, frame)]),
            missed: None,
            latency: Duration::from_millis(1),
        };
        let outputs = self.outputs.lock().unwrap().clone();
        outputs.expect("nothing is sent after the close").send(output).await.unwrap();
        Ok(())
    }

    async fn receive(&self) -> Result<Option<ChunkOutput>, Fault> {
        if matches!(self.manner, Manner::Stuck) {
            std::future::pending::<()>().await;
        }
        let output = self.results.lock().await.recv().await;
        self.answered.fetch_add(u64::from(output.is_some()), Ordering::Relaxed);
        match (&self.manner, &output) {
            (Manner::BreakAt(at, fault), Some(output)) if output.sequence >= *at => Err(fault.clone()),
            _ => Ok(output),
        }
    }

    async fn close(&self) -> Result<(), Fault> {
        self.outputs.lock().unwrap().take();
        Ok(())
    }

    fn cancel(&self) {
        self.sessions.send_modify(|ends| ends.cancelled += 1);
    }

    fn metrics(&self) -> ExecutionMetrics {
        let chunks = self.answered.load(Ordering::Relaxed);
        ExecutionMetrics { chunks, items: chunks, ..ExecutionMetrics::default() }
    }
}

/// A handle that tests and doors share.
pub(crate) type Shared = Arc<Loopback>;
