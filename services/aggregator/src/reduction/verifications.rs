//! Which results verifiers have to re-execute, and what they found. Decides nothing about an agent.
//!
//! A claim is one agent's result of one shard. Shards are named by their position in the plan.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use forge_contract::{
    agent::AgentId,
    digest::Digest,
    task::{Attestation, Claim},
    verdict::Verdict,
};

type ClaimKey = (usize, AgentId);

/// The claims of a job that are verified.
#[derive(Debug, Default)]
pub(super) struct VerificationLedger {
    /// Shards that the policy selects. Their accepted results must be confirmed.
    selected: BTreeSet<usize>,
    claims: BTreeMap<ClaimKey, VerifiedClaim>,
    /// Claims without a confirmation.
    pending: BTreeSet<ClaimKey>,
    /// Claims whose verification has not been requested from a verifier.
    unrequested: Vec<ClaimKey>,
    /// Every confirmation, also of claims that are not in `claims`: after a restart, the stream
    /// replays verdicts before the reduction has selected their shards, and they are sent once.
    confirmations: BTreeMap<(usize, AgentId, Digest), ExecutionDevice>,
}

/// A claim under verification.
#[derive(Debug)]
struct VerifiedClaim {
    claim: Claim,
    /// What confirmed the claim; `None` while it is pending.
    confirmed_by: Option<ExecutionDevice>,
}

/// What executed a shard: the backend, and the device and driver unless that was the CPU.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExecutionDevice {
    pub backend: String,
    pub adapter: Option<String>,
}

impl VerificationLedger {
    /// Sets the shards that the policy selects.
    pub fn select(&mut self, positions: impl IntoIterator<Item = usize>) {
        self.selected = positions.into_iter().collect();
    }

    pub fn is_selected(&self, position: usize) -> bool {
        self.selected.contains(&position)
    }

    /// Requires a confirmation of this claim. Has no effect if the agent's claim is known.
    pub fn require(&mut self, position: usize, attestation: &Attestation) {
        let Attestation { agent_id, backend, adapter, result_hash, .. } = attestation.clone();
        let confirmed_by = self.confirmations.get(&(position, agent_id.clone(), result_hash)).cloned();
        let claim = Claim { agent_id: agent_id.clone(), backend, adapter, result_hash };
        let key = (position, agent_id);
        if let Entry::Vacant(entry) = self.claims.entry(key.clone()) {
            if confirmed_by.is_none() {
                self.pending.insert(key.clone());
                self.unrequested.push(key);
            }
            entry.insert(VerifiedClaim { claim, confirmed_by });
        }
    }

    /// Records the confirmation that `verdict` is.
    pub fn confirm(&mut self, position: usize, verdict: &Verdict) {
        let Verdict { agent_id, result_hash, backend, adapter, .. } = verdict.clone();
        let device = ExecutionDevice { backend, adapter };
        let key = (position, agent_id.clone());
        let verified = self.claims.get_mut(&key);
        if let Some(verified) = verified.filter(|verified| verified.claim.result_hash == result_hash) {
            verified.confirmed_by = Some(device.clone());
            self.pending.remove(&key);
        }
        self.confirmations.insert((position, agent_id, result_hash), device);
    }

    /// Removes an agent's claim, which was refuted.
    pub fn remove(&mut self, position: usize, agent: &AgentId) {
        let key = (position, agent.clone());
        self.claims.remove(&key);
        self.pending.remove(&key);
    }

    /// Removes the claims of shards that are not among the first `shards`.
    pub fn truncate(&mut self, shards: usize) {
        self.claims.retain(|(position, _), _| *position < shards);
        self.pending.retain(|(position, _)| *position < shards);
    }

    /// Returns the claims whose verification has to be requested, each of them once.
    pub fn take_requests(&mut self) -> Vec<(usize, Claim)> {
        let unrequested = std::mem::take(&mut self.unrequested).into_iter();
        let pending = unrequested.filter(|key| self.pending.contains(key));
        pending.filter_map(|key| Some((key.0, self.claims.get(&key)?.claim.clone()))).collect()
    }

    /// Whether every claim is confirmed, and so is the accepted result of every selected shard.
    pub fn is_complete(&self, accepted: &[Option<Attestation>]) -> bool {
        // The cheap test first: this runs after every message.
        self.pending.is_empty()
            && self.selected.iter().all(|&position| {
                let attestation = accepted.get(position).and_then(Option::as_ref);
                let key = attestation.map(|attestation| (position, attestation.agent_id.clone()));
                key.and_then(|key| self.claims.get(&key)).is_some_and(VerifiedClaim::is_confirmed)
            })
            && self.claims.values().all(VerifiedClaim::is_confirmed)
    }

    /// Number of confirmed claims.
    pub fn confirmed_count(&self) -> usize {
        self.claims.len() - self.pending.len()
    }

    /// The confirmed claims in shard order: position, claim, and what confirmed it.
    pub fn confirmed(&self) -> impl Iterator<Item = (usize, &Claim, &ExecutionDevice)> {
        self.claims.iter().filter_map(|((position, _), verified)| {
            Some((*position, &verified.claim, verified.confirmed_by.as_ref()?))
        })
    }
}

impl VerifiedClaim {
    fn is_confirmed(&self) -> bool {
        self.confirmed_by.is_some()
    }
}
