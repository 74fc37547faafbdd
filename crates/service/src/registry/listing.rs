//! The registry of agents as its two buckets hold it, read once: for commands and pages that show
//! it. Unlike [`Registry`](super::Registry), it follows no change and needs no watch.

use std::{collections::BTreeMap, time::Duration};

use forge_bus::{
    Bus, BusError,
    topology::{self, Bucket},
};
use forge_contract::agent::{AgentRecord, AgentState, PoolQuarantineRecord, QuarantineRecord};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    LIVENESS_TIMEOUT,
    quarantine::{
        AGENT_QUARANTINE_PREFIX, POOL_QUARANTINE_PREFIX, agent_quarantine_key, pool_quarantine_key,
    },
};

/// Number of entries that are fetched concurrently.
const CONCURRENT_READS: usize = 32;
/// Roles of trusted agents, and the prefixes of their heartbeats in [`Bucket::Agents`].
const TRUSTED_ROLES: [(&str, &str); 2] = [("verifier", "verifiers."), ("aggregator", "aggregators.")];

/// A heartbeat and its age.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Role of the agent, such as `worker`.
    pub role: &'static str,
    /// What the agent states about itself.
    pub record: AgentRecord,
    /// Time since the heartbeat.
    pub age: Duration,
}

impl Heartbeat {
    /// Whether the heartbeat is so recent that the agent counts as live.
    pub fn is_recent(&self) -> bool {
        self.age < LIVENESS_TIMEOUT
    }

    /// Whether the agent has not left, and its last heartbeat is recent.
    pub fn is_live(&self) -> bool {
        self.is_recent() && self.record.state == AgentState::Live
    }

    /// The agent's pool, or a hyphen.
    pub fn pool(&self) -> &str {
        self.record.pool.as_ref().map_or("-", |pool| pool.as_str())
    }

    /// The agent's state in one word: `quarantined`, also if its pool is, `left`, `silent` or
    /// `live`.
    pub fn state(&self, quarantines: &Quarantines) -> &'static str {
        match (quarantines.reason(&self.record), self.record.state) {
            (Some(_), _) => "quarantined",
            (None, AgentState::Left) => "left",
            (None, AgentState::Live) if !self.is_recent() => "silent",
            (None, AgentState::Live) => "live",
        }
    }

    fn sort_key(&self) -> (&str, &str, &str, &str) {
        (self.role, self.pool(), &self.record.host, self.record.agent_id.as_str())
    }
}

/// Quarantined agents and pools, by name.
#[derive(Debug, Clone, Default)]
pub struct Quarantines {
    /// By agent id.
    pub agents: BTreeMap<String, QuarantineRecord>,
    /// By name of the pool.
    pub pools: BTreeMap<String, PoolQuarantineRecord>,
    /// Why a record cannot be read, by its key in the bucket. The quarantine holds all the same.
    pub unreadable: BTreeMap<String, String>,
}

/// Why an agent is in quarantine.
#[derive(Debug, Serialize)]
pub struct QuarantineReason {
    /// What is in quarantine: `agent`, or `pool` for all agents of a pool.
    pub scope: &'static str,
    /// What was refuted, for people.
    pub reason: String,
}

impl Quarantines {
    /// Why an agent is in quarantine; `None` if it is not.
    pub fn reason(&self, agent: &AgentRecord) -> Option<QuarantineReason> {
        let of_agent = self.agents.get(agent.agent_id.as_str()).map(agent_reason);
        let of_agent = of_agent.or_else(|| self.unreadable_reason(&agent_quarantine_key(&agent.agent_id)));
        if let Some(reason) = of_agent {
            return Some(QuarantineReason { scope: "agent", reason });
        }
        let pool = agent.pool.as_ref()?;
        let of_pool = self.pools.get(pool.as_str()).map(pool_reason);
        let reason = of_pool.or_else(|| self.unreadable_reason(&pool_quarantine_key(pool)))?;
        Some(QuarantineReason { scope: "pool", reason })
    }

    fn unreadable_reason(&self, key: &str) -> Option<String> {
        self.unreadable.get(key).map(|error| format!("unreadable: {error}"))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.agents.len() + self.pools.len() + self.unreadable.len()
    }

    /// Whether nothing is in quarantine.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of a table of all quarantines: name, pool and reason. A record that cannot be read
    /// has its key in place of a name.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let pools = self
            .pools
            .iter()
            .map(|(name, record)| vec![format!("pool {name}"), name.clone(), pool_reason(record)]);
        let agents = self
            .agents
            .iter()
            .map(|(id, record)| vec![id.clone(), record.pool.to_string(), agent_reason(record)]);
        let unreadable = self
            .unreadable
            .iter()
            .map(|(key, error)| vec![key.clone(), "-".to_owned(), format!("unreadable: {error}")]);
        pools.chain(agents).chain(unreadable).collect()
    }
}

