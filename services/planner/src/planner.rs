//! Wires the planner's components together and serves its queues and its API. Decides nothing.

use std::{sync::Arc, time::Duration};

use forge_bus::{
    BusError, SharedBus,
    topology::{Bucket, Queue},
};
use forge_contract::envelope::Target;
use forge_service::{
    Concurrency, Metrics, QueueSettings, job_watch::JobWatch, metric_reports::report_cluster,
    program_store::ProgramStore, registry::Registry, serve_queue,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    api::{Api, ApiLimits},
    dead_letters::DeadLetterHandler,
    end_requester::EndRequester,
    envelope_reader::EnvelopeReader,
    job_driver::{DispatchLoop, JobDriver, JobPreparer, QueueWatch, SpaceWatch},
    job_lookup::JobLookup,
    job_slots::JobSlots,
    quota_ledger::QuotaLedger,
    record_space::RecordSpace,
    settings::{CACHE_CAPACITY, PlannerSettings},
    submission_handler::SubmissionHandler,
};

/// Interval between two updates of metrics `forge_live_agents` and `forge_jobs_waiting`.
const CLUSTER_REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Dead letters that are handled concurrently.
const CONCURRENT_DEAD_LETTERS: usize = 8;
/// How long a planner that has just started waits for the heartbeats that are already stored.
/// Without them, jobs of an earlier planner would seem to have no live agent.
const HEARTBEAT_WAIT: Duration = Duration::from_millis(500);
/// Interval between two looks for them.
const HEARTBEAT_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Submissions that are received beyond those that hold a slot: they wait for one.
const WAITING_SUBMISSIONS: usize = 64;

/// Runs a planner on a prepared bus until `stop` is cancelled.
///
/// # Errors
/// [`BusError::Unusable`] if the settings name no namespace. Returns any error from opening a watch
/// on the bus. Later bus errors are retried.
pub async fn run(
    bus: SharedBus,
    settings: PlannerSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let (lease, answering) = (settings.lease, Arc::clone(&settings.answering));
    let received_submissions = settings.max_jobs.saturating_add(WAITING_SUBMISSIONS);
    let submission_queue =
        QueueSettings { queue: Queue::Jobs, concurrency: Concurrency::new(received_submissions), lease };
    let dead_letter_queue = QueueSettings {
        queue: Queue::DeadLetters,
        concurrency: Concurrency::new(CONCURRENT_DEAD_LETTERS),
        lease,
    };
    let PlannerParts { submissions, dead_letters, api, registry, job_watch, space, buckets } =
        PlannerParts::open(bus.clone(), settings, metrics.clone(), stop.clone()).await?;
    tokio::join!(
        async {
            wait_for_heartbeats(&registry, &stop).await;
            let handler = Arc::new(submissions);
            serve_queue(bus.clone(), submission_queue, metrics.clone(), stop.clone(), handler).await;
        },
        serve_queue(bus.clone(), dead_letter_queue, metrics.clone(), stop.clone(), Arc::new(dead_letters)),
        api.serve(&answering, &stop),
        space.follow(&bus, &buckets, &metrics, &stop),
        report_cluster(registry.clone(), job_watch, CLUSTER_REPORT_INTERVAL, metrics.clone(), stop.clone()),
    );
    Ok(())
}

/// Waits until the registry knows a live worker, at most [`HEARTBEAT_WAIT`].
async fn wait_for_heartbeats(registry: &Registry, stop: &CancellationToken) {
    let wait = async {
        while registry.live_capacity(Target::Any).agents == 0 {
            sleep(HEARTBEAT_POLL_INTERVAL).await;
        }
    };
    let _ = stop.run_until_cancelled(timeout(HEARTBEAT_WAIT, wait)).await;
}

/// The parts of a planner that [`run`] serves.
struct PlannerParts {
    submissions: SubmissionHandler,
    dead_letters: DeadLetterHandler,
    api: Api,
    registry: Registry,
    job_watch: JobWatch,
    space: Arc<RecordSpace>,
    /// Buckets of job records.
    buckets: Vec<Bucket>,
}

impl PlannerParts {
    /// Opens the watches on a prepared bus and builds every component.
    async fn open(
        bus: SharedBus,
        settings: PlannerSettings,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Result<Self, BusError> {
        let buckets: Vec<_> = settings.namespaces.iter().cloned().map(Bucket::Jobs).collect();
        let Some(default_bucket) = buckets.first().cloned() else {
            return Err(BusError::Unusable("the planner's settings name no namespace".to_owned()));
        };
        let registry = Registry::open(bus.clone(), stop.clone()).await?;
        let job_watch = JobWatch::open(bus.clone(), &buckets, &stop).await?;
        let (models, namespaces) = (Arc::clone(&settings.models), settings.namespaces.clone());
        let reader = EnvelopeReader::new(bus.clone(), models, namespaces.clone(), settings.job_memory);
        let space = Arc::<RecordSpace>::default();
        let ledger = Arc::new(QuotaLedger::new(bus.clone(), Arc::clone(&settings.quotas)));
        let end_requester = EndRequester::new(bus.clone());
        let api = Api {
            bus: bus.clone(),
            reader: reader.with_own_permits(),
            ledger: Arc::clone(&ledger),
            jobs: JobLookup::new(bus.clone(), namespaces),
            job_watch: job_watch.clone(),
            end_requester: end_requester.clone(),
            space: Arc::clone(&space),
            limits: ApiLimits::default(),
        };
        let admission = Admission::new(
            bus.clone(),
            settings.clock,
            reader,
            ledger,
            buckets.clone(),
            default_bucket,
            Arc::clone(&space),
        );
        let submissions = SubmissionHandler {
            bus: bus.clone(),
            slots: JobSlots::new(settings.max_jobs),
            admission,
            end_requester,
            driver: build_driver(&bus, &settings, registry.clone(), job_watch.clone(), metrics, &stop),
            stop,
        };
        let dead_letters = DeadLetterHandler::new(bus);
        Ok(Self { submissions, dead_letters, api, registry, job_watch, space, buckets })
    }
}

/// Builds the job driver. Its watches of queues and space run until `stop` is cancelled.
fn build_driver(
    bus: &SharedBus,
    settings: &PlannerSettings,
    registry: Registry,
    job_watch: JobWatch,
    metrics: Metrics,
    stop: &CancellationToken,
) -> JobDriver {
    let clock = settings.clock;
    let queue_watch = QueueWatch::start(bus.clone(), stop.clone());
    let space_watch = SpaceWatch::start(bus.clone(), stop.clone());
    JobDriver {
        bus: bus.clone(),
        clock,
        job_watch,
        preparer: JobPreparer::new(bus.clone(), clock, ProgramStore::new(bus.clone(), CACHE_CAPACITY)),
        dispatch_loop: DispatchLoop::new(
            bus.clone(),
            registry.clone(),
            queue_watch,
            space_watch,
            settings.shard_patience,
        ),
        registry,
        end_requester: EndRequester::new(bus.clone()),
        agent_wait: settings.agent_wait,
        metrics,
        stop: stop.clone(),
    }
}

#[cfg(test)]
mod tests;
