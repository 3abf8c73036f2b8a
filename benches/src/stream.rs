//! `bench stream`: 20 ms of 16 kHz audio at a time through a node that passes it on, on a whole service.
//!
//! First one chunk after the other, each sent when the last one's result is there: how long a chunk takes. Then as
//! many as the service lets in: how many go through in a second. What translating to and from protobuf costs of it is
//! measured alone: one chunk and one result of that size, each encoded and decoded once, as the two ends do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use remotemedia_cli::transport::GrpcTransport;
use remotemedia_core::data::{Audio, ChannelCount, RuntimeData, SampleFormat, SampleRate};
use remotemedia_core::frame::Metadata;
use remotemedia_core::limits::LimitRequest;
use remotemedia_core::manifest::Manifest;
use remotemedia_core::transport::{
    Caller, PipelineTransport as _, StreamRequest, StreamSession, TransportData,
};
use remotemedia_protos::convert;
use remotemedia_protos::v1::DataBuffer;

use crate::error::BenchError;
use crate::row::Row;
use crate::service::Service;
use crate::times::{Times, microseconds, ratio};

/// Chunks that are not counted.
const WARM_UP: u64 = 100;

/// Chunks one after the other, and then as fast as they go.
const CHUNKS: u64 = 3_000;

const RATE: u32 = 16_000;
const CHUNK_BYTES: usize = 16_000 / 50 * size_of::<f32>();

pub(crate) async fn run() -> Result<Vec<Row>, BenchError> {
    let service = Service::start("127.0.0.1:0").await?;
    let rows = measure(service.endpoint()).await;
    let stopped = service.stop().await;
    let rows = rows?;
    stopped?;
    Ok(rows)
}

async fn measure(endpoint: &str) -> Result<Vec<Row>, BenchError> {
    let (client, _version) = GrpcTransport::connect(endpoint, None).await?;
    let pass = r#"{"version":"v1","nodes":[{"id":"pass","node_type":"PassThrough"}]}"#;
    let manifest = Arc::new(Manifest::from_json(pass)?);
    let session = client
        .stream(StreamRequest {
            manifest,
            limits: LimitRequest::default(),
            listener: None,
            caller: Caller::default(),
        })
        .await?;
    let chunk = chunk()?;
    one_by_one(&session, &chunk, 0..WARM_UP).await?;
    let latency = Times::new(one_by_one(&session, &chunk, WARM_UP..WARM_UP + CHUNKS).await?);
    let begin = Instant::now();
    at_once(&session, &chunk, WARM_UP + CHUNKS..WARM_UP + 2 * CHUNKS).await?;
    let took = begin.elapsed();
    session.close().await?;
    while session.receive().await?.is_some() {}
    let translated = Times::new((0..CHUNKS).map(|_| translation(&chunk)).collect::<Result<_, _>>()?);
    let chunks_per_second = (CHUNKS as f64 / took.as_secs_f64()).round();
    Ok(vec![
        Row::new("stream", "translating a chunk and its result to and from protobuf", latency.len())
            .with("chunk_bytes", CHUNK_BYTES)
            .with("p50_us", microseconds(latency.p50()))
            .with("p95_us", microseconds(latency.p95()))
            .with("chunks_per_second", chunks_per_second)
            .with("serialization_p50_us", microseconds(translated.p50()))
            .with("serialization_percent", ratio(translated.p50() * 100, latency.p50())),
    ])
}

/// Each is sent when the one before is answered.
pub(crate) async fn one_by_one(
    session: &impl StreamSession,
    chunk: &RuntimeData,
    sequences: std::ops::Range<u64>,
) -> Result<Vec<Duration>, BenchError> {
    let mut took = Vec::new();
    for sequence in sequences {
        let begin = Instant::now();
        session.send(TransportData::new(sequence, chunk.clone())).await?;
        receive(session, sequence).await?;
        took.push(begin.elapsed());
    }
    Ok(took)
}

/// As many as the service lets in.
pub(crate) async fn at_once(
    session: &impl StreamSession,
    chunk: &RuntimeData,
    sequences: std::ops::Range<u64>,
) -> Result<(), BenchError> {
    let sending = async {
        for sequence in sequences.clone() {
            session.send(TransportData::new(sequence, chunk.clone())).await?;
        }
        Ok::<_, BenchError>(())
    };
    let receiving = async {
        for sequence in sequences.clone() {
            receive(session, sequence).await?;
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving)?;
    Ok(())
}

async fn receive(session: &impl StreamSession, sequence: u64) -> Result<(), BenchError> {
    match session.receive().await? {
        Some(output) if output.sequence == sequence => Ok(()),
        Some(_) | None => Err(BenchError::OtherAnswer),
    }
}

/// There and back: what client and gateway do with one chunk and with its result.
fn translation(chunk: &RuntimeData) -> Result<Duration, BenchError> {
    let begin = Instant::now();
    let mut data = chunk.clone();
    for _ in 0..2 {
        let wire = convert::data::to_wire(data, Metadata::new())?.encode_to_vec();
        let buffer = DataBuffer::decode(bytes::Bytes::from(wire)).map_err(|_| BenchError::OtherAnswer)?;
        data = convert::data::from_wire(buffer)?.0;
    }
    let took = begin.elapsed();
    if data == *chunk { Ok(took) } else { Err(BenchError::OtherAnswer) }
}

/// A chunk of silence.
pub(crate) fn chunk() -> Result<RuntimeData, BenchError> {
    let silence = bytes::Bytes::from(vec![0; CHUNK_BYTES]);
    Ok(Audio::new(silence, SampleFormat::F32, SampleRate::new(RATE)?, ChannelCount::MONO)?.into())
}
