//! The service: what it is made of, and its loop.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{
    Bus, BusError, Delivery, SharedBus,
    topology::{Bucket, Queue},
};
use forge_contract::{
    agent::Identity,
    artifact::{Execution, VerificationDocument},
    envelope::Target,
    task::AggregatorOrder,
};
use forge_documents::{Job, JobResult};
use forge_kernel::KERNEL;
use forge_service::{
    job_watch::JobWatch,
    metrics::Metrics,
    model_cache::ModelCache,
    queue_worker::{Concurrency, Handler, QueueSettings, Settlement, serve_queue},
    registry::{self, Registry, Role},
};
use forge_store::Store;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Compiled models that are kept.
const KEPT: usize = 32;
/// Jobs that are ended without a result at once.
const ENDS_AT_ONCE: usize = 64;
/// The key in bucket `forge_secrets` under which the secret lies that chooses shards for a check.
const VERIFY_KEY: &str = "verify_key";

/// What an operator chooses.
#[derive(Debug, Clone)]
pub struct AggregatorSettings {
    /// Jobs that are taken in at once.
    pub max_jobs: usize,
    /// How long the store may be away before a job fails.
    pub store_patience: Duration,
    /// Buckets of job records that envelopes may name; the first is the default.
    pub namespaces: Vec<String>,
    /// How long a message is left to its receiver without a sign of life.
    pub lease: Duration,
    /// Compiled models; services of one process share them.
    pub models: Arc<ModelCache>,
    /// Also keep every shard's result, as `shards.bin`. They are held in memory.
    pub keep_shards: bool,
    /// Where completed jobs are told of, beside their records.
    pub completions: Option<mpsc::UnboundedSender<JobCompletion>>,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            max_jobs: 256,
            store_patience: Duration::from_secs(600),
            namespaces: vec!["jobs".to_owned()],
            lease: Duration::from_secs(30),
            models: Arc::new(ModelCache::new(KEPT)),
            keep_shards: false,
            completions: None,
        }
    }
}

/// A completed job, for whoever shares the process.
#[derive(Debug)]
pub struct JobCompletion {
    /// The job.
    pub job: Arc<Job>,
    /// What its result says.
    pub job_result: JobResult,
    /// Who executed what.
    pub executions: Vec<Execution>,
    /// What was verified.
    pub verification: VerificationDocument,
    /// From the order to reduce to the last result.
    pub executing: Duration,
    /// Where the manifest lies, if one is kept.
    pub manifest: Option<String>,
    /// Whether an earlier run of the job had stored it.
    pub stored_before: bool,
}

/// The aggregator.
#[derive(Debug)]
pub(crate) struct Aggregator {
    pub bus: SharedBus,
    pub store: Arc<Store>,
    pub identity: Identity,
    pub settings: AggregatorSettings,
    pub registry: Registry,
    pub job_watch: JobWatch,
    pub verify_key: Vec<u8>,
    pub metrics: Metrics,
    pub stop: CancellationToken,
}

/// Runs an aggregator until `stop`.
///
/// # Errors
/// The bus cannot be used as it is.
pub async fn run(
    bus: SharedBus,
    store: Arc<Store>,
    identity: Identity,
    settings: AggregatorSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    bus.prepare().await?;
    let buckets: Vec<_> = settings.namespaces.iter().cloned().map(Bucket::Jobs).collect();
    let record = registry::agent_record(&identity, Target::Any, registry::AgentCapacity::none(), KERNEL);
    let heartbeat = registry::register(bus.clone(), Role::Aggregator, record, stop.clone()).await?;
    let aggregator = Arc::new(Aggregator {
        registry: Registry::open(bus.clone(), stop.clone()).await?,
        job_watch: JobWatch::open(bus.clone(), &buckets, &stop).await?,
        verify_key: verify_key(bus.as_ref()).await?,
        bus: bus.clone(),
        store,
        identity,
        settings,
        metrics: metrics.clone(),
        stop: stop.clone(),
    });
    let (limit, lease) = (aggregator.settings.max_jobs, aggregator.settings.lease);
    tokio::join!(
        serve_queue(
            bus.clone(),
            QueueSettings { queue: Queue::Reduce, concurrency: Concurrency::new(limit), lease },
            metrics.clone(),
            stop.clone(),
            aggregator.clone()
        ),
        serve_queue(
            bus,
            QueueSettings { queue: Queue::End, concurrency: Concurrency::new(ENDS_AT_ONCE), lease },
            metrics,
            stop,
            aggregator
        ),
    );
    let _ = heartbeat.await;
    Ok(())
}

/// The secret that chooses shards for a check: made by the first aggregator, the same for all from then on.
async fn verify_key(bus: &dyn Bus) -> Result<Vec<u8>, BusError> {
    let mut fresh = [0; 32];
    let random = getrandom::fill(&mut fresh);
    random.map_err(|error| BusError::Unusable(format!("the system gives no randomness: {error}")))?;
    loop {
        let found = bus.get(&Bucket::Secrets, VERIFY_KEY).await?;
        if let Some(key) = found.and_then(|entry| entry.value) {
            return Ok(key.to_vec());
        }
        bus.compare_and_set(&Bucket::Secrets, VERIFY_KEY, fresh.to_vec().into(), None).await?;
    }
}

#[async_trait]
impl Handler for Aggregator {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        match serde_json::from_slice::<AggregatorOrder>(&delivery.message.payload) {
            Ok(AggregatorOrder::Reduce(order)) => self.take_in(*order).await,
            Ok(AggregatorOrder::End(order)) => self.end(order).await,
            Err(error) => {
                let subject = &delivery.message.subject;
                tracing::error!(%error, subject, "an order that cannot be read is dropped");
                Settlement::Ack
            }
        }
    }
}
