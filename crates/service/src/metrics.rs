//! What is counted and measured, in the text format of OpenMetrics. Every series has the label `service`. Job ids, subjects and
//! agents are never labels: their number is not bounded.
//!
//! | Name | Type | Labels | Meaning |
//! |---|---|---|---|
//! | `forge_up` | gauge | `version` | 1 while the process lives |
//! | `forge_queue_depth` | gauge | `queue` | Messages waiting or being worked on |
//! | `forge_messages_total` | counter | `queue`, `outcome` (`ack`, `retry`, `unsettled`) | Messages handled |
//! | `forge_message_seconds` | histogram | `queue` | Time from receipt to settlement |
//! | `forge_shards_executed_total` | counter | `backend`, `outcome` | Shards executed |
//! | `forge_iterations_total` | counter | `backend` | Iterations executed |
//! | `forge_shard_seconds` | histogram | `backend` | Time of executing a shard |
//! | `forge_results_total` | counter | `outcome` (`accepted`, `duplicate`, `contradiction`, `rejected`) | Results taken in |
//! | `forge_verifications_total` | counter | `outcome` (`confirmed`, `refuted`, `rejected`, `undecided`) | Verdicts |
//! | `forge_quarantined_agents_total` | counter | | Agents put into quarantine |
//! | `forge_jobs_total` | counter | `state`, `code`, `billing_mode`, `billing_reason` | Jobs ended; `code` is `none` without a failure |
//! | `forge_job_seconds` | histogram | `state` | Time from submission to end |
//! | `forge_jobs_active` | gauge | | Jobs in the hands of this process |
//! | `forge_artifact_writes_total` | counter | `outcome` | Objects written |
//! | `forge_live_agents` | gauge | `target` | Agents that take shards |

use std::{fmt, sync::Arc, time::Duration};

use forge_bus::topology::{Queue, target_token};
use forge_contract::{
    envelope::{Billing, BillingMode, BillingReason, Target},
    error::FailureCode,
    job::JobState,
    verdict::VerdictOutcome,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};

/// What a process counts and measures. Clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What became of a result that was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultOutcome {
    /// It counts.
    Accepted,
    /// The shard had a result already.
    Duplicate,
    /// The shard has another result already, which differs.
    Contradiction,
    /// It is not a result that could count.
    Rejected,
}

struct Series {
    registry: Registry,
    queue_depth: Family<QueueLabel, Gauge>,
    messages: Family<MessageLabels, Counter>,
    message_seconds: Timing<QueueLabel>,
    shards_executed: Family<ShardLabels, Counter>,
    iterations: Family<BackendLabel, Counter>,
    shard_seconds: Timing<BackendLabel>,
    results: Family<OutcomeLabel, Counter>,
    verifications: Family<OutcomeLabel, Counter>,
    quarantined_agents: Counter,
    jobs: Family<JobLabels, Counter>,
    job_seconds: Timing<StateLabel>,
    jobs_active: Gauge,
    artifact_writes: Family<OutcomeLabel, Counter>,
    live_agents: Family<TargetLabel, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    queue: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    backend: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    state: &'static str,
    code: &'static str,
    billing_mode: &'static str,
    billing_reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

type Timing<L> = Family<L, Histogram, Buckets>;

/// Bounds from 1 ms, each twice the one before.
#[derive(Debug, Clone, Copy)]
struct Buckets(u16);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, self.0))
    }
}

/// Up to 65 s.
const SHORT: Buckets = Buckets(17);
/// Up to 9 h.
const LONG: Buckets = Buckets(26);

impl Metrics {
    /// The metrics of a process that runs a service.
    pub fn new(service: &'static str) -> Self {
        let labels = [("service".into(), service.into())];
        let mut list = List(Registry::with_prefix_and_labels("forge", labels.into_iter()));
        let up = list.add("up", "1 while the process lives", Family::<VersionLabel, Gauge>::default());
        up.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        Self(Arc::new(Series {
            queue_depth: list.add("queue_depth", "Messages waiting or being worked on", Family::default()),
            messages: list.add("messages", "Messages handled", Family::default()),
            message_seconds: list.add(
                "message_seconds",
                "Time from receipt to settlement",
                Timing::new_with_constructor(LONG),
            ),
            shards_executed: list.add("shards_executed", "Shards executed", Family::default()),
            iterations: list.add("iterations", "Iterations executed", Family::default()),
            shard_seconds: list.add(
                "shard_seconds",
                "Time of executing a shard",
                Timing::new_with_constructor(SHORT),
            ),
            results: list.add("results", "Results taken in", Family::default()),
            verifications: list.add("verifications", "Verdicts on results", Family::default()),
            quarantined_agents: list.add(
                "quarantined_agents",
                "Agents put into quarantine",
                Counter::default(),
            ),
            jobs: list.add("jobs", "Jobs ended", Family::default()),
            job_seconds: list.add(
                "job_seconds",
                "Time from submission to end",
                Timing::new_with_constructor(LONG),
            ),
            jobs_active: list.add("jobs_active", "Jobs in the hands of this process", Gauge::default()),
            artifact_writes: list.add("artifact_writes", "Objects written", Family::default()),
            live_agents: list.add("live_agents", "Agents that take shards", Family::default()),
            registry: list.0,
        }))
    }

