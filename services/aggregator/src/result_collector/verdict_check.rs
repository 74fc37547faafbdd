//! Verdicts: which of them count, and what they change in a collection.

use forge_bus::{Message, topology};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    shard::ShardId,
    verdict::{Verdict, VerdictOutcome},
};
use forge_service::{registry::Role, shard_messages};

use super::{Collection, Interruption};
use crate::reduction::VerdictEffect;

impl Collection<'_> {
    /// Applies a verdict, and checks whether its pool has too many refuted agents.
    pub(super) async fn handle_verdict(&mut self, message: &Message) -> Result<(), Interruption> {
        let Some((shard, verdict)) = self.examine_verdict(message).await? else { return Ok(()) };
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

    /// Returns the verdict in `message` if a registered verifier signed it for this job. Logs the
    /// reason if not.
    async fn examine_verdict(&self, message: &Message) -> Result<Option<(ShardId, Verdict)>, Interruption> {
        let (job, subject) = (&self.context.job.id, &message.subject);
        let Some((uid, shard)) = topology::parse_verdict_subject(subject) else { return Ok(None) };
        let verdict = match shard_messages::parse_verdict(&message.payload) {
            Ok(verdict) => verdict,
            Err(error) => {
                tracing::warn!(%job, subject, %error, "ignoring a verdict that cannot be read");
                return Ok(None);
            }
        };
        let statement = &verdict.statement;
        let is_about_shard =
            (statement.job_uid, statement.shard_id) == (uid, shard) && uid == self.context.uid;
        if !is_about_shard || !verdict.is_signature_valid() {
            tracing::warn!(%job, subject, "ignoring a verdict without a valid signature for this shard");
            return Ok(None);
        }
        // A refutation counts against the task.
        if !self.context.key.is_issued(uid, shard, statement.task_id) {
            tracing::warn!(%job, subject, "ignoring a verdict about a hand-out that was never made");
            return Ok(None);
        }
        let verifier = &statement.verifier_id;
        let registry = &self.collector.registry;
        let look_up = || registry.is_registered(verifier, &[Role::Verifier]);
        if !self.retry("looking up a verifier in the registry", look_up).await? {
            tracing::warn!(%job, subject, %verifier, "ignoring a verdict: its verifier is not registered");
            return Ok(None);
        }
        Ok(Some((shard, verdict)))
    }
}
