//! Checks of `verification.json`: its counts follow from envelope, plan, executions and the job's
//! key, and every confirmation, refutation and contradiction in it is signed.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    agent::Hardware,
    artifact::{BackendPair, Execution, VerificationDocument},
    digest::Digest,
    verdict::{Verdict, VerdictStatement},
};
use forge_documents::{
    document::{EXECUTIONS_JSON, VERIFICATION_JSON},
    number_format::format_count,
};
use forge_kernel::{job_key::JobKey, verification};

use super::{
    document_checks::planned_end,
    evidence::Evidence,
    report::{AuditReport, CheckProblem},
    verdict_checks::{self, AcceptedResults},
};

/// The record of verification, if it was kept, matches the policy, the draw, the job's shards and
/// their results, and everything that it says of a result is signed. `recomputed` are the hashes of
/// all shards of the job, if all were executed again.
pub fn check_verification(evidence: &Evidence<'_>, recomputed: Option<&[Digest]>, report: &mut AuditReport) {
    let document = evidence.document::<VerificationDocument>(VERIFICATION_JSON);
    let results = AcceptedResults::new(evidence, recomputed);
    let result = document.as_ref().map_err(Clone::clone).and_then(|document| {
        // The checks below take time in proportion to the number of shards.
        planned_end(evidence)?;
        let results = results.as_ref().map_err(Clone::clone)?;
        is_of_this_job(document, evidence)?;
        follows_policy(document, evidence)?;
        verdict_checks::check_verdicts(document, results)?;
        pairs_match(document, results)?;
        drawn_shards_are_checked(document, evidence)?;
        suspect_pools_are_confirmed(document, results)?;
        Ok(describe(document))
    });
    let is_checked = result.is_ok();
    report.add("verification", result);
    if let (true, Ok(document), Ok(results)) = (is_checked, document, results) {
        name_unchecked(&document, &results, report);
    }
}

/// Names what nothing shows but the statement of a verifier, an agent or the aggregator.
fn name_unchecked(document: &VerificationDocument, results: &AcceptedResults<'_>, report: &mut AuditReport) {
    let reason = "that a verifier executed a shard, on which backend, and why it refuted a result is what its \
                  signature states; wall_us and cpu_us of contradictions are what agents report; that no result is \
                  left out of refuted and contradictions is what the aggregator reports; the commitment to the \
                  job's key is in the job's record";
    report.add_not_compared("verification.json reports", reason);
    let has_results = !(document.checked.is_empty() && document.refuted.is_empty());
    if (has_results || !document.contradictions.is_empty()) && !results.has_hashes() {
        let reason = "there are no hashes of the job's results to compare those with that were checked";
        report.add_not_compared("verification.json results", reason);
    }
    let is_own = |verdict: &&Verdict| verdict.statement.verifier_id == verdict.statement.agent_id;
    let own = document.checked.iter().filter(is_own).count() as u64;
    if own > 0 {
        let reason = format!(
            "{} confirmations are signed by the key that signed the result: they show no second execution",
            format_count(own)
        );
        report.add_not_compared("verification.json confirmations", &reason);
    }
    if !document.pairs.is_empty() && !results.has_executions() {
        let reason = format!("the backends of the checked results have no {EXECUTIONS_JSON} to follow from");
        report.add_not_compared("verification.json backends", &reason);
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

/// The counts by backend are those of the checked shards, their executions and confirmations.
fn pairs_match(document: &VerificationDocument, results: &AcceptedResults<'_>) -> Result<(), CheckProblem> {
    let by_hardware = shard_counts(&document.pairs);
    if by_hardware != (document.checked.len() as u64, document.on_other_hardware) {
        return failed("the shard counts by backend do not match the list of verified shards");
    }
    let hardware = |adapter: &Option<String>| Hardware::from_adapter(adapter.as_deref());
    let is_consistent = document.pairs.iter().all(|pair| {
        (hardware(&pair.primary_adapter), hardware(&pair.verifier_adapter))
            == (pair.primary_hardware, pair.verifier_hardware)
    });
    if !is_consistent {
        return failed("the hardware of a backend does not match its adapter");
    }
    let devices = |pair: &BackendPair| {
        let primary = (pair.primary.clone(), pair.primary_adapter.clone());
        (primary, (pair.verifier.clone(), pair.verifier_adapter.clone()))
    };
    let counts = |pair: &BackendPair| (devices(pair), pair.shards);
    let reported: Vec<_> = document.pairs.iter().map(counts).collect();
    if !reported.is_sorted_by(|(a, _), (b, _)| a < b) {
        return failed("the pairs of backends are not in order, each once");
    }
    let mut counted: BTreeMap<_, u64> = BTreeMap::new();
    for VerdictStatement { shard_id, backend, adapter, .. } in
        document.checked.iter().map(|verdict| &verdict.statement)
    {
        let primary = results.execution(*shard_id).map(|e| (e.backend.clone(), e.adapter.clone()));
        let verifier = (backend.clone(), adapter.clone());
        *counted.entry((primary, verifier)).or_default() += 1;
    }
    // Without executions only the verifiers' side is known.
    let mut listed: BTreeMap<_, u64> = BTreeMap::new();
    for ((primary, verifier), shards) in reported {
        let primary = results.has_executions().then_some(primary);
        let count = listed.entry((primary, verifier)).or_default();
        *count = count.saturating_add(shards);
    }
    if counted == listed {
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

/// The suspect pools are those with a refuted result, and what is theirs in the result was
/// confirmed, as was everything of refuted agents.
fn suspect_pools_are_confirmed(
    document: &VerificationDocument,
    results: &AcceptedResults<'_>,
) -> Result<(), CheckProblem> {
    let suspects: BTreeSet<_> = document.refuted.iter().map(|verdict| &verdict.statement.pool).collect();
    if !document.suspect_pools.iter().eq(suspects.iter().copied()) {
        return failed("the suspect pools are not those with a refuted result, each once and in order");
    }
    let checked: BTreeSet<_> = document.checked.iter().map(|verdict| verdict.statement.shard_id).collect();
    let unchecked =
        |execution: &&Execution| suspects.contains(&execution.pool) && !checked.contains(&execution.shard_id);
    match results.executions().find(unchecked) {
        Some(Execution { shard_id, pool, .. }) => {
            failed(format!("shard {shard_id} is of suspect pool {pool}, and was not checked"))
        }
        None => Ok(()),
    }
}

fn describe(document: &VerificationDocument) -> String {
    let contradictions = match document.contradictions.len() as u64 {
        0 => String::new(),
        results => format!(", {} contradicting results listed", format_count(results)),
    };
    let on_other_hardware = match document.on_other_hardware {
        0 => String::new(),
        shards => format!(" ({} of them on both CPU and GPU)", format_count(shards)),
    };
    format!(
        "{} of {} shards executed twice{on_other_hardware}, {} wrong results refuted{contradictions}",
        format_count(document.checked.len() as u64),
        format_count(document.shards),
        format_count(document.refuted.len() as u64)
    )
}
