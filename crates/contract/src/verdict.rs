//! Verdicts: a verifier's signed statement about the result that an agent returned for a shard.
//!
//! The message and its signature only. Verifiers reach verdicts; aggregators act on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::{
    agent::{AgentId, Identity, Signature},
    digest::Digest,
    ids::{JobUid, PoolName, TaskId},
    protocol::signing_payload,
    shard::ShardId,
};

/// Outcome of checking a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VerdictOutcome {
    /// A re-execution produced the same bytes.
    Confirmed,
    /// The scalar reference produced different bytes.
    Refuted,
    /// Executions produced different bytes, and none of them could be established as correct.
    Undecided,
}

impl VerdictOutcome {
    /// The outcome as written in documents, such as `confirmed`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a verifier states about a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerdictStatement {
    /// Version of the statement: 1.
    pub protocol: u32,
    /// Outcome of the check.
    pub outcome: VerdictOutcome,
    /// Uid of the job.
    pub job_uid: JobUid,
    /// Id of the shard.
    pub shard_id: ShardId,
    /// The hand-out that the checked result answers.
    pub task_id: TaskId,
    /// Pool that published the checked result.
    pub pool: PoolName,
    /// Id of the agent that signed the checked result.
    pub agent_id: AgentId,
    /// SHA-256 of the checked result, as claimed by the agent.
    pub result_hash: Digest,
    /// SHA-256 of the correct result; absent if it was not established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<Digest>,
    /// Id of the verifier.
    pub verifier_id: AgentId,
    /// Backend that re-executed the shard.
    pub backend: String,
    /// Device and driver of the re-execution; absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// One sentence for operators; empty if the result was confirmed.
    pub reason: String,
}

impl VerdictStatement {
    /// Separates signatures of verdicts from those of other statements.
    const DOMAIN: &str = "forge/v1/verdict";

    /// Signs the statement. `identity` is that of `verifier_id`.
    pub fn sign(self, identity: &Identity) -> Verdict {
        let payload = signing_payload(Self::DOMAIN, &self).expect("a verdict holds one small number");
        Verdict { signature: identity.sign(&payload), protocol: self.protocol, statement: self }
    }
}

/// A signed verdict, the message on `forge.v1.verdicts.<uid>.<shard>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Version of the message: 1.
    pub protocol: u32,
    /// What the verifier states.
    pub statement: VerdictStatement,
    /// The verifier's signature over `forge/v1/verdict`, NUL, and the statement's canonical JSON.
    pub signature: Signature,
}

impl Verdict {
    /// Whether `signature` is the verifier's signature over the statement.
    pub fn is_signature_valid(&self) -> bool {
        let payload = signing_payload(VerdictStatement::DOMAIN, &self.statement);
        payload.is_some_and(|payload| self.statement.verifier_id.verify_signature(&payload, &self.signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_signature_binds_outcome_job_task_and_result() {
        let (verifier, agent) = (Identity::from_random([1; 32]), Identity::from_random([2; 32]));
        let verdict = VerdictStatement {
            protocol: 1,
            outcome: VerdictOutcome::Confirmed,
            job_uid: JobUid([1; 16]),
            shard_id: ShardId { height: 0, index: 3 },
            task_id: TaskId([4; 32]),
            pool: PoolName::default(),
            agent_id: agent.id().clone(),
            result_hash: Digest([5; 32]),
            correct: None,
            verifier_id: verifier.id().clone(),
            backend: "scalar".to_owned(),
            adapter: None,
            reason: String::new(),
        }
        .sign(&verifier);
        assert!(verdict.is_signature_valid());
        let changes: [fn(&mut VerdictStatement); 7] = [
            |statement| statement.outcome = VerdictOutcome::Refuted,
            |statement| statement.job_uid = JobUid([9; 16]),
            |statement| statement.shard_id.index = 4,
            |statement| statement.task_id = TaskId([9; 32]),
            |statement| statement.pool = PoolName::verifiers(),
            |statement| statement.result_hash = Digest([9; 32]),
            |statement| statement.reason = "because".to_owned(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = verdict.clone();
            change(&mut changed.statement);
            assert!(!changed.is_signature_valid(), "change {index}");
        }
    }
}
