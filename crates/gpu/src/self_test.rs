//! Comparing a device with the scalar reference: one leaf of the example's model. What a driver compiles wrongly, or a
//! device computes wrongly, must not be signed as a result.

use std::time::{Duration, Instant};

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{LEAF_ITERATIONS, Shard, ShardId},
};
use forge_kernel::{
    execute::{Backend, ExecuteError, scalar::Scalar},
    request::Request,
    workload::PROFILES,
};

use crate::{batch, device::Device, pipelines::Pipelines};

/// Components of the program that every device is tested with when it is opened.
pub(crate) const COMPONENTS: usize = 2;
/// An execution that tells how fast a device is takes this long.
const LONG_ENOUGH: Duration = Duration::from_millis(10);

/// Where the device differs from the reference, if it does.
///
/// # Errors
/// [`ExecuteError::Device`] when it cannot execute at all.
pub(crate) fn difference(
    device: &Device,
    pipelines: &Pipelines,
    components: usize,
) -> Result<Option<String>, ExecuteError> {
    let program = program(components);
    let id = ShardId { height: 0, index: 1 };
    let shard = Shard { id, iterations: LEAF_ITERATIONS, seed: Digest::of(&[b"self-test"]) };
    let expected = Scalar.execute(&program, &[shard], &())?.remove(0);
    let found = batch::execute(device, pipelines, &program, &[shard], &())?.remove(0);
    if found == expected {
        return Ok(None);
    }
    let (found, expected) = (found.digest(), expected.digest());
    Ok(Some(format!("with {components} components one leaf hashes to {found} in place of {expected}")))
}

/// Iterations a second of the example, to compare two ways of compiling. The values mean nothing else.
///
/// # Errors
/// [`ExecuteError::Device`].
pub(crate) fn rate(device: &Device, pipelines: &Pipelines) -> Result<f64, ExecuteError> {
    let program = program(COMPONENTS);
    let id = ShardId { height: 12, index: 0 };
    let mut iterations = LEAF_ITERATIONS;
    loop {
        let shard = Shard { id, iterations, seed: Digest::of(&[b"rate"]) };
        let start = Instant::now();
        batch::execute(device, pipelines, &program, &[shard], &())?;
        let took = start.elapsed();
        if took > LONG_ENOUGH || iterations == LEAF_ITERATIONS << id.height {
            return Ok(iterations as f64 / took.as_secs_f64());
        }
        iterations *= 4;
    }
}

/// The first profile's example, with its components repeated or left out.
fn program(components: usize) -> Program {
    let profile = &PROFILES[0];
    let op = serde_json::json!({"name": profile.op, "version": profile.version, "profile": profile.name});
    let envelope = serde_json::json!({"op": op, "args": (profile.example)()}).to_string();
    let example = Request::from_json(envelope.as_bytes()).expect("a profile's example is valid").program;
    let mut program = Program::clone(&example);
    program.components = example.components.iter().cycle().take(components).cloned().collect();
    program
}
