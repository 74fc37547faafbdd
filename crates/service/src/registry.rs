//! The registry of agents, as bucket `forge_agents` holds it: who takes shards, who has ever been registered, and whose
//! results do not count. Kept up to date by a watch; what it does not know yet is looked up.

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
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Heartbeats of a live agent are this far apart.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// An agent that has not been heard of for this long is not live.
pub const LIVENESS_TIMEOUT: Duration = Duration::from_secs(10);

/// What an agent may do, by the prefix of its key in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Executes shards. Untrusted.
    Worker,
    /// Judges results, and executes shards that workers failed at.
    Verifier,
    /// Takes in results and ends jobs.
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

/// Key of an agent's quarantine.
fn quarantine_key(id: &AgentId) -> String {
    format!("quarantine.{id}")
}

/// The registry.
#[derive(Debug, Clone)]
pub struct Registry {
    bus: SharedBus,
    agents: Arc<Mutex<HashMap<String, RegistryEntry>>>,
}

/// An entry and when it was last written.
#[derive(Debug)]
struct RegistryEntry {
    record: Option<AgentRecord>,
    at: Instant,
}

impl Registry {
    /// Opens the registry and follows it until `stop`.
    ///
    /// # Errors
    /// As [`forge_bus::Bus::watch`].
    pub async fn open(bus: SharedBus, stop: CancellationToken) -> Result<Self, BusError> {
        let registry = Self { bus, agents: Arc::default() };
        let mut changes = registry.bus.watch(&Bucket::Agents, ">").await?;
        let follower = registry.clone();
        tokio::spawn(async move {
            while let Some(Some(entry)) = stop.run_until_cancelled(changes.next()).await {
                follower.take(entry);
            }
        });
        Ok(registry)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, RegistryEntry>> {
        self.agents.lock()
    }

    fn take(&self, entry: BucketEntry) {
        let Some(value) = entry.value else {
            self.lock().remove(&entry.key);
            return;
        };
        let now = Instant::now();
        let at = now.checked_sub(entry.age).unwrap_or(now);
        let record = serde_json::from_slice(&value).ok();
        self.lock().insert(entry.key, RegistryEntry { record, at });
    }

    async fn knows(&self, key: &str) -> Result<bool, BusError> {
        if self.lock().contains_key(key) {
            return Ok(true);
        }
        let Some(entry) = self.bus.get(&Bucket::Agents, key).await? else { return Ok(false) };
        self.take(entry);
        Ok(true)
    }

    /// Whether an agent has been registered in any of these roles, live or not.
    ///
    /// # Errors
    /// As [`forge_bus::Bus::get`].
    pub async fn is_registered(&self, id: &AgentId, roles: &[Role]) -> Result<bool, BusError> {
        for role in roles {
            if self.knows(&role.key(id)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an agent's results do not count, as far as is known here.
    pub fn is_quarantined(&self, id: &AgentId) -> bool {
        self.lock().contains_key(&quarantine_key(id))
    }

    /// The live workers that take shards of a target, and the shards that they execute at once.
    pub fn live_capacity(&self, target: Target) -> LiveCapacity {
        let agents = self.lock();
        let mut live = LiveCapacity::default();
        for (key, seen) in agents.iter().filter(|(key, _)| key.starts_with("workers.")) {
            let Some(record) = &seen.record else { continue };
            let takes = target == Target::Any || record.target == target;
            let quarantined = agents.contains_key(&key.replacen("workers", "quarantine", 1));
            if takes
                && record.state == AgentState::Live
                && seen.at.elapsed() < LIVENESS_TIMEOUT
                && !quarantined
            {
                live.agents += 1;
                live.slots = live.slots.saturating_add(record.slots);
                let shards = record.slots.saturating_mul(record.batch);
                live.shards = live.shards.saturating_add(shards);
            }
        }
        live
    }
}

/// How many agents there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveCapacity {
    /// Agents.
    pub agents: u32,
    /// Shards, or batches of them, that they execute at once.
    pub slots: u32,
    /// Shards that they execute at once, with those in full batches.
    pub shards: u32,
}

/// Registers an agent, and again with every heartbeat until `stop`; then it says that it has left. The first time is
/// done when this returns.
///
/// # Errors
/// As [`forge_bus::Bus::put`], the first time.
pub async fn register(
    bus: SharedBus,
    role: Role,
    record: AgentRecord,
    stop: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, BusError> {
    let key = role.key(&record.agent_id);
    let written = |record: &AgentRecord| to_canonical_json(record).expect("a record holds small numbers");
    bus.put(&Bucket::Agents, &key, written(&record).into()).await?;
    Ok(tokio::spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(HEARTBEAT_INTERVAL)).await.is_some() {
            if let Err(error) = bus.put(&Bucket::Agents, &key, written(&record).into()).await {
                tracing::debug!(%error, "a heartbeat was lost");
            }
        }
        let left = AgentRecord { state: AgentState::Left, ..record };
        let farewell = bus.put(&Bucket::Agents, &key, written(&left).into());
        let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
    }))
}

/// What executes an agent's shards, as its [`AgentRecord`] says it.
#[derive(Debug, Clone)]
pub struct AgentCapacity {
    /// The backend's name; several with commas.
    pub backend: String,
    /// The device and its driver, where it is not the CPU.
    pub adapter: Option<String>,
    /// Shards, or batches of them, that are executed at once.
    pub slots: u32,
    /// Shards in a batch, at most.
    pub batch: u32,
}

impl AgentCapacity {
    /// Of an agent that executes nothing.
    pub fn none() -> Self {
        Self { backend: "none".to_owned(), adapter: None, slots: 0, batch: 1 }
    }

