//! The service: pulls duplicates, executes, compares, judges.

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

/// Programs that are kept decoded.
const KEPT: usize = 16;
/// Failures of one shard after which it is said that nobody can tell.
const MAX_DELIVERIES: u64 = 5;

/// What an operator chooses.
#[derive(Clone)]
pub struct VerifierSettings {
    /// What executes the shards.
    pub executor: Executor,
    /// Shards that are executed at once.
    pub slots: usize,
    /// How long a message is left to its receiver without a sign of life.
    pub lease: Duration,
}

/// The verifier.
struct Verifier {
    bus: SharedBus,
    /// The preferred one comes first.
    backends: Vec<Arc<dyn Backend>>,
    identity: Identity,
    executor: Executor,
    programs: ProgramStore,
    metrics: Metrics,
}

/// Runs a verifier until `stop`. Of `backends` (at least one, the preferred first), the first is taken whose hardware is not
/// that of the result which is to be judged; else the first that is another backend; else the first. One that cannot execute
/// a shard is replaced by the next.
///
/// # Errors
/// The bus cannot be used as it is.
pub async fn run(
    bus: SharedBus,
    backends: Vec<Arc<dyn Backend>>,
    identity: Identity,
    settings: VerifierSettings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    bus.prepare().await?;
    let capacity = AgentCapacity::new(&backends, settings.slots.max(1));
    // So many that a backend which takes several at once gets them.
    let concurrency = Concurrency::new(settings.slots.max(capacity.batch as usize) * 2);
    let record = registry::agent_record(&identity, Target::Any, capacity, KERNEL);
    let heartbeat = retry_until_stopped(&stop, "registering", || {
        registry::register(bus.clone(), Role::Verifier, record.clone(), stop.clone())
    });
    let Some(heartbeat) = heartbeat.await else { return Ok(()) };
    let verifier = Arc::new(Verifier {
        bus: bus.clone(),
        backends,
        identity,
        executor: settings.executor,
        programs: ProgramStore::new(bus.clone(), KEPT),
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
                tracing::error!(%error, subject = delivery.message.subject, "a duplicate that cannot be read is dropped");
                return Settlement::Ack;
            }
        };
        let held = Held::default();
        let done = match task.claim.clone() {
            Some(claim) => self.check(&task.task, claim, delivery.attempt, &held.0).await,
            None => self.stand_in(&task.task, &held.0).await,
        };
        match done {
            Ok(()) => Settlement::Ack,
            Err(reason) => {
                let (job, shard) = (&task.task.job_id, task.task.shard_id);
                tracing::warn!(%job, %shard, reason, "the shard is tried again");
                Settlement::Retry(Duration::from_secs(1))
            }
        }
    }
}

/// Backends by how much they have in common with what executed a claim, the least first: a fault of either's hardware or code
/// shows in the other's result.
fn unlike<'a>(backends: &'a [Arc<dyn Backend>], claim: &Claim) -> Vec<&'a Arc<dyn Backend>> {
    let hardware = Hardware::from_adapter(claim.adapter.as_deref());
    let mut backends: Vec<_> = backends.iter().collect();
    backends.sort_by_key(|backend| {
        (Hardware::from_adapter(backend.adapter()) == hardware, backend.name() == claim.backend)
    });
    backends
}

/// Stops the execution of a shard when its handling is dropped.
#[derive(Default)]
struct Held(StopFlag);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Verifier {
    /// Executes a shard with the first of `backends` that can, and answers which one that was.
    async fn execute<'a>(
        &self,
        backends: &[&'a Arc<dyn Backend>],
        task: &ShardTask,
        stop: &StopFlag,
    ) -> Result<(&'a Arc<dyn Backend>, ShardExecution), String> {
        let program = self.programs.get(task.program).await.map_err(|error| error.to_string())?;
        let mut failed = ExecutionFailure::Stopped;
        for &backend in backends {
            let execution =
                self.executor.execute(Arc::clone(backend), Arc::clone(&program), task.clone(), stop.clone());
            match execution.await {
                Ok(executed) => {
                    self.metrics.record_shard(backend.name(), "ok", executed.iterations, executed.wall);
                    return Ok((backend, executed));
                }
                Err(error) => {
                    self.metrics.record_shard(backend.name(), "failed", 0, Duration::ZERO);
                    if error == ExecutionFailure::Stopped {
                        return Err(error.to_string());
                    }
                    tracing::warn!(backend = backend.name(), %error, "the shard could not be executed");
                    failed = error;
                }
            }
        }
        Err(failed.to_string())
    }

