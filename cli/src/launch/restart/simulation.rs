//! Children of every temper, over thousands of seeds: whatever they do, they are neither started too often nor
//! forgotten.

use super::*;

/// Lives that are looked at.
const SEEDS: u64 = 5_000;
/// How long each is.
const LIFETIME: Duration = Duration::from_secs(4 * 3_600);
/// In which starts are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

/// What a child tends to do.
struct Temper {
    /// How often of a hundred times it becomes ready.
    ready: u64,
    /// The longest that it loads.
    load: Duration,
    /// The longest that it lives after that.
    life: Duration,
    /// How often of a hundred quarantines somebody ends by hand.
    released: u64,
}

/// A child in the hands of its lifecycle, and what is known of both.
struct Trial {
    life: Lifecycle,
    now: Instant,
    seed: u64,
    dice: Dice,
    temper: Temper,
    process: Option<Process>,
    /// Starts since somebody last released it by hand, or it recovered.
    starts: Vec<Instant>,
    failures: u32,
    quarantines: u32,
}

/// When it does what.
struct Process {
    ready_at: Option<Instant>,
    dies_at: Instant,
}

#[test]
fn no_child_is_started_too_often_or_forgotten_whatever_it_does() {
    for seed in 0..SEEDS {
        let mut trial = Trial::new(seed);
        let end = trial.now + LIFETIME;
        while trial.now < end {
            trial.step();
        }
        trial.put_to_rest();
    }
}

// === impl Dice ===

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll() % 100 < chance
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        let most = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros(self.roll() % (most + 1))
    }
}

// === impl Trial ===

impl Trial {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let seconds = [0, 1, 9, 11, 100, 3_600];
        let mut some = || Duration::from_secs(seconds[usize::try_from(dice.roll() % 6).unwrap()]);
        let (load, life) = (some(), some());
        let temper = Temper { ready: dice.roll() % 101, load, life, released: dice.roll() % 50 };
        let now = Instant::now();
        let life = Lifecycle::new(Patience::default(), now);
        let (starts, process) = (Vec::new(), None);
        Self { life, now, seed, dice, temper, process, starts, failures: 0, quarantines: 0 }
    }

    /// Goes on to whatever comes next.
    fn step(&mut self) {
        let seed = self.seed;
        // Somebody looks in between too.
        if self.dice.percent(30) {
            self.tick();
        }
        match &mut self.process {
            Some(Process { ready_at: ready_at @ Some(_), .. }) => {
                self.now = self.now.max(ready_at.take().unwrap());
                assert_eq!(self.life.on(self.now, Event::Ready), Action::Nothing, "seed {seed}");
            }
            Some(Process { dies_at, ready_at: None }) => {
                self.now = self.now.max(*dies_at);
                self.die();
            }
            None => {
                let due = self.life.wake_at().expect("one that does not run is to be started");
                assert!(due >= self.now, "seed {seed}: it was due and was not started");
                self.now = due;
                self.tick();
                assert!(self.process.is_some(), "seed {seed}: it was not started when it was due");
            }
        }
    }

    fn tick(&mut self) {
        let seed = self.seed;
        match self.life.on(self.now, Event::Tick) {
            Action::Nothing => {}
            Action::Spawn => self.spawn(),
            other @ (Action::Terminate | Action::Kill | Action::Abandon) => {
                panic!("seed {seed}: nobody asked for {other:?}")
            }
        }
    }

    fn spawn(&mut self) {
        let seed = self.seed;
        assert!(self.process.is_none(), "seed {seed}: it runs already");
        self.starts.push(self.now);
        let isolation = Isolation::default();
        let recent = self.starts.iter().filter(|at| self.now.duration_since(**at) < WINDOW).count();
        let most = usize::try_from(isolation.deaths).unwrap();
        assert!(recent <= most, "seed {seed}: {recent} starts in {WINDOW:?}");
        let ready = self.dice.percent(self.temper.ready);
        let loaded = self.now + self.dice.up_to(self.temper.load);
        let dies_at = if ready { loaded + self.dice.up_to(self.temper.life) } else { loaded };
        self.process = Some(Process { ready_at: ready.then_some(loaded), dies_at });
        self.ready_since(ready.then_some(loaded), dies_at);
    }

    /// Whether this life will have been a recovery is known to fate.
    fn ready_since(&mut self, ready: Option<Instant>, dies_at: Instant) {
        let patience = Patience::default();
        if ready.is_some_and(|at| dies_at - at >= patience.recovered_after) {
            self.starts.clear();
            (self.failures, self.quarantines) = (0, 0);
        }
    }

    fn die(&mut self) {
        let (seed, patience) = (self.seed, Patience::default());
        self.process = None;
        self.failures += 1;
        let luck = Luck::from_bits(self.dice.roll());
        assert_eq!(self.life.on(self.now, Event::Exited(luck)), Action::Nothing, "seed {seed}");
        assert_eq!(self.life.failures(), self.failures, "seed {seed}");
        let pause = self.life.wake_at().expect("it is to be started again") - self.now;
        let isolation = Isolation::default();
        if self.life.quarantine().is_none() {
            let longest = patience.first_pause.saturating_mul(1 << (self.failures - 1).min(31));
            let longest = longest.min(patience.longest_pause);
            assert!(pause <= longest && pause >= longest / 2, "seed {seed}: {pause:?} of {longest:?}");
            return;
        }
        assert!(self.failures >= isolation.deaths, "seed {seed}: left alone after {} deaths", self.failures);
        let due = isolation.pause.saturating_mul(1 << self.quarantines.min(31)).min(isolation.longest_pause);
        assert_eq!(pause, due, "seed {seed}");
        self.quarantines += 1;
        if self.dice.percent(self.temper.released) {
            self.now += self.dice.up_to(pause);
            let _nothing = self.life.on(self.now, Event::Release);
            assert_eq!((self.life.quarantine(), self.life.wake_at()), (None, Some(self.now)), "seed {seed}");
            self.starts.clear();
            (self.failures, self.quarantines) = (0, 0);
        }
    }

    /// Asked to stop, or killed, in any state, it is over soon and never started again, whether it obeys or not.
    fn put_to_rest(&mut self) {
        let (seed, patience) = (self.seed, Patience::default());
        let event = if self.dice.percent(50) { Event::Stop } else { Event::Kill };
        let asked = self.now;
        let action = self.life.on(asked, event);
        assert_eq!(action == Action::Nothing, self.process.is_none(), "seed {seed}: {action:?}");
        if self.process.is_some() && self.dice.percent(50) {
            let _nothing = self.life.on(asked, Event::Exited(Luck::from_bits(0)));
        }
        while let Some(due) = self.life.wake_at() {
            assert!(due <= asked + patience.grace + patience.burial, "seed {seed}: not over in time");
            assert_ne!(self.life.on(due, Event::Tick), Action::Spawn, "seed {seed}");
        }
        assert!(self.life.is_over(), "seed {seed}");
        for event in [Event::Tick, Event::Release, Event::Ready, Event::Exited(Luck::from_bits(1))] {
            assert_eq!(self.life.on(asked + LIFETIME, event), Action::Nothing, "seed {seed}");
        }
        assert!(self.life.is_over(), "seed {seed}");
    }
}
