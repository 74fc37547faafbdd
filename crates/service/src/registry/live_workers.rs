//! The workers with a recent heartbeat. Untrusted agents write them, so their number is bounded,
//! and only what dispatching needs is kept of each.

use std::{collections::HashMap, time::Duration};

use forge_bus::BucketEntry;
use forge_contract::{
    agent::{AgentId, AgentRecord, AgentState},
    envelope::Target,
    ids::PoolName,
};
use tokio::time::Instant;

/// A worker without a heartbeat for this long is not live.
pub const LIVENESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bound of the live workers of a pool; further ones are not counted.
const MAX_WORKERS_PER_POOL: usize = 4096;

/// The live workers by pool and id.
#[derive(Debug, Default)]
pub(super) struct LiveWorkers(HashMap<PoolName, HashMap<AgentId, LiveWorker>>);

#[derive(Debug)]
struct LiveWorker {
    target: Target,
    slots: u32,
    /// Shards that it executes at once when all batches are full.
    shards: u32,
    /// By this machine's clock, because other clocks may differ from it.
    heartbeat_at: Instant,
}

impl LiveWorker {
    fn is_silent(&self) -> bool {
        self.heartbeat_at.elapsed() >= LIVENESS_TIMEOUT
    }
}

/// Execution capacity of live workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveCapacity {
    /// Number of agents.
    pub agents: u32,
    /// Shards, or batches of shards, that they execute at once.
    pub slots: u32,
    /// Shards that they execute at once when all batches are full.
    pub shards: u32,
}

impl LiveWorkers {
    /// Applies a change of bucket `forge_workers`. Ignores a key or a record that is malformed.
    pub(super) fn apply(&mut self, entry: &BucketEntry) {
        let Some((pool, agent)) = entry.key.split_once('.') else { return };
        let (Ok(pool), Ok(agent)) = (pool.parse::<PoolName>(), agent.parse::<AgentId>()) else { return };
        let record = entry.value.as_ref().map(|value| serde_json::from_slice::<AgentRecord>(value));
        match record {
            Some(Ok(record)) if record.state == AgentState::Live => self.add(pool, agent, &record),
            Some(Err(_)) => {}
            Some(Ok(_)) | None => {
                if let Some(workers) = self.0.get_mut(&pool) {
                    workers.remove(&agent);
                }
            }
        }
    }

    fn add(&mut self, pool: PoolName, agent: AgentId, record: &AgentRecord) {
        let workers = self.0.entry(pool).or_default();
        if workers.len() >= MAX_WORKERS_PER_POOL && !workers.contains_key(&agent) {
            workers.retain(|_, worker| !worker.is_silent());
            if workers.len() >= MAX_WORKERS_PER_POOL {
                return;
            }
        }
        let worker = LiveWorker {
            target: record.target,
            slots: record.slots,
            shards: record.slots.saturating_mul(record.batch),
            heartbeat_at: Instant::now(),
        };
        workers.insert(agent, worker);
    }

    /// Removes the workers that are no longer live.
    pub(super) fn remove_silent(&mut self) {
        self.0.retain(|_, workers| {
            workers.retain(|_, worker| !worker.is_silent());
            !workers.is_empty()
        });
    }

    /// Returns the capacity of the workers that take shards of a target and are trusted.
    pub(super) fn capacity(
        &self,
        target: Target,
        is_trusted: impl Fn(&PoolName, &AgentId) -> bool,
    ) -> LiveCapacity {
        let mut capacity = LiveCapacity::default();
        for (pool, workers) in &self.0 {
            for (agent, worker) in workers {
                if (target == Target::Any || worker.target == target) && is_trusted(pool, agent) {
                    capacity.agents += 1;
                    capacity.slots = capacity.slots.saturating_add(worker.slots);
                    capacity.shards = capacity.shards.saturating_add(worker.shards);
                }
            }
        }
        capacity
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::agent::Identity;

    use super::*;
    use crate::registry::{AgentCapacity, agent_record};

    fn heartbeat(pool: &str, number: u32) -> BucketEntry {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        let identity = Identity::from_random(seed);
        let capacity = AgentCapacity { backend: "scalar".to_owned(), adapter: None, slots: 2, batch: 8 };
        let record = agent_record(&identity, Target::Cpu, capacity, 1);
        BucketEntry {
            key: format!("{pool}.{}", identity.id()),
            value: Some(serde_json::to_vec(&record).unwrap().into()),
            revision: 1,
            age: Duration::from_secs(3600),
        }
    }

    #[test]
    fn a_heartbeat_counts_from_its_receipt_whatever_the_clocks_say() {
        let mut workers = LiveWorkers::default();
        workers.apply(&heartbeat("default", 1));
        workers.remove_silent();
        let capacity = workers.capacity(Target::Cpu, |_, _| true);
        assert_eq!(capacity, LiveCapacity { agents: 1, slots: 2, shards: 16 });
        assert_eq!(workers.capacity(Target::Gpu, |_, _| true), LiveCapacity::default());
        assert_eq!(workers.capacity(Target::Cpu, |_, _| false), LiveCapacity::default());
        workers.apply(&BucketEntry { value: None, ..heartbeat("default", 1) });
        assert_eq!(workers.capacity(Target::Cpu, |_, _| true), LiveCapacity::default());
    }

    #[test]
    fn a_flood_of_heartbeats_is_bounded_by_pool() {
        let mut workers = LiveWorkers::default();
        let flood = MAX_WORKERS_PER_POOL as u32 + 100;
        (0..flood).for_each(|number| workers.apply(&heartbeat("flooding", number)));
        workers.apply(&heartbeat("default", 1));
        let malformed = [
            BucketEntry { key: "default".to_owned(), ..heartbeat("default", 2) },
            BucketEntry { key: "default.worker".to_owned(), ..heartbeat("default", 2) },
            BucketEntry { value: Some("{}".into()), ..heartbeat("default", 2) },
        ];
        malformed.iter().for_each(|entry| workers.apply(entry));
        let agents = workers.capacity(Target::Any, |_, _| true).agents;
        assert_eq!(agents, MAX_WORKERS_PER_POOL as u32 + 1);
        let others = |pool: &PoolName, _: &AgentId| pool.as_str() == "default";
        assert_eq!(workers.capacity(Target::Any, others).agents, 1);
    }
}
