//! Re-executes some of the recorded shards on the scalar reference and compares the hashes.

use std::sync::Arc;

use anyhow::Context;
use forge_contract::{artifact::Phase, digest::Digest, error::FailureCode};
use forge_documents::Job;
use forge_kernel::backend::{Backend, scalar::Scalar};
use forge_service::executor::{ExecutionFailure, Executor, StopFlag};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    evidence::Evidence,
    report::{AuditReport, CheckProblem},
    sampling::{RecordedShard, draw_shards},
};
use crate::{
    error::{CommandError, JobFailure},
    interrupt::InterruptSignal,
    progress::{IterationCounter, ProgressDisplay},
    runtime::DetachedRuntime,
};

/// Which shards to re-execute, and how.
pub struct ReexecutionOptions {
    /// Number of shards.
    pub shard_count: usize,
    /// Seed that draws them.
    pub seed: String,
    /// Number of threads.
    pub threads: usize,
}

/// A re-executed shard.
struct ReexecutedShard {
    recorded: RecordedShard,
    /// SHA-256 of the second result.
    hash: Digest,
}

/// Some shards, re-executed on the scalar reference, yield the recorded hashes.
///
/// # Errors
/// The re-execution was interrupted, or a shard could not be executed.
pub fn check_reexecution(
    evidence: &Evidence<'_>,
    options: &ReexecutionOptions,
    report: &mut AuditReport,
) -> Result<(), CommandError> {
    let (shards, job) = match planned_shards(evidence) {
        Ok(planned) => planned,
        Err(problem) => {
            // A record that cannot be parsed has a failed check of its own.
            let (CheckProblem::Failed(reason) | CheckProblem::NotPossible(reason)) = problem;
            report.add("re-execution", Err(CheckProblem::NotPossible(reason)));
            return Ok(());
        }
    };
    let drawn = draw_shards(&shards, options.shard_count, options.seed.as_bytes());
    let result = match find_difference(job, &drawn, options.threads)? {
        None => {
            let (drawn, all) = (drawn.len(), shards.len());
            Ok(format!("{drawn} of {all} shards, drawn with --seed {}: equal", options.seed))
        }
        Some(ReexecutedShard { recorded: RecordedShard { id, hash: recorded }, hash }) => {
            Err(CheckProblem::failed(format!("shard {id} is recorded as {recorded}, but yields {hash}")))
        }
    };
    report.add("re-execution", result);
    Ok(())
}

/// The recorded shards and their job, if the record matches the plan.
fn planned_shards<'a>(evidence: &'a Evidence<'_>) -> Result<(Vec<RecordedShard>, &'a Job), CheckProblem> {
    let (shards, job) = (evidence.recorded_shards()?, evidence.trusted_job()?);
    if job.request.plan.shards().take(shards.len()).ne(shards.iter().map(|shard| shard.id)) {
        return Err(CheckProblem::NotPossible("the recorded shards are not those of the plan".to_owned()));
    }
    Ok((shards, job))
}

/// Re-executes shards and returns the first one whose hash differs. On a terminal, shows a progress
/// bar.
fn find_difference(
    job: &Job,
    drawn: &[RecordedShard],
    threads: usize,
) -> Result<Option<ReexecutedShard>, CommandError> {
    let iterations = drawn.iter().map(|shard| job.request.shard(shard.id).iterations).sum();
    let counter = IterationCounter::default();
    let executor = Executor::new(threads, Some(counter.callback()));
    let runtime = DetachedRuntime::new()?;
    ProgressDisplay::new(true, &job.request, iterations).show_during(&counter, || {
        runtime.block_on(async {
            let mut interrupt = InterruptSignal::new().context("cannot install signal handlers")?;
            tokio::select! {
                difference = first_difference(job, drawn, threads, &executor) => difference,
                () = interrupt.wait() => {
                    let message = format!("interrupted after {} iterations", counter.get());
                    Err(JobFailure::new(FailureCode::Cancelled, Phase::Verify, message).into())
                }
            }
        })
    })
}

async fn first_difference(
    job: &Job,
    drawn: &[RecordedShard],
    threads: usize,
    executor: &Executor,
) -> Result<Option<ReexecutedShard>, CommandError> {
    let scalar: Arc<dyn Backend> = Arc::new(Scalar);
    let execute = |recorded: RecordedShard| {
        let program = Arc::clone(&job.request.program);
        let task = job.shard_task(recorded.id, 0);
        let execution = executor.execute(Arc::clone(&scalar), program, task, StopFlag::default());
        async move {
            let failed = |error: ExecutionFailure| {
                let message = format!("shard {}: {error}", recorded.id);
                JobFailure::new(FailureCode::ExecutionFailed, Phase::Verify, message)
            };
            let hash = execution.await.map_err(failed)?.hash;
            Ok::<_, JobFailure>(ReexecutedShard { recorded, hash })
        }
    };
    let executed = stream::iter(drawn.iter().copied()).map(execute).buffered(threads);
    let differs = |shard: &ReexecutedShard| std::future::ready(shard.hash != shard.recorded.hash);
    let mut differences = std::pin::pin!(executed.try_filter(differs));
    Ok(differences.try_next().await?)
}
