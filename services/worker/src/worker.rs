//! The worker's message handler and its life cycle. A shard is acknowledged only after its result
//! is stored on the bus.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{
    BusError, Delivery, Message, SharedBus,
    retry::RetryPolicy,
    topology::{self, JobLength, Queue},
};
use forge_contract::{
    agent::Identity,
    envelope::Target,
    ids::{JobUid, PoolName},
    program::Program,
    protocol::{UnreadableMessage, parse_message},
    task::ShardTask,
};
use forge_kernel::{KERNEL, backend::Backend};
use forge_service::{
    executor::{ExecutionFailure, Executor, ShardExecution},
    metrics::Metrics,
    program_store::{ProgramError, ProgramStore},
    queue_worker::{Concurrency, Handler, QueueSettings, Settlement, serve_queue},
    registry::{self, AgentCapacity, QuarantineScope},
    retry::{retry_transient, retry_until_stopped},
    shard_messages,
};
use futures_util::{StreamExt, future::join_all};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    backend_breaker::BackendBreaker,
    in_flight::{InFlight, InFlightGuard, PERMITS},
};

/// Interval between two checks whether the job of a result that cannot be published has ended.
const END_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Redelivery delay of a shard that this worker cannot execute but another one may. No operation
/// has failed, so it does not grow.
const OTHER_WORKER_DELAY: Duration = Duration::from_secs(5);
/// Between the deliveries of a shard whose execution failed. Short, because the backend's breaker
/// pauses the worker itself.
const EXECUTION_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(1));
/// Decoded programs in the cache.
const CACHED_PROGRAMS: usize = 16;
/// Interval between checks whether this agent is in quarantine.
const QUARANTINE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Settings of a worker.
#[derive(Clone)]
pub struct WorkerSettings {
    /// Executes the shards.
    pub executor: Executor,
    /// Shards executed at once, of short jobs and of long ones each.
    pub slots: usize,
    /// Hardware that the worker takes shards for, besides those for `any`.
    pub target: Target,
    /// Whether the worker takes shards for `any`. One with a CPU beside a GPU leaves them to the
    /// GPU.
    pub accepts_any_target: bool,
    /// Lease that the bus grants on a message.
    pub lease: Duration,
    /// Pool under which the worker publishes heartbeats and results. Its NATS credential must
    /// permit it.
    pub pool: PoolName,
}

struct Worker {
    bus: SharedBus,
    backend: Arc<dyn Backend>,
    identity: Identity,
    pool: PoolName,
    executor: Executor,
    programs: ProgramStore,
    in_flight: Arc<InFlight>,
    breaker: Arc<BackendBreaker>,
    metrics: Metrics,
}

/// Runs a worker on a prepared bus until `stop` is cancelled; shards that are being executed then
/// get [`forge_service::SHUTDOWN_GRACE_PERIOD`] to complete.
///
/// # Errors
/// Returns [`BusError::Unusable`] when the agent or its pool is in quarantine.
pub async fn run(
    bus: SharedBus,
    backend: Arc<dyn Backend>,
    identity: Identity,
    settings: WorkerSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let calls = Executor::concurrent_calls(backend.as_ref(), settings.slots);
    let capacity = AgentCapacity::new(&[Arc::clone(&backend)], calls);
    let in_flight = Arc::new(InFlight::new(capacity.slots));
    let record = registry::agent_record(&identity, settings.target, capacity, KERNEL);
    let stop_heartbeat = CancellationToken::new();
    let heartbeat = retry_until_stopped(&stop, "registering the worker", || {
        registry::register_worker(bus.clone(), settings.pool.clone(), record.clone(), stop_heartbeat.clone())
    });
    let Some(heartbeat) = heartbeat.await else { return Ok(()) };
    let worker = Arc::new(Worker {
        executor: settings.executor.clone(),
        programs: ProgramStore::new(bus.clone(), CACHED_PROGRAMS),
        in_flight,
        breaker: Arc::default(),
        bus,
        backend,
        identity,
        pool: settings.pool.clone(),
        metrics,
    });
    let result = worker.serve(&settings, stop).await;
    stop_heartbeat.cancel();
    let _ = heartbeat.await;
    result
}

/// Handles the shards of short or of long jobs.
struct ShardHandler {
    worker: Arc<Worker>,
    length: JobLength,
}

