//! Checks of signatures: agents sign their results, verifiers their verdicts, and an aggregator the
//! manifest. A valid signature proves which key signed; the audit does not know the owner of a key.

use forge_contract::{
    agent::{AgentId, Signature},
    artifact::{BackendPair, Execution, ExecutionsDocument, ManifestDocument, VerificationDocument},
    task::result_signing_payload,
    verdict::{VerdictOutcome, verdict_signing_payload},
};
use forge_documents::{document::EXECUTIONS_JSON, number_format::format_count};

use super::{
    evidence::Evidence,
    report::{AuditCheckResult, AuditReport, CheckProblem},
};

/// Artifact that records which shards were verified.
const VERIFICATION: &str = "verification.json";

/// The manifest is signed by the key that it names.
pub fn check_manifest_signature(evidence: &Evidence<'_>, report: &mut AuditReport) {
    report.add("manifest signature", manifest_is_signed(evidence.manifest));
}

fn manifest_is_signed(manifest: &ManifestDocument) -> AuditCheckResult {
    match (manifest.is_signature_valid(), &manifest.signer) {
        (Some(true), Some(signer)) => Ok(format!("by {signer}")),
        (Some(_), _) => Err(CheckProblem::failed("the signature is not the signer's over this manifest")),
        (None, None) if manifest.signature.is_none() => {
            Err(CheckProblem::NotPossible("the manifest is not signed".to_owned()))
        }
        (None, _) => Err(CheckProblem::failed("the manifest has only one of signer and signature")),
    }
}

/// Every shard result is signed by the agent recorded for it.
pub fn check_result_signatures(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let check = || {
        let document: ExecutionsDocument = evidence.document(EXECUTIONS_JSON)?;
        results_are_signed(&document, evidence.manifest)
    };
    report.add("signatures", check());
}

fn results_are_signed(document: &ExecutionsDocument, manifest: &ManifestDocument) -> AuditCheckResult {
    let mut signed = 0;
    for execution in &document.executions {
        let Some(signature) = &execution.signature else { continue };
        if !is_signed_by_agent(document, manifest, execution, signature) {
            return Err(CheckProblem::failed(format!(
                "the signature of shard {} is not its agent's over its result",
                execution.shard_id
            )));
        }
        signed += 1;
    }
    let unsigned = document.executions.len() - signed;
    if unsigned > 0 {
        let (unsigned, all) = (format_count(unsigned as u64), format_count(document.executions.len() as u64));
        return Err(CheckProblem::NotPossible(format!("{unsigned} of {all} executions are not signed")));
    }
    Ok(format!("{} results, each signed by its agent", format_count(signed as u64)))
}

fn is_signed_by_agent(
    document: &ExecutionsDocument,
    manifest: &ManifestDocument,
    execution: &Execution,
    signature: &Signature,
) -> bool {
    let message =
        result_signing_payload(&manifest.job_id, execution.shard_id, document.program, execution.result_hash);
    execution.agent_id.parse::<AgentId>().is_ok_and(|agent| agent.verify_signature(&message, signature))
}

/// The record of verification, if it was kept, matches the job's shards, and every refutation is
/// signed by its verifier.
pub fn check_verification(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let check = || verification_matches(&evidence.document(VERIFICATION)?, evidence);
    report.add("verification", check());
}

fn verification_matches(document: &VerificationDocument, evidence: &Evidence<'_>) -> AuditCheckResult {
    let manifest = evidence.manifest;
    let identity = (&document.job_id, document.replay_key, document.shards);
    if identity != (&manifest.job_id, manifest.replay_key, manifest.shards) {
        return Err(CheckProblem::failed(format!("{VERIFICATION} belongs to another job")));
    }
    let forged = document.refuted.iter().find(|refuted| {
        let message = verdict_signing_payload(
            &manifest.job_id,
            refuted.shard_id,
            VerdictOutcome::Refuted,
            &refuted.agent_id,
            refuted.claimed,
        );
        !refuted.verifier_id.verify_signature(&message, &refuted.signature)
    });
    if let Some(forged) = forged {
        return Err(CheckProblem::failed(format!(
            "the verdict on shard {} is not signed by its verifier",
            forged.shard_id
        )));
    }
    let (checked, on_other_hardware) = shard_counts(&document.pairs);
    if (checked, on_other_hardware) != (document.checked.len() as u64, document.on_other_hardware) {
        return Err(CheckProblem::failed(
            "the shard counts by backend do not match the list of verified shards",
        ));
    }
    // Both sequences are in shard order, so one pass over the plan finds every verified shard.
    let mut planned = evidence.trusted_job()?.request.plan.shards().take(manifest.shards as usize);
    let unknown = document.checked.iter().find(|&&checked| !planned.any(|shard| shard == checked));
    if let Some(unknown) = unknown {
        return Err(CheckProblem::failed(format!("verified shard {unknown} is not one of the job's")));
    }
    let on_other_hardware = match on_other_hardware {
        0 => String::new(),
        shards => format!(" ({} of them on both CPU and GPU)", format_count(shards)),
    };
    Ok(format!(
        "{} of {} shards executed twice{on_other_hardware}, {} wrong results refuted",
        format_count(checked),
        format_count(document.shards),
        format_count(document.refuted.len() as u64)
    ))
}

/// Number of shards in all pairs of backends, and in those pairs that span CPU and GPU.
fn shard_counts(pairs: &[BackendPair]) -> (u64, u64) {
    let sum = |pairs: &mut dyn Iterator<Item = &BackendPair>| {
        pairs.fold(0_u64, |sum, pair| sum.saturating_add(pair.shards))
    };
    let spans_hardware = |pair: &&BackendPair| pair.primary_hardware != pair.verifier_hardware;
    (sum(&mut pairs.iter()), sum(&mut pairs.iter().filter(spans_hardware)))
}
