//! The registry of agents: heartbeats of verifiers and aggregators, and quarantines, in bucket
//! `forge_agents`; heartbeats of workers in bucket `forge_workers`. Reads are served from a copy
//! that watches keep up to date. What workers write only counts as capacity, never as trust.

mod heartbeat;
pub mod listing;
mod live_workers;
mod quarantine;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forge_bus::{BucketEntry, BusError, SharedBus, topology::Bucket};
use forge_contract::{
    agent::{AgentId, QuarantineRecord},
    envelope::Target,
    ids::PoolName,
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub use self::{
    heartbeat::{AgentCapacity, agent_record, register, register_worker},
    live_workers::{LIVENESS_TIMEOUT, LiveCapacity},
    quarantine::{
        AGENT_QUARANTINE_PREFIX, POOL_QUARANTINE_PREFIX, QuarantineScope, agent_quarantine_key,
        find_quarantine, pool_quarantine_key, quarantine_agent, quarantine_pool,
    },
};
use self::{
    live_workers::LiveWorkers,
    quarantine::{QuarantineKey, parse_quarantine_key},
};
use crate::job_records::wait_until_visible;

/// Upper bound on the quarantined pools that are named in a sentence.
const MAX_NAMED_POOLS: usize = 8;

/// Role of a trusted agent, the prefix of its key in bucket `forge_agents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Verifies results, and executes shards that workers failed to execute.
    Verifier,
    /// Collects results and ends jobs.
    Aggregator,
}

impl Role {
    fn key(self, id: &AgentId) -> String {
        let prefix = match self {
            Self::Verifier => "verifiers",
            Self::Aggregator => "aggregators",
        };
        format!("{prefix}.{id}")
    }
}

/// A copy of the registry that follows the buckets. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    bus: SharedBus,
    state: Arc<Mutex<RegistryState>>,
}

#[derive(Debug, Default)]
struct RegistryState {
    /// Keys of the verifiers and aggregators that were ever registered.
    agents: BTreeSet<String>,
    /// Quarantined agents and their pools, which a record that cannot be parsed does not tell.
    quarantined_agents: BTreeMap<AgentId, Option<PoolName>>,
    quarantined_pools: BTreeSet<PoolName>,
    live_workers: LiveWorkers,
}

impl Registry {
    /// Opens the registry and follows both buckets until `stop` is cancelled.
    ///
    /// # Errors
    /// Returns any error of opening a watch.
    pub async fn open(bus: SharedBus, stop: CancellationToken) -> Result<Self, BusError> {
        let registry = Self::open_without_workers(bus, stop.clone()).await?;
        registry.follow(Bucket::Workers, stop, RegistryState::apply_worker).await?;
        Ok(registry)
    }

    /// Opens the registry for a service that does not need to know which workers are live, and has
    /// no permission to read their heartbeats. [`Self::live_capacity`] is always empty.
    ///
    /// # Errors
    /// Returns any error of opening the watch.
    pub async fn open_without_workers(bus: SharedBus, stop: CancellationToken) -> Result<Self, BusError> {
        let registry = Self { bus, state: Arc::default() };
        registry.follow(Bucket::Agents, stop, RegistryState::apply_agent).await?;
        Ok(registry)
    }

