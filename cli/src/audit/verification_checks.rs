//! Checks of `verification.json`: its counts follow from envelope, plan and executions, and what it
//! says of an agent is signed by that agent or by the verifier.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    agent::Hardware,
    artifact::{BackendPair, Execution, VerificationDocument},
    digest::Digest,
    shard::{LEAF_ITERATIONS, ShardId},
    task::result_signing_payload,
    verdict::{VerdictOutcome, verdict_signing_payload},
};
use forge_documents::{document::VERIFICATION_JSON, number_format::format_count};
use forge_kernel::verification;

use super::{
    document_checks::planned_end,
    evidence::Evidence,
    report::{AuditReport, CheckProblem},
};

/// The record of verification, if it was kept, matches the policy, the job's shards and their
/// executions, and every accusation in it is signed.
pub fn check_verification(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let document = evidence.document::<VerificationDocument>(VERIFICATION_JSON);
    let result = document.as_ref().map_err(Clone::clone).and_then(|document| {
        // The checks below take time in proportion to the number of shards.
        planned_end(evidence)?;
        is_of_this_job(document, evidence)?;
        follows_policy(document, evidence)?;
        shards_are_planned(document, evidence)?;
        pairs_match(document, evidence)?;
        refutations_are_signed(document, evidence)?;
        contradictions_are_signed(document, evidence)?;
        Ok(describe(document))
    });
    report.add("verification", result);
    if document.is_ok_and(|document| !document.checked.is_empty()) {
        let reason = "which shards were checked, and by which backends, is what the aggregator reports";
        report.add_not_compared("verification.json reports", reason);
    }
}

/// The keys of the verifiers whose signatures the record holds.
pub fn verifier_keys(evidence: &Evidence<'_>) -> BTreeSet<String> {
    let document = evidence.document::<VerificationDocument>(VERIFICATION_JSON);
    let refuted = document.map(|document| document.refuted).unwrap_or_default();
    refuted.iter().map(|refuted| refuted.verifier_id.to_string()).collect()
}

fn failed<T>(explanation: impl Into<String>) -> Result<T, CheckProblem> {
    Err(CheckProblem::failed(explanation))
}

fn is_of_this_job(document: &VerificationDocument, evidence: &Evidence<'_>) -> Result<(), CheckProblem> {
    let manifest = evidence.manifest;
    let identity = (document.schema.as_str(), &document.job_id, document.replay_key, document.shards);
    if identity == (VerificationDocument::SCHEMA, &manifest.job_id, manifest.replay_key, manifest.shards) {
        return Ok(());
    }
    failed(format!("{VERIFICATION_JSON} belongs to another job"))
}

/// Level, share, number of checked shards and probabilities are those that the policy gives.
fn follows_policy(document: &VerificationDocument, evidence: &Evidence<'_>) -> Result<(), CheckProblem> {
    let policy = &evidence.trusted_job()?.request.envelope.policy;
    let share = verification::ratio(policy);
    if (document.policy, document.share) != (policy.verify, share) {
        return failed(format!(
            "the envelope asks to verify a share of {share}, the record has {}",
            document.share
        ));
    }
    let (checked, required) =
        (document.checked.len() as u64, verification::sample_size(share, document.shards));
    if checked < required {
        return failed(format!("{checked} shards were checked, and the policy asks for {required}"));
    }
    if document.detection != verification::detection_probabilities(document.shards, checked) {
        return failed(format!("the probabilities of detection are not those of {checked} checked shards"));
    }
    Ok(())
}

/// Every shard in the record is one of the job's; checked shards are in order, each once.
fn shards_are_planned(document: &VerificationDocument, evidence: &Evidence<'_>) -> Result<(), CheckProblem> {
    // Both sequences are in shard order, so one pass over the plan finds every verified shard.
    let shards = usize::try_from(evidence.manifest.shards).unwrap_or(usize::MAX);
    let mut planned = evidence.trusted_job()?.request.plan.shards().take(shards);
    let unknown = document.checked.iter().find(|&&checked| !planned.any(|shard| shard == checked));
    if let Some(unknown) = unknown {
        return failed(format!("verified shard {unknown} is not one of the job's"));
    }
    // A refuted result may lie beyond the end of a run that converged.
    let iterations = evidence.trusted_job()?.request.plan.iterations();
    let refuted = document.refuted.iter().map(|refuted| refuted.shard_id);
    let mut accused = refuted.chain(document.contradictions.iter().map(|result| result.shard_id));
    match accused.find(|shard| shard.leaves().start * LEAF_ITERATIONS >= iterations) {
        Some(shard) => failed(format!("shard {shard} is not one of the job's")),
        None => Ok(()),
    }
}

