//! Executes recorded shards again and compares the results. If all of them were executed again, it
//! also merges the results, so that the result of the job follows from the envelope alone.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use forge_contract::{
    artifact::Phase,
    digest::Digest,
    error::FailureCode,
    merkle,
    program::Program,
    shard::{Shard, ShardId},
};
use forge_documents::{
    Job, JobResult,
    number_format::{format_count, format_duration},
};
use forge_kernel::backend::{Backend, ExecutionError};
use futures_util::{StreamExt, stream};

use super::{
    document_checks::planned_end,
    evidence::Evidence,
    report::{AuditReport, CheckProblem},
    sampling::draw_shards,
    shard_merge::ShardMerge,
};
use crate::{
    engine::iterations_per_second,
    error::{CommandError, JobFailure},
    job_host::{JobControl, JobHost},
    runtime::DetachedRuntime,
    text::count_of,
};

/// Minimum duration of the call that estimates how long the shards will take.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Which shards to execute again, and how.
pub struct ReexecutionOptions {
    /// Number of shards; `None` for all of them.
    pub shard_count: Option<usize>,
    /// Seed that draws them.
    pub seed: String,
    /// Executes the shards.
    pub backend: Arc<dyn Backend>,
    /// Number of threads.
    pub threads: usize,
    /// Follows and stops the execution.
    pub host: JobHost,
}

/// The shards to execute again.
struct ReexecutionPlan {
    /// In shard order, each with the recorded hash of its result, if there is a record.
    shards: Vec<(ShardId, Option<Digest>)>,
    /// Whether these are all shards of the result.
    is_complete: bool,
}

/// What executing the shards again showed.
struct ReexecutionOutcome {
    /// The first shard whose result is not the recorded one: id, recorded hash, computed hash.
    difference: Option<(ShardId, Digest, Digest)>,
    hashes: Vec<Digest>,
    /// The merge of all shards; `None` if only some were executed.
    merged: Option<Result<JobResult, CheckProblem>>,
}

/// What the execution of all shards of a job yields.
pub struct RecomputedJob {
    /// The figures of the job.
    pub figures: JobResult,
    /// Hash of each shard's result, in shard order.
    pub hashes: Vec<Digest>,
}

/// The shards yield the recorded hashes, and, if they are all shards of the job, the manifest's
/// Merkle root. Returns what they yield if all shards were executed again.
///
/// # Errors
/// The re-execution was interrupted, or a shard could not be executed.
pub fn check_reexecution(
    evidence: &Evidence<'_>,
    options: &ReexecutionOptions,
    report: &mut AuditReport,
) -> Result<Option<RecomputedJob>, CommandError> {
    let planned = evidence.trusted_job().and_then(|job| Ok((job, plan_reexecution(evidence, options)?)));
    let (job, plan) = match planned {
        Ok(planned) => planned,
        Err(problem) => {
            // A record that cannot be parsed has a failed check of its own.
            let reason = problem.into_explanation();
            report.omission = Some(format!("no shard could be executed again: {reason}"));
            report.add_not_compared("re-execution", &reason);
            return Ok(None);
        }
    };
    let outcome = execute_plan(job, &plan, options)?;
    let count = plan.shards.len() as u64;
    let all = format_count(evidence.manifest.shards);
    let is_same_root = merkle::root(&outcome.hashes) == evidence.manifest.merkle_root;
    let result = match (&outcome.difference, &outcome.merged) {
        (Some((id, recorded, computed)), _) => {
            Err(CheckProblem::failed(format!("shard {id} is recorded as {recorded}, but yields {computed}")))
        }
        (None, Some(Err(problem))) => Err(CheckProblem::failed(problem.clone().into_explanation())),
        (None, Some(Ok(_))) if !is_same_root => {
            Err(CheckProblem::failed("the results do not have the manifest's Merkle root"))
        }
        (None, Some(Ok(_))) => Ok(format!("all {all} shards: same results, merged again")),
        (None, None) => {
            Ok(format!("{} of {all} shards, drawn with --seed {}: equal", format_count(count), options.seed))
        }
    };
    if result.is_ok() {
        report.coverage.reexecuted = count;
    }
    report.add("re-execution", result);
    let ReexecutionOutcome { hashes, merged, .. } = outcome;
    Ok(merged.and_then(Result::ok).map(|figures| RecomputedJob { figures, hashes }))
}

