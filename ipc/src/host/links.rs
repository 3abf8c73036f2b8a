//! How far the handshake of each link is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::control::messages::Step;
use crate::link::LinkService;
use crate::slot::Member;

/// All links of a domain, by sender and receiver. The order of the steps is that of [`crate::link`].
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<(Member, Member), Link>);

/// What comes after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Somebody must take the next step.
    Do { at: Member, step: Step },
    /// The link stands.
    Up { from: Member, to: Member },
}

/// A link, whole or half made.
#[derive(Debug)]
pub(super) struct Link {
    _service: LinkService,
    phase: Phase,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Subscribing,
    Publishing,
    Settling,
    Up,
}

/// The process at the other end of the one that takes a step.
pub(super) const fn other_end(step: Step) -> Member {
    match step {
        Step::Subscribe { from } | Step::Settle { from } => from,
        Step::Publish { to } => to,
    }
}

// === impl Links ===

impl Links {
    pub(super) fn has(&self, from: Member, to: Member) -> bool {
        self.0.contains_key(&(from, to))
    }

    pub(super) fn is_up(&self, from: Member, to: Member) -> bool {
        self.0.get(&(from, to)).is_some_and(|link| link.phase == Phase::Up)
    }

    /// Nothing => Subscribing
    pub(super) fn begin(&mut self, from: Member, to: Member, service: LinkService) -> Next {
        let link = Link { _service: service, phase: Phase::Subscribing, since: Instant::now() };
        self.0.insert((from, to), link);
        Next::Do { at: to, step: Step::Subscribe { from } }
    }

    /// Subscribing => Publishing => Settling => Up. None if nobody has asked for this step now.
    pub(super) fn done(&mut self, at: Member, step: Step) -> Option<Next> {
        let (from, to) = match step {
            Step::Subscribe { from } | Step::Settle { from } => (from, at),
            Step::Publish { to } => (at, to),
        };
        let link = self.0.get_mut(&(from, to))?;
        let (phase, next) = match (link.phase, step) {
            (Phase::Subscribing, Step::Subscribe { .. }) => {
                (Phase::Publishing, Next::Do { at: from, step: Step::Publish { to } })
            }
            (Phase::Publishing, Step::Publish { .. }) => {
                (Phase::Settling, Next::Do { at: to, step: Step::Settle { from } })
            }
            (Phase::Settling, Step::Settle { .. }) => (Phase::Up, Next::Up { from, to }),
            (Phase::Subscribing | Phase::Publishing | Phase::Settling | Phase::Up, _) => return None,
        };
        link.phase = phase;
        link.since = Instant::now();
        Some(next)
    }

    /// The process at one end is dead. Gives its links, which to drop means to remove files.
    pub(super) fn sever_all_of(&mut self, member: Member) -> Vec<Link> {
        let theirs = self.0.extract_if(.., |(from, to), _| *from == member || *to == member);
        theirs.map(|(_, link)| link).collect()
    }

    /// Those who owe a step for longer than it may take.
    pub(super) fn overdue(&self, limit: Duration) -> BTreeSet<Member> {
        let late = self.0.iter().filter(|(_, link)| link.since.elapsed() > limit);
        late.filter_map(|((from, to), link)| match link.phase {
            Phase::Subscribing | Phase::Settling => Some(*to),
            Phase::Publishing => Some(*from),
            Phase::Up => None,
        })
        .collect()
    }
}
