//! Executing a job in this process: the services of a cluster, over a bus that is no more than this process's memory. What
//! a job is and how it ends is theirs; here is only their common stage, the wait for the end, and signals.
//!
//! Reading order: [`inprocess`](self) → [`services`].

mod services;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow};
use forge_aggregator::JobCompletion;
use forge_bus::{
    BucketEntry, MemoryBus, Message, SharedBus,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::JobId,
    job::{JobRecord, JobState},
    task::EndOrder,
};
use forge_documents::Job;
use forge_kernel::{backend::Backend, verification};
use forge_service::{model_cache::ModelCache, orders};
use forge_store::Store;
use futures_util::StreamExt;
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc,
    time::{sleep, timeout},
};

use self::services::{Ended, LEASE, Services};
use crate::{
    engine::cores,
    failure::{Failure, JobFailure},
    interrupt::Interrupt,
    progress::Progress,
};

/// Threads for everything but executing shards, at most: they read, sign, merge and wait.
const TASK_THREADS: usize = 4;
/// How long it may take until a job that has ended is cleared away.
const CLEARING: Duration = Duration::from_secs(1);
/// How long the answer to a cancellation is waited for, and the time between two attempts.
const CANCELLING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(10));

/// A runtime whose end waits for nothing: threads may still be in the middle of a shard that nobody wants any more.
pub struct Stage(Option<Runtime>);

impl Stage {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new() -> Result<Self, Failure> {
        let mut builder = runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(cores().min(TASK_THREADS)).enable_all().build();
        Ok(Self(Some(runtime.context("no asynchronous runtime can be made")?)))
    }

    /// Runs a future to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("it is taken by its end alone").block_on(future)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// What a job is executed with.
pub struct Local {
    /// What executes its shards.
    pub backend: Arc<dyn Backend>,
    /// On how many threads; each is an agent.
    pub threads: usize,
    /// Where its artifacts go, if it has any.
    pub store: Arc<Store>,
    /// Models that have been compiled already.
    pub models: Arc<ModelCache>,
    /// Whether all shard results are kept.
    pub keep_shards: bool,
}

impl Local {
    /// Executes a job, while `progress` shows how far it is.
    ///
    /// # Errors
    /// The job failed or was cancelled, as its record says.
    pub fn execute(self, stage: &Stage, job: &Job, progress: bool) -> Result<JobCompletion, Failure> {
        let request = &job.request;
        let iterations = request.plan.iterations();
        let again = verification::ratio(&request.envelope.policy) * iterations as f64;
        let done = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&done);
        let advance = Arc::new(move |iterations| {
            count.fetch_add(iterations, Ordering::Relaxed);
        });
        Progress::new(progress, request, iterations.saturating_add(again as u64))
            .during(&done, || stage.block_on(self.run(job, advance)))
    }

    async fn run(
        self,
        job: &Job,
        advance: forge_service::executor::ProgressCallback,
    ) -> Result<JobCompletion, Failure> {
        let mut interrupt = Interrupt::new().context("signals cannot be handled")?;
        let namespace = job.request.envelope.artifacts.kv_namespace.clone();
        let settings = topology::TopologySettings { lease: LEASE, ..topology::TopologySettings::default() };
        let bus: SharedBus = MemoryBus::with_namespaces(settings, vec![namespace.clone()]);
        bus.prepare().await.map_err(broken)?;
        let (sender, completed) = mpsc::unbounded_channel();
        let mut services = Services::start(&bus, self, namespace.clone(), sender, advance)?;
        let attended = Attended {
            bus: &bus,
            bucket: Bucket::Jobs(namespace),
            job: &job.id,
            services: &mut services,
            interrupt: &mut interrupt,
            completed,
        };
        let outcome = attended.attend(job).await;
        services.end().await;
        outcome
    }
}

/// A job whose end is waited for.
struct Attended<'a> {
    bus: &'a SharedBus,
    bucket: Bucket,
    job: &'a JobId,
    services: &'a mut Services,
    interrupt: &'a mut Interrupt,
    completed: mpsc::UnboundedReceiver<JobCompletion>,
}

impl Attended<'_> {
    /// Submits the job and waits until it has ended and its shards have been stopped.
    async fn attend(mut self, job: &Job) -> Result<JobCompletion, Failure> {
        let mut ended = self.bus.subscribe(&topology::job_ended_subject(self.job)).await.map_err(broken)?;
        let envelope = serde_json::to_vec(&job.request.envelope);
        let envelope = envelope.context("the envelope cannot be written")?;
        let submission = Message::new(topology::SUBMIT_SUBJECT, envelope);
        self.bus.publish(submission, "submission").await.map_err(broken)?;
        let outcome = self.wait().await;
        if matches!(outcome, Ok(_) | Err(Failure::Job(_))) {
            // Workers hear of the end in the same way, and stop what they are at.
            let _ = timeout(CLEARING, ended.next()).await;
        }
        outcome
    }

    async fn wait(&mut self) -> Result<JobCompletion, Failure> {
        let mut records = self.bus.watch(&self.bucket, self.job.as_str()).await.map_err(broken)?;
        let mut cancelled = false;
        loop {
            tokio::select! {
                Some(completed) = self.completed.recv() => return Ok(completed),
                Some(entry) = records.next() => if let Some(failure) = failure(&entry) {
                    return Err(failure.into());
                },
                () = self.interrupt.received(), if !cancelled => {
                    cancelled = true;
                    tokio::spawn(cancel(self.bus.clone(), self.job.clone()));
                }
                ended = self.services.ended() => match ended {
                    Ended::Service(failure) => return Err(failure),
                    Ended::Workers => self.give_up().await?,
                },
            }
        }
    }

    /// Every agent of this process has returned wrong results.
    async fn give_up(&self) -> Result<(), Failure> {
        let (message, id) = orders::build_end(EndOrder::new(
            self.job.clone(),
            self.bucket.name(),
            FailureCode::VerificationFailed,
            Phase::Verify,
            "every agent of this process returned wrong results; run again with --backend scalar, and report this",
        ));
        self.bus.publish(message, &id).await.map_err(broken)
    }
}

/// The failure that a record tells of.
fn failure(entry: &BucketEntry) -> Option<JobFailure> {
    let record: JobRecord = serde_json::from_slice(entry.value.as_ref()?).ok()?;
    if !matches!(record.state, JobState::Failed | JobState::Cancelled) {
        return None;
    }
    Some(record.error.map_or_else(
        || {
            JobFailure::new(
                FailureCode::Internal,
                Phase::Execute,
                "the job's record does not say why it ended",
            )
        },
        |error| JobFailure::new(error.code, error.phase, error.message),
    ))
}

/// Asks for the cancellation of a job until somebody has heard it: a planner may not have it yet.
async fn cancel(bus: SharedBus, job: JobId) {
    let (limit, pause) = CANCELLING;
    while bus.request(Message::new(topology::API_CANCEL_SUBJECT, job.to_string()), limit).await.is_err() {
        sleep(pause).await;
    }
}

/// The bus within a process does not fail.
fn broken(error: forge_bus::BusError) -> Failure {
    Failure::Other(anyhow!(error).context("the bus of this process failed"))
}

#[cfg(test)]
mod tests;
