//! The retry policy of every service: exponential backoff with jitter. Yields delays only; callers
//! decide how long and how often they retry.

use std::time::Duration;

/// Delays between the attempts at one operation.
///
/// The delay after the n-th failure is drawn from the upper half of the interval up to
/// `first * 2^(n-1)`, and never exceeds `max`. Jitter keeps agents that lost the same server from
/// retrying in step.
///
/// ```
/// use std::time::Duration;
///
/// use forge_bus::retry::RetryPolicy;
///
/// let policy = RetryPolicy::new(Duration::from_millis(20), Duration::from_secs(1));
/// let delay = policy.delay(1);
/// assert!(Duration::from_millis(10) <= delay && delay <= Duration::from_millis(20));
/// assert!(policy.delays().take(1000).all(|delay| delay <= Duration::from_secs(1)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    first: Duration,
    max: Duration,
}

impl RetryPolicy {
    /// `first` is the upper bound of the delay after the first failure, `max` that of every delay.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// Returns the delay after the n-th failure in a row; 0 counts as the first. The jitter comes
    /// from this thread's generator, which a simulation seeds with `fastrand::seed`.
    pub fn delay(self, failures: u64) -> Duration {
        self.delay_with(failures, fastrand::f64())
    }

    /// As [`Self::delay`], with a jitter from 0 for the shortest delay to 1 for the longest.
    pub fn delay_with(self, failures: u64, jitter: f64) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let upper = self.first.saturating_mul(factor).min(self.max);
        (upper / 2).saturating_add((upper / 2).mul_f64(jitter.clamp(0.0, 1.0)))
    }

    /// Yields the delays after the first failure, the second, and so on, without end.
    pub fn delays(self) -> impl Iterator<Item = Duration> + Send {
        (1..).map(move |failures| self.delay(failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(60));

    #[test]
    fn delays_double_up_to_their_maximum() {
        let bounds = |failures| [0.0, 1.0].map(|jitter| POLICY.delay_with(failures, jitter).as_millis());
        assert_eq!(bounds(0), [500, 1000]);
        assert_eq!(bounds(1), [500, 1000]);
        assert_eq!(bounds(2), [1000, 2000]);
        assert_eq!(bounds(6), [16_000, 32_000]);
        for failures in [7, 32, 33, 34, 1000, u64::MAX] {
            assert_eq!(bounds(failures), [30_000, 60_000], "{failures}");
        }
    }

    #[test]
    fn a_seed_reproduces_the_delays_and_no_two_of_a_seed_are_alike() {
        let draw = |seed| {
            fastrand::seed(seed);
            POLICY.delays().skip(7).take(100).collect::<Vec<_>>()
        };
        let mut delays = draw(1);
        assert_eq!(delays, draw(1));
        assert_ne!(delays, draw(2));
        delays.sort();
        delays.dedup();
        assert_eq!(delays.len(), 100);
    }
}
