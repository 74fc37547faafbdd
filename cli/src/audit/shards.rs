//! Checks of the shards: their record, their Merkle root, and their merge.

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
    fold::Fold,
    report::{Outcome, Problem, Report},
};

/// The record of the shards is that of this job: complete, without gaps, with the seeds of the seed tree.
pub fn executions(evidence: &Evidence<'_>, report: &mut Report) {
    let document = evidence.document::<ExecutionsDocument>(EXECUTIONS_JSON);
    let with = |check: fn(&ExecutionsDocument, &Request, &Evidence<'_>) -> Outcome| {
        let document = document.as_ref().map_err(Clone::clone)?;
        check(document, &evidence.known_job()?.request, evidence)
    };
    report.add("shards", with(complete));
    report.add("seeds", with(seeds));
}

fn complete(document: &ExecutionsDocument, request: &Request, evidence: &Evidence<'_>) -> Outcome {
    let manifest = evidence.manifest;
    let names = (&document.job_id, document.replay_key, document.program);
    if names != (&manifest.job_id, manifest.replay_key, request.program_digest) {
        return Err(Problem::failed("the record is that of another job"));
    }
    let recorded = document.executions.len() as u64;
    if recorded != manifest.shards {
        return Err(Problem::failed(format!(
            "{recorded} shards are recorded, the manifest has {}",
            manifest.shards
        )));
    }
    let mut end = 0;
    let mut planned = request.plan.shards();
    for execution in &document.executions {
        let Some(id) = planned.next() else {
            return Err(Problem::failed(format!("shard {} is not in the plan", execution.shard_id)));
        };
        let range = request.plan.range(id);
        let recorded = (execution.shard_id, execution.first_iteration, execution.iterations);
        if recorded != (id, range.start, range.end - range.start) {
            return Err(Problem::failed(format!(
                "shard {} is recorded with {} iterations from {}, where the plan has {id} with {} from {}",
                recorded.0,
                recorded.2,
                recorded.1,
                range.end - range.start,
                range.start
            )));
        }
        end = range.end;
    }
    may_end_after(end, request)?;
    let performed = evidence.document::<serde_json::Value>(RESULT_JSON).ok();
    let performed = performed.as_ref().and_then(|result| result.pointer("/iterations/performed")?.as_u64());
    match performed {
        Some(performed) if performed != end => Err(Problem::failed(format!(
            "the shards hold {} iterations, and the result {}",
            format_count(end),
            format_count(performed)
        ))),
        _ => {
            Ok(format!("{} in order, {} iterations without a gap", format_count(recorded), format_count(end)))
        }
    }
}

/// Whether a run may end after so many iterations: with its budget, or at a checkpoint.
fn may_end_after(iterations: u64, request: &Request) -> Result<(), Problem> {
    if iterations == request.plan.iterations() || request.plan.checkpoints().contains(&iterations) {
        return Ok(());
    }
    Err(Problem::failed(format!(
        "the shards end after {} iterations, where no run may",
        format_count(iterations)
    )))
}

fn seeds(document: &ExecutionsDocument, request: &Request, _: &Evidence<'_>) -> Outcome {
    let wrong = document.executions.iter().find(|e| request.shard(e.shard_id).seed != e.seed);
    match wrong {
        Some(execution) => Err(Problem::failed(format!(
            "the seed of shard {} is not that of the seed tree",
            execution.shard_id
        ))),
        None => Ok("all as the seed tree gives them".to_owned()),
    }
}

/// The shards' result hashes give the manifest's Merkle root.
pub fn merkle_root(evidence: &Evidence<'_>, report: &mut Report) {
    let check = || {
        let hashes: Vec<_> = evidence.shards()?.iter().map(|shard| shard.hash).collect();
        let (root, named) = (merkle::root(&hashes), evidence.manifest.merkle_root);
        if root == named {
            return Ok(root.to_string());
        }
        Err(Problem::failed(format!("the hashes give {root}, and the manifest has {named}")))
    };
    report.add("Merkle root", check());
}

/// The kept shard results, merged again, give the result and everything else that is a function of it, byte for byte.
pub fn reduction(evidence: &Evidence<'_>, report: &mut Report) {
    report.add("re-reduction", reduce(evidence));
}

fn reduce(evidence: &Evidence<'_>) -> Outcome {
    let results = evidence.results()?;
    let request = &evidence.known_job()?.request;
    if let Ok(shards) = evidence.shards() {
        let hashes = results.iter().map(|bytes| Digest::hash_parts(&[bytes]));
        if !hashes.eq(shards.iter().map(|shard| shard.hash)) {
            return Err(Problem::failed(format!(
                "the kept results are not those that {EXECUTIONS_JSON} records"
            )));
        }
    }
    let mut fold = Fold::new(request);
    let mut planned = request.plan.shards();
    for (number, bytes) in results.iter().enumerate() {
        let result = decode(number, bytes, planned.next(), request)?;
        let flow = fold.add(&result).map_err(|error| Problem::failed(error.to_string()))?;
        if flow == ControlFlow::Break(()) && number + 1 < results.len() {
            return Err(Problem::failed(format!(
                "the run converges with shard {number}, and more were kept"
            )));
        }
    }
    may_end_after(fold.iterations(), request)?;
    let job_result = fold.finish();
    let named = evidence.manifest.result;
    if job_result.hash != named {
        let merged = job_result.hash;
        return Err(Problem::failed(format!(
            "the merge gives the result {merged}, and the manifest has {named}"
        )));
    }
    for kind in [ArtifactKind::EptCsv, ArtifactKind::ReportHtml] {
        let Some(made) = reproducible_document(kind, request, &job_result) else { continue };
        if evidence.bytes(made.name).is_ok_and(|kept| kept != made.bytes) {
            return Err(Problem::failed(format!("{} is not what the result gives", made.name)));
        }
    }
    Ok(format!("{} shard results merge to the result, byte for byte", format_count(results.len() as u64)))
}

/// A kept result, if it is a possible one of its shard.
fn decode(
    number: usize,
    bytes: &[u8],
    planned: Option<ShardId>,
    request: &Request,
) -> Result<ShardResult, Problem> {
    let wrong = |reason: String| Problem::failed(format!("kept result {number}: {reason}"));
    let result = ShardResult::decode(bytes).map_err(|error| wrong(error.to_string()))?;
    let range = planned.map(|id| request.plan.range(id)).unwrap_or_default();
    if result.iterations != range.end - range.start {
        let expected = format_count(range.end - range.start);
        return Err(wrong(format!(
            "{} iterations, where the plan has {expected}",
            format_count(result.iterations)
        )));
    }
    let most = result.iterations.saturating_mul(MAX_COUNT);
    if result.components.iter().any(|tally| tally.occurrences > most) {
        return Err(wrong("more occurrences than a program can have".to_owned()));
    }
    Ok(result)
}
