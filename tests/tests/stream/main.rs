//! `StreamPipeline`, as clients meet it.

mod answers;
mod dropping;
mod ends;
mod flow;
mod large;

use remotemedia_protos::v1::DataBuffer;
use remotemedia_tests::pipeline::text;

const PASS: &str = "{ id: pass, node_type: PassThrough }";
/// Behind [`PASS`], in the other worker.
const APART: &str = "{ id: apart, node_type: PassThrough, own_process: true }";

/// Texts that say their places.
fn numbered(count: u64) -> impl Iterator<Item = DataBuffer> {
    (0..count).map(|number| text(number.to_string()))
}