fn agent_reason(record: &QuarantineRecord) -> String {
    format!("wrong result of shard {} of job {}", record.shard_id, record.job_uid)
}

fn pool_reason(record: &PoolQuarantineRecord) -> String {
    match record.agents.len() {
        0 => "wrong results".to_owned(),
        1 => "wrong results of 1 agent".to_owned(),
        agents => format!("wrong results of {agents} agents"),
    }
}

/// Reads the last heartbeat of every agent that the registry still has, by role, pool and host.
///
/// # Errors
/// NATS is unreachable, or refuses access to the buckets.
pub async fn read_heartbeats(bus: &dyn Bus) -> Result<Vec<Heartbeat>, BusError> {
    let mut heartbeats = read_role(bus, "worker", &Bucket::Workers, "").await?;
    for (role, prefix) in TRUSTED_ROLES {
        heartbeats.extend(read_role(bus, role, &Bucket::Agents, prefix).await?);
    }
    heartbeats.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Ok(heartbeats)
}

async fn read_role(
    bus: &dyn Bus,
    role: &'static str,
    bucket: &Bucket,
    prefix: &str,
) -> Result<Vec<Heartbeat>, BusError> {
    let entries = read_entries::<AgentRecord>(bus, bucket, prefix).await?;
    let heartbeats = entries.into_iter().filter_map(|RegistryEntry { name, record, age }| {
        // A heartbeat that this version cannot read is of no agent that it knows.
        let record = record.ok()?;
        // NATS ties the key of a worker to its credential, but not what the worker states.
        let is_own_key = match (bucket, &record.pool) {
            (Bucket::Workers, Some(pool)) => name == format!("{pool}.{}", record.agent_id),
            (Bucket::Workers, None) => false,
            _ => name == record.agent_id.as_str(),
        };
        is_own_key.then_some(Heartbeat { role, record, age })
    });
    Ok(heartbeats.collect())
}

/// Reads all quarantines.
///
/// # Errors
/// NATS is unreachable, or refuses access to the bucket.
pub async fn read_quarantines(bus: &dyn Bus) -> Result<Quarantines, BusError> {
    let mut unreadable = BTreeMap::new();
    let agents = read_records(bus, AGENT_QUARANTINE_PREFIX, &mut unreadable).await?;
    let pools = read_records(bus, POOL_QUARANTINE_PREFIX, &mut unreadable).await?;
    Ok(Quarantines { agents, pools, unreadable })
}

/// Reads the quarantine records below a prefix by name, and adds the others to `unreadable`.
async fn read_records<T: DeserializeOwned>(
    bus: &dyn Bus,
    prefix: &str,
    unreadable: &mut BTreeMap<String, String>,
) -> Result<BTreeMap<String, T>, BusError> {
    let mut records = BTreeMap::new();
    for RegistryEntry { name, record, .. } in read_entries(bus, &Bucket::Agents, prefix).await? {
        match record {
            Ok(record) => drop(records.insert(name, record)),
            Err(error) => drop(unreadable.insert(format!("{prefix}{name}"), error)),
        }
    }
    Ok(records)
}

/// An entry of the registry.
struct RegistryEntry<T> {
    /// Its key without the prefix.
    name: String,
    /// The record, or why this version cannot read it.
    record: Result<T, String>,
    /// Time since it was written.
    age: Duration,
}

/// Reads the entries below a prefix that have a value.
async fn read_entries<T: DeserializeOwned>(
    bus: &dyn Bus,
    bucket: &Bucket,
    prefix: &str,
) -> Result<Vec<RegistryEntry<T>>, BusError> {
    let mut keys = bus.keys(bucket).await?;
    // A worker chooses the keys of its heartbeats.
    keys.retain(|key| key.starts_with(prefix) && topology::check_key(key).is_ok());
    keys.sort_unstable();
    let read = async |key: String| {
        let entry = bus.get(bucket, &key).await?;
        Ok(entry.and_then(|entry| {
            let record = serde_json::from_slice(&entry.value?).map_err(|error| error.to_string());
            Some(RegistryEntry { name: key[prefix.len()..].to_owned(), record, age: entry.age })
        }))
    };
    let entries: Vec<_> = stream::iter(keys).map(read).buffered(CONCURRENT_READS).try_collect().await?;
    Ok(entries.into_iter().flatten().collect())
}
