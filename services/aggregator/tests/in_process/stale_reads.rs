//! Jobs whose key or verifier a read does not show yet.

use std::time::Duration;

use forge_bus::topology::{Bucket, JobLength, Queue};
use forge_contract::{
    agent::Identity, error::FailureCode, job::JobState, task::VerifierTask, verdict::VerdictOutcome,
};
use forge_kernel::backend::scalar::Scalar;
use forge_service::{job_keys, shard_messages, shard_messages::Judgement};
use tokio::time::{sleep, timeout};

use crate::{Fixture, PATIENCE, UID};

#[tokio::test(start_paused = true)]
async fn job_without_a_key_fails_with_the_reason_after_the_grace_period() {
    let fixture = Fixture::start().await;
    job_keys::delete(fixture.bus.as_ref(), UID).await.unwrap();
    fixture.order_reduction().await;
    let error = fixture.ended_record().await.error.unwrap();
    assert_eq!(error.code, FailureCode::Internal);
    assert!(error.message.contains("is missing from bucket forge_secrets"), "{}", error.message);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn key_that_a_deposed_leader_does_not_have_is_awaited() {
    let fixture = Fixture::start().await;
    job_keys::delete(fixture.bus.as_ref(), UID).await.unwrap();
    fixture.order_reduction().await;
    sleep(Duration::from_secs(1)).await;
    job_keys::create(fixture.bus.as_ref(), UID, &fixture.key).await.unwrap();
    for position in 0..2 {
        fixture.return_result(position, position, &fixture.results[position]).await;
    }
    assert_eq!(fixture.ended_record().await.state, JobState::Completed);
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn verdicts_of_a_verifier_that_a_deposed_leader_does_not_know_count_later() {
    let mut fixture = Fixture::start().await;
    fixture.dispute_before_the_verifier_is_known().await;
    fixture.verify_two_claims().await;
    let stored = fixture.bus.get(&Bucket::Agents, &fixture.verifier_key()).await.unwrap();
    assert!(stored.is_none_or(|entry| entry.value.is_none()));
    fixture.return_result(0, 1, &fixture.results[1]).await;
    let completion = fixture.completion().await;
    assert_eq!((completion.verification.checked.len(), completion.verification.refuted.len()), (1, 1));
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn verdicts_wait_for_their_verifier_however_many_do() {
    const UNKNOWN: usize = 1100;
    let mut fixture = Fixture::start().await;
    fixture.dispute_before_the_verifier_is_known().await;
    let registered = std::mem::replace(&mut fixture.verifier, Identity::from_random([4; 32]));
    let mut queue = fixture.bus.open_queue(Queue::Verifications(JobLength::Short)).await.unwrap();
    let delivery = timeout(PATIENCE, queue.fetch(1)).await.unwrap().unwrap().remove(0);
    delivery.lease.retry(Duration::ZERO).await;
    drop(queue);
    let task: VerifierTask = serde_json::from_slice(&delivery.message.payload).unwrap();
    let claim = task.claim.unwrap();
    for number in 0..UNKNOWN {
        let judgement = Judgement::from_execution(&Scalar, VerdictOutcome::Refuted, None, number.to_string());
        let (message, id) =
            shard_messages::build_verdict(&fixture.verifier, UID, &task.task, &claim, judgement);
        fixture.bus.publish(message, &format!("{id}.{number}")).await.unwrap();
    }
    fixture.verifier = registered;
    fixture.verify_two_claims().await;
    fixture.return_result(0, 1, &fixture.results[1]).await;
    let completion = fixture.completion().await;
    assert_eq!((completion.verification.checked.len(), completion.verification.refuted.len()), (1, 1));
    fixture.shut_down().await;
}
