//! The Tokio runtimes of the commands, one constructor for each shape that a command needs.

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use crate::{engine::core_count, error::CommandError};

/// Upper bound on the threads that run asynchronous tasks of a job executed in this process. These
/// tasks read, sign, merge and wait; shards run on threads of their own.
const MAX_TASK_THREADS: usize = 4;

/// A runtime on the calling thread, for store access. File operations use Tokio's blocking pool.
///
/// # Errors
/// The operating system provides no I/O driver.
pub fn current_thread() -> Result<Runtime, CommandError> {
    build(&mut Builder::new_current_thread())
}

/// A runtime with one background thread, which keeps a NATS connection alive between two calls of
/// `block_on`.
///
/// # Errors
/// The operating system provides no thread or I/O driver.
pub fn single_worker() -> Result<Runtime, CommandError> {
    build(Builder::new_multi_thread().worker_threads(1))
}

/// A runtime with a thread for every core, for services.
///
/// # Errors
/// The operating system provides no threads or I/O driver.
pub fn all_cores() -> Result<Runtime, CommandError> {
    build(&mut Builder::new_multi_thread())
}

fn build(builder: &mut Builder) -> Result<Runtime, CommandError> {
    Ok(builder.enable_all().build().context("cannot create the asynchronous runtime")?)
}

/// A runtime that does not wait for its blocking threads when it is dropped: they may still be in
/// the middle of a shard whose result is no longer needed.
pub struct DetachedRuntime(Option<Runtime>);

impl DetachedRuntime {
    /// A runtime with up to [`MAX_TASK_THREADS`] threads for asynchronous tasks.
    ///
    /// # Errors
    /// The operating system provides no threads or I/O driver.
    pub fn new() -> Result<Self, CommandError> {
        let threads = core_count().min(MAX_TASK_THREADS);
        Ok(Self(Some(build(Builder::new_multi_thread().worker_threads(threads))?)))
    }

    /// Runs a future to completion on the calling thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("only drop takes the runtime").block_on(future)
    }
}

impl Drop for DetachedRuntime {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
