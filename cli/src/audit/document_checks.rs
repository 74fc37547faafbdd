//! Checks of the documents that describe a job as a whole: the list of artifacts, envelope, result
//! and plan.

use forge_contract::artifact::ArtifactReference;
use forge_documents::{
    artifact_name, canonical_json,
    document::{ENVELOPE_JSON, EPT_CSV, PLAN_JSON, RESULT_JSON, media_type},
    number_format::format_count,
};
use forge_kernel::{KERNEL, request::Request};
use forge_store::shards_file;
use serde_json::{Value, json};

use super::{
    evidence::{Evidence, MAX_SHARDS},
    report::{AuditCheckResult, AuditReport, CheckProblem},
    result_shape::check_shape,
};

/// Upper bound on the other files that are counted.
const MAX_LISTED_NAMES: usize = 1000;

/// The manifest names every artifact that the envelope asks for, and no other.
pub fn check_artifacts(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("artifacts", artifacts_are_complete(evidence));
}

fn artifacts_are_complete(evidence: &Evidence<'_>) -> AuditCheckResult {
    let request = &evidence.trusted_job()?.request;
    let has_return_periods = request.profile().vocabulary.return_periods;
    let requested = request.envelope.artifacts.include.iter().map(|&kind| artifact_name(kind));
    let requested = requested.filter(|&name| name != EPT_CSV || has_return_periods);
    let required: Vec<_> = [ENVELOPE_JSON].into_iter().chain(requested).collect();
    if let Some(missing) = required.iter().find(|name| !evidence.is_named(name)) {
        return Err(CheckProblem::failed(format!(
            "the envelope asks for {missing}, but the manifest names none"
        )));
    }
    let named = evidence.manifest.artifacts.iter().map(|reference| reference.name.as_str());
    let unexpected = |name: &&str| *name != shards_file::FILE_NAME && !required.contains(name);
    if let Some(unexpected) = named.clone().find(unexpected) {
        return Err(CheckProblem::failed(format!(
            "the manifest names {unexpected}, which the envelope does not ask for"
        )));
    }
    // The page and other lists follow the manifest's order, so it has only one.
    let listed = named.filter(|name| *name != shards_file::FILE_NAME);
    if !listed.eq(required.iter().copied()) {
        return Err(CheckProblem::failed("the artifacts are not in the order of the envelope"));
    }
    let is_typed = |reference: &&ArtifactReference| {
        let expected = match reference.name.as_str() {
            shards_file::FILE_NAME => shards_file::MEDIA_TYPE,
            name => media_type(name),
        };
        reference.media_type == expected
    };
    if let Some(ArtifactReference { name, media_type, .. }) =
        evidence.manifest.artifacts.iter().find(|reference| !is_typed(reference))
    {
        return Err(CheckProblem::failed(format!(
            "the manifest gives {name} the media type {media_type:?}, which it does not have"
        )));
    }
    Ok(format!("all {} that the envelope asks for", required.len()))
}

/// Names what lies beside the job's documents, where a reader of the store may take it for one of
/// them.
pub fn name_other_files(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let reason = match evidence.stored.list_surroundings(MAX_LISTED_NAMES) {
        Ok(others) if others.is_empty() => return,
        Ok(others) => {
            let count = match others.len() {
                MAX_LISTED_NAMES.. => format!("{MAX_LISTED_NAMES} or more"),
                count => count.to_string(),
            };
            let named = others.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            format!("{count} that the manifest does not name lie beside the job's documents: {named}")
        }
        Err(error) => format!("whether others lie beside the job's documents is not known: {error}"),
    };
    report.add_not_compared("other files", &reason);
}

/// The stored envelope is the one that the manifest names, and has the manifest's replay key.
pub fn check_envelope(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let check = || {
        let job = evidence.job()?;
        if evidence.bytes(ENVELOPE_JSON)? != canonical_json(&job.request.envelope) {
            return Err(CheckProblem::failed(format!("{ENVELOPE_JSON} is not in normal form")));
        }
        Ok(job.request.replay_key.to_string())
    };
    report.add("replay key", check());
}

/// The result is canonical JSON, is the one that the manifest names, and matches the envelope.
pub fn check_result(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("result", result_matches(evidence));
}

fn result_matches(evidence: &Evidence<'_>) -> AuditCheckResult {
    let result = evidence.result()?;
    let hash = evidence.manifest.result;
    let reference = evidence.manifest.artifacts.iter().find(|artifact| artifact.name == RESULT_JSON);
    if reference.is_none_or(|reference| reference.sha256 != hash) {
        return Err(CheckProblem::failed(format!(
            "the manifest's result is {hash}, which is not the hash of its {RESULT_JSON}"
        )));
    }
    let request = &evidence.trusted_job()?.request;
    repeats_request(&result, request)?;
    stops_where_allowed(&result, request)?;
    check_shape(&result, request)?;
    Ok("canonical JSON, matches the envelope".to_owned())
}

