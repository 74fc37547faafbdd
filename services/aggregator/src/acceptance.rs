//! Checks of one message on a result subject against the job, as far as they need neither other
//! results nor an execution of the shard: task, statement, signature, hash, encoding, shape. Pure.
//!
//! The cheap checks come first, so that a flood of invented results costs little: nothing is hashed
//! or verified before the task id is known to have been issued.

use std::sync::Arc;

use bytes::Bytes;
use forge_contract::{
    attestation::{Attestation, ResultStatement},
    digest::Digest,
    ids::{JobUid, PoolName},
    protocol::{PROTOCOL, UnreadableMessage},
    shard::ShardId,
    shard_result::ShardResult,
    wire::DecodeError,
};
use forge_documents::Job;
use forge_kernel::{
    KERNEL,
    job_key::JobKey,
    occurrence_tallies::{self, OccurrenceMismatch},
    result_shape::{ResultShape, ShapeMismatch},
};
use forge_service::shard_messages;

/// Upper bound on the execution times that agents report, in microseconds: one year.
const MAX_EXECUTION_MICROS: u64 = 365 * 24 * 3600 * 1_000_000;
/// Upper bound on the expected draws of a run, as the kernel plans it: 2^52.
const MAX_RUN_DRAWS: u128 = 1 << 52;
/// Draws that are left to 2^53 beyond the expected ones and up to 2^48 iterations, which are
/// counted together with draws.
const SPARE_DRAWS: u128 = (1 << 53) - MAX_RUN_DRAWS - (1 << 48);

/// A job as its results have to match it.
#[derive(Debug)]
pub(crate) struct JobContext {
    pub job: Arc<Job>,
    pub uid: JobUid,
    pub key: JobKey,
    /// Number of shards of the plan.
    pub shards: u64,
    /// The shape of the program's results.
    shape: ResultShape,
}

/// A result that answers a task of the job. Its content has not been checked.
#[derive(Debug, Clone)]
pub(crate) struct AttestedResult {
    /// The shard that the subject names.
    pub shard: ShardId,
    /// Its position in the plan.
    pub position: usize,
    pub attestation: Attestation,
    /// What the agent claims to be the result's canonical bytes.
    pub bytes: Bytes,
}

impl AttestedResult {
    pub fn statement(&self) -> &ResultStatement {
        &self.attestation.statement
    }

    /// Position of the shard, and the claimed hash.
    pub fn key(&self) -> (usize, Digest) {
        (self.position, self.statement().result_hash)
    }
}

/// Why a message is no result of the job at all. It has no effect on any shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoResult {
    #[error("the subject names another job or a shard that is not in the plan")]
    NotInPlan,
    #[error("{0}")]
    Unreadable(#[from] UnreadableMessage),
    #[error("the task id was not issued for this shard")]
    UnknownTask,
}

