//! Checks of the shards: their record, the Merkle root over their results, and their reduction.

use std::ops::ControlFlow;

use forge_contract::{
    artifact::ExecutionsDocument, digest::Digest, envelope::ArtifactKind, merkle, program::MAX_COUNT,
    shard::ShardId, shard_result::ShardResult,
};
use forge_documents::{
    document::{EXECUTIONS_JSON, RESULT_JSON},
    number_format::format_count,
    reproducible_document,
};
use forge_kernel::request::Request;

use super::{
    evidence::Evidence,
    report::{AuditCheckResult, AuditReport, CheckProblem},
    shard_merge::ShardMerge,
};

/// The record of the shards belongs to this job and is complete, and its seeds are those of the
/// seed tree.
pub fn check_executions(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let document = evidence.document::<ExecutionsDocument>(EXECUTIONS_JSON);
    let run = |check: fn(&ExecutionsDocument, &Request, &Evidence<'_>) -> AuditCheckResult| {
        let document = document.as_ref().map_err(Clone::clone)?;
        check(document, &evidence.trusted_job()?.request, evidence)
    };
    report.add("shards", run(record_is_complete));
    report.add("seeds", run(seeds_match));
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
    let end = matches_plan(document, request)?;
    is_allowed_end(end, request)?;
    let result = evidence.document::<serde_json::Value>(RESULT_JSON).ok();
    let performed = result.as_ref().and_then(|result| result.pointer("/iterations/performed")?.as_u64());
    match performed {
        Some(performed) if performed != end => Err(CheckProblem::failed(format!(
            "the shards have {} iterations, but the result has {}",
            format_count(end),
            format_count(performed)
        ))),
        _ => {
            Ok(format!("{} in order, {} iterations without a gap", format_count(recorded), format_count(end)))
        }
    }
}

/// Every recorded shard is the next one of the plan. Returns the end of the last one's range.
fn matches_plan(document: &ExecutionsDocument, request: &Request) -> Result<u64, CheckProblem> {
    let mut end = 0;
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
        end = range.end;
    }
    Ok(end)
}

/// A run may end when its budget is exhausted, or at a checkpoint.
fn is_allowed_end(iterations: u64, request: &Request) -> Result<(), CheckProblem> {
    if iterations == request.plan.iterations() || request.plan.checkpoints().contains(&iterations) {
        return Ok(());
    }
    Err(CheckProblem::failed(format!(
        "the shards end after {} iterations, where the plan has neither a checkpoint nor its end",
        format_count(iterations)
    )))
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
        let hashes: Vec<_> = evidence.recorded_shards()?.iter().map(|shard| shard.hash).collect();
        let (computed, stored) = (merkle::root(&hashes), evidence.manifest.merkle_root);
        if computed == stored {
            return Ok(computed.to_string());
        }
        Err(CheckProblem::failed(format!("the hashes yield {computed}, but the manifest has {stored}")))
    };
    report.add("Merkle root", check());
}

/// The kept shard results, merged again, yield the result and every other document that is a
/// function of it, byte for byte.
pub fn check_reduction(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("re-reduction", reduction_matches(evidence));
}

fn reduction_matches(evidence: &Evidence<'_>) -> AuditCheckResult {
    let results = evidence.shard_results()?;
    let request = &evidence.trusted_job()?.request;
    if let Ok(shards) = evidence.recorded_shards() {
        let hashes = results.iter().map(|bytes| Digest::hash_parts(&[bytes]));
        if !hashes.eq(shards.iter().map(|shard| shard.hash)) {
            return Err(CheckProblem::failed(format!(
                "the shard results are not those recorded in {EXECUTIONS_JSON}"
            )));
        }
    }
    let figures = merge_shards(&results, request)?.into_figures();
    let (merged, stored) = (figures.hash, evidence.manifest.result);
    if merged != stored {
        return Err(CheckProblem::failed(format!(
            "the merged result is {merged}, but the manifest has {stored}"
        )));
    }
    for kind in [ArtifactKind::EptCsv, ArtifactKind::ReportHtml] {
        let Some(expected) = reproducible_document(kind, request, &figures) else { continue };
        if evidence.bytes(expected.name).is_ok_and(|stored| stored != expected.bytes) {
            return Err(CheckProblem::failed(format!("{} does not follow from the result", expected.name)));
        }
    }
    Ok(format!("{} shard results merge to the same result", format_count(results.len() as u64)))
}

fn merge_shards<'a>(results: &[&[u8]], request: &'a Request) -> Result<ShardMerge<'a>, CheckProblem> {
    let mut merge = ShardMerge::new(request);
    let mut planned = request.plan.shards();
    for (index, bytes) in results.iter().enumerate() {
        let result = decode_result(index, bytes, planned.next(), request)?;
        let flow = merge.add(&result).map_err(|error| CheckProblem::failed(error.to_string()))?;
        if flow == ControlFlow::Break(()) && index + 1 < results.len() {
            return Err(CheckProblem::failed(format!(
                "the run converges with shard result {index}, but later ones were kept"
            )));
        }
    }
    is_allowed_end(merge.iterations(), request)?;
    Ok(merge)
}

/// Decodes a shard result, and checks that its shard can have produced it.
fn decode_result(
    index: usize,
    bytes: &[u8],
    planned: Option<ShardId>,
    request: &Request,
) -> Result<ShardResult, CheckProblem> {
    let failed = |reason: String| CheckProblem::failed(format!("shard result {index}: {reason}"));
    let result = ShardResult::decode(bytes).map_err(|error| failed(error.to_string()))?;
    let range = planned.map(|id| request.plan.range(id)).unwrap_or_default();
    let planned_iterations = range.end - range.start;
    if result.iterations != planned_iterations {
        return Err(failed(format!(
            "it has {} iterations, but the plan has {}",
            format_count(result.iterations),
            format_count(planned_iterations)
        )));
    }
    let max_occurrences = result.iterations.saturating_mul(MAX_COUNT);
    if result.components.iter().any(|tally| tally.occurrences > max_occurrences) {
        return Err(failed("it has more occurrences than any program can produce".to_owned()));
    }
    Ok(result)
}
