//! The edges out of a stage: how departures become frames in other processes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use remotemedia_core::frame::StageId;
use remotemedia_core::limits::LimitExceeded;
use remotemedia_core::node::{Loan, LoanError};
use remotemedia_ipc::control::messages::{StageOutput, StagePlan};
use remotemedia_ipc::lease::{Refused, state};
use remotemedia_ipc::link::PushRefused;
use remotemedia_ipc::plane::{EdgeOut, Header, NoBlock, Outstanding, Plane, Prepared, SendError};
use remotemedia_ipc::slot::{Member, Slot};

use super::stage::{Departure, Item};

/// The edges out of one session's stage, and the memory for what goes there.
#[derive(Debug)]
pub(super) struct Outlets {
    plane: Plane,
    stage: StageId,
    /// By place in the plan's outputs, each with the stage that receives there.
    edges: Vec<(EdgeOut, StageId)>,
    /// By the same: what is out on those to the gateway, whose client may read nothing.
    outstanding: Vec<Option<Mutex<Outstanding>>>,
    loan_timeout: Duration,
    /// That one output may take.
    memory_bytes: u64,
}

/// A departure on its way onto the edges of its node.
pub(super) struct Departing {
    departure: Departure,
    prepared: Option<Prepared>,
    /// How many of the node's edges have it.
    sent: usize,
}

/// How far a departure came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// All edges have it.
    Whole,
    /// An edge has no credit.
    Stalled {
        /// By place in the plan's outputs.
        edge: usize,
    },
}

/// A departure cannot be sent, and never will be.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutletError {
    /// No memory for an output that was not in pool memory.
    #[error(transparent)]
    Loan(#[from] LoanError),
    /// The rules of credit or links were broken.
    #[error(transparent)]
    Send(SendError),
}

// === impl Outlets ===

impl Outlets {
    pub(super) fn new(plane: Plane, plan: &StagePlan) -> Self {
        let edge = |output: &StageOutput| (EdgeOut::new(output.edge, output.to, plan.window), output.stage);
        let edges = plan.outputs.iter().map(edge).collect();
        let of_gateway = |output: &StageOutput| output.to.slot == Slot::GATEWAY;
        let outstanding = plan.outputs.iter().map(|output| of_gateway(output).then(Mutex::default)).collect();
        let loan_timeout = Duration::from_millis(plan.loan_timeout_ms);
        let (stage, memory_bytes) = (plan.stage, plan.memory_bytes);
        Self { plane, stage, edges, outstanding, loan_timeout, memory_bytes }
    }

    /// Whether an edge, by its place in the plan's outputs, can take a frame now.
    pub(super) fn has_credit(&self, edge: usize) -> bool {
        self.edges[edge].0.has_credit(&self.plane)
    }

    /// Lends memory for an output, waiting for it as long as the plan allows.
    pub(super) fn lend(&self, bytes: usize) -> Result<Loan, LoanError> {
        self.check(bytes)?;
        let block = self.plane.loan_until(bytes, Instant::now() + self.loan_timeout);
        block.map(Loan::new).map_err(|error| self.loan_error(&error))
    }

    fn check(&self, bytes: usize) -> Result<(), LimitExceeded> {
        let value = u64::try_from(bytes).unwrap_or(u64::MAX);
        if value <= self.memory_bytes {
            return Ok(());
        }
        Err(LimitExceeded {
            what: "an output".to_owned(),
            value,
            limit: self.memory_bytes,
            unit: "bytes".to_owned(),
            advice: "ask for a higher max_memory_bytes, or send smaller pieces".to_owned(),
        })
    }

    /// Sends a departure to as many of its edges as have credit, in their order.
    pub(super) fn send(&self, departing: &mut Departing, edges: &[usize]) -> Result<Sent, OutletError> {
        while let Some(&edge) = edges.get(departing.sent) {
            // The receiver keeps a place for the flush beyond the window: nothing comes behind it.
            let is_flush = departing.departure.item == Item::Flush;
            let may_go = is_flush || (self.has_credit(edge) && self.has_room(edge, departing));
            if !may_go {
                return Ok(Sent::Stalled { edge });
            }
            self.send_on(departing, &self.edges[edge])?;
            if let (Some(outstanding), Some(sent)) = (&self.outstanding[edge], &departing.prepared) {
                outstanding.lock().unwrap_or_else(PoisonError::into_inner).note(&self.plane, sent);
            }
            departing.sent += 1;
        }
        Ok(Sent::Whole)
    }

