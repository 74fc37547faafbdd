//! Executes one job in this process: the services of a cluster over an in-memory bus. The services
//! decide what happens to the job and how it ends; this module only starts them, waits for the end
//! of the job, and passes on its cancellation.
//!
//! Reading order: [`in_process`](self) → [`services`] → [`supervisor`].

mod services;
mod supervisor;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::anyhow;
use forge_aggregator::JobCompletion;
use forge_bus::{
    BusError, MemoryBus, SharedBus,
    topology::{self, Bucket},
};
use forge_documents::Job;
use forge_kernel::{backend::Backend, verification};
use forge_service::model_cache::ModelCache;
use forge_store::Store;
use tokio::sync::mpsc;

use self::{
    services::{InProcessServices, LEASE},
    supervisor::JobSupervisor,
};
use crate::{
    error::CommandError,
    job_host::{JobControl, JobHost},
    runtime::DetachedRuntime,
};

/// Everything that a job is executed with.
pub struct InProcessCluster {
    /// Executes the shards.
    pub backend: Arc<dyn Backend>,
    /// Number of worker threads; each is an agent of its own.
    pub threads: usize,
    /// Receives the artifacts.
    pub store: Arc<Store>,
    /// Compiled models, shared by all services.
    pub models: Arc<ModelCache>,
    /// Upper bound on the shard results, in bytes, that are kept as an artifact.
    pub max_kept_bytes: u64,
}

impl InProcessCluster {
    /// Executes a job, which `host` follows.
    ///
    /// # Errors
    /// [`CommandError::Job`] if the job failed or was cancelled, [`CommandError::Other`] if the
    /// services could not run.
    pub fn execute(
        self,
        runtime: &DetachedRuntime,
        job: &Job,
        host: &JobHost,
    ) -> Result<JobCompletion, CommandError> {
        let request = &job.request;
        let iterations = request.plan.iterations();
        let verified = verification::ratio(&request.envelope.policy) * iterations as f64;
        let iterations = iterations.saturating_add(verified as u64);
        host.run(runtime, request, iterations, async |control| self.run(job, control).await)
    }

    async fn run(self, job: &Job, control: &JobControl) -> Result<JobCompletion, CommandError> {
        let namespace = job.request.envelope.artifacts.kv_namespace.clone();
        let settings = topology::TopologySettings {
            lease: LEASE,
            storage_bytes: topology::TopologySettings::UNLIMITED_STORAGE_BYTES,
            max_message_bytes: topology::TopologySettings::UNLIMITED_MESSAGE_BYTES,
            ..topology::TopologySettings::default()
        };
        let bus: SharedBus = MemoryBus::with_namespaces(settings, vec![namespace.clone()]);
        bus.prepare().await.map_err(bus_failed)?;
        let (sender, completed) = mpsc::unbounded_channel();
        let advance = control.progress_callback();
        let mut services = InProcessServices::start(&bus, self, namespace.clone(), sender, advance)?;
        let supervisor = JobSupervisor {
            bus: &bus,
            bucket: Bucket::Jobs(namespace),
            job: &job.id,
            services: &mut services,
            control,
            completed,
        };
        let result = supervisor.supervise(job).await;
        services.stop().await;
        result
    }
}

/// The in-memory bus never fails, so an error is a bug in this process.
fn bus_failed(error: BusError) -> CommandError {
    CommandError::Other(anyhow!(error).context("the in-memory bus failed"))
}
