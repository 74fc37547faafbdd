//! Attestations: an agent's signed statement about the result that it returns for a shard.
//!
//! The statement and its signature only. The service crate puts both in front of the result's
//! bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Identity, Signature},
    digest::Digest,
    ids::{JobUid, PoolName, TaskId},
    protocol::signing_payload,
    shard::ShardId,
};

/// What an agent states about a result that it returns. Everything that determines the result is
/// part of it, so that the signature is worth nothing for another job, shard or hand-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultStatement {
    /// Version of the statement: 1.
    pub protocol: u32,
    /// Uid of the job.
    pub job_uid: JobUid,
    /// Id of the shard.
    pub shard_id: ShardId,
    /// Number of iterations executed, from the shard's first.
    pub iterations: u64,
    /// Seed of the shard.
    pub seed: Digest,
    /// SHA-256 of the program.
    pub program: Digest,
    /// Kernel version that executed the shard.
    pub kernel: u32,
    /// The hand-out that the agent answers.
    pub task_id: TaskId,
    /// Pool of the agent.
    pub pool: PoolName,
    /// Id of the agent.
    pub agent_id: AgentId,
    /// Name of the executing backend, such as `simd-avx2`.
    pub backend: String,
    /// Device and driver; absent when the shard was executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// SHA-256 of the result's canonical bytes.
    pub result_hash: Digest,
}

impl ResultStatement {
    /// Separates signatures of results from those of other statements.
    const DOMAIN: &str = "forge/v1/result";

    /// Signs the statement. `identity` is that of `agent_id`.
    ///
    /// # Panics
    /// If `iterations` exceeds 2^53, which no plan has.
    pub fn sign(&self, identity: &Identity) -> Signature {
        let payload = signing_payload(Self::DOMAIN, self);
        identity.sign(&payload.expect("a shard has fewer than 2^53 iterations"))
    }

    /// Whether `signature` is the agent's signature over `forge/v1/result`, NUL, and the canonical
    /// JSON of this statement.
    pub fn is_signature_valid(&self, signature: &Signature) -> bool {
        let payload = signing_payload(Self::DOMAIN, self);
        payload.is_some_and(|payload| self.agent_id.verify_signature(&payload, signature))
    }
}

/// A signed statement about a result, and how long the execution took. The message on
/// `forge.v1.results.<pool>.<uid>.<shard>` consists of it and of the result's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Version of the message: 1.
    pub protocol: u32,
    /// What the agent states.
    pub statement: ResultStatement,
    /// Wall-clock time in microseconds; the shard's portion if it was executed in a batch.
    pub wall_us: u64,
    /// CPU time of the executing thread in microseconds; the shard's portion if it was executed in
    /// a batch.
    pub cpu_us: u64,
    /// The agent's signature over `forge/v1/result`, NUL, and the statement's canonical JSON.
    pub signature: Signature,
}

impl Attestation {
    /// Whether `signature` is the agent's signature over the statement.
    pub fn is_signature_valid(&self) -> bool {
        self.statement.is_signature_valid(&self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PROTOCOL;

    fn statement(agent: &Identity) -> ResultStatement {
        ResultStatement {
            protocol: PROTOCOL,
            job_uid: JobUid([1; 16]),
            shard_id: ShardId { height: 0, index: 3 },
            iterations: 65_536,
            seed: Digest([2; 32]),
            program: Digest([3; 32]),
            kernel: 1,
            task_id: TaskId([4; 32]),
            pool: PoolName::default(),
            agent_id: agent.id().clone(),
            backend: "scalar".to_owned(),
            adapter: None,
            result_hash: Digest([5; 32]),
        }
    }

    #[test]
    fn a_result_signature_binds_every_member_of_the_statement() {
        let (agent, other) = (Identity::from_random([1; 32]), Identity::from_random([2; 32]));
        let signed = statement(&agent);
        let signature = signed.sign(&agent);
        assert!(signed.is_signature_valid(&signature));
        let changes: [fn(&mut ResultStatement); 11] = [
            |statement| statement.job_uid = JobUid([9; 16]),
            |statement| statement.shard_id.index = 4,
            |statement| statement.iterations = 1,
            |statement| statement.seed = Digest([9; 32]),
            |statement| statement.program = Digest([9; 32]),
            |statement| statement.kernel = 2,
            |statement| statement.task_id = TaskId([9; 32]),
            |statement| statement.pool = PoolName::verifiers(),
            |statement| statement.backend = "simd-avx2".to_owned(),
            |statement| statement.adapter = Some("a card".to_owned()),
            |statement| statement.result_hash = Digest([9; 32]),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = signed.clone();
            change(&mut changed);
            assert!(!changed.is_signature_valid(&signature), "change {index}");
        }
        let by_other = ResultStatement { agent_id: other.id().clone(), ..signed };
        assert!(!by_other.is_signature_valid(&signature));
    }

    #[test]
    fn a_statement_with_an_inexact_number_has_no_valid_signature() {
        let agent = Identity::from_random([1; 32]);
        let signature = statement(&agent).sign(&agent);
        let huge = ResultStatement { iterations: u64::MAX, ..statement(&agent) };
        assert!(!huge.is_signature_valid(&signature));
    }
}
