//! The service: pulls, executes, returns. A shard is acknowledged when its result is stored.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{
    BusError, Delivery, SharedBus,
    topology::{self, Bucket, Queue},
};
use forge_contract::{agent::Identity, envelope::Target, task::ShardTask};
use forge_kernel::{KERNEL, backend::Backend};
use forge_service::{
    executor::{ExecutionFailure, Executor},
    metrics::Metrics,
    program_store::{ProgramError, ProgramStore},
    queue_worker::{Concurrency, Handler, QueueSettings, Settlement, serve_queue},
    registry::{self, AgentCapacity, Role},
    retry::retry_until_stopped,
    shard_messages,
};
use futures_util::StreamExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    backend_breaker::BackendBreaker,
    in_flight::{InFlight, InFlightGuard, PERMITS},
};

/// How long a shard that this worker cannot execute is left to others.
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Programs that are kept decoded.
const KEPT: usize = 16;
/// Time between two looks at whether this agent is in quarantine.
const LOOK: Duration = Duration::from_secs(5);

/// What an operator chooses.
#[derive(Clone)]
pub struct WorkerSettings {
    /// What executes the shards.
    pub executor: Executor,
    /// Shards that this agent executes at once.
    pub slots: usize,
    /// The hardware: shards for `any` are taken too.
    pub target: Target,
    /// How long a message is left to its receiver without a sign of life.
    pub lease: Duration,
}

/// The worker.
struct Worker {
    bus: SharedBus,
    backend: Arc<dyn Backend>,
    identity: Identity,
    executor: Executor,
    programs: ProgramStore,
    in_flight: Arc<InFlight>,
    breaker: Arc<BackendBreaker>,
    metrics: Metrics,
}

/// Runs a worker until `stop`. Shards that are being executed then have [`forge_service::SHUTDOWN_GRACE_PERIOD`] to end.
///
/// # Errors
/// The bus cannot be used as it is, or the agent is in quarantine.
pub async fn run(
    bus: SharedBus,
    backend: Arc<dyn Backend>,
    identity: Identity,
    settings: WorkerSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let capacity = AgentCapacity::new(
        &[Arc::clone(&backend)],
        Executor::concurrent_calls(backend.as_ref(), settings.slots),
    );
    let in_flight = Arc::new(InFlight::new(capacity.slots));
    let record = registry::agent_record(&identity, settings.target, capacity, KERNEL);
    let id = identity.id().clone();
    let beat = CancellationToken::new();
    let heartbeat = retry_until_stopped(&stop, "registering", || {
        registry::register(bus.clone(), Role::Worker, record.clone(), beat.clone())
    });
    let Some(heartbeat) = heartbeat.await else { return Ok(()) };
    let worker = Arc::new(Worker {
        executor: settings.executor,
        programs: ProgramStore::new(bus.clone(), KEPT),
        in_flight,
        breaker: Arc::default(),
        bus: bus.clone(),
        backend,
        identity,
        metrics,
    });
    // Shards are taken until the process is to end, or the agent is in quarantine.
    let taking = stop.child_token();
    let serve = |queue| {
        let (in_flight, breaker) = (Arc::clone(&worker.in_flight), Arc::clone(&worker.breaker));
        let pausing_breaker = Arc::clone(&breaker);
        let weight = move || if breaker.is_tripped() { PERMITS } else { in_flight.permits_per_shard() };
        let concurrency =
            Concurrency::weighted(PERMITS, weight).with_pause(move || pausing_breaker.remaining_pause());
        let settings = QueueSettings { queue, concurrency, lease: settings.lease };
        serve_queue(bus.clone(), settings, worker.metrics.clone(), taking.clone(), Arc::clone(&worker))
    };
    let served = async {
        let any = serve(Queue::Shards(Target::Any));
        match settings.target {
            Target::Any => any.await,
            target => drop(tokio::join!(any, serve(Queue::Shards(target)))),
        }
    };
    let suspected = async {
        let error = in_quarantine(&bus, &id).await;
        taking.cancel();
        error
    };
    tokio::pin!(served, suspected);
    let mut listening = Box::pin(worker.listen());
    let mut quarantined = None;
    loop {
        tokio::select! {
            () = &mut served => break,
            error = &mut suspected, if quarantined.is_none() => quarantined = Some(error),
            () = &mut listening => break,
        }
    }
    beat.cancel();
    let _ = heartbeat.await;
    quarantined.map_or(Ok(()), Err)
}

