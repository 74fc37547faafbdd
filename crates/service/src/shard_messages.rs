//! Results and verdicts as messages: signed and written here, and read here, so that all services agree on their form.

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

/// The message with a shard's result, signed, and the id that deduplicates it.
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
    let json = serde_json::to_string(&attestation).expect("an attestation is made of strings and numbers");
    let unguessable = Digest::hash_parts(&[json.as_bytes()]);
    let subject = topology::result_subject(&task.job_id, task.shard_id);
    let mut message = Message::new(subject, executed.bytes.clone()).with_header(ATTESTATION_HEADER, json);
    trace::inject_context(&mut message.headers);
    // Nobody else can know it: who publishes under a message's id before it is sent, has it dropped.
    let id = format!("result.{}.{}.{}.{unguessable}", task.job_id, task.shard_id, task.attempt);
    (message, id)
}

/// What was found about a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What it is.
    pub outcome: VerdictOutcome,
    /// What executed the shard a second time; empty if nothing did.
    pub backend: String,
    /// The device and its driver, where that was not executed on the CPU.
    pub adapter: Option<String>,
    /// SHA-256 of the right result, where it was established.
    pub correct: Option<Digest>,
    /// A sentence for people, unless the result was confirmed.
    pub reason: String,
}

impl Judgement {
    /// A judgement for which `backend` executed the shard.
    pub fn from_execution(
        backend: &dyn Backend,
        outcome: VerdictOutcome,
        correct: Option<Digest>,
        reason: String,
    ) -> Self {
        let (name, adapter) = (backend.name().to_owned(), backend.adapter().map(str::to_owned));
        Self { outcome, backend: name, adapter, correct, reason }
    }

    /// A judgement for which nothing was executed.
    pub fn without_execution(outcome: VerdictOutcome, reason: String) -> Self {
        Self { outcome, backend: String::new(), adapter: None, correct: None, reason }
    }
}

/// The message with a judgement about an agent's result, signed, and the id that deduplicates it.
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
    let json = serde_json::to_string(&verdict).expect("a verdict is made of strings");
    let unguessable = Digest::hash_parts(&[json.as_bytes()]);
    let mut message =
        Message::new(topology::verdict_subject(job, shard), Bytes::new()).with_header(VERDICT_HEADER, json);
    trace::inject_context(&mut message.headers);
    // Nobody else can know the signature, so nobody can have the verdict dropped by using its id before.
    (message, format!("verdict.{job}.{shard}.{unguessable}"))
}

/// The attestation that comes with a result, if there is one that can be read. Its signature has not been looked at.
pub fn parse_attestation(message: &Message) -> Option<Attestation> {
    serde_json::from_str(message.headers.get(ATTESTATION_HEADER)?).ok()
}

/// The verdict that a message carries, if the verifier that it names has signed it. Whether that verifier is registered has
/// not been looked at.
pub fn parse_signed_verdict(message: &Message, job: &JobId, shard: ShardId) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_str(message.headers.get(VERDICT_HEADER)?).ok()?;
    verdict.is_signature_valid(job, shard).then_some(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_read_back_and_only_as_they_were_signed() {
        let (judge, agent) = (Identity::from_random([1; 32]), Identity::from_random([2; 32]));
        let (job, other): (JobId, JobId) = ("j".parse().unwrap(), "k".parse().unwrap());
        let shard = ShardId { height: 0, index: 3 };
        let judgement = Judgement::without_execution(VerdictOutcome::Rejected, "because".to_owned());
        let hash = Digest([7; 32]);
        let (message, id) = build_verdict(&judge, &job, shard, agent.id(), hash, judgement.clone());
        let read = parse_signed_verdict(&message, &job, shard).unwrap();
        assert_eq!(
            (read.outcome, &read.agent_id, read.result_hash),
            (VerdictOutcome::Rejected, agent.id(), hash)
        );
        assert_eq!(parse_signed_verdict(&message, &other, shard), None);
        assert_eq!(parse_attestation(&message), None);
        let (_, anothers) = build_verdict(&agent, &job, shard, agent.id(), hash, judgement);
        assert_ne!(id, anothers);
    }
}
