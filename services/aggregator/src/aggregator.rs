//! The service: its settings, the wiring of its components, and the dispatch of orders to them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{
    BusError, Delivery, SharedBus,
    topology::{Bucket, Queue},
};
use forge_contract::{
    agent::Identity,
    artifact::Phase,
    envelope::Target,
    error::FailureCode,
    protocol::{UnreadableMessage, parse_message},
    task::{AggregatorOrder, EndOrder, ReduceOrder},
};
use forge_kernel::KERNEL;
use forge_service::{
    clock::Clock,
    job_watch::JobWatch,
    memory_budget::MemoryBudget,
    metrics::Metrics,
    model_cache::{CONCURRENT_COMPILATIONS, ModelCache},
    queue_worker::{Concurrency, Handler, QueueSettings, Settlement, serve_queue},
    registry::{self, AgentCapacity, Registry, Role},
};
use forge_store::Store;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    discarded_results::DiscardedResults,
    earlier_manifest::EarlierManifestPolicy,
    janitor,
    job_reducer::{JobCompletion, JobReducer},
    kept_results::ResultMemory,
    manifest_log::ManifestLog,
    pool_quarantine::PoolQuarantine,
    publisher::Publisher,
    reduction_slots::ReductionSlots,
    result_collector::ResultCollector,
    termination::{Requester, Termination},
};

/// Capacity of the default model cache, in models.
const CACHED_MODELS: usize = 32;
/// Upper bound on the jobs that are ended without a result at the same time.
const MAX_CONCURRENT_ENDS: usize = 64;
/// Delay before the retry of an order of another protocol version: another aggregator may read it.
/// No operation has failed, so it does not grow.
const OTHER_VERSION_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Interval at which it is checked whether jobs still wait for memory.
const MEMORY_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Settings of an aggregator.
#[derive(Debug, Clone)]
pub struct AggregatorSettings {
    /// Upper bound on the jobs that are reduced at the same time.
    pub max_jobs: usize,
    /// How long to retry while the store is unavailable, before a job fails.
    pub store_patience: Duration,
    /// How long the records of ended jobs are kept; `None` for ever.
    pub record_retention: Option<Duration>,
    /// Buckets of job records that envelopes may name; the first is the default.
    pub namespaces: Vec<String>,
    /// Time after which the bus redelivers a message whose receiver has not renewed its lease.
    pub lease: Duration,
    /// Compiled models, which services of one process share.
    pub models: Arc<ModelCache>,
    /// Upper bound on the shard results of a job, in bytes, that are kept in memory and stored as
    /// `shards.bin`; a job with larger results keeps none. Results have some 40 kB a shard.
    pub max_kept_bytes: u64,
    /// Memory for all jobs together, in bytes: what each one needs at most is reserved before the
    /// job is taken. Kept results take what is spare.
    pub job_memory: u64,
    /// Number of quarantined agents of a pool that bring the whole pool into quarantine; 0 for
    /// never.
    pub pool_quarantine_after: usize,
    /// Whether a job keeps a manifest that an earlier submission of the same envelope stored, under
    /// a key that this cluster does not know, as `forge run` does. Otherwise the job fails.
    pub keeps_earlier_runs: bool,
    /// Dates the changes of job records and the entries of the log.
    pub clock: Clock,
    /// Receives completed jobs, in addition to their records.
    pub completions: Option<mpsc::UnboundedSender<JobCompletion>>,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            max_jobs: 256,
            store_patience: Duration::from_secs(600),
            record_retention: Some(Duration::from_secs(30 * 24 * 3600)),
            namespaces: vec!["jobs".to_owned()],
            lease: Duration::from_secs(30),
            models: Arc::new(ModelCache::new(CACHED_MODELS)),
            max_kept_bytes: 64 << 20,
            job_memory: 1 << 30,
            pool_quarantine_after: 3,
            keeps_earlier_runs: false,
            clock: Clock::default(),
            completions: None,
        }
    }
}

/// Runs an aggregator on a prepared bus until `stop` is cancelled.
///
/// # Errors
/// Returns any error of the bus while the service starts.
pub async fn run(
    bus: SharedBus,
    store: Arc<Store>,
    identity: Identity,
    settings: AggregatorSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let record = registry::agent_record(&identity, Target::Any, AgentCapacity::none(), KERNEL);
    let heartbeat = registry::register(bus.clone(), Role::Aggregator, record, stop.clone()).await?;
    let (max_jobs, lease) = (settings.max_jobs, settings.lease);
    let budget = MemoryBudget::new(settings.job_memory);
    let aggregator =
        Aggregator::start(&bus, store, identity, settings, budget.clone(), &metrics, &stop).await?;
    let aggregator = Arc::new(aggregator);
    // While a job waits for memory, the orders that follow it are left to other aggregators.
    let reductions =
        Concurrency::new(max_jobs).with_pause(move || budget.has_waiters().then_some(MEMORY_POLL_INTERVAL));
    let serve = |queue, concurrency| {
        let settings = QueueSettings { queue, concurrency, lease };
        serve_queue(bus.clone(), settings, metrics.clone(), stop.clone(), Arc::clone(&aggregator))
    };
    tokio::join!(
        serve(Queue::Reduce, reductions),
        serve(Queue::End, Concurrency::new(MAX_CONCURRENT_ENDS)),
        janitor::purge_unknown_jobs(bus.clone(), stop.clone()),
    );
    let _ = heartbeat.await;
    Ok(())
}

