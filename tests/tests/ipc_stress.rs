//! Frames on their way between processes of which one is killed all the time.
#![expect(
    clippy::unwrap_used,
    reason = "the lint knows functions that are tests, and not a test's own helpers"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use remotemedia_ipc::memory::{Geometry, SizeClass};
use remotemedia_ipc::plane::{Arrival, Plane};
use remotemedia_ipc::slot::Member;
use remotemedia_tests::storm::{Act, Dice, Field, Footprint, Parcel, Role, Route, Stop};

/// Guests that live at a time, all linked to each other.
const GUESTS: usize = 4;

/// How long guests are killed, at least.
const STORM: Duration = Duration::from_secs(10);

/// How long at most: a machine that is busy with other things takes longer for [`DEATHS`] and [`PARCELS`].
const LONGEST_STORM: Duration = Duration::from_secs(40);

/// What a storm is too short without: so many deaths, and so many parcels that came home in full.
const DEATHS: usize = 50;
const PARCELS: u64 = 1_000;

/// Parcels under way at a time. All of them on one link, twice over and with their doubles, do not fill it.
const UNDER_WAY: usize = 32;

/// What takes milliseconds must be done in this, also on a machine that is busy with other things: every death is followed by
/// a start, and a burial waits for its turn behind those.
const PATIENCE: Duration = Duration::from_secs(60);

/// Parcels that came home, sent again: blocks that other processes made, dead ones too.
const KEPT: usize = 4;

#[test]
fn frames_stay_whole_and_every_block_comes_back_while_processes_are_killed() {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_test_writer()
        .init();
    let seed = Dice::seed();
    println!("STORM_SEED={seed}");
    let before = Footprint::of_this_process().unwrap();
    let mut storm = Storm::start(seed);
    let (baseline, files) = (Footprint::of_this_process().unwrap(), storm.files());

    storm.rage();
    storm.calm("everything comes home and every block is free");
    println!("{}", storm.post.counts(storm.field.dead().len()));
    assert!(!storm.is_too_short(), "too few died, or too little came home");
    assert!(storm.field.exits().is_empty(), "guests ended by themselves: {:?}", storm.field.exits());
    assert_eq!(storm.settled(baseline.counts()), baseline.counts());
    assert_eq!(storm.settled_files(&files), files, "files of as many guests, by their ends");

    storm.end();
    // The kernel counts a thread that has been joined for a moment more.
    let give_up = Instant::now() + PATIENCE;
    while Footprint::of_this_process().unwrap() != before && Instant::now() < give_up {
        std::thread::yield_now();
    }
    assert_eq!(Footprint::of_this_process().unwrap(), before);
}

struct Storm {
    field: Field,
    plane: Plane,
    dice: Dice,
    post: Post,
}

/// What is under way, as the gateway knows it.
#[derive(Default)]
struct Post {
    next: u64,
    open: BTreeMap<u64, Letter>,
    /// Somebody on their way died: they may come home or not, but not more often than they could.
    doubtful: BTreeMap<u64, usize>,
    kept: Vec<Parcel>,
    completed: u64,
    survived: u64,
}

struct Letter {
    missing: usize,
    route: Route,
    since: Instant,
}

// === impl Storm ===

impl Storm {
    fn start(seed: u64) -> Self {
        let class = |block_bytes, blocks| SizeClass { block_bytes, blocks };
        let pool =
            Geometry::new(vec![class(4 << 10, 512), class(64 << 10, 48), class(256 << 10, 24)]).unwrap();
        let field = Field::start(env!("CARGO_BIN_EXE_storm-guest"), pool.clone(), pool);
        let plane = field.plane();
        let mut storm = Self { field, plane, dice: Dice::seeded(seed), post: Post::default() };
        for _ in 0..GUESTS {
            storm.field.spawn(&Role::Serve);
        }
        storm.calm("the first guests are linked");
        storm
    }

