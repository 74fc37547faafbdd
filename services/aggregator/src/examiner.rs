//! Checks results and verdicts as far as that is possible without executing a shard: attestation,
//! registration, quarantine, signature, hash and encoding. Does not know the reduction.

use std::collections::BTreeSet;

use forge_bus::Message;
use forge_contract::{
    agent::AgentId, digest::Digest, ids::JobId, shard::ShardId, shard_result::ShardResult, task::Attestation,
    verdict::Verdict,
};
use forge_service::{
    registry::{Registry, Role},
    retry::retry_until_stopped,
    shard_messages,
};
use tokio_util::sync::CancellationToken;

/// Roles that may return results.
const EXECUTING_ROLES: [Role; 2] = [Role::Worker, Role::Verifier];
/// Roles that may sign verdicts.
const JUDGING_ROLES: [Role; 2] = [Role::Verifier, Role::Aggregator];

/// Examines the messages about a job's shards. Waits for the registry while the bus is away.
#[derive(Debug)]
pub(crate) struct Examiner {
    registry: Registry,
}

/// A result as an agent claims it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimedResult<'a> {
    pub job: &'a JobId,
    pub shard: ShardId,
    pub attestation: &'a Attestation,
    /// The result's canonical bytes.
    pub payload: &'a [u8],
}

impl Examiner {
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// Decodes a result after every check that needs no execution of its shard. Results of
    /// `excluded` agents are invalid. `job_end` ends the wait for the registry.
    ///
    /// # Errors
    /// The reason why the result is invalid, as a sentence for people.
    pub async fn examine_result(
        &self,
        claimed: ClaimedResult<'_>,
        excluded: &BTreeSet<AgentId>,
        job_end: &CancellationToken,
    ) -> Result<ShardResult, String> {
        let ClaimedResult { job, shard, attestation, payload } = claimed;
        let agent = &attestation.agent_id;
        if excluded.contains(agent) || self.registry.is_quarantined(agent) {
            return Err("the agent is in quarantine".to_owned());
        }
        if !attestation.is_signature_valid(job, shard) {
            return Err("the signature is not the agent's".to_owned());
        }
        if !self.is_registered(agent, &EXECUTING_ROLES, job_end).await {
            return Err("the agent is not registered".to_owned());
        }
        let hash = Digest::hash_parts(&[payload]);
        if hash != attestation.result_hash {
            return Err(format!("its bytes have the hash {hash}, which is not the attested one"));
        }
        ShardResult::decode(payload).map_err(|error| format!("it cannot be decoded: {error}"))
    }

    /// Returns the verdict in `message` if a registered verifier or aggregator signed it. Logs the
    /// reason if not.
    pub async fn examine_verdict(
        &self,
        job: &JobId,
        shard: ShardId,
        message: &Message,
        job_end: &CancellationToken,
    ) -> Option<Verdict> {
        let Some(verdict) = shard_messages::parse_signed_verdict(message, job, shard) else {
            tracing::warn!(%job, %shard, "ignoring a verdict without a valid signature");
            return None;
        };
        let verifier = &verdict.verifier_id;
        if !self.is_registered(verifier, &JUDGING_ROLES, job_end).await {
            tracing::warn!(%job, %shard, %verifier, "ignoring a verdict: its verifier is not registered");
            return None;
        }
        Some(verdict)
    }

    /// Whether the agent has been registered in one of `roles`; false if the job ends first.
    async fn is_registered(&self, agent: &AgentId, roles: &[Role], job_end: &CancellationToken) -> bool {
        let registered = retry_until_stopped(job_end, "looking up an agent in the registry", || {
            self.registry.is_registered(agent, roles)
        });
        registered.await == Some(true)
    }
}
