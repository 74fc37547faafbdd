//! The metrics of a service process, in the OpenMetrics text format; [`CATALOG`] lists them all.
//! Every series has the label `service`. Job ids, subjects and agent ids are never labels: their
//! number is unbounded.

mod catalog;
mod labels;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use forge_bus::topology::{Queue, Stream, target_token};
use forge_contract::{
    envelope::{Billing, BillingMode, BillingReason, Target},
    error::FailureCode,
    job::JobState,
    verdict::VerdictOutcome,
};
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};

pub use self::catalog::{CATALOG, MetricFamily, MetricType};
use self::labels::{
    BackendLabel, BucketLabel, JobLabels, MessageLabels, OutcomeLabel, QueueLabel, ShardLabels, StateLabel,
    StreamLabel, TargetLabel, VersionLabel,
};

/// The metrics of a process. Clones share their values.
#[derive(Clone)]
pub struct Metrics(Arc<MetricSeries>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What an aggregator does with a result that it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultOutcome {
    /// The result counts.
    Accepted,
    /// The result counts once a verifier has confirmed it.
    Held,
    /// The shard has the same result already.
    Duplicate,
    /// The shard has another result already, which differs.
    Contradiction,
    /// The result is invalid, or its agent or pool is in quarantine.
    Rejected,
    /// The message cannot be read, or answers no task that was issued.
    Unknown,
}

impl ResultOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Duplicate => "duplicate",
            Self::Contradiction => "contradiction",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }
}

struct MetricSeries {
    registry: Registry,
    queue_depth: Family<QueueLabel, Gauge>,
    unreadable_messages: Counter,
    bucket_used_percent: Family<BucketLabel, Gauge>,
    messages: Family<MessageLabels, Counter>,
    message_seconds: TimeFamily<QueueLabel>,
    shards_executed: Family<ShardLabels, Counter>,
    iterations: Family<BackendLabel, Counter>,
    shard_seconds: TimeFamily<BackendLabel>,
    results: Family<OutcomeLabel, Counter>,
    verifications: Family<OutcomeLabel, Counter>,
    quarantined_agents: Counter,
    quarantined_pools: Counter,
    jobs: Family<JobLabels, Counter>,
    job_seconds: TimeFamily<StateLabel>,
    jobs_active: Gauge,
    jobs_waiting: Gauge,
    stream_used_percent: Family<StreamLabel, Gauge>,
    artifact_writes: Family<OutcomeLabel, Counter>,
    live_agents: Family<TargetLabel, Gauge>,
}

type TimeFamily<L> = Family<L, Histogram, TimeBuckets>;

/// Number of histogram buckets. The first bucket ends at 1 ms, each further one at twice the bound
/// of the one before.
#[derive(Debug, Clone, Copy)]
struct TimeBuckets(u16);

impl MetricConstructor<Histogram> for TimeBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, self.0))
    }
}

/// Up to 65 seconds.
const SECONDS_BUCKETS: TimeBuckets = TimeBuckets(17);
/// Up to 9 hours.
const HOURS_BUCKETS: TimeBuckets = TimeBuckets(26);

impl Metrics {
    /// The metrics of a process that runs `service`.
    pub fn new(service: &'static str) -> Self {
        let labels = [("service".into(), service.into())];
        let mut registry = Registry::with_prefix_and_labels("forge", labels.into_iter());
        let up: Family<VersionLabel, Gauge> = register(&mut registry, &catalog::UP, Family::default());
        up.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        Self(Arc::new(MetricSeries {
            queue_depth: register(&mut registry, &catalog::QUEUE_DEPTH, Family::default()),
            unreadable_messages: register(&mut registry, &catalog::UNREADABLE_MESSAGES, Counter::default()),
            stream_used_percent: register(&mut registry, &catalog::STREAM_USED_PERCENT, Family::default()),
            bucket_used_percent: register(&mut registry, &catalog::BUCKET_USED_PERCENT, Family::default()),
            messages: register(&mut registry, &catalog::MESSAGES, Family::default()),
            message_seconds: register(
                &mut registry,
                &catalog::MESSAGE_SECONDS,
                TimeFamily::new_with_constructor(HOURS_BUCKETS),
            ),
            shards_executed: register(&mut registry, &catalog::SHARDS_EXECUTED, Family::default()),
            iterations: register(&mut registry, &catalog::ITERATIONS, Family::default()),
            shard_seconds: register(
                &mut registry,
                &catalog::SHARD_SECONDS,
                TimeFamily::new_with_constructor(SECONDS_BUCKETS),
            ),
            results: register(&mut registry, &catalog::RESULTS, Family::default()),
            verifications: register(&mut registry, &catalog::VERIFICATIONS, Family::default()),
            quarantined_agents: register(&mut registry, &catalog::QUARANTINED_AGENTS, Counter::default()),
            quarantined_pools: register(&mut registry, &catalog::QUARANTINED_POOLS, Counter::default()),
            jobs: register(&mut registry, &catalog::JOBS, Family::default()),
            job_seconds: register(
                &mut registry,
                &catalog::JOB_SECONDS,
                TimeFamily::new_with_constructor(HOURS_BUCKETS),
            ),
            jobs_active: register(&mut registry, &catalog::JOBS_ACTIVE, Gauge::default()),
            jobs_waiting: register(&mut registry, &catalog::JOBS_WAITING, Gauge::default()),
            artifact_writes: register(&mut registry, &catalog::ARTIFACT_WRITES, Family::default()),
            live_agents: register(&mut registry, &catalog::LIVE_AGENTS, Family::default()),
            registry,
        }))
    }

