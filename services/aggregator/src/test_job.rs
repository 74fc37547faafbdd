//! A small job for tests, with the right results of its shards, and messages about them.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use forge_contract::{
    agent::{AgentId, Identity, Signature},
    attestation::{Attestation, ResultStatement},
    digest::Digest,
    ids::{JobUid, PoolName, TaskId},
    protocol::PROTOCOL,
    shard::ShardId,
    shard_result::ShardResult,
    task::Claim,
    verdict::{Verdict, VerdictOutcome, VerdictStatement},
};
use forge_documents::Job;
use forge_kernel::{
    KERNEL,
    backend::{Backend, simd::Simd},
    job_key::JobKey,
    request::Request,
};
use serde_json::{Value, json};

use crate::acceptance::{AttestedResult, JobContext};

pub(crate) const UID: JobUid = JobUid([1; 16]);

/// A job whose shards are single leaves.
pub(crate) struct TestJob {
    pub context: Arc<JobContext>,
    /// The right results, in shard order.
    pub results: Vec<ShardResult>,
    /// Their bytes and hashes.
    pub truth: Vec<(Bytes, Digest)>,
    /// Bytes and hashes of wrong results, two for each shard.
    pub lies: Vec<[(Bytes, Digest); 2]>,
}

/// Who returns a result: pool, number of the agent's key, and number of the hand-out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender(pub &'static str, pub u8, pub u8);

impl TestJob {
    pub fn new(leaves: u64, convergence: Value, policy: Value) -> Self {
        Self::with_deviation(1.0, leaves, convergence, policy)
    }

    /// A job with small results, for tests with many of them: its amounts hardly differ.
    pub fn with_small_results(leaves: u64, policy: Value) -> Self {
        Self::with_deviation(0.01, leaves, Value::Null, policy)
    }

    fn with_deviation(sigma: f64, leaves: u64, convergence: Value, policy: Value) -> Self {
        let mut args = json!({"iterations": leaves * 65_536 - 7, "claim_freq": 0.1, "claim_severity_mu": 6,
            "claim_severity_sig": sigma});
        if !convergence.is_null() {
            args["convergence"] = convergence;
        }
        let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args": args,
            "seed": {"mode": "explicit", "value": "fold"}, "policy": policy});
        let job = Job::new(Request::from_json(envelope.to_string().as_bytes()).unwrap());
        let request = &job.request;
        let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
        assert_eq!(shards.len() as u64, leaves);
        let results = Simd::new().execute(&request.program, &shards, &()).unwrap();
        let context = JobContext::new(Arc::new(job), UID, JobKey::from([7; 32]));
        let encode = |result: &ShardResult| (Bytes::from(result.encode()), result.digest());
        let lies = results.iter().map(|result| [1, 2].map(|more| encode(&falsified(result, more)))).collect();
        Self { context: Arc::new(context), truth: results.iter().map(encode).collect(), lies, results }
    }

    /// Gives the job another key, so that other shards are drawn.
    pub fn set_key(&mut self, key: [u8; 32]) {
        let job = Arc::clone(&self.context.job);
        self.context = Arc::new(JobContext::new(job, UID, JobKey::from(key)));
    }

    /// A result whose signature is not valid, for tests of what follows its examination.
    pub fn unsigned_result(
        &self,
        (pool, agent): (&PoolName, &AgentId),
        position: usize,
        number: u64,
        (bytes, hash): &(Bytes, Digest),
    ) -> AttestedResult {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let request = &self.context.job.request;
        let shard = ShardId { height: 0, index: position as u64 };
        let planned = request.shard(shard);
        let statement = ResultStatement {
            protocol: PROTOCOL,
            job_uid: UID,
            shard_id: shard,
            iterations: planned.iterations,
            seed: planned.seed,
            program: request.program_digest,
            kernel: KERNEL,
            task_id: self.context.key.issue_task(UID, shard, nonce),
            pool: pool.clone(),
            agent_id: agent.clone(),
            backend: "simd".to_owned(),
            adapter: None,
            result_hash: *hash,
        };
        let signature = NO_SIGNATURE.clone();
        let attestation = Attestation { protocol: PROTOCOL, statement, wall_us: 1, cpu_us: 1, signature };
        AttestedResult { shard, position, attestation, bytes: bytes.clone() }
    }

    pub fn shard(&self, position: usize) -> ShardId {
        self.context.job.request.plan.shards().nth(position).unwrap()
    }

    /// The id of a hand-out.
    pub fn task(&self, position: usize, number: u8) -> TaskId {
        self.context.key.issue_task(UID, self.shard(position), [number; 16])
    }

    pub fn statement(
        &self,
        Sender(pool, agent, number): Sender,
        position: usize,
        result: &ShardResult,
    ) -> ResultStatement {
        let request = &self.context.job.request;
        let planned = request.shard(self.shard(position));
        ResultStatement {
            protocol: PROTOCOL,
            job_uid: UID,
            shard_id: planned.id,
            iterations: planned.iterations,
            seed: planned.seed,
            program: request.program_digest,
            kernel: KERNEL,
            task_id: self.task(position, number),
            pool: pool.parse().unwrap(),
            agent_id: identity(agent).id().clone(),
            backend: "simd".to_owned(),
            adapter: None,
            result_hash: result.digest(),
        }
    }

    /// A result as `sender` returns it.
    pub fn result(&self, sender: Sender, position: usize, result: &ShardResult) -> AttestedResult {
        let attestation = attest(self.statement(sender, position, result), sender.1);
        let payload = frame(&attestation, &result.encode());
        self.context.identify(UID, self.shard(position), &payload).unwrap()
    }
}

