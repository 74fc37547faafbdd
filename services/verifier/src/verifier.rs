//! The service: pulls duplicates, executes, compares, judges.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{BusError, Delivery, SharedBus, topology::Queue};
use forge_contract::{
    agent::{Identity, QuarantineRecord},
    digest::Digest,
    envelope::Target,
    task::{Claim, ShardTask, VerifierTask},
    verdict::Outcome,
};
use forge_kernel::{
    KERNEL,
    execute::{Backend, scalar::Scalar},
};
use forge_service::{
    executor::{Executed, Executor, Failed, StopFlag},
    metrics::Metrics,
    outcomes::{self, Judgement},
    programs::Programs,
    queue::{Handler, Settlement, serve_queue},
    records,
    registry::{self, Role},
};
use tokio_util::sync::CancellationToken;

/// Programs that are kept decoded.
const KEPT: usize = 16;
/// Failures of one shard after which it is said that nobody can tell.
const MAX_DELIVERIES: u64 = 5;

/// What an operator chooses.
#[derive(Clone)]
pub struct Settings {
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
    programs: Programs,
    metrics: Metrics,
}

/// Runs a verifier until `stop`. Of `backends` (at least one, the preferred first), the first is taken that is not the one
/// whose result is to be judged.
///
/// # Errors
/// The bus cannot be used as it is.
pub async fn run(
    bus: SharedBus,
    backends: Vec<Arc<dyn Backend>>,
    identity: Identity,
    settings: Settings,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BusError> {
    bus.prepare().await?;
    let slots = u32::try_from(settings.slots.max(1)).unwrap_or(u32::MAX);
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    let record = registry::record(&identity, Target::Any, &names.join(","), slots, KERNEL);
    let heartbeat = records::persist(&stop, "registering", || {
        registry::register(bus.clone(), Role::Verifier, record.clone(), stop.clone())
    });
    let Some(heartbeat) = heartbeat.await else { return Ok(()) };
    let verifier = Arc::new(Verifier {
        bus: bus.clone(),
        backends,
        identity,
        executor: settings.executor,
        programs: Programs::new(bus.clone(), KEPT),
        metrics: metrics.clone(),
    });
    let limit = settings.slots.max(1) * 2;
    serve_queue(bus, Queue::Duplicates, limit, settings.lease, metrics, stop, verifier).await;
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

/// Stops the execution of a shard when its handling is dropped.
#[derive(Default)]
struct Held(StopFlag);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Verifier {
    async fn execute(
        &self,
        backend: &Arc<dyn Backend>,
        task: &ShardTask,
        stop: &StopFlag,
    ) -> Result<Executed, String> {
        let program = self.programs.get(task.program).await.map_err(|error| error.to_string())?;
        let executed = self.executor.execute(Arc::clone(backend), program, task.clone(), stop.clone()).await;
        let (outcome, iterations, wall) = match &executed {
            Ok(executed) => ("ok", executed.iterations, executed.wall),
            Err(_) => ("failed", 0, Duration::ZERO),
        };
        self.metrics.shard_executed(backend.name(), outcome, iterations, wall);
        executed.map_err(|error: Failed| error.to_string())
    }

    /// Executes a shard in place of workers that failed at it.
    async fn stand_in(&self, task: &ShardTask, stop: &StopFlag) -> Result<(), String> {
        let backend = &self.backends[0];
        let executed = self.execute(backend, task, stop).await?;
        let (message, id) = outcomes::result(&self.identity, backend.name(), task, &executed);
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
        let other = self.backends.iter().find(|backend| backend.name() != claim.backend);
        let backend = other.unwrap_or(&self.backends[0]);
        let judgement = match self.execute(backend, task, stop).await {
            Ok(executed) if executed.hash == claim.result_hash => Judgement {
                outcome: Outcome::Confirmed,
                backend: backend.name().to_owned(),
                correct: Some(executed.hash),
                reason: String::new(),
            },
            Ok(executed) => self.arbitrate(task, &claim, backend.name(), executed.hash, stop).await?,
            Err(reason) if attempt >= MAX_DELIVERIES && !stop.is_stopped() => Judgement {
                outcome: Outcome::Undecided,
                backend: backend.name().to_owned(),
                correct: None,
                reason: format!("it could not be executed a second time: {reason}"),
            },
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
        let backend = reference.name().to_owned();
        let correct = self.execute(&reference, task, stop).await?.hash;
        if correct == claim.result_hash {
            tracing::error!(%job, %shard, backend = second, "this verifier's own backend is wrong: replace it");
            return Ok(Judgement {
                outcome: Outcome::Confirmed,
                backend,
                correct: Some(correct),
                reason: String::new(),
            });
        }
        if correct != found {
            let reason = format!(
                "{} returned {}, {second} {found} and the scalar reference {correct}: no two agree",
                claim.agent_id, claim.result_hash
            );
            return Ok(Judgement { outcome: Outcome::Undecided, backend, correct: None, reason });
        }
        let reason = format!("the scalar reference gives {correct}, and so does {second}");
        Ok(Judgement { outcome: Outcome::Refuted, backend, correct: Some(correct), reason })
    }

    async fn publish(&self, task: &ShardTask, claim: &Claim, judgement: Judgement) -> Result<(), BusError> {
        let (job, shard) = (&task.job_id, task.shard_id);
        let Claim { agent_id, result_hash, .. } = claim;
        if let (Outcome::Refuted, Some(correct)) = (judgement.outcome, judgement.correct) {
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
            registry::quarantine(&self.bus, &record).await?;
            self.metrics.agent_quarantined();
        }
        self.metrics.verification(judgement.outcome);
        let (message, id) = outcomes::verdict(&self.identity, job, shard, agent_id, *result_hash, judgement);
        self.bus.publish(message, &id).await
    }
}
