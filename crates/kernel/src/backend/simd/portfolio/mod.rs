//! Executes portfolios: programs with lines, treaties and details, which the plain executor does
//! not take.
//!
//! Iterations are executed in batches, one iteration in each lane of a vector, and beside others
//! with about as many draws (`draws`). Vectors look up the amounts of their events (`claims`,
//! `strikes`), whatever component a lane has picked, and compute what policies and quota shares pay
//! (`policies`). Events above a layer's attachment pass the treaties one after another
//! (`treaties`). At the end of a batch its columns are added to the result (`recorder`). Sums and
//! integers are those of the scalar reference, which executes a batch whose sums may saturate.

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{LEAF_ITERATIONS, Shard},
    shard_result::ShardResult,
};

use self::draws::{LeafKeystream, MAX_BATCH_YEARS};
pub(super) use self::{
    amounts::BatchAmounts, draws::YearBatch, model::PreparedPortfolio, recorder::Recorder,
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
mod claims;
mod draws;
mod largest_occurrences;
mod model;
mod policies;
mod recorder;
mod runs;
mod strikes;
mod subjects;
mod tallies;
mod thresholds;
mod treaties;

/// Executes a shard.
pub(super) fn execute_shard(
    instructions: InstructionSet,
    program: &Program,
    shard: &Shard,
    control: &dyn ExecutionControl,
) -> Result<ShardResult, ExecutionError> {
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
    batch: YearBatch,
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
        let interval = scalar::report_interval(program);
        Self {
            instructions,
            portfolio,
            batch: YearBatch::new(instructions, portfolio),
            amounts: BatchAmounts::new(portfolio),
            recorder: Recorder::new(portfolio),
            reference: None,
            batch_years: interval.clamp(width, MAX_BATCH_YEARS as u64) / width * width,
            interval,
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
        let (portfolio, batch) = (self.portfolio, &mut self.batch);
        batch.draw(portfolio, keystream, start, (end - start) as usize);
        let templates = keystream.templates(batch.most_draws);
        if self.instructions.compute_amounts(&mut self.amounts, portfolio, templates, batch) {
            self.instructions.record(&mut self.recorder, portfolio, batch, &self.amounts);
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
