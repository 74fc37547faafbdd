//! Merges a run's shard results in shard order and tests for convergence at the plan's checkpoints.
//! An aggregator computes the same from results that arrive in any order.

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
pub struct ShardMerge<'a> {
    request: &'a Request,
    reduction: Reduction,
    monitor: Option<ConvergenceMonitor>,
    /// Checkpoints not yet reached, in ascending order.
    checkpoints: &'a [u64],
    stop_reason: Option<StopReason>,
}

impl<'a> ShardMerge<'a> {
    /// An empty merge.
    pub fn new(request: &'a Request) -> Self {
        Self {
            request,
            reduction: Reduction::new(&request.program),
            monitor: request.monitor(),
            checkpoints: request.plan.checkpoints(),
            stop_reason: None,
        }
    }

    /// Merges the result of the next shard. Returns `Break` if it completes a checkpoint at which
    /// the run converges.
    ///
    /// # Errors
    /// [`ShapeMismatch`] if the result belongs to another program.
    pub fn add(&mut self, result: &ShardResult) -> Result<ControlFlow<()>, ShapeMismatch> {
        self.reduction.add(result)?;
        let (Some(monitor), Some((&next, rest))) = (&mut self.monitor, self.checkpoints.split_first()) else {
            return Ok(ControlFlow::Continue(()));
        };
        // No shard straddles a checkpoint, so the prefix ends exactly on it.
        if self.reduction.iterations() == next {
            self.checkpoints = rest;
            self.stop_reason = monitor.test(&self.reduction.result());
        }
        Ok(if self.stop_reason.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Number of iterations merged so far.
    pub fn iterations(&self) -> u64 {
        self.reduction.iterations()
    }

    /// The figures of the merged shards. Call after the last shard.
    pub fn into_figures(self) -> JobResult {
        let stop_reason = self.stop_reason.unwrap_or(StopReason::BudgetExhausted);
        JobResult::new(self.request, self.reduction.result(), stop_reason)
    }
}
