//! The job record: what anyone can read about a job while it runs and after it has ended. One for each job, under the
//! job's id in the key-value bucket `jobs` (or the envelope's `artifacts.kv_namespace`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    artifact::{ArtifactReference, Phase},
    digest::Digest,
    envelope::{Billing, Op},
    error::{FailureCode, FieldError},
    ids::{JobId, ReplayKey, Submitter},
};

/// Document `forge.job.v1`, the record of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Forge job record")]
pub struct JobRecord {
    /// Always `forge.job.v1`.
    pub schema: String,
    /// The job.
    pub job_id: JobId,
    /// Who submitted it: the last token of `forge.v1.jobs.submit.<submitter>`, or `default`.
    #[serde(default)]
    pub submitter: Submitter,
    /// How far it has come.
    pub state: JobState,
    /// SHA-256 of the canonical JSON of the envelope without its job id: tells a repeated submission from a conflict.
    /// Absent if the envelope was not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Digest>,
    /// Names the computation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_key: Option<ReplayKey>,
    /// The operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,
    /// Whether and why the job is paid for.
    #[serde(default)]
    pub billing: Billing,
    /// Whether artifacts are kept.
    pub persist: bool,
    /// W3C trace id of the job's spans, if they are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Number of the message that submitted it, in stream `FORGE_JOBS`.
    pub submission: u64,
    /// When the record was made: RFC 3339, UTC.
    pub submitted_at: String,
    /// When it was last written.
    pub updated_at: String,
    /// How much has been done.
    pub progress: JobProgress,
    /// Headline figures of a completed job: the numbers among the result's `output`, as in `mean_loss`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headline: Map<String, Value>,
    /// SHA-256 of the result document of a completed job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Digest>,
    /// Where the manifest lies, as in `s3://bucket/jobs/<job_id>/manifest.json`; absent if nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// What is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactReference>,
    /// Why a job failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

impl JobRecord {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.job.v1";
}

/// How far a job has come. Ends in exactly one of `completed`, `failed` and `cancelled`, which is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// A planner has it.
    Accepted,
    /// It is cut into shards.
    Planned,
    /// Results come in.
    Running,
    /// All results are in: the result document is made and artifacts are written.
    Reducing,
    /// The result is there.
    Completed,
    /// It ended without a result: `error` says why.
    Failed,
    /// It was stopped on request.
    Cancelled,
}

impl JobState {
    /// Whether the state is final.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// As it is written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Reducing => "reducing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How much of a job has been done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Progress")]
pub struct JobProgress {
    /// Iterations asked for.
    pub iterations: u64,
    /// Iterations merged so far.
    pub iterations_done: u64,
    /// Shards planned.
    pub shards: u64,
    /// Shards whose result was taken in.
    pub shards_done: u64,
    /// Shards that a second execution confirmed.
    pub shards_verified: u64,
}

/// Why a job ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobError {
    /// What kind of failure.
    pub code: FailureCode,
    /// A sentence for people.
    pub message: String,
    /// Fields of the envelope that are wrong, if it is that.
    #[serde(default)]
    pub details: Vec<FieldError>,
    /// What the job was doing.
    pub phase: Phase,
}
