//! Tasks and orders that services send each other: execute a shard, check a result, reduce or end a
//! job; and what became of shards.
//!
//! Each type is the payload of one message, or a part of it. The bus crate defines subjects and
//! queues.

use serde::{Deserialize, Serialize};

use crate::{
    agent::AgentId,
    artifact::Phase,
    digest::Digest,
    envelope::Envelope,
    error::{FailureCode, FieldError},
    ids::{JobId, JobUid, PoolName, TaskId},
    protocol::PROTOCOL,
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
        /// Size of the result.
        result_bytes: u64,
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
    /// A verifier has executed the shard, and its result is larger than a message may be.
    Oversized {
        /// Id of the shard.
        shard_id: ShardId,
        /// The hand-out that was executed.
        task_id: TaskId,
        /// The sizes, for people.
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
            | Self::Crashed { shard_id, .. }
            | Self::Oversized { shard_id, .. } => *shard_id,
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

    #[test]
    fn outcomes_are_tagged_by_their_name() {
        let shard_id = ShardId { height: 0, index: 3 };
        let batch = OutcomeBatch::new(vec![ShardOutcome::Reopened { shard_id }]);
        let json = serde_json::to_string(&batch).unwrap();
        assert_eq!(json, r#"{"protocol":1,"outcomes":[{"outcome":"reopened","shard_id":"0-3"}]}"#);
        assert_eq!(parse_message(json.as_bytes()), Ok(batch));
    }
}
