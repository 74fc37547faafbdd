//! What services ask of each other: a shard to execute, a result to check, a job to reduce or to end; and what comes with
//! a shard's result. Each is the payload or a header of one message.

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

/// Message on `forge.v1.shards.<target>.<job>.<shard>`: a shard to execute. All that a worker learns of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardTask {
    /// The job.
    pub job_id: JobId,
    /// The shard.
    pub shard_id: ShardId,
    /// How many of its iterations to execute, from the first.
    pub iterations: u64,
    /// The shard's node of the seed tree.
    pub seed: Digest,
    /// SHA-256 of the program, which lies in bucket `forge_programs` under this name.
    pub program: Digest,
    /// Version of the kernel that must execute it.
    pub kernel: u32,
    /// How many times the shard had been handed out before.
    pub attempt: u32,
}

impl ShardTask {
    /// The shard as a backend takes it.
    pub fn shard(&self) -> Shard {
        Shard { id: self.shard_id, iterations: self.iterations, seed: self.seed }
    }
}

/// Message on `forge.v1.duplicates.<job>.<shard>`: what a verifier is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierTask {
    /// The shard to execute.
    pub task: ShardTask,
    /// The result to judge. Without one, the verifier's own result is wanted in place of a worker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

/// A result to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Who returned it.
    pub agent_id: AgentId,
    /// What executed it.
    pub backend: String,
    /// The device and its driver, where it was not executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// SHA-256 of its bytes.
    pub result_hash: Digest,
}

/// Header [`ATTESTATION_HEADER`] of a message on `forge.v1.results.<job>.<shard>`, whose payload is the result's canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Who executed the shard.
    pub agent_id: AgentId,
    /// What executed it, as in `simd-avx2`.
    pub backend: String,
    /// The device and its driver, where it was not executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// SHA-256 of the program.
    pub program: Digest,
    /// SHA-256 of the payload.
    pub result_hash: Digest,
    /// Time from start to end, in microseconds; of shards that were executed together, its part of that.
    pub wall_us: u64,
    /// CPU time of the executing thread, in microseconds; of shards that were executed together, its part of that.
    pub cpu_us: u64,
    /// The agent's signature over [`result_signing_payload`].
    pub signature: Signature,
}

/// Name of the header that carries an [`Attestation`] as JSON.
pub const ATTESTATION_HEADER: &str = "Forge-Attestation";

impl Attestation {
    /// Whether the agent signed this result of this shard.
    pub fn is_signature_valid(&self, job: &JobId, shard: ShardId) -> bool {
        let message = result_signing_payload(job, shard, self.program, self.result_hash);
        self.agent_id.verify_signature(&message, &self.signature)
    }
}

/// The bytes that an agent signs when it returns a result: `forge/v1/result`, NUL, job id, NUL, shard
/// id, NUL, the program's hash (32 bytes), the result's hash (32 bytes).
pub fn result_signing_payload(job: &JobId, shard: ShardId, program: Digest, result: Digest) -> Vec<u8> {
    let mut payload = format!("forge/v1/result\0{job}\0{shard}\0").into_bytes();
    payload.extend(program.0);
    payload.extend(result.0);
    payload
}

/// Message on `forge.v1.reduce.<job>`: what an aggregator is to do. Only aggregators write terminal records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum AggregatorOrder {
    /// Take in the job's results as they come, and complete it.
    Reduce(Box<ReduceOrder>),
    /// End the job without a result.
    End(EndOrder),
}

/// A job to take in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReduceOrder {
    /// The job.
    pub job_id: JobId,
    /// Its envelope in normal form.
    pub envelope: Envelope,
    /// Time the planner needed, in microseconds.
    pub plan_us: u64,
}

/// A job to end without a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndOrder {
    /// The job, or the name under which a rejected submission is recorded.
    pub job_id: JobId,
    /// The key-value bucket of its record.
    pub namespace: String,
    /// Why.
    pub code: FailureCode,
    /// A sentence for people.
    pub message: String,
    /// Fields of the envelope that are wrong, if it is that.
    pub details: Vec<FieldError>,
    /// What the job was doing.
    pub phase: Phase,
}

impl EndOrder {
    /// An order without [`details`](Self::details); `namespace` is the key-value bucket of the job's record.
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

    /// The order with the errors found in the envelope's fields.
    #[must_use]
    pub fn with_details(self, details: Vec<FieldError>) -> Self {
        Self { details, ..self }
    }
}
