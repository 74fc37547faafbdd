//! What a verdict changes in a reduction.

use forge_contract::{
    shard::ShardId,
    shard_result::ShardResult,
    verdict::{Verdict, VerdictOutcome},
};

use super::{AggregationError, JobReduction, held::HeldResult, trust::ResultKey};
use crate::acceptance::AttestedResult;

/// What a verdict requires of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerdictEffect {
    /// The verdict was recorded.
    Recorded,
    /// The results have to be received again, after [`JobReduction::restart`].
    RestartRequired,
    /// No execution could establish the right result of the shard: the job fails.
    Undecidable,
}

impl JobReduction {
    /// Applies a verdict. The caller has checked its signature, and that a verifier signed it. It
    /// may arrive before the result that it is about.
    ///
    /// # Errors
    /// [`AggregationError`] when the merged results contradict the plan: the job must fail.
    pub fn apply_verdict(
        &mut self,
        shard: ShardId,
        verdict: &Verdict,
    ) -> Result<VerdictEffect, AggregationError> {
        let Some(position) = self.context.position(shard) else { return Ok(VerdictEffect::Recorded) };
        let key = (position, verdict.statement.result_hash);
        let must_restart = match verdict.statement.outcome {
            VerdictOutcome::Undecided if position < self.shards => return Ok(VerdictEffect::Undecidable),
            VerdictOutcome::Undecided => false,
            VerdictOutcome::Confirmed => {
                self.confirm(key, verdict)?;
                false
            }
            VerdictOutcome::Refuted => self.refute(key, shard, verdict),
        };
        let must_replay = self.needs_replay && self.held.is_empty();
        Ok(if must_restart || must_replay { VerdictEffect::RestartRequired } else { VerdictEffect::Recorded })
    }

    fn confirm(&mut self, key: ResultKey, verdict: &Verdict) -> Result<(), AggregationError> {
        let was_confirmed = self.trust.is_confirmed(&key);
        self.trust.confirm(key.0, verdict);
        if was_confirmed || !self.trust.is_confirmed(&key) {
            return Ok(());
        }
        self.verifications.settle(&key);
        let accepted = self.accepted.get(&key.0);
        if accepted.is_some_and(|accepted| accepted.statement.result_hash == key.1) {
            self.confirmed_shards += 1;
        }
        let is_accepted = accepted.is_some();
        let Some(HeldResult { attestation, bytes, .. }) = self.held.release(&key) else { return Ok(()) };
        if is_accepted {
            return Ok(());
        }
        let Some(bytes) = bytes else {
            self.needs_replay = true;
            return Ok(());
        };
        let decoded = ShardResult::decode(&bytes).expect("a result is decoded before it is held");
        self.accept(
            AttestedResult { shard: attestation.statement.shard_id, position: key.0, attestation, bytes },
            &decoded,
        )
    }

    /// Returns whether an accepted result does not count any more.
    fn refute(&mut self, key: ResultKey, shard: ShardId, verdict: &Verdict) -> bool {
        let statement = &verdict.statement;
        let was_suspect = self.trust.is_suspect(&statement.pool);
        self.trust.refute(key.0, verdict);
        self.verifications.settle(&key);
        self.reject_task(shard, statement.task_id, &statement.pool);
        let barred = self.held.of_agent(&statement.pool, &statement.agent_id);
        for key in barred.into_iter().chain([key]) {
            let Some(held) = self.held.release(&key) else { continue };
            // A result that contradicts the accepted one keeps its verification.
            if !self.accepted.contains_key(&key.0) {
                self.verifications.settle(&key);
            }
            for (task, pool) in held.tasks {
                self.reject_task(held.attestation.statement.shard_id, task, &pool);
            }
        }
        let refuted_accepted =
            self.accepted.get(&key.0).is_some_and(|accepted| self.is_void(key.0, accepted));
        let is_news = !was_suspect && self.accepted.iter().any(|(&at, accepted)| self.is_void(at, accepted));
        refuted_accepted || is_news
    }
}
