//! `executions.json` and `metrics.json`: who executed what, and how long it took. Nothing here has an influence on the
//! result.

use std::{collections::BTreeSet, time::Duration};

use forge_contract::artifact::{Execution, ExecutionsDocument, MetricsDocument};

use crate::outcome::Outcome;

/// The record of the shards.
pub fn executions(outcome: &Outcome<'_>) -> ExecutionsDocument {
    let request = &outcome.job.request;
    ExecutionsDocument {
        schema: ExecutionsDocument::SCHEMA.to_owned(),
        job_id: outcome.job.id.clone(),
        replay_key: request.replay_key,
        program: request.program_digest,
        executions: outcome.executions.to_vec(),
    }
}

/// The record of the job as a whole.
pub fn metrics(outcome: &Outcome<'_>) -> MetricsDocument {
    let iterations = outcome.figures.merged.iterations;
    let distinct =
        |what: fn(&Execution) -> &str| outcome.executions.iter().map(what).collect::<BTreeSet<_>>();
    // Summed in whole microseconds: binary fractions would leave digits that nothing has measured.
    let cpu_us = |execution: &Execution| (execution.cpu_ms * 1e3).round() as u64;
    let cpu_us = outcome.executions.iter().map(cpu_us).fold(0, u64::saturating_add);
    MetricsDocument {
        schema: MetricsDocument::SCHEMA.to_owned(),
        job_id: outcome.job.id.clone(),
        forge_version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: distinct(|execution| &execution.backend).into_iter().collect::<Vec<_>>().join(", "),
        threads: distinct(|execution| &execution.agent_id).len() as u64,
        shards: outcome.executions.len() as u64,
        iterations,
        occurrences: outcome.figures.document.work.occurrences,
        plan_ms: milliseconds(outcome.planning),
        execute_ms: milliseconds(outcome.executing),
        cpu_ms: milliseconds(Duration::from_micros(cpu_us)),
        iterations_per_second: iterations as f64 / outcome.executing.as_secs_f64().max(1e-9),
    }
}

/// A time as documents state it: whole microseconds, in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
