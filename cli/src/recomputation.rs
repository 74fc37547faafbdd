//! A completed job computed again from its stored envelope, in this process. The caller decides
//! what becomes of the result.

use std::{path::Path, sync::Arc};

use forge_aggregator::JobCompletion;
use forge_contract::envelope::{Artifacts, Policy};
use forge_documents::Job;
use forge_kernel::request::Request;
use forge_service::model_cache::ModelCache;
use forge_store::Store;

use crate::{
    engine::{Engine, EngineArgs},
    error::CommandError,
    in_process::InProcessCluster,
    job_host::JobHost,
    runtime::DetachedRuntime,
    stored_job::{JobLocation, StoredJob},
};

/// A completed job and its second computation.
pub struct Recomputation {
    /// The job in its store.
    pub stored: StoredJob,
    /// The job of the stored envelope.
    pub job: Job,
    /// The second computation.
    pub completion: JobCompletion,
    /// Name of the backend that executed it.
    pub backend: String,
    /// Number of threads that executed it.
    pub threads: usize,
}

impl Recomputation {
    /// Computes the job at `manifest` again. Nothing is stored.
    ///
    /// # Errors
    /// The job cannot be read or executed. A different result is no error.
    pub fn of_job(manifest: &Path, engine: &EngineArgs) -> Result<Self, CommandError> {
        let stored = StoredJob::open(&JobLocation::from_path(manifest)?)?;
        stored.check_result_reference()?;
        let models = Arc::new(ModelCache::new(1));
        let job = stored.read_job(models.as_ref())?;
        let unstored = unstored_job(&job, &models)?;
        let Engine { backend, threads, .. } = Engine::new(engine, &job.request)?;
        let backend_name = backend.name().to_owned();
        let store = Arc::new(Store::in_memory());
        let cluster = InProcessCluster { backend, threads, store, models, max_kept_bytes: 0 };
        let host = JobHost::Command { show_progress: !engine.no_progress };
        let completion = cluster.execute(&DetachedRuntime::new()?, &unstored, &host)?;
        Ok(Self { stored, job, completion, backend: backend_name, threads })
    }

    /// Checks that the result has the hash that the manifest states.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if it has not.
    pub fn require_same_result(&self) -> Result<(), CommandError> {
        if self.completion.job_result.hash == self.stored.manifest.result {
            return Ok(());
        }
        let job_id = &self.stored.manifest.job_id;
        Err(CommandError::Mismatch(format!(
            "the recomputed result of job {job_id} differs from the stored one"
        )))
    }
}

/// The same computation as a job that stores nothing, without the policy, whose limits on time and
/// agents applied to the original job.
fn unstored_job(job: &Job, models: &ModelCache) -> Result<Job, CommandError> {
    let mut envelope = job.request.envelope.clone();
    envelope.policy = Policy::default();
    envelope.artifacts = Artifacts { persist: false, ..Artifacts::default() };
    Request::from_envelope_with(envelope, models)
        .map(Job::new)
        .map_err(|errors| CommandError::Mismatch(format!("the stored envelope is not valid: {errors}")))
}
