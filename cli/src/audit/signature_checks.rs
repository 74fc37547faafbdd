//! Checks of signatures: agents sign their results and an aggregator the manifest. A valid one
//! proves which key signed, not whose key it is: `signers` compares keys.

use forge_contract::{
    agent::{AgentId, Signature},
    artifact::{Execution, ExecutionsDocument, ManifestDocument},
    task::result_signing_payload,
};
use forge_documents::number_format::format_count;

use super::{
    evidence::Evidence,
    report::{AuditCheckResult, AuditReport, CheckProblem},
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

/// Every shard result is signed by the agent recorded for it.
pub fn check_result_signatures(evidence: &Evidence<'_>, policy: SignaturePolicy, report: &mut AuditReport) {
    let check = || results_are_signed(evidence.executions()?, evidence.manifest, policy);
    report.add("signatures", check());
}

fn results_are_signed(
    document: &ExecutionsDocument,
    manifest: &ManifestDocument,
    policy: SignaturePolicy,
) -> AuditCheckResult {
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
        return Err(policy.missing(&format!("{unsigned} of {all} executions are not signed")));
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
