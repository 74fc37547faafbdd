//! Executing shards: on threads of their own, so many at once, with the time it took, and signed.

use std::{
    any::Any,
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
use forge_contract::{digest::Digest, program::Program, task::ShardTask};
use forge_kernel::execute::{Backend, Control, ExecuteError};
use tokio::{sync::Semaphore, task::spawn_blocking};

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
pub type Advance = Arc<dyn Fn(u64) + Send + Sync>;

/// Executes shards.
#[derive(Clone)]
pub struct Executor {
    slots: Arc<Semaphore>,
    advance: Option<Advance>,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({} free)", self.slots.available_permits())
    }
}

/// A shard that has been executed.
#[derive(Debug, Clone)]
pub struct Executed {
    /// The result's canonical bytes.
    pub bytes: Bytes,
    /// Their SHA-256.
    pub hash: Digest,
    /// Iterations executed.
    pub iterations: u64,
    /// Time from start to end.
    pub wall: Duration,
    /// CPU time of the thread.
    pub cpu: Duration,
}

/// Why a shard was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It was stopped.
    #[error("the execution was stopped")]
    Stopped,
    /// The backend could not.
    #[error("{0}")]
    Backend(String),
}

impl Executor {
    /// Executes up to `slots` shards at once; tells `advance` of iterations, if somebody wants to know.
    pub fn new(slots: usize, advance: Option<Advance>) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots.max(1))), advance }
    }

    /// Executes a shard, once a slot is free.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn execute(
        &self,
        backend: Arc<dyn Backend>,
        program: Arc<Program>,
        task: ShardTask,
        stop: StopFlag,
    ) -> Result<Executed, Failed> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| Failed::Stopped)?;
        let advance = self.advance.clone();
        let execution = spawn_blocking(move || {
            let _slot = slot;
            run(backend.as_ref(), &program, &task, &Watch { stop, advance })
        });
        execution.await.unwrap_or(Err(Failed::Stopped))
    }
}

struct Watch {
    stop: StopFlag,
    advance: Option<Advance>,
}

impl Control for Watch {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        if let Some(advance) = &self.advance {
            advance(iterations);
        }
        if self.stop.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn run(
    backend: &dyn Backend,
    program: &Program,
    task: &ShardTask,
    watch: &Watch,
) -> Result<Executed, Failed> {
    if watch.stop.is_stopped() {
        return Err(Failed::Stopped);
    }
    let (start, cpu) = (Instant::now(), thread_cpu_time());
    let execute = || backend.execute(program, &[task.shard()], watch);
    let results = match catch_unwind(AssertUnwindSafe(execute)) {
        Ok(Ok(results)) => results,
        Ok(Err(ExecuteError::Cancelled)) => return Err(Failed::Stopped),
        Ok(Err(error)) => return Err(Failed::Backend(error.to_string())),
        Err(panic) => return Err(Failed::Backend(format!("{} panicked: {}", backend.name(), text(&*panic)))),
    };
    let Some(result) = results.into_iter().next() else {
        return Err(Failed::Backend(format!("{} returned nothing", backend.name())));
    };
    let mut bytes = result.encode();
    // In-process, results wait in memory for the end of their job.
    bytes.shrink_to_fit();
    let bytes = Bytes::from(bytes);
    let hash = Digest::of(&[&bytes]);
    let wall = start.elapsed();
    let used = thread_cpu_time().zip(cpu).map(|(now, then)| now.saturating_sub(then));
    Ok(Executed { bytes, hash, iterations: result.iterations, wall, cpu: used.unwrap_or(wall) })
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
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