    async fn follow(
        &self,
        bucket: Bucket,
        stop: CancellationToken,
        apply: fn(&mut RegistryState, BucketEntry),
    ) -> Result<(), BusError> {
        let mut changes = self.bus.watch(&bucket, ">").await?;
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            while let Some(Some(entry)) = stop.run_until_cancelled(changes.next()).await {
                apply(&mut state.lock(), entry);
            }
        });
        Ok(())
    }

    /// Whether a verifier or aggregator was ever registered in any of these roles, live or not.
    ///
    /// # Errors
    /// Returns any error of reading the bucket.
    pub async fn is_registered(&self, id: &AgentId, roles: &[Role]) -> Result<bool, BusError> {
        for role in roles {
            let key = role.key(id);
            if self.state.lock().agents.contains(&key) {
                return Ok(true);
            }
            // The agent may have registered so recently that the change has not arrived.
            if let Some(entry) = self.bus.get(&Bucket::Agents, &key).await?
                && entry.value.is_some()
            {
                self.state.lock().apply_agent(entry);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`Self::is_registered`], and waits for an agent that registered so recently that a
    /// deposed leader does not know it: up to
    /// [`MISSING_RECORD_GRACE_PERIOD`](crate::job_records::MISSING_RECORD_GRACE_PERIOD).
    ///
    /// # Errors
    /// As [`Self::is_registered`].
    pub async fn wait_until_registered(&self, id: &AgentId, roles: &[Role]) -> Result<bool, BusError> {
        let look_up = async || Ok(self.is_registered(id, roles).await?.then_some(()));
        Ok(wait_until_visible(look_up).await?.is_some())
    }

    /// Whether an agent or its pool is in quarantine, as far as this copy of the registry knows.
    pub fn is_quarantined(&self, pool: &PoolName, agent: &AgentId) -> bool {
        self.state.lock().is_quarantined(pool, agent)
    }

    /// Whether a pool is in quarantine as a whole, as far as this copy of the registry knows.
    pub fn is_pool_quarantined(&self, pool: &PoolName) -> bool {
        self.state.lock().quarantined_pools.contains(pool)
    }

    /// Returns the quarantined agents of a pool, sorted, as far as this copy of the registry knows.
    pub fn quarantined_agents_of(&self, pool: &PoolName) -> Vec<AgentId> {
        let state = self.state.lock();
        let agents = state.quarantined_agents.iter();
        agents.filter(|(_, of)| of.as_ref() == Some(pool)).map(|(agent, _)| agent.clone()).collect()
    }

    /// Names what is in quarantine, as in `pool acme, 3 agents`; `None` if nothing is. For people.
    pub fn describe_quarantine(&self) -> Option<String> {
        let state = self.state.lock();
        let mut pools: Vec<_> = state.quarantined_pools.iter().map(|pool| format!("pool {pool}")).collect();
        let more = pools.len().saturating_sub(MAX_NAMED_POOLS);
        pools.truncate(MAX_NAMED_POOLS);
        if more > 0 {
            pools.push(format!("{more} more pools"));
        }
        match state.quarantined_agents.len() {
            0 => {}
            1 => pools.push("1 agent".to_owned()),
            agents => pools.push(format!("{agents} agents")),
        }
        (!pools.is_empty()).then(|| pools.join(", "))
    }

    /// Returns the capacity of the live workers that take shards of a target and are not in
    /// quarantine. Visits no worker that is still live.
    pub fn live_capacity(&self, target: Target) -> LiveCapacity {
        let mut state = self.state.lock();
        state.live_workers.remove_silent();
        let is_trusted = |pool: &PoolName| !state.quarantined_pools.contains(pool);
        state.live_workers.capacity(target, is_trusted)
    }
}

impl RegistryState {
    fn is_quarantined(&self, pool: &PoolName, agent: &AgentId) -> bool {
        self.quarantined_agents.contains_key(agent) || self.quarantined_pools.contains(pool)
    }

    fn apply_agent(&mut self, entry: BucketEntry) {
        match (parse_quarantine_key(&entry.key), entry.value) {
            (Some(QuarantineKey::Agent(agent)), Some(value)) => {
                let record = serde_json::from_slice::<QuarantineRecord>(&value).ok();
                self.live_workers.set_quarantined(&agent, true);
                self.quarantined_agents.insert(agent, record.map(|record| record.pool));
            }
            (Some(QuarantineKey::Agent(agent)), None) => {
                self.live_workers.set_quarantined(&agent, false);
                self.quarantined_agents.remove(&agent);
            }
            (Some(QuarantineKey::Pool(pool)), Some(_)) => drop(self.quarantined_pools.insert(pool)),
            (Some(QuarantineKey::Pool(pool)), None) => drop(self.quarantined_pools.remove(&pool)),
            (None, Some(_)) => drop(self.agents.insert(entry.key)),
            (None, None) => drop(self.agents.remove(&entry.key)),
        }
    }

    fn apply_worker(&mut self, entry: BucketEntry) {
        let is_quarantined = |agent: &AgentId| self.quarantined_agents.contains_key(agent);
        self.live_workers.apply(&entry, is_quarantined);
    }
}

#[cfg(test)]
mod tests;
