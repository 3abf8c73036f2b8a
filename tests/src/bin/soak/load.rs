//! Clients that work all the time, and look at every byte that comes back.

use std::time::{Duration, Instant};

use remotemedia_protos::v1::data_buffer::DataType;
use remotemedia_protos::v1::{DataBuffer, PipelineManifest};
use remotemedia_tests::pipeline::{chain, text};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::asker::{Asker, Trouble};
use crate::book::Book;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    nodes: &'static [&'static str],
    how: How,
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Unary,
    /// As many chunks.
    Stream(u64),
}

const PASS: &str = "{ id: first, node_type: PassThrough }";
const APART: &str = "{ id: apart, node_type: PassThrough, own_process: true }";
/// May not be run again.
const ONCE: &str = "{ id: first, node_type: Doom }";
const PYTHON: &str = "{ id: first, node_type: PyPass }";
const PYTHON_APART: &str = "{ id: python, node_type: PyPass }";

const RUST_LANES: &[Lane] = &[
    Lane { name: "unary", nodes: &[PASS], how: How::Unary, bytes: 2_000 },
    Lane { name: "unary at most once", nodes: &[ONCE], how: How::Unary, bytes: 20_000 },
    Lane { name: "large unary", nodes: &[PASS, APART], how: How::Unary, bytes: 4_000_000 },
    Lane { name: "stream", nodes: &[PASS, APART], how: How::Stream(20), bytes: 5_000 },
    Lane { name: "large stream", nodes: &[ONCE], how: How::Stream(6), bytes: 1_000_000 },
];
const PYTHON_LANES: &[Lane] = &[
    Lane { name: "Python unary", nodes: &[PYTHON], how: How::Unary, bytes: 10_000 },
    Lane { name: "Python stream", nodes: &[PASS, PYTHON_APART, APART], how: How::Stream(10), bytes: 50_000 },
];

/// Between two calls, so that processors are left for what is tested.
const REST: Duration = Duration::from_millis(10);
/// The same after an error.
const LONG_REST: Duration = Duration::from_millis(50);
const LIMIT_MS: u64 = 5_000;

// === impl Lane ===

impl Lane {
    pub(crate) fn all(has_python: bool) -> impl Iterator<Item = Self> {
        let python = if has_python { PYTHON_LANES } else { &[] };
        RUST_LANES.iter().chain(python).copied()
    }

    /// Calls until told that it is enough.
    pub(crate) async fn work(self, asker: Asker, book: Book, enough: watch::Receiver<bool>) {
        let manifest = chain(self.nodes);
        let mut number = 0;
        while !*enough.borrow() {
            number += 1;
            book.page().asked += 1;
            let begun = Instant::now();
            let told = match self.how {
                How::Unary => self.unary(&asker, &manifest, number).await,
                How::Stream(chunks) => self.stream(&asker, &manifest, number, chunks).await,
            };
            let rest = if told.is_ok() { REST } else { LONG_REST };
            book.keep(self.name, begun, &told);
            sleep(rest).await;
        }
    }

    async fn unary(&self, asker: &Asker, manifest: &PipelineManifest, number: u64) -> Result<(), Trouble> {
        let input = self.input(number, 0);
        let result = asker.unary(manifest.clone(), "first", input.clone(), LIMIT_MS).await?;
        let outputs: Vec<DataBuffer> = result.data_outputs.into_values().collect();
        self.compare(number, 0, &input, &outputs)
    }

    /// With a window of two, so that some are always under way.
    async fn stream(
        &self,
        asker: &Asker,
        manifest: &PipelineManifest,
        number: u64,
        chunks: u64,
    ) -> Result<(), Trouble> {
        let mut stream = asker.stream(manifest.clone(), LIMIT_MS).await?;
        stream.send(0, self.input(number, 0)).await;
        for sequence in 0..chunks {
            if sequence + 1 < chunks {
                stream.send(sequence + 1, self.input(number, sequence + 1)).await;
            }
            match stream.answer().await? {
                Some((answered, outputs)) if answered == sequence => {
                    self.compare(number, sequence, &self.input(number, sequence), &outputs)?;
                }
                other => {
                    let came = other.map(|(answered, _)| answered);
                    let words = format!("expected the answer to {sequence}, got that to {came:?}");
                    return Err(Trouble::Nonsense(words));
                }
            }
        }
        stream.close().await
    }

    /// What goes through must come out, and nobody else's.
    fn compare(
        &self,
        number: u64,
        sequence: u64,
        input: &DataBuffer,
        outputs: &[DataBuffer],
    ) -> Result<(), Trouble> {
        match outputs {
            [output] if output.data_type == input.data_type => Ok(()),
            other => {
                let shown: Vec<String> = other.iter().map(begin_of).collect();
                let words = format!("{} {number} {sequence} got the data of another: {shown:?}", self.name);
                Err(Trouble::Nonsense(words))
            }
        }
    }

    fn input(&self, number: u64, sequence: u64) -> DataBuffer {
        let id = format!("[{} {number} {sequence}] ", self.name);
        text(id.repeat(self.bytes / id.len() + 1))
    }
}

fn begin_of(buffer: &DataBuffer) -> String {
    match &buffer.data_type {
        Some(DataType::Text(text)) => {
            String::from_utf8_lossy(text.text_data.get(..40).unwrap_or(&[])).into_owned()
        }
        other => format!("{other:?}").chars().take(40).collect(),
    }
}
