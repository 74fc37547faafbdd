//! Results that contradict the accepted result of their shard, as evidence for an auditor.
//! Recording one has no effect on its agent.

use std::collections::BTreeMap;

use forge_contract::{
    agent::{AgentId, Signature},
    artifact::Contradiction,
    digest::Digest,
    shard::ShardId,
    task::Attestation,
};

/// Claims of one agent about one shard that are kept. Two different ones prove that the agent
/// contradicts itself; more would let it fill the aggregator's memory.
const MAX_CLAIMS_PER_AGENT: usize = 2;

/// The signed claims of every shard that has contradicting results, the accepted claim included: if
/// that one is refuted and replaced, it is the contradiction.
#[derive(Debug, Default)]
pub(super) struct ContradictionLog(BTreeMap<ShardId, BTreeMap<(AgentId, Digest), Signature>>);

impl ContradictionLog {
    /// Records a result that contradicts the accepted one. Returns whether it is kept: it is not if
    /// the same claim is known, or if its agent has made enough of them.
    pub fn record(&mut self, shard: ShardId, accepted: &Attestation, other: &Attestation) -> bool {
        let claims = self.0.entry(shard).or_default();
        let claim = |attestation: &Attestation| (attestation.agent_id.clone(), attestation.result_hash);
        claims.insert(claim(accepted), accepted.signature.clone());
        let by_agent = claims.keys().filter(|(agent, _)| *agent == other.agent_id).count();
        by_agent < MAX_CLAIMS_PER_AGENT && claims.insert(claim(other), other.signature.clone()).is_none()
    }

    /// The results of a shard that differ from `accepted`, by agent and hash.
    pub fn of_shard(&self, shard: ShardId, accepted: Digest) -> impl Iterator<Item = Contradiction> {
        let claims = self.0.get(&shard).into_iter().flatten();
        claims.filter(move |((_, hash), _)| *hash != accepted).map(
            move |((agent_id, result_hash), signature)| Contradiction {
                shard_id: shard,
                agent_id: agent_id.clone(),
                result_hash: *result_hash,
                signature: signature.clone(),
            },
        )
    }
}
