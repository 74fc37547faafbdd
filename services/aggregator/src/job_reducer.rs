//! One job from the order to reduce to its terminal record: collect the results, publish them, end
//! the job. Each step is another component's.

use std::{sync::Arc, time::Duration};

use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{
    artifact::{Execution, Phase, VerificationDocument},
    envelope::Envelope,
    error::{FailureCode, InvalidDocument},
    ids::{JobId, JobUid},
    job::{JobState, VerificationSummary},
    task::{EndOrder, ReduceOrder},
};
use forge_documents::{CompletedJob, Job, JobResult, record_figures};
use forge_kernel::{job_key::JobKey, request::Request};
use forge_service::{
    Settlement,
    blocking::compute_blocking,
    clock::Clock,
    job_keys, job_memory, job_records,
    job_watch::JobWatch,
    memory_budget::{MemoryBudget, MemoryReservation},
    model_cache::{CachedModels, ModelCache},
    retry::retry_transient,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    acceptance::JobContext,
    publish_error::PublishError,
    publisher::{Publication, Publisher},
    result_collector::{CollectedResults, CollectionError, ResultCollector},
    termination::{RecordedResult, Termination, retry_later},
};

/// How long a job waits for memory here, before its order goes back to the bus: another aggregator
/// may have room for it.
const MEMORY_PATIENCE: Duration = Duration::from_secs(30);
/// Delay before the order is received again. Without one it would be the next order, and those of
/// smaller jobs would never have their turn. A turn, not a failure, so that it does not grow.
const MEMORY_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Delay before a job that made no progress, and made way for others, is reduced again. A turn, not
/// a failure, so that it does not grow.
const YIELD_DELAY: Duration = Duration::from_secs(10);

/// Why results were not collected.
#[derive(Debug)]
enum CollectionFailure {
    /// Other jobs take the memory.
    OutOfMemory,
    /// The job cannot complete.
    JobFailed(EndOrder),
    /// The bus refuses this aggregator an operation, until an operator acts.
    Blocked(BusError),
    /// The job makes no progress, and others wait for its slot or its memory.
    Yielded,
}

impl From<CollectionError> for CollectionFailure {
    fn from(error: CollectionError) -> Self {
        match error {
            CollectionError::JobFailed(order) => Self::JobFailed(order),
            CollectionError::Blocked(error) => Self::Blocked(error),
            CollectionError::Yielded => Self::Yielded,
        }
    }
}

/// Why a job was not started.
#[derive(Debug)]
enum CompilationFailure {
    /// Other jobs take the memory.
    OutOfMemory,
    /// The job must end with this code and message.
    Refused(FailureCode, String),
}

/// A completed job, for other parts of the process.
#[derive(Debug)]
pub struct JobCompletion {
    /// The job.
    pub job: Arc<Job>,
    /// Its merged result and the statistics of it.
    pub job_result: JobResult,
    /// The execution of each shard of the result, in shard order.
    pub executions: Vec<Execution>,
    /// What was verified.
    pub verification: VerificationDocument,
    /// Time from the order to reduce to the last result or verdict.
    pub execution_duration: Duration,
    /// Where the manifest is; `None` if the envelope asked for no artifacts.
    pub manifest: Option<String>,
    /// Whether an earlier run of the job stored the manifest.
    pub stored_before: bool,
}

/// Reduces jobs.
#[derive(Debug)]
pub(crate) struct JobReducer {
    pub bus: SharedBus,
    pub clock: Clock,
    pub job_watch: JobWatch,
    pub models: Arc<ModelCache>,
    /// Permits to compile a model that is not cached.
    pub compilations: Semaphore,
    /// The memory for jobs.
    pub budget: MemoryBudget,
    pub collector: ResultCollector,
    pub publisher: Publisher,
    pub termination: Arc<Termination>,
    /// Receives completed jobs.
    pub completions: Option<mpsc::UnboundedSender<JobCompletion>>,
    /// Cancelled when the process shuts down.
    pub stop: CancellationToken,
}

