//! Merging results in plan order although they arrive in any order.
//!
//! A segment is the run of shards between two checkpoints. Results are merged into their segment as
//! they arrive, and complete segments into the prefix in plan order. Convergence is tested on the
//! prefix at each checkpoint, so where a run ends does not depend on the order of arrival.

use std::{collections::BTreeMap, sync::Arc};

use forge_contract::{program::Program, shard::ShardId, shard_result::ShardResult};
use forge_kernel::{
    convergence::{ConvergenceMonitor, StopReason},
    reduction::Reduction,
    request::Request,
    result_shape::ShapeMismatch,
};

/// The merged results contradict the plan. Results are checked before they are merged, so this is a
/// fault of the aggregator or of its machine, and the job must fail rather than complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AggregationError {
    #[error("merging segment {segment} into the prefix failed: {mismatch}")]
    SegmentShape { segment: usize, mismatch: ShapeMismatch },
    #[error("the merged prefix has {merged} iterations, but the plan has {planned} up to this checkpoint")]
    PrefixLength { merged: u64, planned: u64 },
    #[error("merging the result of shard {shard} failed: {mismatch}")]
    ShardShape { shard: ShardId, mismatch: ShapeMismatch },
    #[error("results of {accepted} shards were accepted, but the run has {shards} shards")]
    MissingResults { accepted: usize, shards: usize },
}

/// Where and why a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunEnd {
    pub reason: StopReason,
    /// Shards of the result: the first ones of the plan.
    pub shards: usize,
}

/// The merge of a job's results. Needs memory for the prefix and for the open segments.
#[derive(Debug)]
pub(super) struct PrefixMerge {
    program: Arc<Program>,
    segments: Vec<SegmentBounds>,
    /// Segments with some of their results, by index.
    open: BTreeMap<usize, OpenSegment>,
    /// Number of segments merged into `prefix`.
    closed: usize,
    /// `None` until a segment has been merged: an empty reduction takes some 700 kB.
    prefix: Option<Reduction>,
    monitor: Option<ConvergenceMonitor>,
}

/// The shards of a segment, by position in the plan.
#[derive(Debug)]
struct SegmentBounds {
    start: usize,
    end: usize,
    /// Iterations of the plan up to the end of the segment.
    end_iteration: u64,
    ends_at_checkpoint: bool,
}

#[derive(Debug)]
struct OpenSegment {
    reduction: Reduction,
    results: usize,
}

impl PrefixMerge {
    /// Starts the merge of a run.
    pub fn new(request: &Request) -> Self {
        let plan = &request.plan;
        let mut ends = plan.checkpoints().to_vec();
        if ends.last() != Some(&plan.iterations()) {
            ends.push(plan.iterations());
        }
        let mut start = 0;
        let segments = ends.into_iter().enumerate().map(|(index, end_iteration)| {
            let end = plan.shards_before(end_iteration) as usize;
            let ends_at_checkpoint = index < plan.checkpoints().len();
            let bounds = SegmentBounds { start, end, end_iteration, ends_at_checkpoint };
            start = end;
            bounds
        });
        Self {
            program: Arc::clone(&request.program),
            segments: segments.collect(),
            open: BTreeMap::new(),
            closed: 0,
            prefix: None,
            monitor: request.monitor(),
        }
    }

    /// Whether the run may end before its last shard.
    pub fn may_converge(&self) -> bool {
        self.monitor.is_some()
    }

    /// Merges the result of the shard at `position` into its segment.
    ///
    /// # Errors
    /// [`ShapeMismatch`] when the result has another shape than the program; nothing is merged
    /// then.
    pub fn add(&mut self, position: usize, result: &ShardResult) -> Result<(), ShapeMismatch> {
        let index = self.segments.partition_point(|segment| segment.end <= position);
        let new_segment = || OpenSegment { reduction: Reduction::new(&self.program), results: 0 };
        let segment = self.open.entry(index).or_insert_with(new_segment);
        segment.reduction.add(result)?;
        segment.results += 1;
        Ok(())
    }

    /// Merges complete segments into the prefix, in order, until one is incomplete or the run ends.
    ///
    /// # Errors
    /// [`AggregationError`] when a segment cannot be merged, or when the prefix does not have the
    /// iterations that the plan has up to there.
    pub fn advance(&mut self) -> Result<Option<RunEnd>, AggregationError> {
        while let Some(bounds) = self.segments.get(self.closed) {
            let index = self.closed;
            let expected = bounds.end - bounds.start;
            if self.open.get(&index).is_none_or(|segment| segment.results < expected) {
                return Ok(None);
            }
            if let Some(segment) = self.open.remove(&index) {
                match &mut self.prefix {
                    None => self.prefix = Some(segment.reduction),
                    Some(prefix) => prefix
                        .add(&segment.reduction.result())
                        .map_err(|mismatch| AggregationError::SegmentShape { segment: index, mismatch })?,
                }
            }
            let (merged, planned) = (self.iterations(), bounds.end_iteration);
            if merged != planned {
                return Err(AggregationError::PrefixLength { merged, planned });
            }
            self.closed += 1;
            let stop_reason = match (&mut self.monitor, &self.prefix) {
                (Some(monitor), Some(prefix)) if bounds.ends_at_checkpoint => monitor.test(&prefix.result()),
                _ => None,
            };
            let budget_exhausted = self.closed == self.segments.len();
            let reason = stop_reason.or(budget_exhausted.then_some(StopReason::BudgetExhausted));
            if let Some(reason) = reason {
                let shards = bounds.end;
                self.open.clear();
                return Ok(Some(RunEnd { reason, shards }));
            }
        }
        Ok(None)
    }

    /// Iterations of the prefix.
    pub fn iterations(&self) -> u64 {
        self.prefix.as_ref().map_or(0, Reduction::iterations)
    }

    /// The merge of all segments closed so far; `None` if there are none.
    pub fn result(&self) -> Option<ShardResult> {
        self.prefix.as_ref().map(Reduction::result)
    }
}

#[cfg(test)]
mod tests {
    use forge_kernel::backend::{Backend, simd::Simd};
    use serde_json::json;

    use super::*;

    #[test]
    fn prefix_that_disagrees_with_the_plan_is_an_aggregation_error() {
        let envelope = json!({
            "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
            "args": {"iterations": 100_000, "claim_freq": 0.1, "claim_severity_mu": 6, "claim_severity_sig": 1},
        });
        let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
        let shards: Vec<_> = request.plan.shards().collect();
        let tasks: Vec<_> = shards.iter().map(|&shard| request.shard(shard)).collect();
        let results = Simd::new().execute(&request.program, &tasks, &()).unwrap();

        // The first result is merged twice, in place of the second.
        let mut merge = PrefixMerge::new(&request);
        let mut outcome = Ok(None);
        for position in 0..shards.len() {
            merge.add(position, &results[0]).unwrap();
            outcome = outcome.and_then(|_| merge.advance());
        }
        assert!(shards.len() > 1);
        let error = AggregationError::PrefixLength { merged: 131_072, planned: 100_000 };
        assert_eq!(outcome, Err(error));
    }
}
