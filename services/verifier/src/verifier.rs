//! The verifier's message handler: re-executes a shard, compares the results, and publishes a
//! signed verdict.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{BusError, Delivery, SharedBus, topology::Queue};
use forge_contract::{
    agent::{Hardware, Identity, QuarantineRecord},
    digest::Digest,
    envelope::Target,
    task::{Claim, ShardTask, VerifierTask},
    verdict::VerdictOutcome,
};
use forge_kernel::{
    KERNEL,
    backend::{Backend, scalar::Scalar},
};
use forge_service::{
    executor::{ExecutionFailure, Executor, ShardExecution, StopFlag},
    metrics::Metrics,
    program_store::ProgramStore,
    queue_worker::{Concurrency, Handler, QueueSettings, Settlement, serve_queue},
    registry::{self, AgentCapacity, Role},
    retry::retry_until_stopped,
    shard_messages::{self, Judgement},
};
use tokio_util::sync::CancellationToken;

/// Decoded programs in the cache.
const CACHED_PROGRAMS: usize = 16;
/// Deliveries of a verification after which it ends undecided.
const MAX_DELIVERIES: u64 = 5;
/// Redelivery delay of a verification that failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Settings of a verifier.
#[derive(Clone)]
pub struct VerifierSettings {
    /// Executes the shards.
    pub executor: Executor,
    /// Shards executed at once.
    pub slots: usize,
    /// Lease that the bus grants on a message.
    pub lease: Duration,
}

struct Verifier {
    bus: SharedBus,
    /// In order of preference.
    backends: Vec<Arc<dyn Backend>>,
    identity: Identity,
    executor: Executor,
    programs: ProgramStore,
    metrics: Metrics,
}

/// Runs a verifier on a prepared bus until `stop` is cancelled. `backends` holds at least one
/// backend, the preferred one first. A verification uses the first one on other hardware than the
/// result's; else the first other backend; else the first. If it fails, the next one takes its
/// place.
///
/// # Errors
/// None: bus errors are retried. The type is that of the other services' `run`.
pub async fn run(
    bus: SharedBus,
    backends: Vec<Arc<dyn Backend>>,
    identity: Identity,
    settings: VerifierSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let capacity = AgentCapacity::new(&backends, settings.slots.max(1));
    // Enough in-flight messages to fill one batch while another one is executed.
    let concurrency = Concurrency::new(settings.slots.max(capacity.batch as usize) * 2);
    let record = registry::agent_record(&identity, Target::Any, capacity, KERNEL);
    let heartbeat = retry_until_stopped(&stop, "registering the verifier", || {
        registry::register(bus.clone(), Role::Verifier, record.clone(), stop.clone())
    });
    let Some(heartbeat) = heartbeat.await else { return Ok(()) };
    let verifier = Arc::new(Verifier {
        bus: bus.clone(),
        backends,
        identity,
        executor: settings.executor,
        programs: ProgramStore::new(bus.clone(), CACHED_PROGRAMS),
        metrics: metrics.clone(),
    });
    let settings = QueueSettings { queue: Queue::Verifications, concurrency, lease: settings.lease };
    serve_queue(bus, settings, metrics, stop, verifier).await;
    let _ = heartbeat.await;
    Ok(())
}

#[async_trait]
impl Handler for Verifier {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let task: VerifierTask = match serde_json::from_slice(&delivery.message.payload) {
            Ok(task) => task,
            Err(error) => {
                let subject = delivery.message.subject;
                tracing::error!(%error, subject, "parsing a verification failed; dropping it");
                return Settlement::Ack;
            }
        };
        let stop = StopOnDrop::default();
        let result = match task.claim.clone() {
            Some(claim) => self.verify(&task.task, claim, delivery.attempt, &stop.0).await,
            None => self.execute_fallback(&task.task, &stop.0).await,
        };
        match result {
            Ok(()) => Settlement::Ack,
            Err(reason) => {
                let (job, shard) = (&task.task.job_id, task.task.shard_id);
                tracing::warn!(%job, %shard, reason, "processing a verification failed; retrying in {RETRY_DELAY:?}");
                Settlement::Retry(RETRY_DELAY)
            }
        }
    }
}

/// Sorts backends by how much they share with the one that produced a result, the least first: a
/// fault of shared hardware or code would go unnoticed, since both results would be wrong in the
/// same way.
fn sort_by_independence<'a>(backends: &'a [Arc<dyn Backend>], claim: &Claim) -> Vec<&'a Arc<dyn Backend>> {
    let hardware = Hardware::from_adapter(claim.adapter.as_deref());
    let mut backends: Vec<_> = backends.iter().collect();
    backends.sort_by_key(|backend| {
        (Hardware::from_adapter(backend.adapter()) == hardware, backend.name() == claim.backend)
    });
    backends
}

