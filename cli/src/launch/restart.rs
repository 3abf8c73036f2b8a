//! When a child process is started, asked to stop, killed: a state machine without I/O. Time and luck are arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long to wait, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// The longest pause before a first restart: a lone crash should cost its pool less than a person notices.
    pub first_pause: Duration,
    /// The longest pause of all: what cannot start must not take the machine with it.
    pub longest_pause: Duration,
    /// Who has been ready for so long has recovered, and the count of failures begins anew.
    pub recovered_after: Duration,
    /// When a child that keeps dying is left alone; never, if none.
    pub quarantine: Option<Isolation>,
    /// From the request to stop to the kill.
    pub grace: Duration,
    /// The same of a worker that another has replaced: its sessions go on, and it bounds them itself.
    pub retirement: Duration,
    /// From the kill to giving up: a process in an uninterruptible system call outlives SIGKILL.
    pub burial: Duration,
}

/// When a child that keeps dying is left alone, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Isolation {
    /// After so many deaths in a row, none of them after a recovery.
    pub deaths: u32,
    /// If they came within this much time: one that dies once a day is no crash loop, though nobody saw it ready.
    pub within: Duration,
    /// For so long; then it is tried once. Doubles each time that the trial fails.
    pub pause: Duration,
    /// The longest such pause: a machine whose fault is mended comes back by itself.
    pub longest_pause: Duration,
}

/// The life of one child that should always run.
#[derive(Debug)]
pub struct Lifecycle {
    patience: Patience,
    state: State,
    /// Deaths since it had recovered.
    failures: u32,
    /// When the last of them were: as many as bring it into quarantine.
    recent: VecDeque<Instant>,
    /// Quarantines since it had recovered.
    quarantines: u32,
}

/// A number in 0.0..1.0 that differs from child to child, so that what died together does not return together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Luck(f64);

/// What happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The process has begun to do what it is there for.
    Ready,
    /// The process is dead and buried, or could not be started at all.
    Exited(Luck),
    /// Somebody has mended what it died of: it is to be started as if it had never died.
    Release,
    /// It should stop, in peace.
    Stop,
    /// It should stop when what it does is done, for another does it from here on.
    Retire,
    /// It should stop now.
    Kill,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Start the process.
    Spawn,
    /// Ask it to stop.
    Terminate,
    /// Kill it.
    Kill,
    /// Wait for it no longer: the kernel does not let go of it.
    Abandon,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    // Waiting => (Running | Over)
    Waiting { until: Instant },
    // Running => (Waiting | Quarantined | Stopping | Killed)
    Running { ready: Option<Instant> },
    // Quarantined => (Running | Waiting | Over)
    Quarantined { since: Instant, until: Instant },
    // Stopping => (Killed | Over)
    Stopping { kill_at: Instant },
    // Killed => Over
    Killed { abandon_at: Instant },
    Over,
}

// === impl Lifecycle ===

impl Lifecycle {
    /// A child that is due to start at `now`.
    #[must_use]
    pub const fn new(patience: Patience, now: Instant) -> Self {
        let state = State::Waiting { until: now };
        Self { patience, state, failures: 0, recent: VecDeque::new(), quarantines: 0 }
    }

    /// Takes an event in, and says what to do.
    #[must_use]
    pub fn on(&mut self, now: Instant, event: Event) -> Action {
        match event {
            Event::Tick => self.on_tick(now),
            Event::Ready => self.on_ready(now),
            Event::Exited(luck) => self.on_exit(now, luck),
            Event::Release => self.on_release(now),
            Event::Stop => self.on_stop(now, self.patience.grace),
            Event::Retire => self.on_stop(now, self.patience.retirement),
            Event::Kill => self.on_kill(now),
        }
    }

    /// From here on it has so much time between the request to stop and the kill.
    pub const fn grant(&mut self, grace: Duration) {
        self.patience.grace = grace;
    }

