//! The quota ledger on the in-process bus.

use forge_bus::testing::{BusFault, BusOperation, FaultyBus};
use forge_contract::{error::FailureCode, quota::Quota};
use proptest::{collection::vec, prelude::*};
use tokio::runtime::Builder;

use super::*;
use crate::{
    admission::AdmissionDecision,
    test_fixture::{
        AdmissionFixture, ITERATIONS, admitted, alice, daily_quota, fail_job, job_quota, memory_bus,
        rejected, slow_quota_bus,
    },
};

const DAY: &str = "2026-11-23";

fn day(today: &str, tomorrow: &str) -> QuotaDay {
    QuotaDay { today: today.to_owned(), tomorrow: tomorrow.to_owned() }
}

fn first_day() -> QuotaDay {
    day(DAY, "2026-11-24")
}

#[tokio::test]
async fn takeover_charges_a_job_whose_planner_died_before_its_charge() {
    let bus = memory_bus().await;
    let died = AdmissionFixture::new(bus.clone(), Quota::default());
    let next = AdmissionFixture::new(bus.clone(), job_quota(1));
    let before = admitted(died.admit("a", 1).await);
    assert_eq!(next.usage().await, (0, vec![]));
    assert!(admitted(next.admit("a", 1).await).taken_over);
    assert_eq!(next.usage().await, (ITERATIONS, vec!["jobs/a".to_owned()]));
    // A planner that read the record before the job ended must not charge it again after it was
    // pruned.
    fail_job(bus.as_ref(), &before.job.id, FailureCode::Cancelled, "").await;
    admitted(next.admit("b", 2).await);
    let late = AdmittedJob { taken_over: true, ..before };
    assert_eq!(next.ledger.charge(&late, &first_day()).await.unwrap(), ChargeOutcome::JobEnded);
    assert_eq!(next.usage().await, (2 * ITERATIONS, vec!["jobs/b".to_owned()]));
}

#[tokio::test]
async fn new_day_starts_with_no_usage() {
    let bus = memory_bus().await;
    let unlimited = AdmissionFixture::new(bus.clone(), Quota::default());
    let mut jobs = Vec::new();
    for (job, sequence) in ["a", "b", "c", "d"].into_iter().zip(1..) {
        jobs.push(admitted(unlimited.admit(job, sequence).await));
    }
    let ledger = AdmissionFixture::new(bus, daily_quota(2 * ITERATIONS)).ledger;
    for job in &jobs[..2] {
        assert_eq!(ledger.charge(job, &first_day()).await.unwrap(), ChargeOutcome::Charged);
    }
    match ledger.charge(&jobs[2], &first_day()).await.unwrap() {
        ChargeOutcome::Denied(denial) => {
            let part =
                "may use 2000 iterations per day and has used 2000 on 2026-11-23 (UTC): this job needs 1000";
            assert!(denial.message.contains(part), "{}", denial.message);
        }
        other => panic!("expected a denial, found {other:?}"),
    }
    assert_eq!(
        ledger.charge(&jobs[2], &day("2026-11-24", "2026-11-25")).await.unwrap(),
        ChargeOutcome::Charged
    );
    // A planner whose clock is behind does not start the old day again.
    assert_eq!(ledger.charge(&jobs[3], &first_day()).await.unwrap(), ChargeOutcome::Charged);
    let usage = ledger.usage(&alice()).await.unwrap();
    assert_eq!((usage.day.as_str(), usage.iterations, usage.active.len()), ("2026-11-24", 2 * ITERATIONS, 4));
}