/// Why a result of the job is invalid. The texts continue "the result is invalid: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidResult {
    #[error("its statement is not about this shard of this job")]
    OtherStatement,
    #[error("its execution time exceeds a year")]
    ExecutionTime,
    #[error("the signature is not the agent's")]
    Signature,
    #[error("its agent says that it is too large for a message")]
    Withheld,
    #[error("its bytes have the hash {0}, which is not the attested one")]
    Hash(Digest),
    #[error("it cannot be decoded: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("it has {found} iterations, but the plan has {planned}")]
    Iterations { found: u64, planned: u64 },
    #[error("{0}")]
    Shape(#[from] ShapeMismatch),
    #[error("{0}")]
    Occurrences(#[from] OccurrenceMismatch),
    #[error("it has {found} occurrences, but a shard of this run has at most {limit}")]
    TooManyOccurrences { found: u128, limit: u128 },
}

impl JobContext {
    pub fn new(job: Arc<Job>, uid: JobUid, key: JobKey) -> Self {
        let shards = job.request.plan.shard_count();
        let shape = ResultShape::new(&job.request.program);
        Self { job, uid, key, shards, shape }
    }

    /// Position of a shard in the plan; `None` if the plan does not have it.
    pub fn position(&self, shard: ShardId) -> Option<usize> {
        usize::try_from(self.job.request.plan.position(shard)?).ok()
    }

    /// Reads a message whose subject names `uid` and `shard`.
    ///
    /// # Errors
    /// [`NoResult`], unless the message answers a task that was issued for this shard.
    pub fn identify(&self, uid: JobUid, shard: ShardId, payload: &Bytes) -> Result<AttestedResult, NoResult> {
        let position = self.position(shard).filter(|_| uid == self.uid).ok_or(NoResult::NotInPlan)?;
        let (attestation, bytes) = shard_messages::parse_result(payload)?;
        if !self.key.is_issued(self.uid, shard, attestation.statement.task_id) {
            return Err(NoResult::UnknownTask);
        }
        Ok(AttestedResult { shard, position, attestation, bytes })
    }

    /// Checks that the statement of a result from `pool` says what the job's plan says. Cheap: does
    /// not check the signature.
    ///
    /// # Errors
    /// [`InvalidResult`].
    pub fn check_statement(&self, pool: &PoolName, result: &AttestedResult) -> Result<(), InvalidResult> {
        let AttestedResult { shard, attestation, .. } = result;
        let (request, statement) = (&self.job.request, &attestation.statement);
        let planned = request.shard(*shard);
        let expected = ResultStatement {
            protocol: PROTOCOL,
            job_uid: self.uid,
            shard_id: *shard,
            iterations: planned.iterations,
            seed: planned.seed,
            program: request.program_digest,
            kernel: KERNEL,
            pool: pool.clone(),
            ..statement.clone()
        };
        if *statement != expected {
            return Err(InvalidResult::OtherStatement);
        }
        if attestation.wall_us.max(attestation.cpu_us) > MAX_EXECUTION_MICROS {
            return Err(InvalidResult::ExecutionTime);
        }
        Ok(())
    }

    /// Decodes a result whose statement has been checked, after checking its signature and hash.
    ///
    /// # Errors
    /// [`InvalidResult`].
    pub fn decode(&self, result: &AttestedResult) -> Result<ShardResult, InvalidResult> {
        if !result.attestation.is_signature_valid() {
            return Err(InvalidResult::Signature);
        }
        if result.bytes.is_empty() {
            return Err(InvalidResult::Withheld);
        }
        let hash = Digest::hash_parts(&[&result.bytes]);
        if hash != result.statement().result_hash {
            return Err(InvalidResult::Hash(hash));
        }
        let decoded = ShardResult::decode(&result.bytes)?;
        self.check_content(result.statement(), &decoded)?;
        Ok(decoded)
    }

    /// Checks that the merge of such results has the program's shape, and counts that are exact in
    /// JSON.
    fn check_content(&self, statement: &ResultStatement, result: &ShardResult) -> Result<(), InvalidResult> {
        if result.iterations != statement.iterations {
            let (found, planned) = (result.iterations, statement.iterations);
            return Err(InvalidResult::Iterations { found, planned });
        }
        self.shape.check(result)?;
        occurrence_tallies::check(&self.job.request.program, result)?;
        let found: u128 = result.components.iter().map(|tally| u128::from(tally.occurrences)).sum();
        let limit = self.max_occurrences(statement.iterations);
        if found > limit {
            return Err(InvalidResult::TooManyOccurrences { found, limit });
        }
        Ok(())
    }

    /// Upper bound on the occurrences of a shard: its portion of the largest expected number of
    /// draws, and an equal share of the spare ones. All shards of a run together have fewer than
    /// 2^53 then, which JSON counts exactly.
    fn max_occurrences(&self, iterations: u64) -> u128 {
        let (iterations, planned) = (u128::from(iterations), u128::from(self.job.request.plan.iterations()));
        MAX_RUN_DRAWS * iterations / planned + SPARE_DRAWS / u128::from(self.shards)
    }
}

#[cfg(test)]
mod tests;
