//! What a node is: a small class that turns frames into frames.

mod parameter;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::{Kind, RuntimeData};
use crate::frame::{Frame, Metadata};
use crate::joined::{Joined, Port};
use crate::limits::LimitExceeded;
use crate::manifest::Params;

pub use parameter::{Absent, ParamError, Parameter, Values, read_params};

/// A processing element in one session. Called by one thread at a time, in the order of its input.
///
/// A panic is an error of this node alone: the session ends with it, the process and its other sessions live on.
pub trait Node: Send {
    /// Works on one input. Output goes out when this returns; a node that returns without output is fine.
    ///
    /// # Errors
    /// Ends the session with [`crate::fault::NodeFault`].
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError>;

    /// Works on inputs that belong together: one call for each, with what came on the ports of [`NodeInfo::ports`], or
    /// on the connections of a node that has none and is fed by several. Each by itself, unless a node does better.
    ///
    /// # Errors
    /// As [`Self::process`].
    fn process_joined(&mut self, inputs: Joined, out: &mut dyn Outputs) -> Result<(), NodeError> {
        inputs.into_frames().try_for_each(|input| self.process(input, out))
    }

    /// Whether the last call has more outputs than it gave. Then [`Self::resume`] is called until it has not, each time
    /// after what came before has gone on, and before anything else is: so outputs of a long call leave as they are made.
    fn has_more(&self) -> bool {
        false
    }

    /// Goes on with the last call.
    ///
    /// # Errors
    /// Ends the session with [`crate::fault::NodeFault`].
    fn resume(&mut self, _out: &mut dyn Outputs) -> Result<(), NodeError> {
        Ok(())
    }

    /// The input has ended: gives what was kept back.
    ///
    /// # Errors
    /// Ends the session with [`crate::fault::NodeFault`].
    fn flush(&mut self, _out: &mut dyn Outputs) -> Result<(), NodeError> {
        Ok(())
    }
}

/// A kind of node that can be registered: what it is, and how one is made.
pub trait NodeType: Node + Sized + 'static {
    /// What manifests, `GetVersion` and `remotemedia nodes` say of it.
    fn info() -> NodeInfo;

    /// Makes one for a session. The parameters have been through [`NodeInfo::check`]: they are of the declared types,
    /// under their own names, and defaults are filled in.
    ///
    /// # Errors
    /// They do not fit each other, in a way that [`Self::info`] cannot say.
    fn new(params: &Params) -> Result<Self, ParamError>;
}

/// Where a node puts its output, and where it gets the memory for it.
pub trait Outputs {
    /// Lends `bytes` bytes of zeroed or old memory, 64-byte aligned: in a worker, shared memory that is sent as it is.
    ///
    /// # Errors
    /// Nothing so large exists, or nothing came free in time.
    fn loan(&mut self, bytes: usize) -> Result<Loan, LoanError>;

    /// Sends an output. Never blocks: what cannot go now waits its turn, and the node's next input with it.
    ///
    /// # Errors
    /// More outputs of one call than a call may have.
    fn emit(&mut self, output: Output) -> Result<(), LimitExceeded>;

    /// Tells that the node is at work on its input and will go on: where the client has set no time for it, that begins
    /// anew, up to what the service allows at most. Cheap enough for an inner loop.
    fn working(&mut self) {}

    /// Tells that so many bytes of an output were made elsewhere and copied into a loan: for metrics.
    fn note_copied(&mut self, _bytes: usize) {}
}

/// One output: data and what is said about it. Sequence and time are those of the input unless set.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// The data. An input's payload, or a slice of it, is forwarded without a copy.
    pub data: RuntimeData,
    /// Metadata.
    pub metadata: Metadata,
    /// Presentation time in microseconds where it differs from the input's.
    pub timestamp_us: Option<u64>,
}

/// Memory lent for one output, writable until it is frozen.
pub struct Loan(Box<dyn Writable>);

/// Memory that can be written and then shared.
pub trait Writable: Send {
    /// The memory.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Ends writing.
    fn freeze(self: Box<Self>) -> Bytes;
}

/// What is known of a registered node type.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The name in manifests.
    pub name: String,
    /// Other names that manifests may use.
    pub aliases: Vec<String>,
    /// One sentence.
    pub summary: String,
    /// Kinds it takes; empty means any.
    pub accepts: Vec<Kind>,
    /// Its named inputs, by which frames of one sequence are joined; none means one unnamed input.
    pub ports: Vec<Port>,
    /// Kinds it gives; empty means any.
    pub produces: Vec<Kind>,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Whether the same input through a fresh node gives the same output and has no effect elsewhere, so that work may be
    /// replayed. One that is not is called at most once for an input.
    pub repeatable: bool,
    /// Whether what it gives for an input depends on that input alone, and its flush gives nothing: then a stream goes on
    /// with a fresh node where another has died.
    #[serde(default)]
    pub stateless: bool,
}

