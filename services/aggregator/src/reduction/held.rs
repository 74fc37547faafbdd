//! Results that count once a verifier has confirmed them. Their bytes are kept up to a limit;
//! beyond it, a confirmed result is read from the stream again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use forge_contract::{
    agent::AgentId,
    attestation::Attestation,
    digest::Digest,
    ids::{PoolName, TaskId},
};
use forge_service::memory_budget::{MemoryBudget, MemoryReservation};

use super::trust::ResultKey;

/// Upper bound on the bytes of held results of a job.
const MAX_HELD_BYTES: usize = 64 << 20;

/// The held results of a job.
#[derive(Debug)]
pub(super) struct HeldResults {
    budget: MemoryBudget,
    results: BTreeMap<ResultKey, HeldResult>,
    bytes: usize,
}

/// A result without a verdict.
#[derive(Debug)]
pub(super) struct HeldResult {
    /// What the first agent with this result attested.
    pub attestation: Attestation,
    /// The result's canonical bytes; `None` beyond the limits.
    pub bytes: Option<Bytes>,
    /// The memory for them.
    _reservation: Option<MemoryReservation>,
    /// Every task that was answered with this result, and the pool that answered it.
    pub tasks: BTreeSet<(TaskId, PoolName)>,
}

impl HeldResults {
    /// No results. Their bytes will be kept while the budget has memory to spare.
    pub fn new(budget: MemoryBudget) -> Self {
        Self { budget, results: BTreeMap::new(), bytes: 0 }
    }

    /// Holds a result. Another one with the same bytes must not be held.
    pub fn hold(&mut self, key: ResultKey, attestation: Attestation, bytes: Bytes) {
        let is_small = self.bytes + bytes.len() <= MAX_HELD_BYTES;
        let reservation = is_small.then(|| self.budget.try_reserve_spare(bytes.len() as u64)).flatten();
        let bytes = reservation.is_some().then_some(bytes);
        self.bytes += bytes.as_ref().map_or(0, Bytes::len);
        let tasks = BTreeSet::from([(attestation.statement.task_id, attestation.statement.pool.clone())]);
        self.results.insert(key, HeldResult { attestation, bytes, _reservation: reservation, tasks });
    }

    /// Adds a task that a pool answered with a held result. Returns whether it is a new one; `None`
    /// if the result is not held.
    pub fn add_task(&mut self, key: &ResultKey, task: TaskId, pool: &PoolName) -> Option<bool> {
        self.results.get_mut(key).map(|held| held.tasks.insert((task, pool.clone())))
    }

    /// Stops holding a result.
    pub fn release(&mut self, key: &ResultKey) -> Option<HeldResult> {
        let held = self.results.remove(key)?;
        self.bytes -= held.bytes.as_ref().map_or(0, Bytes::len);
        Some(held)
    }

    /// Keys of the results of an agent.
    pub fn of_agent(&self, pool: &PoolName, agent: &AgentId) -> Vec<ResultKey> {
        let is_of_agent = |held: &HeldResult| {
            let statement = &held.attestation.statement;
            statement.pool == *pool && statement.agent_id == *agent
        };
        self.results.iter().filter(|(_, held)| is_of_agent(held)).map(|(key, _)| *key).collect()
    }

    /// The results of a shard.
    pub fn of_shard(&self, position: usize) -> impl Iterator<Item = (&ResultKey, &HeldResult)> {
        // No digest lies outside of these bounds.
        let (lowest, highest) = (Digest([0; 32]), Digest([255; 32]));
        self.results.range((position, lowest)..=(position, highest))
    }

    /// Stops holding results of shards that are not among the first `shards`.
    pub fn truncate(&mut self, shards: usize) {
        let beyond: Vec<_> = self.results.range((shards, Digest([0; 32]))..).map(|(key, _)| *key).collect();
        beyond.iter().for_each(|key| drop(self.release(key)));
    }

    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }
}
