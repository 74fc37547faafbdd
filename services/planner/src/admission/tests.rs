//! Admission on the in-process bus, quotas included.

use std::{sync::Arc, time::Duration};

use forge_bus::{
    Bus, MemoryBus,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::TopologySettings,
};
use forge_contract::quota::Quota;
use forge_service::job_records::MISSING_RECORD_GRACE_PERIOD;
use tokio::time::{Instant, sleep};

use super::*;
use crate::test_fixture::{
    AdmissionFixture, ITERATIONS, admitted, alice, fail_job, job_quota, memory_bus, rejected, slow_quota_bus,
    submission, submission_to,
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
    let admitted = admitted(fixture.deliver(&other, 4).await.unwrap());
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
    assert!(matches!(second.admit("a", 1).await, AdmissionDecision::Terminal { .. }));
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
    let order = rejected(fixture.deliver(&submission("a", "billable"), 1).await.unwrap());
    assert_eq!(order.code, FailureCode::Unauthorized);
    admitted(fixture.admit("b", 2).await);
    assert_eq!(fixture.usage().await, (0, vec![]), "usage is not counted without a limit");
}

#[tokio::test]
async fn subject_without_a_valid_submitter_is_rejected() {
    let fixture = AdmissionFixture::new(memory_bus().await, Quota::default());
    let mut message = submission("a", "test");
    message.subject = format!("{}.{}", topology::SUBMIT_SUBJECT, "x".repeat(33));
    let order = rejected(fixture.deliver(&message, 1).await.unwrap());
    assert_eq!((order.code, order.job_id.as_str()), (FailureCode::InvalidRequest, "a"));
    assert!(order.message.contains("names no submitter"), "{}", order.message);
}

#[tokio::test]
async fn invalid_envelope_is_recorded_under_its_job_id_unless_that_is_taken() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), Quota::default());
    let mut invalid = submission("a", "test");
    invalid.payload = r#"{"ctx": {"job_id": "a"}}"#.into();
    let order = rejected(fixture.deliver(&invalid, 1).await.unwrap());
    assert_eq!((order.code, order.job_id.as_str()), (FailureCode::InvalidRequest, "a"));
    assert!(!order.details.is_empty());
    let redelivered = rejected(fixture.deliver(&invalid, 1).await.unwrap());
    assert_eq!(redelivered, order);
    let second = rejected(fixture.deliver(&invalid, 2).await.unwrap());
    assert_eq!(second.job_id, rejected_job_id(&invalid.payload));
    assert_ne!(second.job_uid, order.job_uid);
    let third = fixture.deliver(&invalid, 3).await.unwrap();
    assert!(matches!(third, AdmissionDecision::Duplicate), "{third:?}");
}

#[tokio::test]
async fn rejection_cannot_end_the_job_of_another_submission() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), Quota::default());
    let mut invalid = submission("a", "test");
    invalid.payload = r#"{"ctx": {"job_id": "a"}}"#.into();
    let running = admitted(fixture.admit("a", 1).await);
    // Another submission has also taken the name that is derived from the bytes.
    let name = rejected_job_id(&invalid.payload);
    let other = admitted(fixture.admit(name.as_str(), 2).await);
    assert_ne!(running.uid(), other.uid());
    let decision = fixture.deliver(&invalid, 3).await.unwrap();
    assert!(matches!(decision, AdmissionDecision::Duplicate), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn racing_rejection_and_job_of_one_id_do_not_meet() {
    // The record of the running job appears after the rejection has looked for it, if it looks
    // before it creates its own.
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), Quota::default());
    let mut invalid = submission("a", "test");
    invalid.payload = r#"{"ctx": {"job_id": "a"}}"#.into();
    let late = Arc::new(FaultyBus::new(bus.clone(), |operation| match operation {
        BusOperation::CompareAndSet { bucket: Bucket::Jobs(_), .. } => {
            BusFault::Delay(Duration::from_secs(1))
        }
        _ => BusFault::None,
    }));
    let slow = AdmissionFixture::new(late, Quota::default());
    let (order, running) = tokio::join!(slow.deliver(&invalid, 2), fixture.admit("a", 1));
    let (order, running) = (rejected(order.unwrap()), admitted(running));
    assert_eq!(order.job_id, rejected_job_id(&invalid.payload));
    assert_ne!(order.job_uid, running.uid());
}

