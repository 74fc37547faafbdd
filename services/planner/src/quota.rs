//! What a submitter may still have: decides on what it is told, reads nothing, and knows no clock.

use forge_contract::{
    envelope::BillingMode,
    error::FailureCode,
    ids::Submitter,
    quota::{Quota, Usage},
};

/// With no limit on jobs at once, so many active jobs are kept before it is looked which of them have ended.
const FEW: usize = 64;
/// So many are looked at every time: their names have to fit into one message.
const MANY: usize = 4096;

/// Why a submission is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `quota_exceeded` or `unauthorized`.
    pub code: FailureCode,
    /// Names the quota, its value and what is used.
    pub message: String,
}

/// Whether a submitter may have a job billed that way.
///
/// # Errors
/// It may not.
pub fn may_bill(submitter: &Submitter, quota: &Quota, mode: BillingMode) -> Result<(), Refusal> {
    if quota.billable || mode == BillingMode::Test {
        return Ok(());
    }
    let message = format!(
        "submitter {submitter} may not submit jobs with ctx.billing.mode billable: submit it as test"
    );
    Err(Refusal { code: FailureCode::Unauthorized, message })
}

/// Whether it is to be looked which active jobs have ended: when that can make room, and now and then, so that what is
/// kept does not grow. Looking costs as many requests as there are jobs.
pub fn is_worth_a_look(quota: &Quota, usage: &Usage) -> bool {
    let active = usage.active.len();
    match quota.concurrent_jobs {
        Some(limit) => active as u64 >= limit,
        None => (active >= FEW && active.is_power_of_two()) || active >= MANY,
    }
}

/// What is used once `job`, which is not among the active ones, is charged on `day` for its iterations.
///
/// # Errors
/// That would be too much.
pub fn charge(
    submitter: &Submitter,
    quota: &Quota,
    usage: &Usage,
    job: &str,
    iterations: u64,
    day: &str,
) -> Result<Usage, Refusal> {
    let exceeded = |message| Err(Refusal { code: FailureCode::QuotaExceeded, message });
    let active = usage.active.len() as u64;
    if let Some(limit) = quota.concurrent_jobs.filter(|limit| active >= *limit) {
        return exceeded(format!(
            "submitter {submitter} may have {limit} jobs at once and has {active}: wait until one has ended, or cancel one"
        ));
    }
    // A day that is over counts no more. One that has not begun here has begun for another planner, whose clock is ahead.
    let (day, used) =
        if usage.day.as_str() < day { (day, 0) } else { (usage.day.as_str(), usage.iterations) };
    let sum = used.saturating_add(iterations);
    if let Some(limit) = quota.iterations_per_day.filter(|limit| sum > *limit) {
        return exceeded(format!(
            "submitter {submitter} may have {limit} iterations a day and has used {used} of them on {day}, UTC: this job \
             asks for {iterations}"
        ));
    }
    let mut active = usage.active.clone();
    active.insert(job.to_owned());
    Ok(Usage { day: day.to_owned(), iterations: sum, active })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: &str = "2026-11-23";

    fn usage(day: &str, iterations: u64, active: usize) -> Usage {
        Usage { day: day.to_owned(), iterations, active: (0..active).map(|n| format!("jobs/{n}")).collect() }
    }

    fn quota(concurrent_jobs: Option<u64>, iterations_per_day: Option<u64>) -> Quota {
        Quota { concurrent_jobs, iterations_per_day, billable: true }
    }

    /// Limits; what is used; iterations that the job asks for; the day and the iterations after that, or what is said.
    type Case = (Quota, Usage, u64, Result<(&'static str, u64), &'static str>);

    #[test]
    fn what_may_still_be_had() {
        let (none, jobs, day) = (quota(None, None), quota(Some(2), None), quota(None, Some(100)));
        let both = quota(Some(2), Some(100));
        let cases: [Case; 16] = [
            (none, usage("", 0, 0), 7, Ok((TODAY, 7))),
            (none, usage(TODAY, u64::MAX, 10_000), 1, Ok((TODAY, u64::MAX))),
            (jobs, usage("", 0, 0), 7, Ok((TODAY, 7))),
            (jobs, usage(TODAY, 5, 1), 7, Ok((TODAY, 12))),
            (jobs, usage(TODAY, 5, 2), 7, Err("alice may have 2 jobs at once and has 2")),
            (jobs, usage(TODAY, 5, 3), 7, Err("alice may have 2 jobs at once and has 3")),
            (jobs, usage("2026-11-22", 5, 2), 7, Err("has 2")),
            (quota(Some(0), None), usage("", 0, 0), 0, Err("alice may have 0 jobs at once and has 0")),
            (day, usage(TODAY, 60, 9), 40, Ok((TODAY, 100))),
            (day, usage(TODAY, 60, 9), 41, Err("100 iterations a day and has used 60 of them on 2026-11-23")),
            (day, usage(TODAY, 100, 0), 1, Err("this job asks for 1")),
            (day, usage(TODAY, u64::MAX, 0), 2, Err("asks for 2")),
            (day, usage("2026-11-22", 100, 3), 100, Ok((TODAY, 100))),
            (day, usage("2025-12-31", 100, 3), 101, Err("has used 0 of them on 2026-11-23")),
            // Another planner's clock is ahead: its day stays, so that no clock gives a day twice.
            (day, usage("2026-11-24", 30, 0), 70, Ok(("2026-11-24", 100))),
            (both, usage(TODAY, 100, 2), 1, Err("jobs at once")),
        ];
        for (quota, before, iterations, expected) in cases {
            let after = charge(&"alice".parse().unwrap(), &quota, &before, "jobs/new", iterations, TODAY);
            match (after, expected) {
                (Ok(after), Ok((day, iterations))) => {
                    assert_eq!((after.day.as_str(), after.iterations), (day, iterations), "{before:?}");
                    assert!(after.active.contains("jobs/new") && after.active.is_superset(&before.active));
                }
                (Err(refusal), Err(part)) => {
                    assert_eq!(refusal.code, FailureCode::QuotaExceeded);
                    assert!(refusal.message.contains(part), "{part}: {}", refusal.message);
                }
                (found, expected) => panic!("{before:?}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn who_may_bill() {
        let alice = "alice".parse().unwrap();
        let free = Quota { billable: false, ..Quota::default() };
        assert_eq!(may_bill(&alice, &Quota::default(), BillingMode::Billable), Ok(()));
        assert_eq!(may_bill(&alice, &free, BillingMode::Test), Ok(()));
        let refusal = may_bill(&alice, &free, BillingMode::Billable).unwrap_err();
        assert_eq!(refusal.code, FailureCode::Unauthorized);
        assert!(refusal.message.contains("alice") && refusal.message.contains("billable"), "{refusal:?}");
    }

    #[test]
    fn active_jobs_are_looked_at_when_it_matters() {
        let look = |quota, active| is_worth_a_look(&quota, &usage(TODAY, 0, active));
        assert!(
            !look(quota(Some(2), Some(9)), 1)
                && look(quota(Some(2), None), 2)
                && look(quota(Some(0), None), 0)
        );
        let of_a_day = |active| look(quota(None, Some(9)), active);
        let looked: Vec<_> = (0..600).filter(|active| of_a_day(*active)).collect();
        assert_eq!(looked, [64, 128, 256, 512]);
        assert!(of_a_day(4096) && of_a_day(4097));
    }
}