    /// All of it as text, in the format of OpenMetrics.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry).expect("writing to a string does not fail");
        text
    }

    /// A queue holds so many messages, waiting or being worked on.
    pub fn set_queue_depth(&self, queue: Queue, messages: u64) {
        let label = QueueLabel { queue: queue.label() };
        self.0.queue_depth.get_or_create(&label).set(signed(messages));
    }

    /// A message has been settled.
    pub fn record_message(&self, queue: Queue, outcome: &'static str, elapsed: Duration) {
        let queue = queue.label();
        self.0.messages.get_or_create(&MessageLabels { queue, outcome }).inc();
        self.0.message_seconds.get_or_create(&QueueLabel { queue }).observe(elapsed.as_secs_f64());
    }

    /// A backend has executed a shard, with success (`outcome` is `ok`) or not; `iterations` are those it did.
    pub fn record_shard(&self, backend: &str, outcome: &'static str, iterations: u64, elapsed: Duration) {
        let label = BackendLabel { backend: backend.to_owned() };
        self.0.shards_executed.get_or_create(&ShardLabels { backend: backend.to_owned(), outcome }).inc();
        self.0.iterations.get_or_create(&label).inc_by(iterations);
        self.0.shard_seconds.get_or_create(&label).observe(elapsed.as_secs_f64());
    }

    /// A result has come in.
    pub fn count_result(&self, outcome: ResultOutcome) {
        let outcome = match outcome {
            ResultOutcome::Accepted => "accepted",
            ResultOutcome::Duplicate => "duplicate",
            ResultOutcome::Contradiction => "contradiction",
            ResultOutcome::Rejected => "rejected",
        };
        self.0.results.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A verdict has been given.
    pub fn count_verification(&self, outcome: VerdictOutcome) {
        self.0.verifications.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// An agent has been put into quarantine.
    pub fn count_quarantined_agent(&self) {
        self.0.quarantined_agents.inc();
    }

    /// A job has ended.
    pub fn record_job_end(
        &self,
        state: JobState,
        code: Option<FailureCode>,
        billing: &Billing,
        elapsed: Duration,
    ) {
        let labels = JobLabels {
            state: state.as_str(),
            code: code.map_or("none", FailureCode::as_str),
            billing_mode: match billing.mode {
                BillingMode::Billable => "billable",
                BillingMode::Test => "test",
            },
            billing_reason: match billing.reason {
                BillingReason::Api => "api",
                BillingReason::StudioRun => "studio_run",
                BillingReason::Lab => "lab",
                BillingReason::Internal => "internal",
            },
        };
        self.0.jobs.get_or_create(&labels).inc();
        self.0
            .job_seconds
            .get_or_create(&StateLabel { state: state.as_str() })
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a job as active until the answer is dropped.
    pub fn track_active_job(&self) -> ActiveJob {
        self.0.jobs_active.inc();
        ActiveJob(self.clone())
    }

    /// An object has been written, with success (`outcome` is `ok`) or not.
    pub fn count_artifact_write(&self, outcome: &'static str) {
        self.0.artifact_writes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// So many agents of a kind take shards.
    pub fn set_live_agents(&self, target: Target, agents: u32) {
        let label = TargetLabel { target: target_token(target) };
        self.0.live_agents.get_or_create(&label).set(agents.into());
    }
}

/// A job in the hands of this process; see [`Metrics::track_active_job`].
#[derive(Debug)]
#[must_use = "the job counts as active while it lives"]
pub struct ActiveJob(Metrics);

impl Drop for ActiveJob {
    fn drop(&mut self) {
        self.0.0.jobs_active.dec();
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

struct List(Registry);

impl List {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests;
