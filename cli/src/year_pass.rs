//! A pass over years of a stored job: computes them again by the scalar reference, on all threads,
//! hands them over in the order of their numbers, and compares the results of their shards with the
//! recorded ones.

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use clap::Args;
use forge_contract::{
    artifact::Phase, digest::Digest, error::FailureCode, shard::LEAF_ITERATIONS, shard_result::ShardResult,
};
use forge_documents::{JobResult, number_format::format_count};
use forge_kernel::{
    reduction::Reduction,
    years::{ComputedYear, LeafYears},
};
use futures_util::{StreamExt, stream};

use crate::{
    audit::ShardMerge,
    engine::core_count,
    error::{CommandError, JobFailure},
    job_host::{JobControl, JobHost},
    runtime::DetachedRuntime,
    year_record::{ShardYears, YearRecord},
};

/// How years are computed again.
#[derive(Debug, Args)]
pub struct PassArgs {
    /// Number of threads that compute years again [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Hide the progress bar
    #[arg(long)]
    no_progress: bool,
}

/// Keeps what is needed of the years of a block, which arrive in order.
pub trait YearCollector: Send + 'static {
    /// What it needs of each year.
    type Year: ComputedYear;
    /// Adds the next year.
    fn add(&mut self, year: &Self::Year);
}

/// A completed pass.
pub struct CompletedPass {
    /// Which years it computed.
    pub coverage: PassCoverage,
    /// The result of the job, which the years yield; `None` if they are not all years.
    pub result: Option<JobResult>,
}

/// Which years a pass computed again, and what they were compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassCoverage {
    /// Number of years that were computed again.
    pub years: u64,
    /// Number of years in the result.
    pub all: u64,
    /// What the years were found equal to.
    pub compared: PassComparison,
}

/// What recomputed years were found equal to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassComparison {
    /// All years together yield the result of the job.
    Result,
    /// The years of each shard yield its recorded result.
    Shards,
    /// Nothing was kept to compare with.
    Nothing,
}

impl PassCoverage {
    /// The coverage as a sentence; `noun` is the plural of a year.
    pub fn describe(&self, noun: &str) -> String {
        let all = format_count(self.all);
        let years = match self.years == self.all {
            true => format!("All {all} {noun} were computed again"),
            false => format!("{} of {all} {noun} were computed again", format_count(self.years)),
        };
        let compared = match self.compared {
            PassComparison::Result => "they yield the result of the job",
            PassComparison::Shards => "their shards have the recorded results",
            PassComparison::Nothing => "the job kept nothing to compare them with",
        };
        format!("{years}; {compared}.")
    }

    /// What the years were compared with, for JSON.
    pub fn compared_with(&self) -> Option<&'static str> {
        match self.compared {
            PassComparison::Result => Some("result"),
            PassComparison::Shards => Some("shards"),
            PassComparison::Nothing => None,
        }
    }
}

/// A pass over some shards of a job.
pub struct YearPass<'a> {
    record: &'a YearRecord,
    shards: Vec<ShardYears>,
    args: &'a PassArgs,
    /// Most years of a block.
    block_years: u64,
}

/// Years to compute at once, by one thread.
#[derive(Debug, Clone)]
struct YearBlock {
    /// Position of its shard in the pass.
    shard: usize,
    years: Range<u64>,
    is_last_of_shard: bool,
}

impl<'a> YearPass<'a> {
    /// A pass over the shards that are needed. A block has the years of a leaf.
    pub fn new(record: &'a YearRecord, args: &'a PassArgs, is_needed: impl Fn(&ShardYears) -> bool) -> Self {
        let shards = record.shards().filter(|shard| is_needed(shard)).collect();
        Self { record, shards, args, block_years: LEAF_ITERATIONS }
    }

    /// The pass with at most this many years in a block, so that what is kept of each year takes
    /// less memory.
    pub fn with_block_years(self, block_years: u64) -> Self {
        Self { block_years: block_years.clamp(1, LEAF_ITERATIONS), ..self }
    }

    /// Executes the pass. Each block has a collector of its own, and `on_block` receives these in
    /// the order of the years. It may break: the pass then ends with the shard.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if the years contradict the record of the job; do not use what
    /// was collected. [`CommandError::Job`] if the pass was interrupted.
    pub fn execute<C: YearCollector>(
        &self,
        new_collector: impl Fn() -> C,
        on_block: impl FnMut(C) -> ControlFlow<()>,
    ) -> Result<CompletedPass, CommandError> {
        let total = self.shards.iter().map(|shard| shard.range.end - shard.range.start).sum();
        let host = JobHost::Command { show_progress: !self.args.no_progress };
        host.run(&DetachedRuntime::new()?, self.record.request(), total, async |control| {
            tokio::select! {
                completed = self.run(control, new_collector, on_block) => completed,
                () = control.cancelled() => {
                    let message = format!("interrupted after {} iterations", control.iterations_done());
                    Err(JobFailure::new(FailureCode::Cancelled, Phase::Execute, message).into())
                }
            }
        })
    }

