//! Waiting, with an end to it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Between two looks at a condition that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The future's output.
///
/// # Panics
/// It does not come in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_elapsed) => panic!("{what} did not come within {limit:?}"),
    }
}

/// Looks until `look` has no complaint. Gives the time that it took.
///
/// # Panics
/// There still is a complaint when the time is over: it is the panic's message.
pub async fn until<C: Debug>(limit: Duration, mut look: impl AsyncFnMut() -> Result<(), C>) -> Duration {
    let begin = Instant::now();
    while let Err(complaint) = look().await {
        assert!(begin.elapsed() < limit, "after {limit:?} still: {complaint:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    begin.elapsed()
}
