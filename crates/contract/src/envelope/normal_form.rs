//! The types of the envelope's normal form. Untrusted envelopes are read into them by the `reader`
//! module.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strum::{IntoStaticStr, VariantArray};

use super::about::About;
use crate::{
    canonical::{CanonicalJsonError, canonical_digest},
    digest::Digest,
    ids::JobId,
};

/// A job: what to compute (`op`, `args`, `seed`), how to run it (`policy`), what to store
/// (`artifacts`), its names and billing (`ctx`), and what it is about (`about`). Only `op` and
/// `args` are required. Unknown keys are rejected; `null` is equivalent to omitting a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Names and billing of the job. No influence on the result.
    #[schemars(with = "Option<Context>", default)]
    pub ctx: Context,
    /// What the job is about, for readers of the report. No influence on the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// The operation and its contract version.
    pub op: Op,
    /// Arguments, as defined by the op's profile.
    pub args: Map<String, Value>,
    /// How the job is run. No influence on the result.
    #[schemars(with = "Option<Policy>", default)]
    pub policy: Policy,
    /// Source of the random numbers.
    #[schemars(with = "Option<Seed>", default)]
    pub seed: Seed,
    /// Which artifacts of the job are stored.
    #[schemars(with = "Option<Artifacts>", default)]
    pub artifacts: Artifacts,
}

impl Envelope {
    /// SHA-256 of the canonical JSON of the envelope without `ctx.job_id`.
    ///
    /// Two envelopes with the same job id are the same job if their digests are equal, and a
    /// conflict otherwise. A job submitted without an id takes its id from this digest.
    ///
    /// # Errors
    ///
    /// Returns an error when the args have no canonical JSON. Args that passed
    /// [`strict::parse`](crate::strict::parse) always have it.
    pub fn digest(&self) -> Result<Digest, CanonicalJsonError> {
        let ctx = Context { job_id: None, ..self.ctx.clone() };
        canonical_digest(&Envelope { ctx, ..self.clone() })
    }
}

/// Names and billing of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The job's id; derived from the envelope's digest by default. A repeated submission of the
    /// same envelope under this id refers to the same job; a different envelope under this id is a
    /// conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Run of the submitter to which the job belongs: 1 to 128 printable ASCII characters. Stored,
    /// not interpreted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[ -~]{1,128}$"))]
    pub run_id: Option<String>,
    /// Stage of that run to which the job belongs: 1 to 128 printable ASCII characters. Stored, not
    /// interpreted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[ -~]{1,128}$"))]
    pub stage_id: Option<String>,
    /// W3C trace id under which the job's spans are recorded: 32 lower-case hexadecimal digits, not
    /// all of them zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = "^[0-9a-f]{32}$"),
        extend("not" = {"const": "00000000000000000000000000000000"})
    )]
    pub trace_id: Option<String>,
    /// Billing mode and origin of the job.
    #[schemars(with = "Option<Billing>", default)]
    pub billing: Billing,
}

/// Billing mode and origin of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Billing {
    /// Whether the job is billed.
    #[schemars(with = "Option<BillingMode>", default)]
    pub mode: BillingMode,
    /// Origin of the job.
    #[schemars(with = "Option<BillingReason>", default)]
    pub reason: BillingReason,
}

/// Whether a job is billed.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BillingMode {
    /// The job is billed.
    Billable,
    /// The job is a test and free of charge.
    #[default]
    Test,
}

/// Origin of a job.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BillingReason {
    /// Submitted by a program.
    #[default]
    Api,
    /// Submitted by a run in the studio.
    StudioRun,
    /// Part of an experiment.
    Lab,
    /// Submitted by the operator, for example as a health check.
    Internal,
}

/// An operation: name, contract version and profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// Name of the operation, such as `mc`: 1 to 64 of the characters a-z, 0-9, `_`, `.` and `-`.
    #[schemars(regex(pattern = "^[a-z0-9_.-]{1,64}$"))]
    pub name: String,
    /// Version of the operation's contract, such as 1.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub version: u32,
    /// Model that defines `args`, such as `insurance.v1`: 1 to 64 of the same characters.
    #[schemars(regex(pattern = "^[a-z0-9_.-]{1,64}$"))]
    pub profile: String,
}

