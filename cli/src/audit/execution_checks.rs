//! Checks of `executions.json`, the record of the shards, and of the Merkle root over their
//! results.

use forge_contract::{artifact::ExecutionsDocument, merkle};
use forge_documents::{document::EXECUTIONS_JSON, number_format::format_count};
use forge_kernel::request::Request;
use forge_service::short_text::is_plain;

use super::{
    evidence::Evidence,
    report::{AuditCheckResult, AuditReport, CheckProblem},
};

/// The record of the shards belongs to this job and is complete, and its seeds are those of the
/// seed tree.
pub fn check_executions(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let run = |check: fn(&ExecutionsDocument, &Request, &Evidence<'_>) -> AuditCheckResult| {
        check(evidence.executions()?, &evidence.trusted_job()?.request, evidence)
    };
    report.add("shards", run(record_is_complete));
    report.add("seeds", run(seeds_match));
    if evidence.executions().is_ok() {
        let reason = "backend, adapter, wall_ms and cpu_ms are what the agents report";
        report.add_not_compared("executions.json reports", reason);
    }
}

fn record_is_complete(
    document: &ExecutionsDocument,
    request: &Request,
    evidence: &Evidence<'_>,
) -> AuditCheckResult {
    let manifest = evidence.manifest;
    let identity = (&document.job_id, document.replay_key, document.program);
    if identity != (&manifest.job_id, manifest.replay_key, request.program_digest) {
        return Err(CheckProblem::failed(format!("{EXECUTIONS_JSON} belongs to another job")));
    }
    let recorded = document.executions.len() as u64;
    if recorded != manifest.shards {
        return Err(CheckProblem::failed(format!(
            "{recorded} shards are recorded, but the manifest has {}",
            manifest.shards
        )));
    }
    matches_plan(document, request)?;
    let negative = document.executions.iter().find(|e| e.wall_ms < 0.0 || e.cpu_ms < 0.0);
    if let Some(execution) = negative {
        return Err(CheckProblem::failed(format!("shard {} took a negative time", execution.shard_id)));
    }
    let unreadable = document.executions.iter().find(|e| !is_device(&e.backend, e.adapter.as_deref()));
    if let Some(execution) = unreadable {
        let shard = execution.shard_id;
        return Err(CheckProblem::failed(format!(
            "shard {shard} states a backend or adapter that is no name"
        )));
    }
    Ok(format!("{} in order, without a gap", format_count(recorded)))
}

/// Whether aggregators accept such names of a backend and an adapter.
pub fn is_device(backend: &str, adapter: Option<&str>) -> bool {
    is_plain(backend) && adapter.is_none_or(is_plain)
}

/// Every recorded shard is the next one of the plan.
fn matches_plan(document: &ExecutionsDocument, request: &Request) -> Result<(), CheckProblem> {
    let mut planned = request.plan.shards();
    for execution in &document.executions {
        let shard = execution.shard_id;
        let Some(id) = planned.next() else {
            return Err(CheckProblem::failed(format!("shard {shard} is not in the plan")));
        };
        let range = request.plan.range(id);
        let planned_iterations = range.end - range.start;
        let recorded = (shard, execution.first_iteration, execution.iterations);
        if recorded != (id, range.start, planned_iterations) {
            return Err(CheckProblem::failed(format!(
                "shard {shard} is recorded with {} iterations from {}, but the plan has shard {id} with \
                 {planned_iterations} from {}",
                execution.iterations, execution.first_iteration, range.start
            )));
        }
    }
    Ok(())
}

fn seeds_match(document: &ExecutionsDocument, request: &Request, _: &Evidence<'_>) -> AuditCheckResult {
    let wrong = document.executions.iter().find(|e| request.shard(e.shard_id).seed != e.seed);
    match wrong {
        Some(execution) => Err(CheckProblem::failed(format!(
            "the seed of shard {} is not the one of the seed tree",
            execution.shard_id
        ))),
        None => Ok("all match the seed tree".to_owned()),
    }
}

/// The hashes of the shard results yield the manifest's Merkle root.
pub fn check_merkle_root(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let check = || {
        let (computed, stored) = (merkle::root(&evidence.recorded_hashes()?), evidence.manifest.merkle_root);
        if computed == stored {
            return Ok(computed.to_string());
        }
        Err(CheckProblem::failed(format!("the hashes yield {computed}, but the manifest has {stored}")))
    };
    report.add("Merkle root", check());
}

/// The kept shard results are the recorded ones, and merge to the result.
pub fn check_reduction(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("re-reduction", reduction_matches(evidence));
}

fn reduction_matches(evidence: &Evidence<'_>) -> AuditCheckResult {
    let kept = evidence.kept_shards()?;
    if evidence.is_named(EXECUTIONS_JSON) && kept.hashes != evidence.recorded_hashes()? {
        return Err(CheckProblem::failed(format!(
            "the shard results are not those recorded in {EXECUTIONS_JSON}"
        )));
    }
    let figures = kept.merged.as_ref().map_err(Clone::clone)?;
    let (merged, stored) = (figures.hash, evidence.manifest.result);
    if merged != stored {
        return Err(CheckProblem::failed(format!(
            "the merged result is {merged}, but the manifest has {stored}"
        )));
    }
    Ok(format!("{} shard results merge to the same result", format_count(kept.hashes.len() as u64)))
}
