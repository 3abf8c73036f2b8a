//! A node with several inputs: its ports, and what came on them for one call.

use serde::{Deserialize, Serialize};

use crate::data::Kind;
use crate::frame::Frame;
use crate::node::NodeError;

/// A named input of a node type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// What connections (`node.port`) and named buffers call it.
    pub name: String,
    /// Kinds it takes; empty means any.
    pub accepts: Vec<Kind>,
}

/// What came on the ports of a node for one sequence: at most one frame each. A port on which nothing came of that
/// sequence has none.
#[derive(Clone, PartialEq, Debug)]
pub struct Joined {
    sequence: u64,
    frames: Vec<(String, Frame)>,
}

// === impl Port ===

impl Port {
    /// A port that takes these kinds; none means any.
    #[must_use]
    pub fn new(name: &str, accepts: &[Kind]) -> Self {
        Self { name: name.to_owned(), accepts: accepts.to_vec() }
    }
}

/// The ports of a node type in words, for who named another.
#[must_use]
pub fn ports_in_words(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "its type has one input, without a name".to_owned();
    }
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    format!("its type has ports {}", names.join(", "))
}

// === impl Joined ===

impl Joined {
    /// Frames by port, in the order of the ports.
    #[must_use]
    pub const fn new(sequence: u64, frames: Vec<(String, Frame)>) -> Self {
        Self { sequence, frames }
    }

    /// The sequence that all of them have.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Presentation time of the first frame that has one, in microseconds.
    #[must_use]
    pub fn timestamp_us(&self) -> Option<u64> {
        self.frames.iter().find_map(|(_, frame)| frame.timestamp_us)
    }

    /// Items of all frames.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.frames.iter().map(|(_, frame)| frame.data.items()).sum()
    }

    /// Bytes of all payloads.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.frames.iter().map(|(_, frame)| frame.data.payload().len()).sum()
    }

    /// Takes what came on a port, if anything did.
    pub fn take(&mut self, port: &str) -> Option<Frame> {
        let place = self.frames.iter().position(|(name, _)| name == port)?;
        Some(self.frames.remove(place).1)
    }

    /// Takes what came on a port.
    ///
    /// # Errors
    /// Nothing came on it: an error of the node, which names the port.
    pub fn need(&mut self, port: &str) -> Result<Frame, NodeError> {
        let sequence = self.sequence;
        self.take(port).ok_or_else(|| NodeError::MissingInput { port: port.to_owned(), sequence })
    }

    /// The kinds of all frames that nobody has taken, with their ports.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.frames.iter().map(|(port, frame)| (port.as_str(), frame.data.kind()))
    }

    /// All frames that nobody has taken, with their ports, in the order of the ports.
    pub fn into_named(self) -> impl Iterator<Item = (String, Frame)> {
        self.frames.into_iter()
    }

    /// All frames that nobody has taken, in the order of the ports.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.frames.into_iter().map(|(_, frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Text;

    #[test]
    fn a_port_gives_its_frame_once_and_a_missing_one_is_named() {
        let frame = Frame::new(3, Text::from("x"));
        let mut joined = Joined::new(3, vec![("left".to_owned(), frame.clone())]);
        assert_eq!(joined.need("left"), Ok(frame));
        let error = joined.need("left").unwrap_err();
        assert_eq!(error.to_string(), "nothing came on input 'left' for sequence 3");
    }
}
