//! Decides whether a submitter's quota permits a charge. Pure, apart from [`QuotaDay::now`]: reads
//! no bus and no clock.

use forge_contract::{
    envelope::BillingMode,
    error::FailureCode,
    ids::Submitter,
    quota::{Quota, Usage},
};
use forge_service::clock::Clock;

/// Without a limit on concurrent jobs, the active jobs are pruned when their number reaches this or
/// one of the powers of two above it.
const FIRST_PRUNE_JOBS: usize = 64;
/// From this number of active jobs on they are pruned at every charge, because their names must fit
/// into one message.
const ALWAYS_PRUNE_JOBS: usize = 4096;

/// The UTC dates around a charge, each as in `2026-11-23`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaDay {
    pub today: String,
    pub tomorrow: String,
}

impl QuotaDay {
    /// The dates by a clock.
    pub fn now(clock: Clock) -> Self {
        let (today, tomorrow) = clock.today_and_tomorrow();
        Self { today, tomorrow }
    }
}

/// Why a submission is not permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaDenial {
    /// `quota_exceeded` or `unauthorized`.
    pub code: FailureCode,
    /// Names the quota, its limit and the current usage.
    pub message: String,
}

/// Checks that the submitter may submit jobs of this billing mode.
///
/// # Errors
/// `unauthorized` if the quota excludes billable jobs and the mode is billable.
pub fn check_billing(submitter: &Submitter, quota: &Quota, mode: BillingMode) -> Result<(), QuotaDenial> {
    if quota.billable || mode == BillingMode::Test {
        return Ok(());
    }
    let message = format!(
        "submitter {submitter} may not submit jobs with ctx.billing.mode billable: submit it as test"
    );
    Err(QuotaDenial { code: FailureCode::Unauthorized, message })
}

/// Whether ended jobs should be removed from the active ones before a charge. Pruning reads one
/// record for every active job, so without a limit on concurrent jobs it happens only each time
/// that their number has doubled: that bounds the usage at a constant cost per charge.
pub fn should_prune(quota: &Quota, usage: &Usage) -> bool {
    let active = usage.active.len();
    match quota.concurrent_jobs {
        Some(limit) => active as u64 >= limit,
        None => (active >= FIRST_PRUNE_JOBS && active.is_power_of_two()) || active >= ALWAYS_PRUNE_JOBS,
    }
}

/// The usage after charging `job`, which is not among the active jobs.
///
/// # Errors
/// `quota_exceeded` if the charge exceeds a limit.
pub fn charge(
    submitter: &Submitter,
    quota: &Quota,
    usage: &Usage,
    job: &str,
    iterations: u64,
    day: &QuotaDay,
) -> Result<Usage, QuotaDenial> {
    let exceeded = |message| Err(QuotaDenial { code: FailureCode::QuotaExceeded, message });
    let active = usage.active.len() as u64;
    if let Some(limit) = quota.concurrent_jobs.filter(|limit| active >= *limit) {
        return exceeded(format!(
            "submitter {submitter} may have {limit} concurrent jobs and has {active}: \
             wait until one ends, or cancel one"
        ));
    }
    let (date, used) = day_usage(usage, day);
    let sum = used.saturating_add(iterations);
    if let Some(limit) = quota.iterations_per_day.filter(|limit| sum > *limit) {
        return exceeded(format!(
            "submitter {submitter} may use {limit} iterations per day and has used {used} on {date} (UTC): \
             this job needs {iterations}"
        ));
    }
    let mut active = usage.active.clone();
    active.insert(job.to_owned());
    Ok(Usage { day: date.to_owned(), iterations: sum, active })
}

