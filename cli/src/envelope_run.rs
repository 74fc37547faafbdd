//! One envelope executed in this process, and the store that receives its artifacts: the steps of
//! `forge run` without its output.

use std::sync::Arc;

use forge_aggregator::JobCompletion;
use forge_contract::{
    artifact::Phase,
    error::{FailureCode, InvalidDocument},
    ids::JobId,
};
use forge_documents::Job;
use forge_kernel::request::Request;
use forge_service::model_cache::ModelCache;
use forge_store::{Store, StoreLocation};

use crate::{
    engine::{Engine, EngineArgs},
    error::{CommandError, JobFailure},
    in_process::InProcessCluster,
    job_host::JobHost,
    runtime::DetachedRuntime,
    store_args::s3_options,
};

/// A valid envelope, compiled and ready to be executed.
pub struct EnvelopeRun {
    job: Job,
    /// The model is compiled once; the services of this process share it.
    models: Arc<ModelCache>,
}

/// How an envelope is executed, and where its artifacts go.
pub struct RunSettings {
    /// Backend and number of threads.
    pub engine: EngineArgs,
    /// Receives the artifacts that the envelope asks for.
    pub store: StoreLocation,
    /// Upper bound on the shard results, in bytes, that are kept as an artifact.
    pub max_kept_bytes: u64,
}

/// An executed envelope.
pub struct FinishedRun {
    /// The job and its result.
    pub completion: JobCompletion,
    /// Number of threads that executed it.
    pub threads: usize,
}

impl EnvelopeRun {
    /// Compiles an envelope. It runs under `job_id` instead of its own id, if that is given.
    ///
    /// # Errors
    /// Every error of the envelope.
    pub fn new(envelope: &[u8], job_id: Option<JobId>) -> Result<Self, InvalidDocument> {
        let models = Arc::new(ModelCache::new(1));
        let mut request = Request::from_json_with(envelope, models.as_ref())?;
        if job_id.is_some() {
            request.envelope.ctx.job_id = job_id;
        }
        Ok(Self { job: Job::new(request), models })
    }

    /// The same job, which stores nothing, whatever its envelope says.
    #[must_use]
    pub fn without_artifacts(self) -> Self {
        let Job { mut request, id, .. } = self.job;
        // The id may be derived from the envelope, which changes here.
        request.envelope.ctx.job_id = Some(id);
        request.envelope.artifacts.persist = false;
        Self { job: Job::new(request), models: self.models }
    }

    /// The compiled envelope.
    pub fn request(&self) -> &Request {
        &self.job.request
    }

    /// Executes the envelope, which `host` follows.
    ///
    /// # Errors
    /// A setting cannot be used, another envelope has completed under the job's id, or the job
    /// failed or was cancelled.
    pub fn execute(self, settings: &RunSettings, host: &JobHost) -> Result<FinishedRun, CommandError> {
        let job = &self.job;
        let engine = Engine::new(&settings.engine, &job.request)?;
        let runtime = DetachedRuntime::new()?;
        let archive = match job.request.envelope.artifacts.persist {
            true => Some(JobArchive::open(&runtime, &settings.store, job)?),
            false => None,
        };
        let store = archive.as_ref().map_or_else(|| Arc::new(Store::in_memory()), |a| Arc::clone(&a.store));
        let request = &job.request;
        let limited = engine.limited_by(&request.envelope.policy, request.plan.shard_count());
        let Engine { backend, threads, .. } = limited.map_err(|failure| match &archive {
            Some(archive) => archive.record_failure(failure),
            None => failure.into(),
        })?;
        let max_kept_bytes = settings.max_kept_bytes;
        let cluster = InProcessCluster { backend, threads, store, models: self.models, max_kept_bytes };
        match cluster.execute(&runtime, job, host) {
            Ok(completion) => Ok(FinishedRun { completion, threads }),
            Err(CommandError::Job(failure)) => Err(match archive {
                Some(archive) => archive.describe_failure(failure),
                None => failure.into(),
            }),
            Err(other) => Err(other),
        }
    }
}

/// The store from the perspective of one job, before and after its run.
struct JobArchive<'a> {
    runtime: &'a DetachedRuntime,
    store: Arc<Store>,
    job: &'a Job,
}

impl<'a> JobArchive<'a> {
    /// Opens the store and checks that no other envelope has completed under the job's id.
    fn open(
        runtime: &'a DetachedRuntime,
        location: &StoreLocation,
        job: &'a Job,
    ) -> Result<Self, CommandError> {
        let storage = |error| JobFailure::storage(&error);
        let store = runtime.block_on(Store::open(location, &s3_options(location)?)).map_err(storage)?;
        let earlier = runtime.block_on(store.get_manifest(&job.id)).map_err(storage)?;
        if earlier.is_none_or(|earlier| earlier.request == job.envelope_digest) {
            return Ok(Self { runtime, store: Arc::new(store), job });
        }
        let message = format!(
            "{} is the manifest of another envelope with job id {}; choose another job id with --as, or another --out",
            store.locate(&Store::manifest_key(&job.id)),
            job.id
        );
        Err(JobFailure::new(FailureCode::Conflict, Phase::Validate, message).into())
    }

    /// Records a failure that occurred before the job was executed, and adds the location of the
    /// record to its message.
    fn record_failure(&self, mut failure: JobFailure) -> CommandError {
        let document = self.job.error_document(failure.code, failure.phase, &failure.message, Vec::new());
        match self.runtime.block_on(self.store.put_error(&document)) {
            Ok(true) => self.describe_failure(failure),
            Ok(false) => failure.into(),
            Err(error) => {
                failure.message = format!("{} (not recorded: {error})", failure.message);
                failure.into()
            }
        }
    }

    /// Adds the location of the failure's record to its message, if it was recorded. If an earlier
    /// run stored a different result, that is a mismatch rather than a failure of this job.
    fn describe_failure(&self, mut failure: JobFailure) -> CommandError {
        if (failure.code, failure.phase) == (FailureCode::VerificationFailed, Phase::Store) {
            return CommandError::Mismatch(format!("{}: {}", failure.code, failure.message));
        }
        let recorded = self.runtime.block_on(self.store.get_error(&self.job.id)).ok().flatten();
        if recorded.is_some_and(|recorded| recorded.message == failure.message) {
            let location = self.store.locate(&Store::error_key(&self.job.id));
            failure.message = format!("{} (recorded in {location})", failure.message);
        }
        failure.into()
    }
}
