//! The catalog of metrics: every name, type, label and meaning, once. `docs/reference/metrics.md`
//! lists the same families.

/// Type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// A count that only grows; reset when the process starts.
    Counter,
    /// A current value.
    Gauge,
    /// Observations in buckets, with their sum and count.
    Histogram,
}

impl MetricType {
    /// The type's name in the OpenMetrics format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Description of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricFamily {
    /// Full name, including the prefix `forge_` and a counter's suffix `_total`.
    pub name: &'static str,
    /// Type.
    pub metric_type: MetricType,
    /// Labels besides `service`, which every family has.
    pub labels: &'static [&'static str],
    /// Meaning and label values, one sentence without a full stop.
    pub help: &'static str,
}

impl MetricFamily {
    /// The name that the registry is given: it adds prefix and suffix itself.
    pub(super) fn registered_name(&self) -> &'static str {
        let name = self.name.trim_start_matches("forge_");
        if self.metric_type == MetricType::Counter { name.trim_end_matches("_total") } else { name }
    }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricFamily {
    MetricFamily { name, metric_type: MetricType::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricFamily {
    MetricFamily { name, metric_type: MetricType::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricFamily {
    MetricFamily { name, metric_type: MetricType::Histogram, labels, help }
}

pub(super) const UP: MetricFamily = gauge("forge_up", &["version"], "1 while the process runs");
pub(super) const QUEUE_DEPTH: MetricFamily =
    gauge("forge_queue_depth", &["queue"], "Messages of a queue that are waiting or in flight");
pub(super) const UNREADABLE_MESSAGES: MetricFamily = counter(
    "forge_unreadable_messages_total",
    &[],
    "Stored messages that the process stepped over because their headers cannot be read",
);
pub(super) const STREAM_USED_PERCENT: MetricFamily = gauge(
    "forge_stream_used_percent",
    &["stream"],
    "Share of the space of a stream that is in use, as planners see it; a full stream refuses messages",
);
pub(super) const BUCKET_USED_PERCENT: MetricFamily = gauge(
    "forge_bucket_used_percent",
    &["bucket"],
    "Share of the space of a bucket of job records that is in use, as planners see it; no jobs are admitted \
     from 90 on",
);
pub(super) const MESSAGES: MetricFamily = counter(
    "forge_messages_total",
    &["queue", "outcome"],
    "Messages handled, by settlement: ack, retry, or unsettled if the message was left to be redelivered; \
     panic if the handler panicked",
);
pub(super) const MESSAGE_SECONDS: MetricFamily =
    histogram("forge_message_seconds", &["queue"], "Time from receiving a message to settling it");
pub(super) const SHARDS_EXECUTED: MetricFamily = counter(
    "forge_shards_executed_total",
    &["backend", "outcome"],
    "Shard executions, by outcome: ok or failed",
);
pub(super) const ITERATIONS: MetricFamily =
    counter("forge_iterations_total", &["backend"], "Iterations executed");
pub(super) const SHARD_SECONDS: MetricFamily =
    histogram("forge_shard_seconds", &["backend"], "Execution time of a shard");
pub(super) const RESULTS: MetricFamily = counter(
    "forge_results_total",
    &["outcome"],
    "Results received by aggregators, by outcome: accepted, held (until a verifier confirms it), duplicate, \
     contradiction (a second, different result), rejected or unknown (unreadable, or for no task that was issued)",
);
pub(super) const VERIFICATIONS: MetricFamily = counter(
    "forge_verifications_total",
    &["outcome"],
    "Verdicts of verifiers on results, by outcome: confirmed, refuted or undecided",
);
pub(super) const QUARANTINED_AGENTS: MetricFamily =
    counter("forge_quarantined_agents_total", &[], "Agents put into quarantine");
pub(super) const QUARANTINED_POOLS: MetricFamily =
    counter("forge_quarantined_pools_total", &[], "Pools put into quarantine as a whole");
pub(super) const JOBS: MetricFamily = counter(
    "forge_jobs_total",
    &["state", "code", "billing_mode", "billing_reason"],
    "Jobs ended, by terminal state, failure code (none without a failure) and billing",
);
pub(super) const JOB_SECONDS: MetricFamily =
    histogram("forge_job_seconds", &["state"], "Time from a job's submission to its end");
pub(super) const JOBS_ACTIVE: MetricFamily =
    gauge("forge_jobs_active", &[], "Jobs that this planner is driving");
pub(super) const JOBS_WAITING: MetricFamily = gauge(
    "forge_jobs_waiting",
    &[],
    "Jobs whose records say that they wait, for workers, verifiers, memory or space; every planner counts all \
     jobs of the cluster",
);
pub(super) const ARTIFACT_WRITES: MetricFamily = counter(
    "forge_artifact_writes_total",
    &["outcome"],
    "Sets of artifacts written to the store, by outcome: ok or failed",
);
pub(super) const LIVE_AGENTS: MetricFamily = gauge(
    "forge_live_agents",
    &["target"],
    "Live workers that take shards of a target, as the planner sees them; each also counts for target any",
);

/// All metric families.
pub const CATALOG: &[MetricFamily] = &[
    UP,
    QUEUE_DEPTH,
    UNREADABLE_MESSAGES,
    STREAM_USED_PERCENT,
    BUCKET_USED_PERCENT,
    MESSAGES,
    MESSAGE_SECONDS,
    SHARDS_EXECUTED,
    ITERATIONS,
    SHARD_SECONDS,
    RESULTS,
    VERIFICATIONS,
    QUARANTINED_AGENTS,
    QUARANTINED_POOLS,
    JOBS,
    JOB_SECONDS,
    JOBS_ACTIVE,
    JOBS_WAITING,
    ARTIFACT_WRITES,
    LIVE_AGENTS,
];
