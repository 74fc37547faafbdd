//! The documents of a job in the object store, apart from `result.json` (defined by the kernel) and
//! `plan.json` ([`plan`](crate::plan)).
//!
//! Types only: the documents crate computes their figures, and the store crate writes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Hardware, Identity, Signature},
    attestation::{Attestation, ResultStatement},
    canonical::to_canonical_json,
    digest::Digest,
    envelope::VerificationLevel,
    error::{FailureCode, FieldError},
    ids::{JobId, JobUid, PoolName, ReplayKey, TaskId},
    protocol::PROTOCOL,
    shard::ShardId,
    verdict::Verdict,
};

/// Document `manifest.json`: the artifacts of a completed job, by hash. An audit starts from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge manifest")]
pub struct ManifestDocument {
    /// Always `forge.manifest.v1`.
    pub schema: String,
    /// Id of the job.
    pub job_id: JobId,
    /// Uid of the job. Signatures of results and verdicts state it.
    pub job_uid: JobUid,
    /// The job's key: 64 hexadecimal digits. It determines which shards were verified, and which
    /// task ids were issued. The job's record committed to it before any shard was dispatched.
    pub job_key: Digest,
    /// Kernel version. Results are comparable only within one kernel version.
    pub kernel: u32,
    /// Identifies the computation.
    pub replay_key: ReplayKey,
    /// SHA-256 of the canonical JSON of the envelope without its job id. Distinguishes a repeated
    /// submission from a conflicting one.
    pub request: Digest,
    /// SHA-256 of `result.json`, the hash to compare between runs.
    pub result: Digest,
    /// Merkle root over the shards' result hashes, in shard order (RFC 6962, section 2.1).
    pub merkle_root: Digest,
    /// Number of leaves below the root.
    pub shards: u64,
    /// The artifacts, each stored under `artifacts/sha256/<sha256>/<name>`.
    pub artifacts: Vec<ArtifactReference>,
    /// Key that signed the manifest; absent if the manifest is unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<AgentId>,
    /// Signature over `forge/v1/manifest`, NUL, and the canonical JSON of the manifest without this
    /// field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

impl ManifestDocument {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.manifest.v1";

    /// The bytes that `signature` covers.
    pub fn signing_payload(&self) -> Vec<u8> {
        let unsigned = Self { signature: None, ..self.clone() };
        let json = to_canonical_json(&unsigned).expect("counts in a manifest are far below 2^53");
        [b"forge/v1/manifest\0".as_slice(), &json].concat()
    }

    /// Sets signer and signature.
    #[must_use]
    pub fn sign(mut self, identity: &Identity) -> Self {
        self.signer = Some(identity.id().clone());
        self.signature = Some(identity.sign(&self.signing_payload()));
        self
    }

    /// Whether `signature` is the valid signature of `signer`; `None` if either field is absent.
    pub fn is_signature_valid(&self) -> Option<bool> {
        let (signer, signature) = (self.signer.as_ref()?, self.signature.as_ref()?);
        Some(signer.verify_signature(&self.signing_payload(), signature))
    }
}

/// One artifact of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactReference {
    /// File name, such as `result.json`.
    pub name: String,
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Media type, such as `application/json`.
    pub media_type: String,
}

impl ArtifactReference {
    /// Key of the artifact in the object store.
    pub fn key(&self) -> String {
        format!("artifacts/sha256/{}/{}", self.sha256, self.name)
    }
}

/// Document `executions.json`: the agent that executed each shard, with timings and signatures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge executions")]
pub struct ExecutionsDocument {
    /// Always `forge.executions.v1`.
    pub schema: String,
    /// Id of the job.
    pub job_id: JobId,
    /// Identifies the computation.
    pub replay_key: ReplayKey,
    /// SHA-256 of the program's canonical bytes.
    pub program: Digest,
    /// One entry per shard of the result, in shard order.
    pub executions: Vec<Execution>,
}

impl ExecutionsDocument {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.executions.v1";
}

/// Execution of one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// Pool of the agent that executed the shard.
    pub pool: PoolName,
    /// Id of that agent.
    pub agent_id: AgentId,
    /// The hand-out that the agent answered.
    pub task_id: TaskId,
    /// Id of the shard.
    pub shard_id: ShardId,
    /// Number of the shard's first iteration.
    pub first_iteration: u64,
    /// Number of iterations in the shard.
    pub iterations: u64,
    /// Seed of the shard. Together with the program it suffices to execute the shard again.
    pub seed: Digest,
    /// SHA-256 of the result's canonical bytes.
    pub result_hash: Digest,
    /// Name of the executing backend, such as `simd-avx2`.
    pub backend: String,
    /// Device and driver; absent when the shard was executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Wall-clock time in milliseconds. The time of a batch is divided among its shards in
    /// proportion to their iterations.
    pub wall_ms: f64,
    /// CPU time of the executing thread in milliseconds, divided in the same way.
    pub cpu_ms: f64,
    /// The agent's signature over `forge/v1/result`, NUL, and the canonical JSON of its statement,
    /// whose other members are those of the manifest and of this document.
    pub signature: Signature,
}

