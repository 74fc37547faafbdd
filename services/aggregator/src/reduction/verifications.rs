//! Which results a verifier has to execute again, and which of these have no verdict yet.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{attestation::ResultStatement, ids::TaskId, shard::ShardId, task::Claim};

use super::trust::ResultKey;

/// The shards of a run that the policy selects.
#[derive(Debug)]
pub(super) enum Draw {
    /// Not drawn yet.
    Pending,
    /// Every shard.
    All,
    /// These positions, ascending.
    Positions(Vec<usize>),
}

impl Draw {
    pub fn contains(&self, position: usize) -> bool {
        match self {
            Self::Pending => false,
            Self::All => true,
            Self::Positions(positions) => positions.binary_search(&position).is_ok(),
        }
    }
}

/// A request to a verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerificationRequest {
    pub shard: ShardId,
    /// The task that the claimed result answers.
    pub task: TaskId,
    pub claim: Claim,
}

impl VerificationRequest {
    fn new(statement: &ResultStatement) -> Self {
        let ResultStatement { pool, agent_id, backend, adapter, result_hash, .. } = statement.clone();
        let claim = Claim { pool, agent_id, backend, adapter, result_hash };
        Self { shard: statement.shard_id, task: statement.task_id, claim }
    }
}

/// The results that need a verdict.
#[derive(Debug, Default)]
pub(super) struct VerificationLedger {
    /// Results without a verdict, each with one agent's claim of it.
    pending: BTreeMap<ResultKey, VerificationRequest>,
    /// Those of them whose verification has not been requested.
    unrequested: BTreeSet<ResultKey>,
}

impl VerificationLedger {
    /// Requires a verdict on a result. Has no effect if one is pending: a verdict is about
    /// the bytes, and holds for every agent that claims them.
    pub fn require(&mut self, key: ResultKey, statement: &ResultStatement) {
        self.pending.entry(key).or_insert_with(|| {
            self.unrequested.insert(key);
            VerificationRequest::new(statement)
        });
    }

    /// Removes a result that needs no verdict any more, or has it.
    pub fn settle(&mut self, key: &ResultKey) {
        self.pending.remove(key);
        self.unrequested.remove(key);
    }

    /// Removes the results of shards that are not among the first `shards`.
    pub fn truncate(&mut self, shards: usize) {
        self.pending.retain(|(position, _), _| *position < shards);
        self.unrequested.retain(|(position, _)| *position < shards);
    }

    /// Returns the verifications that have to be requested, each of them once.
    pub fn take_requests(&mut self) -> Vec<VerificationRequest> {
        let unrequested = std::mem::take(&mut self.unrequested);
        unrequested.iter().filter_map(|key| self.pending.get(key).cloned()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Number of results without a verdict.
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}
