//! A circuit breaker for the backend. A device that fails every time must not receive, and fail,
//! all the shards that other workers could execute.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Pause after the first failure. Each failure in a row doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Upper bound of a pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Pauses a worker after backend failures. It is half-open between the end of a pause and the next
/// success or failure: one shard is then enough to probe the backend.
#[derive(Debug, Default)]
pub struct BackendBreaker(Mutex<Option<BreakerPause>>);

#[derive(Debug, Clone, Copy)]
struct BreakerPause {
    length: Duration,
    end: Instant,
}

impl BackendBreaker {
    /// Records a failure. Returns the length of the pause that it starts; `None` during a pause,
    /// since shards that were in flight when the pause began fail together and must not lengthen
    /// it.
    pub fn record_failure(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut pause = self.0.lock();
        let length = match *pause {
            Some(current) if now < current.end => return None,
            Some(last) => (last.length * 2).min(MAX_PAUSE),
            None => FIRST_PAUSE,
        };
        *pause = Some(BreakerPause { length, end: now + length });
        Some(length)
    }

    /// Records an executed shard, which closes the breaker.
    pub fn record_success(&self) {
        *self.0.lock() = None;
    }

    /// Whether the backend has failed and not executed a shard since.
    pub fn is_tripped(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Returns the remaining time of the current pause; `None` outside a pause.
    pub fn remaining_pause(&self) -> Option<Duration> {
        let end = self.0.lock().map(|pause| pause.end)?;
        Some(end.saturating_duration_since(Instant::now())).filter(|remaining| !remaining.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_with_each_failure_and_a_success_resets_them() {
        let breaker = BackendBreaker::default();
        assert!(breaker.remaining_pause().is_none() && !breaker.is_tripped());
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let length = breaker.record_failure().unwrap();
            assert_eq!((breaker.record_failure(), breaker.remaining_pause()), (None, Some(length)));
            lengths.push(length.as_millis());
            advance(length).await;
            assert!(breaker.remaining_pause().is_none() && breaker.is_tripped());
        }
        assert_eq!(lengths, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        breaker.record_success();
        assert!(!breaker.is_tripped());
        assert_eq!(breaker.record_failure(), Some(Duration::from_millis(200)));
    }
}
