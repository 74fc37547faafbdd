//! The workers with a recent heartbeat. Untrusted agents write them, so their number is bounded,
//! and only what dispatching needs is kept of each. Their capacity is added up as heartbeats
//! arrive, because every job of a planner asks for it twice a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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
pub(super) struct LiveWorkers {
    pools: BTreeMap<PoolName, PoolWorkers>,
    /// When each worker stops being live, unless another heartbeat arrives.
    deadlines: BTreeSet<(Instant, PoolName, AgentId)>,
}

#[derive(Debug, Default)]
struct PoolWorkers {
    workers: BTreeMap<AgentId, LiveWorker>,
    /// Sums over the workers that are not in quarantine, by [`target_index`].
    sums: [CapacitySum; 3],
}

#[derive(Debug, Clone, Copy)]
struct LiveWorker {
    target: Target,
    slots: u32,
    /// Shards that it executes at once when all batches are full.
    shards: u32,
    /// [`LIVENESS_TIMEOUT`] after its last heartbeat, by this machine's clock, because other clocks
    /// may differ from it.
    deadline: Instant,
    is_quarantined: bool,
}

/// The capacity of several workers. A pool's sum fits: it has few workers.
#[derive(Debug, Clone, Copy, Default)]
struct CapacitySum {
    agents: u64,
    slots: u64,
    shards: u64,
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

impl PoolWorkers {
    fn insert(&mut self, agent: AgentId, worker: LiveWorker) {
        self.remove(&agent);
        if !worker.is_quarantined {
            let sum = &mut self.sums[target_index(worker.target)];
            sum.agents += 1;
            sum.slots += u64::from(worker.slots);
            sum.shards += u64::from(worker.shards);
        }
        self.workers.insert(agent, worker);
    }

    fn remove(&mut self, agent: &AgentId) -> Option<LiveWorker> {
        let worker = self.workers.remove(agent)?;
        if !worker.is_quarantined {
            let sum = &mut self.sums[target_index(worker.target)];
            sum.agents -= 1;
            sum.slots -= u64::from(worker.slots);
            sum.shards -= u64::from(worker.shards);
        }
        Some(worker)
    }
}

impl LiveWorkers {
    /// Applies a change of bucket `forge_workers`. Ignores a key or a record that is malformed.
    pub(super) fn apply(&mut self, entry: &BucketEntry, is_quarantined: impl Fn(&AgentId) -> bool) {
        let Some((pool, agent)) = entry.key.split_once('.') else { return };
        let (Ok(pool), Ok(agent)) = (pool.parse::<PoolName>(), agent.parse::<AgentId>()) else { return };
        let record = entry.value.as_ref().map(|value| serde_json::from_slice::<AgentRecord>(value));
        match record {
            Some(Ok(record)) if record.state == AgentState::Live => {
                let worker = LiveWorker {
                    target: record.target,
                    slots: record.slots,
                    shards: record.slots.saturating_mul(record.batch),
                    deadline: Instant::now() + LIVENESS_TIMEOUT,
                    is_quarantined: is_quarantined(&agent),
                };
                self.add(pool, agent, worker);
            }
            Some(Err(_)) => {}
            Some(Ok(_)) | None => self.remove(&pool, &agent),
        }
    }

    fn add(&mut self, pool: PoolName, agent: AgentId, worker: LiveWorker) {
        self.remove_silent();
        self.remove(&pool, &agent);
        let workers = self.pools.entry(pool.clone()).or_default();
        if workers.workers.len() < MAX_WORKERS_PER_POOL {
            workers.insert(agent.clone(), worker);
            self.deadlines.insert((worker.deadline, pool, agent));
        }
    }

    fn remove(&mut self, pool: &PoolName, agent: &AgentId) {
        let Some(workers) = self.pools.get_mut(pool) else { return };
        let Some(worker) = workers.remove(agent) else { return };
        if workers.workers.is_empty() {
            self.pools.remove(pool);
        }
        self.deadlines.remove(&(worker.deadline, pool.clone(), agent.clone()));
    }

    /// Removes the workers that are no longer live.
    pub(super) fn remove_silent(&mut self) {
        let now = Instant::now();
        while let Some((_, pool, agent)) = self.deadlines.first().filter(|(deadline, ..)| *deadline <= now) {
            let (pool, agent) = (pool.clone(), agent.clone());
            self.remove(&pool, &agent);
        }
    }

    /// Notes that an agent is in quarantine, or no longer.
    pub(super) fn set_quarantined(&mut self, agent: &AgentId, is_quarantined: bool) {
        for workers in self.pools.values_mut() {
            if let Some(worker) = workers.workers.get(agent).copied() {
                workers.insert(agent.clone(), LiveWorker { is_quarantined, ..worker });
            }
        }
    }

