//! Execution of shards on blocking threads, a bounded number at once. For a backend that works best
//! on several shards at once, waiting shards are batched. Short and long jobs have slots of their
//! own, so that a short job does not wait for the shards of long ones: the operating system divides
//! the cores among them. Never signs or publishes a result. A simulation executes shards inline
//! instead, so that no thread runs outside its control.

mod backend_call;
mod batch;
mod stopwatch;

use std::{fmt, sync::Arc, time::Duration};

use forge_bus::topology::JobLength;
use forge_contract::{program::Program, task::ShardTask};
use forge_kernel::backend::Backend;
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};

pub use self::backend_call::{ExecutionFailure, ProgressCallback, ShardExecution, StopFlag};
use self::{
    backend_call::{CallControl, call_backend, encode},
    batch::ShardBatcher,
    stopwatch::Stopwatch,
};

/// Concurrent calls of a batching backend: while the device computes one batch, the results of
/// another are read back.
const MAX_BATCH_CALLS: usize = 2;

/// Executes shards. Clones share the slots.
#[derive(Clone)]
pub struct Executor {
    short: ClassSlots,
    long: ClassSlots,
    progress: Option<ProgressCallback>,
    /// If set, shards are executed on the caller's thread, and seem to take this time.
    inline_time: Option<Duration>,
}

/// The slots for short or for long jobs.
#[derive(Clone)]
struct ClassSlots {
    slots: Arc<Semaphore>,
    batches: Arc<ShardBatcher>,
}

impl ClassSlots {
    fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            batches: Arc::new(ShardBatcher::new(slots.min(MAX_BATCH_CALLS))),
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = |length: &ClassSlots| length.slots.available_permits();
        write!(f, "Executor({} and {} free slots)", free(&self.short), free(&self.long))
    }
}

impl Executor {
    /// An executor with this many slots for short jobs and as many for long ones, at least one. A
    /// slot holds one shard, or one batch of a batching backend.
    pub fn new(slots: usize, progress: Option<ProgressCallback>) -> Self {
        let slots = slots.max(1);
        Self { short: ClassSlots::new(slots), long: ClassSlots::new(slots), progress, inline_time: None }
    }

    /// An executor for simulations: executes every shard by itself, on the thread of its caller,
    /// after `shard_time` of tokio's time, which it reports as the execution's.
    pub fn inline(slots: usize, shard_time: Duration) -> Self {
        Self { inline_time: Some(shard_time), ..Self::new(slots, None) }
    }

    /// Returns how many calls of `backend` an executor with this many slots makes at once for jobs
    /// of one length.
    pub fn concurrent_calls(backend: &dyn Backend, slots: usize) -> usize {
        if backend.batch_size() > 1 { slots.min(MAX_BATCH_CALLS) } else { slots }.max(1)
    }

    /// Executes a shard once a slot for jobs of this length is free. A batching backend executes
    /// waiting shards of the same job and program in one call, which is cancelled only when all of
    /// them are stopped.
    ///
    /// # Errors
    /// [`ExecutionFailure`]. If a call fails, it fails for all shards of its batch.
    pub async fn execute(
        &self,
        length: JobLength,
        backend: Arc<dyn Backend>,
        program: Arc<Program>,
        task: ShardTask,
        stop: StopFlag,
    ) -> Result<ShardExecution, ExecutionFailure> {
        let length = match length {
            JobLength::Short => &self.short,
            JobLength::Long => &self.long,
        };
        if backend.batch_size() > 1 && self.inline_time.is_none() {
            return length.batches.execute(backend, program, task, stop, self.progress.clone()).await;
        }
        let slot = Arc::clone(&length.slots).acquire_owned().await;
        let slot = slot.map_err(|_| ExecutionFailure::Stopped)?;
        let progress = self.progress.clone();
        if let Some(time) = self.inline_time {
            sleep(time).await;
            let control = CallControl { stops: [stop], progress };
            let execution = execute_shard(backend.as_ref(), &program, &task, control)?;
            return Ok(ShardExecution { wall: time, cpu: time, ..execution });
        }
        let execution = spawn_blocking(move || {
            let _slot = slot;
            execute_shard(backend.as_ref(), &program, &task, CallControl { stops: [stop], progress })
        });
        execution.await.unwrap_or(Err(ExecutionFailure::Stopped))
    }
}

/// Executes one shard in a call of its own.
fn execute_shard(
    backend: &dyn Backend,
    program: &Program,
    task: &ShardTask,
    control: CallControl<[StopFlag; 1]>,
) -> Result<ShardExecution, ExecutionFailure> {
    if control.is_stopped() {
        return Err(ExecutionFailure::Stopped);
    }
    let stopwatch = Stopwatch::start();
    let results = call_backend(backend, program, &[task.shard()], &control)?;
    let result = results.first().ok_or(ExecutionFailure::Stopped)?;
    let (bytes, hash) = encode(result);
    let (wall, cpu) = stopwatch.elapsed();
    Ok(ShardExecution { bytes, hash, iterations: result.iterations, wall, cpu })
}

#[cfg(test)]
mod tests;