#[tokio::test(start_paused = true)]
async fn charge_of_one_submitter_does_not_wait_for_another() {
    let bus = memory_bus().await;
    let unlimited = AdmissionFixture::new(bus.clone(), Quota::default());
    let of_alice = admitted(unlimited.admit("a", 1).await);
    let mut of_bob = admitted(unlimited.admit("b", 2).await);
    of_bob.record.submitter = "bob".parse().unwrap();
    let quotas = Quotas { default: job_quota(1), ..Quotas::default() };
    let stuck = FaultyBus::new(bus, |operation| match operation {
        BusOperation::CompareAndSet { key: "alice", .. } => BusFault::Delay(Duration::from_secs(3600)),
        _ => BusFault::None,
    });
    let (ledger, day) = (QuotaLedger::new(Arc::new(stuck), Arc::new(quotas)), first_day());
    tokio::select! {
        biased;
        charged = ledger.charge(&of_alice, &day) => panic!("expected a stuck charge, found {charged:?}"),
        charged = ledger.charge(&of_bob, &day) => assert_eq!(charged, Ok(ChargeOutcome::Charged)),
    }
    assert_eq!(ledger.charge_locks.lock().unwrap().len(), 2);
    drop(ledger.lock_charges(&alice()).await);
    assert_eq!(ledger.charge_locks.lock().unwrap().len(), 1, "locks without a charge are removed");
}

#[tokio::test]
async fn denial_stores_the_pruned_usage() {
    let bus = memory_bus().await;
    let quota = Quota { concurrent_jobs: Some(1), iterations_per_day: Some(ITERATIONS), billable: true };
    let fixture = AdmissionFixture::new(bus.clone(), quota);
    let ended = admitted(fixture.admit("a", 1).await);
    fail_job(bus.as_ref(), &ended.job.id, FailureCode::Cancelled, "").await;
    let order = rejected(fixture.admit("b", 2).await);
    assert!(order.message.contains("iterations per day"), "{}", order.message);
    assert_eq!(fixture.usage().await, (ITERATIONS, vec![]));
}

#[test]
fn active_job_name_is_parsed_back() {
    let (bucket, job) = (Bucket::Jobs("night".to_owned()), "a".parse().unwrap());
    let name = active_job_name(&bucket, &job);
    assert_eq!((name.as_str(), parse_active_job_name(&name)), ("night/a", Some((bucket, job))));
    assert_eq!(parse_active_job_name("a"), None);
    assert_eq!(parse_active_job_name("night/a b"), None);
}

proptest! {
    /// Two planners admit jobs at once, and again, while jobs end.
    #[test]
    fn planners_together_admit_no_more_jobs_than_the_quota_permits(
        limit in 0usize..4,
        steps in vec((0u8..4, 0usize..6, 0usize..6), 0..30),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bus = memory_bus().await;
            let planners = [0, 1].map(|_| AdmissionFixture::new(slow_quota_bus(&bus), job_quota(limit as u64)));
            let (mut open, mut ended, mut charged) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            let end = async |job: usize| {
                fail_job(bus.as_ref(), &format!("job-{job}").parse().unwrap(), FailureCode::Cancelled, "").await;
            };
            for (step, left, right) in steps {
                if step == 0 {
                    if open.remove(&left) {
                        end(left).await;
                        ended.insert(left);
                    }
                    continue;
                }
                let admit = async |planner: usize, job: usize| {
                    planners[planner].admit(&format!("job-{job}"), job as u64 + 1).await
                };
                let decisions = tokio::join!(admit(0, left), admit(1, right));
                for (job, decision) in [(left, decisions.0), (right, decisions.1)] {
                    match decision {
                        AdmissionDecision::Admitted(_) => {
                            prop_assert!(!ended.contains(&job), "job {} has ended", job);
                            open.insert(job);
                            charged.insert(job);
                        }
                        AdmissionDecision::Rejected(order) => {
                            prop_assert_eq!(order.code, FailureCode::QuotaExceeded);
                            if ended.insert(job) {
                                open.remove(&job);
                                end(job).await;
                            }
                        }
                        AdmissionDecision::Terminal { .. } => prop_assert!(ended.contains(&job)),
                        AdmissionDecision::Duplicate => prop_assert!(false, "job {job} has one sequence"),
                    }
                }
                prop_assert!(open.len() <= limit, "{open:?} of {limit}");
                let (iterations, active) = planners[0].usage().await;
                prop_assert!(open.iter().all(|job| active.contains(&format!("jobs/job-{job}"))), "{active:?}");
                prop_assert_eq!(iterations, ITERATIONS * charged.len() as u64);
            }
            Ok(())
        })?;
    }
}
