//! Tasks and orders that services send each other: execute a shard, check a result, reduce or end a
//! job; and the attestation of a shard's result.
//!
//! Each type is the payload of one message, or a part of it. The bus crate defines subjects and
//! queues.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Identity, Signature},
    artifact::Phase,
    digest::Digest,
    envelope::Envelope,
    error::{FailureCode, FieldError},
    ids::{JobId, JobUid, PoolName, TaskId},
    protocol::{PROTOCOL, signing_payload},
    shard::{Shard, ShardId},
};

/// Message on `forge.v1.shards.<target>.<uid>.<shard>`: a shard to execute. Beyond it and the
/// program, a worker receives nothing about the job, not even whether the shard has been executed
/// before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardTask {
    /// Version of the message, [`PROTOCOL`].
    pub protocol: u32,
    /// Uid of the job.
    pub job_uid: JobUid,
    /// Id of the shard.
    pub shard_id: ShardId,
    /// Number of iterations to execute, starting at the shard's first.
    pub iterations: u64,
    /// Seed of the shard's root node in the seed tree.
    pub seed: Digest,
    /// SHA-256 of the program, which is also its name in bucket `forge_programs`.
    pub program: Digest,
    /// Kernel version that must execute the shard.
    pub kernel: u32,
    /// Identifies this hand-out. The result states it.
    pub task_id: TaskId,
}

impl ShardTask {
    /// The shard in the form that backends execute.
    pub fn shard(&self) -> Shard {
        Shard { id: self.shard_id, iterations: self.iterations, seed: self.seed }
    }
}

/// Message on `forge.v1.duplicates.<uid>.<shard>`: a task for a verifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierTask {
    /// Version of the message, [`PROTOCOL`].
    pub protocol: u32,
    /// The shard to execute. If there is a claim, its task id is the one of the claimed result.
    pub task: ShardTask,
    /// The result to check. If absent, the verifier executes the shard in place of a worker and
    /// returns its own result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

/// A result to check, as its agent attested it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Pool that published the result.
    pub pool: PoolName,
    /// Id of the agent that signed the result.
    pub agent_id: AgentId,
    /// Name of the backend that executed the shard.
    pub backend: String,
    /// Device and driver; absent when the shard was executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// SHA-256 of the result's bytes.
    pub result_hash: Digest,
}

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

/// Message on `forge.v1.outcomes.<uid>`: what became of shards. Planners dispatch by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeBatch {
    /// Version of the message, [`PROTOCOL`].
    pub protocol: u32,
    /// In the order in which they happened.
    pub outcomes: Vec<ShardOutcome>,
}

impl OutcomeBatch {
    /// A batch of this version.
    pub fn new(outcomes: Vec<ShardOutcome>) -> Self {
        Self { protocol: PROTOCOL, outcomes }
    }
}

/// What became of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum ShardOutcome {
    /// The aggregator has accepted a result.
    Accepted {
        /// Id of the shard.
        shard_id: ShardId,
        /// The hand-out that was answered.
        task_id: TaskId,
        /// Execution time in microseconds, as claimed by the agent.
        wall_us: u64,
    },
    /// The result of this hand-out does not count: it is invalid or was refuted.
    Rejected {
        /// Id of the shard.
        shard_id: ShardId,
        /// The hand-out that was answered.
        task_id: TaskId,
    },
    /// An accepted result no longer counts. The shard needs another one.
    Reopened {
        /// Id of the shard.
        shard_id: ShardId,
    },
    /// The hand-out was delivered too often without a result.
    Undeliverable {
        /// Id of the shard.
        shard_id: ShardId,
        /// The hand-out that was delivered.
        task_id: TaskId,
    },
    /// The isolated process in which a verifier executed the shard died.
    Crashed {
        /// Id of the shard.
        shard_id: ShardId,
        /// The hand-out that was executed.
        task_id: TaskId,
        /// How the process ended, for people.
        reason: String,
    },
}

impl ShardOutcome {
    /// The shard.
    pub fn shard_id(&self) -> ShardId {
        match self {
            Self::Accepted { shard_id, .. }
            | Self::Rejected { shard_id, .. }
            | Self::Reopened { shard_id }
            | Self::Undeliverable { shard_id, .. }
            | Self::Crashed { shard_id, .. } => *shard_id,
        }
    }
}

/// Message on `forge.v1.reduce.<uid>`: an order to an aggregator. Only aggregators write terminal
/// job records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum AggregatorOrder {
    /// Collect the job's results as they arrive, reduce them, and complete the job.
    Reduce(Box<ReduceOrder>),
    /// End the job without a result.
    End(EndOrder),
}

/// Requests reduction of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReduceOrder {
    /// Version of the message, [`PROTOCOL`].
    pub protocol: u32,
    /// Id of the job.
    pub job_id: JobId,
    /// Uid of the job.
    pub job_uid: JobUid,
    /// The envelope in normal form.
    pub envelope: Envelope,
    /// Planning time in microseconds.
    pub plan_us: u64,
}

/// Requests termination of a job that will produce no result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndOrder {
    /// Version of the message, [`PROTOCOL`].
    pub protocol: u32,
    /// Id of the job, or the name under which a rejected submission is recorded.
    pub job_id: JobId,
    /// Uid of the job. A record with another uid belongs to another submission and is not ended.
    pub job_uid: JobUid,
    /// Key-value bucket of the job record.
    pub namespace: String,
    /// Kind of failure.
    pub code: FailureCode,
    /// One sentence for the submitter.
    pub message: String,
    /// Invalid fields of the envelope; empty for other failures.
    pub details: Vec<FieldError>,
    /// Phase in which the job ends.
    pub phase: Phase,
}

impl EndOrder {
    /// An order without [`details`](Self::details). `namespace` is the key-value bucket of the job
    /// record.
    pub fn new(
        job_id: JobId,
        job_uid: JobUid,
        namespace: impl Into<String>,
        code: FailureCode,
        phase: Phase,
        message: impl Into<String>,
    ) -> Self {
        Self {
            protocol: PROTOCOL,
            job_id,
            job_uid,
            namespace: namespace.into(),
            code,
            message: message.into(),
            details: Vec::new(),
            phase,
        }
    }

    /// Sets the invalid fields of the envelope.
    #[must_use]
    pub fn with_details(self, details: Vec<FieldError>) -> Self {
        Self { details, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::parse_message;

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

    #[test]
    fn outcomes_are_tagged_by_their_name() {
        let shard_id = ShardId { height: 0, index: 3 };
        let batch = OutcomeBatch::new(vec![ShardOutcome::Reopened { shard_id }]);
        let json = serde_json::to_string(&batch).unwrap();
        assert_eq!(json, r#"{"protocol":1,"outcomes":[{"outcome":"reopened","shard_id":"0-3"}]}"#);
        assert_eq!(parse_message(json.as_bytes()), Ok(batch));
    }
}
