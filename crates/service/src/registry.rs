//! The registry of agents, stored in bucket `forge_agents`: live agents, agents that were ever
//! registered, and quarantines. Reads are served from a copy that a watch keeps up to date; entries
//! that the copy lacks are looked up in the bucket.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use forge_bus::{BucketEntry, BusError, SharedBus, topology::Bucket};
use forge_contract::{
    agent::{AgentId, AgentRecord, AgentState, Identity, QuarantineRecord},
    canonical::to_canonical_json,
    envelope::Target,
};
use forge_kernel::backend::Backend;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Interval between the heartbeats of an agent.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// An agent without a heartbeat for this long is not live.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for announcing that an agent leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Role of an agent, the prefix of its key in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Executes shards. Untrusted.
    Worker,
    /// Verifies results, and executes shards that workers failed to execute.
    Verifier,
    /// Collects results and ends jobs.
    Aggregator,
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Self::Worker => "workers",
            Self::Verifier => "verifiers",
            Self::Aggregator => "aggregators",
        }
    }

    fn key(self, id: &AgentId) -> String {
        format!("{}.{id}", self.prefix())
    }
}

/// Key of an agent's quarantine record.
fn quarantine_key(id: &AgentId) -> String {
    format!("quarantine.{id}")
}

/// A copy of the registry that follows the bucket. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    bus: SharedBus,
    /// By key in the bucket.
    entries: Arc<Mutex<HashMap<String, RegistryEntry>>>,
}

#[derive(Debug)]
struct RegistryEntry {
    /// `None` for a quarantine, and for a record of a later version that cannot be parsed.
    agent: Option<AgentRecord>,
    written_at: Instant,
}

impl Registry {
    /// Opens the registry and follows the bucket until `stop` is cancelled.
    ///
    /// # Errors
    /// Returns any error of opening the watch.
    pub async fn open(bus: SharedBus, stop: CancellationToken) -> Result<Self, BusError> {
        let registry = Self { bus, entries: Arc::default() };
        let mut changes = registry.bus.watch(&Bucket::Agents, ">").await?;
        let follower = registry.clone();
        tokio::spawn(async move {
            while let Some(Some(entry)) = stop.run_until_cancelled(changes.next()).await {
                follower.apply(entry);
            }
        });
        Ok(registry)
    }

    fn apply(&self, entry: BucketEntry) {
        let Some(value) = entry.value else {
            self.entries.lock().remove(&entry.key);
            return;
        };
        let now = Instant::now();
        let written_at = now.checked_sub(entry.age).unwrap_or(now);
        let agent = serde_json::from_slice(&value).ok();
        self.entries.lock().insert(entry.key, RegistryEntry { agent, written_at });
    }

    async fn contains(&self, key: &str) -> Result<bool, BusError> {
        if self.entries.lock().contains_key(key) {
            return Ok(true);
        }
        let Some(entry) = self.bus.get(&Bucket::Agents, key).await? else { return Ok(false) };
        self.apply(entry);
        Ok(true)
    }

    /// Whether an agent was ever registered in any of these roles, live or not.
    ///
    /// # Errors
    /// Returns any error of reading the bucket.
    pub async fn is_registered(&self, id: &AgentId, roles: &[Role]) -> Result<bool, BusError> {
        for role in roles {
            if self.contains(&role.key(id)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an agent is in quarantine, as far as this copy of the registry knows.
    pub fn is_quarantined(&self, id: &AgentId) -> bool {
        self.entries.lock().contains_key(&quarantine_key(id))
    }

    /// Returns the capacity of the live workers that take shards of a target.
    pub fn live_capacity(&self, target: Target) -> LiveCapacity {
        let entries = self.entries.lock();
        let mut capacity = LiveCapacity::default();
        for (key, entry) in entries.iter().filter(|(key, _)| key.starts_with("workers.")) {
            let Some(agent) = &entry.agent else { continue };
            let takes_target = target == Target::Any || agent.target == target;
            let is_live = agent.state == AgentState::Live && entry.written_at.elapsed() < LIVENESS_TIMEOUT;
            let is_quarantined = entries.contains_key(&key.replacen("workers", "quarantine", 1));
            if takes_target && is_live && !is_quarantined {
                capacity.agents += 1;
                capacity.slots = capacity.slots.saturating_add(agent.slots);
                let shards = agent.slots.saturating_mul(agent.batch);
                capacity.shards = capacity.shards.saturating_add(shards);
            }
        }
        capacity
    }
}

/// Execution capacity of live agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveCapacity {
    /// Number of agents.
    pub agents: u32,
    /// Shards, or batches of shards, that they execute at once.
    pub slots: u32,
    /// Shards that they execute at once when all batches are full.
    pub shards: u32,
}

/// Registers an agent and starts its heartbeat, which runs until `stop` is cancelled and then
/// announces that the agent leaves. The agent is registered when this returns.
///
/// # Errors
/// Returns any error of the first write to the bucket; a lost heartbeat is only logged.
pub async fn register(
    bus: SharedBus,
    role: Role,
    record: AgentRecord,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, BusError> {
    let key = role.key(&record.agent_id);
    let json = |record: &AgentRecord| to_canonical_json(record).expect("an agent record holds small numbers");
    bus.put(&Bucket::Agents, &key, json(&record).into()).await?;
    Ok(tokio::spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(HEARTBEAT_INTERVAL)).await.is_some() {
            if let Err(error) = bus.put(&Bucket::Agents, &key, json(&record).into()).await {
                tracing::debug!(%error, "a heartbeat was lost; the next one follows in {HEARTBEAT_INTERVAL:?}");
            }
        }
        let left = AgentRecord { state: AgentState::Left, ..record };
        let announcement = bus.put(&Bucket::Agents, &key, json(&left).into());
        let _ = timeout(LEAVE_TIMEOUT, announcement).await;
    }))
}

