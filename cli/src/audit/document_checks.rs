//! Checks of the documents that describe a job as a whole: envelope, result and plan.

use forge_contract::canonical::to_canonical_json;
use forge_documents::{
    canonical_json,
    document::{PLAN_JSON, RESULT_JSON},
};
use forge_kernel::{KERNEL, request::Request};
use serde_json::{Value, json};

use super::{
    evidence::Evidence,
    report::{AuditCheckResult, AuditReport, CheckProblem},
};

/// The stored envelope is the one that the manifest names, and has the manifest's replay key.
pub fn check_envelope(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("replay key", evidence.job().map(|job| job.request.replay_key.to_string()));
}

/// The result is canonical JSON, is the one that the manifest names, and matches the envelope.
pub fn check_result(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("result", result_matches(evidence));
}

fn result_matches(evidence: &Evidence<'_>) -> AuditCheckResult {
    let bytes = evidence.bytes(RESULT_JSON)?;
    let hash = evidence.manifest.result;
    let reference = evidence.manifest.artifacts.iter().find(|artifact| artifact.name == RESULT_JSON);
    if reference.is_none_or(|reference| reference.sha256 != hash) {
        return Err(CheckProblem::failed(format!(
            "the manifest's result is {hash}, which is not the hash of its {RESULT_JSON}"
        )));
    }
    let result: Value = evidence.document(RESULT_JSON)?;
    if to_canonical_json(&result).ok().as_deref() != Some(bytes) {
        return Err(CheckProblem::failed(format!("{RESULT_JSON} is not canonical JSON")));
    }
    let request = &evidence.trusted_job()?.request;
    repeats_request(&result, request)?;
    stops_where_allowed(&result, request)?;
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