    /// When the next [`Event::Tick`] is due, if any is.
    #[must_use]
    pub const fn wake_at(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until: at }
            | State::Quarantined { until: at, .. }
            | State::Stopping { kill_at: at }
            | State::Killed { abandon_at: at } => Some(at),
            State::Running { .. } | State::Over => None,
        }
    }

    /// Whether it has stopped for good.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        match self.state {
            State::Over => true,
            State::Waiting { .. }
            | State::Running { .. }
            | State::Quarantined { .. }
            | State::Stopping { .. }
            | State::Killed { .. } => false,
        }
    }

    /// Since when it is in quarantine, and until when; none if it is not.
    #[must_use]
    pub const fn quarantine(&self) -> Option<(Instant, Instant)> {
        match self.state {
            State::Quarantined { since, until } => Some((since, until)),
            State::Waiting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Killed { .. }
            | State::Over => None,
        }
    }

    /// Whether it runs; none if it does not, else whether it is ready.
    #[must_use]
    pub const fn running(&self) -> Option<bool> {
        match self.state {
            State::Running { ready } => Some(ready.is_some()),
            State::Waiting { .. }
            | State::Quarantined { .. }
            | State::Stopping { .. }
            | State::Killed { .. }
            | State::Over => None,
        }
    }

    /// How often it has died since it had recovered.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn on_tick(&mut self, now: Instant) -> Action {
        match self.state {
            State::Waiting { until } | State::Quarantined { until, .. } if now >= until => {
                self.state = State::Running { ready: None };
                Action::Spawn
            }
            State::Stopping { kill_at } if now >= kill_at => self.kill(now),
            State::Killed { abandon_at } if now >= abandon_at => {
                self.state = State::Over;
                Action::Abandon
            }
            State::Waiting { .. }
            | State::Running { .. }
            | State::Quarantined { .. }
            | State::Stopping { .. }
            | State::Killed { .. }
            | State::Over => Action::Nothing,
        }
    }

    /// Only the first time counts.
    fn on_ready(&mut self, now: Instant) -> Action {
        if let State::Running { ready: ready @ None } = &mut self.state {
            *ready = Some(now);
        }
        Action::Nothing
    }

    fn on_exit(&mut self, now: Instant, luck: Luck) -> Action {
        match self.state {
            State::Running { ready } => {
                if ready.is_some_and(|at| now.duration_since(at) >= self.patience.recovered_after) {
                    self.forgive();
                }
                self.fail(now, luck);
            }
            State::Stopping { .. } | State::Killed { .. } => self.state = State::Over,
            State::Waiting { .. } | State::Quarantined { .. } | State::Over => {}
        }
        Action::Nothing
    }

    fn on_release(&mut self, now: Instant) -> Action {
        if self.quarantine().is_some() {
            self.forgive();
            self.state = State::Waiting { until: now };
        }
        Action::Nothing
    }

    fn forgive(&mut self) {
        (self.failures, self.quarantines) = (0, 0);
        self.recent.clear();
    }

    // Running => (Waiting | Quarantined)
    fn fail(&mut self, now: Instant, luck: Luck) {
        self.failures = self.failures.saturating_add(1);
        self.state = match self.isolation(now) {
            Some(pause) => {
                self.quarantines = self.quarantines.saturating_add(1);
                State::Quarantined { since: now, until: now + pause }
            }
            None => State::Waiting { until: now + self.pause(luck) },
        };
    }

    /// How long a child that has died once more is left alone; none if it is not.
    fn isolation(&mut self, now: Instant) -> Option<Duration> {
        let Isolation { deaths, within, pause, longest_pause } = self.patience.quarantine?;
        self.recent.push_back(now);
        let deaths = usize::try_from(deaths).unwrap_or(usize::MAX);
        let beyond = self.recent.len().saturating_sub(deaths);
        self.recent.drain(..beyond);
        let first = self.recent.front().copied().unwrap_or(now);
        let is_loop = self.recent.len() == deaths && now.duration_since(first) <= within;
        // A trial that fails needs no further proof.
        let is_due = is_loop || self.quarantines > 0;
        is_due.then(|| pause.saturating_mul(1 << self.quarantines.min(31)).min(longest_pause))
    }

    fn on_stop(&mut self, now: Instant, grace: Duration) -> Action {
        match self.state {
            State::Waiting { .. } | State::Quarantined { .. } => {
                self.state = State::Over;
                Action::Nothing
            }
            State::Running { .. } => {
                self.state = State::Stopping { kill_at: now + grace };
                Action::Terminate
            }
            // Whoever retires may be asked to hurry.
            State::Stopping { kill_at } => {
                self.state = State::Stopping { kill_at: kill_at.min(now + grace) };
                Action::Nothing
            }
            State::Killed { .. } | State::Over => Action::Nothing,
        }
    }

    fn on_kill(&mut self, now: Instant) -> Action {
        match self.state {
            State::Waiting { .. } | State::Quarantined { .. } => {
                self.state = State::Over;
                Action::Nothing
            }
            State::Running { .. } | State::Stopping { .. } => self.kill(now),
            State::Killed { .. } | State::Over => Action::Nothing,
        }
    }

    fn kill(&mut self, now: Instant) -> Action {
        self.state = State::Killed { abandon_at: now + self.patience.burial };
        Action::Kill
    }

    /// Doubles with every failure, between half and all of it by luck.
    fn pause(&self, luck: Luck) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        let longest =
            self.patience.first_pause.saturating_mul(1 << doublings).min(self.patience.longest_pause);
        longest.mul_f64(0.5 + luck.0 / 2.0)
    }
}