/// The date to charge, and the iterations used on it. A past date no longer counts. Tomorrow was
/// begun by a planner whose clock is slightly ahead: it stays, so that the daily limit is not
/// granted twice. A later date comes from a wrong clock. It ends here, with its iterations:
/// otherwise it would lock the submitter out until it is past.
fn day_usage<'a>(usage: &'a Usage, day: &'a QuotaDay) -> (&'a str, u64) {
    let date = usage.day.as_str();
    if date < day.today.as_str() {
        (&day.today, 0)
    } else if date <= day.tomorrow.as_str() {
        (date, usage.iterations)
    } else {
        (&day.today, usage.iterations)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    const TODAY: &str = "2026-11-23";

    fn usage(day: &str, iterations: u64, active: usize) -> Usage {
        Usage { day: day.to_owned(), iterations, active: (0..active).map(|n| format!("jobs/{n}")).collect() }
    }

    fn quota(concurrent_jobs: Option<u64>, iterations_per_day: Option<u64>) -> Quota {
        Quota { concurrent_jobs, iterations_per_day, billable: true }
    }

    /// Quota, usage before, and iterations of the job; then day and iterations after the charge, or
    /// a part of the error message.
    type Case = (Quota, Usage, u64, Result<(&'static str, u64), &'static str>);

    #[test]
    fn charge_adds_to_usage_until_a_limit_is_reached() {
        let (none, jobs, day) = (quota(None, None), quota(Some(2), None), quota(None, Some(100)));
        let both = quota(Some(2), Some(100));
        let cases: [Case; 17] = [
            (none, usage("", 0, 0), 7, Ok((TODAY, 7))),
            (none, usage(TODAY, u64::MAX, 10_000), 1, Ok((TODAY, u64::MAX))),
            (jobs, usage("", 0, 0), 7, Ok((TODAY, 7))),
            (jobs, usage(TODAY, 5, 1), 7, Ok((TODAY, 12))),
            (jobs, usage(TODAY, 5, 2), 7, Err("alice may have 2 concurrent jobs and has 2")),
            (jobs, usage(TODAY, 5, 3), 7, Err("alice may have 2 concurrent jobs and has 3")),
            (jobs, usage("2026-11-22", 5, 2), 7, Err("has 2")),
            (quota(Some(0), None), usage("", 0, 0), 0, Err("alice may have 0 concurrent jobs and has 0")),
            (day, usage(TODAY, 60, 9), 40, Ok((TODAY, 100))),
            (day, usage(TODAY, 60, 9), 41, Err("100 iterations per day and has used 60 on 2026-11-23")),
            (day, usage(TODAY, 100, 0), 1, Err("this job needs 1")),
            (day, usage(TODAY, u64::MAX, 0), 2, Err("needs 2")),
            (day, usage("2026-11-22", 100, 3), 100, Ok((TODAY, 100))),
            (day, usage("2025-12-31", 100, 3), 101, Err("has used 0 on 2026-11-23")),
            // Another planner's clock is ahead: its day stays, unless the clock must be wrong.
            (day, usage("2026-11-24", 30, 0), 70, Ok(("2026-11-24", 100))),
            (day, usage("2036-11-24", 30, 0), 70, Ok((TODAY, 100))),
            (both, usage(TODAY, 100, 2), 1, Err("concurrent jobs")),
        ];
        let today = QuotaDay { today: TODAY.to_owned(), tomorrow: "2026-11-24".to_owned() };
        for (quota, before, iterations, expected) in cases {
            let after = charge(&"alice".parse().unwrap(), &quota, &before, "jobs/new", iterations, &today);
            match (after, expected) {
                (Ok(after), Ok((day, iterations))) => {
                    assert_eq!((after.day.as_str(), after.iterations), (day, iterations), "{before:?}");
                    assert!(after.active.contains("jobs/new") && after.active.is_superset(&before.active));
                }
                (Err(denial), Err(part)) => {
                    assert_eq!(denial.code, FailureCode::QuotaExceeded);
                    assert!(denial.message.contains(part), "{part}: {}", denial.message);
                }
                (found, expected) => panic!("{before:?}: expected {expected:?}, found {found:?}"),
            }
        }
    }

    #[test]
    fn billable_jobs_need_permission() {
        let alice = "alice".parse().unwrap();
        let free = Quota { billable: false, ..Quota::default() };
        assert_eq!(check_billing(&alice, &Quota::default(), BillingMode::Billable), Ok(()));
        assert_eq!(check_billing(&alice, &free, BillingMode::Test), Ok(()));
        let denial = check_billing(&alice, &free, BillingMode::Billable).unwrap_err();
        assert_eq!(denial.code, FailureCode::Unauthorized);
        assert!(denial.message.contains("alice") && denial.message.contains("billable"), "{denial:?}");
    }

    #[test]
    fn active_jobs_are_pruned_at_the_limit_or_at_powers_of_two() {
        let prunes = |quota, active| should_prune(&quota, &usage(TODAY, 0, active));
        assert!(!prunes(quota(Some(2), Some(9)), 1));
        assert!(prunes(quota(Some(2), None), 2));
        assert!(prunes(quota(Some(0), None), 0));
        let prunes_without_job_limit = |active: &usize| prunes(quota(None, Some(9)), *active);
        let pruned: Vec<_> = (0..600).filter(prunes_without_job_limit).collect();
        assert_eq!(pruned, [64, 128, 256, 512]);
        assert!(prunes_without_job_limit(&4096) && prunes_without_job_limit(&4097));
    }

    proptest! {
        /// Jobs end in any order, days pass, and planners with clocks slightly ahead charge, too.
        #[test]
        fn granted_charges_never_exceed_a_limit(
            concurrent in option::of(0u64..5),
            daily in option::of(0u64..100),
            steps in vec((0u8..5, 0u64..60, any::<bool>()), 0..80),
        ) {
            const DAYS: [&str; 4] = ["2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26"];
            let (alice, quota) = ("alice".parse().unwrap(), quota(concurrent, daily));
            let (mut usage, mut today) = (usage("", 0, 0), 0);
            let mut granted: BTreeMap<String, u64> = BTreeMap::new();
            for (number, (step, iterations, is_ahead)) in steps.into_iter().enumerate() {
                match step {
                    0 => today = (today + 1).min(DAYS.len() - 3),
                    1 => drop(usage.active.pop_first()),
                    _ => {
                        let now = today + usize::from(is_ahead);
                        let day = QuotaDay { today: DAYS[now].to_owned(), tomorrow: DAYS[now + 1].to_owned() };
                        let job = format!("jobs/{number}");
                        let charged = charge(&alice, &quota, &usage, &job, iterations, &day);
                        let Ok(after) = charged else { continue };
                        let of_day = granted.entry(after.day.clone()).or_default();
                        *of_day += iterations;
                        prop_assert!(daily.is_none_or(|limit| *of_day <= limit), "{after:?}");
                        prop_assert!(concurrent.is_none_or(|limit| after.active.len() as u64 <= limit));
                        usage = after;
                    }
                }
            }
        }
    }
}
