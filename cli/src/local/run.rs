//! A whole run: from a request to its merged result and the record of its shards.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use forge_contract::{
    artifact::{Execution, Phase},
    digest::Digest,
    error::FailureCode,
    shard::ShardId,
};
use forge_documents::{Figures, milliseconds};
use forge_kernel::{execute::Backend, request::Request};
use forge_store::shards::ShardsWriter;

use super::{
    crew::{Crew, Done},
    fold::Fold,
    stop::Stop,
};
use crate::failure::JobFailure;

/// What a run yields.
#[derive(Debug)]
pub struct Run {
    /// What its merged result says.
    pub figures: Figures,
    /// Its shards, in order.
    pub shards: Vec<ExecutedShard>,
    /// All shard results as one object, if they were to be kept.
    pub kept: Option<Vec<u8>>,
    /// From the first shard's start to the last one's merge.
    pub wall: Duration,
}

impl Run {
    /// The record of the shards, which `backend` executed. Each thread counts as an agent.
    pub fn executions(&self, request: &Request, backend: &str) -> Vec<Execution> {
        let execution = |shard: &ExecutedShard| {
            let planned = request.shard(shard.id);
            Execution {
                agent_id: format!("local-{}", shard.agent),
                shard_id: shard.id,
                first_iteration: request.plan.range(shard.id).start,
                iterations: planned.iterations,
                seed: planned.seed,
                result_hash: shard.hash,
                backend: backend.to_owned(),
                wall_ms: milliseconds(shard.wall),
                cpu_ms: milliseconds(shard.cpu),
                signature: None,
            }
        };
        self.shards.iter().map(execution).collect()
    }

    /// Iterations in a second.
    pub fn iterations_per_second(&self) -> f64 {
        self.figures.merged.iterations as f64 / self.wall.as_secs_f64().max(1e-9)
    }
}

/// The record of a shard's execution.
#[derive(Debug, Clone)]
pub struct ExecutedShard {
    /// The shard.
    pub id: ShardId,
    /// Number of the thread that executed it, from 1.
    pub agent: usize,
    /// SHA-256 of its result.
    pub hash: Digest,
    /// Time from start to end.
    pub wall: Duration,
    /// CPU time of the thread.
    pub cpu: Duration,
}

impl ExecutedShard {
    /// A shard of which no more is known than its result's hash.
    pub fn unmeasured(id: ShardId, hash: Digest) -> Self {
        Self { id, agent: 0, hash, wall: Duration::ZERO, cpu: Duration::ZERO }
    }
}

/// Executes a request on `threads` threads; `keep` asks for all shard results, which are held in memory.
///
/// The result is the same for every backend and every number of threads.
///
/// # Errors
/// The run was stopped, or a shard could not be executed.
pub fn run(
    request: &Request,
    backend: &dyn Backend,
    threads: usize,
    stop: &Stop,
    keep: bool,
) -> Result<Run, JobFailure> {
    let start = Instant::now();
    let crew = Crew { request, backend, threads, stop, phase: Phase::Execute };
    let mut fold = Fold::new(request);
    let mut shards = Vec::new();
    let mut kept = keep.then(ShardsWriter::new);
    crew.execute(request.plan.shards(), |done: Done| {
        let flow = fold.add(&done.result).map_err(|error| {
            let message = format!("shard {}: {error}", done.id);
            JobFailure::new(FailureCode::AggregationFailed, Phase::Reduce, message)
        })?;
        if let Some(kept) = &mut kept {
            kept.push(&done.bytes);
        }
        let Done { id, agent, hash, wall, cpu, .. } = done;
        shards.push(ExecutedShard { id, agent, hash, wall, cpu });
        Ok::<ControlFlow<()>, JobFailure>(flow)
    })?;
    let wall = start.elapsed();
    Ok(Run { figures: fold.finish(), shards, kept: kept.map(ShardsWriter::finish), wall })
}