    /// Whether a frame may go out beside those that the gateway still holds of this edge.
    fn has_room(&self, edge: usize, departing: &Departing) -> bool {
        let (Some(outstanding), Item::Frame { frame, .. }) =
            (&self.outstanding[edge], &departing.departure.item)
        else {
            return true;
        };
        let mut outstanding = outstanding.lock().unwrap_or_else(PoisonError::into_inner);
        outstanding.has_room(&self.plane, frame.data.payload().len())
    }

    fn send_on(
        &self,
        departing: &mut Departing,
        (edge, receiver): &(EdgeOut, StageId),
    ) -> Result<(), OutletError> {
        let Departing { departure, prepared, .. } = departing;
        let (to, sequence) = (edge.to(), departure.sequence);
        let header = |last| Header { session: receiver.0, edge: edge.edge().index, sequence, last };
        match &departure.item {
            Item::Frame { frame, last } => {
                let prepared = match prepared {
                    Some(prepared) => prepared,
                    None => prepared.insert(self.prepare(frame)?),
                };
                self.push(to, || self.plane.send(to, &header(*last), prepared))?;
                edge.spend();
            }
            Item::Mark { .. } => {
                self.push(to, || self.plane.send_mark(to, &header(true)))?;
                edge.spend();
            }
            Item::Flush => self.push(to, || self.plane.send_flush(to, &header(false)))?,
        }
        Ok(())
    }

    fn prepare(&self, frame: &remotemedia_core::Frame) -> Result<Prepared, LoanError> {
        self.check(frame.data.payload().len())?;
        let deadline = Instant::now() + self.loan_timeout;
        self.plane
            .prepare_until(&frame.data, &frame.metadata, frame.timestamp_us, deadline)
            .map_err(|error| self.loan_error(&error))
    }

    /// Sends, and forgives what only the receiver's death explains: the gateway hears of that.
    fn push(&self, to: Member, send: impl Fn() -> Result<(), SendError>) -> Result<(), OutletError> {
        let mut outcome = send();
        if let Err(SendError::Refused { refused: Refused::FlightFull { .. }, .. }) = outcome {
            // Credit came back through shared memory faster than the I/O thread has looked for acknowledgements.
            self.plane.reclaim();
            outcome = send();
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if self.is_of_death(to, &error) => {
                tracing::debug!(stage = %self.stage, %to, %error, "receiver_gone");
                Ok(())
            }
            Err(error) => Err(OutletError::Send(error)),
        }
    }

    fn is_of_death(&self, to: Member, error: &SendError) -> bool {
        match error {
            SendError::NotConnected { .. } => !state::is_live(self.plane.domain(), to),
            SendError::Refused { refused, .. } => match refused {
                Refused::ReceiverGone { .. } | Refused::Push(PushRefused::NoReceiver) => true,
                Refused::FlightFull { .. }
                | Refused::SequenceExhausted
                | Refused::Overflow(_)
                | Refused::Push(PushRefused::Full | PushRefused::Broken(_)) => false,
            },
        }
    }

    fn loan_error(&self, error: &NoBlock) -> LoanError {
        match error {
            NoBlock::TooLarge { bytes, largest } => LoanError::TooLarge { bytes: *bytes, largest: *largest },
            NoBlock::AllHeld { bytes, holders } => {
                let me = self.plane.me().slot;
                let name = |slot| if slot == me { "this worker".to_owned() } else { format!("slot {slot}") };
                let holders: Vec<String> = holders.iter().map(name).collect();
                let waited_ms = u64::try_from(self.loan_timeout.as_millis()).unwrap_or(u64::MAX);
                LoanError::Exhausted { bytes: *bytes, waited_ms, holders: holders.join(", ") }
            }
        }
    }
}

// === impl Departing ===

impl Departing {
    pub(super) const fn new(departure: Departure) -> Self {
        Self { departure, prepared: None, sent: 0 }
    }

    pub(super) const fn departure(&self) -> &Departure {
        &self.departure
    }

    /// Bytes that had to be copied into pool memory.
    pub(super) fn copied_bytes(&self) -> usize {
        self.prepared.as_ref().map_or(0, Prepared::copied_bytes)
    }
}