#[async_trait]
impl Handler for ShardHandler {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let subject = delivery.message.subject;
        match parse_message::<ShardTask>(&delivery.message.payload) {
            Ok(task) => {
                let guard = self.worker.in_flight.add(task.job_uid);
                self.worker.process(self.length, task, delivery.attempt, &guard).await
            }
            Err(error @ UnreadableMessage::OtherVersion(_)) => {
                tracing::warn!(%error, subject, "leaving the shard to other workers");
                Settlement::Retry(OTHER_WORKER_DELAY)
            }
            // If no worker can parse it, it becomes a dead letter, and a verifier executes the
            // shard.
            Err(error @ UnreadableMessage::Malformed(_)) => {
                tracing::error!(%error, subject, "parsing a shard failed; leaving it to other workers");
                Settlement::Retry(OTHER_WORKER_DELAY)
            }
        }
    }
}

impl Worker {
    /// Serves the queues of the worker's target until `stop` is cancelled or the agent or its pool
    /// is in quarantine.
    async fn serve(
        self: &Arc<Self>,
        settings: &WorkerSettings,
        stop: CancellationToken,
    ) -> Result<(), BusError> {
        let stop_receiving = stop.child_token();
        let queues = async {
            let targets = match (settings.target, settings.accepts_any_target) {
                (Target::Any, _) => vec![Target::Any],
                (target, true) => vec![target, Target::Any],
                (target, false) => vec![target],
            };
            let queues = targets.into_iter().flat_map(|target| JobLength::ALL.map(|length| (target, length)));
            join_all(queues.map(|queue| self.serve_queue(queue, settings, &stop_receiving))).await;
        };
        let quarantine = async {
            let error = self.wait_for_quarantine().await;
            stop_receiving.cancel();
            error
        };
        let job_ends = self.stop_ended_jobs();
        tokio::pin!(queues, quarantine, job_ends);
        let mut quarantine_error = None;
        loop {
            tokio::select! {
                biased;
                () = &mut queues => break,
                error = &mut quarantine, if quarantine_error.is_none() => quarantine_error = Some(error),
                () = &mut job_ends => break,
            }
        }
        quarantine_error.map_or(Ok(()), Err)
    }

    async fn serve_queue(
        self: &Arc<Self>,
        (target, length): (Target, JobLength),
        settings: &WorkerSettings,
        stop: &CancellationToken,
    ) {
        let (in_flight, breaker) = (Arc::clone(&self.in_flight), Arc::clone(&self.breaker));
        let pausing_breaker = Arc::clone(&breaker);
        // One shard is enough to probe a backend that has failed.
        let weight = move || if breaker.is_tripped() { PERMITS } else { in_flight.permits_per_shard(length) };
        let concurrency =
            Concurrency::weighted(PERMITS, weight).with_pause(move || pausing_breaker.remaining_pause());
        let queue = Queue::Shards(target, length);
        let settings = QueueSettings { queue, concurrency, lease: settings.lease };
        let handler = Arc::new(ShardHandler { worker: Arc::clone(self), length });
        serve_queue(self.bus.clone(), settings, self.metrics.clone(), stop.clone(), handler).await;
    }

    /// Returns once the agent or its pool is in quarantine, with the error that tells the operator
    /// what to do. An error of reading the bucket is no quarantine.
    async fn wait_for_quarantine(&self) -> BusError {
        let (pool, id) = (&self.pool, self.identity.id());
        loop {
            sleep(QUARANTINE_CHECK_INTERVAL).await;
            let text = match registry::find_quarantine(&self.bus, pool, id).await {
                Ok(Some(QuarantineScope::Agent)) => format!(
                    "agent {id} is in quarantine: it returned a wrong result. Test this machine's memory and \
                     processor; then run `forge quarantine lift {id}`"
                ),
                Ok(Some(QuarantineScope::Pool)) => format!(
                    "pool {pool} is in quarantine: several of its agents returned wrong results. Test their \
                     machines; then run `forge quarantine lift {pool}`"
                ),
                Ok(None) | Err(_) => continue,
            };
            return BusError::Unusable(text);
        }
    }

    /// Processes a shard. One whose job has ended is acknowledged without a result: returned, it
    /// would be delivered again, and become a dead letter of a job that no planner drives.
    async fn process(
        &self,
        length: JobLength,
        task: ShardTask,
        attempt: u64,
        guard: &InFlightGuard,
    ) -> Settlement {
        let (job, shard) = (task.job_uid, task.shard_id);
        if guard.stop.is_stopped() {
            return Settlement::Ack;
        }
        if attempt > 1 {
            tracing::info!(%job, %shard, attempt, "processing a redelivered shard");
        }
        if task.kernel != KERNEL {
            tracing::warn!(%job, kernel = task.kernel, "the shard needs another kernel version; leaving it to other workers");
            return Settlement::Retry(OTHER_WORKER_DELAY);
        }
        let program = match self.programs.get(task.program).await {
            Ok(program) => program,
            Err(error @ ProgramError::Damaged(..)) => {
                tracing::error!(%job, %shard, %error, "loading the program failed; leaving the shard to other workers");
                return Settlement::Retry(OTHER_WORKER_DELAY);
            }
            Err(error) => {
                tracing::warn!(%job, %shard, %error, "loading the program failed; retrying");
                return Settlement::Backoff;
            }
        };
        self.execute(length, (task, attempt), program, guard).await
    }

