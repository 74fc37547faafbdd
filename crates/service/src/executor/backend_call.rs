//! A single call of a backend: the flags that stop it, its result, and how panics and wrong numbers
//! of results are handled.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use forge_contract::{digest::Digest, program::Program, shard::Shard, shard_result::ShardResult};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError};

use crate::panic_message::panic_message;

/// Stops an execution after its current leaf. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Sets the flag.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Called with the number of iterations executed since the last call.
pub type ProgressCallback = Arc<dyn Fn(u64) + Send + Sync>;

/// The result of an executed shard, and what the execution took.
#[derive(Debug, Clone)]
pub struct ShardExecution {
    /// The result's canonical bytes.
    pub bytes: Bytes,
    /// SHA-256 of the bytes.
    pub hash: Digest,
    /// Iterations executed.
    pub iterations: u64,
    /// Wall time. The time of a batch is divided among its shards in proportion to their
    /// iterations, so that the sum over all shards is the time for which the device was busy.
    pub wall: Duration,
    /// CPU time of the executing thread, divided likewise.
    pub cpu: Duration,
}

/// Why a shard was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutionFailure {
    /// The stop flag was set.
    #[error("the execution was stopped")]
    Stopped,
    /// The backend failed; the text names it.
    #[error("{0}")]
    Backend(String),
    /// The execution panicked, or its process died. The shard may be the reason.
    #[error("{0}")]
    Crashed(String),
}

/// Controls a backend call: reports progress, and cancels the call once all its shards are stopped.
pub(super) struct CallControl<S> {
    pub stops: S,
    pub progress: Option<ProgressCallback>,
}

impl<S: AsRef<[StopFlag]>> CallControl<S> {
    pub(super) fn is_stopped(&self) -> bool {
        self.stops.as_ref().iter().all(StopFlag::is_stopped)
    }
}

impl<S: AsRef<[StopFlag]> + Send + Sync> ExecutionControl for CallControl<S> {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        if let Some(progress) = &self.progress {
            progress(iterations);
        }
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Calls a backend. Returns one result per shard, in order; a panic or a wrong number of results is
/// a failure of the backend.
pub(super) fn call_backend(
    backend: &dyn Backend,
    program: &Program,
    shards: &[Shard],
    control: &dyn ExecutionControl,
) -> Result<Vec<ShardResult>, ExecutionFailure> {
    let execute = || backend.execute(program, shards, control);
    let failed = |reason| Err(ExecutionFailure::Backend(format!("{} {reason}", backend.name())));
    match catch_unwind(AssertUnwindSafe(execute)) {
        Ok(Ok(results)) if results.len() == shards.len() => Ok(results),
        Ok(Ok(results)) if results.is_empty() => failed("returned no results".to_owned()),
        Ok(Ok(results)) => failed(format!("returned {} results for {} shards", results.len(), shards.len())),
        Ok(Err(ExecutionError::Cancelled)) => Err(ExecutionFailure::Stopped),
        Ok(Err(ExecutionError::Crashed(reason))) => {
            Err(ExecutionFailure::Crashed(format!("{} crashed: {reason}", backend.name())))
        }
        Ok(Err(error @ (ExecutionError::Device(_) | ExecutionError::Unsupported(_)))) => {
            Err(ExecutionFailure::Backend(error.to_string()))
        }
        Err(panic) => {
            let reason = format!("{} panicked: {}", backend.name(), panic_message(&*panic));
            Err(ExecutionFailure::Crashed(reason))
        }
    }
}

/// Encodes a result. Returns its canonical bytes and their hash.
pub(super) fn encode(result: &ShardResult) -> (Bytes, Digest) {
    let mut bytes = result.encode();
    // On the in-process bus, results stay in memory until their job ends.
    bytes.shrink_to_fit();
    let hash = Digest::hash_parts(&[&bytes]);
    (Bytes::from(bytes), hash)
}
