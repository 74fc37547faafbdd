//! What a reduction reports: progress, executions, verification, and the reduced job. Read-only.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    agent::Hardware,
    artifact::{BackendPair, Execution, VerificationDocument},
    job::JobProgress,
    shard::ShardId,
    shard_result::ShardResult,
    task::Attestation,
};
use forge_kernel::{convergence::StopReason, verification};

use super::{AggregationError, JobReduction, verifications::ExecutionDevice};

/// Upper bound on the execution times that agents report, in microseconds: one year.
const MAX_EXECUTION_MICROS: u64 = 365 * 24 * 3600 * 1_000_000;

/// A job whose results are merged and verified as its policy demands.
#[derive(Debug)]
pub(crate) struct ReducedJob {
    pub merged: ShardResult,
    pub stop_reason: StopReason,
    pub progress: JobProgress,
    /// One entry a shard of the result, in shard order.
    pub executions: Vec<Execution>,
    pub verification: VerificationDocument,
}

impl JobReduction {
    /// Returns the reduced job, once [`JobReduction::is_complete`].
    ///
    /// # Errors
    /// [`AggregationError`] when a shard of the run has no accepted result.
    pub fn reduced_job(&self) -> Result<ReducedJob, AggregationError> {
        let executions = self.executions();
        let (accepted, shards) = (executions.len(), self.shards.len());
        match self.run_end {
            Some(run_end) if accepted == shards && shards == run_end.shards => Ok(ReducedJob {
                merged: self.merge.result(),
                stop_reason: run_end.reason,
                progress: self.progress(),
                executions,
                verification: self.verification(),
            }),
            _ => Err(AggregationError::MissingResults { accepted, shards }),
        }
    }

    /// How much of the job is done.
    pub fn progress(&self) -> JobProgress {
        JobProgress {
            iterations: self.job.request.plan.iterations(),
            iterations_done: self.accepted_iterations,
            shards: self.shards.len() as u64,
            shards_done: self.accepted_shards as u64,
            shards_verified: self.verifications.confirmed_count() as u64,
        }
    }

    /// The execution of each shard that has an accepted result, in shard order.
    pub fn executions(&self) -> Vec<Execution> {
        let accepted = self.shards.iter().zip(&self.accepted);
        let accepted = accepted.filter_map(|(shard, attestation)| Some((*shard, attestation.as_ref()?)));
        accepted.map(|(shard, attestation)| self.execution(shard, attestation)).collect()
    }

    fn execution(&self, shard: ShardId, attestation: &Attestation) -> Execution {
        let request = &self.job.request;
        let planned = request.shard(shard);
        Execution {
            agent_id: attestation.agent_id.to_string(),
            shard_id: shard,
            first_iteration: request.plan.range(shard).start,
            iterations: planned.iterations,
            seed: planned.seed,
            result_hash: attestation.result_hash,
            backend: attestation.backend.clone(),
            adapter: attestation.adapter.clone(),
            wall_ms: attestation.wall_us.min(MAX_EXECUTION_MICROS) as f64 / 1e3,
            cpu_ms: attestation.cpu_us.min(MAX_EXECUTION_MICROS) as f64 / 1e3,
            signature: Some(attestation.signature.clone()),
        }
    }

    /// What was verified, and what that proves.
    pub fn verification(&self) -> VerificationDocument {
        let mut pairs: BTreeMap<(ExecutionDevice, &ExecutionDevice), u64> = BTreeMap::new();
        let mut verified = BTreeSet::new();
        for (position, claim, verifier) in self.verifications.confirmed() {
            if verified.insert(position) {
                let (backend, adapter) = (claim.backend.clone(), claim.adapter.clone());
                *pairs.entry((ExecutionDevice { backend, adapter }, verifier)).or_default() += 1;
            }
        }
        let pairs: Vec<_> = pairs
            .into_iter()
            .map(|((primary, verifier), shards)| backend_pair(primary, verifier.clone(), shards))
            .collect();
        let cross_hardware = pairs.iter().filter(|pair| pair.primary_hardware != pair.verifier_hardware);
        let shards = self.shards.len() as u64;
        let accepted = self.shards.iter().zip(&self.accepted);
        let contradictions = accepted.filter_map(|(shard, attestation)| {
            Some(self.contradictions.of_shard(*shard, attestation.as_ref()?.result_hash))
        });
        VerificationDocument {
            schema: VerificationDocument::SCHEMA.to_owned(),
            job_id: self.job.id.clone(),
            replay_key: self.job.request.replay_key,
            policy: self.job.request.envelope.policy.verify,
            share: self.verified_share,
            shards,
            detection: verification::detection_probabilities(shards, verified.len() as u64),
            checked: verified.into_iter().map(|position| self.shards[position]).collect(),
            on_other_hardware: cross_hardware.map(|pair| pair.shards).sum(),
            pairs,
            refuted: self.refuted.clone(),
            contradictions: contradictions.flatten().collect(),
        }
    }
}

fn backend_pair(primary: ExecutionDevice, verifier: ExecutionDevice, shards: u64) -> BackendPair {
    BackendPair {
        primary_hardware: Hardware::from_adapter(primary.adapter.as_deref()),
        primary: primary.backend,
        primary_adapter: primary.adapter,
        verifier_hardware: Hardware::from_adapter(verifier.adapter.as_deref()),
        verifier: verifier.backend,
        verifier_adapter: verifier.adapter,
        shards,
    }
}
