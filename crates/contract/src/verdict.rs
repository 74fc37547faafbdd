//! Verdicts: what a verifier found about the result that an agent returned for a shard.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Signature},
    digest::Digest,
    ids::JobId,
    shard::ShardId,
};

/// What was found about a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictOutcome {
    /// A second execution gave the same bytes.
    Confirmed,
    /// The scalar reference gives other bytes: the agent's results no longer count.
    Refuted,
    /// The message is not a result that could count: the shard is executed again.
    Rejected,
    /// Executions gave different bytes and none of them could be established as right.
    Undecided,
}

impl VerdictOutcome {
    /// As it is written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Rejected => "rejected",
            Self::Undecided => "undecided",
        }
    }
}

/// Name of the header that carries a [`Verdict`] as JSON.
pub const VERDICT_HEADER: &str = "Forge-Verdict";

/// Header [`VERDICT_HEADER`] of a message on `forge.v1.verdicts.<job>.<shard>`, which has no payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// What was found.
    pub outcome: VerdictOutcome,
    /// Who returned the result.
    pub agent_id: AgentId,
    /// SHA-256 of the result that was returned, as the agent named it.
    pub result_hash: Digest,
    /// SHA-256 of the right result, where it was established.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<Digest>,
    /// Who judges.
    pub verifier_id: AgentId,
    /// What executed the shard a second time; empty for a result that was rejected unexecuted.
    pub backend: String,
    /// The device and its driver, where that was not executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// A sentence for people, unless the result was confirmed.
    pub reason: String,
    /// The verifier's signature over [`verdict_signing_payload`].
    pub signature: Signature,
}

impl Verdict {
    /// Whether the verifier signed this verdict about this shard.
    pub fn is_signature_valid(&self, job: &JobId, shard: ShardId) -> bool {
        let message = verdict_signing_payload(job, shard, self.outcome, &self.agent_id, self.result_hash);
        self.verifier_id.verify_signature(&message, &self.signature)
    }
}

/// The bytes that a verifier signs with a verdict: `forge/v1/verdict`, NUL, job id, NUL, shard id, NUL,
/// [`VerdictOutcome::as_str`], NUL, the id of the agent that returned the result, NUL, the result's
/// hash (32 bytes).
pub fn verdict_signing_payload(
    job: &JobId,
    shard: ShardId,
    outcome: VerdictOutcome,
    agent: &AgentId,
    result: Digest,
) -> Vec<u8> {
    let mut payload =
        format!("forge/v1/verdict\0{job}\0{shard}\0{}\0{agent}\0", outcome.as_str()).into_bytes();
    payload.extend(result.0);
    payload
}
