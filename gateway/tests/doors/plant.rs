//! A gateway's doors in this process, at free ports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remotemedia_core::Limits;
use remotemedia_gateway::{Address, Admin, FileRoots, Guard, Life, Listener, Metrics, Server};
use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::stream_request::Request;
use remotemedia_protos::v1::{
    DataBuffer, DataChunk, NodeManifest, PipelineManifest, StreamControl, StreamInit, StreamRequest,
    TextBuffer,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::loopback::{Loopback, Shared};

/// Longer than anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Doors that are open. Dropping it cuts them.
pub(crate) struct Plant {
    pub(crate) grpc: Channel,
    pub(crate) grpc_address: Address,
    pub(crate) admin: Address,
    pub(crate) life: Life,
    pub(crate) backend: Shared,
    doors: JoinSet<()>,
}

impl Plant {
    pub(crate) async fn of(backend: Loopback) -> Self {
        Self::with(backend, Limits::default()).await
    }

    pub(crate) async fn with(backend: Loopback, limits: Limits) -> Self {
        let loopback: Address = "127.0.0.1:0".parse().unwrap();
        let (grpc, admin) =
            (Listener::bind(&loopback).await.unwrap(), Listener::bind(&loopback).await.unwrap());
        let (grpc_address, admin_address) = (grpc.address().clone(), admin.address().clone());
        let (backend, life, metrics) = (Arc::new(backend), Life::new(), Metrics::new().unwrap());
        let teller = Admin {
            backend: Arc::clone(&backend),
            metrics: metrics.clone(),
            guard: Guard::of(None),
            life: life.watch(),
            grpc: grpc_address.clone(),
            began: Instant::now(),
        };
        let server = Server {
            backend: Arc::clone(&backend),
            limits,
            files: FileRoots::default(),
            metrics,
            life: life.watch(),
            tokens: None,
        };
        let mut doors = JoinSet::new();
        doors.spawn(teller.serve(admin));
        doors.spawn(server.serve(grpc));
        let endpoint = format!("http://{grpc_address}").parse::<tonic::transport::Endpoint>().unwrap();
        let grpc = endpoint.connect().await.unwrap();
        Self { grpc, grpc_address, admin: admin_address, life, backend, doors }
    }

    /// Waits until the doors have closed by themselves.
    pub(crate) async fn closed(mut self) {
        drop(self.grpc);
        tokio::time::timeout(DEADLINE, async { while self.doors.join_next().await.is_some() {} })
            .await
            .expect("the doors close in time");
    }
}

pub(crate) fn manifest() -> PipelineManifest {
    let node = NodeManifest {
        id: "pass".to_owned(),
        node_type: "PassThrough".to_owned(),
        ..NodeManifest::default()
    };
    PipelineManifest { version: "v1".to_owned(), nodes: vec![node], ..PipelineManifest::default() }
}

pub(crate) fn text(bytes: usize) -> DataBuffer {
    let text = TextBuffer {
        text_data: vec![b'a'; bytes].into(),
        encoding: "utf-8".to_owned(),
        ..TextBuffer::default()
    };
    DataBuffer { data_type: Some(DataType::Text(text)), ..DataBuffer::default() }
}

pub(crate) fn init() -> StreamRequest {
    message(Request::Init(StreamInit { manifest: Some(manifest()), ..StreamInit::default() }))
}

pub(crate) fn chunk(sequence: u64, bytes: usize) -> StreamRequest {
    message(Request::DataChunk(DataChunk {
        node_id: "pass".to_owned(),
        buffer: Some(text(bytes)),
        named_buffers: BTreeMap::new(),
        sequence,
        timestamp_ms: 0,
    }))
}

pub(crate) fn control(command: i32) -> StreamRequest {
    message(Request::Control(StreamControl { command }))
}

fn message(request: Request) -> StreamRequest {
    StreamRequest { request: Some(request) }
}