impl JobReducer {
    /// Reduces a job until it has ended. When the process shuts down, the order goes to another
    /// aggregator, which reads the job's results again.
    pub async fn reduce(&self, order: ReduceOrder) -> Settlement {
        let bucket = Bucket::Jobs(order.envelope.artifacts.kv_namespace.clone());
        let _slot = self.collector.slots.enter();
        let watch = retry_transient(&self.stop, "watching for the end of a job", || {
            self.job_watch.watch(&bucket, &order.job_id)
        });
        let end_signal = match watch.await {
            Some(Ok(signal)) => signal,
            Some(Err(error)) => return retry_later("watching for the end of a job", &error),
            None => return Settlement::Retry(Duration::ZERO),
        };
        let job_end = end_signal.token();
        let planning_duration = Duration::from_micros(order.plan_us);
        let (job_id, job_uid) = (order.job_id.clone(), order.job_uid);
        match job_records::get(self.bus.as_ref(), &bucket, &job_id).await {
            Ok(Some(found)) if found.record.uid != job_uid => {
                tracing::warn!(job = %job_id, uid = %job_uid, "dropping an order to reduce an earlier submission");
                job_end.cancel();
            }
            Ok(_) => {}
            Err(error) => return retry_later("reading the record of a job to reduce", &error),
        }
        let collected = tokio::select! {
            biased;
            () = job_end.cancelled() => None,
            () = self.stop.cancelled() => return Settlement::Retry(Duration::ZERO),
            collected = self.collect(order, &bucket, job_end) => match collected {
                Ok(collected) => Some(Ok(collected)),
                Err(CollectionFailure::JobFailed(order)) => Some(Err(order)),
                Err(CollectionFailure::OutOfMemory) => return Settlement::Retry(MEMORY_RETRY_DELAY),
                Err(CollectionFailure::Yielded) => return Settlement::Retry(YIELD_DELAY),
                Err(CollectionFailure::Blocked(error)) => {
                    return retry_later("collecting the results of a job", &error);
                }
            },
        };
        // From here on the job's end does not interrupt: these steps are what ends it.
        let end = async {
            match collected {
                Some(Ok((context, results, memory))) => {
                    let completed = self.complete(&context, &bucket, planning_duration, results).await;
                    drop(memory);
                    completed
                }
                Some(Err(order)) => self.termination.fail(order).await.map(|()| Settlement::Ack),
                None => {
                    let cleanup = self.termination.resume_cleanup(&bucket, &job_id, job_uid);
                    cleanup.await.map(|()| Settlement::Ack)
                }
            }
        };
        match self.stop.run_until_cancelled(end).await {
            Some(Ok(settlement)) => settlement,
            Some(Err(error)) => retry_later("ending a job after its reduction", &error),
            None => Settlement::Retry(Duration::ZERO),
        }
    }

    /// Collects the results of a job, within the memory that is reserved for it.
    async fn collect(
        &self,
        order: ReduceOrder,
        bucket: &Bucket,
        job_end: &CancellationToken,
    ) -> Result<(Arc<JobContext>, CollectedResults, MemoryReservation), CollectionFailure> {
        let started = Instant::now();
        let ReduceOrder { job_id, job_uid, envelope, .. } = order;
        let compiled = self.compile((&job_id, job_uid), bucket, envelope).await;
        let (request, memory) = compiled.map_err(|failure| match failure {
            CompilationFailure::OutOfMemory => CollectionFailure::OutOfMemory,
            CompilationFailure::Refused(code, message) => CollectionFailure::JobFailed(EndOrder::new(
                job_id.clone(),
                job_uid,
                bucket.name(),
                code,
                Phase::Reduce,
                message,
            )),
        })?;
        let fail = |message| {
            let (bucket, code) = (bucket.name(), FailureCode::Internal);
            CollectionFailure::JobFailed(EndOrder::new(job_id, job_uid, bucket, code, Phase::Reduce, message))
        };
        let key = match self.load_key(job_uid, job_end).await {
            Ok(Some(key)) => key,
            Ok(None) => {
                let bucket = Bucket::Secrets.name();
                return Err(fail(format!("the key of job {job_uid} is missing from bucket {bucket}")));
            }
            Err(error) if error.class().is_retryable() => return Err(CollectionFailure::Blocked(error)),
            Err(error) => return Err(fail(error.to_string())),
        };
        let context = Arc::new(JobContext::new(Arc::new(Job::new(request)), job_uid, key));
        let collected = self.collector.collect(&context, bucket, job_end, started).await;
        Ok((context, collected?, memory))
    }

    /// Compiles a request and reserves the memory that the job needs. Holds no request while it
    /// waits for memory.
    async fn compile(
        &self,
        (job, uid): (&JobId, JobUid),
        bucket: &Bucket,
        envelope: Envelope,
    ) -> Result<(Request, MemoryReservation), CompilationFailure> {
        let request = self.compile_request(envelope.clone()).await?;
        let (shards, bytes) = (request.plan.shard_count(), job_memory::aggregation_bytes(&request));
        if bytes > self.budget.total() {
            let message = format!(
                "{}; aggregators have less memory for jobs than planners were told",
                job_memory::describe_excess(shards, bytes, self.budget.total())
            );
            return Err(CompilationFailure::Refused(FailureCode::AggregationFailed, message));
        }
        if let Some(memory) = self.budget.try_reserve(bytes) {
            return Ok((request, memory));
        }
        drop(request);
        tracing::warn!(%job, shards, bytes, "other jobs take the memory of this aggregator; the job waits");
        let reason = "other jobs take the memory of the aggregator";
        job_records::note_waiting(self.bus.as_ref(), self.clock, bucket, (job, uid), Some(reason)).await;
        let memory = self.budget.reserve(bytes, MEMORY_PATIENCE).await;
        let memory = memory.ok_or(CompilationFailure::OutOfMemory)?;
        Ok((self.compile_request(envelope).await?, memory))
    }

