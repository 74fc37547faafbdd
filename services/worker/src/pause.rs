//! How long a worker takes no shards because its backend has failed: a device that fails every time must not take, and fail,
//! all that others could execute.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The first pause and the longest one; each is twice the one before, until a shard is executed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Whether a worker's backend works.
#[derive(Debug, Default)]
pub struct Pause(Mutex<Option<Failing>>);

#[derive(Debug, Clone, Copy)]
struct Failing {
    length: Duration,
    until: Instant,
}

impl Pause {
    fn lock(&self) -> MutexGuard<'_, Option<Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backend has failed: answers how long no shards are taken now, if a pause begins by that. Shards that were in
    /// hand when it began fail together, and make it no longer.
    pub fn failed(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut failing = self.lock();
        let length = match *failing {
            Some(before) if now < before.until => return None,
            Some(before) => (before.length * 2).min(PAUSE.1),
            None => PAUSE.0,
        };
        *failing = Some(Failing { length, until: now + length });
        Some(length)
    }

    /// The backend has executed a shard.
    pub fn succeeded(&self) {
        *self.lock() = None;
    }

    /// Whether it has failed and not executed a shard since: then one shard is enough to try it with.
    pub fn is_failing(&self) -> bool {
        self.lock().is_some()
    }

    /// What is left of a pause.
    pub fn left(&self) -> Option<Duration> {
        let until = self.lock().map(|failing| failing.until)?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_each_failure_and_end_with_a_success() {
        let (pause, milliseconds) = (Pause::default(), Duration::from_millis);
        assert!(pause.left().is_none() && !pause.is_failing());
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let length = pause.failed().unwrap();
            assert_eq!((pause.failed(), pause.left()), (None, Some(length)));
            lengths.push(length.as_millis());
            advance(length).await;
            assert!(pause.left().is_none() && pause.is_failing());
        }
        assert_eq!(lengths, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        pause.succeeded();
        assert!(!pause.is_failing());
        assert_eq!(pause.failed(), Some(milliseconds(200)));
    }
}
