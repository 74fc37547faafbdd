//! What a verifier publishes: results, outcomes, verdicts and quarantines.

use forge_bus::BusError;
use forge_contract::{
    agent::QuarantineRecord,
    ids::PoolName,
    task::{Claim, ShardOutcome, ShardTask},
    verdict::VerdictOutcome,
};
use forge_kernel::backend::Backend;
use forge_service::{
    executor::ShardExecution,
    registry,
    shard_messages::{self, Judgement},
};

use super::{TaskFailure, Verifier};

impl Verifier {
    /// Publishes the result of a shard that workers failed to execute; or that it is too large.
    pub(super) async fn publish_result(
        &self,
        backend: &dyn Backend,
        task: &ShardTask,
        execution: &ShardExecution,
    ) -> Result<(), TaskFailure> {
        let pool = PoolName::verifiers();
        let (message, id) = shard_messages::build_result(&self.identity, &pool, backend, task, execution);
        match self.bus.publish(message, &id).await {
            Err(error @ BusError::TooLarge { .. }) => {
                let (shard_id, task_id, reason) = (task.shard_id, task.task_id, error.to_string());
                self.publish_failure(task, ShardOutcome::Oversized { shard_id, task_id, reason }).await
            }
            published => Ok(published?),
        }
    }

    /// Publishes that the execution of a shard crashed.
    pub(super) async fn publish_crash(&self, task: &ShardTask, reason: String) -> Result<(), TaskFailure> {
        let (shard_id, task_id) = (task.shard_id, task.task_id);
        self.publish_failure(task, ShardOutcome::Crashed { shard_id, task_id, reason }).await
    }

    /// Publishes why a shard will never have a result.
    async fn publish_failure(&self, task: &ShardTask, outcome: ShardOutcome) -> Result<(), TaskFailure> {
        let job = task.job_uid;
        tracing::error!(%job, outcome = %serde_json::json!(outcome), "the shard will never have a result");
        let (message, id) = shard_messages::build_outcomes(job, vec![outcome]);
        Ok(self.bus.publish(message, &id).await?)
    }

    /// Publishes a verdict. An agent whose result is refuted is put into quarantine first.
    pub(super) async fn publish_verdict(
        &self,
        task: &ShardTask,
        claim: &Claim,
        judgement: Judgement,
    ) -> Result<(), BusError> {
        let (job, shard) = (task.job_uid, task.shard_id);
        let Claim { pool, agent_id, result_hash, .. } = claim;
        if let (VerdictOutcome::Refuted, Some(correct)) = (judgement.outcome, judgement.correct) {
            let reason = &judgement.reason;
            tracing::error!(%job, %shard, %pool, agent = %agent_id, reason, "a result is refuted; putting its agent into quarantine");
            let record = QuarantineRecord {
                schema: QuarantineRecord::SCHEMA.to_owned(),
                agent_id: agent_id.clone(),
                pool: pool.clone(),
                job_uid: job,
                shard_id: shard,
                claimed: *result_hash,
                correct,
                verifier_id: self.identity.id().clone(),
            };
            registry::quarantine_agent(&self.bus, &record).await?;
            self.metrics.count_quarantined_agent();
        }
        self.metrics.count_verification(judgement.outcome);
        let (message, id) = shard_messages::build_verdict(&self.identity, job, task, claim, judgement);
        self.bus.publish(message, &id).await
    }
}