#[tokio::test]
async fn record_commits_to_a_stored_key_before_it_exists() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), Quota::default());
    let first = admitted(fixture.admit("a", 1).await);
    assert_eq!(first.record.key_commitment, Some(first.key.commitment(first.uid())));
    assert_eq!(job_keys::load(bus.as_ref(), first.uid()).await.unwrap().as_ref(), Some(&first.key));
    let again = admitted(fixture.admit("a", 1).await);
    assert_eq!((again.uid(), &again.key), (first.uid(), &first.key));
    let other = admitted(fixture.admit("b", 2).await);
    assert!(other.uid() != first.uid() && other.key != first.key);
    // A rejected submission has a uid and needs no key.
    let order = rejected(fixture.deliver(&submission("a", "billable"), 3).await.unwrap());
    assert_eq!(job_keys::load(bus.as_ref(), order.job_uid).await, Ok(None));
    let found = job_records::get(bus.as_ref(), &Bucket::default_jobs(), &order.job_id).await.unwrap();
    let record = found.unwrap().record;
    assert_eq!((record.uid, record.key_commitment), (order.job_uid, None));
}

#[tokio::test(start_paused = true)]
async fn job_without_its_key_fails_after_the_grace_period() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), Quota::default());
    let job = admitted(fixture.admit("a", 1).await);
    job_keys::delete(bus.as_ref(), job.uid()).await.unwrap();
    // A replica may show the key late.
    let appear = async {
        sleep(MISSING_RECORD_GRACE_PERIOD / 2).await;
        job_keys::create(bus.as_ref(), job.uid(), &job.key).await.unwrap();
    };
    let (found, ()) = tokio::join!(fixture.admit("a", 1), appear);
    assert_eq!(admitted(found).uid(), job.uid());
    job_keys::delete(bus.as_ref(), job.uid()).await.unwrap();
    let started = Instant::now();
    let order = rejected(fixture.admit("a", 1).await);
    assert_eq!((order.code, order.job_uid), (FailureCode::Internal, job.uid()));
    assert!(started.elapsed() >= MISSING_RECORD_GRACE_PERIOD);
}

/// Admission with the namespaces jobs and night.
async fn two_namespaces() -> (Arc<MemoryBus>, AdmissionFixture) {
    let bus =
        MemoryBus::with_namespaces(TopologySettings::default(), vec!["jobs".to_owned(), "night".to_owned()]);
    bus.prepare().await.unwrap();
    let fixture = AdmissionFixture::with_namespaces(bus.clone(), &["jobs", "night"]);
    (bus, fixture)
}

/// Another namespace has the id too by then, which alone would be a conflict.
#[tokio::test(start_paused = true)]
async fn a_redelivered_submission_waits_for_the_record_that_it_has_created() {
    let (bus, fixture) = two_namespaces().await;
    let night = Bucket::Jobs("night".to_owned());
    let own = admitted(fixture.deliver(&submission_to("a", "night"), 1).await.unwrap());
    bus.delete(&night, "a").await.unwrap();
    let mut invalid = submission("a", "test");
    invalid.payload = r#"{"ctx": {"job_id": "a"}}"#.into();
    let order = rejected(fixture.deliver(&invalid, 2).await.unwrap());
    assert_eq!(order.job_id.as_str(), "a");
    // A deposed leader shows the record late.
    let appear = async {
        sleep(MISSING_RECORD_GRACE_PERIOD / 2).await;
        assert!(job_records::create(bus.as_ref(), &night, &own.record).await.unwrap());
    };
    let again = submission_to("a", "night");
    let (found, ()) = tokio::join!(fixture.admission.admit(&again, 1, 2), appear);
    let found = admitted(found.unwrap());
    assert!(found.uid() == own.uid() && found.taken_over);
    // So does a submission that was rejected.
    bus.delete(&Bucket::default_jobs(), "a").await.unwrap();
    let started = Instant::now();
    let appear = async {
        sleep(MISSING_RECORD_GRACE_PERIOD / 2).await;
        let origin = SubmissionOrigin {
            submitter: alice(),
            sequence: 2,
            attempt: 1,
            time: own.record.submitted_at.clone(),
            trace_id: None,
        };
        let record = initial_record("a".parse().unwrap(), order.job_uid, origin, None);
        assert!(job_records::create(bus.as_ref(), &Bucket::default_jobs(), &record).await.unwrap());
    };
    let (found, ()) = tokio::join!(fixture.admission.admit(&invalid, 2, 2), appear);
    assert_eq!(rejected(found.unwrap()), order);
    assert!(started.elapsed() < MISSING_RECORD_GRACE_PERIOD);
}

