//! Checks of `verification.json`: its counts follow from envelope, plan, executions and the job's
//! key, and every confirmation, refutation and contradiction in it is signed.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    agent::{AgentId, Hardware},
    artifact::{BackendPair, Execution, VerificationDocument},
    attestation::Attestation,
    ids::PoolName,
    shard::{LEAF_ITERATIONS, ShardId},
    verdict::{Verdict, VerdictOutcome, VerdictStatement},
};
use forge_documents::{document::VERIFICATION_JSON, number_format::format_count};
use forge_kernel::{job_key::JobKey, verification};

use super::{
    document_checks::planned_end,
    evidence::Evidence,
    report::{AuditReport, CheckProblem},
};

/// The record of verification, if it was kept, matches the policy, the draw, the job's shards and
/// their executions, and everything that it says of a result is signed.
pub fn check_verification(evidence: &Evidence<'_>, report: &mut AuditReport) {
    let document = evidence.document::<VerificationDocument>(VERIFICATION_JSON);
    let result = document.as_ref().map_err(Clone::clone).and_then(|document| {
        // The checks below take time in proportion to the number of shards.
        planned_end(evidence)?;
        is_of_this_job(document, evidence)?;
        follows_policy(document, evidence)?;
        shards_are_planned(document, evidence)?;
        pairs_match(document, evidence)?;
        confirmations_match(document, evidence)?;
        drawn_shards_are_checked(document, evidence)?;
        refutations_are_signed(document, evidence)?;
        contradictions_are_signed(document, evidence)?;
        Ok(describe(document))
    });
    report.add("verification", result);
    if document.is_ok_and(|document| !document.checked.is_empty()) {
        let reason = "that a verifier executed a shard is what its signature states; the commitment to the job's key \
                      is in the job's record";
        report.add_not_compared("verification.json reports", reason);
    }
}

