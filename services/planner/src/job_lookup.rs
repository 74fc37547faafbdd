//! Finds a job's record by its id alone, whichever namespace holds it.

use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{ids::JobId, job::JobRecord};
use forge_service::job_records;

/// Looks job records up in every namespace of this installation.
#[derive(Debug, Clone)]
pub struct JobLookup {
    bus: SharedBus,
    namespaces: Vec<String>,
}

impl JobLookup {
    pub fn new(bus: SharedBus, namespaces: Vec<String>) -> Self {
        Self { bus, namespaces }
    }

    /// The record of a job and its bucket. If several namespaces hold the id, the first in the
    /// order of the settings wins.
    ///
    /// # Errors
    /// Returns any error from reading a record.
    pub async fn find(&self, job: &JobId) -> Result<Option<(Bucket, JobRecord)>, BusError> {
        for namespace in &self.namespaces {
            let bucket = Bucket::Jobs(namespace.clone());
            if let Some(found) = job_records::get(self.bus.as_ref(), &bucket, job).await? {
                return Ok(Some((bucket, found.record)));
            }
        }
        Ok(None)
    }
}
