//! A worker's time in one domain: from its admission to the end of that gateway, or its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remotemedia_core::Fault;
use remotemedia_core::frame::StageId;
use remotemedia_ipc::control::messages::{News, StageCommand, StagePlan, StageReply};
use remotemedia_ipc::guest::{Guest, GuestError, GuestEvent};
use remotemedia_ipc::plane::{Arrival, Plane};

use super::crew::Roster;
use super::mailbox::{Mailbox, Note};
use super::offer::{Offer, Told};
use super::session::SessionCell;
use super::stop::Stop;
use crate::registry::Registry;
use crate::unit::Pulse;

/// What a membership's sessions share.
pub(super) struct Membership {
    offer: Arc<Offer>,
    worker_name: String,
    plane: Plane,
    mailbox: Mailbox,
    roster: Arc<Roster>,
}

/// The I/O thread's side of a membership: it hears gateway and links, and never runs a node. Dropping it has all
/// sessions dropped, with the leases that they hold.
pub(super) struct Desk {
    guest: Guest,
    /// What the gateway knows of what this worker offers.
    told: Told,
    sessions: Sessions,
    stalled: Vec<Stall>,
    leave: Leave,
}

/// How far a worker is in leaving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leave {
    /// It stays.
    Not,
    /// It has asked to go, and waits for its sessions to end until then.
    Asked(Instant),
    /// It may go.
    Dismissed,
}

/// The sessions that are open here, or failed and not closed yet.
struct Sessions {
    membership: Arc<Membership>,
    open: HashMap<StageId, Arc<SessionCell>>,
    /// Whether the gateway may give it any.
    in_service: bool,
    dismissed: bool,
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
    pub(super) fn new(guest: &Guest, offer: Arc<Offer>, worker_name: String, roster: Arc<Roster>) -> Self {
        let (plane, mailbox) = (guest.plane().clone(), Mailbox::new(guest.waker()));
        Self { offer, worker_name, plane, mailbox, roster }
    }

    pub(super) fn registry(&self) -> &Registry {
        self.offer.registry()
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
    /// `told` is what the guest's hello has said.
    pub(super) fn new(guest: Guest, told: Told, membership: Membership) -> Self {
        let (open, in_service, dismissed) = (HashMap::new(), false, false);
        let sessions = Sessions { membership: Arc::new(membership), open, in_service, dismissed };
        Self { guest, told, sessions, stalled: Vec::new(), leave: Leave::Not }
    }

    /// Serves until told to stop, and then for at most `drain` those sessions that there are.
    ///
    /// # Errors
    /// The membership is over: the gateway is gone, or wants no more of us.
    pub(super) fn serve(
        &mut self,
        stop: &Stop,
        drain: Duration,
        pulse: &mut Pulse,
    ) -> Result<(), GuestError> {
        while !self.may_go(stop, drain)? {
            self.tell_news()?;
            let Self { guest, sessions, stalled, .. } = self;
            let membership = Arc::clone(&sessions.membership);
            // Asked after the process has said that it sleeps, so that no credit and no note is slept through.
            let busy = || !membership.mailbox.is_empty() || stalled.iter().any(|stall| stall.is_over());
            guest.turn(NAP, busy, &mut |event| sessions.take(event))?;
            self.read_mail()?;
            self.stalled.retain(|stall| !stall.end_if_over());
            self.tell_systemd(pulse);
        }
        Ok(())
    }

    fn tell_systemd(&self, pulse: &mut Pulse) {
        pulse.beat(Instant::now());
        match (self.leave, &self.told.loading) {
            (Leave::Asked(_) | Leave::Dismissed, _) => pulse.stopping(),
            (Leave::Not, Some(step)) => pulse.status(step),
            (Leave::Not, None) if self.sessions.in_service => pulse.ready(),
            (Leave::Not, None) => {}
        }
    }

    /// Not => Asked => Dismissed; whether it goes now.
    fn may_go(&mut self, stop: &Stop, drain: Duration) -> Result<bool, GuestError> {
        match self.leave {
            Leave::Not if !stop.is_asked() => return Ok(false),
            Leave::Not => {
                self.guest.announce(News::Leaving)?;
                self.leave = Leave::Asked(Instant::now() + drain);
                tracing::info!(sessions = self.sessions.open.len(), "worker_draining");
            }
            Leave::Asked(_) if self.sessions.dismissed => self.leave = Leave::Dismissed,
            Leave::Asked(_) | Leave::Dismissed => {}
        }
        Ok(match self.leave {
            Leave::Not => false,
            Leave::Asked(until) => stop.is_urged() || Instant::now() >= until,
            Leave::Dismissed => true,
        })
    }

    fn tell_news(&mut self) -> Result<(), GuestError> {
        let told = self.sessions.membership.offer.told();
        for news in self.told.news(&told) {
            self.guest.announce(news)?;
        }
        if self.told.loading.is_some() && told.loading.is_none() {
            let types: Vec<&str> = told.nodes.iter().map(|info| info.name.as_str()).collect();
            tracing::info!(types = types.join(", "), "ready");
        }
        self.told = told;
        Ok(())
    }

    fn read_mail(&mut self) -> Result<(), GuestError> {
        while let Some(note) = self.sessions.membership.mailbox.take() {
            match note {
                Note::Reply(reply) => self.guest.reply(reply)?,
                Note::Stalled { stage, lane } => {
                    let session = self.sessions.open.get(&stage).map(Arc::clone);
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
            GuestEvent::Command(StageCommand::Open(plan)) => self.open(plan),
            GuestEvent::Command(StageCommand::Rewire { stage, turn, feeders }) => {
                // One that is not open has failed or is closed: the gateway knows.
                self.open.get(&stage).into_iter().for_each(|session| session.rewire(turn, &feeders));
            }
            GuestEvent::Command(StageCommand::Close { stage }) => self.close(stage),
            GuestEvent::Dismissed => self.dismissed = true,
            GuestEvent::InService => self.in_service = true,
            // The gateway ends the sessions that it took part in, or puts others in its place.
            GuestEvent::PeerDown(member) => tracing::debug!(%member, "peer_down"),
        }
    }

    fn take_arrival(&self, arrival: Arrival) {
        let id = StageId(arrival.header.session);
        match self.open.get(&id) {
            Some(session) => session.post(arrival),
            // An opening is acknowledged before its first frame is sent, so this session has been closed.
            None => tracing::trace!(stage = %id, "frame_of_closed_session_dropped"),
        }
    }

    fn open(&mut self, plan: StagePlan) {
        let id = plan.stage;
        if self.open.contains_key(&id) {
            return self.refuse(id, format!("stage {id} is opened twice"));
        }
        match SessionCell::open(&self.membership, plan) {
            Ok(session) => {
                tracing::debug!(stage = %id, "stage_opening");
                self.open.insert(id, session);
            }
            Err(error) => self.refuse(id, error.to_string()),
        }
    }

    fn close(&mut self, id: StageId) {
        match self.open.remove(&id) {
            Some(session) => session.close(),
            None => self.membership.mailbox.leave(Note::Reply(StageReply::Closed { stage: id })),
        }
    }

    fn refuse(&self, stage: StageId, problem: String) {
        let fault = Fault::Internal { place: "the plan of a stage".to_owned(), problem };
        self.membership.mailbox.leave(Note::Reply(StageReply::Failed { stage, fault }));
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
