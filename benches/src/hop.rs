//! `bench hop`: what it costs to hand a frame to another process and get it back, against its size and against plain
//! iceoryx2.
//!
//! One round, of which only the part between the lines is timed:
//!
//! ```text
//! loan a block, stamp every page of it
//! an empty message there and back, so that every size starts with the same things in the processors' caches
//! --------------------------------------------------------------------------------------------------------------
//! prepare, send, bell, the other process wakes, accepts the lease, [touched: looks at every page,] sends the same
//! block back, bell, this process wakes, accepts
//! --------------------------------------------------------------------------------------------------------------
//! the other process looks at every page; here the same block must have come back, at the same address
//! ```
//!
//! Without that empty message a hop starts right after the producer has written, and it is slower the more pages that
//! were: `hop_cold` shows by how much, and `hop_equally_cold` that it is the writing and not the hop, for there as many
//! pages are written before a hop of any size.
//!
//! Sizes take turns round by round, and every few rounds plain iceoryx2 has its turn, so that what the machine does
//! besides hits all alike. Both pairs of processes are put on processors alike: first each process on its own, then
//! (`hop_together`) both of a pair on one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::baseline::Baseline;
use crate::error::BenchError;
use crate::peer::Ask;
use crate::processors::{Placement, Processors};
use crate::producer::{Before, Producer};
use crate::row::Row;
use crate::times::{Times, microseconds, ratio};

/// Payload sizes, in bytes.
const SIZES: [usize; 5] = [1 << 10, 16 << 10, 256 << 10, 1 << 20, 8 << 20];

/// The whole measuring is done so often with each placement, to see how much it varies.
const REPEATS: usize = 4;

/// Turns of the baseline in one repeat.
const TURNS: usize = 10;

/// Rounds of each size, and of the baseline, in one turn.
const ROUNDS: usize = 25;

/// What is not counted of each size: afterwards every page of every block has been touched in both processes.
const WARM_UP: usize = 50;

/// The baseline's payload: as much as a descriptor of ours.
const BASELINE_BYTES: usize = 256;

/// Promised: a round trip of the largest size takes at most this many times as long as one of the smallest.
const FLAT: f64 = 1.25;

/// Promised: a round trip takes at most this many times as long as one of plain iceoryx2.
const OVER_ICEORYX2: f64 = 2.0;

pub(crate) fn run() -> Result<Vec<Row>, BenchError> {
    let processors = Processors::find()?;
    let mut baseline = Baseline::iceoryx2(BASELINE_BYTES)?;
    let mut producer = Producer::start(&SIZES)?;
    let measured = measure(&mut producer, &mut baseline, processors);
    let stopped = producer.stop();
    processors.release()?;
    let measured = measured?;
    stopped?;
    Ok(measured
        .iter()
        .flat_map(|(placement, repeats)| Figures::of(repeats).rows(*placement, repeats))
        .collect())
}

fn measure(
    producer: &mut Producer,
    baseline: &mut Baseline,
    processors: Processors,
) -> Result<Vec<(Placement, Vec<Repeat>)>, BenchError> {
    baseline.rounds(WARM_UP * SIZES.len())?;
    for bytes in SIZES {
        for _ in 0..WARM_UP {
            producer.round(bytes, Ask::TouchAndForward, Before::Ping)?;
        }
    }
    let mut measured = Vec::new();
    for placement in processors.placements().iter().copied() {
        processors.put(producer.processes(), placement)?;
        processors.put(baseline.processes(), placement)?;
        let repeats = (0..REPEATS).map(|_| Repeat::measure(producer, baseline));
        measured.push((placement, repeats.collect::<Result<_, _>>()?));
    }
    Ok(measured)
}

/// Durations of hops, by size.
type BySize = [Vec<Duration>; SIZES.len()];

/// All durations of one repeat.
#[derive(Default)]
struct Repeat {
    baseline: Vec<Duration>,
    forwarded: BySize,
    touched: BySize,
    cold: BySize,
    equally_cold: BySize,
}

// === impl Repeat ===

impl Repeat {
    fn measure(producer: &mut Producer, baseline: &mut Baseline) -> Result<Self, BenchError> {
        let mut repeat = Self::default();
        for _ in 0..TURNS {
            repeat.baseline.extend(baseline.rounds(ROUNDS)?);
            for _ in 0..ROUNDS {
                for (place, bytes) in SIZES.into_iter().enumerate() {
                    let mut round = |ask, before| producer.round(bytes, ask, before);
                    repeat.forwarded[place].push(round(Ask::Forward, Before::Ping)?);
                    repeat.touched[place].push(round(Ask::TouchAndForward, Before::Ping)?);
                    repeat.cold[place].push(round(Ask::Forward, Before::Stamps)?);
                    repeat.equally_cold[place].push(round(Ask::Forward, Before::EquallyManyStamps)?);
                }
            }
        }
        Ok(repeat)
    }
}

