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

/// Iterations per second of one call at a time. The iteration count is quadrupled until a call
/// takes at least `min_duration`; that call is the measurement.
///
/// # Errors
/// See [`Backend::execute`].
pub fn iterations_per_second(
    backend: &dyn Backend,
    program: &Program,
    min_duration: Duration,
) -> Result<f64, ExecutionError> {
    let id = ShardId { height: 12, index: 0 };
    let shard = |iterations| Shard { id, iterations, seed: Digest::hash_parts(&[b"calibration"]) };
    let mut iterations = 256;
    // Warm-up: the first call loads the program into the backend.
    backend.execute(program, &[shard(iterations)], &())?;
    loop {
        let start = Instant::now();
        backend.execute(program, &[shard(iterations)], &())?;
        let elapsed = start.elapsed();
        if elapsed >= min_duration || iterations >= 1 << 28 {
            return Ok(iterations as f64 / elapsed.as_secs_f64());
        }
        iterations *= 4;
    }
}