    /// Encodes all series in the OpenMetrics text format. A family without values is left out.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry).expect("writing to a string cannot fail");
        text
    }

    /// Sets how much of a bucket's space is in use, in percent.
    pub fn set_bucket_used(&self, bucket: &str, percent: u64) {
        let label = BucketLabel { bucket: bucket.to_owned() };
        self.0.bucket_used_percent.get_or_create(&label).set(to_i64(percent));
    }

    /// Sets how much of a stream's space is in use, in percent.
    pub fn set_stream_used(&self, stream: Stream, percent: u64) {
        self.0.stream_used_percent.get_or_create(&StreamLabel { stream: stream.name() }).set(to_i64(percent));
    }

    /// Sets the number of messages of a queue that are waiting or in flight.
    pub fn set_queue_depth(&self, queue: Queue, messages: u64) {
        self.0.queue_depth.get_or_create(&QueueLabel { queue: queue.label() }).set(to_i64(messages));
    }

    /// Raises the number of messages stepped over to `total`, the number since the process started.
    pub fn set_unreadable_messages(&self, total: u64) {
        self.0.unreadable_messages.inner().fetch_max(total, Ordering::Relaxed);
    }

    /// Records a handled message; `elapsed` is the time from its receipt to its settlement.
    pub fn record_message(&self, queue: Queue, outcome: &'static str, elapsed: Duration) {
        let queue = queue.label();
        self.0.messages.get_or_create(&MessageLabels { queue, outcome }).inc();
        self.0.message_seconds.get_or_create(&QueueLabel { queue }).observe(elapsed.as_secs_f64());
    }

    /// Records a successful execution of a shard.
    pub fn record_shard(&self, backend: &str, iterations: u64, elapsed: Duration) {
        self.record_execution(backend, "ok", iterations, elapsed);
    }

    /// Records a failed execution of a shard, with zero iterations and zero time.
    pub fn record_failed_shard(&self, backend: &str) {
        self.record_execution(backend, "failed", 0, Duration::ZERO);
    }

    fn record_execution(&self, backend: &str, outcome: &'static str, iterations: u64, elapsed: Duration) {
        let label = BackendLabel { backend: backend.to_owned() };
        self.0.shards_executed.get_or_create(&ShardLabels { backend: backend.to_owned(), outcome }).inc();
        self.0.iterations.get_or_create(&label).inc_by(iterations);
        self.0.shard_seconds.get_or_create(&label).observe(elapsed.as_secs_f64());
    }

    /// Counts a result that an aggregator received.
    pub fn count_result(&self, outcome: ResultOutcome) {
        self.0.results.get_or_create(&OutcomeLabel { outcome: outcome.label() }).inc();
    }

    /// Counts a verdict.
    pub fn count_verification(&self, outcome: VerdictOutcome) {
        self.0.verifications.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// Counts an agent that was put into quarantine.
    pub fn count_quarantined_agent(&self) {
        self.0.quarantined_agents.inc();
    }

    /// Counts a pool that was put into quarantine.
    pub fn count_quarantined_pool(&self) {
        self.0.quarantined_pools.inc();
    }

    /// Records the end of a job; `elapsed` is the time since its submission.
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
        let state = StateLabel { state: labels.state };
        self.0.jobs.get_or_create(&labels).inc();
        self.0.job_seconds.get_or_create(&state).observe(elapsed.as_secs_f64());
    }

    /// Counts a job as active until the returned guard is dropped.
    pub fn track_active_job(&self) -> ActiveJob {
        self.0.jobs_active.inc();
        ActiveJob(self.clone())
    }

    /// Counts a job's set of artifacts that was written; `outcome` is `ok` or `failed`.
    pub fn count_artifact_write(&self, outcome: &'static str) {
        self.0.artifact_writes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Sets the number of jobs that wait.
    pub fn set_jobs_waiting(&self, jobs: usize) {
        self.0.jobs_waiting.set(to_i64(jobs as u64));
    }

    /// Sets the number of live workers that take shards of `target`.
    pub fn set_live_agents(&self, target: Target, agents: u32) {
        let label = TargetLabel { target: target_token(target) };
        self.0.live_agents.get_or_create(&label).set(agents.into());
    }
}

/// Keeps a job counted as active; see [`Metrics::track_active_job`].
#[derive(Debug)]
#[must_use = "the job counts as active until this guard is dropped"]
pub struct ActiveJob(Metrics);

impl Drop for ActiveJob {
    fn drop(&mut self) {
        self.0.0.jobs_active.dec();
    }
}

fn register<M: Metric + Clone>(registry: &mut Registry, family: &MetricFamily, metric: M) -> M {
    registry.register(family.registered_name(), family.help, metric.clone());
    metric
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