/// All repeats with one placement taken together.
struct Figures {
    baseline: Times,
    forwarded: Vec<Times>,
    touched: Vec<Times>,
    cold: Vec<Times>,
    equally_cold: Vec<Times>,
}

// === impl Figures ===

impl Figures {
    fn of(repeats: &[Repeat]) -> Self {
        let all = |of: &dyn Fn(&Repeat) -> &Vec<Duration>| {
            Times::new(repeats.iter().flat_map(|repeat| of(repeat).iter().copied()).collect())
        };
        let by_size = |of: fn(&Repeat) -> &BySize| {
            let times: Vec<Times> = (0..SIZES.len()).map(|place| all(&|repeat| &of(repeat)[place])).collect();
            times
        };
        Self {
            baseline: all(&|repeat| &repeat.baseline),
            forwarded: by_size(|repeat| &repeat.forwarded),
            touched: by_size(|repeat| &repeat.touched),
            cold: by_size(|repeat| &repeat.cold),
            equally_cold: by_size(|repeat| &repeat.equally_cold),
        }
    }

    fn rows(&self, placement: Placement, repeats: &[Repeat]) -> Vec<Row> {
        match placement {
            Placement::Together => vec![self.hop("hop_together", repeats)],
            Placement::Apart => vec![
                self.hop("hop", repeats),
                sized("hop_touched", "hop: here every page is read before the answer", &self.touched)
                    .with("touched", true),
                sized("hop_cold", "hop: here each comes right after its pages were written", &self.cold),
                sized(
                    "hop_equally_cold",
                    "hop_cold: here as many pages are written before every size",
                    &self.equally_cold,
                ),
            ],
        }
    }

    fn hop(&self, name: &'static str, repeats: &[Repeat]) -> Row {
        let over_iceoryx2 = ratio(self.forwarded[0].p50(), self.baseline.p50());
        let by_repeat = spread(repeats, |repeat| [&repeat.forwarded[0], &repeat.baseline]);
        sized(name, "a round trip of 256 bytes by plain iceoryx2, send and event", &self.forwarded)
            .with("iceoryx2_ratio", over_iceoryx2)
            .with("iceoryx2_ratio_at_most", OVER_ICEORYX2)
            .with("iceoryx2_ratio_by_repeat", by_repeat)
            .with("flat_ratio_at_most", FLAT)
            .with("flat_ratio_by_repeat", spread(repeats, |repeat| ends(&repeat.forwarded)))
            .with("iceoryx2_p50_us", microseconds(self.baseline.p50()))
            .with("iceoryx2_p95_us", microseconds(self.baseline.p95()))
            .promising(flatness(&self.forwarded) <= FLAT)
            .promising(over_iceoryx2 <= OVER_ICEORYX2)
    }
}

fn sized(name: &'static str, compared_to: &'static str, times: &[Times]) -> Row {
    let sizes: Vec<Value> = SIZES
        .iter()
        .zip(times)
        .map(|(bytes, times)| {
            json!({ "bytes": bytes, "p50_us": microseconds(times.p50()), "p95_us": microseconds(times.p95()) })
        })
        .collect();
    Row::new(name, compared_to, times[0].len()).with("flat_ratio", flatness(times)).with("sizes", sizes)
}

fn flatness(times: &[Times]) -> f64 {
    ratio(times[SIZES.len() - 1].p50(), times[0].p50())
}

const fn ends(by_size: &BySize) -> [&Vec<Duration>; 2] {
    [&by_size[SIZES.len() - 1], &by_size[0]]
}

/// The smallest and the largest ratio of medians that a repeat had.
fn spread(repeats: &[Repeat], of: impl Fn(&Repeat) -> [&Vec<Duration>; 2]) -> Vec<f64> {
    let ratios = repeats.iter().map(|repeat| {
        let [over, under] = of(repeat).map(|times| Times::new(times.clone()).p50());
        ratio(over, under)
    });
    let [least, most] = ratios
        .fold([f64::INFINITY, 0.0], |[least, most], ratio| [f64::min(least, ratio), f64::max(most, ratio)]);
    vec![least, most]
}