#[tokio::test]
async fn job_id_is_unique_over_all_namespaces() {
    let (bus, fixture) = two_namespaces().await;
    let submit = async |job: &str, namespace: &str, sequence| {
        let message = submission_to(job, namespace);
        fixture.deliver(&message, sequence).await.unwrap()
    };
    let first = admitted(submit("a", "night", 1).await);
    assert_eq!(first.bucket.name(), "night");
    let order = rejected(submit("a", "jobs", 2).await);
    assert_eq!((order.code, order.namespace.as_str()), (FailureCode::Conflict, "jobs"));
    assert!(order.message.contains("job id a already names a job"), "{}", order.message);
    // The first submission keeps its job when it is redelivered.
    assert_eq!(admitted(submit("a", "night", 1).await).uid(), first.uid());
    // A rejected submission is not recorded under the id either.
    let mut invalid = submission("a", "test");
    invalid.payload = r#"{"ctx": {"job_id": "a"}}"#.into();
    let order = rejected(fixture.deliver(&invalid, 3).await.unwrap());
    assert_eq!(order.job_id, rejected_job_id(&invalid.payload));
    // But it keeps the record that it has created, because a read did not show the job.
    invalid.payload = r#"{"ctx": {"job_id": "b"}}"#.into();
    let order = rejected(fixture.deliver(&invalid, 4).await.unwrap());
    assert_eq!(order.job_id.as_str(), "b");
    let night = Bucket::Jobs("night".to_owned());
    let found = job_records::get(bus.as_ref(), &night, &"a".parse().unwrap()).await.unwrap().unwrap();
    let record = JobRecord { job_id: "b".parse().unwrap(), ..found.record };
    assert!(job_records::create(bus.as_ref(), &night, &record).await.unwrap());
    assert_eq!(rejected(fixture.deliver(&invalid, 4).await.unwrap()), order);
    // So does one that a job of another namespace kept from its id, once the same envelope has it.
    let late = submission_to("c", "jobs");
    let record = JobRecord { job_id: "c".parse().unwrap(), ..record };
    assert!(job_records::create(bus.as_ref(), &night, &record).await.unwrap());
    let order = rejected(fixture.deliver(&late, 5).await.unwrap());
    assert_eq!(order.job_id, rejected_job_id(&late.payload));
    bus.delete(&night, "c").await.unwrap();
    admitted(fixture.deliver(&late, 6).await.unwrap());
    assert_eq!(rejected(fixture.deliver(&late, 5).await.unwrap()), order);
}

#[tokio::test]
async fn second_envelope_under_a_job_id_is_a_conflict() {
    let fixture = AdmissionFixture::new(memory_bus().await, Quota::default());
    admitted(fixture.admit("a", 1).await);
    let other = submission("a", "billable");
    let order = rejected(fixture.deliver(&other, 2).await.unwrap());
    assert_eq!((order.code, &order.job_id), (FailureCode::Conflict, &rejected_job_id(&other.payload)));
}

#[tokio::test]
async fn submission_waits_while_the_bucket_of_records_is_full() {
    let bus = memory_bus().await;
    let fixture = AdmissionFixture::new(bus.clone(), Quota::default());
    let known = admitted(fixture.admit("a", 1).await);
    fixture.space.set_used(&Bucket::default_jobs(), 95);
    for message in [submission("b", "test"), Message::new(topology::SUBMIT_SUBJECT, "no envelope")] {
        let refused = fixture.deliver(&message, 2).await.unwrap_err();
        assert!(matches!(&refused, BusError::Full(reason) if reason.contains("95%")), "{refused:?}");
    }
    assert_eq!(admitted(fixture.admit("a", 1).await).uid(), known.uid(), "a job with a record goes on");
    fixture.space.set_used(&Bucket::default_jobs(), 80);
    admitted(fixture.admit("b", 2).await);
}