/// Returns when the agent is in quarantine.
async fn in_quarantine(bus: &SharedBus, id: &forge_contract::agent::AgentId) -> BusError {
    let key = format!("quarantine.{id}");
    loop {
        sleep(LOOK).await;
        let found = bus.get(&Bucket::Agents, &key).await;
        if found.is_ok_and(|entry| entry.is_some_and(|entry| entry.value.is_some())) {
            return BusError::Unusable(format!(
                "agent {id} is in quarantine: it returned a wrong result. Test this machine's memory and processor; \
                 then remove key {key} from bucket {}",
                Bucket::Agents.name()
            ));
        }
    }
}

#[async_trait]
impl Handler for Worker {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        match serde_json::from_slice::<ShardTask>(&delivery.message.payload) {
            Ok(task) => {
                let guard = self.in_flight.add(task.job_id.clone());
                self.execute(task, delivery.attempt, &guard).await
            }
            Err(error) => {
                // It may be a newer planner's, for newer workers. If nobody reads it, it becomes a dead letter, and its job fails.
                tracing::error!(%error, subject = delivery.message.subject, "a shard that cannot be read");
                Settlement::Retry(ELSEWHERE)
            }
        }
    }
}

impl Worker {
    async fn execute(&self, task: ShardTask, attempt: u64, guard: &InFlightGuard) -> Settlement {
        let (job, shard) = (task.job_id.clone(), task.shard_id);
        if attempt > 1 {
            tracing::info!(%job, %shard, attempt, "a shard that was delivered before");
        }
        if task.kernel != KERNEL {
            tracing::warn!(%job, kernel = task.kernel, "the shard is for another version of the kernel");
            return Settlement::Retry(ELSEWHERE);
        }
        let program = match self.programs.get(task.program).await {
            Ok(program) => program,
            Err(error @ ProgramError::Damaged(..)) => {
                tracing::error!(%job, %shard, %error, "the shard is left to others");
                return Settlement::Retry(ELSEWHERE);
            }
            Err(error) => {
                tracing::warn!(%job, %shard, %error, "the shard is tried again");
                return Settlement::Retry(Duration::from_secs(1));
            }
        };
        let backend = Arc::clone(&self.backend);
        match self.executor.execute(backend, program, task.clone(), guard.stop.clone()).await {
            Ok(executed) => {
                self.breaker.record_success();
                self.metrics.record_shard(self.backend.name(), "ok", executed.iterations, executed.wall);
                self.in_flight.record_shard_time(executed.wall);
                tracing::debug!(%job, %shard, wall = ?executed.wall, "the shard is executed");
                let (message, id) =
                    shard_messages::build_result(&self.identity, self.backend.as_ref(), &task, &executed);
                match self.bus.publish(message, &id).await {
                    Ok(()) => Settlement::Ack,
                    Err(error) => {
                        tracing::warn!(%job, %shard, %error, "a result could not be returned; the shard is tried again");
                        Settlement::Retry(Duration::from_secs(1))
                    }
                }
            }
            // The job has ended, and its shards have been removed; or this process ends, and others take the shard.
            Err(ExecutionFailure::Stopped) => Settlement::Retry(Duration::ZERO),
            Err(ExecutionFailure::Backend(reason)) => {
                tracing::error!(%job, %shard, reason, "the shard could not be executed");
                self.metrics.record_shard(self.backend.name(), "failed", 0, Duration::ZERO);
                if let Some(pause) = self.breaker.record_failure() {
                    tracing::warn!(backend = self.backend.name(), ?pause, "no shards are taken for a while");
                }
                Settlement::Retry(Duration::from_millis(200))
            }
        }
    }

    /// Hears of jobs that end, without end.
    async fn listen(&self) {
        let forever = CancellationToken::new();
        loop {
            let heard = retry_until_stopped(&forever, "listening for jobs that end", || {
                self.bus.subscribe(topology::JOB_ENDED_FILTER)
            });
            let Some(mut heard) = heard.await else { return };
            while let Some(message) = heard.next().await {
                if let Some(Ok(job)) = message.subject.rsplit('.').next().map(str::parse) {
                    self.in_flight.stop_job(&job);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