pub(crate) static NO_SIGNATURE: LazyLock<Signature> = LazyLock::new(|| identity(0).sign(b""));
static VERIFIER: LazyLock<AgentId> = LazyLock::new(|| identity(100).id().clone());

pub(crate) fn identity(number: u8) -> Identity {
    Identity::from_random([number; 32])
}

pub(crate) fn pool(name: &str) -> PoolName {
    name.parse().unwrap()
}

/// Signs a statement with the key of an agent.
pub(crate) fn attest(statement: ResultStatement, agent: u8) -> Attestation {
    let signature = statement.sign(&identity(agent));
    Attestation { protocol: PROTOCOL, statement, wall_us: 1, cpu_us: 1, signature }
}

/// The payload of a result.
pub(crate) fn frame(attestation: &Attestation, result: &[u8]) -> Bytes {
    let json = serde_json::to_vec(attestation).unwrap();
    [&(json.len() as u32).to_le_bytes(), json.as_slice(), result].concat().into()
}

/// A verifier's verdict on a result.
pub(crate) fn verdict(statement: &ResultStatement, outcome: VerdictOutcome) -> Verdict {
    let ResultStatement { shard_id, task_id, pool, agent_id, backend, adapter, result_hash, .. } =
        statement.clone();
    let claim = Claim { pool, agent_id, backend, adapter, result_hash };
    unsigned_verdict(shard_id, task_id, &claim, outcome).statement.sign(&identity(100))
}

/// A verdict whose signature is not valid.
pub(crate) fn unsigned_verdict(
    shard_id: ShardId,
    task_id: TaskId,
    claim: &Claim,
    outcome: VerdictOutcome,
) -> Verdict {
    let statement = VerdictStatement {
        protocol: PROTOCOL,
        outcome,
        job_uid: UID,
        shard_id,
        task_id,
        pool: claim.pool.clone(),
        agent_id: claim.agent_id.clone(),
        result_hash: claim.result_hash,
        correct: None,
        verifier_id: VERIFIER.clone(),
        backend: "scalar".to_owned(),
        adapter: None,
        reason: String::new(),
    };
    Verdict { protocol: PROTOCOL, statement, signature: NO_SIGNATURE.clone() }
}

/// The result with `more` occurrences more.
pub(crate) fn falsified(result: &ShardResult, more: u64) -> ShardResult {
    let mut falsified = result.clone();
    falsified.components[0].occurrences += more;
    falsified
}

/// A sequence of numbers that a seed determines.
pub(crate) struct SeededNumbers(u64);

impl SeededNumbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 += 1;
        let Digest(bytes) = Digest::hash_parts(&[&self.0.to_le_bytes()]);
        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        (number % end as u64) as usize
    }

    /// A permutation of `0..count`.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..count).collect();
        (1..count).rev().for_each(|at| order.swap(at, self.below(at + 1)));
        order
    }
}
