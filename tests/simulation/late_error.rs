//! The write of an aggregator that has died: the store performs it late, while another aggregator
//! completes the job.

use std::sync::Arc;

use async_trait::async_trait;
use forge_bus::topology::Bucket;
use forge_contract::{
    artifact::{ErrorDocument, Phase},
    error::FailureCode,
    ids::JobId,
    job::JobRecord,
};
use forge_store::testing::{InjectedFailure, StoreDisturbance, StoreOperation};

use crate::{cluster::SimulatedCluster, workload::NAMESPACES};

/// The error document of a job.
pub fn error_document(job_id: JobId, message: &str) -> ErrorDocument {
    ErrorDocument {
        schema: ErrorDocument::SCHEMA.to_owned(),
        job_id,
        code: FailureCode::Timeout,
        message: message.to_owned(),
        details: Vec::new(),
        phase: Phase::Execute,
    }
}

/// Stores the error document of a job once an aggregator has removed the one of an earlier attempt,
/// which it does right after it has stored the manifest. Not if the job has ended by then: nothing
/// would remove the document any more.
pub async fn store_late_error(cluster: Arc<SimulatedCluster>, job_id: JobId) {
    let document = error_document(job_id.clone(), "an aggregator that has died");
    let store = cluster.store.disturbed(LateWrite { cluster: Arc::clone(&cluster), job_id });
    // The store looks for a manifest first, and finds none yet.
    let _ = store.put_error(&document).await;
}

/// Delays the write of a job's error document.
struct LateWrite {
    cluster: Arc<SimulatedCluster>,
    job_id: JobId,
}

impl LateWrite {
    /// Whether a record of the job says that it has not ended.
    async fn is_open(&self) -> bool {
        for namespace in NAMESPACES {
            let bucket = Bucket::Jobs(namespace.to_owned());
            let entry = self.cluster.bus.get(&bucket, self.job_id.as_str()).await;
            let value = entry.expect("the in-process bus does not fail").and_then(|entry| entry.value);
            let record = value.and_then(|value| serde_json::from_slice::<JobRecord>(&value).ok());
            if record.is_some_and(|record| !record.state.is_terminal()) {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl StoreDisturbance for LateWrite {
    async fn before(&self, operation: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        let StoreOperation::Put { key } = operation else { return Ok(()) };
        let world = &self.cluster.world;
        let removed = self.cluster.traffic.wait_until_removed(key);
        if world.healed.run_until_cancelled(removed).await.is_none() || !self.is_open().await {
            return Err(InjectedFailure::Unavailable("the job has ended".to_owned()));
        }
        world.record("world", format_args!("{key} is stored late"));
        Ok(())
    }

    async fn after(&self, _: StoreOperation<'_>) -> Result<(), InjectedFailure> {
        Ok(())
    }
}