    /// Sends nothing, and turns until all is at rest: as many guests as there should be, all linked, no block held by
    /// anybody, no pool and no file left of the dead.
    fn calm(&mut self, what: &str) {
        let Self { field, post, plane, .. } = self;
        let mut arrivals = Vec::new();
        let give_up = Instant::now() + PATIENCE;
        loop {
            field.turn(Duration::from_millis(5), &mut |arrival| arrivals.push(arrival));
            for arrival in arrivals.drain(..) {
                post.receive(arrival);
            }
            post.kept.clear();
            post.mourn(field);
            field.mesh();
            let living = field.joined().count() + 1;
            let pools = plane.pools();
            let quiet = post.open.is_empty()
                && plane.in_flight() == 0
                && pools.len() == living
                && pools.iter().all(|pool| pool.is_idle());
            if clique(field).len() == GUESTS && living == GUESTS + 1 && quiet && field.is_clean() {
                return;
            }
            assert!(
                Instant::now() < give_up,
                "{what}: not in {PATIENCE:?}: {} open, {} in flight, {pools:?}, {:?}, {field:?}",
                post.open.len(),
                plane.in_flight(),
                pools.iter().map(|pool| pool.usage()).collect::<Vec<_>>(),
            );
        }
    }

    /// How many files the domain has, by what their names end with.
    fn files(&self) -> BTreeMap<String, usize> {
        let mut by_end = BTreeMap::new();
        for path in self.field.residue() {
            let end = path.extension().map_or_else(String::new, |end| end.to_string_lossy().into_owned());
            *by_end.entry(end).or_default() += 1;
        }
        by_end
    }

    /// The same when they are as many as expected, or when what a death leaves half-made had time to go.
    fn settled_files(&mut self, expected: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let files = self.files();
            if files == *expected || Instant::now() >= give_up {
                return files;
            }
            self.field.turn(Duration::from_millis(50), &mut |_arrival| {});
        }
    }

    /// How many there are of everything in this process, when there are as many as that, or will not be: what is known of
    /// the last to die is held until the kernel has said of what.
    fn settled(&mut self, expected: [usize; 4]) -> [usize; 4] {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let counts = Footprint::of_this_process().unwrap().counts();
            if counts == expected || Instant::now() >= give_up {
                return counts;
            }
            self.field.turn(Duration::from_millis(5), &mut |_arrival| {});
        }
    }

    fn rage(&mut self) {
        let start = Instant::now();
        let mut next_kill = Instant::now();
        let mut arrivals = Vec::new();
        while start.elapsed() < STORM || (self.is_too_short() && start.elapsed() < LONGEST_STORM) {
            self.field.turn(Duration::from_millis(2), &mut |arrival| arrivals.push(arrival));
            for arrival in arrivals.drain(..) {
                self.post.receive(arrival);
            }
            self.post.mourn(&self.field);
            self.field.mesh();
            let clique = clique(&self.field);
            self.post.send(&self.plane, &mut self.dice, &clique);
            if Instant::now() >= next_kill {
                self.kill_one();
                next_kill = Instant::now() + Duration::from_millis(self.dice.within(50..100));
            }
        }
    }

    fn is_too_short(&self) -> bool {
        self.field.dead().len() < DEATHS || self.post.completed < PARCELS
    }

    fn kill_one(&mut self) {
        let joined: Vec<Member> = self.field.joined().collect();
        let victim = self.dice.pick(&joined).and_then(|victim| self.field.pid_of(*victim));
        if let Some(pid) = victim.filter(|pid| !self.field.doomed().contains_key(pid)) {
            self.field.kill(pid);
            self.field.spawn(&Role::Serve);
        }
    }

    fn end(self) {
        let Self { mut field, plane, .. } = self;
        for member in field.joined().collect::<Vec<_>>() {
            let pid = field.pid_of(member).unwrap();
            field.kill(pid);
        }
        field.until("all are dead and buried", PATIENCE, &mut |_| {}, |field| {
            field.joined().count() == 0 && plane.pools().len() == 1 && field.is_clean()
        });
        drop(plane);
        assert_eq!(field.close(), Vec::<std::path::PathBuf>::new());
    }
}

