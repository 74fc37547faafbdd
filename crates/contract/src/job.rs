//! The job record: the public state of a job while it runs and after it has ended.
//!
//! Each job has one record, stored under the job's id in the key-value bucket `jobs` (or the
//! envelope's `artifacts.kv_namespace`). This module only defines the record; services make the
//! state transitions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strum::IntoStaticStr;

use crate::{
    artifact::{ArtifactReference, Phase, VerificationDocument},
    digest::Digest,
    envelope::{Billing, Op},
    error::{FailureCode, FieldError},
    ids::{JobId, JobUid, PoolName, ReplayKey, Submitter},
};

/// Document `forge.job.v1`, the record of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge job record")]
pub struct JobRecord {
    /// Always `forge.job.v1`.
    pub schema: String,
    /// Id of the job.
    pub job_id: JobId,
    /// Uid of the job, by which messages about it are addressed.
    pub uid: JobUid,
    /// SHA-256 of `forge/v1/job-key`, NUL, the uid, NUL, and the job's key. It commits to the key
    /// before any shard is dispatched; the manifest reveals the key. Absent if the envelope was
    /// invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_commitment: Option<Digest>,
    /// Name of the submitter: the last token of `forge.v1.jobs.submit.<submitter>`, or `default`.
    #[serde(default)]
    pub submitter: Submitter,
    /// Current state.
    pub state: JobState,
    /// SHA-256 of the canonical JSON of the envelope without its job id. Distinguishes a repeated
    /// submission from a conflicting one. Absent if the envelope was invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Digest>,
    /// Identifies the computation. Absent if the envelope was invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_key: Option<ReplayKey>,
    /// The operation. Absent if the envelope was invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,
    /// Title of the job: the envelope's `about.title`. Absent if the envelope has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Billing mode and origin of the job.
    #[serde(default)]
    pub billing: Billing,
    /// Whether the job's artifacts are written to the object store.
    pub persist: bool,
    /// W3C trace id of the job's spans; absent if no spans are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Sequence number of the submission in stream `FORGE_JOBS`.
    pub submission: u64,
    /// Time at which the record was created: RFC 3339, UTC.
    pub submitted_at: String,
    /// Time of the last update: RFC 3339, UTC.
    pub updated_at: String,
    /// Progress of the job.
    pub progress: JobProgress,
    /// Why the job waits, for people. Absent while it does not wait, and once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Headline figures of a completed job: the numeric members of the result's `output`, such as
    /// `mean_loss`; of a portfolio means, quantiles of the year and of its largest loss, such as
    /// `p995_net_largest_loss`, and capital. Absent until the job completes.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headline: Map<String, Value>,
    /// SHA-256 of the result document. Absent until the job completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Digest>,
    /// What verification found. Absent until the job completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationSummary>,
    /// Location of the manifest, such as `s3://bucket/jobs/<job_id>/manifest.json`. Absent until
    /// the job completes, and if it stores no artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The stored artifacts. Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactReference>,
    /// Why the job failed or was cancelled. Absent in every other state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

impl JobRecord {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.job.v1";
}

/// State of a job. Every job ends in exactly one of the terminal states `completed`, `failed` and
/// `cancelled`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobState {
    /// A planner has accepted the submission.
    Accepted,
    /// The run is being divided into shards.
    Planned,
    /// Shards are being executed, and results are arriving.
    Running,
    /// All results have arrived; the result document and the artifacts are being written.
    Reducing,
    /// The result is available.
    Completed,
    /// The job ended without a result; `error` holds the reason.
    Failed,
    /// The job was cancelled on request.
    Cancelled,
}

impl JobState {
    /// Every state, in the order of a job.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Planned,
        Self::Running,
        Self::Reducing,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether the job has ended in this state.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The state as written in documents, such as `running`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Progress of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Progress")]
pub struct JobProgress {
    /// Number of iterations requested. Convergence may end the run earlier.
    pub iterations: u64,
    /// Number of iterations merged so far.
    pub iterations_done: u64,
    /// Number of shards planned.
    pub shards: u64,
    /// Number of shards with an accepted result.
    pub shards_done: u64,
    /// Number of shards confirmed by re-execution.
    pub shards_verified: u64,
}

impl JobProgress {
    /// Share of the shards that are done, from 0 to 1.
    pub fn done_share(&self) -> f64 {
        if self.shards == 0 { 0.0 } else { self.shards_done as f64 / self.shards as f64 }
    }
}

/// What verification found in a completed job; `verification.json` has the details.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerificationSummary {
    /// Number of refuted results, none of which is part of the job's result.
    pub refuted: u64,
    /// Number of results that differ from the accepted result of their shard.
    pub contradictions: u64,
    /// Pools with a refuted result.
    pub suspect_pools: Vec<PoolName>,
    /// Probability, from 0 to 1, that a result with one wrong shard ships.
    pub escape_probability: f64,
}

impl From<&VerificationDocument> for VerificationSummary {
    fn from(document: &VerificationDocument) -> Self {
        Self {
            refuted: document.refuted.len() as u64,
            contradictions: document.contradictions.len() as u64,
            suspect_pools: document.suspect_pools.clone(),
            // The first attacker is one with a single wrong shard.
            escape_probability: document.escape.first().map_or(1.0, |escape| escape.probability),
        }
    }
}

/// Why a job ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobError {
    /// Kind of failure.
    pub code: FailureCode,
    /// One sentence for the submitter.
    pub message: String,
    /// Invalid fields of the envelope; empty for other failures.
    #[serde(default)]
    pub details: Vec<FieldError>,
    /// Phase in which the job ended.
    pub phase: Phase,
}
