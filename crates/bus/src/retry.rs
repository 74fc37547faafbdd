//! The retry policy of every service: exponential backoff with jitter. Yields delays only; callers
//! decide how long and how often they retry.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// Yields the delays between attempts of one operation, without end.
///
/// The n-th delay is drawn from the upper half of the interval up to `first * 2^n`, and never
/// exceeds `max`. Jitter keeps agents that lost the same server from retrying in step.
///
/// ```
/// use std::time::Duration;
///
/// let (first, max) = (Duration::from_millis(20), Duration::from_secs(1));
/// let mut delays = forge_bus::retry::delays(first, max);
/// let delay = delays.next().unwrap();
/// assert!(first / 2 <= delay && delay <= first);
/// assert!(delays.take(1000).all(|delay| delay <= max));
/// ```
pub fn delays(first: Duration, max: Duration) -> impl Iterator<Item = Duration> + Send {
    // backon adds a jitter of up to 100 % to each delay, its maximum included: hence the halves.
    ExponentialBuilder::new()
        .with_min_delay(first / 2)
        .with_max_delay(max / 2)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
        .map(move |delay| delay.min(max))
}
