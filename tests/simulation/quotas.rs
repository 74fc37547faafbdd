//! Whether submitters get what their quotas permit, no more and no less, as the changes of records
//! show it.

use std::{collections::BTreeMap, time::Duration};

use forge_contract::{
    envelope::BillingMode,
    error::FailureCode,
    job::{JobRecord, JobState},
};

use crate::{cluster::TIME_TO_MIDNIGHT, options::SimulationOptions, submitted_jobs::SubmittedJobs};

/// A job as its record has shown it so far.
struct ObservedJob {
    submitter: String,
    iterations: u64,
    created_at: Duration,
    /// When the record first showed that the job is charged.
    charged_at: Option<Duration>,
    is_denied: bool,
    has_ended: bool,
    /// Most other jobs of the submitter that were open at the same time.
    most_others: u64,
}

/// Follows the changes of records.
pub struct QuotaChecker<'a> {
    options: &'a SimulationOptions,
    jobs: &'a SubmittedJobs,
    observed: BTreeMap<String, ObservedJob>,
}

fn is_charged(state: JobState) -> bool {
    (JobState::Planned..=JobState::Reducing).contains(&state)
}

impl<'a> QuotaChecker<'a> {
    pub fn new(options: &'a SimulationOptions, jobs: &'a SubmittedJobs) -> Self {
        Self { options, jobs, observed: BTreeMap::new() }
    }

    /// Applies a change of a record. Returns what it violates.
    pub fn apply(&mut self, key: &str, record: &JobRecord, at: Duration) -> Vec<String> {
        let (quota, mut violations) = (self.options.quota, Vec::new());
        let Some(job) = self.jobs.of(record) else { return violations };
        let submitter = record.submitter.to_string();
        let observed = self.observed.entry(key.to_owned()).or_insert_with(|| ObservedJob {
            submitter: submitter.clone(),
            iterations: job.request.plan.iterations(),
            created_at: at,
            charged_at: None,
            is_denied: false,
            has_ended: false,
            most_others: 0,
        });
        let code = record.error.as_ref().map(|error| error.code);
        observed.has_ended = record.state.is_terminal();
        observed.is_denied = matches!(code, Some(FailureCode::QuotaExceeded | FailureCode::Unauthorized));
        let is_new_charge = is_charged(record.state) && observed.charged_at.is_none();
        if is_new_charge {
            observed.charged_at = Some(at);
            let mode = job.request.envelope.ctx.billing.mode;
            if mode == BillingMode::Billable && !quota.billable {
                violations.push(format!("{key} is billable, and its submitter may submit no such job"));
            }
        }
        let open = |job: &&mut ObservedJob| job.submitter == submitter && !job.has_ended;
        let mut open: Vec<_> = self.observed.values_mut().filter(open).collect();
        let (others, charged) = (open.len().saturating_sub(1) as u64, open.iter());
        let charged = charged.filter(|job| job.charged_at.is_some()).count() as u64;
        open.iter_mut().for_each(|job| job.most_others = job.most_others.max(others));
        if let Some(limit) = quota.concurrent_jobs.filter(|limit| is_new_charge && charged > *limit) {
            violations.push(format!("{submitter} has {charged} concurrent jobs and may have {limit}"));
        }
        // A stale record makes an ended job count.
        if code == Some(FailureCode::QuotaExceeded) && self.options.faults.stale_read == 0.0 {
            violations.extend(self.check_denial(key));
        }
        violations
    }

    /// A denial has its reason in the other jobs of the submitter.
    fn check_denial(&self, key: &str) -> Option<String> {
        let (quota, denied) = (self.options.quota, &self.observed[key]);
        let others = self.observed.values().filter(|job| job.submitter == denied.submitter && !job.is_denied);
        let used: u64 = others.map(|job| job.iterations).sum();
        let has_too_many_jobs = quota.concurrent_jobs.is_some_and(|limit| denied.most_others >= limit);
        let has_too_many_iterations =
            quota.iterations_per_day.is_some_and(|limit| used + denied.iterations > limit);
        (!has_too_many_jobs && !has_too_many_iterations).then(|| {
            let (others, iterations) = (denied.most_others, denied.iterations);
            format!("{key} was denied beside {others} jobs and {used} iterations; it has {iterations}")
        })
    }

    /// Checks the iterations by day. A run has parts of two days. A job belongs to one of them for
    /// sure if every planner's clock says so, from its record's creation until it shows a charge.
    pub fn finish(&self) -> Vec<String> {
        let Some(limit) = self.options.quota.iterations_per_day else { return Vec::new() };
        let skew = Duration::from_secs_f64(self.options.faults.clock_skew);
        let midnight = TIME_TO_MIDNIGHT;
        let mut used: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for job in self.observed.values() {
            let Some(charged_at) = job.charged_at else { continue };
            let mut add = |day| *used.entry((job.submitter.as_str(), day)).or_default() += job.iterations;
            add("two days");
            if charged_at + skew < midnight {
                add("the first day");
            } else if job.created_at >= midnight {
                add("the second day");
            }
        }
        let excess = used.into_iter().filter(|((_, day), used)| {
            let limit = if *day == "two days" { 2 * limit } else { limit };
            *used > limit
        });
        let describe = |((submitter, day), used)| {
            format!("{submitter} uses {used} iterations on {day}, and {limit} are permitted by day")
        };
        excess.map(describe).collect()
    }
}
