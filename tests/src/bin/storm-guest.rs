//! A guest of a domain under test: serves parcels as their routes say until the gateway is gone.
//!
//! `storm-guest RUNTIME_DIR serve | chatter MEMBER... | part | quit CODE`

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use remotemedia_ipc::control::messages::{Hello, PROTOCOL};
use remotemedia_ipc::guest::{Guest, GuestError, GuestEvent};
use remotemedia_ipc::plane::{Plane, SendError};
use remotemedia_tests::storm::{Act, Dice, Parcel, ParcelError, Route, Stop, exit};

/// How long a guest waits for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Parcels held at a time, and for how long at most.
const HELD: usize = 8;
const HOLD: Duration = Duration::from_millis(20);

/// What a chatterer has under way at a time.
const CHATTER: usize = 16;

fn main() -> ExitCode {
    // A test that is killed leaves no guest behind, whatever the guest does at that moment.
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        return exit::USAGE.into();
    }
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().map(PathBuf::from);
    let words: Option<Vec<String>> = arguments.map(|word| word.into_string().ok()).collect();
    let (Some(directory), Some(words)) = (directory, words) else { return exit::USAGE.into() };
    let Some(part) = part(&words) else { return exit::USAGE.into() };
    let hello = Hello {
        protocol: PROTOCOL,
        name: format!("storm {}", std::process::id()),
        kind: "test".to_owned(),
        nodes: Vec::new(),
        loading: None,
        invocation: None,
    };
    let ended = Guest::join(&directory, hello, Instant::now() + PATIENCE)
        .map_err(Ended::Membership)
        .and_then(|guest| Storm::new(guest, part).serve());
    match ended {
        Ok(code) => code.into(),
        Err(ended) => ended.tell(),
    }
}

/// What there is to do apart from serving.
enum Part {
    Nothing,
    Chatter(Chatter),
    /// At the first parcel: leave, and live on.
    Leave,
    /// At the first parcel: exit with this code.
    Quit(u8),
}

fn part(words: &[String]) -> Option<Part> {
    let (role, rest) = words.split_first()?;
    match (role.as_str(), rest) {
        ("serve", []) => Some(Part::Nothing),
        ("part", []) => Some(Part::Leave),
        ("quit", [code]) => Some(Part::Quit(code.parse().ok()?)),
        ("chatter", members) => {
            let routes = members.iter().map(|member| format!("{member}f").parse::<Route>().ok());
            let routes = routes.chain([Some(Route::default())]).collect::<Option<_>>()?;
            Some(Part::Chatter(Chatter { routes, said: 0 }))
        }
        _ => None,
    }
}

struct Storm {
    guest: Guest,
    plane: Plane,
    dice: Dice,
    held: VecDeque<(Parcel, Instant)>,
    part: Part,
}

/// Whoever sends without being asked.
struct Chatter {
    routes: Vec<Route>,
    said: u64,
}

/// Why a guest is no guest any more.
enum Ended {
    Membership(GuestError),
    Parcel(ParcelError),
    LostOfLiving,
}

// === impl Storm ===

impl Storm {
    fn new(guest: Guest, part: Part) -> Self {
        let plane = guest.plane().clone();
        let dice = Dice::seeded(u64::from(std::process::id()));
        Self { guest, plane, dice, held: VecDeque::new(), part }
    }

    fn serve(mut self) -> Result<u8, Ended> {
        let mut arrivals = Vec::new();
        loop {
            let turned = self.guest.turn(Duration::from_millis(5), || false, &mut |event| match event {
                GuestEvent::Arrival(arrival) => arrivals.push(arrival),
                GuestEvent::Command(_)
                | GuestEvent::PeerDown(_)
                | GuestEvent::Dismissed
                | GuestEvent::InService => {}
            });
            turned.map_err(Ended::Membership)?;
            match self.part {
                Part::Leave if !arrivals.is_empty() => {
                    drop((arrivals, self));
                    live_on();
                    return Ok(exit::OVER);
                }
                Part::Quit(code) if !arrivals.is_empty() => return Ok(code),
                Part::Nothing | Part::Chatter(_) | Part::Leave | Part::Quit(_) => {}
            }
            for arrival in arrivals.drain(..) {
                if let Some(parcel) = Parcel::open(arrival).map_err(Ended::Parcel)? {
                    self.serve_one(parcel)?;
                }
            }
            self.let_go()?;
            self.chat()?;
            if self.plane.lost_of_living() > 0 {
                return Err(Ended::LostOfLiving);
            }
        }
    }

