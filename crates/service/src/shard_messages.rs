//! Signed results and verdicts as bus messages. All services build and parse them here, so that
//! they agree on the format. Parsing never checks whether an agent is registered.

use bytes::Bytes;
use forge_bus::{Message, topology};
use forge_contract::{
    agent::{AgentId, Identity},
    digest::Digest,
    ids::JobId,
    shard::ShardId,
    task::{ATTESTATION_HEADER, Attestation, ShardTask, result_signing_payload},
    verdict::{VERDICT_HEADER, Verdict, VerdictOutcome, verdict_signing_payload},
};
use forge_kernel::backend::Backend;

use crate::{executor::ShardExecution, telemetry::trace};

/// Builds the message with a shard's signed result. Returns it with the id by which the bus
/// deduplicates it.
pub fn build_result(
    identity: &Identity,
    backend: &dyn Backend,
    task: &ShardTask,
    executed: &ShardExecution,
) -> (Message, String) {
    let signed = result_signing_payload(&task.job_id, task.shard_id, task.program, executed.hash);
    let attestation = Attestation {
        agent_id: identity.id().clone(),
        backend: backend.name().to_owned(),
        adapter: backend.adapter().map(str::to_owned),
        program: task.program,
        result_hash: executed.hash,
        wall_us: executed.wall.as_micros() as u64,
        cpu_us: executed.cpu.as_micros() as u64,
        signature: identity.sign(&signed),
    };
    let json = serde_json::to_string(&attestation).expect("an attestation consists of strings and numbers");
    let unguessable = Digest::hash_parts(&[json.as_bytes()]);
    let subject = topology::result_subject(&task.job_id, task.shard_id);
    let mut message = Message::new(subject, executed.bytes.clone()).with_header(ATTESTATION_HEADER, json);
    trace::inject_context(&mut message.headers);
    // The id must be unguessable: JetStream drops a message whose id it has seen, so a predictable
    // id would let another client suppress this result.
    let id = format!("result.{}.{}.{}.{unguessable}", task.job_id, task.shard_id, task.attempt);
    (message, id)
}

/// A verifier's or an aggregator's finding about a result: the content of a verdict before it is
/// signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the result stands.
    pub outcome: VerdictOutcome,
    /// The backend that re-executed the shard; empty without re-execution.
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
        let (name, adapter) = (backend.name().to_owned(), backend.adapter().map(str::to_owned));
        Self { outcome, backend: name, adapter, correct, reason }
    }

    /// A judgement without re-execution, from checks of the message alone.
    pub fn without_execution(outcome: VerdictOutcome, reason: String) -> Self {
        Self { outcome, backend: String::new(), adapter: None, correct: None, reason }
    }
}

/// Builds the message with a signed verdict on the result of hash `result` that `agent` returned.
/// Returns it with the id by which the bus deduplicates it.
pub fn build_verdict(
    identity: &Identity,
    job: &JobId,
    shard: ShardId,
    agent: &AgentId,
    result: Digest,
    judgement: Judgement,
) -> (Message, String) {
    let Judgement { outcome, backend, adapter, correct, reason } = judgement;
    let verdict = Verdict {
        outcome,
        agent_id: agent.clone(),
        result_hash: result,
        correct,
        verifier_id: identity.id().clone(),
        backend,
        adapter,
        reason,
        signature: identity.sign(&verdict_signing_payload(job, shard, outcome, agent, result)),
    };
    let json = serde_json::to_string(&verdict).expect("a verdict consists of strings");
    let unguessable = Digest::hash_parts(&[json.as_bytes()]);
    let mut message =
        Message::new(topology::verdict_subject(job, shard), Bytes::new()).with_header(VERDICT_HEADER, json);
    trace::inject_context(&mut message.headers);
    // The verdict's signature makes the id unguessable, so no other client can suppress the verdict
    // by using its id first.
    (message, format!("verdict.{job}.{shard}.{unguessable}"))
}

/// Parses the attestation of a result; `None` if it is missing or malformed. Does not check its
/// signature.
pub fn parse_attestation(message: &Message) -> Option<Attestation> {
    serde_json::from_str(message.headers.get(ATTESTATION_HEADER)?).ok()
}

/// Parses a verdict; `None` if it is missing, malformed, or not signed by the verifier that it
/// names. Does not check whether that verifier is registered.
pub fn parse_signed_verdict(message: &Message, job: &JobId, shard: ShardId) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_str(message.headers.get(VERDICT_HEADER)?).ok()?;
    verdict.is_signature_valid(job, shard).then_some(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_parses_only_for_the_job_that_it_was_signed_for() {
        let (verifier, agent) = (Identity::from_random([1; 32]), Identity::from_random([2; 32]));
        let (job, other_job): (JobId, JobId) = ("j".parse().unwrap(), "k".parse().unwrap());
        let shard = ShardId { height: 0, index: 3 };
        let judgement = Judgement::without_execution(VerdictOutcome::Rejected, "malformed".to_owned());
        let hash = Digest([7; 32]);
        let (message, id) = build_verdict(&verifier, &job, shard, agent.id(), hash, judgement.clone());
        let parsed = parse_signed_verdict(&message, &job, shard).unwrap();
        assert_eq!(
            (parsed.outcome, &parsed.agent_id, parsed.result_hash),
            (VerdictOutcome::Rejected, agent.id(), hash)
        );
        assert_eq!(parse_signed_verdict(&message, &other_job, shard), None);
        assert_eq!(parse_attestation(&message), None);
        let (_, other_id) = build_verdict(&agent, &job, shard, agent.id(), hash, judgement);
        assert_ne!(id, other_id);
    }
}
