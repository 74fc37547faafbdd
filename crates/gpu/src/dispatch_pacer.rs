//! Chooses the size of the next dispatch from the duration of the previous ones. Long dispatches
//! must be avoided: a driver may kill them, and a running dispatch cannot be cancelled. Very short
//! ones would be dominated by their overhead.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Intended duration of a dispatch.
const TARGET_DURATION: Duration = Duration::from_millis(40);
/// Approximate number of draws in the first dispatch: a fraction of a second on a slow device.
const FIRST_DISPATCH_DRAWS: f64 = 1e6;
/// Largest factor by which a dispatch may exceed the one before.
const MAX_GROWTH: u64 = 8;

/// The size of the next dispatch of one program on one device.
#[derive(Debug)]
pub(crate) struct DispatchPacer {
    next_iterations: AtomicU64,
}

impl DispatchPacer {
    /// For a program that has not been executed on the device yet. `mean_draws` is the mean number
    /// of draws per iteration.
    pub(crate) fn new(mean_draws: f64) -> Self {
        let iterations = (FIRST_DISPATCH_DRAWS / mean_draws.max(1.0)) as u64 + 1;
        Self { next_iterations: AtomicU64::new(iterations) }
    }

    /// Target number of iterations of the next dispatch.
    pub(crate) fn next_iterations(&self) -> u64 {
        self.next_iterations.load(Ordering::Relaxed)
    }

    /// Adapts to the duration of a dispatch.
    pub(crate) fn record_dispatch(&self, iterations: u64, duration: Duration) {
        let fitting = iterations as f64 * TARGET_DURATION.as_secs_f64() / duration.as_secs_f64().max(1e-9);
        let target = self.next_iterations();
        // The last dispatch of a batch can be smaller than its target. Its duration is mostly
        // overhead, so never shrink.
        let min = if iterations < target { target } else { 1 };
        let next = (fitting as u64).clamp(min, target.saturating_mul(MAX_GROWTH));
        self.next_iterations.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatches_grow_and_shrink_towards_the_target_duration() {
        let pacer = DispatchPacer::new(4.0);
        let first = pacer.next_iterations();
        assert_eq!(first, 250_001);
        pacer.record_dispatch(first, Duration::from_micros(10));
        assert_eq!(pacer.next_iterations(), first * MAX_GROWTH);
        pacer.record_dispatch(1000, Duration::from_millis(100));
        assert_eq!(pacer.next_iterations(), first * MAX_GROWTH);
        pacer.record_dispatch(first * MAX_GROWTH, TARGET_DURATION * 4);
        assert_eq!(pacer.next_iterations(), first * MAX_GROWTH / 4);
        pacer.record_dispatch(first * MAX_GROWTH / 4, TARGET_DURATION);
        assert_eq!(pacer.next_iterations(), first * MAX_GROWTH / 4);
    }
}
