//! When a child process is started, asked to stop, killed: a state machine without I/O. Time and luck are arguments.

use std::time::{Duration, Instant};

/// How long to wait, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// The longest pause before a first restart: a lone crash should cost its pool less than a person notices.
    pub first_pause: Duration,
    /// The longest pause of all: what cannot start must not take the machine with it.
    pub longest_pause: Duration,
    /// Who has run for so long has recovered, and the count of failures begins anew.
    pub recovered_after: Duration,
    /// From the request to stop to the kill.
    pub grace: Duration,
    /// From the kill to giving up: a process in an uninterruptible system call outlives SIGKILL.
    pub burial: Duration,
}

/// The life of one child that should always run.
#[derive(Debug)]
pub struct Lifecycle {
    patience: Patience,
    state: State,
    failures: u32,
}

/// A number in 0.0..1.0 that differs from child to child, so that what died together does not return together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Luck(f64);

/// What happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The process is dead and buried, or could not be started at all.
    Exited(Luck),
    /// It should stop, in peace.
    Stop,
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
    // Running => (Waiting | Stopping | Killed)
    Running { since: Instant },
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
        Self { patience, state: State::Waiting { until: now }, failures: 0 }
    }

    /// Takes an event in, and says what to do.
    #[must_use]
    pub fn on(&mut self, now: Instant, event: Event) -> Action {
        match event {
            Event::Tick => self.on_tick(now),
            Event::Exited(luck) => self.on_exit(now, luck),
            Event::Stop => self.on_stop(now),
            Event::Kill => self.on_kill(now),
        }
    }

    /// When the next [`Event::Tick`] is due, if any is.
    #[must_use]
    pub const fn wake_at(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until: at }
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
            State::Waiting { .. } | State::Running { .. } | State::Stopping { .. } | State::Killed { .. } => {
                false
            }
        }
    }

    fn on_tick(&mut self, now: Instant) -> Action {
        match self.state {
            State::Waiting { until } if now >= until => {
                self.state = State::Running { since: now };
                Action::Spawn
            }
            State::Stopping { kill_at } if now >= kill_at => self.kill(now),
            State::Killed { abandon_at } if now >= abandon_at => {
                self.state = State::Over;
                Action::Abandon
            }
            State::Waiting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Killed { .. }
            | State::Over => Action::Nothing,
        }
    }

    fn on_exit(&mut self, now: Instant, luck: Luck) -> Action {
        match self.state {
            State::Running { since } => {
                if now.duration_since(since) >= self.patience.recovered_after {
                    self.failures = 0;
                }
                self.failures = self.failures.saturating_add(1);
                self.state = State::Waiting { until: now + self.pause(luck) };
            }
            State::Stopping { .. } | State::Killed { .. } => self.state = State::Over,
            State::Waiting { .. } | State::Over => {}
        }
        Action::Nothing
    }

    fn on_stop(&mut self, now: Instant) -> Action {
        match self.state {
            State::Waiting { .. } => {
                self.state = State::Over;
                Action::Nothing
            }
            State::Running { .. } => {
                self.state = State::Stopping { kill_at: now + self.patience.grace };
                Action::Terminate
            }
            State::Stopping { .. } | State::Killed { .. } | State::Over => Action::Nothing,
        }
    }

    fn on_kill(&mut self, now: Instant) -> Action {
        match self.state {
            State::Waiting { .. } => {
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
            grace: Duration::from_secs(5),
            burial: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNLUCKY: Luck = Luck(0.999_999);

    fn started() -> (Lifecycle, Instant) {
        let now = Instant::now();
        let mut life = Lifecycle::new(Patience::default(), now);
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
        now += Patience::default().recovered_after;
        assert!(crash(&mut life, &mut now, 1, UNLUCKY) <= Duration::from_millis(100));
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
