//! The envelope: what a submitter asks for. Its types are the normal form, in which every default is written out and
//! an absent optional is left out, so that an omitted default and a written one are the same bytes.
//!
//! `Deserialize` on these types reads back our own stored envelope.json and nothing else: it checks no range and fills
//! in no default. What a submitter wrote is read by [`strict::parse`](crate::strict::parse) and [`Envelope::read`].
//!
//! The meaning of `args` belongs to the op's profile and is not known here; nor is which ops exist.

mod read;
mod schema;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::read::EnvelopeDraft;
use crate::{
    canonical::{CanonicalJsonError, canonical_digest},
    digest::Digest,
    ids::JobId,
};

/// A job: what to compute (`op`, `args`, `seed`), how to run it (`policy`), what to keep (`artifacts`) and whose it is
/// (`ctx`). Only `op` and `args` must be given. Unknown keys are rejected; `null` is the same as leaving a key out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Names and billing of the job. Has no influence on the result.
    #[schemars(with = "Option<Context>", default)]
    pub ctx: Context,
    /// The operation and the version of its contract.
    pub op: Op,
    /// The arguments, as the profile of the op defines them.
    pub args: Map<String, Value>,
    /// How the job is run. Has no influence on the result.
    #[schemars(with = "Option<Policy>", default)]
    pub policy: Policy,
    /// Where the random numbers come from.
    #[schemars(with = "Option<Seed>", default)]
    pub seed: Seed,
    /// What is kept of the job.
    #[schemars(with = "Option<Artifacts>", default)]
    pub artifacts: Artifacts,
}

impl Envelope {
    /// Names the request: SHA-256 of the canonical JSON of the envelope without `ctx.job_id`. Two envelopes of one job
    /// id are the same job if their digests are equal, and a conflict if not. A job that came without an id is named
    /// after it.
    ///
    /// # Errors
    ///
    /// Args that have no canonical JSON. Args that came through [`strict::parse`](crate::strict::parse) have.
    pub fn digest(&self) -> Result<Digest, CanonicalJsonError> {
        let ctx = Context { job_id: None, ..self.ctx.clone() };
        canonical_digest(&Envelope { ctx, ..self.clone() })
    }
}

/// Whose job it is and what it is part of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The job's name. Default: named after the envelope's digest. The same name with the same envelope is the same
    /// job; with another envelope it is a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The submitter's run that this job belongs to: 1 to 128 printable ASCII characters. Kept and not interpreted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[ -~]{1,128}$"))]
    pub run_id: Option<String>,
    /// The stage of the run that this job belongs to: 1 to 128 printable ASCII characters. Kept and not interpreted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[ -~]{1,128}$"))]
    pub stage_id: Option<String>,
    /// W3C trace id under which the job's spans are recorded: 32 lower-case hexadecimal digits, not all zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = "^[0-9a-f]{32}$"),
        extend("not" = {"const": "00000000000000000000000000000000"})
    )]
    pub trace_id: Option<String>,
    /// Whether and why the job is paid for.
    #[schemars(with = "Option<Billing>", default)]
    pub billing: Billing,
}

/// Whether and why a job is paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Billing {
    /// Whether the job is paid for.
    #[schemars(with = "Option<BillingMode>", default)]
    pub mode: BillingMode,
    /// Where the job comes from.
    #[schemars(with = "Option<BillingReason>", default)]
    pub reason: BillingReason,
}

/// Whether a job is paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BillingMode {
    /// The job is paid for.
    Billable,
    /// The job is a test and free.
    #[default]
    Test,
}

/// Where a job comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BillingReason {
    /// A program submitted it.
    #[default]
    Api,
    /// A run in the studio.
    StudioRun,
    /// An experiment.
    Lab,
    /// The operator's own job, such as a health check.
    Internal,
}

