//! Admission under quotas, on the in-process bus.

use std::{collections::BTreeMap, sync::Arc};

use forge_bus::{
    Bus, MemoryBus, Message, SharedBus,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::{self, Queue, TopologySettings},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    job::JobError,
    quota::{Quota, Quotas},
    task::{AggregatorOrder, EndOrder},
};
use forge_service::metrics::Metrics;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{admit::Admission, planner::PlannerSettings};

const DAY: &str = "2026-11-23";
const EACH: u64 = 1000;

fn alice() -> Submitter {
    "alice".parse().unwrap()
}

async fn bus() -> Arc<MemoryBus> {
    let bus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    bus
}

fn settings(quota: Quota) -> PlannerSettings {
    let submitters = BTreeMap::from([(alice(), quota)]);
    PlannerSettings {
        quotas: Arc::new(Quotas { submitters, ..Quotas::default() }),
        ..PlannerSettings::default()
    }
}

/// A planner of a bus, for which alice has this quota.
async fn planner(bus: &Arc<MemoryBus>, quota: Quota) -> Arc<Planner> {
    planner_on(bus.clone(), quota).await
}

/// Delays every update of a quota, so that concurrent planners have all read it before the first one writes.
fn slow_quotas(bus: SharedBus) -> SharedBus {
    Arc::new(FaultyBus::new(bus, |operation| match operation {
        BusOperation::CompareAndSet { bucket: Bucket::Quotas, .. } => {
            BusFault::Delay(Duration::from_millis(1))
        }
        _ => BusFault::None,
    }))
}

async fn planner_on(bus: SharedBus, quota: Quota) -> Arc<Planner> {
    let stop = CancellationToken::new();
    Arc::new(Planner::open(bus, settings(quota), Metrics::new("test"), stop).await.unwrap())
}

fn jobs(limit: u64) -> Quota {
    Quota { concurrent_jobs: Some(limit), ..Quota::default() }
}

fn a_day(limit: u64) -> Quota {
    Quota { iterations_per_day: Some(limit), ..Quota::default() }
}

fn submission(job: &str, mode: &str) -> Message {
    let envelope = json!({"ctx": {"job_id": job, "billing": {"mode": mode}},
        "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": EACH, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}});
    Message::new(topology::submit_subject(&alice()), envelope.to_string())
}

/// What becomes of message number `sequence`, by which alice submits a job.
async fn admit(planner: &Planner, job: &str, sequence: u64) -> Admission {
    planner.admit(&submission(job, "test"), sequence).await.unwrap()
}

