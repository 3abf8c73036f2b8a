//! Where a parcel goes, and what is done with it there.

use std::fmt;
use std::str::FromStr;

use remotemedia_ipc::slot::{Incarnation, Member, Slot};

/// The stops that are left. After the last a parcel goes home, to the gateway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Route(pub Vec<Stop>);

/// One guest on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The guest.
    pub at: Member,
    /// What it does.
    pub act: Act,
}

/// What a guest does with a parcel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Passes it on by reference.
    Forward,
    /// Holds it for a while, then passes it on.
    Hold,
    /// Passes on the first half of its payload, by reference.
    Slice,
    /// Makes a new payload in its own pool, and sends that instead.
    Renew,
    /// Passes it on to the next stop, and a second copy to the stop after that; both by reference.
    Fork,
}

/// What was read is no route.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{text}' is no stop, expected <slot>.<incarnation><one of f h s r k>")]
pub struct BadRoute {
    /// The part that is not understood.
    pub text: String,
}

// === impl Route ===

impl Route {
    /// Who is next, or none if it is the gateway.
    #[must_use]
    pub fn next(&self) -> Option<Member> {
        Some(self.0.first()?.at)
    }

    /// Without its first stop.
    #[must_use]
    pub fn rest(&self) -> Self {
        Self(self.0.iter().skip(1).copied().collect())
    }

    /// How many parcels come home of one that is sent.
    #[must_use]
    pub fn copies(&self) -> usize {
        match self.0.first() {
            None => 1,
            Some(Stop { act: Act::Fork, .. }) => self.rest().copies() + self.rest().rest().copies(),
            Some(Stop { act: Act::Forward | Act::Hold | Act::Slice | Act::Renew, .. }) => {
                self.rest().copies()
            }
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Stop { at, act }) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}{at}{}", act.letter())?;
        }
        Ok(())
    }
}

impl FromStr for Route {
    type Err = BadRoute;

    fn from_str(text: &str) -> Result<Self, BadRoute> {
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Stop {
    type Err = BadRoute;

    fn from_str(text: &str) -> Result<Self, BadRoute> {
        let parsed = || {
            let act = Act::ALL.into_iter().find(|act| text.ends_with(act.letter()))?;
            let (slot, incarnation) = text.strip_suffix(act.letter())?.split_once('.')?;
            let slot = Slot::new(slot.parse().ok()?).ok()?;
            let at = Member { slot, incarnation: Incarnation::new(incarnation.parse().ok()?) };
            Some(Self { at, act })
        };
        parsed().ok_or_else(|| BadRoute { text: text.to_owned() })
    }
}

// === impl Act ===

impl Act {
    /// Every act there is.
    pub const ALL: [Self; 5] = [Self::Forward, Self::Hold, Self::Slice, Self::Renew, Self::Fork];

    const fn letter(self) -> char {
        match self {
            Self::Forward => 'f',
            Self::Hold => 'h',
            Self::Slice => 's',
            Self::Renew => 'r',
            Self::Fork => 'k',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_reads_as_it_is_written_and_knows_how_many_copies_come_home() {
        let check = |text: &str, copies: usize| {
            let route: Route = text.parse().unwrap();
            assert_eq!((route.to_string().as_str(), route.copies()), (text, copies));
        };
        check("", 1);
        check("1.1f 2.7h", 1);
        check("1.1k", 2);
        check("1.1k 2.1k 3.1r", 3);
        assert_eq!("1.1x".parse::<Route>(), Err(BadRoute { text: "1.1x".to_owned() }));
        assert_eq!("99.1f".parse::<Route>(), Err(BadRoute { text: "99.1f".to_owned() }));
    }
}