/// How a job is run. The policy affects when the result is available and how much of it is
/// verified, never the result itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Hardware that executes the job.
    #[schemars(with = "Option<Target>", default)]
    pub target: Target,
    /// Minimum number of live agents. If fewer are live, the job fails with `insufficient_agents`
    /// instead of starting. 0: no minimum.
    #[schemars(with = "Option<u32>", default, range(min = 0, max = 1_000_000))]
    pub min_agents: u32,
    /// Maximum number of agents that execute the job concurrently: at least `min_agents`, or 0 for
    /// no maximum.
    #[schemars(with = "Option<u32>", default, range(min = 0, max = 1_000_000))]
    pub max_agents: u32,
    /// Time limit in milliseconds, at most 30 days, after which the job fails with `timeout`. 0: no
    /// limit.
    #[schemars(with = "Option<u64>", default, range(min = 0, max = 2_592_000_000_u64))]
    pub timeout_ms: u64,
    /// How much of the job is verified by re-execution on another agent.
    #[schemars(with = "Option<VerificationLevel>", default)]
    pub verify: VerificationLevel,
    /// Share of shards to re-execute, from 0 to 1. Overrides the share implied by `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub verify_ratio: Option<f64>,
}

/// Hardware that executes a job.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Target {
    /// Agents with a CPU backend.
    Cpu,
    /// Agents with a GPU backend.
    Gpu,
    /// Any agent.
    #[default]
    Any,
}

/// How much of a job is verified by re-execution.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schemars(rename = "Verify")]
pub enum VerificationLevel {
    /// No shard is re-executed: workers are trusted.
    #[default]
    None,
    /// Some shards are re-executed, selected so that workers cannot predict which.
    Spotcheck,
    /// Every shard is re-executed.
    Full,
}

/// Source of the random numbers. Equal seeds and equal models always give equal numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Seed {
    /// Derived from the op and the model's args, so different models use different numbers. Takes
    /// no value.
    #[default]
    Derived,
    /// Derived from the given text alone, so two models with the same text use common random
    /// numbers.
    Explicit {
        /// Text of the seed: 1 to 1,024 bytes of UTF-8.
        value: String,
    },
}

/// Which artifacts of a job are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// Whether artifacts are written to the object store. If false, only the job record remains.
    #[schemars(with = "Option<bool>", default = "default_persist")]
    pub persist: bool,
    /// Key-value bucket of the job record: 1 to 64 of the characters A-Z, a-z, 0-9, `_` and `-`.
    #[schemars(
        with = "Option<String>",
        default = "default_kv_namespace",
        regex(pattern = "^[A-Za-z0-9_-]{1,64}$")
    )]
    pub kv_namespace: String,
    /// Documents to write. Their order is irrelevant; duplicates are rejected. An empty list keeps
    /// the envelope alone. `ept.csv` is left out for profiles without return periods.
    #[schemars(with = "Option<Vec<ArtifactKind>>", default = "default_include", extend("uniqueItems" = true))]
    pub include: Vec<ArtifactKind>,
}

fn default_persist() -> bool {
    true
}

fn default_kv_namespace() -> String {
    "jobs".to_owned()
}

fn default_include() -> Vec<ArtifactKind> {
    vec![
        ArtifactKind::ResultJson,
        ArtifactKind::ExecutionsJson,
        ArtifactKind::MetricsJson,
        ArtifactKind::EptCsv,
        ArtifactKind::ReportHtml,
    ]
}

impl Default for Artifacts {
    fn default() -> Self {
        Self { persist: default_persist(), kv_namespace: default_kv_namespace(), include: default_include() }
    }
}

/// A document that a job can store.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ArtifactKind {
    /// `result.json`: the result, a pure function of op, args and seed.
    ResultJson,
    /// `executions.json`: the executing agent and the duration of each shard.
    ExecutionsJson,
    /// `metrics.json`: durations and counts of the job as a whole.
    MetricsJson,
    /// `verification.json`: the verified shards, the findings, and the probability of detecting
    /// wrong results.
    VerificationJson,
    /// `plan.json`: how the job was divided into shards.
    PlanJson,
    /// `ept.csv`: the exceedance probability table, in Open Results Data (ORD) columns.
    EptCsv,
    /// `report.html`: the result as a web page.
    ReportHtml,
}

impl ArtifactKind {
    /// Every kind.
    pub const ALL: &[Self] = Self::VARIANTS;
}
