//! How much one dispatch is given, so that it takes neither long nor next to nothing: a driver may kill a long one, and
//! nothing can be cancelled while it runs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long a dispatch is to take.
const AIM: Duration = Duration::from_millis(40);
/// Draws of the first dispatch, about: a fraction of a second on a slow device.
const FIRST: f64 = 1e6;
/// A dispatch is given at most so many times as much as the one before.
const GROWTH: u64 = 8;

/// Iterations that a dispatch is given, by how long others of the same program took.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// Of a program that has not been executed yet, whose iterations take so many draws on average.
    pub(crate) fn new(draws: f64) -> Self {
        Self(AtomicU64::new((FIRST / draws.max(1.0)) as u64 + 1))
    }

    /// Iterations for the next dispatch.
    pub(crate) fn iterations(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A dispatch of so many iterations took so long.
    pub(crate) fn took(&self, iterations: u64, time: Duration) {
        let fitting = iterations as f64 * AIM.as_secs_f64() / time.as_secs_f64().max(1e-9);
        let given = self.iterations();
        // A dispatch that was given less, because nothing was left, says little about what a full one takes.
        let least = if iterations < given { given } else { 1 };
        self.0.store((fitting as u64).clamp(least, given.saturating_mul(GROWTH)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatches_grow_and_shrink_towards_the_aim() {
        let pace = Pace::new(4.0);
        let first = pace.iterations();
        assert_eq!(first, 250_001);
        pace.took(first, Duration::from_micros(10));
        assert_eq!(pace.iterations(), first * GROWTH);
        pace.took(1000, Duration::from_millis(100));
        assert_eq!(pace.iterations(), first * GROWTH);
        pace.took(first * GROWTH, AIM * 4);
        assert_eq!(pace.iterations(), first * GROWTH / 4);
        pace.took(first * GROWTH / 4, AIM);
        assert_eq!(pace.iterations(), first * GROWTH / 4);
    }
}
