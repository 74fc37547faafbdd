//! What an agent writes about itself: its record, again with every heartbeat.

use std::{sync::Arc, time::Duration};

use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{
    agent::{AgentRecord, AgentState, Identity},
    canonical::to_canonical_json,
    envelope::Target,
    ids::PoolName,
};
use forge_kernel::backend::Backend;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Role;
use crate::short_text::shorten;

/// Interval between the heartbeats of an agent.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Time limit for announcing that an agent leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Registers a verifier or aggregator and starts its heartbeat, which runs until `stop` is
/// cancelled and then announces that the agent leaves. The agent is registered when this returns.
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
    start_heartbeat(bus, Bucket::Agents, key, record, stop).await
}

/// Registers a worker of a pool and starts its heartbeat, as [`register`] does for other agents.
///
/// # Errors
/// As [`register`].
pub async fn register_worker(
    bus: SharedBus,
    pool: PoolName,
    record: AgentRecord,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, BusError> {
    let key = format!("{pool}.{}", record.agent_id);
    let record = AgentRecord { pool: Some(pool), ..record };
    start_heartbeat(bus, Bucket::Workers, key, record, stop).await
}

async fn start_heartbeat(
    bus: SharedBus,
    bucket: Bucket,
    key: String,
    record: AgentRecord,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, BusError> {
    let json = |record: &AgentRecord| to_canonical_json(record).expect("an agent record holds small numbers");
    bus.put(&bucket, &key, json(&record).into()).await?;
    Ok(tokio::spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(HEARTBEAT_INTERVAL)).await.is_some() {
            if let Err(error) = bus.put(&bucket, &key, json(&record).into()).await {
                tracing::debug!(%error, "a heartbeat was lost; the next one follows in {HEARTBEAT_INTERVAL:?}");
            }
        }
        let left = AgentRecord { state: AgentState::Left, ..record };
        let announcement = bus.put(&bucket, &key, json(&left).into());
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
            backend: shorten(&names.join(",")),
            adapter: backends.iter().find_map(|backend| backend.adapter()).map(shorten),
            slots: to_u32(slots),
            batch: to_u32(backends.iter().map(|backend| backend.batch_size()).max().unwrap_or(1)),
        }
    }
}

/// Builds the registry record of a live agent in this process, without a pool.
pub fn agent_record(
    identity: &Identity,
    target: Target,
    capacity: AgentCapacity,
    kernel: u32,
) -> AgentRecord {
    AgentRecord {
        schema: AgentRecord::SCHEMA.to_owned(),
        agent_id: identity.id().clone(),
        pool: None,
        state: AgentState::Live,
        target,
        backend: capacity.backend,
        adapter: capacity.adapter,
        slots: capacity.slots,
        batch: capacity.batch,
        kernel,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: shorten(&rustix::system::uname().nodename().to_string_lossy()),
    }
}
