//! Verdicts: what a verifier found about the result that an agent returned for a shard.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Signature, verdict_message},
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
pub const VERDICT: &str = "Forge-Verdict";

/// Header [`VERDICT`] of a message on `forge.v1.verdicts.<job>.<shard>`, which has no payload.
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
    /// The verifier's signature over [`verdict_message`].
    pub signature: Signature,
}

impl Verdict {
    /// Whether the verifier signed this verdict about this shard.
    pub fn is_signed(&self, job: &JobId, shard: ShardId) -> bool {
        let message = verdict_message(job, shard, self.outcome, &self.agent_id, self.result_hash);
        self.verifier_id.signed(&message, &self.signature)
    }
}
