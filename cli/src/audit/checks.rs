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
    report::{Outcome, Problem, Report},
};

/// The stored envelope is the one that the manifest names, and gives its replay key.
pub fn envelope(evidence: &Evidence<'_>, report: &mut Report) {
    report.add("replay key", evidence.job().map(|job| job.request.replay_key.to_string()));
}

/// The result is canonical JSON, is the one that the manifest names, and answers the envelope.
pub fn result(evidence: &Evidence<'_>, report: &mut Report) {
    report.add("result", check_result(evidence));
}

fn check_result(evidence: &Evidence<'_>) -> Outcome {
    let bytes = evidence.bytes(RESULT_JSON)?;
    let hash = evidence.manifest.result;
    let named = evidence.manifest.artifacts.iter().find(|artifact| artifact.name == RESULT_JSON);
    if named.is_none_or(|named| named.sha256 != hash) {
        return Err(Problem::failed(format!(
            "the manifest's result is {hash}, which is not its {RESULT_JSON}"
        )));
    }
    let result: Value = evidence.document(RESULT_JSON)?;
    if to_canonical_json(&result).ok().as_deref() != Some(bytes) {
        return Err(Problem::failed("it is not canonical JSON"));
    }
    let request = &evidence.known_job()?.request;
    answers(&result, request)?;
    ends_where_it_may(&result, request)?;
    Ok("canonical JSON, and answers the envelope".to_owned())
}

/// Whether everything that the result repeats of its request is as requested.
fn answers(result: &Value, request: &Request) -> Result<(), Problem> {
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
        let found = result.pointer(pointer).unwrap_or(&Value::Null);
        if *found != expected {
            return Err(Problem::failed(format!("{pointer} is {found}, and the envelope gives {expected}")));
        }
    }
    Ok(())
}

/// Whether the run ended at its budget, or at a checkpoint.
fn ends_where_it_may(result: &Value, request: &Request) -> Result<(), Problem> {
    let performed = result.pointer("/iterations/performed").and_then(Value::as_u64).unwrap_or(0);
    let reason = result.pointer("/iterations/stop_reason").and_then(Value::as_str).unwrap_or("");
    let may = match reason {
        "budget_exhausted" => performed == request.plan.iterations(),
        "band_reached" | "variance_stable" => request.plan.checkpoints().contains(&performed),
        _ => false,
    };
    if may {
        return Ok(());
    }
    Err(Problem::failed(format!("it ends after {performed} iterations with {reason:?}, where it may not")))
}

/// The plan, if it was kept, is the one that the envelope gives.
pub fn plan(evidence: &Evidence<'_>, report: &mut Report) {
    let check = || {
        let kept = evidence.bytes(PLAN_JSON)?;
        let planned = canonical_json(&evidence.known_job()?.request.plan_document());
        if kept == planned {
            return Ok("as the envelope gives it".to_owned());
        }
        Err(Problem::failed("the envelope gives another one"))
    };
    report.add("plan", check());
}