    fn serve_one(&mut self, parcel: Parcel) -> Result<(), Ended> {
        // A chatterer's parcel for us alone has no stop: it was ours to look at.
        let Some(Stop { at: _, act }) = parcel.route.0.first().copied() else { return Ok(()) };
        let rest = parcel.route.rest();
        let onward = parcel.onward(rest.clone());
        match act {
            Act::Forward => self.send(&onward),
            Act::Hold => {
                self.held.push_back((onward, Instant::now()));
                Ok(())
            }
            Act::Slice => self.send(&onward.halved()),
            Act::Renew => {
                let (number, bytes) = (onward.number, onward.payload.len());
                drop(onward);
                let deadline = Instant::now() + PATIENCE;
                let new = Parcel::produce(&self.plane, &mut self.dice, number, bytes, rest, deadline);
                self.send(&new.map_err(Ended::Parcel)?)
            }
            Act::Fork => {
                self.send(&onward)?;
                self.send(&onward.onward(rest.rest()))
            }
        }
    }

    /// Sends what was held long enough, unchanged meanwhile.
    fn let_go(&mut self) -> Result<(), Ended> {
        while let Some((_, since)) = self.held.front()
            && (self.held.len() > HELD || since.elapsed() > HOLD)
        {
            let Some((parcel, _)) = self.held.pop_front() else { return Ok(()) };
            parcel.check().map_err(Ended::Parcel)?;
            self.send(&parcel)?;
        }
        Ok(())
    }

    fn chat(&mut self) -> Result<(), Ended> {
        let Part::Chatter(chatter) = &mut self.part else { return Ok(()) };
        while self.plane.in_flight() < CHATTER {
            chatter.said += 1;
            let number = u64::from(std::process::id()) << 32 | chatter.said;
            let route = self.dice.pick(&chatter.routes).cloned().unwrap_or_default();
            let (bytes, deadline) = (self.dice.within(8..20_000), Instant::now() + PATIENCE);
            let bytes = usize::try_from(bytes).unwrap_or_default();
            let new = Parcel::produce(&self.plane, &mut self.dice, number, bytes, route, deadline);
            match new.map_err(Ended::Parcel)?.send(&self.plane, deadline) {
                Ok(()) => {}
                // The link is not up yet, or its other end is dead.
                Err(ParcelError::Send(SendError::NotConnected { .. })) => return Ok(()),
                Err(other) => return self.judge(other),
            }
        }
        Ok(())
    }

    fn send(&self, parcel: &Parcel) -> Result<(), Ended> {
        parcel.send(&self.plane, Instant::now() + PATIENCE).or_else(|error| self.judge(error))
    }

    /// What cannot be sent to the dead is dropped.
    fn judge(&self, error: ParcelError) -> Result<(), Ended> {
        if error.is_of_dead(&self.plane) { Ok(()) } else { Err(Ended::Parcel(error)) }
    }
}

// === impl Ended ===

impl Ended {
    #[expect(clippy::print_stderr, reason = "whoever started this reads there why it ended")]
    fn tell(self) -> ExitCode {
        let (code, problem) = match &self {
            Self::Membership(GuestError::GatewayGone) => return exit::OVER.into(),
            Self::Membership(error @ GuestError::Refused { .. }) => (exit::REFUSED, text(error)),
            Self::Membership(error) => (exit::MEMBERSHIP, text(error)),
            Self::Parcel(error) => (exit::PARCEL, text(error)),
            Self::LostOfLiving => (exit::LOST_OF_LIVING, "a frame of a living sender was refused".to_owned()),
        };
        eprintln!("storm-guest {}: {problem}", std::process::id());
        code.into()
    }
}

/// Until somebody puts an end to it, or nobody has done so for long.
fn live_on() {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::park_timeout(PATIENCE);
    }
}

fn text(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", text(cause)),
        None => error.to_string(),
    }
}
