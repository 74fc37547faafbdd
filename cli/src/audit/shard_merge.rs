//! Merges a run's shard results in shard order and tests for convergence at the plan's checkpoints.
//! An aggregator computes the same from results that arrive in any order. The results may be an
//! attacker's.

use forge_contract::{canonical::MAX_INTEGER, shard::ShardId, shard_result::ShardResult};
use forge_documents::{JobResult, number_format::format_count};
use forge_kernel::{
    convergence::{ConvergenceMonitor, StopReason},
    occurrence_tallies,
    reduction::Reduction,
    request::Request,
};

use super::report::CheckProblem;

/// The merged prefix of a run.
pub struct ShardMerge<'a> {
    request: &'a Request,
    planned: Box<dyn Iterator<Item = ShardId> + 'a>,
    /// Results merged so far.
    count: u64,
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
            planned: Box::new(request.plan.shards()),
            count: 0,
            reduction: Reduction::new(&request.program),
            monitor: request.monitor(),
            checkpoints: request.plan.checkpoints(),
            stop_reason: None,
        }
    }

    /// Decodes and merges the result of the plan's next shard, and returns it.
    ///
    /// # Errors
    /// Why the next shard of the run cannot have this result.
    pub fn add(&mut self, bytes: &[u8]) -> Result<ShardResult, CheckProblem> {
        let index = self.count;
        let failed = |reason: String| CheckProblem::failed(format!("shard result {index}: {reason}"));
        let Some(id) = self.planned.next() else {
            return Err(failed("the plan has no further shard".to_owned()));
        };
        if self.stop_reason.is_some() {
            return Err(failed("the run converges with the result before it".to_owned()));
        }
        let result = ShardResult::decode(bytes).map_err(|error| failed(error.to_string()))?;
        let range = self.request.plan.range(id);
        let planned = range.end - range.start;
        if result.iterations != planned {
            return Err(failed(format!(
                "it has {} iterations, but the plan has {}",
                format_count(result.iterations),
                format_count(planned)
            )));
        }
        self.reduction.add(&result).map_err(|error| failed(error.to_string()))?;
        let checked = occurrence_tallies::check(&self.request.program, &result);
        checked.map_err(|mismatch| failed(mismatch.to_string()))?;
        self.count += 1;
        self.test_convergence();
        Ok(result)
    }

    fn test_convergence(&mut self) {
        let (Some(monitor), Some((&next, rest))) = (&mut self.monitor, self.checkpoints.split_first()) else {
            return;
        };
        // No shard straddles a checkpoint, so the prefix ends exactly on it.
        if self.reduction.iterations() == next {
            self.checkpoints = rest;
            self.stop_reason = monitor.test(&self.reduction.result());
        }
    }

    /// The figures of the merged shards. Call after the last shard.
    ///
    /// # Errors
    /// The run does not end after these shards, or a figure exceeds what a document can state.
    pub fn finish(self) -> Result<JobResult, CheckProblem> {
        let iterations = self.reduction.iterations();
        let stop_reason = match self.stop_reason {
            Some(reason) => reason,
            None if iterations == self.request.plan.iterations() => StopReason::BudgetExhausted,
            None => {
                return Err(CheckProblem::failed(format!(
                    "after {} iterations the run neither converges nor ends",
                    format_count(iterations)
                )));
            }
        };
        let merged = self.reduction.result();
        let occurrences = merged.components.iter().map(|tally| u128::from(tally.occurrences)).sum::<u128>();
        // A result also states a sum of capped occurrences, of which there are no more, and of
        // capped totals.
        if occurrences + u128::from(merged.capped) > u128::from(MAX_INTEGER) {
            return Err(CheckProblem::failed(format!(
                "the shard results have {occurrences} occurrences together, and a result can state at most 2^53"
            )));
        }
        Ok(JobResult::new(self.request, merged, stop_reason))
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::{
        program::MAX_COUNT,
        shard_result::{Distribution, Tally},
    };

    use super::*;
    use crate::example::example_envelope;

    /// A request with `shards` times 2^28 iterations, one shard for each 2^28.
    fn request(shards: u64) -> Request {
        let mut envelope = example_envelope(forge_kernel::workload::PROFILES[0]);
        envelope.args.insert("iterations".to_owned(), (shards << 28).into());
        Request::from_envelope(envelope).unwrap()
    }

    /// A result of losses of 0, with as many occurrences as the decoder accepts.
    fn forged_result(request: &Request) -> Vec<u8> {
        let iterations = 1 << 28;
        let distribution = Distribution {
            min: 0,
            max: 0,
            at_marks: vec![0; request.program.marks().len()],
            histogram: vec![(0, iterations)],
            listed: Vec::new(),
        };
        let tally = Tally { occurrences: iterations * MAX_COUNT, capped: 0 };
        let result = ShardResult {
            iterations,
            components: vec![tally; request.program.component_count()],
            capped: 0,
            sum: 0,
            sum_squares: 0_u8.into(),
            total: distribution.clone(),
            largest: distribution,
            details: None,
        };
        result.encode()
    }

    #[test]
    fn counts_that_no_document_can_state_are_refused() {
        let request = request(1025);
        let (mut merge, result) = (ShardMerge::new(&request), forged_result(&request));
        for _ in request.plan.shards() {
            merge.add(&result).unwrap();
        }
        let problem = merge.finish().unwrap_err().into_explanation();
        assert!(problem.contains("a result can state at most 2^53"), "{problem}");
    }

    #[test]
    fn capped_counts_that_no_document_can_state_are_refused() {
        // 2^38 iterations of 2^15 occurrences, all of them and all totals saturated.
        let mut envelope = example_envelope(forge_kernel::workload::PROFILES[0]);
        for limit in ["policy_limit", "aggregate_limit"] {
            envelope.args.remove(limit);
        }
        envelope.args.insert("iterations".to_owned(), (1_u64 << 38).into());
        let request = Request::from_envelope(envelope).unwrap();
        let mut result = ShardResult::decode(&forged_result(&request)).unwrap();
        result.components[1..].fill(Tally::default());
        result.components[0].capped = result.components[0].occurrences;
        result.capped = 1;
        let (mut merge, result) = (ShardMerge::new(&request), result.encode());
        request.plan.shards().for_each(|_| drop(merge.add(&result).unwrap()));
        let problem = merge.finish().unwrap_err().into_explanation();
        assert!(problem.contains("a result can state at most 2^53"), "{problem}");
    }

    #[test]
    fn missing_and_additional_results_are_refused() {
        let request = request(1025);
        let (mut merge, result) = (ShardMerge::new(&request), forged_result(&request));
        merge.add(&result).unwrap();
        let problem = merge.finish().unwrap_err().into_explanation();
        assert_eq!(problem, "after 268,435,456 iterations the run neither converges nor ends");
        let mut merge = ShardMerge::new(&request);
        request.plan.shards().for_each(|_| drop(merge.add(&result).unwrap()));
        let problem = merge.add(&result).unwrap_err().into_explanation();
        assert_eq!(problem, "shard result 1025: the plan has no further shard");
    }
}
