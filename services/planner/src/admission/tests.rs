//! Admission on the in-process bus, quotas included.

use std::{sync::Arc, time::Duration};

use forge_bus::Bus;
use forge_contract::quota::Quota;
use tokio::time::sleep;

use super::*;
use crate::test_fixture::{
    AdmissionFixture, ITERATIONS, admitted, alice, fail_job, job_quota, memory_bus, rejected, slow_quota_bus,
    submission,
};

#[tokio::test]
async fn job_above_the_quota_is_rejected_and_recorded() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), job_quota(2));
    for (job, sequence) in ["a", "b"].into_iter().zip(1..) {
        assert!(!admitted(fixture.admit(job, sequence).await).taken_over);
    }
    let order = rejected(fixture.admit("c", 3).await);
    assert_eq!(
        (order.code, order.phase, order.job_id.as_str()),
        (FailureCode::QuotaExceeded, Phase::Validate, "c")
    );
    let reason = "submitter alice may have 2 concurrent jobs and has 2";
    assert!(order.message.contains(reason), "{}", order.message);
    assert_eq!(fixture.usage().await, (2 * ITERATIONS, vec!["jobs/a".to_owned(), "jobs/b".to_owned()]));
    let found = job_records::get(bus.as_ref(), &Bucket::default_jobs(), &order.job_id).await.unwrap();
    let record = found.unwrap().record;
    assert_eq!((record.submitter, record.state), (alice(), JobState::Accepted));
    // Another submitter has its own quota; this one has no limit.
    let mut other = submission("d", "billable");
    other.subject = topology::SUBMIT_SUBJECT.to_owned();
    let admitted = admitted(fixture.admission.admit(&other, 4).await.unwrap());
    assert!(admitted.record.submitter.is_default());
}

#[tokio::test]
async fn ended_job_releases_its_quota() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), job_quota(1));
    admitted(fixture.admit("a", 1).await);
    rejected(fixture.admit("b", 2).await);
    fail_job(bus.as_ref(), &"a".parse().unwrap(), FailureCode::Cancelled, "").await;
    admitted(fixture.admit("c", 3).await);
    assert_eq!(fixture.usage().await, (2 * ITERATIONS, vec!["jobs/c".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn job_without_a_record_releases_its_quota_after_the_grace_period() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), job_quota(1));
    admitted(fixture.admit("a", 1).await);
    bus.delete(&Bucket::default_jobs(), "a").await.unwrap();
    rejected(fixture.admit("b", 2).await);
    sleep(Duration::from_secs(20)).await;
    admitted(fixture.admit("c", 3).await);
    assert_eq!(fixture.usage().await.1, ["jobs/c"]);
}