/// Dispatches orders to the components that carry them out.
#[derive(Debug)]
struct Aggregator {
    reducer: JobReducer,
    termination: Arc<Termination>,
}

impl Aggregator {
    /// Builds the components. Background tasks that follow the bus run until `stop` is cancelled.
    async fn start(
        bus: &SharedBus,
        store: Arc<Store>,
        identity: Identity,
        settings: AggregatorSettings,
        budget: MemoryBudget,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Result<Self, BusError> {
        let identity = Arc::new(identity);
        let AggregatorSettings { store_patience, namespaces, models, max_kept_bytes, clock, .. } = settings;
        let registry = Registry::open_without_workers(bus.clone(), stop.clone()).await?;
        let buckets: Vec<_> = namespaces.into_iter().map(Bucket::Jobs).collect();
        let collector = ResultCollector {
            bus: bus.clone(),
            clock,
            registry: registry.clone(),
            pool_quarantine: PoolQuarantine {
                bus: bus.clone(),
                registry: registry.clone(),
                metrics: metrics.clone(),
                threshold: settings.pool_quarantine_after,
            },
            metrics: metrics.clone(),
            memory: ResultMemory { max_kept_bytes, budget: budget.clone() },
            slots: ReductionSlots::new(settings.max_jobs, budget.clone()),
            discarded: DiscardedResults::start(bus.clone(), stop.clone()),
        };
        let earlier_manifests = match settings.keeps_earlier_runs {
            true => EarlierManifestPolicy::SameEnvelope,
            false => EarlierManifestPolicy::SameSubmission(registry),
        };
        let publisher = Publisher {
            store: Arc::clone(&store),
            log: ManifestLog::new(Arc::clone(&store), Arc::clone(&identity), clock),
            identity,
            earlier_manifests,
            metrics: metrics.clone(),
            patience: store_patience,
        };
        let termination = Arc::new(Termination {
            bus: bus.clone(),
            clock,
            store,
            metrics: metrics.clone(),
            store_patience,
            record_retention: settings.record_retention,
        });
        let reducer = JobReducer {
            bus: bus.clone(),
            clock,
            job_watch: JobWatch::open(bus.clone(), &buckets, stop).await?,
            models,
            compilations: Semaphore::new(CONCURRENT_COMPILATIONS),
            budget,
            collector,
            publisher,
            termination: Arc::clone(&termination),
            completions: settings.completions,
            stop: stop.clone(),
        };
        Ok(Self { reducer, termination })
    }
}

#[async_trait]
impl Handler for Aggregator {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        match parse_message::<AggregatorOrder>(&delivery.message.payload) {
            Ok(AggregatorOrder::Reduce(order)) => self.reducer.reduce(*order).await,
            Ok(AggregatorOrder::End(order)) => self.termination.end(order).await,
            Err(error @ UnreadableMessage::OtherVersion(_)) => {
                let subject = &delivery.message.subject;
                tracing::warn!(%error, subject, "leaving an order to an aggregator of its version");
                Settlement::Retry(OTHER_VERSION_RETRY_DELAY)
            }
            Err(error) => {
                let subject = &delivery.message.subject;
                tracing::error!(%error, subject, "dropping an order that cannot be decoded");
                Settlement::Ack
            }
        }
    }
    async fn give_up(&self, delivery: Delivery, reason: String) -> Settlement {
        match parse_message(&delivery.message.payload) {
            Ok(AggregatorOrder::Reduce(order)) => {
                let ReduceOrder { job_id, job_uid, envelope, .. } = *order;
                let (namespace, code) = (envelope.artifacts.kv_namespace, FailureCode::Internal);
                let order = EndOrder::new(job_id, job_uid, namespace, code, Phase::Reduce, reason);
                self.termination.settle_end(order, Requester::Reducer).await
            }
            Ok(AggregatorOrder::End(order)) => {
                let EndOrder { job_id, job_uid, namespace, code, phase, .. } = order;
                let reason = format!("{reason}; the order to end the job had code {code}");
                let order = EndOrder::new(job_id, job_uid, namespace, FailureCode::Internal, phase, reason);
                self.termination.settle_end(order, Requester::EndOrder).await
            }
            Err(_) => Settlement::Backoff,
        }
    }
}