/// The keys of the verifiers whose signatures the record holds.
pub fn verifier_keys(evidence: &Evidence<'_>) -> BTreeSet<String> {
    let Ok(document) = evidence.document::<VerificationDocument>(VERIFICATION_JSON) else {
        return BTreeSet::new();
    };
    let verdicts = document.checked.iter().chain(&document.refuted);
    verdicts.map(|verdict| verdict.statement.verifier_id.to_string()).collect()
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

/// Level, share, size of the draw and probabilities are those that the policy gives.
fn follows_policy(document: &VerificationDocument, evidence: &Evidence<'_>) -> Result<(), CheckProblem> {
    let policy = &evidence.trusted_job()?.request.envelope.policy;
    let share = verification::ratio(policy);
    if (document.policy, document.share) != (policy.verify, share) {
        let found = document.share;
        return failed(format!("the envelope asks to verify a share of {share}, the record has {found}"));
    }
    let drawn = verification::sample_size(share, document.shards);
    if document.drawn != drawn {
        return failed(format!("{} shards were drawn, and the policy asks for {drawn}", document.drawn));
    }
    if document.escape != verification::escape_probabilities(document.shards, drawn) {
        return failed(format!("the probabilities are not those of {drawn} drawn shards"));
    }
    Ok(())
}

/// Every shard in the record is one of the job's; checked shards are in order, each once.
fn shards_are_planned(document: &VerificationDocument, evidence: &Evidence<'_>) -> Result<(), CheckProblem> {
    // Both sequences are in shard order, so one pass over the plan finds every verified shard.
    let shards = usize::try_from(evidence.manifest.shards).unwrap_or(usize::MAX);
    let mut planned = evidence.trusted_job()?.request.plan.shards().take(shards);
    let mut checked = document.checked.iter().map(|verdict| verdict.statement.shard_id);
    if let Some(unknown) = checked.find(|&checked| !planned.any(|shard| shard == checked)) {
        return failed(format!("verified shard {unknown} is not one of the job's"));
    }
    // A refuted result may lie beyond the end of a run that converged.
    let iterations = evidence.trusted_job()?.request.plan.iterations();
    let refuted = document.refuted.iter().map(|verdict| verdict.statement.shard_id);
    let mut accused = refuted.chain(document.contradictions.iter().map(|result| result.statement.shard_id));
    match accused.find(|shard| shard.leaves().start * LEAF_ITERATIONS >= iterations) {
        Some(shard) => failed(format!("shard {shard} is not one of the job's")),
        None => Ok(()),
    }
}

/// The counts by backend are those of the checked shards, their executions and confirmations.
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
    let Ok(executions) = executions_by_shard(evidence) else { return Ok(()) };
    let mut counted: BTreeMap<_, u64> = BTreeMap::new();
    for VerdictStatement { shard_id, backend, adapter, .. } in
        document.checked.iter().map(|verdict| &verdict.statement)
    {
        let Some(execution) = executions.get(shard_id) else { continue };
        let primary = (&execution.backend, &execution.adapter);
        *counted.entry((primary, (backend, adapter))).or_default() += 1;
    }
    let mut reported: BTreeMap<_, u64> = BTreeMap::new();
    for pair in &document.pairs {
        let primary = (&pair.primary, &pair.primary_adapter);
        *reported.entry((primary, (&pair.verifier, &pair.verifier_adapter))).or_default() += pair.shards;
    }
    if counted == reported {
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

/// Every confirmation is signed by its verifier, for the accepted result of its shard.
fn confirmations_match(document: &VerificationDocument, evidence: &Evidence<'_>) -> Result<(), CheckProblem> {
    let executions = executions_by_shard(evidence).unwrap_or_default();
    for verdict in &document.checked {
        let statement = &verdict.statement;
        let shard = statement.shard_id;
        if !is_signed(verdict, VerdictOutcome::Confirmed, evidence) {
            return failed(format!("the confirmation of shard {shard} is not signed by its verifier"));
        }
        let is_accepted = |execution: &&Execution| {
            (&execution.pool, &execution.agent_id, execution.result_hash)
                == (&statement.pool, &statement.agent_id, statement.result_hash)
        };
        if executions.get(&shard).is_some_and(|execution| !is_accepted(execution)) {
            return failed(format!("the confirmed result of shard {shard} is not the accepted one"));
        }
    }
    Ok(())
}

/// The shards that the job's key draws are among the checked ones.
fn drawn_shards_are_checked(
    document: &VerificationDocument,
    evidence: &Evidence<'_>,
) -> Result<(), CheckProblem> {
    let (manifest, plan) = (evidence.manifest, &evidence.trusted_job()?.request.plan);
    let shards: Vec<_> = plan.shards().take(usize::try_from(manifest.shards).unwrap_or(usize::MAX)).collect();
    let key = JobKey::from(manifest.job_key.0);
    let drawn = verification::select_shards(&key, manifest.job_uid, shards.iter().copied(), document.drawn);
    let checked: BTreeSet<_> = document.checked.iter().map(|verdict| verdict.statement.shard_id).collect();
    match drawn.into_iter().map(|position| shards[position]).find(|shard| !checked.contains(shard)) {
        Some(shard) => failed(format!("shard {shard} was drawn by the job's key, but was not checked")),
        None => Ok(()),
    }
}

/// Every refutation is signed by its verifier; nothing of a refuted agent is in the result, and
/// results of its pool are only there if they were confirmed.
fn refutations_are_signed(
    document: &VerificationDocument,
    evidence: &Evidence<'_>,
) -> Result<(), CheckProblem> {
    let forged =
        document.refuted.iter().find(|verdict| !is_signed(verdict, VerdictOutcome::Refuted, evidence));
    if let Some(forged) = forged {
        let shard = forged.statement.shard_id;
        return failed(format!("the verdict on shard {shard} is not signed by its verifier"));
    }
    let suspects: BTreeSet<_> = document.refuted.iter().map(|verdict| &verdict.statement.pool).collect();
    if !suspects.iter().all(|pool| document.suspect_pools.contains(pool)) {
        return failed("a pool with a refuted result is not listed as suspect");
    }
    let refuted: BTreeSet<_> = document.refuted.iter().map(|verdict| claimant(&verdict.statement)).collect();
    let checked: BTreeSet<_> = document.checked.iter().map(|verdict| verdict.statement.shard_id).collect();
    for (shard, execution) in executions_by_shard(evidence).unwrap_or_default() {
        if refuted.contains(&(&execution.pool, &execution.agent_id)) {
            return failed(format!(
                "shard {shard} of the result was executed by {}, who was refuted",
                execution.agent_id
            ));
        }
        if document.suspect_pools.contains(&execution.pool) && !checked.contains(&shard) {
            return failed(format!(
                "shard {shard} is of suspect pool {}, and was not checked",
                execution.pool
            ));
        }
    }
    Ok(())
}

/// Every contradicting result is signed by its agent, and differs from the accepted one.
fn contradictions_are_signed(
    document: &VerificationDocument,
    evidence: &Evidence<'_>,
) -> Result<(), CheckProblem> {
    let program = evidence.trusted_job()?.request.program_digest;
    let executions = executions_by_shard(evidence).unwrap_or_default();
    for contradiction in &document.contradictions {
        let Attestation { statement, .. } = contradiction;
        let shard = statement.shard_id;
        let is_of_job = (statement.job_uid, statement.program) == (evidence.manifest.job_uid, program);
        if !is_of_job || !contradiction.is_signature_valid() {
            return failed(format!("the contradicting result of shard {shard} is not signed by its agent"));
        }
        if executions.get(&shard).is_some_and(|execution| execution.result_hash == statement.result_hash) {
            return failed(format!("the contradicting result of shard {shard} is the accepted one"));
        }
    }
    Ok(())
}

fn is_signed(verdict: &Verdict, outcome: VerdictOutcome, evidence: &Evidence<'_>) -> bool {
    let statement = &verdict.statement;
    (statement.job_uid, statement.outcome) == (evidence.manifest.job_uid, outcome)
        && verdict.is_signature_valid()
}

fn claimant(statement: &VerdictStatement) -> (&PoolName, &AgentId) {
    (&statement.pool, &statement.agent_id)
}

fn executions_by_shard<'a>(
    evidence: &'a Evidence<'_>,
) -> Result<BTreeMap<ShardId, &'a Execution>, CheckProblem> {
    let executions = evidence.executions()?.executions.iter();
    Ok(executions.map(|execution| (execution.shard_id, execution)).collect())
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
