//! The registry of agents as its two buckets hold it: heartbeats and quarantines, read once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forge_bus::{
    BusError, SharedBus,
    jetstream::JetStreamBus,
    topology::{self, Bucket},
};
use forge_contract::agent::{AgentRecord, PoolQuarantineRecord, QuarantineRecord};
use forge_service::{NatsArgs, registry};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

use crate::{error::CommandError, runtime, text::count_of};

/// Number of entries that are fetched concurrently.
const CONCURRENT_READS: usize = 32;
/// Prefixes of heartbeats in [`Bucket::Agents`].
const HEARTBEAT_PREFIXES: [&str; 2] = ["verifiers.", "aggregators."];

/// An open connection of an operator.
pub struct RegistryConnection {
    runtime: Runtime,
    bus: SharedBus,
}

/// A heartbeat and its age.
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
        self.age < registry::LIVENESS_TIMEOUT
    }
}

/// Quarantined agents and pools, by name.
#[derive(Default)]
pub struct Quarantines {
    /// By agent id.
    pub agents: BTreeMap<String, QuarantineRecord>,
    /// By name of the pool.
    pub pools: BTreeMap<String, PoolQuarantineRecord>,
}

/// Why an agent is in quarantine.
#[derive(Serialize)]
pub struct QuarantineReason {
    /// What is in quarantine: `agent`, or `pool` for all agents of a pool.
    pub scope: &'static str,
    /// What was refuted, for people.
    pub reason: String,
}

impl Quarantines {
    /// Why an agent is in quarantine; `None` if it is not.
    pub fn reason(&self, agent: &AgentRecord) -> Option<QuarantineReason> {
        if let Some(record) = self.agents.get(agent.agent_id.as_str()) {
            return Some(QuarantineReason { scope: "agent", reason: agent_reason(record) });
        }
        let record = self.pools.get(agent.pool.as_ref()?.as_str())?;
        Some(QuarantineReason { scope: "pool", reason: pool_reason(record) })
    }

    /// The rows of a table of all quarantines: name, pool and reason.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let pools = self
            .pools
            .iter()
            .map(|(name, record)| vec![format!("pool {name}"), name.clone(), pool_reason(record)]);
        let agents = self
            .agents
            .iter()
            .map(|(id, record)| vec![id.clone(), record.pool.to_string(), agent_reason(record)]);
        pools.chain(agents).collect()
    }
}

fn agent_reason(record: &QuarantineRecord) -> String {
    format!("wrong result of shard {} of job {}", record.shard_id, record.job_uid)
}

fn pool_reason(record: &PoolQuarantineRecord) -> String {
    match record.agents.len() as u64 {
        0 => "wrong results".to_owned(),
        agents => format!("wrong results of {}", count_of(agents, "agent")),
    }
}

impl RegistryConnection {
    /// Connects to NATS.
    ///
    /// # Errors
    /// A setting cannot be used, or NATS is unreachable.
    pub fn open(args: &NatsArgs) -> Result<Self, CommandError> {
        let options = args.jetstream_options("forge")?;
        let runtime = runtime::single_worker()?;
        let bus = runtime.block_on(JetStreamBus::connect(options)).map_err(to_command_error)?;
        Ok(Self { runtime, bus: bus as Arc<_> })
    }

    /// Reads the last heartbeat of every agent that the registry still has.
    ///
    /// # Errors
    /// NATS is unreachable, or refuses access to the buckets.
    pub fn heartbeats(&self) -> Result<Vec<Heartbeat>, CommandError> {
        self.block_on(async {
            let mut heartbeats = self.read_heartbeats("worker", &Bucket::Workers, "").await?;
            for (role, prefix) in ["verifier", "aggregator"].into_iter().zip(HEARTBEAT_PREFIXES) {
                heartbeats.extend(self.read_heartbeats(role, &Bucket::Agents, prefix).await?);
            }
            Ok(heartbeats)
        })
    }

    async fn read_heartbeats(
        &self,
        role: &'static str,
        bucket: &Bucket,
        prefix: &str,
    ) -> Result<Vec<Heartbeat>, BusError> {
        let mut entries = self.read_entries::<AgentRecord>(bucket, prefix).await?;
        // NATS ties the key of a worker to its credential, but not what the worker states.
        entries.retain(|(key, record, _)| match (bucket, &record.pool) {
            (Bucket::Workers, Some(pool)) => *key == format!("{pool}.{}", record.agent_id),
            (Bucket::Workers, None) => false,
            _ => *key == record.agent_id.as_str(),
        });
        Ok(entries.into_iter().map(|(_, record, age)| Heartbeat { role, record, age }).collect())
    }

    /// Reads all quarantines.
    ///
    /// # Errors
    /// NATS is unreachable, or refuses access to the bucket.
    pub fn quarantines(&self) -> Result<Quarantines, CommandError> {
        self.block_on(async {
            let agents = self.read_entries(&Bucket::Agents, registry::AGENT_QUARANTINE_PREFIX).await?;
            let pools = self.read_entries(&Bucket::Agents, registry::POOL_QUARANTINE_PREFIX).await?;
            Ok(Quarantines {
                agents: agents.into_iter().map(|(name, record, _)| (name, record)).collect(),
                pools: pools.into_iter().map(|(name, record, _)| (name, record)).collect(),
            })
        })
    }

    /// Lifts the quarantine of an agent or of a pool. Returns whether there was one.
    ///
    /// # Errors
    /// NATS is unreachable, or refuses the deletion.
    pub fn lift(&self, name: &str) -> Result<bool, CommandError> {
        self.block_on(async {
            let mut is_lifted = false;
            for prefix in [registry::AGENT_QUARANTINE_PREFIX, registry::POOL_QUARANTINE_PREFIX] {
                let key = format!("{prefix}{name}");
                if self.bus.get(&Bucket::Agents, &key).await?.is_some_and(|entry| entry.value.is_some()) {
                    self.bus.delete(&Bucket::Agents, &key).await?;
                    is_lifted = true;
                }
            }
            Ok(is_lifted)
        })
    }

    /// Reads the entries below a prefix: the rest of the key, the record and its age. Leaves out
    /// entries that this version cannot read.
    async fn read_entries<T: DeserializeOwned>(
        &self,
        bucket: &Bucket,
        prefix: &str,
    ) -> Result<Vec<(String, T, Duration)>, BusError> {
        let mut keys = self.bus.keys(bucket).await?;
        // A worker chooses the keys of its heartbeats.
        keys.retain(|key| key.starts_with(prefix) && topology::check_key(key).is_ok());
        keys.sort_unstable();
        let read = async |key: String| {
            let entry = self.bus.get(bucket, &key).await?;
            let record =
                entry.and_then(|entry| Some((serde_json::from_slice(&entry.value?).ok()?, entry.age)));
            Ok(record.map(|(record, age)| (key[prefix.len()..].to_owned(), record, age)))
        };
        let entries: Vec<_> = stream::iter(keys).map(read).buffered(CONCURRENT_READS).try_collect().await?;
        Ok(entries.into_iter().flatten().collect())
    }

    fn block_on<T>(&self, future: impl Future<Output = Result<T, BusError>>) -> Result<T, CommandError> {
        self.runtime.block_on(future).map_err(to_command_error)
    }
}

fn to_command_error(error: BusError) -> CommandError {
    CommandError::Other(error.into())
}
