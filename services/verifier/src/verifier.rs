//! The verifier's message handler: re-executes a shard, compares the results, and publishes a
//! signed verdict. An outage never becomes a verdict: what fails for want of the bus, the program
//! or a backend is retried, with growing delays and without end. A shard that crashes every backend
//! is different: after some attempts it ends the job, because it would crash them for ever.

mod publication;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{
    BusError, Delivery, SharedBus,
    topology::{JobLength, Queue},
};
use forge_contract::{
    agent::{AgentRecord, Hardware, Identity},
    digest::Digest,
    envelope::Target,
    ids::PoolName,
    program::Program,
    protocol::{UnreadableMessage, parse_message},
    task::{Claim, ShardTask, VerifierTask},
    verdict::VerdictOutcome,
};
use forge_kernel::{KERNEL, backend::Backend};
use forge_service::{
    executor::{ExecutionFailure, Executor, ShardExecution, StopFlag},
    metrics::Metrics,
    program_store::{ProgramError, ProgramStore},
    queue_worker::{Concurrency, Handler, QueueSettings, Settlement, serve_queue},
    registry::{self, AgentCapacity, Role},
    retry::retry_until_stopped,
    shard_messages::Judgement,
};
use tokio_util::sync::CancellationToken;

/// Decoded programs in the cache.
const CACHED_PROGRAMS: usize = 16;

/// Deliveries of a task at which a shard that crashed every backend is given up. The first ones are
/// retried, because another verifier may have more memory, or a better driver.
const CRASHED_DELIVERIES: u64 = 3;

/// Settings of a verifier.
#[derive(Clone)]
pub struct VerifierSettings {
    /// Executes the shards.
    pub executor: Executor,
    /// Shards executed at once.
    pub slots: usize,
    /// Lease that the bus grants on a message.
    pub lease: Duration,
    /// The scalar reference. It decides between different results, and executes the shards that
    /// workers failed to execute.
    pub reference: Arc<dyn Backend>,
}

struct Verifier {
    bus: SharedBus,
    /// In order of preference.
    backends: Vec<Arc<dyn Backend>>,
    identity: Identity,
    executor: Executor,
    reference: Arc<dyn Backend>,
    programs: ProgramStore,
    metrics: Metrics,
}

/// Why a task was not completed. It is redelivered.
#[derive(Debug, thiserror::Error)]
enum TaskFailure {
    /// This process is stopping, and another verifier takes the task.
    #[error("the verifier is stopping")]
    Stopped,
    /// The bus did not carry out an operation.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The program could not be loaded.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A backend or a child process failed for a reason that may pass.
    #[error("{0}")]
    Transient(String),
    /// The shard crashed every backend.
    #[error("{0}")]
    Crashed(String),
}

impl From<ExecutionFailure> for TaskFailure {
    fn from(failure: ExecutionFailure) -> Self {
        match failure {
            ExecutionFailure::Stopped => Self::Stopped,
            ExecutionFailure::Backend(reason) => Self::Transient(reason),
            ExecutionFailure::Crashed(reason) => Self::Crashed(reason),
        }
    }
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
    let max_messages = settings.slots.max(capacity.batch as usize) * 2;
    let record = AgentRecord {
        pool: Some(PoolName::verifiers()),
        ..registry::agent_record(&identity, Target::Any, capacity, KERNEL)
    };
    let heartbeat = retry_until_stopped(&stop, "registering the verifier", || {
        registry::register(bus.clone(), Role::Verifier, record.clone(), stop.clone())
    });
    let Some(heartbeat) = heartbeat.await else { return Ok(()) };
    let verifier = Arc::new(Verifier {
        bus: bus.clone(),
        backends,
        identity,
        executor: settings.executor,
        reference: settings.reference,
        programs: ProgramStore::new(bus.clone(), CACHED_PROGRAMS),
        metrics: metrics.clone(),
    });
    let serve = |length| {
        let (queue, concurrency) = (Queue::Verifications(length), Concurrency::new(max_messages));
        let settings = QueueSettings { queue, concurrency, lease: settings.lease };
        let handler = Arc::new(TaskHandler { verifier: Arc::clone(&verifier), length });
        serve_queue(bus.clone(), settings, metrics.clone(), stop.clone(), handler)
    };
    tokio::join!(serve(JobLength::Short), serve(JobLength::Long));
    let _ = heartbeat.await;
    Ok(())
}

/// Handles the tasks of short or of long jobs.
struct TaskHandler {
    verifier: Arc<Verifier>,
    length: JobLength,
}

