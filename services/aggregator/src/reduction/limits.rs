//! Bounds on what one pool can make the aggregator do in one job.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    agent::AgentId,
    digest::Digest,
    ids::{PoolName, TaskId},
};

/// Upper bound on the agents of a pool whose results of one job are examined.
const MAX_AGENTS_PER_POOL: usize = 4096;
/// Upper bound on the different results of a shard that are examined for a pool. Two suffice to
/// prove that the pool contradicts itself.
const MAX_CLAIMS_PER_POOL: usize = 2;

/// What the pools of a job have used of their limits.
#[derive(Debug, Default)]
pub(super) struct PoolLimits {
    agents: BTreeMap<PoolName, BTreeSet<AgentId>>,
    /// Examined results that were not simply accepted, by position of their shard.
    claims: BTreeMap<(usize, PoolName), BTreeSet<Digest>>,
    /// Tasks with a rejected result, by pool. No other result of the pool is examined for them;
    /// another pool may have received the same task.
    rejected: BTreeSet<(TaskId, PoolName)>,
}

impl PoolLimits {
    /// Whether results of this agent are examined.
    pub fn admits_agent(&self, pool: &PoolName, agent: &AgentId) -> bool {
        let agents = self.agents.get(pool);
        agents.is_none_or(|agents| agents.len() < MAX_AGENTS_PER_POOL || agents.contains(agent))
    }

    /// Records an agent with a valid signature.
    pub fn record_agent(&mut self, pool: &PoolName, agent: &AgentId) {
        let agents = self.agents.entry(pool.clone()).or_default();
        if !agents.contains(agent) {
            agents.insert(agent.clone());
        }
    }

    /// Whether this result of a shard is examined. `accepted` is the accepted result of the shard,
    /// if it is the pool's.
    pub fn admits_claim(
        &self,
        position: usize,
        pool: &PoolName,
        hash: Digest,
        accepted: Option<Digest>,
    ) -> bool {
        let claims = self.claims.get(&(position, pool.clone()));
        let is_known = claims.is_some_and(|claims| claims.contains(&hash));
        let others = claims.into_iter().flatten().chain(&accepted).collect::<BTreeSet<_>>();
        is_known || others.len() < MAX_CLAIMS_PER_POOL
    }

    /// Records a result that was examined, and not simply accepted.
    pub fn record_claim(&mut self, position: usize, pool: &PoolName, hash: Digest) {
        self.claims.entry((position, pool.clone())).or_default().insert(hash);
    }

    pub fn is_rejected(&self, task: TaskId, pool: &PoolName) -> bool {
        self.rejected.contains(&(task, pool.clone()))
    }

    /// Records a task for which the result of a pool is rejected. Returns `false` if one was
    /// rejected before.
    pub fn reject(&mut self, task: TaskId, pool: &PoolName) -> bool {
        self.rejected.insert((task, pool.clone()))
    }
}
