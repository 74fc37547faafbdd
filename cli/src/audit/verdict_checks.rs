//! Checks of the confirmations, refutations and contradictions in `verification.json`: each is
//! signed, is about a shard and a hand-out of this job, and agrees with the results of the job.
//!
//! A forger may have made all signatures. What is checked here keeps a signature that was made for
//! something else, or a false accusation, from passing as a statement about this job.

use std::collections::BTreeMap;

use forge_contract::{
    agent::AgentId,
    artifact::{Execution, ManifestDocument, VerificationDocument},
    attestation::Attestation,
    digest::Digest,
    ids::{PoolName, TaskId},
    protocol::PROTOCOL,
    shard::ShardId,
    verdict::{Verdict, VerdictOutcome},
};
use forge_kernel::{KERNEL, job_key::JobKey, request::Request};

use super::{evidence::Evidence, execution_checks::is_device, report::CheckProblem};

/// What is known of the results of the job's shards.
pub struct AcceptedResults<'a> {
    manifest: &'a ManifestDocument,
    request: &'a Request,
    /// Hashes in shard order; `None` if neither recorded nor recomputed.
    hashes: Option<Vec<Digest>>,
    /// Executions by shard; `None` if they were not kept.
    executions: Option<BTreeMap<ShardId, &'a Execution>>,
}

impl<'a> AcceptedResults<'a> {
    /// Collects what was recomputed, or else recorded.
    ///
    /// # Errors
    /// [`CheckProblem::NotCompared`] without a reliable envelope.
    pub fn new(evidence: &'a Evidence<'_>, recomputed: Option<&[Digest]>) -> Result<Self, CheckProblem> {
        let recorded =
            || evidence.recorded_shards().ok().map(|shards| shards.iter().map(|s| s.hash).collect());
        let by_shard = |executions: &'a [Execution]| executions.iter().map(|e| (e.shard_id, e)).collect();
        Ok(Self {
            manifest: evidence.manifest,
            request: &evidence.trusted_job()?.request,
            hashes: recomputed.map(<[Digest]>::to_vec).or_else(recorded),
            executions: evidence.executions().ok().map(|document| by_shard(&document.executions)),
        })
    }

    /// Whether the hashes of the results are known.
    pub fn has_hashes(&self) -> bool {
        self.hashes.is_some()
    }

    /// Whether the executions are known.
    pub fn has_executions(&self) -> bool {
        self.executions.is_some()
    }

    /// The executions that are known.
    pub fn executions(&self) -> impl Iterator<Item = &'a Execution> {
        self.executions.iter().flat_map(BTreeMap::values).copied()
    }

    /// The execution of a shard, if it is known.
    pub fn execution(&self, shard: ShardId) -> Option<&'a Execution> {
        self.executions.as_ref()?.get(&shard).copied()
    }

    /// The hash of the result of the shard at a position of the plan, if it is known.
    fn hash(&self, position: u64) -> Option<Digest> {
        self.hashes.as_ref()?.get(usize::try_from(position).ok()?).copied()
    }

    /// The position of a shard in the plan.
    fn position(&self, shard: ShardId) -> Result<u64, CheckProblem> {
        let position = self.request.plan.position(shard);
        position.ok_or_else(|| CheckProblem::failed(format!("shard {shard} is not one of the job's")))
    }

    /// The position of a shard that is part of the result.
    fn position_in_result(&self, shard: ShardId) -> Result<u64, CheckProblem> {
        let position = self.position(shard)?;
        expect(position < self.manifest.shards, || format!("shard {shard} is not part of the result"))?;
        Ok(position)
    }

    /// Fails unless the hand-out was issued for the shard with the job's key.
    fn check_task(&self, shard: ShardId, task: TaskId) -> Result<(), CheckProblem> {
        let key = JobKey::from(self.manifest.job_key.0);
        expect(key.is_issued(self.manifest.job_uid, shard, task), || {
            format!("a checked result of shard {shard} answers a task that was not issued with the job's key")
        })
    }
}

/// Sorts results as the record does: by shard, hash, pool and agent.
type ResultOrder<'a> = (u64, Digest, &'a PoolName, &'a AgentId);

