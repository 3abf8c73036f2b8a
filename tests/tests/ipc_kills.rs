//! A thousand processes killed while they start, connect and send, beside two that go on working.
#![expect(
    clippy::unwrap_used,
    reason = "the lint knows functions that are tests, and not a test's own helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use remotemedia_ipc::memory::{Geometry, SizeClass};
use remotemedia_ipc::plane::{Arrival, Plane};
use remotemedia_ipc::slot::{Member, SLOTS};
use remotemedia_tests::storm::{Act, Dice, Field, Footprint, Parcel, Role, Route, Stop, exit};

/// Processes killed.
const KILLS: usize = 1_000;

/// Killed between two looks for what is left of them.
const ROUND: usize = 20;

/// Alive at a time.
const AT_A_TIME: usize = 4;

/// A victim is killed in so many microseconds from its start.
const LIFE_US: u64 = 60_000;

/// What takes milliseconds must be done in this: a survivor's round trip, a burial.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn survivors_serve_and_nothing_is_left_of_a_thousand_killed_while_they_start_connect_and_send() {
    let warnings = tracing_subscriber::filter::LevelFilter::WARN;
    tracing_subscriber::fmt().with_max_level(warnings).with_test_writer().init();
    let seed = Dice::seed();
    println!("STORM_SEED={seed}");
    let before = Footprint::of_this_process().unwrap();
    let mut scene = Scene::start(seed);
    let baseline = scene.look();

    let mut killed = 0;
    while killed < KILLS {
        scene.kill(ROUND);
        scene.rest(&baseline);
        killed += ROUND;
    }
    println!("{}", scene.census());
    scene.assert_all_phases_were_hit();

    scene.fill();
    scene.rest(&baseline);
    println!("{}", scene.census());
    scene.end();
    assert_eq!(Footprint::of_this_process().unwrap(), before);
}

struct Scene {
    field: Field,
    plane: Plane,
    dice: Dice,
    survivors: [Member; 2],
    echo: Echo,
    /// Of all victims, who had joined.
    joined: BTreeSet<i32>,
    /// And who had got a frame through to the gateway.
    heard: BTreeSet<i32>,
}

/// What must be the same again.
#[derive(PartialEq, Eq, Debug)]
struct Look {
    counts: [usize; 4],
    files: BTreeSet<PathBuf>,
    pools: usize,
}

/// Parcels that go round by way of the survivors, all the time.
#[derive(Default)]
struct Echo {
    next: u64,
    under_way: BTreeMap<u64, Instant>,
    came: u64,
    longest: Duration,
}

/// Echoes under way at a time.
const ECHOES: usize = 4;

// === impl Scene ===

impl Scene {
    fn start(seed: u64) -> Self {
        let class = |block_bytes, blocks| SizeClass { block_bytes, blocks };
        let pool = Geometry::new(vec![class(4 << 10, 192), class(64 << 10, 16)]).unwrap();
        let mut field = Field::start(env!("CARGO_BIN_EXE_storm-guest"), pool.clone(), pool);
        let plane = field.plane();
        field.spawn(&Role::Serve);
        field.spawn(&Role::Serve);
        field.until("the survivors are linked", PATIENCE, &mut |_| {}, |field| {
            let joined: Vec<Member> = field.joined().collect();
            field.mesh();
            matches!(joined[..], [one, other] if field.linked(one, other))
        });
        let survivors = field.joined().collect::<Vec<_>>().try_into().unwrap();
        let (joined, heard) = (BTreeSet::new(), BTreeSet::new());
        let dice = Dice::seeded(seed);
        Self { field, plane, dice, survivors, echo: Echo::default(), joined, heard }
    }

    fn look(&self) -> Look {
        Look {
            counts: Footprint::of_this_process().unwrap().counts(),
            files: self.field.residue(),
            pools: self.plane.pools().len(),
        }
    }

    /// One turn, in which the survivors are kept at work.
    fn turn(&mut self) {
        let Self { field, plane, dice, survivors, echo, joined, heard } = self;
        let mut arrivals = Vec::new();
        field.turn(Duration::from_millis(1), &mut |arrival| arrivals.push(arrival));
        for arrival in arrivals {
            // A chatterer's numbers begin with its pid, an echo's with nothing.
            match i32::try_from(arrival.header.sequence >> 32).unwrap() {
                0 => echo.receive(arrival),
                pid => {
                    if Parcel::open(arrival).unwrap().is_some() {
                        heard.insert(pid);
                    }
                }
            }
        }
        let all: Vec<Member> = field.joined().collect();
        joined.extend(all.iter().filter_map(|member| field.pid_of(*member)));
        if all.len() <= survivors.len() + AT_A_TIME {
            // Victims with each other too: both ends of a link die while it is made.
            field.mesh();
        }
        echo.send(plane, dice, survivors);
        assert!(field.exits().is_empty(), "guests ended by themselves: {:?}", field.exits());
    }

