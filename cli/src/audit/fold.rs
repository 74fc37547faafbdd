//! The merge of a run's shards in order, with the test of convergence at the checkpoints of the plan. Simpler than an
//! aggregator's, which takes results as they come.

use std::ops::ControlFlow;

use forge_contract::shard_result::ShardResult;
use forge_documents::JobResult;
use forge_kernel::{
    convergence::{ConvergenceMonitor, StopReason},
    reduction::{Reduction, ShapeMismatch},
    request::Request,
};

/// The merged prefix of a run.
#[derive(Debug)]
pub struct Fold<'a> {
    request: &'a Request,
    reduction: Reduction,
    monitor: Option<ConvergenceMonitor>,
    /// Checkpoints that are still to come.
    checkpoints: &'a [u64],
    stopped: Option<StopReason>,
}

impl<'a> Fold<'a> {
    /// Before the first shard.
    pub fn new(request: &'a Request) -> Self {
        Self {
            request,
            reduction: Reduction::new(&request.program),
            monitor: request.monitor(),
            checkpoints: request.plan.checkpoints(),
            stopped: None,
        }
    }

    /// Merges the next shard's result; `Break` when it completes a checkpoint that ends the run.
    ///
    /// # Errors
    /// [`ShapeMismatch`]: the result is of another program.
    pub fn add(&mut self, result: &ShardResult) -> Result<ControlFlow<()>, ShapeMismatch> {
        self.reduction.add(result)?;
        let (Some(monitor), Some((&next, later))) = (&mut self.monitor, self.checkpoints.split_first())
        else {
            return Ok(ControlFlow::Continue(()));
        };
        // Shards never straddle a checkpoint, so the prefix comes to lie on it exactly.
        if self.reduction.iterations() == next {
            self.checkpoints = later;
            self.stopped = monitor.test(&self.reduction.result());
        }
        Ok(if self.stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Iterations merged so far.
    pub fn iterations(&self) -> u64 {
        self.reduction.iterations()
    }

    /// The figures of what has been merged, after the last shard.
    pub fn finish(self) -> JobResult {
        let stop_reason = self.stopped.unwrap_or(StopReason::BudgetExhausted);
        JobResult::new(self.request, self.reduction.result(), stop_reason)
    }
}
