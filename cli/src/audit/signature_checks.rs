//! Checks of signatures: agents sign their results and an aggregator the manifest. A valid one
//! proves which key signed, not whose key it is: `signers` compares keys.

use forge_contract::artifact::{ExecutionsDocument, ManifestDocument};
use forge_documents::number_format::format_count;
use forge_kernel::job_key::JobKey;

use super::{
    evidence::Evidence,
    report::{AuditCheckResult, AuditReport, CheckProblem},
    verification_checks::verifier_keys,
};

/// Whether missing signatures are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// A missing signature fails the check.
    Required,
    /// A missing signature is named as not compared.
    Optional,
}

impl SignaturePolicy {
    fn missing(self, what: &str) -> CheckProblem {
        match self {
            Self::Required => CheckProblem::failed(format!("{what}; --allow-unsigned accepts that")),
            Self::Optional => CheckProblem::NotCompared(what.to_owned()),
        }
    }
}

/// The manifest is signed by the key that it names.
pub fn check_manifest_signature(evidence: &Evidence<'_>, policy: SignaturePolicy, report: &mut AuditReport) {
    report.add("manifest signature", manifest_is_signed(evidence.manifest, policy));
}

fn manifest_is_signed(manifest: &ManifestDocument, policy: SignaturePolicy) -> AuditCheckResult {
    match (manifest.is_signature_valid(), &manifest.signer) {
        (Some(true), Some(signer)) => Ok(format!("by {signer}")),
        (Some(_), _) => Err(CheckProblem::failed("the signature is not the signer's over this manifest")),
        (None, None) if manifest.signature.is_none() => Err(policy.missing("the manifest is not signed")),
        (None, _) => Err(CheckProblem::failed("the manifest has only one of signer and signature")),
    }
}

/// Every shard result is signed by the agent recorded for it, and answers a task that was issued
/// with the job's key.
pub fn check_result_signatures(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let check = || results_are_signed(evidence.executions()?, evidence.manifest);
    report.add("signatures", check());
}

/// Names uid and key of the job as not compared if nothing that is signed by an agent or a verifier
/// depends on them.
pub fn check_job_key(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let is_stated = evidence.executions().is_ok() || !verifier_keys(evidence).is_empty();
    if !is_stated {
        let reason =
            "no signature of an agent or a verifier was kept that states job_uid or depends on job_key";
        report.add_not_compared("job uid and key", reason);
    }
}

fn results_are_signed(document: &ExecutionsDocument, manifest: &ManifestDocument) -> AuditCheckResult {
    let key = JobKey::from(manifest.job_key.0);
    for execution in &document.executions {
        let shard = execution.shard_id;
        let statement = execution.statement(manifest.job_uid, document.program, manifest.kernel);
        if !statement.is_signature_valid(&execution.signature) {
            return Err(CheckProblem::failed(format!(
                "the signature of shard {shard} is not its agent's over its result"
            )));
        }
        if !key.is_issued(manifest.job_uid, shard, execution.task_id) {
            return Err(CheckProblem::failed(format!(
                "the task of shard {shard} was not issued with the job's key"
            )));
        }
    }
    Ok(format!("{} results, each signed by its agent", format_count(document.executions.len() as u64)))
}
