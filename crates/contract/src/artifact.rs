//! The documents that a job leaves in the object store, beside `result.json` (which is the kernel's) and `plan.json`
//! ([`plan`](crate::plan)). Types only: who writes them where is the store's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentId, Hardware, Identity, Signature},
    canonical::to_canonical_json,
    digest::Digest,
    envelope::VerificationLevel,
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
    /// Who signed the manifest; absent if nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<AgentId>,
    /// The signer's signature over `forge/v1/manifest`, NUL, and the canonical JSON of the manifest without this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

impl ManifestDocument {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.manifest.v1";

    /// What its signer signs.
    pub fn signing_payload(&self) -> Vec<u8> {
        let unsigned = Self { signature: None, ..self.clone() };
        let json = to_canonical_json(&unsigned).expect("a manifest holds no number beyond 2^53");
        [b"forge/v1/manifest\0".as_slice(), &json].concat()
    }

    /// The manifest with the signature of `identity`.
    #[must_use]
    pub fn sign(mut self, identity: &Identity) -> Self {
        self.signer = Some(identity.id().clone());
        self.signature = Some(identity.sign(&self.signing_payload()));
        self
    }

    /// Whether its signature is its signer's; `None` if it has none.
    pub fn is_signature_valid(&self) -> Option<bool> {
        let (signer, signature) = (self.signer.as_ref()?, self.signature.as_ref()?);
        Some(signer.verify_signature(&self.signing_payload(), signature))
    }
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
    /// The device and its driver, where it was not executed on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Time from start to end, ms. Shards that were executed together share it out by their iterations.
    pub wall_ms: f64,
    /// CPU time of the executing thread, ms, shared out likewise.
    pub cpu_ms: f64,
    /// The agent's signature over `forge/v1/result`, NUL, job id, NUL, shard id, NUL, the program's hash and the result's
    /// hash (32 bytes each).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
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
    pub policy: VerificationLevel,
    /// Share of the shards to execute a second time: the envelope's `verify_ratio`, or what `policy` stands for.
    pub share: f64,
    /// Shards in the result.
    pub shards: u64,
    /// The shards of the result that were executed a second time, with the same bytes, in shard order.
    pub checked: Vec<ShardId>,
    /// How many of them were executed on one kind of hardware (CPU or GPU) and verified on the other, by what their agents
    /// say. An error of either kind would show in these.
    #[serde(default)]
    pub on_other_hardware: u64,
    /// How many of them were executed by which backends.
    pub pairs: Vec<BackendPair>,
    /// How likely it was that an error would have been caught.
    pub detection: Vec<Detection>,
    /// Results that were found to be wrong. None of them is in the result: the shards were executed again, and so were
    /// all others that these agents had returned.
    #[serde(default)]
    pub refuted: Vec<RefutedResult>,
}

impl VerificationDocument {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.verification.v1";
}

/// A result that was found to be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Refuted")]
pub struct RefutedResult {
    /// The shard.
    pub shard_id: ShardId,
    /// Who returned it.
    pub agent_id: AgentId,
    /// SHA-256 of what was returned.
    pub claimed: Digest,
    /// SHA-256 of what the scalar reference gives.
    pub correct: Option<Digest>,
    /// Who found it out.
    pub verifier_id: AgentId,
    /// The verifier's signature over `forge/v1/verdict`, NUL, job id, NUL, shard id, NUL, `refuted`, NUL, the agent's id,
    /// NUL, and the hash of what was returned (32 bytes).
    pub signature: Signature,
}

/// Shards that one backend executed and another verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendPair {
    /// The backend whose result counts.
    pub primary: String,
    /// The hardware that it executed on.
    #[serde(default)]
    pub primary_hardware: Hardware,
    /// The device and its driver, where that was not the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_adapter: Option<String>,
    /// The backend that executed the shard again.
    pub verifier: String,
    /// The hardware that it executed on.
    #[serde(default)]
    pub verifier_hardware: Hardware,
    /// The device and its driver, where that was not the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier_adapter: Option<String>,
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
