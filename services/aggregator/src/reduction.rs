//! The reduction of a job: decides which results are accepted, merges them in any order, and
//! decides which of them have to be verified. A pure function of its inputs: no I/O, no clock.
//! Memory grows with the accepted results and verdicts, up to the bound that `job_memory` of
//! forge-service states, and not with the number of planned shards.
//!
//! Once a verifier refutes a result, its pool is suspect: the reduction starts again without the
//! pool's results, and from then on holds each of them until a verifier has confirmed it.
//!
//! Reading order: [`merge`] → [`trust`] → [`limits`] → [`held`] → [`verifications`] →
//! [`contradictions`] → [`receipt`] → [`verdicts`] → [`report`].

mod contradictions;
mod held;
mod limits;
mod merge;
mod receipt;
mod report;
mod trust;
mod verdicts;
mod verifications;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forge_contract::{
    agent::AgentId,
    attestation::{Attestation, ResultStatement},
    ids::{PoolName, TaskId},
    shard::ShardId,
    shard_result::ShardResult,
    task::ShardOutcome,
};
use forge_kernel::verification;
use forge_service::result_space::ResultVolume;

use self::{
    contradictions::ContradictionLog,
    held::HeldResults,
    limits::PoolLimits,
    merge::{PrefixMerge, RunEnd},
    trust::{Standing, TrustLedger},
    verifications::{Draw, VerificationLedger},
};
pub(crate) use self::{
    merge::AggregationError, receipt::RejectionReason, report::ReducedJob, verdicts::VerdictEffect,
    verifications::VerificationRequest,
};
use crate::{
    acceptance::{AttestedResult, JobContext},
    kept_results::{KeptResults, ResultMemory},
};

/// The state of a job's results.
#[derive(Debug)]
pub(crate) struct JobReduction {
    context: Arc<JobContext>,
    memory: ResultMemory,
    /// Share of the shards to verify, 0 to 1.
    verified_share: f64,
    draw: Draw,
    /// Number of shards of the plan; of the result once `run_end` is known.
    shards: usize,
    /// The accepted results by position of their shard.
    accepted: BTreeMap<usize, Attestation>,
    accepted_iterations: u64,
    /// Size of the accepted results, of shards beyond the end of the run too.
    accepted_bytes: u64,
    kept_results: KeptResults,
    merge: PrefixMerge,
    run_end: Option<RunEnd>,
    held: HeldResults,
    /// A confirmed result was held without its bytes.
    needs_replay: bool,
    verifications: VerificationLedger,
    /// Number of accepted results that are confirmed.
    confirmed_shards: usize,
    trust: TrustLedger,
    limits: PoolLimits,
    contradictions: ContradictionLog,
    /// Outcomes that have not been published, in order.
    outcomes: Vec<ShardOutcome>,
}

/// What outlasts a restart of a reduction.
#[derive(Debug, Default)]
struct ReductionHistory {
    trust: TrustLedger,
    limits: PoolLimits,
    contradictions: ContradictionLog,
    outcomes: Vec<ShardOutcome>,
}

/// What the reduction did with a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResultDisposition {
    /// The result was merged.
    Accepted,
    /// The result counts once a verifier has confirmed it.
    Held,
    /// The reduction has this result, or rejected a result of the pool for this task. A later
    /// reader does not need the message.
    Redundant,
    /// The shard lies beyond the end of the run, which a restart may move.
    BeyondRun,
    /// The shard has another accepted result, returned by this agent.
    Contradicting(AgentId),
    /// The result does not count, for this reason.
    Rejected(RejectionReason),
}

impl JobReduction {
    /// A reduction without results.
    pub fn new(context: Arc<JobContext>, memory: ResultMemory) -> Self {
        Self::with_history(context, memory, ReductionHistory::default())
    }

    /// The same reduction without results, which have to be received again. Reopens the shards
    /// whose accepted results do not count any more. What verdicts have said stays known.
    #[must_use]
    pub fn restart(self) -> Self {
        let void = self.accepted.iter().filter(|(position, accepted)| self.is_void(**position, accepted));
        let reopened = void.map(|(_, accepted)| accepted.statement.shard_id);
        let reopened: Vec<_> = reopened.map(|shard_id| ShardOutcome::Reopened { shard_id }).collect();
        let Self { context, memory, trust, limits, contradictions, mut outcomes, .. } = self;
        outcomes.extend(reopened);
        let history = ReductionHistory { trust, limits, contradictions, outcomes };
        Self::with_history(context, memory, history)
    }

    fn with_history(context: Arc<JobContext>, memory: ResultMemory, history: ReductionHistory) -> Self {
        let ReductionHistory { trust, limits, contradictions, outcomes } = history;
        let request = &context.job.request;
        let verified_share = verification::ratio(&request.envelope.policy);
        Self {
            kept_results: KeptResults::new(if request.envelope.artifacts.persist {
                memory.clone()
            } else {
                ResultMemory { max_kept_bytes: 0, ..memory.clone() }
            }),
            held: HeldResults::new(memory.budget.clone()),
            memory,
            verified_share,
            draw: if verified_share >= 1.0 { Draw::All } else { Draw::Pending },
            shards: usize::try_from(context.shards).unwrap_or(usize::MAX),
            accepted: BTreeMap::new(),
            accepted_iterations: 0,
            accepted_bytes: 0,
            merge: PrefixMerge::new(request),
            run_end: None,
            needs_replay: false,
            verifications: VerificationLedger::default(),
            confirmed_shards: 0,
            trust,
            limits,
            contradictions,
            outcomes,
            context,
        }
    }

