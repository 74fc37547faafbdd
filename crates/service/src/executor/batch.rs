//! Putting shards together that wait for the same backend: whoever gets a slot takes all that are alike. Shards of several
//! jobs or programs are never in one call.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use forge_contract::{program::Program, task::ShardTask};
use forge_kernel::backend::Backend;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::spawn_blocking,
};

use super::{ExecutionFailure, ProgressCallback, ShardExecution, StopFlag, Time, Watch, call, encode};

/// Calls of backends that take several shards in one, and the shards that wait for them.
pub(super) struct Batches {
    slots: Arc<Semaphore>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
}

/// A shard that waits.
struct Waiting {
    number: u64,
    backend: Arc<dyn Backend>,
    program: Arc<Program>,
    task: ShardTask,
    stop: StopFlag,
    /// Closed when nobody waits for the shard any more.
    answer: oneshot::Sender<Result<ShardExecution, ExecutionFailure>>,
}

impl Waiting {
    /// Whether one call may execute both.
    fn is_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backend, &other.backend)
            && self.task.program == other.task.program
            && self.task.job_id == other.task.job_id
    }
}

impl Queue {
    fn put(
        &mut self,
        backend: Arc<dyn Backend>,
        program: Arc<Program>,
        task: ShardTask,
        stop: StopFlag,
    ) -> (u64, oneshot::Receiver<Result<ShardExecution, ExecutionFailure>>) {
        let (answer, answered) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting { number, backend, program, task, stop, answer });
        (number, answered)
    }

    /// The shard of this number with those like it, the oldest first and no more than its backend wants; `None` if another
    /// call has taken it. Shards that were stopped are told so, and those that nobody waits for are forgotten.
    fn take(&mut self, number: u64) -> Option<Vec<Waiting>> {
        let all = std::mem::take(&mut self.waiting).into_iter();
        let (stopped, mut waiting): (VecDeque<_>, VecDeque<_>) =
            all.partition(|waiting| waiting.stop.is_stopped());
        for waiting in stopped {
            let _ = waiting.answer.send(Err(ExecutionFailure::Stopped));
        }
        waiting.retain(|waiting| !waiting.answer.is_closed());
        let own = waiting.iter().position(|waiting| waiting.number == number);
        let own = own.and_then(|own| waiting.remove(own));
        let Some(own) = own else {
            self.waiting = waiting;
            return None;
        };
        let most = own.backend.batch_size();
        let mut batch = vec![own];
        for waiting in waiting {
            if batch.len() < most && waiting.is_like(&batch[0]) {
                batch.push(waiting);
            } else {
                self.waiting.push_back(waiting);
            }
        }
        Some(batch)
    }
}

impl Batches {
    /// For up to `slots` calls at once.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), queue: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Executes a shard, by a call of its own or by one that another shard has started.
    ///
    /// # Errors
    /// [`ExecutionFailure`].
    pub(super) async fn execute(
        &self,
        backend: Arc<dyn Backend>,
        program: Arc<Program>,
        task: ShardTask,
        stop: StopFlag,
        advance: Option<ProgressCallback>,
    ) -> Result<ShardExecution, ExecutionFailure> {
        let (number, mut answered) = self.queue().put(backend, program, task, stop);
        let slot = tokio::select! {
            biased;
            answer = &mut answered => return answer.unwrap_or(Err(ExecutionFailure::Stopped)),
            slot = Arc::clone(&self.slots).acquire_owned() => slot.map_err(|_| ExecutionFailure::Stopped)?,
        };
        // The call is nobody's: whoever is dropped from here on takes no other shard with it.
        match self.queue().take(number) {
            Some(batch) => drop(spawn_blocking(move || run(batch, advance, slot))),
            None => drop(slot),
        }
        answered.await.unwrap_or(Err(ExecutionFailure::Stopped))
    }
}

/// Executes shards by one call, and answers those who wait for them.
fn run(batch: Vec<Waiting>, advance: Option<ProgressCallback>, slot: OwnedSemaphorePermit) {
    let (backend, program) = (Arc::clone(&batch[0].backend), Arc::clone(&batch[0].program));
    let shards: Vec<_> = batch.iter().map(|waiting| waiting.task.shard()).collect();
    let stops: Vec<_> = batch.iter().map(|waiting| waiting.stop.clone()).collect();
    let time = Time::start();
    let results = call(backend.as_ref(), &program, &shards, &Watch { stops, advance });
    let (wall, cpu) = time.used();
    // The device is free: it is not to wait for the encoding.
    drop(slot);
    let results = match results {
        Ok(results) => results,
        Err(failed) => {
            for waiting in batch {
                let _ = waiting.answer.send(Err(failed.clone()));
            }
            return;
        }
    };
    let total = results.iter().map(|result| result.iterations).fold(0, u64::saturating_add);
    for (waiting, result) in batch.into_iter().zip(results) {
        let (bytes, hash) = encode(&result);
        let iterations = result.iterations;
        let (wall, cpu) = (share(wall, iterations, total), share(cpu, iterations, total));
        let _ = waiting.answer.send(Ok(ShardExecution { bytes, hash, iterations, wall, cpu }));
    }
}

/// The part of a time that falls to so many iterations out of `total`.
fn share(time: Duration, iterations: u64, total: u64) -> Duration {
    let part = time.as_nanos() * u128::from(iterations) / u128::from(total.max(1));
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
impl Batches {
    /// Shards that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }
}
