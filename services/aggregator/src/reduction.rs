//! The reduction of a job: accepts results in any order, merges them, and decides which of them
//! have to be verified. A pure function of its inputs: no I/O, no clock. Memory grows by about 200
//! bytes a shard and not with the number of iterations.
//!
//! Reading order: [`merge`] → [`verifications`] → [`contradictions`] → [`report`].

mod contradictions;
mod merge;
mod report;
mod verifications;

use std::{collections::BTreeSet, sync::Arc};

use forge_contract::{
    agent::AgentId,
    artifact::RefutedResult,
    shard::ShardId,
    shard_result::ShardResult,
    task::{Attestation, Claim},
    verdict::{Verdict, VerdictOutcome},
};
use forge_documents::Job;
use forge_kernel::verification;

use self::{
    contradictions::ContradictionLog,
    merge::{PrefixMerge, RunEnd},
    verifications::VerificationLedger,
};
pub(crate) use self::{merge::AggregationError, report::ReducedJob};
use crate::verification_key::VerificationKey;

/// The state of a job's results.
#[derive(Debug)]
pub(crate) struct JobReduction {
    job: Arc<Job>,
    key: VerificationKey,
    /// Share of the shards to verify, 0 to 1.
    verified_share: f64,
    /// The shards of the plan in order; those of the result once `run_end` is known.
    shards: Vec<ShardId>,
    /// The accepted result of each shard.
    accepted: Vec<Option<Attestation>>,
    accepted_shards: usize,
    accepted_iterations: u64,
    merge: PrefixMerge,
    run_end: Option<RunEnd>,
    verifications: VerificationLedger,
    contradictions: ContradictionLog,
    /// Agents whose results do not count.
    excluded: BTreeSet<AgentId>,
    refuted: Vec<RefutedResult>,
}

/// What the reduction did with a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResultDisposition {
    /// The result was merged.
    Accepted,
    /// The reduction has this result, or the shard lies beyond the end of the run.
    Redundant,
    /// The shard has another accepted result, returned by this agent.
    Contradicting(AgentId),
    /// The result cannot belong to this job, for this reason.
    Invalid(String),
}

/// What a verdict requires of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerdictEffect {
    /// The verdict was recorded.
    Recorded,
    /// An accepted result was refuted: [`JobReduction::restart`], and replay the results.
    RestartRequired,
    /// No execution could establish the right result of the shard: the job fails.
    Undecidable,
}

impl JobReduction {
    /// A reduction without results. `key` selects the shards to verify.
    pub fn new(job: Arc<Job>, key: VerificationKey) -> Self {
        Self::with_history(job, key, BTreeSet::new(), ContradictionLog::default())
    }

    /// The same reduction without results. Agents that were refuted stay excluded.
    #[must_use]
    pub fn restart(self) -> Self {
        let Self { job, key, excluded, contradictions, .. } = self;
        Self::with_history(job, key, excluded, contradictions)
    }

    fn with_history(
        job: Arc<Job>,
        key: VerificationKey,
        excluded: BTreeSet<AgentId>,
        contradictions: ContradictionLog,
    ) -> Self {
        let request = &job.request;
        let shards: Vec<_> = request.plan.shards().collect();
        let mut reduction = Self {
            key,
            verified_share: verification::ratio(&request.envelope.policy),
            accepted: vec![None; shards.len()],
            accepted_shards: 0,
            accepted_iterations: 0,
            merge: PrefixMerge::new(request, &shards),
            run_end: None,
            verifications: VerificationLedger::default(),
            contradictions,
            excluded,
            refuted: Vec::new(),
            shards,
            job,
        };
        // A sample is drawn from the shards of the result, so a run that may converge is sampled
        // when its end is known.
        if !reduction.merge.may_converge() || reduction.verified_share >= 1.0 {
            reduction.select_verifications();
        }
        reduction
    }

    /// Selects the shards to verify among those of the run.
    fn select_verifications(&mut self) {
        let count = verification::sample_size(self.verified_share, self.shards.len() as u64);
        let shards = self.shards.iter().copied();
        let selected = verification::select_shards(self.key.as_bytes(), &self.job.id, shards, count);
        self.verifications.select(selected.iter().copied());
        for position in selected {
            if let Some(attestation) = &self.accepted[position] {
                self.verifications.require(position, attestation);
            }
        }
    }

    /// Agents whose results do not count.
    pub fn excluded_agents(&self) -> &BTreeSet<AgentId> {
        &self.excluded
    }

    /// Whether this is the accepted result of the shard.
    pub fn is_accepted(&self, shard: ShardId, attestation: &Attestation) -> bool {
        let accepted = self.position(shard).and_then(|position| self.accepted[position].as_ref());
        accepted.is_some_and(|accepted| {
            accepted.agent_id == attestation.agent_id && accepted.result_hash == attestation.result_hash
        })
    }

    /// Whether the run needs a result of this shard.
    pub fn needs_result(&self, shard: ShardId) -> bool {
        self.position(shard).is_some_and(|position| self.accepted[position].is_none())
    }

