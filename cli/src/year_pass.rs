//! A pass over years of a stored job: computes them again by the scalar reference, on all threads,
//! hands them over in the order of their numbers, and compares the results of their shards with the
//! recorded ones.

use std::{ops::ControlFlow, sync::Arc};

use anyhow::{Context, anyhow};
use clap::Args;
use forge_contract::{
    artifact::Phase, digest::Digest, error::FailureCode, shard::LEAF_ITERATIONS, shard_result::ShardResult,
};
use forge_documents::number_format::format_count;
use forge_kernel::{
    reduction::Reduction,
    years::{YearFigures, execute_leaf},
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

/// Keeps what is needed of the years of a leaf, which arrive in order.
pub trait YearCollector: Send + 'static {
    /// Adds the next year.
    fn add(&mut self, figures: &YearFigures);
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
}

/// A leaf to execute.
#[derive(Debug, Clone, Copy)]
struct LeafTask {
    /// Position of its shard in the pass.
    shard: usize,
    leaf: u64,
    iterations: u64,
    is_last_of_shard: bool,
}

impl<'a> YearPass<'a> {
    /// A pass over the shards that are needed.
    pub fn new(record: &'a YearRecord, args: &'a PassArgs, is_needed: impl Fn(&ShardYears) -> bool) -> Self {
        Self { record, shards: record.shards().filter(|shard| is_needed(shard)).collect(), args }
    }

    /// Executes the pass. Each leaf has a collector of its own, and `on_leaf` receives these in the
    /// order of the years. It may break: the pass then ends with the shard.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if the years contradict the record of the job; do not use what
    /// was collected. [`CommandError::Job`] if the pass was interrupted.
    pub fn execute<C: YearCollector>(
        &self,
        new_collector: impl Fn() -> C,
        on_leaf: impl FnMut(C) -> ControlFlow<()>,
    ) -> Result<PassCoverage, CommandError> {
        let total = self.shards.iter().map(|shard| shard.range.end - shard.range.start).sum();
        let host = JobHost::Command { show_progress: !self.args.no_progress };
        host.run(&DetachedRuntime::new()?, self.record.request(), total, async |control| {
            tokio::select! {
                coverage = self.run(control, new_collector, on_leaf) => coverage,
                () = control.cancelled() => {
                    let message = format!("interrupted after {} iterations", control.iterations_done());
                    Err(JobFailure::new(FailureCode::Cancelled, Phase::Execute, message).into())
                }
            }
        })
    }

    fn leaves(&self) -> impl Iterator<Item = LeafTask> + '_ {
        self.shards.iter().enumerate().flat_map(|(shard, years)| {
            let end = years.range.end;
            let leaves = years.range.start / LEAF_ITERATIONS..end.div_ceil(LEAF_ITERATIONS);
            let last = leaves.end - 1;
            leaves.map(move |leaf| LeafTask {
                shard,
                leaf,
                iterations: (end - leaf * LEAF_ITERATIONS).min(LEAF_ITERATIONS),
                is_last_of_shard: leaf == last,
            })
        })
    }

    async fn run<C: YearCollector>(
        &self,
        control: &JobControl,
        new_collector: impl Fn() -> C,
        mut on_leaf: impl FnMut(C) -> ControlFlow<()>,
    ) -> Result<PassCoverage, CommandError> {
        let request = self.record.request();
        let execute = |task: LeafTask| {
            let (program, root) = (Arc::clone(&request.program), request.root_seed);
            let (mut collector, control) = (new_collector(), control.clone());
            let executed = tokio::task::spawn_blocking(move || {
                let on_year = |figures: &YearFigures| collector.add(figures);
                let result = execute_leaf(&program, root, task.leaf, task.iterations, &control, on_year);
                result.map(|result| (result, collector))
            });
            async move { (task, executed.await) }
        };
        let mut results = PassResults::new(self);
        let threads = self.args.threads.map_or_else(core_count, usize::from);
        let mut executions = std::pin::pin!(stream::iter(self.leaves()).map(execute).buffered(threads));
        let mut flow = ControlFlow::Continue(());
        while let Some((task, executed)) = executions.next().await {
            let executed = executed.context("a thread that computed years ended")?;
            let (result, collector) = executed.map_err(|error| anyhow!(error))?;
            results.add(&task, &result)?;
            if flow.is_continue() {
                flow = on_leaf(collector);
            }
            if flow.is_break() && task.is_last_of_shard {
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

    fn add(&mut self, task: &LeafTask, result: &ShardResult) -> Result<(), CommandError> {
        self.shard.add(result).map_err(|error| anyhow!(error))?;
        self.years += result.iterations;
        if !task.is_last_of_shard {
            return Ok(());
        }
        let empty = Reduction::new(&self.pass.record.request().program);
        let bytes = std::mem::replace(&mut self.shard, empty).result().encode();
        let ShardYears { id, hash, .. } = &self.pass.shards[task.shard];
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

    fn finish(self) -> Result<PassCoverage, CommandError> {
        let record = self.pass.record;
        let coverage = |compared| Ok(PassCoverage { years: self.years, all: record.years, compared });
        let Some(job) = self.job.filter(|_| self.years == record.years) else {
            return coverage(if self.is_recorded { PassComparison::Shards } else { PassComparison::Nothing });
        };
        let merged = job.finish().map_err(|problem| CommandError::Mismatch(problem.into_explanation()))?;
        if merged.hash != record.result {
            return Err(CommandError::Mismatch(format!(
                "the years yield the result {}, but the manifest has {}",
                merged.hash, record.result
            )));
        }
        coverage(PassComparison::Result)
    }
}
