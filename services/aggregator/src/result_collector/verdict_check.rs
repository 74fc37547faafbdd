//! Verdicts: which of them count, what they change in a collection, and whether one has refuted a
//! result since the collection.

use std::collections::BTreeSet;

use forge_bus::{
    BusError, Message,
    topology::{self, Stream},
};
use forge_contract::{
    agent::AgentId,
    artifact::Phase,
    digest::Digest,
    error::FailureCode,
    ids::PoolName,
    shard::ShardId,
    verdict::{Verdict, VerdictOutcome},
};
use forge_service::{registry::Role, shard_messages};
use tokio::time::sleep_until;

use super::{Collection, Interruption, ResultCollector};
use crate::{acceptance::JobContext, reduction::VerdictEffect};

impl ResultCollector {
    /// Whether a stored verdict refutes a result of the job and is not one of `known`, which the
    /// collection has applied. The aggregator may have been cut off since it read the last verdict,
    /// and another one may have had a result verified meanwhile.
    ///
    /// # Errors
    /// Returns any error of reading the verdicts or the registry.
    pub async fn has_unknown_refutation(
        &self,
        context: &JobContext,
        known: &[Verdict],
    ) -> Result<bool, BusError> {
        let known: BTreeSet<_> = known.iter().map(claim).collect();
        let filters = vec![topology::verdicts_filter(context.uid)];
        let mut verdicts = self.bus.replay(Stream::Verdicts, filters).await?;
        while let Some(stored) = verdicts.next_stored().await {
            // Only for refutations are signatures checked.
            let is_news = shard_messages::parse_verdict(&stored.message.payload).is_ok_and(|verdict| {
                verdict.statement.outcome == VerdictOutcome::Refuted && !known.contains(&claim(&verdict))
            });
            if is_news
                && let Some((_, verdict)) = examine_verdict(context, &stored.message)
                && self.registry.is_registered(&verdict.statement.verifier_id, &[Role::Verifier]).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The result that a verdict is about, and who claims it.
fn claim(verdict: &Verdict) -> (ShardId, Digest, &PoolName, &AgentId) {
    let statement = &verdict.statement;
    (statement.shard_id, statement.result_hash, &statement.pool, &statement.agent_id)
}

impl Collection<'_> {
    /// Applies the verdict in a message; later, if its verifier is not registered yet.
    pub(super) async fn handle_verdict(&mut self, message: &Message) -> Result<(), Interruption> {
        let Some((shard, verdict)) = examine_verdict(self.context, message) else { return Ok(()) };
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
}

/// Returns the verdict in `message` if it is signed and about a task of this job. Logs the reason
/// if not.
fn examine_verdict(context: &JobContext, message: &Message) -> Option<(ShardId, Verdict)> {
    let (job, subject) = (&context.job.id, &message.subject);
    let (uid, shard) = topology::parse_verdict_subject(subject)?;
    let verdict = match shard_messages::parse_verdict(&message.payload) {
        Ok(verdict) => verdict,
        Err(error) => {
            tracing::warn!(%job, subject, %error, "ignoring a verdict that cannot be read");
            return None;
        }
    };
    let statement = &verdict.statement;
    let is_about_shard = (statement.job_uid, statement.shard_id) == (uid, shard) && uid == context.uid;
    if !is_about_shard || !verdict.is_signature_valid() {
        tracing::warn!(%job, subject, "ignoring a verdict without a valid signature for this shard");
        return None;
    }
    // A refutation counts against the task.
    if !context.key.is_issued(uid, shard, statement.task_id) {
        tracing::warn!(%job, subject, "ignoring a verdict about a hand-out that was never made");
        return None;
    }
    Some((shard, verdict))
}