    /// Executes a shard in place of workers that failed at it.
    async fn stand_in(&self, task: &ShardTask, stop: &StopFlag) -> Result<(), String> {
        let backends: Vec<_> = self.backends.iter().collect();
        let (backend, executed) = self.execute(&backends, task, stop).await?;
        let (message, id) = shard_messages::build_result(&self.identity, backend.as_ref(), task, &executed);
        self.bus.publish(message, &id).await.map_err(|error| error.to_string())
    }

    /// Judges a result.
    async fn check(
        &self,
        task: &ShardTask,
        claim: Claim,
        attempt: u64,
        stop: &StopFlag,
    ) -> Result<(), String> {
        let backends = unlike(&self.backends, &claim);
        let judgement = match self.execute(&backends, task, stop).await {
            Ok((backend, executed)) if executed.hash == claim.result_hash => Judgement::from_execution(
                backend.as_ref(),
                VerdictOutcome::Confirmed,
                Some(executed.hash),
                String::new(),
            ),
            Ok((backend, executed)) => {
                self.arbitrate(task, &claim, backend.name(), executed.hash, stop).await?
            }
            Err(reason) if attempt >= MAX_DELIVERIES && !stop.is_stopped() => {
                let reason = format!("it could not be executed a second time: {reason}");
                Judgement::from_execution(backends[0].as_ref(), VerdictOutcome::Undecided, None, reason)
            }
            Err(reason) => return Err(reason),
        };
        self.publish(task, &claim, judgement).await.map_err(|error| error.to_string())
    }

    /// Two executions differ: the scalar reference decides.
    async fn arbitrate(
        &self,
        task: &ShardTask,
        claim: &Claim,
        second: &str,
        found: Digest,
        stop: &StopFlag,
    ) -> Result<Judgement, String> {
        let (job, shard) = (&task.job_id, task.shard_id);
        let reference: Arc<dyn Backend> = Arc::new(Scalar);
        let judgement =
            |outcome, correct, reason| Judgement::from_execution(&Scalar, outcome, correct, reason);
        let correct = self.execute(&[&reference], task, stop).await?.1.hash;
        if correct == claim.result_hash {
            tracing::error!(%job, %shard, backend = second, "this verifier's own backend is wrong: replace it");
            return Ok(judgement(VerdictOutcome::Confirmed, Some(correct), String::new()));
        }
        if correct != found {
            let reason = format!(
                "{} returned {}, {second} {found} and the scalar reference {correct}: no two agree",
                claim.agent_id, claim.result_hash
            );
            return Ok(judgement(VerdictOutcome::Undecided, None, reason));
        }
        let reason = format!("the scalar reference gives {correct}, and so does {second}");
        Ok(judgement(VerdictOutcome::Refuted, Some(correct), reason))
    }

    async fn publish(&self, task: &ShardTask, claim: &Claim, judgement: Judgement) -> Result<(), BusError> {
        let (job, shard) = (&task.job_id, task.shard_id);
        let Claim { agent_id, result_hash, .. } = claim;
        if let (VerdictOutcome::Refuted, Some(correct)) = (judgement.outcome, judgement.correct) {
            let reason = &judgement.reason;
            tracing::error!(%job, %shard, agent = %agent_id, reason, "a result is refuted: its agent goes into quarantine");
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