/// Checks every verdict and contradiction of the record.
///
/// # Errors
/// The first that is not signed, not of this job, not in order, or contradicts the results.
pub fn check_verdicts(
    document: &VerificationDocument,
    results: &AcceptedResults<'_>,
) -> Result<(), CheckProblem> {
    let mut last = None;
    for statement in document.checked.iter().chain(&document.refuted).map(|verdict| &verdict.statement) {
        expect(is_device(&statement.backend, statement.adapter.as_deref()), || {
            format!("a verdict on shard {} states a backend or adapter that is no name", statement.shard_id)
        })?;
    }
    for verdict in &document.checked {
        let position = check_confirmation(verdict, results)?;
        let is_next = last.replace(position).is_none_or(|last| last < position);
        expect(is_next, || "the checked shards are not in order, each once".to_owned())?;
    }
    let mut last: Option<ResultOrder<'_>> = None;
    for verdict in &document.refuted {
        let position = check_refutation(verdict, results)?;
        let statement = &verdict.statement;
        let order = (position, statement.result_hash, &statement.pool, &statement.agent_id);
        let is_next = last.replace(order).is_none_or(|last| last < order);
        expect(is_next, || "the refuted results are not in order, each once".to_owned())?;
    }
    let mut last = None;
    for contradiction in &document.contradictions {
        let position = check_contradiction(contradiction, results)?;
        let statement = &contradiction.statement;
        let order = (position, &statement.pool, &statement.agent_id, statement.result_hash);
        let is_next = last.replace(order).is_none_or(|last| last < order);
        expect(is_next, || "the contradicting results are not in order, each once".to_owned())?;
    }
    Ok(())
}

/// A confirmation is of the accepted result of its shard. It may name another agent that returned
/// the same bytes.
fn check_confirmation(verdict: &Verdict, results: &AcceptedResults<'_>) -> Result<u64, CheckProblem> {
    let statement = &verdict.statement;
    let shard = statement.shard_id;
    let position = results.position_in_result(shard)?;
    let is_signed = is_signed(verdict, VerdictOutcome::Confirmed, results.manifest);
    expect(is_signed, || format!("the confirmation of shard {shard} is not signed by its verifier"))?;
    results.check_task(shard, statement.task_id)?;
    let is_accepted = results.hash(position).is_none_or(|accepted| accepted == statement.result_hash);
    expect(is_accepted, || format!("the confirmed result of shard {shard} is not the accepted one"))?;
    let is_plain = statement.correct == Some(statement.result_hash) && statement.reason.is_empty();
    expect(is_plain, || format!("the confirmation of shard {shard} contradicts itself"))?;
    Ok(position)
}

/// A refuted result differs from the accepted one of its shard, which is the correct one. Its shard
/// may lie beyond the end of a run that converged.
fn check_refutation(verdict: &Verdict, results: &AcceptedResults<'_>) -> Result<u64, CheckProblem> {
    let statement = &verdict.statement;
    let shard = statement.shard_id;
    let position = results.position(shard)?;
    let is_signed = is_signed(verdict, VerdictOutcome::Refuted, results.manifest);
    expect(is_signed, || format!("the verdict on shard {shard} is not signed by its verifier"))?;
    results.check_task(shard, statement.task_id)?;
    let is_wrong = statement.correct.is_some_and(|correct| correct != statement.result_hash);
    expect(is_wrong, || format!("the refutation of shard {shard} states no other result"))?;
    let is_accepted = |accepted| statement.correct == Some(accepted);
    expect(results.hash(position).is_none_or(is_accepted), || {
        format!("the refutation of shard {shard} states another correct result than the accepted one")
    })?;
    Ok(position)
}

/// A contradicting result is signed by its agent for the same shard of this job, and differs from
/// the accepted one.
fn check_contradiction(
    contradiction: &Attestation,
    results: &AcceptedResults<'_>,
) -> Result<u64, CheckProblem> {
    let Attestation { protocol, statement, .. } = contradiction;
    let shard = statement.shard_id;
    let position = results.position_in_result(shard)?;
    let planned = results.request.shard(shard);
    let found = (*protocol, statement.protocol, statement.job_uid, statement.kernel);
    let is_of_job = found == (PROTOCOL, PROTOCOL, results.manifest.job_uid, KERNEL)
        && (statement.program, statement.seed, statement.iterations)
            == (results.request.program_digest, planned.seed, planned.iterations);
    expect(is_of_job && contradiction.is_signature_valid(), || {
        format!("the contradicting result of shard {shard} is not signed by its agent for this shard")
    })?;
    results.check_task(shard, statement.task_id)?;
    let is_other = results.hash(position).is_none_or(|accepted| accepted != statement.result_hash);
    expect(is_other, || format!("the contradicting result of shard {shard} is the accepted one"))?;
    Ok(position)
}

fn is_signed(verdict: &Verdict, outcome: VerdictOutcome, manifest: &ManifestDocument) -> bool {
    let statement = &verdict.statement;
    (verdict.protocol, statement.protocol) == (PROTOCOL, PROTOCOL)
        && (statement.job_uid, statement.outcome) == (manifest.job_uid, outcome)
        && verdict.is_signature_valid()
}

fn expect(holds: bool, explanation: impl FnOnce() -> String) -> Result<(), CheckProblem> {
    if holds { Ok(()) } else { Err(CheckProblem::Failed(explanation())) }
}
