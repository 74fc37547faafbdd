//! Quarantine of a whole pool, after wrong results of several of its agents.

use std::collections::BTreeSet;

use forge_bus::SharedBus;
use forge_contract::{
    agent::{AgentId, PoolQuarantineRecord},
    ids::PoolName,
};
use forge_service::{
    Metrics,
    registry::{self, Registry},
    retry::retry_transient,
};
use tokio_util::sync::CancellationToken;

/// Upper bound on the agents that a record lists.
const MAX_LISTED_AGENTS: usize = 16;

/// Puts pools into quarantine.
#[derive(Debug)]
pub(crate) struct PoolQuarantine {
    pub bus: SharedBus,
    pub registry: Registry,
    pub metrics: Metrics,
    /// Number of quarantined agents of a pool that bring the pool into quarantine; 0 for never.
    pub threshold: usize,
}

impl PoolQuarantine {
    /// Puts a pool into quarantine if it has enough quarantined agents, `refuted` among them: its
    /// own record may not have arrived. `job_end` ends the wait for the bus.
    pub async fn check(&self, pool: &PoolName, refuted: &AgentId, job_end: &CancellationToken) {
        let mut agents: BTreeSet<_> = self.registry.quarantined_agents_of(pool).into_iter().collect();
        agents.insert(refuted.clone());
        let is_due = self.threshold > 0 && agents.len() >= self.threshold;
        if !is_due || self.registry.is_pool_quarantined(pool) {
            return;
        }
        let count = agents.len();
        let record = PoolQuarantineRecord {
            schema: PoolQuarantineRecord::SCHEMA.to_owned(),
            pool: pool.clone(),
            agents: agents.into_iter().take(MAX_LISTED_AGENTS).collect(),
        };
        let written = retry_transient(job_end, "putting a pool into quarantine", || {
            registry::quarantine_pool(&self.bus, &record)
        });
        match written.await {
            Some(Ok(true)) => {
                self.metrics.count_quarantined_pool();
                tracing::error!(%pool, quarantined_agents = count, "the pool is in quarantine: none of its results counts");
            }
            Some(Err(error)) => {
                tracing::error!(%pool, %error, "putting the pool into quarantine failed; its next refuted result tries again");
            }
            Some(Ok(false)) | None => {}
        }
    }
}
