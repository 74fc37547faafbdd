//! Whether the executions of a result are those that the messages of the run allow: accepted by an
//! aggregator, refuted by no verifier, and verified as the policy asks. Compares them with what the
//! processes have published, not with the report of the verification.

use std::{collections::BTreeSet, time::Duration};

use forge_contract::{
    artifact::Execution,
    envelope::{Target, VerificationLevel},
    ids::{JobUid, PoolName},
    verdict::VerdictOutcome,
};
use forge_documents::Job;

use crate::{
    submitted_jobs::SubmittedJobs,
    traffic::{PublishedVerdict, TrafficLedger},
};

/// Upper bound of the time between an aggregator's last look at the verdicts and its manifest,
/// where no fault delays it.
const STORING_TIME: Duration = Duration::from_secs(1);
/// The share of shards that the documentation promises to verify at `spotcheck`.
const SPOTCHECK_SHARE: f64 = 0.1;

/// What a run has shown about its agents and messages.
pub struct PublishedEvidence<'a> {
    pub traffic: &'a TrafficLedger,
    /// Ids of all verifiers that were started.
    pub verifiers: &'a BTreeSet<String>,
    /// Ids of all workers that have a GPU.
    pub gpu_workers: &'a BTreeSet<String>,
    /// Whether an aggregator may store a result more than [`STORING_TIME`] after its refutation.
    pub has_late_aggregators: bool,
}

impl PublishedEvidence<'_> {
    /// The verdicts about a job that a verifier has signed.
    pub fn verdicts(&self, uid: JobUid) -> Vec<PublishedVerdict> {
        let mut verdicts = self.traffic.verdicts(uid);
        verdicts.retain(|PublishedVerdict { verdict, .. }| {
            self.verifiers.contains(&verdict.statement.verifier_id.to_string())
                && verdict.is_signature_valid()
        });
        verdicts
    }

    /// Checks the executions of a completed job. If not all of them had to be verified, one may be
    /// refuted after the result was stored, and before that where aggregators may be late.
    ///
    /// # Errors
    /// The first execution that should not be among them, and why.
    pub fn check(&self, uid: JobUid, job: &Job, executions: &[Execution]) -> Result<(), String> {
        let (verdicts, accepted) = (self.verdicts(uid), self.traffic.accepted(uid));
        let stored_at = self.traffic.stored_at(&format!("jobs/{}/manifest.json", job.id));
        let is_before_storing = |at| stored_at.is_none_or(|stored_at| at + STORING_TIME < stored_at);
        let is_full = job.request.envelope.policy.verify == VerificationLevel::Full;
        let mut confirmed = 0;
        for execution in executions {
            let (shard, agent) = (execution.shard_id, &execution.agent_id);
            if !accepted.contains(&(shard, execution.task_id)) {
                return Err(format!("the execution of shard {shard} was never reported as accepted"));
            }
            let is_about = |published: &&PublishedVerdict| {
                let statement = &published.verdict.statement;
                statement.shard_id == shard && statement.result_hash == execution.result_hash
            };
            let mut about = verdicts.iter().filter(is_about);
            let outcome = |published: &PublishedVerdict| published.verdict.statement.outcome;
            let is_void = |published: &PublishedVerdict| {
                outcome(published) == VerdictOutcome::Refuted
                    && (is_full || (!self.has_late_aggregators && is_before_storing(published.at)))
            };
            if about.clone().any(is_void) {
                return Err(format!("the execution of shard {shard} by {agent} is refuted"));
            }
            confirmed += usize::from(about.any(|published| outcome(published) == VerdictOutcome::Confirmed));
            let has_gpu = self.gpu_workers.contains(&agent.to_string());
            let has_target = match SubmittedJobs::target(job) {
                Target::Any => true,
                Target::Cpu => !has_gpu,
                Target::Gpu => has_gpu || execution.pool == PoolName::verifiers(),
            };
            if !has_target {
                return Err(format!(
                    "the execution of shard {shard} is by {agent}, which has another target"
                ));
            }
        }
        let required = required_verifications(job, executions.len());
        if confirmed < required {
            return Err(format!("{confirmed} executions are confirmed, and {required} have to be"));
        }
        Ok(())
    }
}

/// Number of shards that have to be verified, of a result of `shards` shards.
pub fn required_verifications(job: &Job, shards: usize) -> usize {
    match job.request.envelope.policy.verify {
        VerificationLevel::None => 0,
        VerificationLevel::Spotcheck => (SPOTCHECK_SHARE * shards as f64).ceil() as usize,
        VerificationLevel::Full => shards,
    }
}
