//! The worker at both ends of `python-hop`: its first node hands a frame to another worker's node, and its last takes it
//! back.
//!
//! A round is two inputs. The first is a number: a block of so many bytes is lent, every page of it is stamped, and an
//! empty text goes to the other worker and back. At the second, whatever it is, the block is sent; what comes of it is how
//! long it was away, in nanoseconds.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use remotemedia_core::data::{RuntimeData, Shape, Tensor, TensorDtype, Text};
use remotemedia_core::frame::{Frame, Metadata};
use remotemedia_core::node::{Node, NodeError, NodeInfo, Output, Outputs};
use remotemedia_worker::{Engine, Registry, Settings, Stop};

use crate::error::{BenchError, while_doing};
use crate::stamp;

/// The node types.
pub(crate) const SENDS: &str = "Sends";
pub(crate) const TAKES: &str = "Takes";

/// Serves until it is killed.
pub(crate) fn serve(runtime_dir: PathBuf, name: String) -> Result<(), BenchError> {
    let block = Arc::new(Away::default());
    let [sends, takes] = [Arc::clone(&block), block];
    let registry = Registry::new()
        .register_made(info(SENDS), Box::new(move |_, _| Ok(Box::new(Sends(Arc::clone(&sends))))))
        .and_then(|registry| {
            registry.register_made(info(TAKES), Box::new(move |_, _| Ok(Box::new(Takes(Arc::clone(&takes))))))
        })
        .expect("the two types have names of their own");
    let kind = "rust".to_owned();
    let settings = Settings { runtime_dir, name, kind, threads: 2, drain: Duration::ZERO, unit: None };
    let engine = Engine::start(settings, registry, Arc::new(Stop::default()));
    let engine = engine.map_err(while_doing("start a worker's threads"))?;
    engine.run().map_err(|refused| BenchError::Refused { reason: refused.to_string() })
}

/// The block of the round that is under way: there is one at a time.
#[derive(Default)]
struct Away(Mutex<Option<Block>>);

struct Block {
    payload: Bytes,
    /// What its stamps were made of.
    sequence: u64,
    /// Not before the second input.
    sent: Option<Instant>,
}

/// Hands frames over.
struct Sends(Arc<Away>);

/// Takes them back.
struct Takes(Arc<Away>);

// === impl Away ===

impl Away {
    fn with<T>(&self, look: impl FnOnce(&mut Option<Block>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Sends ===

impl Node for Sends {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let RuntimeData::Text(text) = &input.data else { return Err(NodeError::failed("expects text")) };
        if let Ok(bytes) = text.as_str().parse() {
            let mut loan = out.loan(bytes)?;
            stamp::write(loan.bytes_mut(), input.sequence);
            let block = Block { payload: loan.freeze(), sequence: input.sequence, sent: None };
            self.0.with(|away| *away = Some(block));
            return emit(out, Text::from(""));
        }
        let payload = self.0.with(|away| away.as_ref().map(|block| block.payload.clone()));
        let payload = payload.ok_or_else(|| NodeError::failed("expects a number of bytes first"))?;
        let shape = Shape::new([payload.len() as u64]).map_err(NodeError::failed)?;
        let tensor = Tensor::new(payload, TensorDtype::U8, shape, "").map_err(NodeError::failed)?;
        self.0.with(|away| {
            if let Some(block) = away {
                block.sent = Some(Instant::now());
            }
        });
        emit(out, tensor)
    }
}

// === impl Takes ===

impl Node for Takes {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let came = Instant::now();
        let sent = self.0.with(|away| away.take_if(|block| block.sent.is_some()));
        let Some(Block { payload, sequence, sent: Some(sent) }) = sent else {
            return emit(out, Text::from(""));
        };
        if input.data.payload().as_ptr() != payload.as_ptr() || input.data.payload().len() != payload.len() {
            return Err(NodeError::failed("the frame came back in another block"));
        }
        stamp::verify(&payload, sequence).map_err(NodeError::failed)?;
        emit(out, Text::from((came - sent).as_nanos().to_string().as_str()))
    }
}

fn info(name: &str) -> NodeInfo {
    NodeInfo { name: name.to_owned(), ..NodeInfo::default() }
}

fn emit(out: &mut dyn Outputs, data: impl Into<RuntimeData>) -> Result<(), NodeError> {
    Ok(out.emit(Output { data: data.into(), metadata: Metadata::new(), timestamp_us: None })?)
}
