//! A worker's time in one domain: from its admission to the end of that gateway, or its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use remotemedia_core::Fault;
use remotemedia_core::frame::SessionId;
use remotemedia_ipc::control::messages::{SessionCommand, SessionReply, StagePlan};
use remotemedia_ipc::guest::{Guest, GuestError, GuestEvent};
use remotemedia_ipc::plane::{Arrival, Plane};

use super::crew::Roster;
use super::mailbox::{Mailbox, Note};
use super::session::SessionCell;
use super::stop::Stop;
use crate::registry::Registry;

/// What a membership's sessions share.
pub(super) struct Membership {
    registry: Arc<Registry>,
    worker_name: String,
    plane: Plane,
    mailbox: Mailbox,
    roster: Arc<Roster>,
}

/// The I/O thread's side of a membership: it hears gateway and links, and never runs a node. Dropping it has all
/// sessions dropped, with the leases that they hold.
pub(super) struct Desk {
    guest: Guest,
    sessions: Sessions,
    stalled: Vec<Stall>,
}

/// The sessions that are open here, or failed and not closed yet.
struct Sessions {
    membership: Arc<Membership>,
    open: HashMap<SessionId, Arc<SessionCell>>,
}

/// An input that waits for credit.
struct Stall {
    session: Arc<SessionCell>,
    lane: usize,
}

/// Longest sleep of the I/O thread; the doorbell's own tick is shorter.
const NAP: Duration = Duration::from_millis(10);

// === impl Membership ===

impl Membership {
    /// The membership of an admitted guest.
    pub(super) fn new(
        guest: &Guest,
        registry: Arc<Registry>,
        worker_name: String,
        roster: Arc<Roster>,
    ) -> Self {
        let (plane, mailbox) = (guest.plane().clone(), Mailbox::new(guest.waker()));
        Self { registry, worker_name, plane, mailbox, roster }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn worker_name(&self) -> &str {
        &self.worker_name
    }

    pub(super) const fn plane(&self) -> &Plane {
        &self.plane
    }

    pub(super) const fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(super) const fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "membership of {} as {:?}", self.worker_name, self.plane)
    }
}

// === impl Desk ===

impl Desk {
    pub(super) fn new(guest: Guest, membership: Membership) -> Self {
        let sessions = Sessions { membership: Arc::new(membership), open: HashMap::new() };
        Self { guest, sessions, stalled: Vec::new() }
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// The membership is over: the gateway is gone, or wants no more of us.
    pub(super) fn serve(&mut self, stop: &Stop) -> Result<(), GuestError> {
        while !stop.is_asked() {
            let Self { guest, sessions, stalled } = self;
            let membership = Arc::clone(&sessions.membership);
            // Asked after the process has said that it sleeps, so that no credit and no note is slept through.
            let busy = || !membership.mailbox.is_empty() || stalled.iter().any(|stall| stall.is_over());
            guest.turn(NAP, busy, &mut |event| sessions.take(event))?;
            self.read_mail()?;
            self.stalled.retain(|stall| !stall.end_if_over());
        }
        Ok(())
    }

    fn read_mail(&mut self) -> Result<(), GuestError> {
        while let Some(note) = self.sessions.membership.mailbox.take() {
            match note {
                Note::Reply(reply) => self.guest.reply(reply)?,
                Note::Stalled { session, lane } => {
                    let session = self.sessions.open.get(&session).map(Arc::clone);
                    self.stalled.extend(session.map(|session| Stall { session, lane }));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.sessions.open.values().for_each(SessionCell::close);
    }
}

// === impl Sessions ===

impl Sessions {
    fn take(&mut self, event: GuestEvent) {
        match event {
            GuestEvent::Arrival(arrival) => self.take_arrival(arrival),
            GuestEvent::Command(SessionCommand::Open(plan)) => self.open(plan),
            GuestEvent::Command(SessionCommand::Close { session }) => self.close(session),
            // The gateway ends the sessions that it took part in.
            GuestEvent::PeerDown(member) => tracing::debug!(%member, "peer_down"),
        }
    }

    fn take_arrival(&self, arrival: Arrival) {
        let id = SessionId(arrival.header.session);
        match self.open.get(&id) {
            Some(session) => session.post(arrival),
            // An opening is acknowledged before its first frame is sent, so this session has been closed.
            None => tracing::trace!(session = %id, "frame_of_closed_session_dropped"),
        }
    }

    fn open(&mut self, plan: StagePlan) {
        let id = plan.session;
        if self.open.contains_key(&id) {
            return self.refuse(id, format!("session {id} is opened twice"));
        }
        match SessionCell::open(&self.membership, plan) {
            Ok(session) => {
                tracing::debug!(session = %id, "session_opening");
                self.open.insert(id, session);
            }
            Err(error) => self.refuse(id, error.to_string()),
        }
    }

    fn close(&mut self, id: SessionId) {
        match self.open.remove(&id) {
            Some(session) => session.close(),
            None => self.membership.mailbox.leave(Note::Reply(SessionReply::Closed { session: id })),
        }
    }

    fn refuse(&self, session: SessionId, problem: String) {
        let fault = Fault::Internal { place: "the plan of a stage".to_owned(), problem };
        self.membership.mailbox.leave(Note::Reply(SessionReply::Failed { session, fault }));
    }
}

// === impl Stall ===

impl Stall {
    /// Whether there is something to do about it.
    fn is_over(&self) -> bool {
        self.session.may_resume(self.lane).unwrap_or(true)
    }

    /// Has the lane go on if it can. Whether this needs to be looked at no more.
    fn end_if_over(&self) -> bool {
        let over = self.is_over();
        if over {
            self.session.resume(self.lane);
        }
        over
    }
}
