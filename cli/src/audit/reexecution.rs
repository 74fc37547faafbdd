//! Executing some of the recorded shards again, on the scalar reference, and comparing hashes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use forge_contract::{artifact::Phase, digest::Digest, error::FailureCode, task::ShardTask};
use forge_documents::Job;
use forge_kernel::{
    KERNEL,
    backend::{Backend, scalar::Scalar},
};
use forge_service::executor::{ExecutionFailure, Executor, StopFlag};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    draw::{Recorded, draw},
    evidence::Evidence,
    report::{Problem, Report},
};
use crate::{
    failure::{Failure, JobFailure},
    inprocess::Stage,
    interrupt::Interrupt,
    progress::Progress,
};

/// Which shards to execute again.
pub struct Reexecution {
    /// How many.
    pub count: usize,
    /// What draws them.
    pub seed: String,
    /// On how many threads.
    pub threads: usize,
}

/// A shard whose second execution gave another result.
struct Difference {
    shard: Recorded,
    /// Hash of the second result.
    second: Digest,
}

/// Some shards, executed again on the scalar reference, give the recorded hashes.
///
/// # Errors
/// The execution was stopped, or is not possible.
pub fn check(evidence: &Evidence<'_>, asked: &Reexecution, report: &mut Report) -> Result<(), Failure> {
    let (shards, job) = match known(evidence) {
        Ok(known) => known,
        Err(problem) => {
            // A record that cannot be read has been reported as such.
            let (Problem::Failed(reason) | Problem::NotPossible(reason)) = problem;
            report.add("re-execution", Err(Problem::NotPossible(reason)));
            return Ok(());
        }
    };
    let drawn = draw(&shards, asked.count, asked.seed.as_bytes());
    let outcome = match compare(job, &drawn, asked.threads)? {
        None => {
            Ok(format!("{} of {} shards, drawn with --seed {}: equal", drawn.len(), shards.len(), asked.seed))
        }
        Some(Difference { shard: Recorded { id, hash }, second }) => {
            Err(Problem::failed(format!("shard {id} is recorded as {hash}, and gives {second}")))
        }
    };
    report.add("re-execution", outcome);
    Ok(())
}

fn known<'a>(evidence: &'a Evidence<'_>) -> Result<(Vec<Recorded>, &'a Job), Problem> {
    let (shards, job) = (evidence.shards()?, evidence.known_job()?);
    if job.request.plan.shards().take(shards.len()).ne(shards.iter().map(|shard| shard.id)) {
        return Err(Problem::NotPossible("the shards recorded are not those of the plan".to_owned()));
    }
    Ok((shards, job))
}

/// Executes shards and answers the first difference, if there is one; on a terminal, while a bar shows how far it is.
fn compare(job: &Job, drawn: &[Recorded], threads: usize) -> Result<Option<Difference>, Failure> {
    let iterations = drawn.iter().map(|shard| job.request.shard(shard.id).iterations).sum();
    let done = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&done);
    let advance = Arc::new(move |iterations| {
        count.fetch_add(iterations, Ordering::Relaxed);
    });
    let executor = Executor::new(threads, Some(advance));
    let stage = Stage::new()?;
    Progress::new(true, &job.request, iterations).during(&done, || {
        stage.block_on(async {
            let mut interrupt = Interrupt::new().context("signals cannot be handled")?;
            tokio::select! {
                difference = first_difference(job, drawn, threads, &executor) => difference,
                () = interrupt.received() => {
                    let message = format!("stopped on request after {} iterations", done.load(Ordering::Relaxed));
                    Err(JobFailure::new(FailureCode::Cancelled, Phase::Verify, message).into())
                }
            }
        })
    })
}

async fn first_difference(
    job: &Job,
    drawn: &[Recorded],
    threads: usize,
    executor: &Executor,
) -> Result<Option<Difference>, Failure> {
    let scalar: Arc<dyn Backend> = Arc::new(Scalar);
    let execute = |shard: Recorded| {
        let program = Arc::clone(&job.request.program);
        let executed = executor.execute(Arc::clone(&scalar), program, task(job, shard), StopFlag::default());
        async move {
            let failed = |error: ExecutionFailure| {
                let message = format!("shard {}: {error}", shard.id);
                JobFailure::new(FailureCode::ExecutionFailed, Phase::Verify, message)
            };
            Ok::<_, JobFailure>(Difference { shard, second: executed.await.map_err(failed)?.hash })
        }
    };
    let executed = stream::iter(drawn.iter().copied()).map(execute).buffered(threads);
    let differs = |found: &Difference| std::future::ready(found.second != found.shard.hash);
    let mut differences = std::pin::pin!(executed.try_filter(differs));
    Ok(differences.try_next().await?)
}

fn task(job: &Job, shard: Recorded) -> ShardTask {
    let planned = job.request.shard(shard.id);
    ShardTask {
        job_id: job.id.clone(),
        shard_id: shard.id,
        iterations: planned.iterations,
        seed: planned.seed,
        program: job.request.program_digest,
        kernel: KERNEL,
        attempt: 0,
    }
}