/// Everything that the result repeats of its request equals the request.
fn repeats_request(result: &Value, request: &Request) -> Result<(), CheckProblem> {
    let expected = [
        ("/schema", json!("forge.result.v1")),
        ("/kernel", json!(KERNEL)),
        ("/replay_key", json!(request.replay_key)),
        ("/op", json!(request.envelope.op)),
        ("/args", json!(request.envelope.args)),
        ("/seed/root_seed", json!(request.root_seed)),
        ("/program", json!(request.program_digest)),
        ("/iterations/requested", json!(request.plan.iterations())),
    ];
    for (pointer, expected) in expected {
        let actual = result.pointer(pointer).unwrap_or(&Value::Null);
        if *actual != expected {
            return Err(CheckProblem::failed(format!(
                "{pointer} is {actual}, but the envelope yields {expected}"
            )));
        }
    }
    Ok(())
}

/// The run stopped when its budget was exhausted, or converged at a checkpoint.
fn stops_where_allowed(result: &Value, request: &Request) -> Result<(), CheckProblem> {
    let performed = result.pointer("/iterations/performed").and_then(Value::as_u64).unwrap_or(0);
    let reason = result.pointer("/iterations/stop_reason").and_then(Value::as_str).unwrap_or("");
    let is_allowed = match reason {
        "budget_exhausted" => performed == request.plan.iterations(),
        "band_reached" | "variance_stable" => request.plan.checkpoints().contains(&performed),
        _ => false,
    };
    if is_allowed {
        return Ok(());
    }
    Err(CheckProblem::failed(format!(
        "the run stopped after {performed} iterations with {reason:?}, which the plan does not allow"
    )))
}

/// The plan, if it was kept, is the one that the envelope yields.
pub fn check_plan(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let check = || {
        let stored = evidence.bytes(PLAN_JSON)?;
        let expected = canonical_json(&evidence.trusted_job()?.request.plan_document());
        if stored == expected {
            return Ok("matches the envelope".to_owned());
        }
        Err(CheckProblem::failed(format!("{PLAN_JSON} is not the plan that the envelope yields")))
    };
    report.add("plan", check());
}

/// The manifest's shards are the first ones of the plan, and end where the result ends.
pub fn check_shard_count(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("shard count", shard_count_matches(evidence));
}

fn shard_count_matches(evidence: &Evidence<'_>) -> AuditCheckResult {
    let plan = &evidence.trusted_job()?.request.plan;
    let end = planned_end(evidence)?;
    if end != plan.iterations() && !plan.checkpoints().contains(&end) {
        return Err(CheckProblem::failed(format!(
            "the shards end after {} iterations, where the plan has neither a checkpoint nor its end",
            format_count(end)
        )));
    }
    let result = evidence.result().ok();
    match result.as_ref().and_then(|result| result.pointer("/iterations/performed")?.as_u64()) {
        Some(performed) if performed != end => Err(CheckProblem::failed(format!(
            "the shards have {} iterations, but the result has {}",
            format_count(end),
            format_count(performed)
        ))),
        _ => {
            let shards = format_count(evidence.manifest.shards);
            Ok(format!("{shards} with {} iterations, as the plan has them", format_count(end)))
        }
    }
}

/// Number of iterations of the manifest's shards.
///
/// # Errors
/// [`CheckProblem::Failed`] if the plan has fewer shards, or the manifest has none;
/// [`CheckProblem::NotCompared`] if there is no reliable envelope.
pub fn planned_end(evidence: &Evidence<'_>) -> Result<u64, CheckProblem> {
    let (plan, shards) = (&evidence.trusted_job()?.request.plan, evidence.manifest.shards);
    if shards > MAX_SHARDS {
        let (shards, max) = (format_count(shards), format_count(MAX_SHARDS));
        return Err(CheckProblem::failed(format!(
            "the manifest has {shards} shards, and a job has at most {max}"
        )));
    }
    let last = usize::try_from(shards).ok().and_then(|shards| plan.shards().nth(shards.checked_sub(1)?));
    last.map(|last| plan.range(last).end).ok_or_else(|| {
        CheckProblem::failed(format!(
            "the manifest has {} shards, which the plan does not have",
            format_count(shards)
        ))
    })
}
