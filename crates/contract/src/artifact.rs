//! The documents that a job leaves in the object store, beside `result.json` (which is the kernel's) and `plan.json`
//! ([`plan`](crate::plan)). Types only: who writes them where is the store's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    envelope::Verify,
    error::{FailureCode, FieldError},
    ids::{JobId, ReplayKey},
    shard::ShardId,
};

/// Document `manifest.json`: what a completed job left behind, by hash. Everything an auditor needs starts here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge manifest")]
pub struct ManifestDocument {
    /// Always `forge.manifest.v1`.
    pub schema: String,
    /// The job.
    pub job_id: JobId,
    /// Kernel version: results are equal only under one kernel version.
    pub kernel: u32,
    /// Names the computation.
    pub replay_key: ReplayKey,
    /// SHA-256 of the canonical JSON of the envelope without its job id: tells a repeated submission from a conflict.
    pub request: Digest,
    /// SHA-256 of `result.json`: the figure to compare.
    pub result: Digest,
    /// Merkle root over the shards' result hashes in shard order (RFC 6962, section 2.1).
    pub merkle_root: Digest,
    /// Number of shards below the root.
    pub shards: u64,
    /// The objects, each under `artifacts/sha256/<sha256>/<name>`.
    pub artifacts: Vec<ArtifactReference>,
}

impl ManifestDocument {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.manifest.v1";
}

/// One object of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactReference {
    /// File name, as in `result.json`.
    pub name: String,
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Media type, as in `application/json`.
    pub media_type: String,
}

impl ArtifactReference {
    /// Where the object lies in the store.
    pub fn key(&self) -> String {
        format!("artifacts/sha256/{}/{}", self.sha256, self.name)
    }
}

/// Document `executions.json`: which agent executed which shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge executions")]
pub struct ExecutionsDocument {
    /// Always `forge.executions.v1`.
    pub schema: String,
    /// The job.
    pub job_id: JobId,
    /// Names the computation.
    pub replay_key: ReplayKey,
    /// SHA-256 of the program's canonical bytes.
    pub program: Digest,
    /// One entry a shard of the result, in shard order.
    pub executions: Vec<Execution>,
}

impl ExecutionsDocument {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.executions.v1";
}

/// One shard's execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// The agent that executed the shard.
    pub agent_id: String,
    /// The shard.
    pub shard_id: ShardId,
    /// Number of its first iteration.
    pub first_iteration: u64,
    /// Number of its iterations.
    pub iterations: u64,
    /// Its seed: with the program, all that is needed to execute it again.
    pub seed: Digest,
    /// SHA-256 of its result's canonical bytes.
    pub result_hash: Digest,
    /// What executed it, as in `simd-avx2`.
    pub backend: String,
    /// Time from start to end, ms.
    pub wall_ms: f64,
    /// CPU time of the executing thread, ms.
    pub cpu_ms: f64,
}

/// Document `metrics.json`: how the job went. Nothing here has an influence on the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge metrics")]
pub struct MetricsDocument {
    /// Always `forge.metrics.v1`.
    pub schema: String,
    /// The job.
    pub job_id: JobId,
    /// Version of the software, as in `0.1.0`.
    pub forge_version: String,
    /// What executed the shards.
    pub backend: String,
    /// Threads that executed shards at once.
    pub threads: u64,
    /// Shards in the result.
    pub shards: u64,
    /// Iterations in the result.
    pub iterations: u64,
    /// Occurrences in the result.
    pub occurrences: u64,
    /// Reading the envelope, compiling tables and planning, ms.
    pub plan_ms: f64,
    /// From the first shard's start to the last one's merge, ms.
    pub execute_ms: f64,
    /// CPU time of all shards, ms.
    pub cpu_ms: f64,
    /// Iterations in a second of `execute_ms`.
    pub iterations_per_second: f64,
}

impl MetricsDocument {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.metrics.v1";
}

/// Document `verification.json`: which shards were executed a second time, and what that proves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge verification")]
pub struct VerificationDocument {
    /// Always `forge.verification.v1`.
    pub schema: String,
    /// The job.
    pub job_id: JobId,
    /// Names the computation.
    pub replay_key: ReplayKey,
    /// What the envelope asked for.
    pub policy: Verify,
    /// Share of the shards to execute a second time: the envelope's `verify_ratio`, or what `policy` stands for.
    pub share: f64,
    /// Shards in the result.
    pub shards: u64,
    /// The shards executed a second time, in shard order. Their results were equal, or the job would have failed.
    pub checked: Vec<ShardId>,
    /// How many of them were executed by which backends.
    pub pairs: Vec<BackendPair>,
    /// How likely it was that an error would have been caught.
    pub detection: Vec<Detection>,
}

impl VerificationDocument {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.verification.v1";
}

/// Shards that one backend executed and another verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendPair {
    /// The backend whose result counts.
    pub primary: String,
    /// The backend that executed the shard again.
    pub verifier: String,
    /// How many shards.
    pub shards: u64,
}

/// The chance of catching an error of a given extent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detection {
    /// Share of the shards with a wrong result; the number of shards is rounded up.
    pub wrong_share: f64,
    /// Probability that at least one of them was among the shards checked, if those were chosen at random.
    pub probability: f64,
}

/// Document `error.json`: why a job failed or was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge error")]
pub struct ErrorDocument {
    /// Always `forge.error.v1`.
    pub schema: String,
    /// The job.
    pub job_id: JobId,
    /// What kind of failure.
    pub code: FailureCode,
    /// A sentence for people.
    pub message: String,
    /// Fields of the envelope that are wrong, if it is that.
    pub details: Vec<FieldError>,
    /// What the job was doing, as in `execute`.
    pub phase: Phase,
}

impl ErrorDocument {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.error.v1";
}

/// Stages of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The envelope is read and checked.
    Validate,
    /// The run is cut into shards.
    Plan,
    /// Shards are executed.
    Execute,
    /// Shards are executed a second time.
    Verify,
    /// Shard results are merged.
    Reduce,
    /// Artifacts are written.
    Store,
}