/// Backends and capacity of one agent, as its [`AgentRecord`] states them.
#[derive(Debug, Clone)]
pub struct AgentCapacity {
    /// Name of the backend; several are joined by commas.
    pub backend: String,
    /// Device and driver; `None` for the CPU.
    pub adapter: Option<String>,
    /// Shards, or batches of shards, executed at once.
    pub slots: u32,
    /// Upper bound of the shards in a batch.
    pub batch: u32,
}

impl AgentCapacity {
    /// The capacity of an agent that executes no shards.
    pub fn none() -> Self {
        Self { backend: "none".to_owned(), adapter: None, slots: 0, batch: 1 }
    }

    /// The capacity of an agent that executes `slots` shards or batches at once with `backends`,
    /// the preferred one first.
    pub fn new(backends: &[Arc<dyn Backend>], slots: usize) -> Self {
        let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
        let to_u32 = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            backend: names.join(","),
            adapter: backends.iter().find_map(|backend| backend.adapter()).map(str::to_owned),
            slots: to_u32(slots),
            batch: to_u32(backends.iter().map(|backend| backend.batch_size()).max().unwrap_or(1)),
        }
    }
}

/// Builds the registry record of a live agent in this process.
pub fn agent_record(
    identity: &Identity,
    target: Target,
    capacity: AgentCapacity,
    kernel: u32,
) -> AgentRecord {
    AgentRecord {
        schema: AgentRecord::SCHEMA.to_owned(),
        agent_id: identity.id().clone(),
        state: AgentState::Live,
        target,
        backend: capacity.backend,
        adapter: capacity.adapter,
        slots: capacity.slots,
        batch: capacity.batch,
        kernel,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: std::env::var("HOSTNAME").unwrap_or_default(),
    }
}

/// Puts an agent into quarantine. If it already is, the first record stays.
///
/// # Errors
/// Returns any error of writing the bucket.
pub async fn quarantine_agent(bus: &SharedBus, record: &QuarantineRecord) -> Result<(), BusError> {
    let value = to_canonical_json(record).expect("a quarantine record holds no numbers");
    bus.compare_and_set(&Bucket::Agents, &quarantine_key(&record.agent_id), value.into(), None).await?;
    Ok(())
}

/// Whether the bucket holds a quarantine of an agent. For agents that do not follow the registry.
///
/// # Errors
/// Returns any error of reading the bucket.
pub async fn is_quarantined(bus: &SharedBus, id: &AgentId) -> Result<bool, BusError> {
    let entry = bus.get(&Bucket::Agents, &quarantine_key(id)).await?;
    Ok(entry.is_some_and(|entry| entry.value.is_some()))
}

#[cfg(test)]
mod tests {
    use forge_bus::{memory::MemoryBus, topology::TopologySettings};
    use forge_contract::{digest::Digest, shard::ShardId};
    use forge_kernel::backend::scalar::Scalar;

    use super::*;

    #[tokio::test]
    async fn live_capacity_follows_heartbeats_and_quarantine_follows_its_record() {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (stop, leave) = (CancellationToken::new(), CancellationToken::new());
        let registry = Registry::open(bus.clone(), stop.clone()).await.unwrap();
        let identity = Identity::from_random([1; 32]);
        let workers = [Role::Worker];
        assert!(!registry.is_registered(identity.id(), &workers).await.unwrap());
        let agent = agent_record(&identity, Target::Cpu, AgentCapacity::new(&[Arc::new(Scalar)], 3), 1);
        let heartbeat = register(bus.clone(), Role::Worker, agent, leave.clone()).await.unwrap();
        assert!(registry.is_registered(identity.id(), &workers).await.unwrap());
        assert!(!registry.is_registered(identity.id(), &[Role::Verifier]).await.unwrap());
        assert_eq!(registry.live_capacity(Target::Any), LiveCapacity { agents: 1, slots: 3, shards: 3 });
        assert_eq!(registry.live_capacity(Target::Gpu), LiveCapacity::default());

        leave.cancel();
        heartbeat.await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(registry.live_capacity(Target::Any), LiveCapacity::default());
        assert!(registry.is_registered(identity.id(), &workers).await.unwrap());

        let quarantine = QuarantineRecord {
            schema: QuarantineRecord::SCHEMA.to_owned(),
            agent_id: identity.id().clone(),
            job_id: "j".parse().unwrap(),
            shard_id: ShardId { height: 0, index: 0 },
            claimed: Digest([1; 32]),
            correct: Digest([2; 32]),
            verifier_id: identity.id().clone(),
        };
        quarantine_agent(&bus, &quarantine).await.unwrap();
        while !registry.is_quarantined(identity.id()) {
            tokio::task::yield_now().await;
        }
        assert!(is_quarantined(&bus, identity.id()).await.unwrap());
        stop.cancel();
    }
}
