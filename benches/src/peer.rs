//! The other process of `hop`: a guest of the domain that answers whatever comes, at once and from its I/O thread.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remotemedia_core::data::RuntimeData;
use remotemedia_ipc::control::ChannelError;
use remotemedia_ipc::control::messages::{Hello, PROTOCOL};
use remotemedia_ipc::doorbell::TICK;
use remotemedia_ipc::guest::{Guest, GuestError, GuestEvent};
use remotemedia_ipc::plane::{Arrival, Content, Plane};

use crate::error::BenchError;
use crate::stamp;

/// What a message asks of the peer; it travels as the edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// A mark: answer with a mark.
    Ping,
    /// A frame: send it back unread, and keep it.
    Forward,
    /// A frame: verify every page, then send it back, and keep it.
    TouchAndForward,
    /// A mark: verify every page of the frame that was kept, let go of it, and answer with a mark.
    Verify,
}

/// Longest that either process waits for anything of the other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until the other process is gone.
pub(crate) fn serve(runtime_dir: &Path) -> Result<(), BenchError> {
    let hello = Hello {
        protocol: PROTOCOL,
        name: "peer".to_owned(),
        kind: "bench".to_owned(),
        nodes: Vec::new(),
        loading: None,
        invocation: None,
    };
    let mut guest = Guest::join(runtime_dir, hello, Instant::now() + PATIENCE)?;
    let mut peer = Peer { plane: guest.plane().clone(), kept: None };
    loop {
        let mut outcome = Ok(());
        let turned = guest.turn(TICK, || false, &mut |event| match event {
            GuestEvent::Arrival(arrival) if outcome.is_ok() => outcome = peer.answer(arrival),
            GuestEvent::Arrival(_)
            | GuestEvent::Command(_)
            | GuestEvent::PeerDown(_)
            | GuestEvent::Dismissed
            | GuestEvent::InService => {}
        });
        outcome?;
        match turned {
            Ok(()) => {}
            Err(GuestError::GatewayGone | GuestError::Channel(ChannelError::Closed)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

struct Peer {
    plane: Plane,
    kept: Option<(u64, Bytes)>,
}

// === impl Peer ===

impl Peer {
    fn answer(&mut self, arrival: Arrival) -> Result<(), BenchError> {
        let Arrival { from, header, hop: _, content } = arrival;
        match (Ask::from_edge(header.edge), content) {
            (Some(Ask::Ping), Content::Mark) => Ok(self.plane.send_mark(from, &header)?),
            (Some(Ask::Verify), Content::Mark) => {
                let (sequence, payload) = self.kept.take().ok_or(BenchError::Unexpected)?;
                stamp::verify(&payload, sequence)?;
                Ok(self.plane.send_mark(from, &header)?)
            }
            (Some(ask @ (Ask::Forward | Ask::TouchAndForward)), Content::Frame(data, metadata, time)) => {
                if ask == Ask::TouchAndForward {
                    stamp::verify(data.payload(), header.sequence)?;
                }
                let prepared = self.plane.prepare_until(&data, &metadata, time, Instant::now() + PATIENCE)?;
                self.plane.send(from, &header, &prepared)?;
                self.kept = Some((header.sequence, payload_of(&data)));
                if prepared.copied_bytes() == 0 { Ok(()) } else { Err(BenchError::Copied) }
            }
            (
                Some(Ask::Ping | Ask::Forward | Ask::TouchAndForward | Ask::Verify) | None,
                Content::Frame(..) | Content::Mark | Content::Flush | Content::Lost,
            ) => Err(BenchError::Unexpected),
        }
    }
}

// === impl Ask ===

impl Ask {
    const ALL: [Self; 4] = [Self::Ping, Self::Forward, Self::TouchAndForward, Self::Verify];

    pub(crate) const fn edge(self) -> u32 {
        self as u32
    }

    fn from_edge(edge: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ask| ask.edge() == edge)
    }
}

fn payload_of(data: &RuntimeData) -> Bytes {
    data.payload().clone()
}
