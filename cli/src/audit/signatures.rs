//! Checks of who signed what: the agents their results, verifiers their verdicts, and an aggregator the manifest. A
//! signature is of a key; whose key it is, is for the reader to know.

use forge_contract::{
    agent::{AgentId, Signature},
    artifact::{BackendPair, Execution, ExecutionsDocument, ManifestDocument, VerificationDocument},
    task::result_signing_payload,
    verdict::{VerdictOutcome, verdict_signing_payload},
};
use forge_documents::{document::EXECUTIONS_JSON, number_format::format_count};

use super::{
    evidence::Evidence,
    report::{Outcome, Problem, Report},
};

/// Name of the record of what was verified.
const VERIFICATION: &str = "verification.json";

/// The manifest is signed by the key that it names.
pub fn manifest(evidence: &Evidence<'_>, report: &mut Report) {
    report.add("manifest signature", check_manifest(evidence.manifest));
}

fn check_manifest(manifest: &ManifestDocument) -> Outcome {
    match (manifest.is_signature_valid(), &manifest.signer) {
        (Some(true), Some(signer)) => Ok(format!("by {signer}")),
        (Some(_), _) => Err(Problem::failed("it is not that of the signer over this manifest")),
        (None, None) if manifest.signature.is_none() => {
            Err(Problem::NotPossible("the manifest is not signed".to_owned()))
        }
        (None, _) => Err(Problem::failed("of signer and signature, one is missing")),
    }
}

/// Every result is signed by the agent that is on record for it.
pub fn executions(evidence: &Evidence<'_>, report: &mut Report) {
    let check = || {
        let document: ExecutionsDocument = evidence.document(EXECUTIONS_JSON)?;
        check_executions(&document, evidence.manifest)
    };
    report.add("signatures", check());
}

fn check_executions(document: &ExecutionsDocument, manifest: &ManifestDocument) -> Outcome {
    let mut signed = 0;
    for execution in &document.executions {
        let Some(signature) = &execution.signature else { continue };
        if !is_signed(document, manifest, execution, signature) {
            let shard = execution.shard_id;
            return Err(Problem::failed(format!("that of shard {shard} is not its agent's over its result")));
        }
        signed += 1;
    }
    let unsigned = document.executions.len() - signed;
    if unsigned > 0 {
        let (unsigned, all) = (format_count(unsigned as u64), format_count(document.executions.len() as u64));
        return Err(Problem::NotPossible(format!("{unsigned} of {all} executions are not signed")));
    }
    Ok(format!("{} results, each signed by its agent", format_count(signed as u64)))
}

fn is_signed(
    document: &ExecutionsDocument,
    manifest: &ManifestDocument,
    execution: &Execution,
    signature: &Signature,
) -> bool {
    let message =
        result_signing_payload(&manifest.job_id, execution.shard_id, document.program, execution.result_hash);
    execution.agent_id.parse::<AgentId>().is_ok_and(|agent| agent.verify_signature(&message, signature))
}

/// The record of what was verified, if it was kept, is of this job's shards, and every refutation is signed.
pub fn verification(evidence: &Evidence<'_>, report: &mut Report) {
    let check = || check_verification(&evidence.document(VERIFICATION)?, evidence);
    report.add("verification", check());
}

fn check_verification(document: &VerificationDocument, evidence: &Evidence<'_>) -> Outcome {
    let manifest = evidence.manifest;
    let names = (&document.job_id, document.replay_key, document.shards);
    if names != (&manifest.job_id, manifest.replay_key, manifest.shards) {
        return Err(Problem::failed("the record is that of another job"));
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
    if let Some(refuted) = forged {
        let shard = refuted.shard_id;
        return Err(Problem::failed(format!(
            "the verdict about shard {shard} is not signed by its verifier"
        )));
    }
    let (all, other) = counted(&document.pairs);
    if (all, other) != (document.checked.len() as u64, document.on_other_hardware) {
        return Err(Problem::failed("its counts of shards by backend are not those of the shards it names"));
    }
    let mut planned = evidence.known_job()?.request.plan.shards().take(manifest.shards as usize);
    // Both are in shard order, so that each is found after the one before.
    let stray = document.checked.iter().find(|&&checked| !planned.any(|shard| shard == checked));
    if let Some(stray) = stray {
        return Err(Problem::failed(format!("shard {stray}, which was checked, is not one of the job's")));
    }
    let other = match other {
        0 => String::new(),
        shards => format!(" ({} of them on both CPU and GPU)", format_count(shards)),
    };
    Ok(format!(
        "{} of {} shards executed twice{other}, {} wrong results refuted",
        format_count(all),
        format_count(document.shards),
        format_count(document.refuted.len() as u64)
    ))
}

/// How many shards pairs count: all, and those that both kinds of hardware executed.
fn counted(pairs: &[BackendPair]) -> (u64, u64) {
    let sum = |shards: &mut dyn Iterator<Item = &BackendPair>| {
        shards.fold(0_u64, |sum, pair| sum.saturating_add(pair.shards))
    };
    let other = |pair: &&BackendPair| pair.primary_hardware != pair.verifier_hardware;
    (sum(&mut pairs.iter()), sum(&mut pairs.iter().filter(other)))
}
