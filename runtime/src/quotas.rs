//! What the sessions of one connection may hold together: of the gateway's frame pool, a part, so that a client whose
//! many sessions stand still leaves room for others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use remotemedia_core::limits::LimitExceeded;
use remotemedia_core::transport::ConnectionId;
use remotemedia_ipc::plane::{Block, OverPart, Part, Plane, Together};

use crate::line::Line;

/// The quotas of all connections that have a session.
#[derive(Debug)]
pub(crate) struct Quotas {
    percent: u8,
    /// Those without a session any more are taken out when another is asked for.
    of: Mutex<BTreeMap<ConnectionId, Weak<Quota>>>,
}

/// What the sessions of one connection hold.
#[derive(Debug)]
pub(crate) struct Quota {
    percent: u8,
    part: Mutex<Part>,
    line: Line,
}

// === impl Quotas ===

impl Quotas {
    pub(crate) const fn new(percent: u8) -> Self {
        Self { percent, of: Mutex::new(BTreeMap::new()) }
    }

    /// That of a connection, as long as anybody has it.
    pub(crate) fn of(&self, connection: ConnectionId) -> Arc<Quota> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = of.get(&connection).and_then(Weak::upgrade) {
            return known;
        }
        of.retain(|_, quota| quota.strong_count() > 0);
        let quota = Arc::new(Quota { percent: self.percent, part: Mutex::default(), line: Line::default() });
        of.insert(connection, Arc::downgrade(&quota));
        quota
    }
}

// === impl Quota ===

impl Quota {
    /// Where inputs of its connection wait.
    pub(crate) const fn line(&self) -> &Line {
        &self.line
    }

    /// Counts a block, if one for a frame of so many bytes may follow now.
    pub(crate) fn take(
        &self,
        plane: &Plane,
        block: &Block,
        bytes: usize,
        together: Together,
    ) -> Result<(), LimitExceeded> {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_in(&mut part, plane, bytes, together)?;
        part.note(plane, block);
        Ok(())
    }

    /// Whether a frame of so many bytes may follow now.
    pub(crate) fn check(&self, plane: &Plane, bytes: usize, together: Together) -> Result<(), LimitExceeded> {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_in(&mut part, plane, bytes, together)
    }

    fn check_in(
        &self,
        part: &mut Part,
        plane: &Plane,
        bytes: usize,
        together: Together,
    ) -> Result<(), LimitExceeded> {
        part.check(plane, bytes, together, self.percent).map_err(|OverPart { blocks, limit }| LimitExceeded {
            what: format!("what this connection's sessions hold of frames as large as one of {bytes} bytes, and larger ones"),
            value: blocks,
            limit,
            unit: "frames".to_owned(),
            advice: "read their results, have fewer at once, or have max_connection_pool_percent raised"
                .to_owned(),
        })
    }
}