    /// Compiles a request: at once if its model is cached, and else with a permit.
    async fn compile_request(&self, envelope: Envelope) -> Result<Request, CompilationFailure> {
        let compiled = match self.find_compiled(envelope.clone()) {
            Some(found) => found,
            None => {
                let _permit = self.compilations.acquire().await;
                compute_blocking(|| Request::from_envelope_with(envelope, self.models.as_ref()))
            }
        };
        compiled.map_err(|invalid| {
            let message = format!("the aggregator rejects an envelope that the planner accepted: {invalid}");
            CompilationFailure::Refused(FailureCode::Internal, message)
        })
    }

    /// The request of an envelope whose model is cached; `None` if it has to be compiled.
    fn find_compiled(&self, envelope: Envelope) -> Option<Result<Request, InvalidDocument>> {
        let cached = CachedModels::new(&self.models);
        let request = compute_blocking(|| Request::from_envelope_with(envelope, &cached));
        (!cached.has_missed()).then_some(request)
    }

    /// Reads the key of a job; `None` if there is none.
    async fn load_key(&self, job: JobUid, job_end: &CancellationToken) -> Result<Option<JobKey>, BusError> {
        let read = || job_keys::load_expected(self.bus.as_ref(), job);
        match retry_transient(job_end, "reading the key of a job", read).await {
            Some(result) => result,
            // The caller drops this future when the job has ended.
            None => std::future::pending().await,
        }
    }

    /// Publishes the result if the envelope asks for artifacts, and writes the terminal record. A
    /// job with a result that was refuted meanwhile is reduced again. Returns the settlement of the
    /// order.
    async fn complete(
        &self,
        context: &JobContext,
        bucket: &Bucket,
        planning_duration: Duration,
        results: CollectedResults,
    ) -> Result<Settlement, BusError> {
        let JobContext { job, uid, key, .. } = context;
        let uid = *uid;
        let CollectedResults { reduced, execution_duration, kept_results } = results;
        let update = job_records::update(self.bus.as_ref(), self.clock, bucket, &job.id, |record| {
            record.state = JobState::Reducing;
            record.progress = reduced.progress;
            record.uid == uid
        });
        let record = update.await?.record;
        if record.state.is_terminal() || record.uid != uid {
            return self.termination.announce_and_purge(uid).await.map(|()| Settlement::Ack);
        }
        let (merged, stop_reason) = (reduced.merged, reduced.stop_reason);
        let job_result = compute_blocking(|| JobResult::new(&job.request, merged, stop_reason));
        let check = async {
            match self.collector.has_unknown_refutation(context, &reduced.verification.refuted).await? {
                true => Err(PublishError::Refuted),
                false => Ok(()),
            }
        };
        let published = if job.request.envelope.artifacts.persist {
            let completed = CompletedJob {
                job,
                job_uid: uid,
                job_key: key,
                result: &job_result,
                executions: &reduced.executions,
                verification: &reduced.verification,
                planning_duration,
                execution_duration,
            };
            self.publisher.publish(&completed, kept_results.get(), check).await.map(Some)
        } else {
            check.await.map(|()| None)
        };
        let publication = match published {
            Ok(publication) => publication,
            Err(PublishError::Bus(error)) => return Err(error),
            Err(PublishError::Refuted) => {
                tracing::warn!(job = %job.id, "a result was refuted after it was collected; reducing the job again");
                return Ok(Settlement::Retry(Duration::ZERO));
            }
            Err(PublishError::Failed { code, message }) => {
                let order = EndOrder::new(job.id.clone(), uid, bucket.name(), code, Phase::Store, message);
                return self.termination.fail(order).await.map(|()| Settlement::Ack);
            }
        };
        let (manifest, artifacts, stored_before) = match publication {
            Some(Publication { artifacts, manifest, stored_before }) => {
                (Some(manifest), artifacts, stored_before)
            }
            None => (None, Vec::new(), false),
        };
        let (headline, manifest_location) = (record_figures(&job_result.document.output), manifest.clone());
        let verification = VerificationSummary::from(&reduced.verification);
        let (progress, hash) = (reduced.progress, job_result.hash);
        let result = RecordedResult { progress, headline, hash, verification, manifest, artifacts };
        self.termination.complete(bucket, &job.id, uid, result).await?;
        if let Some(completions) = &self.completions {
            // The receiver is gone if the process no longer waits for this job.
            let _ = completions.send(JobCompletion {
                job: Arc::clone(job),
                job_result,
                executions: reduced.executions,
                verification: reduced.verification,
                execution_duration,
                manifest: manifest_location,
                stored_before,
            });
        }
        self.termination.announce_and_purge(uid).await.map(|()| Settlement::Ack)
    }
}