    fn position(&self, shard: ShardId) -> Option<usize> {
        let start = shard.leaves().start;
        let found = self.shards.binary_search_by_key(&start, |shard| shard.leaves().start);
        found.ok().filter(|&position| self.shards[position] == shard)
    }

    /// Adds a result. The caller has checked its signature, and that its bytes have the attested
    /// hash.
    ///
    /// # Errors
    /// [`AggregationError`] when the merged results contradict the plan: the job must fail.
    pub fn add_result(
        &mut self,
        shard: ShardId,
        attestation: Attestation,
        result: &ShardResult,
    ) -> Result<ResultDisposition, AggregationError> {
        let Some(position) = self.position(shard) else {
            // Shards beyond the end of the run have been forgotten.
            return Ok(match self.run_end {
                Some(_) => ResultDisposition::Redundant,
                None => ResultDisposition::Invalid(format!("shard {shard} is not in the plan")),
            });
        };
        if attestation.program != self.job.request.program_digest {
            let reason = format!("it is the result of another program, {}", attestation.program);
            return Ok(ResultDisposition::Invalid(reason));
        }
        if self.accepted[position].is_some() {
            return Ok(self.compare_with_accepted(position, &attestation));
        }
        let planned = self.job.request.shard(shard).iterations;
        if result.iterations != planned {
            let reason = format!("it has {} iterations, but the plan has {planned}", result.iterations);
            return Ok(ResultDisposition::Invalid(reason));
        }
        if let Err(mismatch) = self.merge.add(position, result) {
            return Ok(ResultDisposition::Invalid(mismatch.to_string()));
        }
        self.accepted_shards += 1;
        self.accepted_iterations += planned;
        if self.verifications.is_selected(position) {
            self.verifications.require(position, &attestation);
        }
        self.accepted[position] = Some(attestation);
        if self.run_end.is_none()
            && let Some(run_end) = self.merge.advance()?
        {
            self.end_run(run_end);
        }
        Ok(ResultDisposition::Accepted)
    }

    /// Handles a result of a shard that has an accepted one.
    fn compare_with_accepted(&mut self, position: usize, attestation: &Attestation) -> ResultDisposition {
        let Some(accepted) = &self.accepted[position] else { return ResultDisposition::Redundant };
        if accepted.result_hash == attestation.result_hash {
            return ResultDisposition::Redundant;
        }
        // Verdicts name an agent and a shard, so two claims of one agent cannot both be verified.
        if accepted.agent_id != attestation.agent_id {
            self.verifications.require(position, accepted);
            self.verifications.require(position, attestation);
        }
        if self.contradictions.record(self.shards[position], accepted, attestation) {
            ResultDisposition::Contradicting(accepted.agent_id.clone())
        } else {
            ResultDisposition::Redundant
        }
    }

    /// Forgets everything beyond the end of the run.
    fn end_run(&mut self, run_end: RunEnd) {
        let shards = run_end.shards;
        self.accepted.truncate(shards);
        self.shards.truncate(shards);
        self.verifications.truncate(shards);
        self.accepted_shards = shards;
        self.accepted_iterations = self.merge.iterations();
        self.run_end = Some(run_end);
        self.select_verifications();
    }

    /// Applies a verdict. The caller has checked its signature.
    pub fn apply_verdict(&mut self, shard: ShardId, verdict: &Verdict) -> VerdictEffect {
        let Some(position) = self.position(shard) else { return VerdictEffect::Recorded };
        match verdict.outcome {
            VerdictOutcome::Rejected => VerdictEffect::Recorded,
            VerdictOutcome::Undecided => VerdictEffect::Undecidable,
            VerdictOutcome::Confirmed => {
                self.verifications.confirm(position, verdict);
                VerdictEffect::Recorded
            }
            VerdictOutcome::Refuted => self.refute(position, shard, verdict),
        }
    }

    fn refute(&mut self, position: usize, shard: ShardId, verdict: &Verdict) -> VerdictEffect {
        let agent = &verdict.agent_id;
        self.verifications.remove(position, agent);
        if !self.refuted.iter().any(|known| known.shard_id == shard && known.agent_id == *agent) {
            self.refuted.push(RefutedResult {
                shard_id: shard,
                agent_id: agent.clone(),
                claimed: verdict.result_hash,
                correct: verdict.correct,
                verifier_id: verdict.verifier_id.clone(),
                signature: verdict.signature.clone(),
            });
        }
        self.excluded.insert(agent.clone());
        if self.accepted.iter().flatten().any(|accepted| accepted.agent_id == *agent) {
            VerdictEffect::RestartRequired
        } else {
            VerdictEffect::Recorded
        }
    }

    /// Returns the claims whose verification has to be requested, each of them once.
    pub fn take_verification_requests(&mut self) -> Vec<(ShardId, Claim)> {
        let requests = self.verifications.take_requests().into_iter();
        requests.map(|(position, claim)| (self.shards[position], claim)).collect()
    }

    /// Whether the run has ended and everything that had to be verified is confirmed.
    pub fn is_complete(&self) -> bool {
        self.run_end.is_some() && self.verifications.is_complete(&self.accepted)
    }
}

#[cfg(test)]
mod tests;
