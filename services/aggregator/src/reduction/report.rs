//! What a reduction reports: progress, executions, verification, and the reduced job. Read-only.

use std::collections::BTreeMap;

use forge_contract::{
    agent::Hardware,
    artifact::{BackendPair, Execution, VerificationDocument},
    attestation::{Attestation, ResultStatement},
    job::JobProgress,
    shard_result::ShardResult,
    verdict::Verdict,
};
use forge_kernel::{convergence::StopReason, verification};

use super::{AggregationError, JobReduction};

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

/// What executed a shard: the backend, and the device and driver unless that was the CPU.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ExecutionDevice {
    backend: String,
    adapter: Option<String>,
}

impl JobReduction {
    /// Returns the reduced job, once [`JobReduction::is_complete`].
    ///
    /// # Errors
    /// [`AggregationError`] when a shard of the run has no accepted result.
    pub fn reduced_job(&self) -> Result<ReducedJob, AggregationError> {
        let (accepted, shards) = (self.accepted.len(), self.shards);
        match (self.run_end, self.merge.result()) {
            (Some(run_end), Some(merged)) if accepted == shards && shards == run_end.shards => {
                Ok(ReducedJob {
                    merged,
                    stop_reason: run_end.reason,
                    progress: self.progress(),
                    executions: self.executions(),
                    verification: self.verification(),
                })
            }
            _ => Err(AggregationError::MissingResults { accepted, shards }),
        }
    }

    /// How much of the job is done.
    pub fn progress(&self) -> JobProgress {
        JobProgress {
            iterations: self.context.job.request.plan.iterations(),
            iterations_done: self.accepted_iterations,
            shards: self.shards as u64,
            shards_done: self.accepted.len() as u64,
            shards_verified: self.confirmed_shards as u64,
        }
    }

    /// The execution of each shard that has an accepted result, in shard order.
    pub fn executions(&self) -> Vec<Execution> {
        self.accepted.values().map(|accepted| self.execution(accepted)).collect()
    }

    fn execution(&self, accepted: &Attestation) -> Execution {
        let Attestation { statement, wall_us, cpu_us, signature, .. } = accepted.clone();
        let first_iteration = self.context.job.request.plan.range(statement.shard_id).start;
        let ResultStatement { pool, agent_id, task_id, shard_id, iterations, .. } = statement;
        let ResultStatement { seed, result_hash, backend, adapter, .. } = statement;
        Execution {
            pool,
            agent_id,
            task_id,
            shard_id,
            first_iteration,
            iterations,
            seed,
            result_hash,
            backend,
            adapter,
            wall_ms: wall_us as f64 / 1e3,
            cpu_ms: cpu_us as f64 / 1e3,
            signature,
        }
    }

    /// What was verified, and what that proves.
    pub fn verification(&self) -> VerificationDocument {
        let checks = self.accepted.iter().filter_map(|(&position, accepted)| {
            let ResultStatement { pool, agent_id, result_hash, .. } = &accepted.statement;
            let claimant = (pool.clone(), agent_id.clone());
            Some((accepted, self.trust.confirmation(&(position, *result_hash), &claimant)?))
        });
        let checks: Vec<(&Attestation, &Verdict)> = checks.collect();
        let pairs = backend_pairs(&checks);
        let cross_hardware = pairs.iter().filter(|pair| pair.primary_hardware != pair.verifier_hardware);
        let contradictions = self.accepted.iter().flat_map(|(&position, accepted)| {
            self.contradictions.of_shard(position, accepted.statement.result_hash)
        });
        let (job, shards) = (&self.context.job, self.shards as u64);
        let drawn = verification::sample_size(self.verified_share, shards);
        VerificationDocument {
            schema: VerificationDocument::SCHEMA.to_owned(),
            job_id: job.id.clone(),
            replay_key: job.request.replay_key,
            policy: job.request.envelope.policy.verify,
            share: self.verified_share,
            shards,
            drawn,
            checked: checks.iter().map(|(_, verdict)| (*verdict).clone()).collect(),
            on_other_hardware: cross_hardware.map(|pair| pair.shards).sum(),
            pairs,
            escape: verification::escape_probabilities(shards, drawn),
            suspect_pools: self.trust.suspects().iter().cloned().collect(),
            refuted: self.trust.refutations().cloned().collect(),
            contradictions: contradictions.cloned().collect(),
        }
    }
}

/// Counts the checked shards by the devices that executed and verified them.
fn backend_pairs(checks: &[(&Attestation, &Verdict)]) -> Vec<BackendPair> {
    let mut counts: BTreeMap<(ExecutionDevice, ExecutionDevice), u64> = BTreeMap::new();
    for (accepted, verdict) in checks {
        let device = |backend: &String, adapter: &Option<String>| ExecutionDevice {
            backend: backend.clone(),
            adapter: adapter.clone(),
        };
        let primary = device(&accepted.statement.backend, &accepted.statement.adapter);
        let verifier = device(&verdict.statement.backend, &verdict.statement.adapter);
        *counts.entry((primary, verifier)).or_default() += 1;
    }
    let pair = |((primary, verifier), shards): ((ExecutionDevice, ExecutionDevice), u64)| BackendPair {
        primary_hardware: Hardware::from_adapter(primary.adapter.as_deref()),
        primary: primary.backend,
        primary_adapter: primary.adapter,
        verifier_hardware: Hardware::from_adapter(verifier.adapter.as_deref()),
        verifier: verifier.backend,
        verifier_adapter: verifier.adapter,
        shards,
    };
    counts.into_iter().map(pair).collect()
}