// === impl Luck ===

impl Luck {
    /// From any 64 random bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let upper = u32::try_from(bits >> 32).expect("a number shifted by 32 has 32 bits");
        Self(f64::from(upper) / (f64::from(u32::MAX) + 1.0))
    }
}

// === impl Patience ===

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            recovered_after: Duration::from_secs(10),
            quarantine: Some(Isolation::default()),
            grace: Duration::from_secs(5),
            retirement: Duration::from_secs(600),
            burial: Duration::from_secs(5),
        }
    }
}

// === impl Isolation ===

impl Default for Isolation {
    /// Five deaths of a program that ends at once take less than two seconds; of one that loads for a minute, five
    /// minutes.
    fn default() -> Self {
        Self {
            deaths: 5,
            within: Duration::from_secs(600),
            pause: Duration::from_secs(60),
            longest_pause: Duration::from_secs(900),
        }
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    const UNLUCKY: Luck = Luck(0.999_999);

    /// One that is never left alone.
    fn started() -> (Lifecycle, Instant) {
        started_with(Patience { quarantine: None, ..Patience::default() })
    }

    fn started_with(patience: Patience) -> (Lifecycle, Instant) {
        let now = Instant::now();
        let mut life = Lifecycle::new(patience, now);
        assert_eq!(life.on(now, Event::Tick), Action::Spawn);
        (life, now)
    }

    /// Lets the child die at once `times` times; gives the pause after the last.
    fn crash(life: &mut Lifecycle, now: &mut Instant, times: u32, luck: Luck) -> Duration {
        let mut pause = Duration::ZERO;
        for _ in 0..times {
            assert_eq!(life.on(*now, Event::Exited(luck)), Action::Nothing);
            let due = life.wake_at().unwrap();
            pause = due - *now;
            *now = due;
            assert_eq!(life.on(*now, Event::Tick), Action::Spawn);
        }
        pause
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        for (crashes, expect_ms) in [(1, 100), (2, 200), (3, 400), (7, 6_400), (8, 10_000), (90, 10_000)] {
            let (mut life, mut now) = started();
            let pause = crash(&mut life, &mut now, crashes, UNLUCKY);
            let expect = Duration::from_millis(expect_ms);
            assert!(pause <= expect && pause > expect.mul_f64(0.99), "{crashes} crashes: {pause:?}");
        }
    }

    #[test]
    fn luck_shortens_a_pause_by_no_more_than_half() {
        let (mut life, mut now) = started();
        assert_eq!(crash(&mut life, &mut now, 1, Luck::from_bits(0)), Duration::from_millis(50));
        assert!(Luck::from_bits(u64::MAX).0 < 1.0);
    }

    #[test]
    fn a_child_that_ran_well_is_forgiven_its_failures() {
        let (mut life, mut now) = started();
        crash(&mut life, &mut now, 6, UNLUCKY);
        assert_eq!(life.on(now, Event::Ready), Action::Nothing);
        now += Patience::default().recovered_after;
        assert!(crash(&mut life, &mut now, 1, UNLUCKY) <= Duration::from_millis(100));
    }

    #[test]
    fn a_child_that_loads_for_long_and_dies_has_not_recovered() {
        let (mut life, mut now) = started_with(Patience::default());
        for _ in 0..4 {
            now += Duration::from_secs(60);
            crash(&mut life, &mut now, 1, UNLUCKY);
        }
        now += Duration::from_secs(60);
        let _ = life.on(now, Event::Exited(UNLUCKY));
        assert!(life.quarantine().is_some());
    }

    #[test]
    fn a_child_that_keeps_dying_is_left_alone_then_tried_once_and_left_alone_for_twice_as_long() {
        let isolation = Isolation::default();
        let (mut life, mut now) = started_with(Patience::default());
        crash(&mut life, &mut now, isolation.deaths - 1, UNLUCKY);
        for doublings in [0, 1, 2, 3, 4, 4] {
            assert_eq!(life.quarantine(), None);
            assert_eq!(life.on(now, Event::Exited(UNLUCKY)), Action::Nothing);
            let until = now + (isolation.pause * (1 << doublings)).min(isolation.longest_pause);
            assert_eq!(life.quarantine(), Some((now, until)), "after {doublings} failed trials");
            assert_eq!(life.on(until - Duration::from_millis(1), Event::Tick), Action::Nothing);
            now = until;
            assert_eq!(life.on(now, Event::Tick), Action::Spawn);
        }
        let _ = life.on(now, Event::Ready);
        now += Patience::default().recovered_after;
        assert!(crash(&mut life, &mut now, 1, UNLUCKY) <= Duration::from_millis(100), "the trial went well");
    }

    #[test]
    fn a_child_that_is_released_by_hand_starts_at_once_as_if_it_had_never_died() {
        let (mut life, mut now) = started_with(Patience::default());
        crash(&mut life, &mut now, 4, UNLUCKY);
        let _ = life.on(now, Event::Exited(UNLUCKY));
        assert_eq!((life.quarantine().is_some(), life.failures()), (true, 5));
        assert_eq!(life.on(now, Event::Release), Action::Nothing);
        assert_eq!((life.quarantine(), life.failures()), (None, 0));
        assert_eq!(life.on(now, Event::Tick), Action::Spawn);
        assert!(crash(&mut life, &mut now, 1, UNLUCKY) <= Duration::from_millis(100));
        assert_eq!(life.on(now, Event::Release), Action::Nothing, "it runs: there is nothing to release");
        assert_eq!(life.failures(), 1);
    }

    #[test]
    fn a_tick_before_the_pause_is_over_starts_nothing() {
        let (mut life, now) = started();
        let _ = life.on(now, Event::Exited(UNLUCKY));
        assert_eq!(life.on(now + Duration::from_millis(20), Event::Tick), Action::Nothing);
    }

    #[test]
    fn stopping_asks_then_kills_then_gives_up() {
        let (mut life, mut now) = started();
        assert_eq!(life.on(now, Event::Stop), Action::Terminate);
        assert_eq!(life.on(now, Event::Stop), Action::Nothing);
        now += Patience::default().grace;
        assert_eq!(life.on(now, Event::Tick), Action::Kill);
        assert!(!life.is_over());
        now += Patience::default().burial;
        assert_eq!(life.on(now, Event::Tick), Action::Abandon);
        assert!(life.is_over());
    }

    #[test]
    fn a_child_that_says_how_long_it_takes_to_stop_has_that_time() {
        let (mut life, now) = started();
        life.grant(Duration::from_secs(60));
        assert_eq!(life.on(now, Event::Stop), Action::Terminate);
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_child_that_retires_has_time_unless_it_is_to_stop() {
        let (mut life, mut now) = started();
        let Patience { retirement, grace, .. } = Patience::default();
        assert_eq!(life.on(now, Event::Retire), Action::Terminate);
        assert_eq!(life.wake_at(), Some(now + retirement));
        now += retirement / 2;
        assert_eq!(life.on(now, Event::Stop), Action::Nothing);
        assert_eq!(life.wake_at(), Some(now + grace));
        assert_eq!(life.on(now + grace, Event::Tick), Action::Kill);
    }

    #[test]
    fn a_child_that_stops_when_asked_is_over_and_not_restarted() {
        let (mut life, now) = started();
        let _ = life.on(now, Event::Stop);
        assert_eq!(life.on(now, Event::Exited(UNLUCKY)), Action::Nothing);
        assert!(life.is_over());
        assert_eq!(life.wake_at(), None);
        assert_eq!(life.on(now + Duration::from_secs(60), Event::Tick), Action::Nothing);
    }

    #[test]
    fn a_child_that_waits_for_its_restart_is_over_at_once_when_told_to_stop() {
        for event in [Event::Stop, Event::Kill] {
            let (mut life, now) = started();
            let _ = life.on(now, Event::Exited(UNLUCKY));
            assert_eq!(life.on(now, event), Action::Nothing);
            assert!(life.is_over());
        }
    }

    #[test]
    fn a_kill_cuts_the_grace_short() {
        let (mut life, now) = started();
        assert_eq!(life.on(now, Event::Stop), Action::Terminate);
        assert_eq!(life.on(now, Event::Kill), Action::Kill);
        assert_eq!(life.on(now, Event::Exited(UNLUCKY)), Action::Nothing);
        assert!(life.is_over());
    }
}