/// Stops the execution of a shard when its handler is dropped at shutdown.
#[derive(Default)]
struct StopOnDrop(StopFlag);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Verifier {
    /// Executes a shard with the first of `backends` that succeeds, and returns that backend.
    async fn execute<'a>(
        &self,
        backends: &[&'a Arc<dyn Backend>],
        task: &ShardTask,
        stop: &StopFlag,
    ) -> Result<(&'a Arc<dyn Backend>, ShardExecution), String> {
        let program = self.programs.get(task.program).await.map_err(|error| error.to_string())?;
        let mut last_failure = ExecutionFailure::Stopped;
        for &backend in backends {
            let execution =
                self.executor.execute(Arc::clone(backend), Arc::clone(&program), task.clone(), stop.clone());
            match execution.await {
                Ok(execution) => {
                    self.metrics.record_shard(backend.name(), execution.iterations, execution.wall);
                    return Ok((backend, execution));
                }
                Err(failure) => {
                    self.metrics.record_failed_shard(backend.name());
                    if failure == ExecutionFailure::Stopped {
                        return Err(failure.to_string());
                    }
                    tracing::warn!(backend = backend.name(), %failure, "executing the shard failed; trying the next backend");
                    last_failure = failure;
                }
            }
        }
        Err(last_failure.to_string())
    }

    /// Executes a shard that workers failed to execute, and publishes its result.
    async fn execute_fallback(&self, task: &ShardTask, stop: &StopFlag) -> Result<(), String> {
        let backends: Vec<_> = self.backends.iter().collect();
        let (backend, execution) = self.execute(&backends, task, stop).await?;
        let (message, id) = shard_messages::build_result(&self.identity, backend.as_ref(), task, &execution);
        self.bus.publish(message, &id).await.map_err(|error| error.to_string())
    }

    /// Judges a result and publishes the verdict.
    async fn verify(
        &self,
        task: &ShardTask,
        claim: Claim,
        attempt: u64,
        stop: &StopFlag,
    ) -> Result<(), String> {
        let backends = sort_by_independence(&self.backends, &claim);
        let judgement = match self.execute(&backends, task, stop).await {
            Ok((backend, execution)) if execution.hash == claim.result_hash => Judgement::from_execution(
                backend.as_ref(),
                VerdictOutcome::Confirmed,
                Some(execution.hash),
                String::new(),
            ),
            Ok((backend, execution)) => {
                self.arbitrate(task, &claim, backend.name(), execution.hash, stop).await?
            }
            Err(reason) if attempt >= MAX_DELIVERIES && !stop.is_stopped() => {
                let reason = format!("re-executing the shard failed: {reason}");
                Judgement::from_execution(backends[0].as_ref(), VerdictOutcome::Undecided, None, reason)
            }
            Err(reason) => return Err(reason),
        };
        self.publish(task, &claim, judgement).await.map_err(|error| error.to_string())
    }

    /// Lets the scalar reference decide between the claimed result and the different one of
    /// `backend`.
    async fn arbitrate(
        &self,
        task: &ShardTask,
        claim: &Claim,
        backend: &str,
        hash: Digest,
        stop: &StopFlag,
    ) -> Result<Judgement, String> {
        let (job, shard) = (&task.job_id, task.shard_id);
        let reference: Arc<dyn Backend> = Arc::new(Scalar);
        let judgement =
            |outcome, correct, reason| Judgement::from_execution(&Scalar, outcome, correct, reason);
        let correct = self.execute(&[&reference], task, stop).await?.1.hash;
        if correct == claim.result_hash {
            tracing::error!(
                %job,
                %shard,
                backend,
                "this verifier's backend returned a wrong result: replace it; confirming the claim"
            );
            return Ok(judgement(VerdictOutcome::Confirmed, Some(correct), String::new()));
        }
        if correct != hash {
            let reason = format!(
                "no two results agree: {} returned {}, {backend} {hash} and the scalar reference {correct}",
                claim.agent_id, claim.result_hash
            );
            return Ok(judgement(VerdictOutcome::Undecided, None, reason));
        }
        let reason = format!("the scalar reference and {backend} both return {correct}");
        Ok(judgement(VerdictOutcome::Refuted, Some(correct), reason))
    }

    /// Publishes a verdict. An agent whose result is refuted is put into quarantine first.
    async fn publish(&self, task: &ShardTask, claim: &Claim, judgement: Judgement) -> Result<(), BusError> {
        let (job, shard) = (&task.job_id, task.shard_id);
        let Claim { agent_id, result_hash, .. } = claim;
        if let (VerdictOutcome::Refuted, Some(correct)) = (judgement.outcome, judgement.correct) {
            let reason = &judgement.reason;
            tracing::error!(%job, %shard, agent = %agent_id, reason, "a result is refuted; putting its agent into quarantine");
            let record = QuarantineRecord {
                schema: QuarantineRecord::SCHEMA.to_owned(),
                agent_id: agent_id.clone(),
                job_id: job.clone(),
                shard_id: shard,
                claimed: *result_hash,
                correct,
                verifier_id: self.identity.id().clone(),
            };
            registry::quarantine_agent(&self.bus, &record).await?;
            self.metrics.count_quarantined_agent();
        }
        self.metrics.count_verification(judgement.outcome);
        let (message, id) =
            shard_messages::build_verdict(&self.identity, job, shard, agent_id, *result_hash, judgement);
        self.bus.publish(message, &id).await
    }
}

#[cfg(test)]
mod tests;
