//! `executions.json` and `metrics.json`: which agent executed which shard, and how long it took.
//! Their contents differ from run to run and never influence the result.

use std::{collections::BTreeSet, time::Duration};

use forge_contract::artifact::{Execution, ExecutionsDocument, MetricsDocument};

use crate::{job::Job, job_result::JobResult};

/// Contents of `executions.json`; `executions` are in shard order.
pub fn executions_document(job: &Job, executions: &[Execution]) -> ExecutionsDocument {
    ExecutionsDocument {
        schema: ExecutionsDocument::SCHEMA.to_owned(),
        job_id: job.id.clone(),
        replay_key: job.request.replay_key,
        program: job.request.program_digest,
        executions: executions.to_vec(),
    }
}

/// Contents of `metrics.json`: totals over the whole job.
pub fn metrics_document(
    job: &Job,
    job_result: &JobResult,
    executions: &[Execution],
    planning_duration: Duration,
    execution_duration: Duration,
) -> MetricsDocument {
    let iterations = job_result.merged.iterations;
    let backends: BTreeSet<_> = executions.iter().map(|execution| execution.backend.as_str()).collect();
    // An agent's key is a name within its pool.
    let agents: BTreeSet<_> =
        executions.iter().map(|execution| (&execution.pool, &execution.agent_id)).collect();
    // Sum whole microseconds: summing fractional milliseconds would add digits that were never
    // measured.
    let cpu_us = |execution: &Execution| (execution.cpu_ms * 1e3).round() as u64;
    let cpu_us = executions.iter().map(cpu_us).fold(0, u64::saturating_add);
    MetricsDocument {
        schema: MetricsDocument::SCHEMA.to_owned(),
        job_id: job.id.clone(),
        forge_version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: backends.into_iter().collect::<Vec<_>>().join(", "),
        threads: agents.len() as u64,
        shards: executions.len() as u64,
        iterations,
        occurrences: job_result.document.work.occurrences,
        plan_ms: to_milliseconds(planning_duration),
        execute_ms: to_milliseconds(execution_duration),
        cpu_ms: to_milliseconds(Duration::from_micros(cpu_us)),
        iterations_per_second: iterations as f64 / execution_duration.as_secs_f64().max(1e-9),
    }
}

/// A duration in milliseconds, truncated to whole microseconds: the form in which documents state
/// durations.
pub fn to_milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