#[tokio::test]
async fn redelivered_submission_is_charged_once() {
    let bus = memory_bus().await;
    let first = AdmissionFixture::new(bus.clone(), job_quota(1));
    let second = AdmissionFixture::new(bus.clone(), job_quota(1));
    admitted(first.admit("a", 1).await);
    for fixture in [&first, &second] {
        assert!(admitted(fixture.admit("a", 1).await).taken_over);
    }
    // The same job in another message is a duplicate and costs nothing.
    assert!(matches!(second.admit("a", 2).await, AdmissionDecision::Duplicate));
    assert_eq!(first.usage().await, (ITERATIONS, vec!["jobs/a".to_owned()]));
    // The job ends and another one takes its place in the quota. A late redelivery is not charged.
    fail_job(bus.as_ref(), &"a".parse().unwrap(), FailureCode::Cancelled, "").await;
    admitted(first.admit("b", 3).await);
    assert!(matches!(second.admit("a", 1).await, AdmissionDecision::Terminal(..)));
    assert_eq!(first.usage().await, (2 * ITERATIONS, vec!["jobs/b".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn racing_planners_do_not_exceed_the_quota_together() {
    let bus = memory_bus().await;
    let mut tasks = Vec::new();
    for planner in 0..4 {
        let fixture = Arc::new(AdmissionFixture::new(slow_quota_bus(&bus), job_quota(3)));
        for job in 0..4 {
            let fixture = Arc::clone(&fixture);
            let (job, sequence) = (format!("{planner}-{job}"), 1 + 4 * planner + job);
            tasks.push(tokio::spawn(async move { fixture.admit(&job, sequence).await }));
        }
    }
    let mut admitted = 0;
    for task in tasks {
        match task.await.unwrap() {
            AdmissionDecision::Admitted(_) => admitted += 1,
            other => assert_eq!(rejected(other).code, FailureCode::QuotaExceeded),
        }
    }
    let (iterations, active) = AdmissionFixture::new(bus, job_quota(3)).usage().await;
    assert_eq!((admitted, iterations, active.len()), (3, 3 * ITERATIONS, 3));
}

#[tokio::test(start_paused = true)]
async fn one_of_two_racing_planners_gets_the_last_place_in_the_quota() {
    let bus = memory_bus().await;
    let first = AdmissionFixture::new(slow_quota_bus(&bus), job_quota(2));
    let second = AdmissionFixture::new(slow_quota_bus(&bus), job_quota(2));
    admitted(first.admit("before", 1).await);
    let (left, right) = tokio::join!(first.admit("left", 2), second.admit("right", 3));
    let (winner, loser) = match left {
        AdmissionDecision::Admitted(left) => (left, right),
        left => (Box::new(admitted(right)), left),
    };
    assert_eq!(rejected(loser).code, FailureCode::QuotaExceeded);
    let active = vec!["jobs/before".to_owned(), format!("jobs/{}", winner.job.id)];
    assert_eq!(first.usage().await, (2 * ITERATIONS, active));
}

#[tokio::test]
async fn billable_job_is_rejected_when_the_quota_excludes_billing() {
    let quota = Quota { billable: false, ..Quota::default() };
    let fixture = AdmissionFixture::new(memory_bus().await, quota);
    let order = rejected(fixture.admission.admit(&submission("a", "billable"), 1).await.unwrap());
    assert_eq!(order.code, FailureCode::Unauthorized);
    admitted(fixture.admit("b", 2).await);
    assert_eq!(fixture.usage().await, (0, vec![]), "usage is not counted without a limit");
}

#[tokio::test]
async fn subject_without_a_valid_submitter_is_rejected() {
    let fixture = AdmissionFixture::new(memory_bus().await, Quota::default());
    let mut message = submission("a", "test");
    message.subject = format!("{}.{}", topology::SUBMIT_SUBJECT, "x".repeat(33));
    let order = rejected(fixture.admission.admit(&message, 1).await.unwrap());
    assert_eq!((order.code, order.job_id.as_str()), (FailureCode::InvalidRequest, "a"));
    assert!(order.message.contains("names no submitter"), "{}", order.message);
}

#[tokio::test]
async fn invalid_envelope_is_recorded_under_its_job_id_unless_that_is_taken() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), Quota::default());
    let mut invalid = submission("a", "test");
    invalid.payload = r#"{"ctx": {"job_id": "a"}}"#.into();
    let order = rejected(fixture.admission.admit(&invalid, 1).await.unwrap());
    assert_eq!((order.code, order.job_id.as_str()), (FailureCode::InvalidRequest, "a"));
    assert!(!order.details.is_empty());
    let redelivered = rejected(fixture.admission.admit(&invalid, 1).await.unwrap());
    assert_eq!(redelivered, order);
    let order = rejected(fixture.admission.admit(&invalid, 2).await.unwrap());
    assert_eq!(order.job_id, rejected_job_id(&invalid.payload));
}

#[tokio::test]
async fn second_envelope_under_a_job_id_is_a_conflict() {
    let fixture = AdmissionFixture::new(memory_bus().await, Quota::default());
    admitted(fixture.admit("a", 1).await);
    let other = submission("a", "billable");
    let order = rejected(fixture.admission.admit(&other, 2).await.unwrap());
    assert_eq!((order.code, &order.job_id), (FailureCode::Conflict, &rejected_job_id(&other.payload)));
}