impl Execution {
    /// What the agent stated about its result. `program` is that of the document, `kernel` and
    /// `job_uid` are those of the manifest.
    pub fn statement(&self, job_uid: JobUid, program: Digest, kernel: u32) -> ResultStatement {
        ResultStatement {
            protocol: PROTOCOL,
            job_uid,
            shard_id: self.shard_id,
            iterations: self.iterations,
            seed: self.seed,
            program,
            kernel,
            task_id: self.task_id,
            pool: self.pool.clone(),
            agent_id: self.agent_id.clone(),
            backend: self.backend.clone(),
            adapter: self.adapter.clone(),
            result_hash: self.result_hash,
        }
    }
}

/// Document `metrics.json`: durations and counts of the job. Nothing in it influences the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge metrics")]
pub struct MetricsDocument {
    /// Always `forge.metrics.v1`.
    pub schema: String,
    /// Id of the job.
    pub job_id: JobId,
    /// Software version, such as `0.1.0`.
    pub forge_version: String,
    /// Name of the backend or backends that executed the shards.
    pub backend: String,
    /// Number of threads that executed shards concurrently.
    pub threads: u64,
    /// Number of shards in the result.
    pub shards: u64,
    /// Number of iterations in the result.
    pub iterations: u64,
    /// Number of occurrences in the result.
    pub occurrences: u64,
    /// Time to read the envelope, compile its tables and plan its shards, in milliseconds.
    pub plan_ms: f64,
    /// Time from the start of the first shard to the merge of the last, in milliseconds.
    pub execute_ms: f64,
    /// Total CPU time of all shards, in milliseconds.
    pub cpu_ms: f64,
    /// Iterations per second: `iterations` divided by `execute_ms` in seconds.
    pub iterations_per_second: f64,
}

impl MetricsDocument {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.metrics.v1";
}

/// Document `verification.json`: the shards that were re-executed, and the assurance that this
/// gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge verification")]
pub struct VerificationDocument {
    /// Always `forge.verification.v1`.
    pub schema: String,
    /// Id of the job.
    pub job_id: JobId,
    /// Identifies the computation.
    pub replay_key: ReplayKey,
    /// Verification level requested by the envelope.
    pub policy: VerificationLevel,
    /// Share of shards to re-execute, from 0 to 1: the envelope's `verify_ratio`, or the default of
    /// `policy` if the envelope has none.
    pub share: f64,
    /// Number of shards in the result.
    pub shards: u64,
    /// Number of shards that the draw selected. It is determined by the job's key.
    pub drawn: u64,
    /// A confirmation of every shard of the result that was re-executed with the same bytes, in
    /// shard order.
    pub checked: Vec<Verdict>,
    /// Number of checked shards that were executed on one kind of hardware (CPU or GPU) and
    /// verified on the other, as reported by the agents. Such checks can expose an error that is
    /// specific to one kind of hardware.
    pub on_other_hardware: u64,
    /// Number of checked shards for each combination of backends.
    pub pairs: Vec<BackendPair>,
    /// Probability that a wrong result ships, for several assumed attackers.
    pub escape: Vec<Escape>,
    /// Pools with a refuted result. Every result of theirs that is part of the job's result was
    /// confirmed.
    pub suspect_pools: Vec<PoolName>,
    /// Refuted results. None of them is part of the job's result.
    pub refuted: Vec<Verdict>,
    /// Results that differ from the accepted result of their shard, in shard order.
    pub contradictions: Vec<Attestation>,
}

impl VerificationDocument {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.verification.v1";
}

/// Number of shards that one backend executed and another verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendPair {
    /// Name of the backend that produced the accepted result.
    pub primary: String,
    /// Hardware of `primary`.
    #[serde(default)]
    pub primary_hardware: Hardware,
    /// Device and driver of `primary`; absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_adapter: Option<String>,
    /// Name of the backend that re-executed the shards.
    pub verifier: String,
    /// Hardware of `verifier`.
    #[serde(default)]
    pub verifier_hardware: Hardware,
    /// Device and driver of `verifier`; absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier_adapter: Option<String>,
    /// Number of shards.
    pub shards: u64,
}

/// Probability that a wrong result ships under one assumed attacker, who controls some pools and
/// returns wrong results for some of their shards. A pool whose wrong result is drawn is found out,
/// and all its results are verified; a wrong result ships if some pool is not found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Escape {
    /// Number of pools that the attacker controls.
    pub pools: u64,
    /// Number of wrong shards of each pool.
    pub wrong_shards: u64,
    /// Probability, from 0 to 1, that no wrong shard of some pool was drawn.
    pub probability: f64,
}

/// Document `error.json`: why a job failed or was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge error")]
pub struct ErrorDocument {
    /// Always `forge.error.v1`.
    pub schema: String,
    /// Id of the job.
    pub job_id: JobId,
    /// Kind of failure.
    pub code: FailureCode,
    /// One sentence for the submitter.
    pub message: String,
    /// Invalid fields of the envelope; empty for other failures.
    pub details: Vec<FieldError>,
    /// Phase in which the job ended.
    pub phase: Phase,
}

impl ErrorDocument {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.error.v1";
}

/// Phases of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The envelope is read and validated.
    Validate,
    /// The run is divided into shards.
    Plan,
    /// Shards are executed.
    Execute,
    /// Shards are re-executed.
    Verify,
    /// Shard results are merged.
    Reduce,
    /// Artifacts are written.
    Store,
}
