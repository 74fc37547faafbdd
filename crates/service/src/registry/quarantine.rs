//! Quarantine records of agents and pools in bucket `forge_agents`.

use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{
    agent::{AgentId, PoolQuarantineRecord, QuarantineRecord},
    canonical::to_canonical_json,
    ids::PoolName,
};
use serde::Serialize;

/// Prefix of the keys of quarantined agents, followed by the id.
pub const AGENT_QUARANTINE_PREFIX: &str = "quarantine.";
/// Prefix of the keys of quarantined pools, followed by the name.
pub const POOL_QUARANTINE_PREFIX: &str = "quarantined-pools.";

/// Returns the key of an agent's quarantine record.
pub fn agent_quarantine_key(id: &AgentId) -> String {
    format!("{AGENT_QUARANTINE_PREFIX}{id}")
}

/// Returns the key of a pool's quarantine record.
pub fn pool_quarantine_key(pool: &PoolName) -> String {
    format!("{POOL_QUARANTINE_PREFIX}{pool}")
}

/// What the key of a quarantine record names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QuarantineKey {
    Agent(AgentId),
    Pool(PoolName),
}

/// Parses the key of a quarantine record; `None` if `key` is another one.
pub(super) fn parse_quarantine_key(key: &str) -> Option<QuarantineKey> {
    match (key.strip_prefix(AGENT_QUARANTINE_PREFIX), key.strip_prefix(POOL_QUARANTINE_PREFIX)) {
        (Some(agent), _) => agent.parse().ok().map(QuarantineKey::Agent),
        (_, Some(pool)) => pool.parse().ok().map(QuarantineKey::Pool),
        _ => None,
    }
}

/// Puts an agent into quarantine. If it already is, the first record stays.
///
/// # Errors
/// Returns any error of writing the bucket.
pub async fn quarantine_agent(bus: &SharedBus, record: &QuarantineRecord) -> Result<(), BusError> {
    create(bus, &agent_quarantine_key(&record.agent_id), record).await.map(drop)
}

/// Puts a whole pool into quarantine. If it already is, the first record stays, and `false` is
/// returned.
///
/// # Errors
/// Returns any error of writing the bucket.
pub async fn quarantine_pool(bus: &SharedBus, record: &PoolQuarantineRecord) -> Result<bool, BusError> {
    create(bus, &pool_quarantine_key(&record.pool), record).await
}

async fn create(bus: &SharedBus, key: &str, record: &impl Serialize) -> Result<bool, BusError> {
    let value = to_canonical_json(record).expect("a quarantine record has only the index of a shard");
    Ok(bus.compare_and_set(&Bucket::Agents, key, value.into(), None).await?.is_some())
}

/// What is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuarantineScope {
    /// The agent.
    Agent,
    /// The agent's whole pool.
    Pool,
}

/// Returns whether an agent or its pool is in quarantine; `None` if neither is. For agents that do
/// not follow the registry: reads both keys.
///
/// # Errors
/// Returns any error of reading the bucket.
pub async fn find_quarantine(
    bus: &SharedBus,
    pool: &PoolName,
    id: &AgentId,
) -> Result<Option<QuarantineScope>, BusError> {
    let keys = [
        (QuarantineScope::Agent, agent_quarantine_key(id)),
        (QuarantineScope::Pool, pool_quarantine_key(pool)),
    ];
    for (scope, key) in keys {
        let entry = bus.get(&Bucket::Agents, &key).await?;
        if entry.is_some_and(|entry| entry.value.is_some()) {
            return Ok(Some(scope));
        }
    }
    Ok(None)
}
