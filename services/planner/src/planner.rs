//! The service: what it is made of, and its loops.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use forge_bus::{
    BusError, Delivery, Headers, Message, SharedBus,
    topology::{Bucket, Queue},
};
use forge_contract::{quota::Quotas, task::EndOrder};
use forge_service::{
    gauge_reports::report_live_agents,
    job_watch::JobWatch,
    metrics::Metrics,
    model_cache::ModelCache,
    orders,
    program_store::ProgramStore,
    queue_worker::{Concurrency, Handler, QueueSettings, Settlement, serve_queue},
    registry::Registry,
    trace,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::{
    admit::{Admission, Admitted},
    api,
    dead_letters::DeadLetters,
};

/// Compiled models and programs that are kept.
const KEPT: usize = 32;
/// Interval between two updates of metric `forge_live_agents`.
const LIVE_AGENTS_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What an operator chooses.
#[derive(Debug, Clone)]
pub struct PlannerSettings {
    /// Jobs that are handed out at once.
    pub max_jobs: usize,
    /// How long a job waits for `policy.min_agents`.
    pub agent_wait: Duration,
    /// A shard that has not come back for so long is handed out again; twice as long at every further attempt.
    pub shard_patience: Duration,
    /// Buckets of job records that envelopes may name; the first is the default.
    pub namespaces: Vec<String>,
    /// How long a message is left to its receiver without a sign of life.
    pub lease: Duration,
    /// How much each submitter may have.
    pub quotas: Arc<Quotas>,
    /// Compiled models; services of one process share them.
    pub models: Arc<ModelCache>,
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
            models: Arc::new(ModelCache::new(KEPT)),
        }
    }
}

/// The planner.
#[derive(Debug)]
pub struct Planner {
    pub(crate) bus: SharedBus,
    pub(crate) settings: PlannerSettings,
    pub(crate) registry: Registry,
    pub(crate) job_watch: JobWatch,
    pub(crate) programs: ProgramStore,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    /// Held while a job is charged to its submitter.
    pub(crate) charging: Mutex<()>,
}

/// Runs a planner until `stop`.
///
/// # Errors
/// The bus cannot be used as it is.
pub async fn run(
    bus: SharedBus,
    settings: PlannerSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    bus.prepare().await?;
    let planner = Arc::new(Planner::open(bus, settings, metrics, stop).await?);
    let (max_jobs, lease) = (planner.settings.max_jobs, planner.settings.lease);
    let (bus, metrics, stop) = (planner.bus.clone(), planner.metrics.clone(), planner.stop.clone());
    let live_agents = report_live_agents(
        planner.registry.clone(),
        LIVE_AGENTS_REPORT_INTERVAL,
        metrics.clone(),
        stop.clone(),
    );
    let letters = Arc::new(DeadLetters(Arc::clone(&planner)));
    tokio::join!(
        serve_queue(
            bus.clone(),
            QueueSettings { queue: Queue::Jobs, concurrency: Concurrency::new(max_jobs), lease },
            metrics.clone(),
            stop.clone(),
            Arc::clone(&planner)
        ),
        serve_queue(
            bus,
            QueueSettings { queue: Queue::DeadLetters, concurrency: Concurrency::new(8), lease },
            metrics,
            stop,
            letters
        ),
        api::serve(planner),
        live_agents,
    );
    Ok(())
}

#[async_trait]
impl Handler for Planner {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let started = Instant::now();
        let admitted = match self.admit(&delivery.message, delivery.sequence).await {
            Ok(admission) => admission,
            Err(error) => {
                tracing::warn!(%error, "a submission could not be looked at; it is tried again");
                return Settlement::Retry(Duration::from_secs(1));
            }
        };
        match admitted {
            Admission::Known => Settlement::Ack,
            Admission::Ended(job, bucket) => {
                self.sweep(job, bucket);
                Settlement::Ack
            }
            Admission::Refused(order) => self.settle(self.end(order).await),
            Admission::Ours(admitted) => {
                let span = job_span(&admitted, &delivery.message.headers);
                self.drive(*admitted, started).instrument(span).await
            }
        }
    }
}

impl Planner {
    /// A planner on a bus that is prepared.
    ///
    /// # Errors
    /// As the bus.
    pub(crate) async fn open(
        bus: SharedBus,
        settings: PlannerSettings,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Result<Self, BusError> {
        let buckets: Vec<_> = settings.namespaces.iter().cloned().map(Bucket::Jobs).collect();
        Ok(Self {
            registry: Registry::open(bus.clone(), stop.clone()).await?,
            job_watch: JobWatch::open(bus.clone(), &buckets, &stop).await?,
            programs: ProgramStore::new(bus.clone(), KEPT),
            bus,
            settings,
            metrics,
            stop,
            charging: Mutex::new(()),
        })
    }

    /// Has a job ended without a result.
    pub(crate) async fn end(&self, order: EndOrder) -> Result<(), BusError> {
        let (job, code) = (&order.job_id, order.code);
        tracing::info!(%job, %code, message = order.message, "the job is to end");
        let (message, id) = orders::build_end(order);
        self.bus.publish(message, &id).await
    }

    /// Acknowledges when what was to be done is done.
    pub(crate) fn settle(&self, done: Result<(), BusError>) -> Settlement {
        match done {
            Ok(()) => Settlement::Ack,
            Err(error) => {
                tracing::warn!(%error, "not done; it is tried again");
                Settlement::Retry(Duration::from_secs(1))
            }
        }
    }
}

/// The span of a job: in the trace of the message that submitted it, or else in the one that its envelope names.
fn job_span(admitted: &Admitted, headers: &Headers) -> Span {
    let job = &admitted.job;
    let named = job.request.envelope.ctx.trace_id.as_deref().and_then(trace::root_headers);
    let span = tracing::info_span!("job", job_id = %job.id, trace_id = tracing::field::Empty);
    if let Some(root) = named.filter(|_| !trace::has_context(headers)) {
        trace::set_parent(&span, &root);
    }
    if let Some(trace_id) = trace::trace_id(&span) {
        span.record("trace_id", trace_id);
    }
    span
}

/// A message with a JSON payload and the trace context of the current span.
pub(crate) fn message(subject: String, content: &impl serde::Serialize) -> Message {
    let payload = serde_json::to_vec(content).expect("messages are made of strings, numbers and lists");
    let mut message = Message::new(subject, payload);
    trace::inject_context(&mut message.headers);
    message
}
