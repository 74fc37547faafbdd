//! Execution: the [`Backend`] trait and its CPU implementations. All backends return the same bytes.
//!
//! [`scalar`] is the norm and reads like docs/determinism.md; [`simd`] is proved against it.

use std::ops::ControlFlow;

use forge_contract::{program::Program, shard::Shard, shard_result::ShardResult};

pub mod scalar;
pub mod simd;

/// Told of progress, and asked whether to go on.
pub trait ExecutionControl: Sync {
    /// `iterations` more are done. `Break` ends the execution with [`ExecutionError::Cancelled`].
    fn advance(&self, iterations: u64) -> ControlFlow<()>;
}

/// Never stops anything.
impl ExecutionControl for () {
    fn advance(&self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Why shards were not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutionError {
    /// [`ExecutionControl::advance`] said to stop.
    #[error("the execution was cancelled")]
    Cancelled,
    /// The device failed; the shards can be given to another backend.
    #[error("the device failed: {0}")]
    Device(String),
}

/// Executes shards of a program.
///
/// The result is a function of program and shard alone: every backend returns the same bytes.
pub trait Backend: Send + Sync {
    /// Short name for records, as in `simd-avx2`.
    fn name(&self) -> &str;

    /// The device and its driver, for backends that execute on another device than the CPU.
    fn adapter(&self) -> Option<&str> {
        None
    }

    /// How many shards are best given to one call of [`Backend::execute`], where so many are waiting.
    fn batch_size(&self) -> usize {
        1
    }

    /// Executes `shards` and returns their results in order. `program` has passed
    /// [`Program::check`](forge_contract::program::Program::check).
    ///
    /// # Errors
    /// [`ExecutionError`]; then no shard counts as executed.
    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError>;
}
