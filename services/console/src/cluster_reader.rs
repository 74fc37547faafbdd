//! Reads jobs and agents over NATS, with the requests of a client and of an operator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forge_bus::{BusError, SharedBus};
use forge_contract::{ids::JobId, job::JobRecord, job_list::JobListRequest};
use forge_service::{
    job_api,
    registry::listing::{self, Heartbeat, Quarantines},
};
use tokio::time::timeout;

use crate::cached::Cached;

/// Records of a namespace that are read at most, so that memory is bounded.
const MAX_RECORDS: usize = 10_000;
/// Time limit for reading the registry. A credential that may not read it gets no answer.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Records of a namespace, the most recent first.
#[derive(Debug)]
pub struct JobSnapshot {
    /// The records.
    pub records: Vec<JobRecord>,
    /// Whether more jobs follow, of which none was read.
    pub is_cut: bool,
}

/// Agents and quarantines.
#[derive(Debug)]
pub struct AgentSnapshot {
    /// Heartbeats by role, pool and host.
    pub heartbeats: Vec<Heartbeat>,
    /// What is in quarantine.
    pub quarantines: Quarantines,
}

/// Reads the cluster. Lists are shared by all requests of about the same time.
#[derive(Debug)]
pub struct ClusterReader {
    bus: SharedBus,
    jobs: BTreeMap<String, Cached<JobSnapshot>>,
    agents: Cached<AgentSnapshot>,
}

impl ClusterReader {
    /// A reader of these buckets of job records.
    pub fn new(bus: SharedBus, namespaces: &[String]) -> Self {
        let jobs = namespaces.iter().map(|namespace| (namespace.clone(), Cached::new())).collect();
        Self { bus, jobs, agents: Cached::new() }
    }

    /// The records of a namespace.
    ///
    /// # Errors
    /// See [`job_api::list`].
    pub async fn jobs(&self, namespace: &str) -> Result<Arc<JobSnapshot>, BusError> {
        let cached = self.jobs.get(namespace).ok_or_else(|| BusError::Missing(namespace.to_owned()))?;
        cached.get(self.read_jobs(namespace)).await
    }

    async fn read_jobs(&self, namespace: &str) -> Result<JobSnapshot, BusError> {
        let mut request =
            JobListRequest { namespace: Some(namespace.to_owned()), ..JobListRequest::default() };
        let mut records: Vec<JobRecord> = Vec::new();
        let is_cut = loop {
            let page = job_api::list(self.bus.as_ref(), &request).await?;
            records.extend(page.jobs);
            request.after = page.next;
            if request.after.is_none() || records.len() >= MAX_RECORDS {
                break request.after.is_some();
            }
        };
        records.sort_by(|a, b| (&b.submitted_at, &b.job_id).cmp(&(&a.submitted_at, &a.job_id)));
        Ok(JobSnapshot { records, is_cut })
    }

    /// The record of a job; `None` if the cluster has none.
    ///
    /// # Errors
    /// See [`job_api::status`].
    pub async fn job(&self, job: &JobId) -> Result<Option<JobRecord>, BusError> {
        match job_api::status(self.bus.as_ref(), job).await {
            Err(BusError::Refused { status: 404, .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The registry of agents.
    ///
    /// # Errors
    /// NATS is unreachable, or refuses access to the buckets.
    pub async fn agents(&self) -> Result<Arc<AgentSnapshot>, BusError> {
        let read = async {
            let heartbeats = listing::read_heartbeats(self.bus.as_ref()).await?;
            Ok(AgentSnapshot { heartbeats, quarantines: listing::read_quarantines(self.bus.as_ref()).await? })
        };
        let refused = |_| BusError::Unavailable("the registry of agents did not answer".to_owned());
        self.agents.get(async { timeout(REGISTRY_TIMEOUT, read).await.map_err(refused)? }).await
    }
}
