//! What the verdicts about a job's results say: which results are right, and which agents and pools
//! have lied. Only grows, so the order in which verdicts arrive does not matter.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    agent::AgentId,
    attestation::ResultStatement,
    digest::Digest,
    ids::PoolName,
    verdict::{Verdict, VerdictStatement},
};

/// A result: the position of its shard in the plan, and its hash.
pub(super) type ResultKey = (usize, Digest);
/// Who claims a result. An agent's key is a name within its pool.
pub(super) type Claimant = (PoolName, AgentId);

/// The verdicts of a job.
#[derive(Debug, Default)]
pub(super) struct TrustLedger {
    confirmed: BTreeMap<ResultKey, BTreeMap<Claimant, Verdict>>,
    refuted: BTreeMap<ResultKey, BTreeMap<Claimant, Verdict>>,
    /// Agents with a refuted result.
    excluded: BTreeSet<Claimant>,
    /// Pools of these agents.
    suspects: BTreeSet<PoolName>,
}

/// What a result is worth without an execution of its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may be accepted.
    Trusted,
    /// It may be accepted once a verifier has confirmed it.
    Unproven,
    /// It is not accepted, for this reason.
    Barred(&'static str),
}

impl TrustLedger {
    /// Records a confirmation.
    pub fn confirm(&mut self, position: usize, verdict: &Verdict) {
        let key = (position, verdict.statement.result_hash);
        let verdicts = self.confirmed.entry(key).or_default();
        verdicts.entry(claimant(&verdict.statement)).or_insert_with(|| verdict.clone());
    }

    /// Records a refutation.
    pub fn refute(&mut self, position: usize, verdict: &Verdict) {
        let key = (position, verdict.statement.result_hash);
        let claimant = claimant(&verdict.statement);
        self.suspects.insert(claimant.0.clone());
        self.excluded.insert(claimant.clone());
        self.refuted.entry(key).or_default().entry(claimant).or_insert_with(|| verdict.clone());
    }

    /// Whether a verifier has confirmed this result. A refutation outweighs confirmations: only the
    /// scalar reference refutes.
    pub fn is_confirmed(&self, key: &ResultKey) -> bool {
        self.confirmed.contains_key(key) && !self.is_refuted(key)
    }

    pub fn is_refuted(&self, key: &ResultKey) -> bool {
        self.refuted.contains_key(key)
    }

    pub fn is_suspect(&self, pool: &PoolName) -> bool {
        self.suspects.contains(pool)
    }

    pub fn is_excluded(&self, pool: &PoolName, agent: &AgentId) -> bool {
        self.excluded.contains(&(pool.clone(), agent.clone()))
    }

    /// The standing of a result; `is_quarantined` says whether its agent or pool is in quarantine.
    pub fn standing(&self, position: usize, statement: &ResultStatement, is_quarantined: bool) -> Standing {
        let key = (position, statement.result_hash);
        if self.is_confirmed(&key) {
            Standing::Trusted
        } else if self.is_excluded(&statement.pool, &statement.agent_id) {
            Standing::Barred("a result of the agent was refuted in this job")
        } else if is_quarantined {
            Standing::Barred("the agent or its pool is in quarantine")
        } else if self.is_suspect(&statement.pool) || self.is_refuted(&key) {
            // Another agent's claim of a refuted result gets a verdict of its own.
            Standing::Unproven
        } else {
            Standing::Trusted
        }
    }

    /// The confirmation of a result, preferably one that names this claimant.
    pub fn confirmation(&self, key: &ResultKey, claimant: &Claimant) -> Option<&Verdict> {
        let verdicts = self.confirmed.get(key).filter(|_| !self.is_refuted(key))?;
        verdicts.get(claimant).or_else(|| verdicts.values().next())
    }

    /// All refutations, in shard order.
    pub fn refutations(&self) -> impl Iterator<Item = &Verdict> {
        self.refuted.values().flat_map(BTreeMap::values)
    }

    pub fn suspects(&self) -> &BTreeSet<PoolName> {
        &self.suspects
    }
}

fn claimant(statement: &VerdictStatement) -> Claimant {
    (statement.pool.clone(), statement.agent_id.clone())
}
