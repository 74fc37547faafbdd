//! Checks of `metrics.json`: every count in it follows from other documents. Durations are what the
//! aggregator reports, and are named as not compared.

use std::collections::BTreeSet;

use forge_contract::artifact::{ExecutionsDocument, MetricsDocument};
use forge_documents::{JobResult, document::METRICS_JSON, to_milliseconds};

use super::{
    document_checks::planned_end,
    evidence::Evidence,
    report::{AuditReport, CheckProblem},
};

/// The counts of `metrics.json`, if it was kept, follow from the manifest, the executions and the
/// result.
pub fn check_metrics(evidence: &Evidence<'_>, figures: Option<&JobResult>, report: &mut AuditReport) {
    if !evidence.is_named(METRICS_JSON) {
        return;
    }
    let occurrences = occurrences(evidence, figures);
    let (mut followed, mut unchecked) = (vec!["shards", "iterations"], Vec::new());
    if occurrences.is_some() { &mut followed } else { &mut unchecked }.push("occurrences");
    let of_executions = ["threads", "backend", "cpu_ms"];
    if evidence.executions().is_ok() { &mut followed } else { &mut unchecked }.extend(of_executions);
    let remark = format!("{} and rate follow from the other documents", followed.join(", "));
    report.add("metrics", metrics_match(evidence, occurrences).map(|()| remark));
    unchecked.extend(["forge_version", "plan_ms", "execute_ms"]);
    report.add_not_compared(
        "metrics.json reports",
        &format!("{} are what the aggregator reports", unchecked.join(", ")),
    );
}

fn metrics_match(evidence: &Evidence<'_>, occurrences: Option<u64>) -> Result<(), CheckProblem> {
    let metrics: MetricsDocument = evidence.document(METRICS_JSON)?;
    let manifest = evidence.manifest;
    if (metrics.schema.as_str(), &metrics.job_id) != (MetricsDocument::SCHEMA, &manifest.job_id) {
        return Err(CheckProblem::failed(format!("{METRICS_JSON} belongs to another job")));
    }
    expect_equal("shards", metrics.shards, manifest.shards)?;
    expect_equal("iterations", metrics.iterations, planned_end(evidence)?)?;
    if let Some(occurrences) = occurrences {
        expect_equal("occurrences", metrics.occurrences, occurrences)?;
    }
    rate_matches(&metrics)?;
    match evidence.executions() {
        Ok(executions) => matches_executions(&metrics, executions),
        Err(_) => Ok(()),
    }
}

/// The occurrences of the recomputed result, or else of the stored one.
fn occurrences(evidence: &Evidence<'_>, figures: Option<&JobResult>) -> Option<u64> {
    let stored = || {
        let result = evidence.result().ok()?;
        result.pointer("/work/occurrences")?.as_u64()
    };
    figures.map(|figures| figures.document.work.occurrences).or_else(stored)
}

fn matches_executions(metrics: &MetricsDocument, document: &ExecutionsDocument) -> Result<(), CheckProblem> {
    let executions = &document.executions;
    // An agent's key is a name within its pool.
    let agents: BTreeSet<_> =
        executions.iter().map(|execution| (&execution.pool, &execution.agent_id)).collect();
    expect_equal("threads", metrics.threads, agents.len() as u64)?;
    let backends: BTreeSet<_> = executions.iter().map(|execution| execution.backend.as_str()).collect();
    let backends = backends.into_iter().collect::<Vec<_>>().join(", ");
    if metrics.backend != backends {
        return Err(CheckProblem::failed(format!(
            "backend is {:?}, but the executions have {backends:?}",
            metrics.backend
        )));
    }
    let micros = |cpu_ms: f64| (cpu_ms * 1e3).round() as u64;
    let total = executions.iter().map(|execution| micros(execution.cpu_ms)).fold(0, u64::saturating_add);
    let total = to_milliseconds(std::time::Duration::from_micros(total));
    if metrics.cpu_ms == total {
        return Ok(());
    }
    Err(CheckProblem::failed(format!("cpu_ms is {}, but the executions have {total}", metrics.cpu_ms)))
}

/// The rate is the iterations by the stated duration, which is truncated to microseconds.
fn rate_matches(metrics: &MetricsDocument) -> Result<(), CheckProblem> {
    let MetricsDocument { iterations, execute_ms, plan_ms, iterations_per_second: rate, .. } = *metrics;
    let per_second = |milliseconds: f64| iterations as f64 / (milliseconds / 1e3).max(1e-9);
    let (lowest, highest) = (per_second(execute_ms + 0.001), per_second(execute_ms));
    let tolerance = 1e-9;
    let is_possible = (lowest * (1.0 - tolerance)..=highest * (1.0 + tolerance)).contains(&rate);
    if is_possible && execute_ms >= 0.0 && plan_ms >= 0.0 && metrics.cpu_ms >= 0.0 {
        return Ok(());
    }
    Err(CheckProblem::failed(format!(
        "{rate} iterations per second do not follow from {execute_ms} ms, or a duration is negative"
    )))
}

fn expect_equal(name: &str, found: u64, expected: u64) -> Result<(), CheckProblem> {
    if found == expected {
        return Ok(());
    }
    Err(CheckProblem::failed(format!("{name} is {found}, but the other documents have {expected}")))
}