    /// Returns the capacity of the workers that take shards of a target, in pools that are trusted.
    /// Takes a time that grows with the number of pools only.
    pub(super) fn capacity(&self, target: Target, is_trusted: impl Fn(&PoolName) -> bool) -> LiveCapacity {
        let pools = self.pools.iter().filter(|(pool, _)| is_trusted(pool));
        let sums = pools.flat_map(|(_, workers)| match target {
            Target::Any => &workers.sums[..],
            _ => std::slice::from_ref(&workers.sums[target_index(target)]),
        });
        let total = sums.fold(CapacitySum::default(), |total, sum| CapacitySum {
            agents: total.agents + sum.agents,
            slots: total.slots + sum.slots,
            shards: total.shards + sum.shards,
        });
        let cut = |sum: u64| u32::try_from(sum).unwrap_or(u32::MAX);
        LiveCapacity { agents: cut(total.agents), slots: cut(total.slots), shards: cut(total.shards) }
    }
}

/// Index of a worker's target in [`PoolWorkers::sums`].
fn target_index(target: Target) -> usize {
    match target {
        Target::Cpu => 0,
        Target::Gpu => 1,
        Target::Any => 2,
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use forge_contract::agent::Identity;

    use super::*;
    use crate::registry::{AgentCapacity, agent_record};

    fn identity(number: u32) -> Identity {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        Identity::from_random(seed)
    }

    fn heartbeat(pool: &str, number: u32) -> BucketEntry {
        heartbeat_with(pool, number, Target::Cpu, 2)
    }

    fn heartbeat_with(pool: &str, number: u32, target: Target, slots: u32) -> BucketEntry {
        let identity = identity(number);
        let capacity = AgentCapacity { backend: "scalar".to_owned(), adapter: None, slots, batch: 8 };
        let record = agent_record(&identity, target, capacity, 1);
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
        workers.apply(&heartbeat("default", 1), |_| false);
        workers.remove_silent();
        let capacity = workers.capacity(Target::Cpu, |_| true);
        assert_eq!(capacity, LiveCapacity { agents: 1, slots: 2, shards: 16 });
        assert_eq!(workers.capacity(Target::Gpu, |_| true), LiveCapacity::default());
        assert_eq!(workers.capacity(Target::Cpu, |_| false), LiveCapacity::default());
        workers.apply(&BucketEntry { value: None, ..heartbeat("default", 1) }, |_| false);
        assert_eq!(workers.capacity(Target::Cpu, |_| true), LiveCapacity::default());
    }

    #[test]
    fn a_flood_of_heartbeats_is_bounded_by_pool() {
        let mut workers = LiveWorkers::default();
        let flood = MAX_WORKERS_PER_POOL as u32 + 100;
        (0..flood).for_each(|number| workers.apply(&heartbeat("flooding", number), |_| false));
        workers.apply(&heartbeat("default", 1), |_| false);
        let malformed = [
            BucketEntry { key: "default".to_owned(), ..heartbeat("default", 2) },
            BucketEntry { key: "default.worker".to_owned(), ..heartbeat("default", 2) },
            BucketEntry { value: Some("{}".into()), ..heartbeat("default", 2) },
        ];
        malformed.iter().for_each(|entry| workers.apply(entry, |_| false));
        let agents = workers.capacity(Target::Any, |_| true).agents;
        assert_eq!(agents, MAX_WORKERS_PER_POOL as u32 + 1);
        let others = |pool: &PoolName| pool.as_str() == "default";
        assert_eq!(workers.capacity(Target::Any, others).agents, 1);
    }

    /// The capacity of every worker that a model of the registry knows, counted one by one.
    fn recount(
        model: &BTreeMap<(String, u32), (Target, u32, Instant)>,
        quarantined: &BTreeSet<u32>,
        target: Target,
    ) -> LiveCapacity {
        let mut capacity = LiveCapacity::default();
        for ((_, number), (of, slots, heartbeat_at)) in model {
            let is_live = heartbeat_at.elapsed() < LIVENESS_TIMEOUT && !quarantined.contains(number);
            if is_live && (target == Target::Any || *of == target) {
                capacity.agents += 1;
                capacity.slots = capacity.slots.saturating_add(*slots);
                capacity.shards = capacity.shards.saturating_add(slots.saturating_mul(8));
            }
        }
        capacity
    }

    #[tokio::test(start_paused = true)]
    async fn capacity_is_that_of_a_recount_after_any_changes() {
        let mut random = Rng::with_seed(1);
        let (mut workers, mut model, mut quarantined) =
            (LiveWorkers::default(), BTreeMap::new(), BTreeSet::new());
        for step in 0..20_000 {
            let (pool, number) = (["a", "b", "c"][random.usize(0..3)], random.u32(0..12));
            let agent = identity(number).id().clone();
            match random.u32(0..10) {
                0..6 => {
                    let target = [Target::Cpu, Target::Gpu, Target::Any][random.usize(0..3)];
                    let slots = [0, 1, 7, u32::MAX][random.usize(0..4)];
                    let entry = heartbeat_with(pool, number, target, slots);
                    workers.apply(&entry, |_| quarantined.contains(&number));
                    model.insert((pool.to_owned(), number), (target, slots, Instant::now()));
                }
                6 => {
                    workers.apply(&BucketEntry { value: None, ..heartbeat(pool, number) }, |_| false);
                    model.remove(&(pool.to_owned(), number));
                }
                7 => {
                    let is_quarantined = quarantined.insert(number) || !quarantined.remove(&number);
                    workers.set_quarantined(&agent, is_quarantined);
                }
                _ => tokio::time::advance(Duration::from_millis(random.u64(0..2000))).await,
            }
            workers.remove_silent();
            for target in [Target::Cpu, Target::Gpu, Target::Any] {
                let expected = recount(&model, &quarantined, target);
                assert_eq!(workers.capacity(target, |_| true), expected, "step {step}");
            }
        }
        let live = workers.pools.values().map(|pool| pool.workers.len()).sum::<usize>();
        assert_eq!(workers.deadlines.len(), live);
    }
}
