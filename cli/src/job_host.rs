//! Who follows work in this process and stops it: a command on a terminal, or a program that embeds
//! this library.

use std::{
    ops::ControlFlow,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use forge_kernel::{backend::ExecutionControl, request::Request};
use forge_service::executor::ProgressCallback;
use tokio_util::sync::CancellationToken;

use crate::{
    error::CommandError,
    interrupt::InterruptSignal,
    output,
    progress::{IterationCounter, ProgressDisplay},
    runtime::DetachedRuntime,
};

/// Progress and cancellation of work in this process. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct JobControl {
    counter: IterationCounter,
    total: Arc<AtomicU64>,
    cancellation: CancellationToken,
}

impl JobControl {
    /// Iterations executed so far. Those that are executed a second time for verification count
    /// twice.
    pub fn iterations_done(&self) -> u64 {
        self.counter.get().min(self.iterations_total())
    }

    /// Upper bound on [`JobControl::iterations_done`]; 0 until the work begins.
    pub fn iterations_total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Stops the work, which then fails with `cancelled`.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }

    /// Waits until the work is cancelled.
    pub(crate) async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// The callback through which an executor reports iterations.
    pub(crate) fn progress_callback(&self) -> ProgressCallback {
        self.counter.callback()
    }
}

/// Counts. The work itself watches for its cancellation.
impl ExecutionControl for JobControl {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        self.counter.add(iterations);
        ControlFlow::Continue(())
    }
}

/// Who follows work in this process and stops it.
#[derive(Debug, Clone)]
pub enum JobHost {
    /// A command. The first SIGINT or SIGTERM cancels the work.
    Command {
        /// Whether progress is shown on standard error.
        show_progress: bool,
    },
    /// A program that embeds this library. It handles signals itself, and gets no output.
    Embedded(JobControl),
}

impl JobHost {
    /// Runs `work` to completion on the calling thread. It executes up to `iterations` of a
    /// request.
    ///
    /// # Errors
    /// The error of `work`, or the operating system refuses a signal handler.
    pub(crate) fn run<T>(
        &self,
        runtime: &DetachedRuntime,
        request: &Request,
        iterations: u64,
        work: impl AsyncFnOnce(&JobControl) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let (control, show_progress) = match self {
            Self::Embedded(control) => (control.clone(), None),
            Self::Command { show_progress } => (JobControl::default(), Some(*show_progress)),
        };
        control.total.store(iterations, Ordering::Relaxed);
        let Some(show_progress) = show_progress else { return runtime.block_on(work(&control)) };
        ProgressDisplay::new(show_progress, request, iterations).show_during(&control.counter, || {
            runtime.block_on(async {
                let mut interrupt = InterruptSignal::new().context("cannot install signal handlers")?;
                let mut work = pin!(work(&control));
                tokio::select! {
                    result = &mut work => return result,
                    () = interrupt.wait() => control.cancel(),
                }
                work.await
            })
        })
    }

    /// Prints a line about the work to standard error, if there is a command to print for.
    ///
    /// # Errors
    /// The error of `describe`.
    pub(crate) fn print_status(
        &self,
        describe: impl FnOnce() -> Result<String, CommandError>,
    ) -> Result<(), CommandError> {
        if matches!(self, Self::Command { .. }) {
            output::print_to_stderr(&describe()?);
        }
        Ok(())
    }
}
