//! Runs one node without processes: what a node's author tests with.

use bytes::Bytes;
use remotemedia_core::Frame;
use remotemedia_core::Limits;
use remotemedia_core::limits::LimitExceeded;
use remotemedia_core::node::{Loan, LoanError, Node, NodeError, Output, Outputs, Writable};

/// Runs a node over heap memory that is aligned and bounded like a worker's, and hands back what it emitted.
pub struct Harness {
    largest_loan: usize,
    outputs_per_call: usize,
}

struct Collected<'a> {
    harness: &'a Harness,
    outputs: Vec<Output>,
}

struct HeapBlock {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

/// As in a frame pool.
const ALIGNMENT: usize = 64;

// === impl Harness ===

impl Default for Harness {
    /// Lends as much as a message may have by default, and takes as many outputs of a call as a worker does.
    fn default() -> Self {
        let limits = Limits::default();
        Self { largest_loan: limits.max_message_bytes, outputs_per_call: limits.max_outputs_per_call }
    }
}

impl Harness {
    /// The same, with a largest block of `bytes`: for tests of what a node does when memory runs out.
    #[must_use]
    pub fn with_largest_loan(self, bytes: usize) -> Self {
        Self { largest_loan: bytes, ..self }
    }

    /// Hands one frame to the node.
    ///
    /// # Errors
    /// The node's own.
    pub fn run(&self, node: &mut dyn Node, frame: Frame) -> Result<Vec<Output>, NodeError> {
        self.call(node, |node, out| node.process(frame, out))
    }

    /// Tells the node that its input has ended.
    ///
    /// # Errors
    /// The node's own.
    pub fn flush(&self, node: &mut dyn Node) -> Result<Vec<Output>, NodeError> {
        self.call(node, |node, out| node.flush(out))
    }

    /// Calls the node in whatever way.
    ///
    /// # Errors
    /// The node's own.
    pub fn call(
        &self,
        node: &mut dyn Node,
        work: impl FnOnce(&mut dyn Node, &mut dyn Outputs) -> Result<(), NodeError>,
    ) -> Result<Vec<Output>, NodeError> {
        let mut collected = Collected { harness: self, outputs: Vec::new() };
        work(node, &mut collected)?;
        while node.has_more() {
            node.resume(&mut collected)?;
        }
        Ok(collected.outputs)
    }

    /// Memory as a node is lent it, of any size.
    #[must_use]
    pub fn loan(&self, bytes: usize) -> Loan {
        Loan::new(HeapBlock::new(bytes))
    }
}

// === impl Collected ===

impl Outputs for Collected<'_> {
    fn loan(&mut self, bytes: usize) -> Result<Loan, LoanError> {
        if bytes > self.harness.largest_loan {
            return Err(LoanError::TooLarge { bytes, largest: self.harness.largest_loan as u64 });
        }
        Ok(Loan::new(HeapBlock::new(bytes)))
    }

    fn emit(&mut self, output: Output) -> Result<(), LimitExceeded> {
        if self.outputs.len() == self.harness.outputs_per_call {
            return Err(LimitExceeded {
                what: "the number of outputs of one call".to_owned(),
                value: self.outputs.len() as u64 + 1,
                limit: self.harness.outputs_per_call as u64,
                unit: "outputs".to_owned(),
                advice: "emit fewer and larger pieces".to_owned(),
            });
        }
        self.outputs.push(output);
        Ok(())
    }
}

// === impl HeapBlock ===

impl HeapBlock {
    /// Old memory in a pool is not zeroed: neither is this, so that a node which counts on zeros fails its test.
    const STALE: u8 = 0xa5;

    fn new(len: usize) -> Self {
        let memory = vec![Self::STALE; len + ALIGNMENT - 1];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        Self { memory, start, len }
    }
}

impl Writable for HeapBlock {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    fn freeze(self: Box<Self>) -> Bytes {
        Bytes::from(self.memory).slice(self.start..self.start + self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loans_are_aligned_before_and_after_freezing() {
        for len in [0, 1, 63, 64, 65, 4096] {
            let mut loan = Loan::new(HeapBlock::new(len));
            assert_eq!(loan.bytes_mut().len(), len);
            let written = loan.bytes_mut().as_ptr();
            let frozen = loan.freeze();
            assert_eq!((frozen.as_ptr(), frozen.len()), (written, len), "moved by freezing");
            assert_eq!(written.addr() % ALIGNMENT, 0);
        }
    }

    #[test]
    fn a_loan_beyond_the_largest_block_is_refused_as_by_a_pool() {
        let harness = Harness::default().with_largest_loan(16);
        let mut collected = Collected { harness: &harness, outputs: Vec::new() };
        assert_eq!(collected.loan(17).unwrap_err(), LoanError::TooLarge { bytes: 17, largest: 16 });
    }
}