/// The counts by backend add up to the checked shards, and name the backends that executed them.
fn pairs_match(document: &VerificationDocument, evidence: &Evidence<'_>) -> Result<(), CheckProblem> {
    let by_hardware = shard_counts(&document.pairs);
    if by_hardware != (document.checked.len() as u64, document.on_other_hardware) {
        return failed("the shard counts by backend do not match the list of verified shards");
    }
    let is_consistent = document.pairs.iter().all(|pair| {
        let hardware = |adapter: &Option<String>| Hardware::from_adapter(adapter.as_deref());
        (hardware(&pair.primary_adapter), hardware(&pair.verifier_adapter))
            == (pair.primary_hardware, pair.verifier_hardware)
    });
    if !is_consistent {
        return failed("the hardware of a backend does not match its adapter");
    }
    let Ok(executions) = evidence.executions() else { return Ok(()) };
    let checked: BTreeSet<_> = document.checked.iter().collect();
    let mut executed: BTreeMap<(&str, Option<&str>), u64> = BTreeMap::new();
    for execution in executions.executions.iter().filter(|execution| checked.contains(&execution.shard_id)) {
        *executed.entry((&execution.backend, execution.adapter.as_deref())).or_default() += 1;
    }
    let mut reported: BTreeMap<(&str, Option<&str>), u64> = BTreeMap::new();
    for pair in &document.pairs {
        *reported.entry((&pair.primary, pair.primary_adapter.as_deref())).or_default() += pair.shards;
    }
    if executed == reported {
        return Ok(());
    }
    failed("the backends of the verified shards are not those that executed them")
}

/// Number of shards in all pairs of backends, and in those pairs that span CPU and GPU.
fn shard_counts(pairs: &[BackendPair]) -> (u64, u64) {
    let sum = |pairs: &mut dyn Iterator<Item = &BackendPair>| {
        pairs.fold(0_u64, |sum, pair| sum.saturating_add(pair.shards))
    };
    let spans_hardware = |pair: &&BackendPair| pair.primary_hardware != pair.verifier_hardware;
    (sum(&mut pairs.iter()), sum(&mut pairs.iter().filter(spans_hardware)))
}

/// Every refutation is signed by its verifier, and nothing of the refuted agent is in the result.
fn refutations_are_signed(
    document: &VerificationDocument,
    evidence: &Evidence<'_>,
) -> Result<(), CheckProblem> {
    let job = &evidence.manifest.job_id;
    let forged = document.refuted.iter().find(|refuted| {
        let (agent, outcome) = (&refuted.agent_id, VerdictOutcome::Refuted);
        let message = verdict_signing_payload(job, refuted.shard_id, outcome, agent, refuted.claimed);
        !refuted.verifier_id.verify_signature(&message, &refuted.signature)
    });
    if let Some(forged) = forged {
        return failed(format!("the verdict on shard {} is not signed by its verifier", forged.shard_id));
    }
    let refuted: BTreeSet<_> = document.refuted.iter().map(|refuted| refuted.agent_id.as_str()).collect();
    let executions = evidence.executions().map(|document| document.executions.as_slice()).unwrap_or_default();
    match executions.iter().find(|execution| refuted.contains(execution.agent_id.as_str())) {
        Some(execution) => failed(format!(
            "shard {} of the result was executed by {}, who was refuted",
            execution.shard_id, execution.agent_id
        )),
        None => Ok(()),
    }
}

/// Every contradicting result is signed by its agent, and differs from the accepted one.
fn contradictions_are_signed(
    document: &VerificationDocument,
    evidence: &Evidence<'_>,
) -> Result<(), CheckProblem> {
    let (job, program) = (&evidence.manifest.job_id, evidence.trusted_job()?.request.program_digest);
    let accepted = accepted_hashes(evidence);
    for contradiction in &document.contradictions {
        let (shard, hash) = (contradiction.shard_id, contradiction.result_hash);
        let message = result_signing_payload(job, shard, program, hash);
        if !contradiction.agent_id.verify_signature(&message, &contradiction.signature) {
            return failed(format!("the contradicting result of shard {shard} is not signed by its agent"));
        }
        if accepted.get(&shard) == Some(&hash) {
            return failed(format!("the contradicting result of shard {shard} is the accepted one"));
        }
    }
    Ok(())
}

fn accepted_hashes(evidence: &Evidence<'_>) -> BTreeMap<ShardId, Digest> {
    let executions = evidence.executions().map(|document| document.executions.as_slice()).unwrap_or_default();
    let hash = |execution: &Execution| (execution.shard_id, execution.result_hash);
    executions.iter().map(hash).collect()
}

fn describe(document: &VerificationDocument) -> String {
    let on_other_hardware = match document.on_other_hardware {
        0 => String::new(),
        shards => format!(" ({} of them on both CPU and GPU)", format_count(shards)),
    };
    format!(
        "{} of {} shards executed twice{on_other_hardware}, {} wrong results refuted",
        format_count(document.checked.len() as u64),
        format_count(document.shards),
        format_count(document.refuted.len() as u64)
    )
}
