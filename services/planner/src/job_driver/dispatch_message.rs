//! The message that dispatches a shard. Pure apart from the trace context of the current span.

use forge_bus::{Message, topology};
use forge_contract::task::VerifierTask;
use forge_service::trace;
use serde::Serialize;

use super::dispatcher::{ShardDispatch, ShardRecipient};
use crate::admitted_job::AdmittedJob;

/// The message and the id by which the bus deduplicates it, so that planners that drive the same
/// job dispatch an attempt once.
pub fn dispatch_message(admitted: &AdmittedJob, dispatch: ShardDispatch) -> (Message, String) {
    let ShardDispatch { shard, attempt, recipient } = dispatch;
    let job = &admitted.job.id;
    let task = admitted.job.shard_task(shard, attempt);
    let message = match recipient {
        ShardRecipient::Worker => json_message(topology::shard_subject(admitted.target(), job, shard), &task),
        ShardRecipient::Verifier => {
            json_message(topology::verification_subject(job, shard), &VerifierTask { task, claim: None })
        }
    };
    (message, format!("shard.{job}.{shard}.{attempt}"))
}

fn json_message(subject: String, task: &impl Serialize) -> Message {
    let payload = serde_json::to_vec(task).expect("a task consists of strings and numbers");
    let mut message = Message::new(subject, payload);
    trace::inject_context(&mut message.headers);
    message
}

#[cfg(test)]
mod tests {
    use forge_contract::{quota::Quota, shard::ShardId, task::ShardTask};

    use super::*;
    use crate::test_fixture::{AdmissionFixture, ITERATIONS, admitted, memory_bus};

    const SHARD: ShardId = ShardId { height: 0, index: 0 };

    #[tokio::test]
    async fn attempt_has_one_message_id_and_a_subject_for_its_recipient() {
        let fixture = AdmissionFixture::new(memory_bus().await, Quota::default());
        let admitted = admitted(fixture.admit("a", 1).await);
        let message = |attempt, recipient| {
            dispatch_message(&admitted, ShardDispatch { shard: SHARD, attempt, recipient })
        };
        let (to_worker, id) = message(1, ShardRecipient::Worker);
        assert_eq!(
            (to_worker.subject, id),
            ("forge.v1.shards.any.a.0-0".to_owned(), "shard.a.0-0.1".to_owned())
        );
        let task: ShardTask = serde_json::from_slice(&to_worker.payload).unwrap();
        assert_eq!((task.shard_id, task.iterations, task.attempt), (SHARD, ITERATIONS, 1));
        let (to_verifier, id) = message(2, ShardRecipient::Verifier);
        assert_eq!(
            (to_verifier.subject, id),
            ("forge.v1.duplicates.a.0-0".to_owned(), "shard.a.0-0.2".to_owned())
        );
        let task: VerifierTask = serde_json::from_slice(&to_verifier.payload).unwrap();
        assert_eq!((task.task.attempt, task.claim), (2, None));
    }
}