#[track_caller]
fn ours(admission: Admission) -> Admitted {
    match admission {
        Admission::Ours(admitted) => *admitted,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(admission: Admission) -> EndOrder {
    match admission {
        Admission::Refused(order) => order,
        other => panic!("{other:?}"),
    }
}

async fn used(planner: &Planner) -> (u64, Vec<String>) {
    let usage = planner.usage(&alice()).await.unwrap().usage;
    (usage.iterations, usage.active.into_iter().collect())
}

/// Ends a job without a result, as an aggregator does.
async fn end(bus: &dyn Bus, job: &JobId, code: FailureCode, message: &str) {
    let change = |record: &mut JobRecord| {
        record.state = JobState::Failed;
        record.error =
            Some(JobError { code, message: message.to_owned(), details: Vec::new(), phase: Phase::Validate });
        true
    };
    assert!(job_records::update(bus, &Bucket::default_jobs(), job, change).await.unwrap().written);
}

#[tokio::test]
async fn a_job_too_many_is_refused_and_its_record_tells_the_same() {
    let (bus, sequences) = (bus().await, 1..);
    let planner = planner(&bus, jobs(2)).await;
    for (job, sequence) in ["a", "b"].into_iter().zip(sequences) {
        assert!(!ours(admit(&planner, job, sequence).await).taken_over);
    }
    let order = refused(admit(&planner, "c", 3).await);
    assert_eq!(
        (order.code, order.phase, order.job_id.as_str()),
        (FailureCode::QuotaExceeded, Phase::Validate, "c")
    );
    assert!(order.message.contains("submitter alice may have 2 jobs at once and has 2"), "{}", order.message);
    assert_eq!(used(&planner).await, (2 * EACH, vec!["jobs/a".to_owned(), "jobs/b".to_owned()]));
    let record =
        job_records::get(bus.as_ref(), &Bucket::default_jobs(), &order.job_id).await.unwrap().unwrap().record;
    assert_eq!((record.submitter, record.state), (alice(), JobState::Accepted));
    // Others have quotas of their own: here, none.
    let mut other = submission("d", "billable");
    other.subject = topology::SUBMIT_SUBJECT.to_owned();
    assert!(ours(planner.admit(&other, 4).await.unwrap()).record.submitter.is_default());
}

#[tokio::test]
async fn ended_jobs_free_their_place() {
    let bus = bus().await;
    let planner = planner(&bus, jobs(1)).await;
    ours(admit(&planner, "a", 1).await);
    refused(admit(&planner, "b", 2).await);
    end(bus.as_ref(), &"a".parse().unwrap(), FailureCode::Cancelled, "").await;
    ours(admit(&planner, "c", 3).await);
    assert_eq!(used(&planner).await, (2 * EACH, vec!["jobs/c".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn jobs_whose_record_is_gone_free_their_place_after_a_while() {
    let bus = bus().await;
    let planner = planner(&bus, jobs(1)).await;
    ours(admit(&planner, "a", 1).await);
    bus.delete(&Bucket::default_jobs(), "a").await.unwrap();
    refused(admit(&planner, "b", 2).await);
    sleep(SETTLED * 2).await;
    ours(admit(&planner, "c", 3).await);
    assert_eq!(used(&planner).await.1, ["jobs/c"]);
}

#[tokio::test]
async fn what_is_delivered_again_is_not_charged_again() {
    let bus = bus().await;
    let (one, other) = (planner(&bus, jobs(1)).await, planner(&bus, jobs(1)).await);
    ours(admit(&one, "a", 1).await);
    for planner in [&one, &other] {
        assert!(ours(admit(planner, "a", 1).await).taken_over);
    }
    // The same job by another message is known, and costs nothing.
    assert!(matches!(admit(&other, "a", 2).await, Admission::Known));
    assert_eq!(used(&one).await, (EACH, vec!["jobs/a".to_owned()]));
    // It has ended, and another job has taken its place: it comes again, and is not charged even so.
    end(bus.as_ref(), &"a".parse().unwrap(), FailureCode::Cancelled, "").await;
    ours(admit(&one, "b", 3).await);
    assert!(matches!(admit(&other, "a", 1).await, Admission::Ended(..)));
    assert_eq!(used(&one).await, (2 * EACH, vec!["jobs/b".to_owned()]));
}

#[tokio::test]
async fn a_job_whose_planner_died_before_it_was_charged_is_charged_by_the_next() {
    let bus = bus().await;
    let (died, next) = (planner(&bus, Quota::default()).await, planner(&bus, jobs(1)).await);
    let before = ours(admit(&died, "a", 1).await);
    assert_eq!(used(&next).await, (0, vec![]));
    assert!(ours(admit(&next, "a", 1).await).taken_over);
    assert_eq!(used(&next).await, (EACH, vec!["jobs/a".to_owned()]));
    // One that was read before it ended, and has left the active ones since, is not charged any more.
    end(bus.as_ref(), &before.job.id, FailureCode::Cancelled, "").await;
    ours(admit(&next, "b", 2).await);
    let late = Admitted { taken_over: true, ..before };
    assert_eq!(next.charge(&late, DAY).await.unwrap(), Charge::Ended);
    assert_eq!(used(&next).await, (2 * EACH, vec!["jobs/b".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn planners_that_race_admit_as_many_as_there_may_be() {
    let bus = bus().await;
    let mut tasks = Vec::new();
    for turn in 0..4 {
        let planner = planner_on(slow_quotas(bus.clone()), jobs(3)).await;
        for job in 0..4 {
            let planner = Arc::clone(&planner);
            let (job, sequence) = (format!("{turn}-{job}"), 1 + 4 * turn + job);
            tasks.push(tokio::spawn(async move { admit(&planner, &job, sequence).await }));
        }
    }
    let mut admitted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Admission::Ours(_) => admitted += 1,
            other => assert_eq!(refused(other).code, FailureCode::QuotaExceeded),
        }
    }
    let reader = planner(&bus, jobs(3)).await;
    let (iterations, active) = used(&reader).await;
    assert_eq!((admitted, iterations, active.len()), (3, 3 * EACH, 3));
}

#[tokio::test(start_paused = true)]
async fn of_two_planners_one_gets_the_last_place() {
    let bus = bus().await;
    let slow = || slow_quotas(bus.clone());
    let (one, other) = (planner_on(slow(), jobs(2)).await, planner_on(slow(), jobs(2)).await);
    ours(admit(&one, "before", 1).await);
    let (left, right) = tokio::join!(admit(&one, "left", 2), admit(&other, "right", 3));
    let (winner, loser) = match left {
        Admission::Ours(left) => (left, right),
        left => (Box::new(ours(right)), left),
    };
    assert_eq!(refused(loser).code, FailureCode::QuotaExceeded);
    let (iterations, active) = used(&one).await;
    assert_eq!(
        (iterations, active),
        (2 * EACH, vec!["jobs/before".to_owned(), format!("jobs/{}", winner.job.id)])
    );
}

#[tokio::test]
async fn a_new_day_begins_with_nothing_used() {
    let bus = bus().await;
    let (free, planner) = (planner(&bus, Quota::default()).await, planner(&bus, a_day(2 * EACH)).await);
    let mut charge = Vec::new();
    for (job, sequence) in ["a", "b", "c", "d"].into_iter().zip(1..) {
        charge.push(ours(admit(&free, job, sequence).await));
    }
    for admitted in &charge[..2] {
        assert_eq!(planner.charge(admitted, DAY).await.unwrap(), Charge::Paid);
    }
    match planner.charge(&charge[2], DAY).await.unwrap() {
        Charge::Refused(refusal) => {
            let part = "may have 2000 iterations a day and has used 2000 of them on 2026-11-23, UTC: this job asks for 1000";
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(planner.charge(&charge[2], "2026-11-24").await.unwrap(), Charge::Paid);
    // A planner whose clock is behind does not begin the old day anew.
    assert_eq!(planner.charge(&charge[3], DAY).await.unwrap(), Charge::Paid);
    let usage = planner.usage(&alice()).await.unwrap().usage;
    assert_eq!((usage.day.as_str(), usage.iterations, usage.active.len()), ("2026-11-24", 2 * EACH, 4));
}

#[tokio::test]
async fn who_may_not_bill_is_told_so() {
    let bus = bus().await;
    let planner = planner(&bus, Quota { billable: false, ..Quota::default() }).await;
    let order = refused(planner.admit(&submission("a", "billable"), 1).await.unwrap());
    assert_eq!(order.code, FailureCode::Unauthorized);
    ours(admit(&planner, "b", 2).await);
    assert_eq!(used(&planner).await, (0, vec![]), "without a limit, nothing is counted");
}

#[tokio::test]
async fn a_subject_that_names_nobody_is_refused() {
    let bus = bus().await;
    let planner = planner(&bus, Quota::default()).await;
    let mut message = submission("a", "test");
    message.subject = format!("{}.{}", topology::SUBMIT_SUBJECT, "x".repeat(33));
    let order = refused(planner.admit(&message, 1).await.unwrap());
    assert_eq!((order.code, order.job_id.as_str()), (FailureCode::InvalidRequest, "a"));
    assert!(order.message.contains("names no submitter"), "{}", order.message);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_when_it_is_decided() {
    let (bus, stop) = (bus().await, CancellationToken::new());
    let running =
        tokio::spawn(crate::run(bus.clone(), settings(jobs(1)), Metrics::new("test"), stop.clone()));
    sleep(Duration::from_secs(1)).await;
    let ask = async |job: &str| {
        let request = Message::new(topology::api_submit_subject(&alice()), submission(job, "test").payload);
        let answer = bus.request(request, Duration::from_secs(10)).await.unwrap();
        serde_json::from_slice::<JobRecord>(&answer.payload).unwrap()
    };
    let first = ask("a").await;
    assert!(!first.state.is_terminal(), "{first:?}");
    let ending = tokio::spawn({
        let bus = bus.clone();
        async move {
            let mut orders = bus.open_queue(Queue::End).await.unwrap();
            let delivery = orders.fetch(1).await.unwrap().remove(0);
            // An aggregator takes its time.
            sleep(Duration::from_secs(2)).await;
            match serde_json::from_slice(&delivery.message.payload).unwrap() {
                AggregatorOrder::End(order) => {
                    end(bus.as_ref(), &order.job_id, order.code, &order.message).await
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let second = ask("b").await;
    assert_eq!((second.state, second.error.unwrap().code), (JobState::Failed, FailureCode::QuotaExceeded));
    ending.await.unwrap();
    assert_eq!(ask("a").await.submitter, alice());
    stop.cancel();
    running.await.unwrap().unwrap();
}
