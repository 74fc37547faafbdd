//! Results that contradict the accepted result of their shard, as evidence for an auditor.

use std::collections::BTreeMap;

use forge_contract::{attestation::Attestation, digest::Digest};

use super::trust::Claimant;

/// Results of one shard that are kept of a pool.
const MAX_RESULTS_PER_POOL: usize = 2;

/// The attested results of every shard that has contradicting ones, the accepted one included: if
/// that one is refuted and replaced, it is the contradiction.
#[derive(Debug, Default)]
pub(super) struct ContradictionLog(BTreeMap<usize, BTreeMap<(Claimant, Digest), Attestation>>);

impl ContradictionLog {
    /// Records a result that contradicts the accepted one of the shard at `position`. Returns
    /// whether it is news.
    pub fn record(&mut self, position: usize, accepted: &Attestation, other: &Attestation) -> bool {
        let results = self.0.entry(position).or_default();
        let mut add = |attestation: &Attestation| {
            let statement = &attestation.statement;
            let of_pool = results.keys().filter(|((pool, _), _)| *pool == statement.pool).count();
            let key = ((statement.pool.clone(), statement.agent_id.clone()), statement.result_hash);
            of_pool < MAX_RESULTS_PER_POOL && results.insert(key, attestation.clone()).is_none()
        };
        add(accepted);
        add(other)
    }

    /// The results of a shard that differ from `accepted`, by agent and hash.
    pub fn of_shard(&self, position: usize, accepted: Digest) -> impl Iterator<Item = &Attestation> {
        let results = self.0.get(&position).into_iter().flatten();
        results.filter(move |((_, hash), _)| *hash != accepted).map(|(_, attestation)| attestation)
    }
}
