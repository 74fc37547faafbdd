//! Results, verdicts and outcomes as bus messages. All services build and parse them here, so that
//! they agree on the format. Everything is in the payload; a result has no headers, which workers
//! could use to stop its readers. Each builder returns the message and an unguessable id, by which
//! the bus deduplicates it. Parsing never checks a signature, or whether an agent is registered.

use bytes::Bytes;
use forge_bus::{Message, topology};
use forge_contract::{
    agent::Identity,
    attestation::{Attestation, ResultStatement},
    digest::Digest,
    ids::{JobUid, PoolName},
    protocol::{PROTOCOL, UnreadableMessage, parse_message},
    task::{Claim, OutcomeBatch, ShardOutcome, ShardTask},
    verdict::{Verdict, VerdictOutcome, VerdictStatement},
};
use forge_kernel::backend::Backend;
use serde::Serialize;

use crate::{
    executor::ShardExecution,
    random,
    short_text::{is_plain, shorten},
    telemetry::trace,
};

/// Bytes of the length that precedes the attestation of a result.
const LENGTH_BYTES: usize = 4;
/// Upper bound of the attestation of a result, in bytes. Written ones are shorter than 1,500.
const MAX_ATTESTATION_BYTES: usize = 4096;

/// Builds the message with a shard's result, signed by an agent of `pool`: the length of the
/// attestation (32 bits, little-endian), the attestation as JSON, and the result's bytes.
pub fn build_result(
    identity: &Identity,
    pool: &PoolName,
    backend: &dyn Backend,
    task: &ShardTask,
    executed: &ShardExecution,
) -> (Message, String) {
    let statement = ResultStatement {
        protocol: PROTOCOL,
        job_uid: task.job_uid,
        shard_id: task.shard_id,
        iterations: task.iterations,
        seed: task.seed,
        program: task.program,
        kernel: task.kernel,
        task_id: task.task_id,
        pool: pool.clone(),
        agent_id: identity.id().clone(),
        backend: shorten(backend.name()),
        adapter: backend.adapter().map(shorten),
        result_hash: executed.hash,
    };
    let attestation = Attestation {
        protocol: PROTOCOL,
        signature: statement.sign(identity),
        statement,
        wall_us: executed.wall.as_micros() as u64,
        cpu_us: executed.cpu.as_micros() as u64,
    };
    let json = to_json(&attestation);
    let length = u32::try_from(json.len()).expect("an attestation is short");
    let payload = [&length.to_le_bytes(), json.as_slice(), &executed.bytes].concat();
    let subject = topology::result_subject(pool, task.job_uid, task.shard_id);
    (Message::new(subject, payload), random::message_id("result"))
}

/// Parses the payload of a result. Returns the attestation, and the bytes that the agent claims to
/// be the result. Does not check the signature, nor that the bytes have the stated hash.
///
/// # Errors
/// [`UnreadableMessage`]; a text that is empty, longer than 128 bytes or has control characters is
/// malformed.
pub fn parse_result(payload: &Bytes) -> Result<(Attestation, Bytes), UnreadableMessage> {
    let malformed = |reason: &str| UnreadableMessage::Malformed(reason.to_owned());
    let (length, rest) =
        payload.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| malformed("the message is too short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_ATTESTATION_BYTES.min(rest.len()) {
        return Err(malformed("the length of the attestation is wrong"));
    }
    let attestation: Attestation = parse_message(&rest[..length])?;
    let statement = &attestation.statement;
    if statement.protocol != PROTOCOL {
        return Err(malformed("the statement has another version than the message"));
    }
    if !is_plain(&statement.backend) || !statement.adapter.as_deref().is_none_or(is_plain) {
        return Err(malformed(
            "the backend or the adapter is empty, longer than 128 bytes, or has control characters",
        ));
    }
    Ok((attestation, payload.slice(LENGTH_BYTES + length..)))
}

/// A verifier's finding about a result: the content of a verdict before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the result stands.
    pub outcome: VerdictOutcome,
    /// The backend that re-executed the shard.
    pub backend: String,
    /// The device and driver of the re-execution; `None` for the CPU.
    pub adapter: Option<String>,
    /// SHA-256 of the correct result, if it is known.
    pub correct: Option<Digest>,
    /// Explanation for operators; empty if the result was confirmed.
    pub reason: String,
}

impl Judgement {
    /// A judgement for which `backend` re-executed the shard.
    pub fn from_execution(
        backend: &dyn Backend,
        outcome: VerdictOutcome,
        correct: Option<Digest>,
        reason: String,
    ) -> Self {
        let (name, adapter) = (shorten(backend.name()), backend.adapter().map(shorten));
        Self { outcome, backend: name, adapter, correct, reason }
    }
}

/// Builds the message with a signed verdict on a claimed result. `task` is the hand-out that the
/// result answers.
pub fn build_verdict(
    identity: &Identity,
    job: JobUid,
    task: &ShardTask,
    claim: &Claim,
    judgement: Judgement,
) -> (Message, String) {
    let Judgement { outcome, backend, adapter, correct, reason } = judgement;
    let statement = VerdictStatement {
        protocol: PROTOCOL,
        outcome,
        job_uid: job,
        shard_id: task.shard_id,
        task_id: task.task_id,
        pool: claim.pool.clone(),
        agent_id: claim.agent_id.clone(),
        result_hash: claim.result_hash,
        correct,
        verifier_id: identity.id().clone(),
        backend,
        adapter,
        reason,
    };
    let verdict = statement.sign(identity);
    (message(topology::verdict_subject(job, task.shard_id), &verdict), random::message_id("verdict"))
}

/// Parses the payload of a verdict.
///
/// # Errors
/// [`UnreadableMessage`].
pub fn parse_verdict(payload: &[u8]) -> Result<Verdict, UnreadableMessage> {
    parse_message(payload)
}

/// Builds the message with outcomes of a job's shards.
pub fn build_outcomes(job: JobUid, outcomes: Vec<ShardOutcome>) -> (Message, String) {
    let batch = OutcomeBatch::new(outcomes);
    (message(topology::outcomes_subject(job), &batch), random::message_id("outcomes"))
}

/// Parses the payload of a message with outcomes.
///
/// # Errors
/// [`UnreadableMessage`].
pub fn parse_outcomes(payload: &[u8]) -> Result<OutcomeBatch, UnreadableMessage> {
    parse_message(payload)
}

fn message(subject: String, content: &impl Serialize) -> Message {
    let mut message = Message::new(subject, to_json(content));
    trace::inject_context(&mut message.headers);
    message
}

fn to_json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("the content consists of strings, numbers and lists")
}

#[cfg(test)]
mod tests;