    /// Whether an accepted result does not count any more.
    fn is_void(&self, position: usize, accepted: &Attestation) -> bool {
        let standing = self.trust.standing(position, &accepted.statement, false);
        standing != Standing::Trusted
    }

    fn reject_task(&mut self, shard_id: ShardId, task_id: TaskId, pool: &PoolName) {
        if self.limits.reject(task_id, pool) {
            self.outcomes.push(ShardOutcome::Rejected { shard_id, task_id });
        }
    }

    /// Whether the result needs this shard and has no accepted result of it.
    pub fn is_open(&self, shard: ShardId) -> bool {
        let position = self.context.position(shard);
        position.is_some_and(|position| position < self.shards && !self.accepted.contains_key(&position))
    }

    /// Reopens those of the shards that have no accepted result.
    pub fn reopen(&mut self, shards: BTreeSet<ShardId>) {
        let open: Vec<_> = shards.into_iter().filter(|shard| self.is_open(*shard)).collect();
        self.outcomes.extend(open.into_iter().map(|shard_id| ShardOutcome::Reopened { shard_id }));
    }

    /// Merges a result.
    fn accept(&mut self, result: AttestedResult, decoded: &ShardResult) -> Result<(), AggregationError> {
        let key = result.key();
        let AttestedResult { shard, position, attestation, bytes } = result;
        let task_id = attestation.statement.task_id;
        // A sample is drawn from the shards of the result, so a run that may converge is sampled
        // when its end is known.
        if matches!(self.draw, Draw::Pending) && !self.merge.may_converge() {
            self.select_verifications();
        }
        let merged = self.merge.add(position, decoded);
        merged.map_err(|mismatch| AggregationError::ShardShape { shard, mismatch })?;
        self.accepted_iterations += decoded.iterations;
        let (wall_us, result_bytes) = (attestation.wall_us, bytes.len() as u64);
        self.accepted_bytes += result_bytes;
        self.outcomes.push(ShardOutcome::Accepted { shard_id: shard, task_id, wall_us, result_bytes });
        self.confirmed_shards += usize::from(self.trust.is_confirmed(&key));
        self.held.release(&key);
        let rivals: Vec<_> = self.held.of_shard(position).map(|(_, held)| held.attestation.clone()).collect();
        for rival in &rivals {
            self.contradictions.record(position, &attestation, rival);
        }
        if self.draw.contains(position) || !rivals.is_empty() {
            self.require_verdict(position, &attestation.statement);
        } else {
            self.verifications.settle(&key);
        }
        self.kept_results.insert(shard, bytes);
        self.accepted.insert(position, attestation);
        if self.run_end.is_none()
            && let Some(run_end) = self.merge.advance()?
        {
            self.end_run(run_end);
        }
        Ok(())
    }

    fn require_verdict(&mut self, position: usize, statement: &ResultStatement) {
        let key = (position, statement.result_hash);
        if !self.trust.is_confirmed(&key) {
            self.verifications.require(key, statement);
        }
    }

    /// Forgets everything beyond the end of the run.
    fn end_run(&mut self, run_end: RunEnd) {
        let shards = run_end.shards;
        drop(self.accepted.split_off(&shards));
        self.held.truncate(shards);
        self.verifications.truncate(shards);
        let keys =
            self.accepted.iter().map(|(&position, accepted)| (position, accepted.statement.result_hash));
        self.confirmed_shards = keys.filter(|key| self.trust.is_confirmed(key)).count();
        self.shards = shards;
        self.accepted_iterations = self.merge.iterations();
        self.run_end = Some(run_end);
        if matches!(self.draw, Draw::Pending) {
            self.select_verifications();
        }
    }

    /// Draws the shards to verify among those of the run.
    fn select_verifications(&mut self) {
        let count = verification::sample_size(self.verified_share, self.shards as u64);
        let JobContext { job, uid, key, .. } = &*self.context;
        let shards = job.request.plan.shards().take(self.shards);
        let positions = verification::select_shards(key, *uid, shards, count);
        let accepted =
            positions.iter().filter_map(|position| Some((*position, self.accepted.get(position)?)));
        let accepted: Vec<_> =
            accepted.map(|(position, accepted)| (position, accepted.statement.clone())).collect();
        for (position, statement) in accepted {
            self.require_verdict(position, &statement);
        }
        self.draw = Draw::Positions(positions);
    }

    /// Returns the outcomes since the last call, in the order in which they happened.
    pub fn take_outcomes(&mut self) -> Vec<ShardOutcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Returns the verifications that have to be requested, each of them once.
    pub fn take_verification_requests(&mut self) -> Vec<VerificationRequest> {
        self.verifications.take_requests()
    }

    /// What the job's results take of the space for results.
    pub fn result_volume(&self) -> ResultVolume {
        let accepted = self.accepted.len() as u64;
        ResultVolume::new(accepted, self.accepted_bytes, (self.shards as u64).saturating_sub(accepted))
    }

    /// Pools with a refuted result.
    pub fn suspect_pools(&self) -> &BTreeSet<PoolName> {
        self.trust.suspects()
    }

    /// Number of results that need a verdict before the job can complete.
    pub fn pending_verdicts(&self) -> usize {
        self.verifications.len()
    }

    /// Whether the run has ended and everything that had to be verified is confirmed.
    pub fn is_complete(&self) -> bool {
        self.run_end.is_some() && self.verifications.is_empty()
    }

    /// Returns the bytes of the accepted results that are kept.
    pub fn into_kept_results(self) -> KeptResults {
        self.kept_results
    }
}

#[cfg(test)]
mod tests;
