//! Verdicts: a verifier's signed statement about the result that an agent returned for a shard.
//!
//! The message and its signature only. Verifiers reach verdicts; aggregators act on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::{
    agent::{AgentId, Signature},
    digest::Digest,
    ids::JobId,
    shard::ShardId,
};

/// Outcome of checking a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VerdictOutcome {
    /// A re-execution produced the same bytes.
    Confirmed,
    /// The scalar reference produced different bytes. All results of the agent are invalidated.
    Refuted,
    /// The message is not an acceptable result. The shard is executed again.
    Rejected,
    /// Executions produced different bytes, and none of them could be established as correct.
    Undecided,
}

impl VerdictOutcome {
    /// The outcome as written in documents and in the signed payload, such as `confirmed`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Name of the header that carries a [`Verdict`] as JSON.
pub const VERDICT_HEADER: &str = "Forge-Verdict";

/// Header [`VERDICT_HEADER`] of a message on `forge.v1.verdicts.<job>.<shard>`, which has no
/// payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Outcome of the check.
    pub outcome: VerdictOutcome,
    /// Id of the agent that returned the result.
    pub agent_id: AgentId,
    /// SHA-256 of the returned result, as claimed by the agent.
    pub result_hash: Digest,
    /// SHA-256 of the correct result; absent if the correct result was not established.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<Digest>,
    /// Id of the verifier.
    pub verifier_id: AgentId,
    /// Backend that re-executed the shard; empty if the result was rejected without re-execution.
    pub backend: String,
    /// Device and driver of the re-execution; absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// One sentence for operators; empty if the result was confirmed.
    pub reason: String,
    /// The verifier's signature over [`verdict_signing_payload`].
    pub signature: Signature,
}

impl Verdict {
    /// Whether `signature` is the verifier's signature over this verdict for this shard.
    pub fn is_signature_valid(&self, job: &JobId, shard: ShardId) -> bool {
        let message = verdict_signing_payload(job, shard, self.outcome, &self.agent_id, self.result_hash);
        self.verifier_id.verify_signature(&message, &self.signature)
    }
}

/// The bytes that a verifier signs with a verdict: `forge/v1/verdict`, NUL, job id, NUL, shard id,
/// NUL, [`VerdictOutcome::as_str`], NUL, the id of the agent that returned the result, NUL, the
/// result's hash (32 bytes).
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
