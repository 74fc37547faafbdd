//! Tasks and orders that services send each other: execute a shard, check a result, reduce or end a
//! job; and the attestation that accompanies a shard's result.
//!
//! Each type is the payload or a header of one message. The bus crate defines subjects and queues.

use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Signature},
    artifact::Phase,
    digest::Digest,
    envelope::Envelope,
    error::{FailureCode, FieldError},
    ids::JobId,
    shard::{Shard, ShardId},
};

/// Message on `forge.v1.shards.<target>.<job>.<shard>`: a shard to execute. Beyond it and the
/// program, a worker receives nothing about the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardTask {
    /// Id of the job.
    pub job_id: JobId,
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
    /// Number of earlier attempts to execute the shard.
    pub attempt: u32,
}

impl ShardTask {
    /// The shard in the form that backends execute.
    pub fn shard(&self) -> Shard {
        Shard { id: self.shard_id, iterations: self.iterations, seed: self.seed }
    }
}

/// Message on `forge.v1.duplicates.<job>.<shard>`: a task for a verifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierTask {
    /// The shard to execute.
    pub task: ShardTask,
    /// The result to check. If absent, the verifier executes the shard in place of a worker and
    /// returns its own result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

/// A result to check, as its agent attested it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Id of the agent that returned the result.
    pub agent_id: AgentId,
    /// Name of the backend that executed the shard.
    pub backend: String,
    /// Device and driver; absent when the shard was executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// SHA-256 of the result's bytes.
    pub result_hash: Digest,
}

/// Header [`ATTESTATION_HEADER`] of a message on `forge.v1.results.<job>.<shard>`, whose payload is
/// the result's canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Id of the agent that executed the shard.
    pub agent_id: AgentId,
    /// Name of the executing backend, such as `simd-avx2`.
    pub backend: String,
    /// Device and driver; absent when the shard was executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// SHA-256 of the program.
    pub program: Digest,
    /// SHA-256 of the payload.
    pub result_hash: Digest,
    /// Wall-clock time in microseconds; the shard's portion if it was executed in a batch.
    pub wall_us: u64,
    /// CPU time of the executing thread in microseconds; the shard's portion if it was executed in
    /// a batch.
    pub cpu_us: u64,
    /// The agent's signature over [`result_signing_payload`].
    pub signature: Signature,
}

/// Name of the header that carries an [`Attestation`] as JSON.
pub const ATTESTATION_HEADER: &str = "Forge-Attestation";

impl Attestation {
    /// Whether `signature` is the agent's signature over this result for this shard.
    pub fn is_signature_valid(&self, job: &JobId, shard: ShardId) -> bool {
        let message = result_signing_payload(job, shard, self.program, self.result_hash);
        self.agent_id.verify_signature(&message, &self.signature)
    }
}

/// The bytes that an agent signs when it returns a result: `forge/v1/result`, NUL, job id, NUL,
/// shard id, NUL, the program's hash (32 bytes), the result's hash (32 bytes).
pub fn result_signing_payload(job: &JobId, shard: ShardId, program: Digest, result: Digest) -> Vec<u8> {
    let mut payload = format!("forge/v1/result\0{job}\0{shard}\0").into_bytes();
    payload.extend(program.0);
    payload.extend(result.0);
    payload
}

/// Message on `forge.v1.reduce.<job>`: an order to an aggregator. Only aggregators write terminal
/// job records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
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
    /// Id of the job.
    pub job_id: JobId,
    /// The envelope in normal form.
    pub envelope: Envelope,
    /// Planning time in microseconds.
    pub plan_us: u64,
}

/// Requests termination of a job that will produce no result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndOrder {
    /// Id of the job, or the name under which a rejected submission is recorded.
    pub job_id: JobId,
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
        namespace: impl Into<String>,
        code: FailureCode,
        phase: Phase,
        message: impl Into<String>,
    ) -> Self {
        Self {
            job_id,
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
