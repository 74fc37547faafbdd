//! Executing shards: on threads of their own, so many at once, with the time it took. Shards for a backend that is best given
//! several at once are put together while they wait.

mod batch;

use std::{
    fmt,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use forge_contract::{
    digest::Digest, program::Program, shard::Shard, shard_result::ShardResult, task::ShardTask,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError};
use tokio::{sync::Semaphore, task::spawn_blocking};

use self::batch::Batches;
use crate::panic_message::panic_message;

/// Calls at once of a backend that takes several shards in one: while one is computed, the results of the other are read.
const BATCHES: usize = 2;

/// Stops an execution after the leaf that it is at.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Stops what has this flag.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is to stop.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Told of iterations as they are executed.
pub type ProgressCallback = Arc<dyn Fn(u64) + Send + Sync>;

/// Executes shards.
#[derive(Clone)]
pub struct Executor {
    slots: Arc<Semaphore>,
    batches: Arc<Batches>,
    advance: Option<ProgressCallback>,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({} free)", self.slots.available_permits())
    }
}

/// A shard that has been executed.
#[derive(Debug, Clone)]
pub struct ShardExecution {
    /// The result's canonical bytes.
    pub bytes: Bytes,
    /// Their SHA-256.
    pub hash: Digest,
    /// Iterations executed.
    pub iterations: u64,
    /// Time from start to end. Of a shard that was executed together with others: the time of the backend's call, shared
    /// out by iterations, so that the sum over the shards is the time that the device was busy.
    pub wall: Duration,
    /// CPU time of the thread, shared out likewise.
    pub cpu: Duration,
}

/// Why a shard was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutionFailure {
    /// It was stopped.
    #[error("the execution was stopped")]
    Stopped,
    /// The backend could not.
    #[error("{0}")]
    Backend(String),
}

impl Executor {
    /// Executes up to `slots` shards at once; tells `advance` of iterations, if somebody wants to know.
    pub fn new(slots: usize, advance: Option<ProgressCallback>) -> Self {
        let slots = slots.max(1);
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            batches: Arc::new(Batches::new(slots.min(BATCHES))),
            advance,
        }
    }

    /// How many of `slots` executions a backend is really given at once.
    pub fn concurrent_calls(backend: &dyn Backend, slots: usize) -> usize {
        if backend.batch_size() > 1 { slots.min(BATCHES) } else { slots }.max(1)
    }

    /// Executes a shard, once a slot is free. Where the backend is best given several shards at once, those of the same
    /// job and program that wait with it are executed by the same call, which is broken off when all of them are stopped.
    ///
    /// # Errors
    /// [`ExecutionFailure`]. What goes wrong with a call goes wrong with all its shards.
    pub async fn execute(
        &self,
        backend: Arc<dyn Backend>,
        program: Arc<Program>,
        task: ShardTask,
        stop: StopFlag,
    ) -> Result<ShardExecution, ExecutionFailure> {
        if backend.batch_size() > 1 {
            return self.batches.execute(backend, program, task, stop, self.advance.clone()).await;
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| ExecutionFailure::Stopped)?;
        let advance = self.advance.clone();
        let execution = spawn_blocking(move || {
            let _slot = slot;
            run(backend.as_ref(), &program, &task, Watch { stops: [stop], advance })
        });
        execution.await.unwrap_or(Err(ExecutionFailure::Stopped))
    }
}

/// Breaks a call off when all its shards are stopped.
struct Watch<S> {
    stops: S,
    advance: Option<ProgressCallback>,
}

impl<S: AsRef<[StopFlag]>> Watch<S> {
    fn is_stopped(&self) -> bool {
        self.stops.as_ref().iter().all(StopFlag::is_stopped)
    }
}

impl<S: AsRef<[StopFlag]> + Send + Sync> ExecutionControl for Watch<S> {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        if let Some(advance) = &self.advance {
            advance(iterations);
        }
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Executes one shard.
fn run(
    backend: &dyn Backend,
    program: &Program,
    task: &ShardTask,
    watch: Watch<[StopFlag; 1]>,
) -> Result<ShardExecution, ExecutionFailure> {
    if watch.is_stopped() {
        return Err(ExecutionFailure::Stopped);
    }
    let time = Time::start();
    let results = call(backend, program, &[task.shard()], &watch)?;
    let result = results.first().ok_or(ExecutionFailure::Stopped)?;
    let (bytes, hash) = encode(result);
    let (wall, cpu) = time.used();
    Ok(ShardExecution { bytes, hash, iterations: result.iterations, wall, cpu })
}

/// A call of a backend: a result for each shard, or a failure of all.
fn call(
    backend: &dyn Backend,
    program: &Program,
    shards: &[Shard],
    control: &dyn ExecutionControl,
) -> Result<Vec<ShardResult>, ExecutionFailure> {
    let execute = || backend.execute(program, shards, control);
    let failed = |reason| Err(ExecutionFailure::Backend(format!("{} {reason}", backend.name())));
    match catch_unwind(AssertUnwindSafe(execute)) {
        Ok(Ok(results)) if results.len() == shards.len() => Ok(results),
        Ok(Ok(results)) if results.is_empty() => failed("returned nothing".to_owned()),
        Ok(Ok(results)) => failed(format!("returned {} results for {} shards", results.len(), shards.len())),
        Ok(Err(ExecutionError::Cancelled)) => Err(ExecutionFailure::Stopped),
        Ok(Err(error)) => Err(ExecutionFailure::Backend(error.to_string())),
        Err(panic) => failed(format!("panicked: {}", panic_message(&*panic))),
    }
}

/// A result's canonical bytes and their hash.
fn encode(result: &ShardResult) -> (Bytes, Digest) {
    let mut bytes = result.encode();
    // In-process, results wait in memory for the end of their job.
    bytes.shrink_to_fit();
    let hash = Digest::hash_parts(&[&bytes]);
    (Bytes::from(bytes), hash)
}

/// When an execution started, by the wall's clock and the thread's.
struct Time {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Time {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: thread_cpu_time() }
    }

    /// Wall and CPU time since then.
    fn used(&self) -> (Duration, Duration) {
        let wall = self.wall.elapsed();
        let cpu = thread_cpu_time().zip(self.cpu).map(|(now, then)| now.saturating_sub(then));
        (wall, cpu.unwrap_or(wall))
    }
}

/// CPU time that the calling thread has used; `None` where the system does not tell.
fn thread_cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).ok()
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests;