/// The operation, by name, version and profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// The name of the operation, such as `mc`: 1 to 64 characters out of a-z, 0-9, `_`, `.` and `-`.
    #[schemars(regex(pattern = "^[a-z0-9_.-]{1,64}$"))]
    pub name: String,
    /// The version of the operation's contract, such as 1.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub version: u32,
    /// The model that gives `args` its meaning, such as `insurance.v1`: characters as in `name`.
    #[schemars(regex(pattern = "^[a-z0-9_.-]{1,64}$"))]
    pub profile: String,
}

/// How a job is run. Nothing here changes the result, only when it comes and how far it is verified.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The hardware that executes the job.
    #[schemars(with = "Option<Target>", default)]
    pub target: Target,
    /// Fail with `insufficient_agents` rather than start with fewer live agents than this. 0: no minimum.
    #[schemars(with = "Option<u32>", default, range(min = 0, max = 1_000_000))]
    pub min_agents: u32,
    /// At most so many agents execute the job at once: at least `min_agents`, or 0 for no maximum.
    #[schemars(with = "Option<u32>", default, range(min = 0, max = 1_000_000))]
    pub max_agents: u32,
    /// Fail with `timeout` if the job has not ended after so many milliseconds, at most 30 days. 0: no timeout.
    #[schemars(with = "Option<u64>", default, range(min = 0, max = 2_592_000_000_u64))]
    pub timeout_ms: u64,
    /// How much of the work is executed a second time, by another agent.
    #[schemars(with = "Option<VerificationLevel>", default)]
    pub verify: VerificationLevel,
    /// The share of shards to execute a second time, from 0 to 1, in place of the share that `verify` stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub verify_ratio: Option<f64>,
}

/// The hardware that executes a job.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Agents that execute on a CPU.
    Cpu,
    /// Agents that execute on a GPU.
    Gpu,
    /// Whichever agent is free.
    #[default]
    Any,
}

/// How much of a job is verified by a second execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Verify")]
pub enum VerificationLevel {
    /// No shard is executed twice: workers are trusted.
    #[default]
    None,
    /// Some shards are executed twice, chosen so that a worker cannot tell which.
    Spotcheck,
    /// Every shard is executed twice.
    Full,
}

/// Where the random numbers come from. One seed and one model always give the same numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Seed {
    /// From the op and the model's args: another model sees other numbers. Takes no value.
    #[default]
    Derived,
    /// From a given text alone: two models under one text see common random numbers.
    Explicit {
        /// 1 to 1,024 bytes of UTF-8.
        value: String,
    },
}

/// What is kept of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// Whether artifacts are written to the object store. If not, the job's record is all there is.
    #[schemars(with = "Option<bool>", default = "default_persist")]
    pub persist: bool,
    /// The key-value bucket that holds the job's record: 1 to 64 characters out of A-Z, a-z, 0-9, `_` and `-`.
    #[schemars(
        with = "Option<String>",
        default = "default_kv_namespace",
        regex(pattern = "^[A-Za-z0-9_-]{1,64}$")
    )]
    pub kv_namespace: String,
    /// The documents to write. Their order has no meaning, and none may be named twice.
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
    vec![ArtifactKind::ResultJson, ArtifactKind::ExecutionsJson, ArtifactKind::MetricsJson]
}

impl Default for Artifacts {
    fn default() -> Self {
        Self { persist: default_persist(), kv_namespace: default_kv_namespace(), include: default_include() }
    }
}

/// A document that a job can leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// `result.json`: the result, a pure function of op, args and seed.
    ResultJson,
    /// `executions.json`: which agent executed which shard, and how long it took.
    ExecutionsJson,
    /// `metrics.json`: times and amounts of the job as a whole.
    MetricsJson,
    /// `verification.json`: what was verified, what was found, and how likely a cheat was to be caught.
    VerificationJson,
    /// `plan.json`: the shards the job was cut into.
    PlanJson,
    /// `ept.csv`: the exceedance probability table, in Open Results Data (ORD) columns.
    EptCsv,
    /// `report.html`: the result as a page for people.
    ReportHtml,
}
