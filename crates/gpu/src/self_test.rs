//! Compares a device with the scalar reference on one leaf. A worker signs its results, so a shader
//! that the driver miscompiles, or a device that computes wrongly, must be found before any result
//! is used.

use std::time::{Duration, Instant};

use forge_contract::{
    digest::Digest,
    plain_program::PlainProgram,
    program::Program,
    shard::{LEAF_ITERATIONS, Shard, ShardId},
};
use forge_kernel::{
    backend::{Backend, ExecutionError, scalar::Scalar},
    request::Request,
    workload::PROFILES,
};

use crate::{batch_executor::BatchExecutor, pipelines::Pipelines};

/// Number of components of the program that every device is tested with when it is opened.
pub(crate) const SELF_TEST_COMPONENTS: usize = 2;
/// Shortest execution from which [`measure_rate`] computes a rate.
const MIN_RATE_DURATION: Duration = Duration::from_millis(10);

/// Describes the difference between the device and the reference; `None` if their results are
/// equal.
///
/// # Errors
/// [`ExecutionError::Device`] if the device cannot execute at all.
pub(crate) fn find_difference(
    executor: &BatchExecutor,
    pipelines: &Pipelines,
    components: usize,
) -> Result<Option<String>, ExecutionError> {
    let program = example_program(components);
    let id = ShardId { height: 0, index: 1 };
    let shard = Shard { id, iterations: LEAF_ITERATIONS, seed: Digest::hash_parts(&[b"self-test"]) };
    let expected = Scalar.execute(&program, &[shard], &())?.remove(0);
    let actual = executor.execute(pipelines, &plain(&program), &[shard], &())?.remove(0);
    if actual == expected {
        return Ok(None);
    }
    let (actual, expected) = (actual.digest(), expected.digest());
    Ok(Some(format!("with {components} components, one leaf hashes to {actual} instead of {expected}")))
}

/// Iterations per second of the example program. Comparable only between two measurements of this
/// function.
///
/// # Errors
/// [`ExecutionError::Device`].
pub(crate) fn measure_rate(executor: &BatchExecutor, pipelines: &Pipelines) -> Result<f64, ExecutionError> {
    let program = example_program(SELF_TEST_COMPONENTS);
    let id = ShardId { height: 12, index: 0 };
    let mut iterations = LEAF_ITERATIONS;
    loop {
        let shard = Shard { id, iterations, seed: Digest::hash_parts(&[b"rate"]) };
        let start = Instant::now();
        executor.execute(pipelines, &plain(&program), &[shard], &())?;
        let duration = start.elapsed();
        if duration > MIN_RATE_DURATION || iterations == LEAF_ITERATIONS << id.height {
            return Ok(iterations as f64 / duration.as_secs_f64());
        }
        iterations *= 4;
    }
}

/// The example of the first profile, with its components repeated or dropped to have `components`
/// of them.
fn example_program(components: usize) -> Program {
    let profile = &PROFILES[0];
    let op = serde_json::json!({"name": profile.op, "version": profile.version, "profile": profile.name});
    let envelope = serde_json::json!({"op": op, "args": (profile.example_args)()}).to_string();
    let example = Request::from_json(envelope.as_bytes()).expect("a profile's example is valid").program;
    let mut program = Program::clone(&example);
    program.groups = example.groups.iter().cycle().take(components).cloned().collect();
    program
}

fn plain(program: &Program) -> PlainProgram<'_> {
    PlainProgram::new(program).expect("the first profile's programs are plain")
}