/// The node could not do its work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum NodeError {
    /// The input is of a kind that the node does not take.
    #[error("expects {expected}, got {received}")]
    WrongKind {
        /// What it takes.
        expected: Kind,
        /// What came.
        received: Kind,
    },
    /// A port without which the node cannot work has nothing.
    #[error("nothing came on input '{port}' for sequence {sequence}")]
    MissingInput {
        /// The port.
        port: String,
        /// Of the other inputs.
        sequence: u64,
    },
    /// What the node itself says.
    #[error("{message}")]
    Failed {
        /// In its own words.
        message: String,
    },
    /// What a node in another language raised.
    #[error("{exception}: {message}")]
    Raised {
        /// The exception's type.
        exception: String,
        /// What it says.
        message: String,
        /// Where it was raised, in that language's own words.
        traceback: String,
    },
    /// No memory for the output.
    #[error(transparent)]
    Loan(#[from] LoanError),
    /// Too much output.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The output is not valid data of its kind.
    #[error("output: {0}")]
    Output(#[from] crate::data::DataError),
}

/// No memory for an output.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum LoanError {
    /// No block is so large.
    #[error(
        "{bytes} bytes do not fit into the largest block of the frame pool, {largest} bytes: emit smaller pieces, or have the pool enlarged"
    )]
    TooLarge {
        /// As asked.
        bytes: usize,
        /// The largest block.
        largest: u64,
    },
    /// The execution may not hold so much.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// All blocks that fit are held.
    #[error("no block of {bytes} bytes came free in {waited_ms} ms: the frame pool is held by {holders}")]
    Exhausted {
        /// As asked.
        bytes: usize,
        /// How long it was tried.
        waited_ms: u64,
        /// The processes that hold blocks.
        holders: String,
    },
}

// === impl NodeInfo ===

impl NodeInfo {
    /// Its name, and every other one that means it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }

    /// Whether a manifest that says `node_type` means this.
    #[must_use]
    pub fn answers_to(&self, node_type: &str) -> bool {
        self.names().any(|name| name == node_type)
    }

    /// The kinds that a port takes, none meaning any; the empty name is that of an input without one. Nothing if there
    /// is no such port.
    #[must_use]
    pub fn accepted(&self, port: &str) -> Option<&[Kind]> {
        if self.ports.is_empty() {
            return port.is_empty().then_some(&self.accepts);
        }
        let found = self.ports.iter().find(|listed| listed.name == port)?;
        Some(&found.accepts)
    }

    /// Whether an input of a stream may be given to a fresh node because another died of it, or beside it.
    #[must_use]
    pub const fn is_replayable(&self) -> bool {
        self.repeatable && self.stateless
    }

    /// Checks parameters as a manifest gives them. Gives them as a node is told them: under the declared names, with
    /// defaults filled in; what has no default and was not given is not there.
    ///
    /// # Errors
    /// The first one that is wrong: an unknown name, a wrong type, a value out of range, one that is missing.
    pub fn check(&self, given: &Params) -> Result<Params, ParamError> {
        parameter::check(&self.parameters, given)
    }

    /// All that is wrong with parameters as a manifest gives them.
    #[must_use]
    pub fn problems(&self, given: &Params) -> Vec<ParamError> {
        parameter::problems(&self.parameters, given)
    }

    /// What [`Self::check`] takes, as a JSON Schema (draft 2020-12). Words of a choice are listed in lower case.
    #[must_use]
    pub fn params_schema(&self) -> Value {
        parameter::schema(&self.name, &self.summary, &self.parameters)
    }
}

// === impl NodeError ===

impl NodeError {
    /// Where it was raised, where another language says so; else empty.
    #[must_use]
    pub fn traceback(&self) -> &str {
        match self {
            Self::Raised { traceback, .. } => traceback,
            Self::WrongKind { .. }
            | Self::MissingInput { .. }
            | Self::Failed { .. }
            | Self::Loan(_)
            | Self::Limit(_)
            | Self::Output(_) => "",
        }
    }

    /// In the node's own words.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::Failed { message: message.to_string() }
    }
}

// === impl Output ===

impl<T: Into<RuntimeData>> From<T> for Output {
    fn from(data: T) -> Self {
        Self { data: data.into(), metadata: Metadata::new(), timestamp_us: None }
    }
}

// === impl Loan ===

impl Loan {
    /// Wraps memory of whatever origin.
    #[must_use]
    pub fn new(memory: impl Writable + 'static) -> Self {
        Self(Box::new(memory))
    }

    /// The memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    /// The memory as 32-bit floats; bytes beyond the last whole one are left out.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        let bytes = self.0.bytes_mut();
        let whole = bytes.len() / 4 * 4;
        bytemuck::cast_slice_mut(&mut bytes[..whole])
    }

    /// Ends writing: the bytes can now be shared.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        self.0.freeze()
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loan")
    }
}