    /// Of an agent that executes with `backends` (the preferred first), so many shards or batches at once.
    pub fn new(backends: &[Arc<dyn Backend>], slots: usize) -> Self {
        let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            backend: names.join(","),
            adapter: backends.iter().find_map(|backend| backend.adapter()).map(str::to_owned),
            slots: number(slots),
            batch: number(backends.iter().map(|backend| backend.batch_size()).max().unwrap_or(1)),
        }
    }
}

/// What an agent of this process says about itself.
pub fn agent_record(identity: &Identity, target: Target, means: AgentCapacity, kernel: u32) -> AgentRecord {
    AgentRecord {
        schema: AgentRecord::SCHEMA.to_owned(),
        agent_id: identity.id().clone(),
        state: AgentState::Live,
        target,
        backend: means.backend,
        adapter: means.adapter,
        slots: means.slots,
        batch: means.batch,
        kernel,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: std::env::var("HOSTNAME").unwrap_or_default(),
    }
}

/// Puts an agent into quarantine; the first reason stays.
///
/// # Errors
/// As [`forge_bus::Bus::compare_and_set`].
pub async fn quarantine_agent(bus: &SharedBus, record: &QuarantineRecord) -> Result<(), BusError> {
    let value = to_canonical_json(record).expect("a record holds no number");
    bus.compare_and_set(&Bucket::Agents, &quarantine_key(&record.agent_id), value.into(), None).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use forge_bus::{memory::MemoryBus, topology::TopologySettings};
    use forge_contract::{digest::Digest, shard::ShardId};
    use forge_kernel::backend::scalar::Scalar;

    use super::*;

    #[tokio::test]
    async fn agents_come_and_go_and_are_put_into_quarantine() {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (stop, left) = (CancellationToken::new(), CancellationToken::new());
        let registry = Registry::open(bus.clone(), stop.clone()).await.unwrap();
        let identity = Identity::from_random([1; 32]);
        let workers = [Role::Worker];
        assert!(!registry.is_registered(identity.id(), &workers).await.unwrap());
        let agent = agent_record(&identity, Target::Cpu, AgentCapacity::new(&[Arc::new(Scalar)], 3), 1);
        let beat = register(bus.clone(), Role::Worker, agent, left.clone()).await.unwrap();
        assert!(registry.is_registered(identity.id(), &workers).await.unwrap());
        assert!(!registry.is_registered(identity.id(), &[Role::Verifier]).await.unwrap());
        assert_eq!(registry.live_capacity(Target::Any), LiveCapacity { agents: 1, slots: 3, shards: 3 });
        assert_eq!(registry.live_capacity(Target::Gpu), LiveCapacity::default());

        left.cancel();
        beat.await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(registry.live_capacity(Target::Any), LiveCapacity::default());
        assert!(registry.is_registered(identity.id(), &workers).await.unwrap());

        let found = QuarantineRecord {
            schema: QuarantineRecord::SCHEMA.to_owned(),
            agent_id: identity.id().clone(),
            job_id: "j".parse().unwrap(),
            shard_id: ShardId { height: 0, index: 0 },
            claimed: Digest([1; 32]),
            correct: Digest([2; 32]),
            verifier_id: identity.id().clone(),
        };
        quarantine_agent(&bus, &found).await.unwrap();
        while !registry.is_quarantined(identity.id()) {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    }
}
