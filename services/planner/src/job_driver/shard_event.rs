//! Parses the stored messages of a job into the events that the dispatcher takes. Pure.

use forge_bus::{
    StoredMessage,
    topology::{self, ShardMessageKind},
};
use forge_contract::{agent::AgentId, shard::ShardId, verdict::VerdictOutcome};
use forge_service::shard_messages;

/// Something that happened to a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardEvent {
    /// An agent returned a result. It is not verified, and neither is the attestation's signature.
    Result {
        shard: ShardId,
        agent: AgentId,
        /// Execution time in microseconds, as claimed by the agent.
        wall_us: u64,
    },
    /// A verifier judged the result of an agent. The verdict's signature is valid.
    Verdict {
        shard: ShardId,
        /// The agent that returned the judged result.
        agent: AgentId,
        outcome: VerdictOutcome,
    },
}

/// Parses a message of the results stream from its subject and headers. Returns `None` for a
/// message that is neither a readable result nor a signed verdict; the aggregator reports those.
pub fn parse_shard_event(stored: &StoredMessage) -> Option<ShardEvent> {
    let message = &stored.message;
    let (kind, job, shard) = topology::parse_shard_message_subject(&message.subject)?;
    match kind {
        ShardMessageKind::Result => shard_messages::parse_attestation(message).map(|attestation| {
            ShardEvent::Result { shard, agent: attestation.agent_id, wall_us: attestation.wall_us }
        }),
        ShardMessageKind::Verdict => shard_messages::parse_signed_verdict(message, &job, shard)
            .map(|verdict| ShardEvent::Verdict { shard, agent: verdict.agent_id, outcome: verdict.outcome }),
    }
}

#[cfg(test)]
mod tests {
    use forge_bus::Message;
    use forge_contract::{
        agent::Identity,
        digest::Digest,
        ids::JobId,
        task::{ATTESTATION_HEADER, Attestation, result_signing_payload},
    };
    use forge_service::shard_messages::Judgement;

    use super::*;

    const SHARD: ShardId = ShardId { height: 0, index: 3 };
    const HASH: Digest = Digest([7; 32]);

    fn job() -> JobId {
        "j".parse().unwrap()
    }

    fn parse(message: Message) -> Option<ShardEvent> {
        parse_shard_event(&StoredMessage { message, sequence: 1 })
    }

    fn result(worker: &Identity) -> Message {
        let attestation = Attestation {
            agent_id: worker.id().clone(),
            backend: "scalar".to_owned(),
            adapter: None,
            program: HASH,
            result_hash: HASH,
            wall_us: 1234,
            cpu_us: 1000,
            signature: worker.sign(&result_signing_payload(&job(), SHARD, HASH, HASH)),
        };
        let header = serde_json::to_string(&attestation).unwrap();
        Message::new(topology::result_subject(&job(), SHARD), "").with_header(ATTESTATION_HEADER, header)
    }

    fn verdict(agent: &Identity) -> Message {
        let verifier = Identity::from_random([2; 32]);
        let judgement = Judgement::without_execution(VerdictOutcome::Rejected, "because".to_owned());
        shard_messages::build_verdict(&verifier, &job(), SHARD, agent.id(), HASH, judgement).0
    }

    #[test]
    fn result_and_verdict_are_parsed_into_events() {
        let worker = Identity::from_random([1; 32]);
        let agent = worker.id().clone();
        let event = ShardEvent::Result { shard: SHARD, agent: agent.clone(), wall_us: 1234 };
        assert_eq!(parse(result(&worker)), Some(event));
        let event = ShardEvent::Verdict { shard: SHARD, agent, outcome: VerdictOutcome::Rejected };
        assert_eq!(parse(verdict(&worker)), Some(event));
    }

    #[test]
    fn unreadable_message_is_no_event() {
        let worker = Identity::from_random([1; 32]);
        assert_eq!(parse(Message::new(topology::result_subject(&job(), SHARD), "")), None, "no header");
        let subject = topology::result_subject(&job(), SHARD);
        assert_eq!(parse(Message::new(subject, "").with_header(ATTESTATION_HEADER, "{}".to_owned())), None);
        assert_eq!(parse(Message { subject: "forge.v1.results.j".to_owned(), ..result(&worker) }), None);
    }

    #[test]
    fn verdict_counts_only_for_the_shard_that_was_signed() {
        let worker = Identity::from_random([1; 32]);
        let moved = topology::verdict_subject(&job(), ShardId { height: 0, index: 4 });
        assert_eq!(parse(Message { subject: moved, ..verdict(&worker) }), None);
    }
}
