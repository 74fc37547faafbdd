//! Backends: the [`Backend`] trait, which executes shards, and its CPU implementations. All
//! backends return the same bytes. [`scalar`] is the reference; [`simd`] must equal it, which the
//! conformance suite proves.

use std::ops::ControlFlow;

use forge_contract::{program::Program, shard::Shard, shard_result::ShardResult};

pub(crate) mod iteration;
pub(crate) mod result_builder;
pub mod scalar;
pub mod simd;

/// Receives the progress of an execution, and may cancel it.
pub trait ExecutionControl: Sync {
    /// Reports that `iterations` more were executed. `Break` cancels the execution, which then
    /// returns [`ExecutionError::Cancelled`].
    fn advance(&self, iterations: u64) -> ControlFlow<()>;
}

/// Never cancels.
impl ExecutionControl for () {
    fn advance(&self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Why a backend did not execute its shards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutionError {
    /// [`ExecutionControl::advance`] returned `Break`.
    #[error("the execution was cancelled")]
    Cancelled,
    /// The device failed. Another backend can execute the shards.
    #[error("the device failed: {0}")]
    Device(String),
    /// The backend does not execute programs of this kind; see [`Backend::supports`].
    #[error("the backend does not execute this program: {0}")]
    Unsupported(String),
    /// The process that executed the shards died. The shards may be the reason.
    #[error("the execution crashed: {0}")]
    Crashed(String),
}

/// Executes shards of a program.
///
/// The result is a function of program and shard alone: every backend returns the same bytes.
pub trait Backend: Send + Sync {
    /// Short name for records, such as `simd-avx2`.
    fn name(&self) -> &str;

    /// The device and its driver; `None` for backends on the CPU.
    fn adapter(&self) -> Option<&str> {
        None
    }

    /// The number of shards in one call of [`Backend::execute`] that gives the best throughput.
    fn batch_size(&self) -> usize {
        1
    }

    /// Whether the backend executes programs of this kind.
    fn supports(&self, _program: &Program) -> bool {
        true
    }

    /// Executes `shards` and returns their results in order. The caller has checked `program` with
    /// [`Program::validate`](forge_contract::program::Program::validate).
    ///
    /// # Errors
    /// [`ExecutionError`], when the call was cancelled, or the device failed or the execution
    /// crashed. No shard then counts as executed.
    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError>;
}
