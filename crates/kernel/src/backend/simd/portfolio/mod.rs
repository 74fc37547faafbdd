//! Executes portfolios: programs with lines, treaties and details, which the plain executor does
//! not take.
//!
//! Iterations are executed in batches. Vectors compute the keystream, one iteration in each lane,
//! and look up the amounts of one component at a time; see `draws`, `amounts` and `recorder`. Sums
//! and integers are those of the scalar reference, which executes a batch whose sums may saturate.

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{LEAF_ITERATIONS, Shard},
    shard_result::ShardResult,
};

use self::{
    amounts::BatchAmounts,
    draws::{EventBatch, LeafKeystream, MAX_BATCH_YEARS},
    model::PreparedPortfolio,
    recorder::Recorder,
};
use super::{
    super::{
        ExecutionControl, ExecutionError,
        scalar::{self, RangeExecutor},
    },
    InstructionSet,
};
use crate::{reduction::merge_results, seed_tree::leaf_seeds};

mod amounts;
mod draws;
mod model;
mod recorder;
mod tallies;
mod thresholds;

/// Most amounts in a batch, so that its draws stay in the cache, unless an iteration has more.
const MAX_BATCH_AMOUNTS: u64 = 1 << 15;

/// Most amounts of the iterations in all lanes. The reference executes programs that may have more,
/// one iteration at a time, since their draws would take hundreds of megabytes.
const MAX_GROUP_AMOUNTS: u64 = 1 << 20;

/// Executes a shard.
pub(super) fn execute_shard(
    instructions: InstructionSet,
    program: &Program,
    shard: &Shard,
    control: &dyn ExecutionControl,
) -> Result<ShardResult, ExecutionError> {
    if program.max_amounts().saturating_mul(instructions.group_size()) > MAX_GROUP_AMOUNTS {
        return scalar::execute_shard(program, shard, control);
    }
    let portfolio = PreparedPortfolio::new(program);
    let mut execution = PortfolioExecution::new(instructions, &portfolio);
    let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
    for (leaf, seed) in (0..).zip(leaf_seeds(shard.seed, shard.id.height, leaves)) {
        let iterations = LEAF_ITERATIONS.min(shard.iterations - leaf * LEAF_ITERATIONS);
        execution.execute_leaf(seed, iterations, control)?;
    }
    Ok(execution.finish())
}

/// The state of an execution.
struct PortfolioExecution<'a> {
    instructions: InstructionSet,
    portfolio: &'a PreparedPortfolio<'a>,
    batch: EventBatch,
    amounts: BatchAmounts,
    recorder: Recorder,
    /// Executes batches whose sums may saturate.
    reference: Option<RangeExecutor<'a>>,
    /// Iterations in a batch, a multiple of the lanes.
    batch_years: u64,
    /// Iterations between two calls of the control.
    interval: u64,
}

impl<'a> PortfolioExecution<'a> {
    fn new(instructions: InstructionSet, portfolio: &'a PreparedPortfolio<'a>) -> Self {
        let program = portfolio.program;
        let width = instructions.group_size();
        let years = MAX_BATCH_AMOUNTS / program.max_amounts().max(1);
        Self {
            instructions,
            portfolio,
            batch: EventBatch::new(instructions, portfolio),
            amounts: BatchAmounts::new(portfolio),
            recorder: Recorder::new(portfolio),
            reference: None,
            batch_years: years.clamp(width, MAX_BATCH_YEARS as u64) / width * width,
            interval: scalar::report_interval(program),
        }
    }

    fn execute_leaf(
        &mut self,
        seed: Digest,
        iterations: u64,
        control: &dyn ExecutionControl,
    ) -> Result<(), ExecutionError> {
        let mut keystream = LeafKeystream::new(&seed.0);
        let (mut start, mut unreported) = (0, 0);
        while start < iterations {
            let end = iterations.min(start + self.batch_years);
            self.execute_batch(seed, &mut keystream, start, end);
            unreported += end - start;
            start = end;
            if unreported >= self.interval || start == iterations {
                if control.advance(unreported).is_break() {
                    return Err(ExecutionError::Cancelled);
                }
                unreported = 0;
            }
        }
        Ok(())
    }

    fn execute_batch(&mut self, seed: Digest, keystream: &mut LeafKeystream, start: u64, end: u64) {
        let width = self.instructions.group_size();
        self.batch.clear();
        for first in (start..end).step_by(width as usize) {
            let iterations = width.min(end - first) as usize;
            self.batch.draw_years(self.portfolio, keystream, first, iterations);
        }
        if self.amounts.compute(self.instructions, self.portfolio, &self.batch) {
            self.recorder.add(self.instructions, self.portfolio, &self.batch, &self.amounts);
        } else {
            let program = self.portfolio.program;
            let reference = self.reference.get_or_insert_with(|| RangeExecutor::new(program));
            reference.execute(seed, start..end);
        }
    }

    fn finish(self) -> ShardResult {
        let program = self.portfolio.program;
        let result = self.recorder.finish(program, &self.amounts);
        match self.reference {
            Some(reference) => merge_results(program, &[result, reference.finish()]),
            None => result,
        }
    }
}