    fn blocks(&self) -> impl Iterator<Item = YearBlock> + '_ {
        self.shards.iter().enumerate().flat_map(|(shard, ShardYears { range, .. })| {
            let end_of_block = |start: u64| {
                let end_of_leaf = (start / LEAF_ITERATIONS + 1) * LEAF_ITERATIONS;
                (start + self.block_years).min(end_of_leaf).min(range.end)
            };
            let next = move |start: &u64| Some(end_of_block(*start)).filter(|&start| start < range.end);
            std::iter::successors(Some(range.start), next).map(move |start| {
                let end = end_of_block(start);
                YearBlock { shard, years: start..end, is_last_of_shard: end == range.end }
            })
        })
    }

    async fn run<C: YearCollector>(
        &self,
        control: &JobControl,
        new_collector: impl Fn() -> C,
        mut on_block: impl FnMut(C) -> ControlFlow<()>,
    ) -> Result<CompletedPass, CommandError> {
        let request = self.record.request();
        let execute = |block: YearBlock| {
            let (program, root) = (Arc::clone(&request.program), request.root_seed);
            let (mut collector, control) = (new_collector(), control.clone());
            let years = LeafYears::new(block.years.clone());
            let executed = tokio::task::spawn_blocking(move || {
                let mut on_year = |year: &C::Year| collector.add(year);
                let result = C::Year::compute(&program, root, &years, &control, &mut on_year);
                result.map(|result| (result, collector))
            });
            async move { (block, executed.await) }
        };
        let mut results = PassResults::new(self);
        let threads = self.args.threads.map_or_else(core_count, usize::from);
        let mut executions = std::pin::pin!(stream::iter(self.blocks()).map(execute).buffered(threads));
        let mut flow = ControlFlow::Continue(());
        while let Some((block, executed)) = executions.next().await {
            let executed = executed.context("a thread that computed years ended")?;
            let (result, collector) = executed.map_err(|error| anyhow!(error))?;
            results.add(&block, &result)?;
            if flow.is_continue() {
                flow = on_block(collector);
            }
            if flow.is_break() && block.is_last_of_shard {
                break;
            }
        }
        results.finish()
    }
}

/// The results of the years of a pass, compared with the record of the job.
struct PassResults<'a> {
    pass: &'a YearPass<'a>,
    /// The shard in progress.
    shard: Reduction,
    /// The merge of all shards; `None` if the pass does not have all of them.
    job: Option<ShardMerge<'a>>,
    years: u64,
    is_recorded: bool,
}

impl<'a> PassResults<'a> {
    fn new(pass: &'a YearPass<'a>) -> Self {
        let (record, shards) = (pass.record, &pass.shards);
        let is_complete = record.shards().count() == shards.len();
        Self {
            pass,
            shard: Reduction::new(&record.request().program),
            job: is_complete.then(|| ShardMerge::new(record.request())),
            years: 0,
            is_recorded: shards.iter().all(|shard| shard.hash.is_some()),
        }
    }

    fn add(&mut self, block: &YearBlock, result: &ShardResult) -> Result<(), CommandError> {
        self.shard.add(result).map_err(|error| anyhow!(error))?;
        self.years += result.iterations;
        if !block.is_last_of_shard {
            return Ok(());
        }
        let empty = Reduction::new(&self.pass.record.request().program);
        let bytes = std::mem::replace(&mut self.shard, empty).result().encode();
        let ShardYears { id, hash, .. } = &self.pass.shards[block.shard];
        let computed = Digest::hash_parts(&[&bytes]);
        if let Some(recorded) = hash.filter(|&recorded| recorded != computed) {
            return Err(CommandError::Mismatch(format!(
                "the result of shard {id} is recorded as {recorded}, but its years yield {computed}"
            )));
        }
        if let Some(job) = &mut self.job {
            job.add(&bytes).map_err(|problem| CommandError::Mismatch(problem.into_explanation()))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<CompletedPass, CommandError> {
        let record = self.pass.record;
        let coverage = |compared| PassCoverage { years: self.years, all: record.years, compared };
        let Some(job) = self.job.filter(|_| self.years == record.years) else {
            let compared = if self.is_recorded { PassComparison::Shards } else { PassComparison::Nothing };
            return Ok(CompletedPass { coverage: coverage(compared), result: None });
        };
        let merged = job.finish().map_err(|problem| CommandError::Mismatch(problem.into_explanation()))?;
        if merged.hash != record.result {
            return Err(CommandError::Mismatch(format!(
                "the years yield the result {}, but the manifest has {}",
                merged.hash, record.result
            )));
        }
        Ok(CompletedPass { coverage: coverage(PassComparison::Result), result: Some(merged) })
    }
}
