//! Whether the failure of a job has a cause: its envelope, its client, the cluster, or a fault that
//! is on.

use std::time::Duration;

use forge_contract::{
    digest::Digest,
    envelope::{BillingMode, Target, VerificationLevel},
    error::FailureCode,
    job::JobRecord,
};
use forge_documents::Job;

use crate::{
    backends::right_result,
    client::ClientLog,
    options::{SimulationOptions, WorkerConduct},
    record_changes::FinalRecords,
    submitted_jobs::SubmittedJobs,
};

/// Time in which a job ends when no fault is on and all workers are honest.
const HEALTHY_JOB_TIME: Duration = Duration::from_secs(20);
/// Upper bound of what a result's message has beside the result.
const MAX_ATTESTATION_BYTES: usize = 2000;
/// Upper bound of what an order has beside the envelope.
const MAX_ORDER_BYTES: usize = 2000;

/// What a failure may have to do with.
pub struct FailureCauses<'a> {
    pub options: &'a SimulationOptions,
    pub log: &'a ClientLog,
    pub records: &'a FinalRecords,
}

impl FailureCauses<'_> {
    /// Whether a job may have failed with this code. `job` is `None` if the envelope was invalid.
    pub fn explain(&self, failed: &JobRecord, job: Option<&Job>, code: FailureCode) -> bool {
        let Some(job) = job else {
            let id = failed.job_id.as_str();
            return match code {
                FailureCode::InvalidRequest => self.has_invalid_submission(id),
                FailureCode::Conflict => id.starts_with("rejected-"),
                FailureCode::Cancelled => self.log.cancelled.contains(id),
                _ => false,
            };
        };
        let (id, policy) = (failed.job_id.as_str(), &job.request.envelope.policy);
        let faults = &self.options.faults;
        match code {
            FailureCode::Cancelled => self.log.cancelled.contains(id),
            FailureCode::Timeout => {
                let limit = Duration::from_millis(policy.timeout_ms);
                !limit.is_zero() && self.has_lasted(failed, limit) && self.may_last(job, limit)
            }
            FailureCode::InsufficientAgents => {
                self.sure_workers(SubmittedJobs::target(job)) < policy.min_agents
                    || (policy.min_agents > 0 && faults.may_silence_workers())
            }
            // The changes of the records show whether a denial is right.
            FailureCode::QuotaExceeded => self.options.quota.is_limited(),
            FailureCode::Unauthorized => {
                !self.options.quota.billable && job.request.envelope.ctx.billing.mode == BillingMode::Billable
            }
            // An aggregator that freezes uses up its patience with the store.
            FailureCode::StorageFailed => faults.has_store_faults() || faults.freeze > 0.0,
            // An aggregator stored a wrong result of an agent that was not yet refuted, and could
            // not record it. The next attempt refuses that result.
            FailureCode::VerificationFailed => {
                self.options.has_dishonest_workers()
                    && !faults.names().is_empty()
                    && policy.verify != VerificationLevel::Full
            }
            FailureCode::ExecutionFailed => self.is_result_refused(job),
            FailureCode::Internal => self.is_request_refused(job),
            // Two submissions of one id were admitted at the same moment, in different namespaces.
            FailureCode::Conflict => {
                self.records.values().filter(|other| other.job_id.as_str() == id).count() > 1
            }
            FailureCode::InvalidRequest | FailureCode::AggregationFailed => false,
        }
    }

    /// Whether a client sent an invalid envelope with this id, or one whose record has this name.
    fn has_invalid_submission(&self, id: &str) -> bool {
        let mut invalid = self.log.submissions.iter().filter(|submission| !submission.is_valid);
        let is_rejected = id.starts_with("rejected-");
        (is_rejected && self.log.garbage > 0)
            || invalid.any(|sent| sent.job_id == id || (is_rejected && rejected_name(&sent.envelope) == id))
    }

    /// Whether a job has lasted as long as its time limit, by the clocks of two processes.
    fn has_lasted(&self, failed: &JobRecord, limit: Duration) -> bool {
        let skew = Duration::from_secs_f64(self.options.faults.clock_skew);
        time_between(&failed.submitted_at, &failed.updated_at) + skew >= limit
    }

    /// Whether a job may not have ended within its time limit.
    fn may_last(&self, job: &Job, limit: Duration) -> bool {
        let policy = &job.request.envelope.policy;
        !self.options.faults.names().is_empty()
            || limit < HEALTHY_JOB_TIME
            || self.options.workers.iter().any(|worker| worker.conduct != WorkerConduct::Honest)
            || self.sure_workers(SubmittedJobs::target(job)) < policy.min_agents.max(1)
    }

    /// Number of the workers for a target that are live and trusted as long as no fault is on.
    fn sure_workers(&self, target: Target) -> u32 {
        let is_sure = |conduct| matches!(conduct, WorkerConduct::Honest | WorkerConduct::Slow);
        let workers = self.options.workers.iter();
        let workers = workers.filter(|worker| target == Target::Any || worker.target == target);
        u32::try_from(workers.filter(|worker| is_sure(worker.conduct)).count()).expect("a few workers")
    }

    /// Whether the server refuses the job's results, whose sizes hardly differ.
    fn is_result_refused(&self, job: &Job) -> bool {
        let Some(limit) = self.options.faults.message_limit() else { return false };
        let request = &job.request;
        let size = |id| right_result(&request.program, &request.shard(id)).encode().len();
        let largest = request.plan.shards().take(4).map(size).max().unwrap_or(0);
        largest + largest / 8 + MAX_ATTESTATION_BYTES > limit
    }

    /// Whether the server refuses the program, or the order that holds the normal form of the
    /// envelope.
    fn is_request_refused(&self, job: &Job) -> bool {
        let Some(limit) = self.options.faults.message_limit() else { return false };
        let envelope = serde_json::to_vec(&job.request.envelope).expect("it was parsed from JSON");
        job.request.program.encode().len().max(envelope.len() + MAX_ORDER_BYTES) > limit
    }
}

/// The name under which a rejected envelope is recorded if its id is not available.
pub fn rejected_name(envelope: &str) -> String {
    format!("rejected-{}", &Digest::hash_parts(&[envelope.as_bytes()]).to_hex()[..16])
}

/// Time between two moments in RFC 3339, of which the second is on the same day or on the next.
fn time_between(start: &str, end: &str) -> Duration {
    let split = |text: &str| {
        let (day, time) = text.trim_end_matches('Z').split_once('T').expect("a day and a time");
        let parts: Vec<f64> = time.split(':').map(|part| part.parse().expect("a number")).collect();
        (day.to_owned(), parts[0] * 3600.0 + parts[1] * 60.0 + parts[2])
    };
    let ((first_day, start), (last_day, end)) = (split(start), split(end));
    let midnight = if first_day == last_day { 0.0 } else { 24.0 * 3600.0 };
    Duration::from_secs_f64((midnight + end - start).max(0.0))
}

#[test]
fn time_passes_midnight() {
    let end = "2026-11-28T00:00:01.250Z";
    assert_eq!(time_between("2026-11-27T23:59:59.750Z", end), Duration::from_millis(1500));
    assert_eq!(time_between("2026-11-28T00:00:00Z", end), Duration::from_millis(1250));
}
