//! The message that dispatches a shard. Pure apart from the trace context of the current span.

use forge_bus::{Message, topology};
use forge_contract::{protocol::PROTOCOL, task::VerifierTask};
use forge_service::trace;
use serde::Serialize;

use super::dispatcher::{ShardDispatch, ShardRecipient};
use crate::admitted_job::AdmittedJob;

/// The message and the id by which the bus deduplicates it, so that a repeated publication hands
/// the task out once.
pub fn dispatch_message(admitted: &AdmittedJob, dispatch: ShardDispatch) -> (Message, String) {
    let ShardDispatch { shard, task: task_id, recipient } = dispatch;
    let (uid, length) = (admitted.uid(), admitted.length());
    let task = admitted.job.shard_task(uid, shard, task_id);
    let message = match recipient {
        ShardRecipient::Worker => {
            json_message(topology::shard_subject(admitted.target(), length, uid, shard), &task)
        }
        ShardRecipient::Verifier => {
            let task = VerifierTask { protocol: PROTOCOL, task, claim: None };
            json_message(topology::verification_subject(length, uid, shard), &task)
        }
    };
    (message, format!("task.{task_id}"))
}

fn json_message(subject: String, task: &impl Serialize) -> Message {
    let payload = serde_json::to_vec(task).expect("a task consists of strings and numbers");
    let mut message = Message::new(subject, payload);
    trace::inject_context(&mut message.headers);
    message
}

#[cfg(test)]
mod tests {
    use forge_contract::{ids::TaskId, quota::Quota, shard::ShardId, task::ShardTask};

    use super::*;
    use crate::test_fixture::{AdmissionFixture, ITERATIONS, admitted, memory_bus};

    const SHARD: ShardId = ShardId { height: 0, index: 0 };
    const TASK: TaskId = TaskId([4; 32]);

    #[tokio::test]
    async fn task_has_one_message_id_and_a_subject_for_its_recipient() {
        let fixture = AdmissionFixture::new(memory_bus().await, Quota::default());
        let admitted = admitted(fixture.admit("a", 1).await);
        let uid = admitted.uid();
        let message =
            |recipient| dispatch_message(&admitted, ShardDispatch { shard: SHARD, task: TASK, recipient });
        let (to_worker, id) = message(ShardRecipient::Worker);
        assert_eq!(
            (to_worker.subject, id),
            (format!("forge.v1.shards.any.{uid}.0-0"), format!("task.{TASK}"))
        );
        let task: ShardTask = serde_json::from_slice(&to_worker.payload).unwrap();
        assert_eq!((task.job_uid, task.shard_id, task.task_id), (uid, SHARD, TASK));
        assert_eq!(task.iterations, ITERATIONS);
        let (to_verifier, id) = message(ShardRecipient::Verifier);
        assert_eq!(
            (to_verifier.subject, id),
            (format!("forge.v1.duplicates.{uid}.0-0"), format!("task.{TASK}"))
        );
        let for_verifier: VerifierTask = serde_json::from_slice(&to_verifier.payload).unwrap();
        assert_eq!((for_verifier.task, for_verifier.claim), (task, None));
    }
}
