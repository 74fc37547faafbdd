//! Verdicts: which of them count, and what they change in a collection.

use forge_bus::{Message, topology};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    shard::ShardId,
    verdict::{Verdict, VerdictOutcome},
};
use forge_service::{registry::Role, shard_messages};
use tokio::time::sleep_until;

use super::{Collection, Interruption};
use crate::reduction::VerdictEffect;

impl Collection<'_> {
    /// Applies the verdict in a message; later, if its verifier is not registered yet.
    pub(super) async fn handle_verdict(&mut self, message: &Message) -> Result<(), Interruption> {
        let Some((shard, verdict)) = self.examine_verdict(message) else { return Ok(()) };
        if self.is_of_verifier(&verdict).await? {
            return self.apply_verdict(shard, verdict).await;
        }
        let (job, verifier) = (&self.context.job.id, verdict.statement.verifier_id.clone());
        tracing::warn!(%job, %shard, %verifier, "the verifier of a verdict is not registered yet; waiting for it");
        // The messages behind this one wait in their stream meanwhile.
        if let Some(due) = self.deferred_verdicts.full_until() {
            sleep_until(due).await;
            self.handle_deferred_verdicts().await?;
        }
        self.deferred_verdicts.push(shard, verdict);
        Ok(())
    }

    /// Applies the verdicts that have waited for their verifiers, or drops them.
    pub(super) async fn handle_deferred_verdicts(&mut self) -> Result<(), Interruption> {
        while let Some((shard, verdict)) = self.deferred_verdicts.pop_due() {
            if self.is_of_verifier(&verdict).await? {
                self.apply_verdict(shard, verdict).await?;
            } else {
                let (job, verifier) = (&self.context.job.id, &verdict.statement.verifier_id);
                tracing::warn!(%job, %shard, %verifier, "ignoring a verdict: its verifier is not registered");
            }
        }
        Ok(())
    }

    async fn is_of_verifier(&self, verdict: &Verdict) -> Result<bool, Interruption> {
        let (registry, verifier) = (&self.collector.registry, &verdict.statement.verifier_id);
        let look_up = || registry.is_registered(verifier, &[Role::Verifier]);
        self.retry("looking up a verifier in the registry", look_up).await
    }

    /// Applies a verdict, and checks whether its pool has too many refuted agents.
    async fn apply_verdict(&mut self, shard: ShardId, verdict: Verdict) -> Result<(), Interruption> {
        let applied = self.reduction.apply_verdict(shard, &verdict);
        let effect = applied.map_err(|error| self.aggregation_failed(&error))?;
        let statement = &verdict.statement;
        if statement.outcome == VerdictOutcome::Refuted {
            self.collector.pool_quarantine.check(&statement.pool, &statement.agent_id, self.job_end).await;
        }
        match effect {
            VerdictEffect::Recorded => Ok(()),
            VerdictEffect::RestartRequired => Err(Interruption::RestartRequired),
            VerdictEffect::Undecidable => {
                let message = format!("shard {shard}: {}", statement.reason);
                Err(self.job_failed(FailureCode::VerificationFailed, Phase::Verify, message))
            }
        }
    }

    /// Returns the verdict in `message` if it is signed and about a task of this job. Logs the
    /// reason if not.
    fn examine_verdict(&self, message: &Message) -> Option<(ShardId, Verdict)> {
        let (job, subject) = (&self.context.job.id, &message.subject);
        let (uid, shard) = topology::parse_verdict_subject(subject)?;
        let verdict = match shard_messages::parse_verdict(&message.payload) {
            Ok(verdict) => verdict,
            Err(error) => {
                tracing::warn!(%job, subject, %error, "ignoring a verdict that cannot be read");
                return None;
            }
        };
        let statement = &verdict.statement;
        let is_about_shard =
            (statement.job_uid, statement.shard_id) == (uid, shard) && uid == self.context.uid;
        if !is_about_shard || !verdict.is_signature_valid() {
            tracing::warn!(%job, subject, "ignoring a verdict without a valid signature for this shard");
            return None;
        }
        // A refutation counts against the task.
        if !self.context.key.is_issued(uid, shard, statement.task_id) {
            tracing::warn!(%job, subject, "ignoring a verdict about a hand-out that was never made");
            return None;
        }
        Some((shard, verdict))
    }
}
