//! What becomes of a result that is received: it is accepted, held or rejected.

use forge_contract::{
    agent::AgentId,
    attestation::{Attestation, ResultStatement},
    ids::{PoolName, TaskId},
    shard::ShardId,
    shard_result::ShardResult,
};

use super::{AggregationError, JobReduction, ResultDisposition, trust::Standing};
use crate::acceptance::{AttestedResult, InvalidResult, JobContext};

/// Why a result is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RejectionReason {
    #[error("{0}")]
    Invalid(#[from] InvalidResult),
    /// The agent or its pool is barred from the job.
    #[error("{0}")]
    Barred(&'static str),
    #[error("too many agents of the pool have returned results of this job")]
    TooManyAgents,
    #[error("the pool has returned too many different results of the shard")]
    TooManyClaims,
}

impl JobReduction {
    /// Handles a result that `pool` published. `is_quarantined` says whether an agent of the pool
    /// is in quarantine, or the whole pool.
    ///
    /// # Errors
    /// [`AggregationError`] when the merged results contradict the plan: the job must fail.
    pub fn receive(
        &mut self,
        pool: &PoolName,
        result: AttestedResult,
        is_quarantined: impl Fn(&PoolName, &AgentId) -> bool,
    ) -> Result<ResultDisposition, AggregationError> {
        self.receive_with(pool, result, is_quarantined, JobContext::decode)
    }

    /// As [`receive`](Self::receive), with a substitute for [`JobContext::decode`].
    pub(super) fn receive_with(
        &mut self,
        pool: &PoolName,
        result: AttestedResult,
        is_quarantined: impl Fn(&PoolName, &AgentId) -> bool,
        decode: impl FnOnce(&JobContext, &AttestedResult) -> Result<ShardResult, InvalidResult>,
    ) -> Result<ResultDisposition, AggregationError> {
        let (shard, position) = (result.shard, result.position);
        let ResultStatement { task_id, agent_id, result_hash, .. } = result.statement().clone();
        let key = result.key();
        let accepted = self.accepted.get(&position);
        let is_accepted = accepted.is_some_and(|accepted| accepted.statement.result_hash == result_hash);
        if position >= self.shards {
            return Ok(ResultDisposition::BeyondRun);
        }
        if is_accepted || self.limits.is_rejected(task_id, pool) {
            return Ok(ResultDisposition::Redundant);
        }
        let standing = match self.screen(pool, &result, is_quarantined) {
            Ok(standing) => standing,
            Err(reason) => return Ok(self.reject(shard, task_id, pool, reason)),
        };
        if standing == Standing::Unproven
            && let Some(is_new) = self.held.add_task(&key, task_id, pool)
        {
            return Ok(if is_new { ResultDisposition::Held } else { ResultDisposition::Redundant });
        }
        let decoded = match decode(&self.context, &result) {
            Ok(decoded) => decoded,
            Err(invalid) => return Ok(self.reject(shard, task_id, pool, invalid.into())),
        };
        self.limits.record_agent(pool, &agent_id);
        self.admit(result, standing, &decoded)
    }

    /// Handles a valid result that is not [redundant](ResultDisposition::Redundant).
    fn admit(
        &mut self,
        result: AttestedResult,
        standing: Standing,
        decoded: &ShardResult,
    ) -> Result<ResultDisposition, AggregationError> {
        if self.accepted.contains_key(&result.position) {
            return Ok(self.record_contradiction(result.position, &result.attestation));
        }
        if standing == Standing::Trusted {
            self.accept(result, decoded)?;
            return Ok(ResultDisposition::Accepted);
        }
        let (key, ResultStatement { pool, result_hash, .. }) = (result.key(), result.statement());
        self.limits.record_claim(key.0, pool, *result_hash);
        self.verifications.require(key, result.statement());
        self.held.hold(key, result.attestation, result.bytes);
        Ok(ResultDisposition::Held)
    }

    /// Every check that needs neither a signature nor the content.
    fn screen(
        &self,
        pool: &PoolName,
        result: &AttestedResult,
        is_quarantined: impl Fn(&PoolName, &AgentId) -> bool,
    ) -> Result<Standing, RejectionReason> {
        let (position, statement) = (result.position, result.statement());
        self.context.check_statement(pool, result)?;
        let standing = self.trust.standing(position, statement, is_quarantined(pool, &statement.agent_id));
        if let Standing::Barred(reason) = standing {
            return Err(RejectionReason::Barred(reason));
        }
        if !self.limits.admits_agent(pool, &statement.agent_id) {
            return Err(RejectionReason::TooManyAgents);
        }
        let accepted = self.accepted.get(&position).map(|accepted| &accepted.statement);
        // The first trusted result of a shard ends the examination of the shard.
        if standing == Standing::Unproven || accepted.is_some() {
            let of_pool =
                accepted.filter(|accepted| accepted.pool == *pool).map(|accepted| accepted.result_hash);
            if !self.limits.admits_claim(position, pool, statement.result_hash, of_pool) {
                return Err(RejectionReason::TooManyClaims);
            }
        }
        Ok(standing)
    }

    fn reject(
        &mut self,
        shard_id: ShardId,
        task_id: TaskId,
        pool: &PoolName,
        reason: RejectionReason,
    ) -> ResultDisposition {
        self.reject_task(shard_id, task_id, pool);
        ResultDisposition::Rejected(reason)
    }

    /// Handles a valid result of a shard that has another accepted one: both are verified.
    fn record_contradiction(&mut self, position: usize, other: &Attestation) -> ResultDisposition {
        let Some(accepted) = self.accepted.get(&position).cloned() else {
            return ResultDisposition::Redundant;
        };
        let ResultStatement { pool, result_hash, .. } = &other.statement;
        self.limits.record_claim(position, pool, *result_hash);
        self.require_verdict(position, &accepted.statement);
        self.require_verdict(position, &other.statement);
        if self.contradictions.record(position, &accepted, other) {
            ResultDisposition::Contradicting(accepted.statement.agent_id)
        } else {
            ResultDisposition::Redundant
        }
    }
}