    /// Starts as many chatterers, and kills each in its own time.
    fn kill(&mut self, count: usize) {
        let mut left = count;
        let mut doomed: Vec<(i32, Instant)> = Vec::new();
        while left > 0 || !doomed.is_empty() {
            while left > 0 && doomed.len() < AT_A_TIME {
                let pid = self.field.spawn(&Role::Chatter(self.survivors.to_vec()));
                let life = Duration::from_micros(self.dice.within(0..LIFE_US));
                doomed.push((pid, Instant::now() + life));
                left -= 1;
            }
            doomed.retain(|(pid, at)| {
                let lives = Instant::now() < *at;
                if !lives {
                    self.field.kill(*pid);
                }
                lives
            });
            self.turn();
        }
    }

    /// Turns until everything is as it was.
    fn rest(&mut self, baseline: &Look) {
        let give_up = Instant::now() + PATIENCE;
        let quiet = |scene: &Self| {
            scene.field.reaped() && scene.field.is_clean() && scene.field.joined().count() == 2
        };
        while !(quiet(self) && self.look() == *baseline) {
            if Instant::now() >= give_up {
                assert_eq!(&self.look(), baseline, "not at rest in {PATIENCE:?}: {:?}", self.field);
                panic!("not at rest in {PATIENCE:?}: {:?}", self.field);
            }
            self.turn();
        }
    }

    fn census(&self) -> String {
        format!(
            "{} killed: {} had been admitted, {} joined, {} heard; {} round trips, the longest {:?}",
            self.field.doomed().len(),
            self.field.dead().len(),
            self.joined.len() - self.survivors.len(),
            self.heard.len(),
            self.echo.came,
            self.echo.longest,
        )
    }

    /// Some of them died before they were admitted, some while they joined, some while they sent.
    fn assert_all_phases_were_hit(&self) {
        let (killed, admitted) = (self.field.doomed().len(), self.field.dead().len());
        let joined = self.joined.len() - self.survivors.len();
        let phases = [killed - admitted, admitted - joined, self.heard.len()];
        let enough = phases.iter().all(|phase| *phase >= KILLS / 50);
        assert!(enough, "before admission, joining, sending: {phases:?}");
    }

    /// Every slot can be used: as many guests as there is room for join, the next is refused, and all work.
    fn fill(&mut self) {
        let room = SLOTS - 1 - self.survivors.len();
        let guests: Vec<i32> = (0..room).map(|_| self.field.spawn(&Role::Chatter(Vec::new()))).collect();
        let give_up = Instant::now() + PATIENCE;
        while !guests.iter().all(|pid| self.heard.contains(pid)) {
            assert!(Instant::now() < give_up, "not all are heard in {PATIENCE:?}: {:?}", self.field);
            self.turn();
        }
        let refused = self.field.spawn(&Role::Serve);
        self.field.until("one more is refused", PATIENCE, &mut |_| {}, |field| {
            field.exits().get(&refused) == Some(&Some(i32::from(exit::REFUSED)))
        });
        self.field.forget_exit(refused);
        guests.iter().for_each(|pid| self.field.kill(*pid));
    }

    fn end(self) {
        let Self { mut field, plane, survivors, .. } = self;
        for survivor in survivors {
            field.kill(field.pid_of(survivor).unwrap());
        }
        field.until("all are dead and buried", PATIENCE, &mut |_| {}, |field| {
            field.joined().count() == 0 && field.reaped() && plane.pools().len() == 1 && field.is_clean()
        });
        drop(plane);
        assert_eq!(field.close(), Vec::<PathBuf>::new());
    }
}

// === impl Echo ===

impl Echo {
    fn send(&mut self, plane: &Plane, dice: &mut Dice, survivors: &[Member; 2]) {
        while self.under_way.len() < ECHOES {
            self.next += 1;
            let stop = |at| Stop { at, act: Act::Forward };
            let route = match self.next % 3 {
                0 => Route(vec![stop(survivors[0]), stop(survivors[1])]),
                1 => Route(vec![stop(survivors[0])]),
                _ => Route(vec![stop(survivors[1])]),
            };
            let parcel =
                Parcel::produce(plane, dice, self.next, 4_000, route, Instant::now() + PATIENCE).unwrap();
            parcel.send(plane, Instant::now() + PATIENCE).unwrap();
            self.under_way.insert(self.next, Instant::now());
        }
        let oldest = self.under_way.values().min().map_or(Duration::ZERO, Instant::elapsed);
        assert!(oldest < PATIENCE, "a survivor does not answer");
    }

    fn receive(&mut self, arrival: Arrival) {
        let parcel = Parcel::open(arrival).unwrap().expect("an echo is a parcel");
        let sent = self.under_way.remove(&parcel.number).expect("an echo comes once");
        self.longest = self.longest.max(sent.elapsed());
        self.came += 1;
    }
}