#[async_trait]
impl Handler for TaskHandler {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let subject = &delivery.message.subject;
        let task: VerifierTask = match parse_message(&delivery.message.payload) {
            Ok(task) => task,
            Err(error @ UnreadableMessage::OtherVersion(_)) => {
                tracing::warn!(%error, subject, "leaving the task to another verifier");
                return Settlement::Backoff;
            }
            Err(error @ UnreadableMessage::Malformed(_)) => {
                tracing::error!(%error, subject, "parsing a task failed; dropping it");
                return Settlement::Ack;
            }
        };
        let stop = StopOnDrop::default();
        let control = TaskControl { length: self.length, stop: &stop.0 };
        let processed = match self.verifier.process(&task, control).await {
            Err(TaskFailure::Crashed(reason)) if delivery.attempt >= CRASHED_DELIVERIES => {
                self.verifier.give_up(&task, reason).await
            }
            processed => processed,
        };
        match processed {
            Ok(()) => Settlement::Ack,
            Err(TaskFailure::Stopped) => Settlement::Retry(Duration::ZERO),
            Err(failure) => {
                let (job, shard) = (task.task.job_uid, task.task.shard_id);
                tracing::warn!(%job, %shard, %failure, "processing a task failed; retrying with backoff");
                Settlement::Backoff
            }
        }
    }

    async fn give_up(&self, delivery: Delivery, reason: String) -> Settlement {
        let Ok(task) = parse_message(&delivery.message.payload) else { return Settlement::Backoff };
        match self.verifier.give_up(&task, reason).await {
            Ok(()) => Settlement::Ack,
            Err(failure) => {
                let (job, shard) = (task.task.job_uid, task.task.shard_id);
                tracing::warn!(%job, %shard, %failure, "giving a task up failed; retrying with backoff");
                Settlement::Backoff
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

/// Where a task's shard waits for its execution, and the flag that stops it.
#[derive(Clone, Copy)]
struct TaskControl<'a> {
    length: JobLength,
    stop: &'a StopFlag,
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
    async fn process(&self, task: &VerifierTask, control: TaskControl<'_>) -> Result<(), TaskFailure> {
        let VerifierTask { task, claim, .. } = task;
        if task.kernel != KERNEL {
            let reason = format!("the shard needs kernel version {}, but this is {KERNEL}", task.kernel);
            return Err(TaskFailure::Transient(reason));
        }
        let program = self.programs.get(task.program).await?;
        match claim {
            Some(claim) => self.verify(task, claim, &program, control).await,
            None => self.execute_fallback(task, &program, control).await,
        }
    }

    /// Ends the job of a task whose shard crashed every backend, or whose handling keeps panicking.
    async fn give_up(&self, task: &VerifierTask, reason: String) -> Result<(), TaskFailure> {
        let Some(claim) = &task.claim else { return self.publish_crash(&task.task, reason).await };
        let reference = self.reference.as_ref();
        let judgement = Judgement::from_execution(reference, VerdictOutcome::Undecided, None, reason);
        Ok(self.publish_verdict(&task.task, claim, judgement).await?)
    }

    /// Executes a shard with the first of `backends` that succeeds, and returns that backend. If
    /// none does, the failure is a crash only if all of them crashed.
    async fn execute<'a>(
        &self,
        backends: &[&'a Arc<dyn Backend>],
        program: &Arc<Program>,
        task: &ShardTask,
        control: TaskControl<'_>,
    ) -> Result<(&'a Arc<dyn Backend>, ShardExecution), ExecutionFailure> {
        let mut worst_failure = None;
        for &backend in backends {
            let (executable, stop) = (Arc::clone(program), control.stop.clone());
            let execution =
                self.executor.execute(control.length, Arc::clone(backend), executable, task.clone(), stop);
            match execution.await {
                Ok(execution) => {
                    self.metrics.record_shard(backend.name(), execution.iterations, execution.wall);
                    return Ok((backend, execution));
                }
                Err(failure) => {
                    self.metrics.record_failed_shard(backend.name());
                    if failure == ExecutionFailure::Stopped {
                        return Err(failure);
                    }
                    tracing::warn!(backend = backend.name(), %failure, "executing the shard failed; trying the next backend");
                    let has_other_reason = matches!(worst_failure, Some(ExecutionFailure::Backend(_)));
                    if !has_other_reason {
                        worst_failure = Some(failure);
                    }
                }
            }
        }
        Err(worst_failure.unwrap_or(ExecutionFailure::Stopped))
    }

    /// Executes a shard that workers failed to execute with the reference, and publishes its
    /// result, or that the execution crashed: then the result will never exist.
    async fn execute_fallback(
        &self,
        task: &ShardTask,
        program: &Arc<Program>,
        control: TaskControl<'_>,
    ) -> Result<(), TaskFailure> {
        match self.execute(&[&self.reference], program, task, control).await {
            Ok((backend, execution)) => {
                // One thread executed the shard, but possibly of another process.
                let execution = ShardExecution { cpu: execution.wall, ..execution };
                self.publish_result(backend.as_ref(), task, &execution).await
            }
            Err(ExecutionFailure::Crashed(reason)) => self.publish_crash(task, reason).await,
            Err(failure) => Err(failure.into()),
        }
    }

    /// Judges a result and publishes the verdict.
    async fn verify(
        &self,
        task: &ShardTask,
        claim: &Claim,
        program: &Arc<Program>,
        control: TaskControl<'_>,
    ) -> Result<(), TaskFailure> {
        let mut backends = sort_by_independence(&self.backends, claim);
        backends.retain(|backend| backend.supports(program));
        if backends.iter().all(|backend| backend.name() != self.reference.name()) {
            backends.push(&self.reference);
        }
        let (backend, execution) = self.execute(&backends, program, task, control).await?;
        let judgement = if execution.hash == claim.result_hash {
            let correct = Some(execution.hash);
            Judgement::from_execution(backend.as_ref(), VerdictOutcome::Confirmed, correct, String::new())
        } else {
            self.arbitrate(task, claim, program, (backend.name(), execution.hash), control).await?
        };
        Ok(self.publish_verdict(task, claim, judgement).await?)
    }

    /// Lets the scalar reference decide between the claimed result and the different one of
    /// a backend.
    async fn arbitrate(
        &self,
        task: &ShardTask,
        claim: &Claim,
        program: &Arc<Program>,
        (backend, hash): (&str, Digest),
        control: TaskControl<'_>,
    ) -> Result<Judgement, TaskFailure> {
        let (job, shard) = (task.job_uid, task.shard_id);
        let judgement = |outcome, correct, reason| {
            Judgement::from_execution(self.reference.as_ref(), outcome, correct, reason)
        };
        let correct = self.execute(&[&self.reference], program, task, control).await?.1.hash;
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
}

#[cfg(test)]
mod tests;
