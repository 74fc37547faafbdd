//! Measures how fast a backend executes a program, to choose between backends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{Shard, ShardId},
};
use forge_kernel::{
    backend::{Backend, ExecutionError},
    request::Request,
    workload::PROFILES,
};

use crate::example::example_envelope;

/// The compiled example of the first profile.
pub fn example_program() -> Arc<Program> {
    let request = Request::from_envelope(example_envelope(PROFILES[0]));
    request.expect("every profile's example is valid").program
}

/// The time that calls of a backend take: a part for every call, and a part for every iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallCost {
    /// Seconds of a call, whatever its iterations.
    pub call: f64,
    /// Seconds of an iteration; above 0.
    pub iteration: f64,
}

impl CallCost {
    /// The line through the durations of a short and a long call, as iterations and seconds. The
    /// part of a call is never negative, and that of an iteration never so small that a short call
    /// would take as long as the long one: both happen when another process delays a call.
    fn through((short, short_seconds): (u64, f64), (long, long_seconds): (u64, f64)) -> Self {
        let slope = (long_seconds - short_seconds) / (long - short) as f64;
        let most = long_seconds / long as f64;
        let iteration = slope.clamp(most / 16.0, most).max(f64::MIN_POSITIVE);
        Self { call: (long_seconds - iteration * long as f64).max(0.0), iteration }
    }

    /// Seconds of a run of this many iterations in equal calls, which the threads share.
    pub fn seconds(&self, iterations: u64, calls: u64, threads: u64) -> f64 {
        let calls_of_thread = calls.div_ceil(threads.max(1)) as f64;
        calls_of_thread * (self.call + self.iteration * iterations as f64 / calls.max(1) as f64)
    }
}

/// Iterations per second of one thread in long calls.
///
/// # Errors
/// See [`Backend::execute`].
pub fn iterations_per_second(
    backend: &dyn Backend,
    program: &Program,
    min_duration: Duration,
) -> Result<f64, ExecutionError> {
    call_cost(backend, program, min_duration).map(|cost| 1.0 / cost.iteration)
}

/// The cost of one call at a time. The iteration count is quadrupled until a call takes at least
/// `min_duration`; that call and one of a quarter of its iterations are the measurement.
///
/// # Errors
/// See [`Backend::execute`].
pub fn call_cost(
    backend: &dyn Backend,
    program: &Program,
    min_duration: Duration,
) -> Result<CallCost, ExecutionError> {
    let id = ShardId { height: 12, index: 0 };
    let seconds = |iterations| -> Result<f64, ExecutionError> {
        let shard = Shard { id, iterations, seed: Digest::hash_parts(&[b"calibration"]) };
        let start = Instant::now();
        backend.execute(program, &[shard], &())?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut iterations = 256;
    // Warm-up: the first call loads the program into the backend.
    seconds(iterations)?;
    loop {
        let long = seconds(iterations)?;
        if long >= min_duration.as_secs_f64() || iterations >= 1 << 28 {
            let short = iterations / 4;
            return Ok(CallCost::through((short, seconds(short)?.min(seconds(short)?)), (iterations, long)));
        }
        iterations *= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_call_is_told_apart_from_that_of_its_iterations() {
        let near = |cost: CallCost, call: f64, iteration: f64| {
            (cost.call - call).abs() < 1e-12 && (cost.iteration - iteration).abs() < 1e-15
        };
        // 20 ms a call, and 10 µs an iteration.
        assert!(near(CallCost::through((256, 0.022_56), (1024, 0.030_24)), 0.02, 1e-5));
        assert!(near(CallCost::through((256, 0.01), (1024, 0.04)), 0.0, 0.04 / 1024.0));
        // A delayed long call, and a delayed short one.
        assert!(near(CallCost::through((256, 0.01), (1024, 0.08)), 0.0, 0.08 / 1024.0));
        let delayed = CallCost::through((256, 0.05), (1024, 0.04));
        assert!(delayed.call > 0.0 && delayed.iteration > 0.0, "{delayed:?}");
    }

    #[test]
    fn threads_without_a_call_of_their_own_do_not_help() {
        let cost = CallCost { call: 0.5, iteration: 0.001 };
        let seconds = |iterations, calls, threads| cost.seconds(iterations, calls, threads);
        assert_eq!([seconds(1000, 1, 1), seconds(1000, 1, 8)], [1.5, 1.5]);
        assert_eq!([seconds(8000, 8, 2), seconds(8000, 8, 8), seconds(9000, 9, 8)], [6.0, 1.5, 3.0]);
    }
}
