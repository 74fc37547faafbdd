//! What a fold tells: how far it has come, who executed what, what was verified. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    agent::Hardware,
    artifact::{BackendPair, Execution, VerificationDocument},
    job::JobProgress,
    shard::ShardId,
    task::{Attestation, Claim},
};
use forge_kernel::verification;

use super::{Executor, Fold};

/// Longest time that is believed, in microseconds: a year.
const MAX_US: u64 = 365 * 24 * 3600 * 1_000_000;

impl Fold {
    /// How far the job has come.
    pub fn progress(&self) -> JobProgress {
        JobProgress {
            iterations: self.job.request.plan.iterations(),
            iterations_done: self.iterations,
            shards: self.shards.len() as u64,
            shards_done: self.taken as u64,
            shards_verified: (self.checks.len() - self.waiting.len()) as u64,
        }
    }

    /// The execution of each shard of the result, in shard order.
    pub fn executions(&self) -> Vec<Execution> {
        let request = &self.job.request;
        let execution = |(shard, attestation): (&ShardId, &Attestation)| {
            let planned = request.shard(*shard);
            Execution {
                agent_id: attestation.agent_id.to_string(),
                shard_id: *shard,
                first_iteration: request.plan.range(*shard).start,
                iterations: planned.iterations,
                seed: planned.seed,
                result_hash: attestation.result_hash,
                backend: attestation.backend.clone(),
                adapter: attestation.adapter.clone(),
                wall_ms: attestation.wall_us.min(MAX_US) as f64 / 1e3,
                cpu_ms: attestation.cpu_us.min(MAX_US) as f64 / 1e3,
                signature: Some(attestation.signature.clone()),
            }
        };
        self.shards.iter().zip(self.accepted.iter().flatten()).map(execution).collect()
    }

    /// What was verified, and what that proves.
    pub fn verification(&self) -> VerificationDocument {
        let total = self.shards.len() as u64;
        let mut pairs: BTreeMap<(Executor, &Executor), u64> = BTreeMap::new();
        let mut checked = BTreeSet::new();
        for ((position, _), check) in &self.checks {
            if let Some(verifier) = &check.confirmed
                && checked.insert(*position)
            {
                let Claim { backend, adapter, .. } = check.claim.clone();
                *pairs.entry((Executor { backend, adapter }, verifier)).or_default() += 1;
            }
        }
        let pair = |((primary, verifier), shards): ((Executor, &Executor), u64)| BackendPair {
            primary_hardware: Hardware::from_adapter(primary.adapter.as_deref()),
            primary: primary.backend,
            primary_adapter: primary.adapter,
            verifier_hardware: Hardware::from_adapter(verifier.adapter.as_deref()),
            verifier: verifier.backend.clone(),
            verifier_adapter: verifier.adapter.clone(),
            shards,
        };
        let pairs: Vec<_> = pairs.into_iter().map(pair).collect();
        let other = pairs.iter().filter(|pair| pair.primary_hardware != pair.verifier_hardware);
        VerificationDocument {
            schema: VerificationDocument::SCHEMA.to_owned(),
            job_id: self.job.id.clone(),
            replay_key: self.job.request.replay_key,
            policy: self.job.request.envelope.policy.verify,
            share: self.share,
            shards: total,
            detection: verification::detection_probabilities(total, checked.len() as u64),
            checked: checked.into_iter().map(|position| self.shards[position]).collect(),
            on_other_hardware: other.map(|pair| pair.shards).sum(),
            pairs,
            refuted: self.refuted.clone(),
        }
    }
}
