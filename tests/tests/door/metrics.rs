//! What Prometheus is told.

use std::time::Duration;

use nix::sys::signal::Signal;
use remotemedia_protos::v1::ExecuteRequest;
use remotemedia_tests::Plant;
use remotemedia_tests::deadline::until;
use remotemedia_tests::pipeline::{chain, text};
use remotemedia_tests::plant::START;

use crate::PASS;
use crate::exposition::Exposition;
use crate::http::get;

#[tokio::test]
async fn metrics_are_well_formed_and_count_what_was_done() {
    let mut plant = Plant::start().await;
    let before = scrape(&plant).await;
    for _ in 0..3 {
        plant.client().execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
    }
    for _ in 0..2 {
        plant.client().execute(&chain(&[PASS]), [("nobody", text("hello"))]).await.unwrap_err();
    }
    let inputs = [("pass".to_owned(), text("x".repeat(17 << 20)))].into();
    let oversize =
        ExecuteRequest { manifest: Some(chain(&[PASS])), data_inputs: inputs, ..ExecuteRequest::default() };
    plant.client().execute_request(oversize).await.unwrap_err();
    let _version = plant.client().version("v1").await;
    let (call, _session) = plant.client().stream(&chain(&[PASS])).await;
    assert_eq!(call.run((0..5).map(|number| text(number.to_string()))).await.closed().results.len(), 5);

    let (mut open, _session) = plant.client().stream(&chain(&[PASS])).await;
    open.send(0, text("hello")).await;
    open.result().await;
    let during = scrape(&plant).await;
    assert_eq!(during.value("remotemedia_sessions"), 1.0);
    assert_eq!(during.value("remotemedia_connections"), 1.0);
    open.half_close();
    let _answers = open.rest().await.closed();
    plant.idle_within(START).await;

    // A call is counted when its answer has ended, which its client may know a moment before.
    let rpcs = |rpc: &str, outcome: &str| {
        format!("remotemedia_requests_total{{outcome=\"{outcome}\",rpc=\"{rpc}\"}}")
    };
    let errors = |kind: &str| format!("remotemedia_errors_total{{rpc=\"ExecutePipeline\",type=\"{kind}\"}}");
    let expected = [
        (rpcs("ExecutePipeline", "OK"), 3.0),
        (rpcs("ExecutePipeline", "ERROR_TYPE_VALIDATION"), 2.0),
        (rpcs("ExecutePipeline", "RESOURCE_EXHAUSTED"), 1.0),
        (rpcs("GetVersion", "OK"), 1.0),
        (rpcs("StreamPipeline", "OK"), 2.0),
        (errors("ERROR_TYPE_VALIDATION"), 2.0),
        (errors("ERROR_TYPE_RESOURCE_LIMIT"), 1.0),
        ("remotemedia_request_duration_seconds_count{rpc=\"ExecutePipeline\"}".to_owned(), 6.0),
        ("remotemedia_chunk_duration_seconds_count".to_owned(), 6.0),
    ];
    until(Duration::from_secs(5), async || {
        let after = scrape(&plant).await;
        let is_off = |(series, count): &&(String, f64)| after.value(series) - before.value(series) != *count;
        match expected.iter().find(is_off) {
            None => Ok(()),
            Some((series, count)) => Err((series.clone(), *count, before.value(series), after.value(series))),
        }
    })
    .await;
    plant.expect("worker_died");
    state_of_the_plant(&plant).await;
    plant.finish().await;
}

async fn state_of_the_plant(plant: &Plant) {
    let now = scrape(plant).await;
    assert_eq!(now.value("remotemedia_sessions"), 0.0);
    assert_eq!(now.value("remotemedia_workers{state=\"ready\"}"), 2.0);
    let status = plant.status().await;
    for pool in &status.frame_pools {
        let reserved = now.value(&format!("remotemedia_frame_pool_bytes{{owner=\"{}\"}}", pool.owner));
        assert_eq!(reserved.to_string(), pool.bytes.to_string(), "{}", pool.owner);
        let free = format!("remotemedia_frame_pool_blocks{{owner=\"{}\",state=\"free\"}}", pool.owner);
        assert_eq!(now.value(&free).to_string(), pool.blocks.to_string(), "{}", pool.owner);
    }
    assert!(now.has("remotemedia_frame_pool_used_bytes") && now.has("remotemedia_build_info"));

    plant.workers()[0].signal(Signal::SIGKILL);
    plant.workers()[0].ended(START).await;
    until(Duration::from_secs(5), async || {
        let now = scrape(plant).await;
        let told = [
            now.value("remotemedia_worker_deaths_total{cause=\"SIGKILL\"}"),
            now.value("remotemedia_workers{state=\"ready\"}"),
        ];
        if told == [1.0, 1.0] { Ok(()) } else { Err(told) }
    })
    .await;
}

async fn scrape(plant: &Plant) -> Exposition {
    let (status, text) = get(plant, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    Exposition::parse(&text)
}