/// Members who are all linked to each other, and so know each other's pools.
fn clique(field: &Field) -> Vec<Member> {
    field.joined().fold(Vec::new(), |mut clique: Vec<Member>, member| {
        if clique.iter().all(|other| field.linked(member, *other)) {
            clique.push(member);
        }
        clique
    })
}

// === impl Post ===

impl Post {
    fn send(&mut self, plane: &Plane, dice: &mut Dice, clique: &[Member]) {
        while !clique.is_empty() && self.open.len() < UNDER_WAY {
            let route = route(dice, clique);
            let Some(parcel) = self.parcel(plane, dice, &route) else { return };
            match parcel.send(plane, Instant::now() + PATIENCE) {
                Ok(()) => {
                    let letter = Letter { missing: route.copies(), route, since: Instant::now() };
                    self.open.insert(parcel.number, letter);
                }
                // Its death is not announced yet.
                Err(error) if error.is_of_dead(plane) => return,
                Err(error) => panic!("a parcel was not taken: {error}"),
            }
        }
    }

    /// A new one, or one that came home, under a new number.
    fn parcel(&mut self, plane: &Plane, dice: &mut Dice, route: &Route) -> Option<Parcel> {
        self.next += 1;
        if dice.within(0..3) == 0
            && let Some(kept) = dice.pick(&self.kept)
        {
            return Some(kept.anew(self.next, route.clone()));
        }
        let bytes = match dice.within(0..4) {
            0 => dice.within(8..256),
            1 => dice.within(100_000..250_000),
            _ => dice.within(1_000..60_000),
        };
        let bytes = usize::try_from(bytes).unwrap();
        let deadline = Instant::now() + PATIENCE;
        Some(Parcel::produce(plane, dice, self.next, bytes, route.clone(), deadline).unwrap())
    }

    fn receive(&mut self, arrival: Arrival) {
        let number = arrival.header.sequence;
        // What a dead process sent may be lost with it, and whose it was is known by the parcels that stay away.
        let Some(parcel) = Parcel::open(arrival).unwrap() else { return };
        if let Some(letter) = self.open.get_mut(&number) {
            letter.missing -= 1;
            if letter.missing == 0 {
                self.open.remove(&number);
                self.completed += 1;
            }
        } else {
            let left = self.doubtful.get_mut(&number).filter(|left| **left > 0);
            *left.unwrap_or_else(|| panic!("parcel {number} came home too often")) -= 1;
            self.survived += 1;
        }
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push(parcel);
    }

    /// What had a dead process on its way may be lost; nothing else may.
    fn mourn(&mut self, field: &Field) {
        let Self { open, doubtful, .. } = self;
        open.retain(|number, letter| {
            let hit = letter.route.0.iter().any(|stop| field.dead().contains(&stop.at));
            if hit {
                doubtful.insert(*number, letter.missing);
            }
            assert!(
                hit || letter.since.elapsed() < PATIENCE,
                "parcel {number} by way of {} never came home, and nobody on its way has died",
                letter.route
            );
            !hit
        });
    }

    fn counts(&self, dead: usize) -> String {
        format!(
            "{dead} died, {} parcels came home in full, {} had a dead process on their way, of which {} copies came",
            self.completed,
            self.doubtful.len(),
            self.survived
        )
    }
}

/// Some of them in any order, each with something to do.
fn route(dice: &mut Dice, clique: &[Member]) -> Route {
    let mut members = clique.to_vec();
    dice.shuffle(&mut members);
    members.truncate(usize::try_from(dice.within(1..members.len() as u64 + 1)).unwrap());
    let stop = |at| Stop { at, act: *dice.pick(&Act::ALL).unwrap() };
    Route(members.into_iter().map(stop).collect())
}
