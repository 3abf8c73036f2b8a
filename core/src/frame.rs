//! A frame: metadata and one piece of data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::RuntimeData;

/// Metadata that a client or a node attached, in order of keys.
pub type Metadata = BTreeMap<String, String>;

/// Names a session within one boot of a gateway. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Names a stage, which is the part of a session that one worker runs, within one boot of a gateway. Written as
/// [`SessionId`] is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StageId(pub u64);

/// One piece of data with what is said about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Frame {
    /// The sequence number of the input that this frame is, or came of.
    pub sequence: u64,
    /// Presentation time of the frame's begin in microseconds, if one was given.
    pub timestamp_us: Option<u64>,
    /// Metadata.
    pub metadata: Metadata,
    /// The data.
    pub data: RuntimeData,
}

impl Frame {
    /// A frame without metadata or time.
    #[must_use]
    pub fn new(sequence: u64, data: impl Into<RuntimeData>) -> Self {
        Self { sequence, timestamp_us: None, metadata: Metadata::new(), data: data.into() }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {self}")
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {self}")
    }
}