    /// Executes a shard at its delivery number `attempt`, and publishes the result.
    async fn execute(
        &self,
        length: JobLength,
        (task, attempt): (ShardTask, u64),
        program: Arc<Program>,
        guard: &InFlightGuard,
    ) -> Settlement {
        let (job, shard, backend) = (task.job_uid, task.shard_id, self.backend.name());
        let (executing, stop) = (Arc::clone(&self.backend), guard.stop.clone());
        let execution = self.executor.execute(length, executing, program, task.clone(), stop);
        match execution.await {
            Ok(execution) => {
                self.breaker.record_success();
                self.metrics.record_shard(backend, execution.iterations, execution.wall);
                self.in_flight.record_shard_time(length, execution.wall);
                tracing::debug!(%job, %shard, wall = ?execution.wall, "shard executed");
                self.publish_result(&task, &execution, guard).await
            }
            Err(ExecutionFailure::Stopped) if guard.stop.is_stopped() => Settlement::Ack,
            // This process is stopping, and another worker takes the shard.
            Err(ExecutionFailure::Stopped) => Settlement::Retry(Duration::ZERO),
            Err(ExecutionFailure::Backend(reason) | ExecutionFailure::Crashed(reason)) => {
                tracing::error!(%job, %shard, reason, "executing the shard failed; retrying");
                self.metrics.record_failed_shard(backend);
                if let Some(pause) = self.breaker.record_failure() {
                    tracing::warn!(
                        backend,
                        ?pause,
                        "the backend failed; receiving no shards during the pause"
                    );
                }
                Settlement::Retry(EXECUTION_POLICY.delay(attempt))
            }
        }
    }

    /// Publishes a result. One that is too large for a message is returned without its content.
    async fn publish_result(
        &self,
        task: &ShardTask,
        execution: &ShardExecution,
        guard: &InFlightGuard,
    ) -> Settlement {
        let (job, shard) = (task.job_uid, task.shard_id);
        let mut published = self.publish_until_ended(task, execution, guard).await;
        if let Some(Err(error @ BusError::TooLarge { .. })) = &published {
            tracing::error!(%job, %shard, %error, "the result is too large for a message; returning it without its content");
            // The aggregator rejects it, so that the shard goes to others at once, and to a
            // verifier in the end: no worker can end a job by such a claim.
            let claim = ShardExecution { bytes: Default::default(), ..execution.clone() };
            published = self.publish_until_ended(task, &claim, guard).await;
        }
        match published {
            Some(Ok(())) => Settlement::Ack,
            Some(Err(error)) => {
                tracing::warn!(%job, %shard, %error, "publishing the result failed; retrying the shard");
                Settlement::Backoff
            }
            None => Settlement::Ack,
        }
    }

    /// Publishes a result; `None` if its job has ended before. While the bus cannot store it, the
    /// worker keeps it and its lease: a returned shard would use up its deliveries during an outage
    /// of the server, and be taken for one that crashes its workers.
    async fn publish_until_ended(
        &self,
        task: &ShardTask,
        execution: &ShardExecution,
        guard: &InFlightGuard,
    ) -> Option<Result<(), BusError>> {
        let backend = self.backend.as_ref();
        let (message, id) =
            shard_messages::build_result(&self.identity, &self.pool, backend, task, execution);
        let never = CancellationToken::new();
        let publish =
            retry_transient(&never, "publishing a result", || self.bus.publish(message.clone(), &id));
        let ended = async {
            while !guard.stop.is_stopped() {
                sleep(END_POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            published = publish => published,
            () = ended => None,
        }
    }

    /// Stops the in-flight shards of jobs that end, without end.
    async fn stop_ended_jobs(&self) {
        let never = CancellationToken::new();
        loop {
            let messages = retry_until_stopped(&never, "subscribing to job ends", || {
                self.bus.subscribe(topology::JOB_ENDED_FILTER)
            });
            let Some(mut messages) = messages.await else { return };
            while let Some(message) = messages.next().await {
                if let Some(job) = ended_job(&message) {
                    self.in_flight.stop_job(job);
                }
            }
        }
    }
}

/// The job that a notice says has ended: its content repeats the uid of its subject. A worker can
/// have replies of JetStream delivered to others of its account under any subject, but it cannot
/// choose their content.
fn ended_job(notice: &Message) -> Option<JobUid> {
    let uid = notice.subject.rsplit('.').next()?;
    if notice.payload == uid.as_bytes() { uid.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