fn plan_reexecution(
    evidence: &Evidence<'_>,
    options: &ReexecutionOptions,
) -> Result<ReexecutionPlan, CheckProblem> {
    let shard_count = evidence.manifest.shards;
    let recorded = evidence.recorded_shards();
    let is_complete = options.shard_count.is_none_or(|count| count as u64 >= shard_count);
    if is_complete {
        planned_end(evidence)?;
        let recorded = recorded.ok().filter(|recorded| recorded.len() as u64 == shard_count);
        let ids = evidence.trusted_job()?.request.plan.shards().take(shard_count as usize);
        let hash = |position: usize| Some(recorded.as_ref()?.get(position)?.hash);
        let shards = ids.enumerate().map(|(position, id)| (id, hash(position))).collect();
        return Ok(ReexecutionPlan { shards, is_complete });
    }
    let drawn = draw_shards(&recorded?, options.shard_count.unwrap_or(0), options.seed.as_bytes());
    let shards = drawn.into_iter().map(|shard| (shard.id, Some(shard.hash))).collect();
    Ok(ReexecutionPlan { shards, is_complete })
}

/// Executes the shards. States the amount of work first.
fn execute_plan(
    job: &Job,
    plan: &ReexecutionPlan,
    options: &ReexecutionOptions,
) -> Result<ReexecutionOutcome, CommandError> {
    let request = &job.request;
    let ranges = plan.shards.iter().map(|&(id, _)| request.plan.range(id));
    let iterations = ranges.map(|range| range.end - range.start).sum();
    options.host.print_status(|| describe_work(job, plan, iterations, options))?;
    options.host.run(&DetachedRuntime::new()?, request, iterations, async |control| {
        tokio::select! {
            outcome = execute_shards(job, plan, options, control) => outcome,
            () = control.cancelled() => {
                let message = format!("interrupted after {} iterations", control.iterations_done());
                Err(JobFailure::new(FailureCode::Cancelled, Phase::Verify, message).into())
            }
        }
    })
}

fn describe_work(
    job: &Job,
    plan: &ReexecutionPlan,
    iterations: u64,
    options: &ReexecutionOptions,
) -> Result<String, CommandError> {
    let (backend, threads) = (&options.backend, options.threads);
    let rate = iterations_per_second(backend.as_ref(), &job.request.program, CALIBRATION);
    let rate = rate.map_err(|error| anyhow!(error).context("executing a shard failed"))?;
    let seconds = iterations as f64 / (rate * threads.min(plan.shards.len()).max(1) as f64);
    let estimate = Duration::try_from_secs_f64(seconds).map_or_else(|_| "ages".to_owned(), format_duration);
    Ok(format!(
        "executing {} again: {} {} on {} with {}, about {estimate}",
        count_of(plan.shards.len() as u64, "shard"),
        format_count(iterations),
        job.request.profile().vocabulary.iterations,
        backend.name(),
        count_of(threads as u64, "thread"),
    ))
}

async fn execute_shards(
    job: &Job,
    plan: &ReexecutionPlan,
    options: &ReexecutionOptions,
    control: &JobControl,
) -> Result<ReexecutionOutcome, CommandError> {
    let execute = |&(id, recorded): &(ShardId, Option<Digest>)| {
        let (backend, program) = (Arc::clone(&options.backend), Arc::clone(&job.request.program));
        let (shard, progress) = (job.request.shard(id), control.clone());
        let executed =
            tokio::task::spawn_blocking(move || execute_shard(backend.as_ref(), &program, shard, &progress));
        async move { (id, recorded, executed.await) }
    };
    let mut outcome = ReexecutionOutcome { difference: None, hashes: Vec::new(), merged: None };
    let mut merge = plan.is_complete.then(|| Ok(ShardMerge::new(&job.request)));
    // In shard order, as the merge requires.
    let mut executions = std::pin::pin!(stream::iter(&plan.shards).map(execute).buffered(options.threads));
    while let Some((id, recorded, executed)) = executions.next().await {
        let executed = executed.map_err(|error| error.to_string()).and_then(|result| result);
        let bytes = executed.map_err(|error| {
            JobFailure::new(FailureCode::ExecutionFailed, Phase::Verify, format!("shard {id}: {error}"))
        })?;
        let computed = Digest::hash_parts(&[&bytes]);
        if let Some(recorded) = recorded.filter(|&recorded| recorded != computed) {
            outcome.difference.get_or_insert((id, recorded, computed));
        }
        outcome.hashes.push(computed);
        merge = merge.map(|merge| {
            let mut merge = merge?;
            merge.add(&bytes).map(|_| merge)
        });
    }
    outcome.merged = merge.map(|merge| merge.and_then(ShardMerge::finish));
    Ok(outcome)
}

/// Executes a shard and returns the canonical bytes of its result.
fn execute_shard(
    backend: &dyn Backend,
    program: &Program,
    shard: Shard,
    progress: &JobControl,
) -> Result<Vec<u8>, String> {
    let results =
        backend.execute(program, &[shard], progress).map_err(|error: ExecutionError| error.to_string())?;
    let result = results.first().ok_or("the backend returned no result")?;
    Ok(result.encode())
}
