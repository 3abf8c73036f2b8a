//! Waiting, with an end to it. How long is for a machine that has nothing else to do; one that is many times slower says so in
//! the environment, by [`TIMES`].

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How many times as long everything may take.
pub const TIMES: &str = "REMOTEMEDIA_TESTS_TIMES";

/// Between two looks at a condition that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The future's output.
///
/// # Panics
/// It does not come in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit * times(), future).await {
        Ok(output) => output,
        Err(_elapsed) => panic!("{what} did not come within {limit:?}"),
    }
}

/// Looks until `look` has no complaint. Gives the time that it took.
///
/// # Panics
/// There still is a complaint when the time is over: it is the panic's message.
pub async fn until<C: Debug>(limit: Duration, mut look: impl AsyncFnMut() -> Result<(), C>) -> Duration {
    let (begin, limit) = (Instant::now(), limit * times());
    while let Err(complaint) = look().await {
        assert!(begin.elapsed() < limit, "after {limit:?} still: {complaint:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    begin.elapsed()
}

#[expect(
    clippy::disallowed_methods,
    reason = "it is said to every test program, whatever its own command line"
)]
fn times() -> u32 {
    std::env::var(TIMES).ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}
