//! Batching for backends that work best on several shards at once: the first shard to get a slot
//! takes the waiting shards of its job and program with it. Shards of different jobs or programs
//! never share a call.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use forge_contract::{program::Program, task::ShardTask};
use forge_kernel::backend::Backend;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::spawn_blocking,
};

use super::{
    backend_call::{
        CallControl, ExecutionFailure, ProgressCallback, ShardExecution, StopFlag, call_backend, encode,
    },
    stopwatch::Stopwatch,
};

type ExecutionReceiver = oneshot::Receiver<Result<ShardExecution, ExecutionFailure>>;

/// Batches queued shards and executes each batch in one call.
pub(super) struct ShardBatcher {
    slots: Arc<Semaphore>,
    queue: Mutex<BatchQueue>,
}

#[derive(Default)]
struct BatchQueue {
    next_number: u64,
    /// In order of arrival.
    shards: VecDeque<QueuedShard>,
}

struct QueuedShard {
    number: u64,
    backend: Arc<dyn Backend>,
    program: Arc<Program>,
    task: ShardTask,
    stop: StopFlag,
    /// Closed once the caller is gone.
    sender: oneshot::Sender<Result<ShardExecution, ExecutionFailure>>,
}

impl QueuedShard {
    /// Whether one call may execute both shards.
    fn may_share_call(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backend, &other.backend)
            && self.task.program == other.task.program
            && self.task.job_uid == other.task.job_uid
    }
}

impl BatchQueue {
    fn push(
        &mut self,
        backend: Arc<dyn Backend>,
        program: Arc<Program>,
        task: ShardTask,
        stop: StopFlag,
    ) -> (u64, ExecutionReceiver) {
        let (sender, receiver) = oneshot::channel();
        let number = self.next_number;
        self.next_number += 1;
        self.shards.push_back(QueuedShard { number, backend, program, task, stop, sender });
        (number, receiver)
    }

    /// Removes the shard with this number and, oldest first, those that may share its call, up to
    /// the backend's batch size. Returns `None` if another call has taken the shard. Also removes
    /// stopped shards, which fail, and abandoned ones.
    fn take_batch(&mut self, number: u64) -> Option<Vec<QueuedShard>> {
        let shards = std::mem::take(&mut self.shards).into_iter();
        let (stopped, mut queued): (VecDeque<_>, VecDeque<_>) =
            shards.partition(|shard| shard.stop.is_stopped());
        for shard in stopped {
            let _ = shard.sender.send(Err(ExecutionFailure::Stopped));
        }
        queued.retain(|shard| !shard.sender.is_closed());
        let position = queued.iter().position(|shard| shard.number == number);
        let Some(first) = position.and_then(|position| queued.remove(position)) else {
            self.shards = queued;
            return None;
        };
        let max_shards = first.backend.batch_size();
        let mut batch = vec![first];
        for shard in queued {
            if batch.len() < max_shards && shard.may_share_call(&batch[0]) {
                batch.push(shard);
            } else {
                self.shards.push_back(shard);
            }
        }
        Some(batch)
    }
}

impl ShardBatcher {
    /// Batches shards into up to `slots` concurrent calls.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), queue: Mutex::default() }
    }

    /// Executes a shard, in a call of its own or in one that another shard starts.
    ///
    /// # Errors
    /// [`ExecutionFailure`].
    pub(super) async fn execute(
        &self,
        backend: Arc<dyn Backend>,
        program: Arc<Program>,
        task: ShardTask,
        stop: StopFlag,
        progress: Option<ProgressCallback>,
    ) -> Result<ShardExecution, ExecutionFailure> {
        let (number, mut receiver) = self.queue.lock().push(backend, program, task, stop);
        let slot = tokio::select! {
            biased;
            execution = &mut receiver => return execution.unwrap_or(Err(ExecutionFailure::Stopped)),
            slot = Arc::clone(&self.slots).acquire_owned() => slot.map_err(|_| ExecutionFailure::Stopped)?,
        };
        // The batch runs in a detached task, so cancelling one caller does not cancel the other
        // shards of the batch.
        match self.queue.lock().take_batch(number) {
            Some(batch) => drop(spawn_blocking(move || execute_batch(batch, progress, slot))),
            None => drop(slot),
        }
        receiver.await.unwrap_or(Err(ExecutionFailure::Stopped))
    }
}

/// Executes a batch in one call and sends each caller its result.
fn execute_batch(batch: Vec<QueuedShard>, progress: Option<ProgressCallback>, slot: OwnedSemaphorePermit) {
    let (backend, program) = (Arc::clone(&batch[0].backend), Arc::clone(&batch[0].program));
    let shards: Vec<_> = batch.iter().map(|shard| shard.task.shard()).collect();
    let stops: Vec<_> = batch.iter().map(|shard| shard.stop.clone()).collect();
    let stopwatch = Stopwatch::start();
    let results = call_backend(backend.as_ref(), &program, &shards, &CallControl { stops, progress });
    let (wall, cpu) = stopwatch.elapsed();
    // Free the slot first: the device must not idle while results are encoded.
    drop(slot);
    let results = match results {
        Ok(results) => results,
        Err(failure) => {
            for shard in batch {
                let _ = shard.sender.send(Err(failure.clone()));
            }
            return;
        }
    };
    let total = results.iter().map(|result| result.iterations).fold(0, u64::saturating_add);
    for (shard, result) in batch.into_iter().zip(results) {
        let (bytes, hash) = encode(&result);
        let iterations = result.iterations;
        let (wall, cpu) = (proportion(wall, iterations, total), proportion(cpu, iterations, total));
        let _ = shard.sender.send(Ok(ShardExecution { bytes, hash, iterations, wall, cpu }));
    }
}

/// Returns the part of `time` that is proportional to `iterations` out of `total`.
fn proportion(time: Duration, iterations: u64, total: u64) -> Duration {
    let nanoseconds = time.as_nanos() * u128::from(iterations) / u128::from(total.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
impl ShardBatcher {
    /// Number of queued shards.
    pub(super) fn queued_shards(&self) -> usize {
        self.queue.lock().shards.len()
    }
}
