//! Durations of one thing, measured many times.

use std::time::Duration;

/// At least one duration, in ascending order.
#[derive(Clone, Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// # Panics
    /// Nothing was measured.
    pub(crate) fn new(mut all: Vec<Duration>) -> Self {
        assert!(!all.is_empty(), "something was measured");
        all.sort_unstable();
        Self(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn least(&self) -> Duration {
        self.percentile(0)
    }

    pub(crate) fn most(&self) -> Duration {
        self.percentile(100)
    }

    pub(crate) fn p50(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn p95(&self) -> Duration {
        self.percentile(95)
    }

    /// Which part of them, 0.0 to 1.0, is at most so long.
    pub(crate) fn share_within(&self, limit: Duration) -> f64 {
        self.0.partition_point(|time| *time <= limit) as f64 / self.0.len() as f64
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

/// For printing: a hundredth of a microsecond is below what any of this can resolve.
pub(crate) fn microseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e6)
}

/// How many times as long.
pub(crate) fn ratio(time: Duration, baseline: Duration) -> f64 {
    rounded(time.as_secs_f64() / baseline.as_secs_f64())
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> f64 {
    rounded(share * 100.0)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let times = Times::new((1..=100).rev().map(Duration::from_micros).collect());
        assert_eq!(times.p50(), Duration::from_micros(50));
        assert_eq!(times.p95(), Duration::from_micros(95));
        let share = |limit| times.share_within(Duration::from_micros(limit));
        assert_eq!((share(0), share(95), share(100)), (0.0, 0.95, 1.0));
        let one = Times::new(vec![Duration::from_micros(3)]);
        assert_eq!((one.p50(), one.p95()), (Duration::from_micros(3), Duration::from_micros(3)));
    }
}
