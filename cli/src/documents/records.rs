//! `executions.json` and `metrics.json`: who executed what, and how long it took. Nothing here has an influence on the
//! result.

use std::time::Duration;

use forge_contract::artifact::{Execution, ExecutionsDocument, MetricsDocument};

use super::Outcome;
use crate::local::run::ExecutedShard;

/// The record of the shards. Each thread counts as an agent.
pub fn executions(outcome: &Outcome<'_>) -> ExecutionsDocument {
    let request = &outcome.job.request;
    let execution = |shard: &ExecutedShard| {
        let planned = request.shard(shard.id);
        Execution {
            agent_id: format!("local-{}", shard.agent),
            shard_id: shard.id,
            first_iteration: request.plan.range(shard.id).start,
            iterations: planned.iterations,
            seed: planned.seed,
            result_hash: shard.hash,
            backend: outcome.backend.to_owned(),
            wall_ms: milliseconds(shard.wall),
            cpu_ms: milliseconds(shard.cpu),
        }
    };
    ExecutionsDocument {
        schema: ExecutionsDocument::SCHEMA.to_owned(),
        job_id: outcome.job.id.clone(),
        replay_key: request.replay_key,
        program: request.program_digest,
        executions: outcome.run.shards.iter().map(execution).collect(),
    }
}

/// The record of the job as a whole.
pub fn metrics(outcome: &Outcome<'_>) -> MetricsDocument {
    let run = outcome.run;
    MetricsDocument {
        schema: MetricsDocument::SCHEMA.to_owned(),
        job_id: outcome.job.id.clone(),
        forge_version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: outcome.backend.to_owned(),
        threads: outcome.threads as u64,
        shards: run.shards.len() as u64,
        iterations: run.figures.merged.iterations,
        occurrences: run.figures.document.work.occurrences,
        plan_ms: milliseconds(outcome.planning),
        execute_ms: milliseconds(run.wall),
        cpu_ms: milliseconds(run.cpu()),
        iterations_per_second: run.iterations_per_second(),
    }
}

/// Whole microseconds, in milliseconds.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
