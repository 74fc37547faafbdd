//! The planner's settings as plain values. Parsing flags and files is the CLI's task.

use std::{sync::Arc, time::Duration};

use forge_contract::quota::Quotas;
use forge_service::{clock::Clock, model_cache::ModelCache};
use tokio::sync::Notify;

/// Capacity of the model cache and of the program cache, in entries.
pub(crate) const CACHE_CAPACITY: usize = 32;

/// What an operator configures about a planner.
#[derive(Debug, Clone)]
pub struct PlannerSettings {
    /// Upper bound on the jobs this planner drives concurrently. Jobs that wait for agents do not
    /// count. When all slots are in use, each one that becomes free goes to the submitter with the
    /// fewest.
    pub max_jobs: usize,
    /// How long a job waits for `policy.min_agents` live agents before it fails.
    pub agent_wait: Duration,
    /// Time after which an in-flight shard counts as overdue and is dispatched again. Doubles with
    /// every further attempt, up to 16 times. It includes the time that the shard waits in its
    /// queue: where queues are longer than this, shards are executed twice, which costs time but
    /// fails no job. A worker that has received a shard gets a tenth of this time, or ten times
    /// the mean execution time if that is longer.
    pub shard_patience: Duration,
    /// Buckets of job records that an envelope may name in `artifacts.kv_namespace`. Must not be
    /// empty: rejected submissions are recorded in the first one.
    pub namespaces: Vec<String>,
    /// Lease on a received message. Must equal the lease with which the bus topology was created. A
    /// longer value lets the bus redeliver a job that is still being driven.
    pub lease: Duration,
    /// Each submitter's limits.
    pub quotas: Arc<Quotas>,
    /// Memory of an aggregator for all its jobs, in bytes. A job that needs more is refused.
    pub job_memory: u64,
    /// Cache of compiled models. Services in one process share it.
    pub models: Arc<ModelCache>,
    /// Dates job records and quotas, and measures how long ago other planners dated them.
    pub clock: Clock,
    /// Notified once the planner answers requests.
    pub answering: Arc<Notify>,
}

impl Default for PlannerSettings {
    fn default() -> Self {
        Self {
            max_jobs: 256,
            agent_wait: Duration::from_secs(30),
            shard_patience: Duration::from_secs(300),
            namespaces: vec!["jobs".to_owned()],
            lease: Duration::from_secs(30),
            quotas: Arc::default(),
            job_memory: 1 << 30,
            models: Arc::new(ModelCache::new(CACHE_CAPACITY)),
            clock: Clock::default(),
            answering: Arc::default(),
        }
    }
}
