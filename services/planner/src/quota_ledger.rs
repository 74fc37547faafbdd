//! The quota ledger: each submitter's usage is one key of bucket `forge_quotas`, changed by
//! compare-and-set, so that planners running concurrently cannot together exceed a quota. It stores
//! and prunes usage; [`quota_policy`] decides whether a charge is permitted.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forge_bus::{BucketEntry, BusError, SharedBus, topology::Bucket};
use forge_contract::{
    ids::{JobId, Submitter},
    job::{JobRecord, JobState},
    quota::{Quotas, Usage},
};
use forge_service::job_records::{self, MISSING_RECORD_GRACE_PERIOD};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use crate::{
    admitted_job::AdmittedJob,
    quota_policy::{self, QuotaDenial},
};

/// Job records that are read concurrently.
const CONCURRENT_RECORD_READS: usize = 32;

/// The outcome of charging a job.
#[derive(Debug, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The job may run: it is charged, now or earlier, or its submitter has no limit.
    Charged,
    /// The job ended before it was charged.
    JobEnded,
    /// The quota does not permit the job.
    Denied(QuotaDenial),
}

/// A submitter's usage as it was read.
struct UsageSnapshot {
    usage: Usage,
    /// `None` if the submitter has no usage yet.
    revision: Option<u64>,
    /// Time since the usage was last changed.
    age: Duration,
}

/// Charges jobs to their submitters.
#[derive(Debug)]
pub struct QuotaLedger {
    bus: SharedBus,
    quotas: Arc<Quotas>,
    /// Serialises the charges of this process: concurrent ones would only fail each other's
    /// compare-and-set.
    charge_lock: Mutex<()>,
}

impl QuotaLedger {
    pub fn new(bus: SharedBus, quotas: Arc<Quotas>) -> Self {
        Self { bus, quotas, charge_lock: Mutex::default() }
    }

    /// Charges a job to its submitter, at most once however often it is called. The job's record
    /// must exist. `today` is a UTC date as in `2026-11-23`.
    ///
    /// # Errors
    /// Returns any error from the underlying bus operation. The job may or may not be charged then;
    /// call again.
    pub async fn charge(&self, admitted: &AdmittedJob, today: &str) -> Result<ChargeOutcome, BusError> {
        let (request, submitter) = (&admitted.job.request, &admitted.record.submitter);
        let quota = self.quotas.quota_for(submitter);
        let mode = request.envelope.ctx.billing.mode;
        if let Err(denial) = quota_policy::check_billing(submitter, quota, mode) {
            return Ok(ChargeOutcome::Denied(denial));
        }
        if !quota.is_limited() {
            return Ok(ChargeOutcome::Charged);
        }
        let name = active_job_name(&admitted.bucket, &admitted.job.id);
        let _guard = self.charge_lock.lock().await;
        loop {
            let UsageSnapshot { mut usage, revision, age } = self.snapshot(submitter).await?;
            if usage.active.contains(&name) {
                return Ok(ChargeOutcome::Charged);
            }
            // Another planner may have charged the job, which then ended and was pruned.
            if admitted.taken_over && self.has_ended(&admitted.bucket, &admitted.job.id, false).await? {
                return Ok(ChargeOutcome::JobEnded);
            }
            if quota_policy::should_prune(quota, &usage) {
                usage.active = self.prune(usage.active, age > MISSING_RECORD_GRACE_PERIOD).await?;
            }
            let iterations = request.plan.iterations();
            let usage = match quota_policy::charge(submitter, quota, &usage, &name, iterations, today) {
                Ok(usage) => usage,
                Err(denial) => return Ok(ChargeOutcome::Denied(denial)),
            };
            let json = serde_json::to_vec(&usage).expect("usage consists of strings and numbers");
            let (bucket, key) = (Bucket::Quotas, submitter.as_str());
            if self.bus.compare_and_set(&bucket, key, json.into(), revision).await?.is_some() {
                return Ok(ChargeOutcome::Charged);
            }
        }
    }

    /// Whether the job's quota decision is known: it was charged, needs no charge, or has ended.
    ///
    /// # Errors
    /// Returns any error from reading the usage.
    pub async fn is_decided(&self, bucket: &Bucket, record: &JobRecord) -> Result<bool, BusError> {
        if record.state != JobState::Accepted {
            return Ok(true);
        }
        let quota = self.quotas.quota_for(&record.submitter);
        if quota_policy::check_billing(&record.submitter, quota, record.billing.mode).is_err() {
            return Ok(false);
        }
        let name = active_job_name(bucket, &record.job_id);
        Ok(!quota.is_limited() || self.usage(&record.submitter).await?.active.contains(&name))
    }

    /// What a submitter uses now.
    ///
    /// # Errors
    /// Returns any error from reading the bucket; [`BusError::Unusable`] if the value is malformed.
    pub async fn usage(&self, submitter: &Submitter) -> Result<Usage, BusError> {
        Ok(self.snapshot(submitter).await?.usage)
    }

    async fn snapshot(&self, submitter: &Submitter) -> Result<UsageSnapshot, BusError> {
        let entry = self.bus.get(&Bucket::Quotas, submitter.as_str()).await?;
        let Some(BucketEntry { value: Some(value), revision, age, .. }) = entry else {
            return Ok(UsageSnapshot { usage: Usage::default(), revision: None, age: Duration::ZERO });
        };
        let unreadable = |error| {
            let key = format!("key {submitter} of bucket {}", Bucket::Quotas.name());
            BusError::Unusable(format!("{key} holds no usage that can be read: {error}"))
        };
        let usage = serde_json::from_slice(&value).map_err(unreadable)?;
        Ok(UsageSnapshot { usage, revision: Some(revision), age })
    }

    /// Removes the jobs that have ended.
    async fn prune(
        &self,
        active: BTreeSet<String>,
        missing_is_ended: bool,
    ) -> Result<BTreeSet<String>, BusError> {
        let checks = stream::iter(active).map(async |name| {
            let ended = match parse_active_job_name(&name) {
                Some((bucket, job)) => self.has_ended(&bucket, &job, missing_is_ended).await?,
                None => true,
            };
            Ok::<_, BusError>((!ended).then_some(name))
        });
        let checks = checks.buffer_unordered(CONCURRENT_RECORD_READS);
        checks.try_filter_map(async |name| Ok(name)).try_collect().await
    }

    /// Whether a job's record is terminal, or, with `missing_is_ended`, missing.
    async fn has_ended(
        &self,
        bucket: &Bucket,
        job: &JobId,
        missing_is_ended: bool,
    ) -> Result<bool, BusError> {
        let found = job_records::get(self.bus.as_ref(), bucket, job).await?;
        Ok(found.map_or(missing_is_ended, |found| found.record.state.is_terminal()))
    }
}

/// The name of a job in [`Usage::active`]. Includes the bucket, because each bucket may hold a job
/// of the same id.
fn active_job_name(bucket: &Bucket, job: &JobId) -> String {
    format!("{}/{job}", bucket.name())
}

/// Parses a name made by [`active_job_name`].
fn parse_active_job_name(name: &str) -> Option<(Bucket, JobId)> {
    let (bucket, job) = name.split_once('/')?;
    Some((Bucket::Jobs(bucket.to_owned()), job.parse().ok()?))
}

#[cfg(test)]
mod tests;
